"""Loop around a guarded stream: samples in, results out, at a rate or as samples come."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from ...given_numbers import given_flag, nanoseconds, real_number, whole_number
from ...wording import one_line
from ..guard.guarded import Guarded
from ..guard.status import Status, Tick
from ..model import Model
from ..stream import uncounted
from .ending import stopped_by_signals
from .inputs.feed import FRESH_PERIODS, SampleFeed, Taken, TickFeed, make_feed
from .inputs.joined import OnLateInput
from .pacing import Late, Pacing, Schedule, check_rate
from .practice import Practice, guarded_twin, plain_sample
from .rehearsal import Rehearsal
from .report import Aside, Reports, to_standard_error
from .sink import Behind, Records, as_sink
from .state_saver import saver_of
from .summary import Lost, Summary, kept_in_csv
from .timer import Timer, given_timer
from .turn.keeping import Keeping, check_parts
from .turn.tally import Tally
from .turn.turn import OnFault, Turn
from .waiting import SHARE, Wait, Waiting, way_of

if TYPE_CHECKING:
    from .realtime import Realtime
    from .systemd import Systemd
    from .watchdog import Watchdog

__all__ = ["Loop"]

_SLICE_NS = 100_000_000  # of a long wait: how long a stop may take to be noticed
_LIMIT_S = 0.01  # of a function without a rate
_FAULT = "fault"  # why a loop ended
_CAME_BACK = "a child that a function forked came back into the loop, its parent's alone. End it there: os._exit(0)"


class Loop:
    """Steps a model on the samples of a source. Runs once.

    At each tick it takes the newest sample, calls `before`, ticks the guarded stream, calls `after` with what the
    robot gets, and hands the tick to sink and recorder, which other threads write. What a sensor, a backend or a
    function of the user's does wrong is a status, counted and reported, and ends nothing, but that `sys.exit` in a
    function ends the loop behind its tick, and then the program. The state is that after the good samples alone.

    The loop is that of the process that runs it: a child that a function forks leaves it where it ends or comes back,
    and puts nothing away.

    Args:
        model: A model, or what `model.guarded(...)` gave.
        source: What `as_source` takes; or a dict of these by input name, each at a rate of its own.
        sink: What `as_sink` takes, for files and networks. For a motor use `after`: a sink is some milliseconds behind.
        rate_hz: Ticks per second; `None` steps each sample as it comes, of several sources each of the first one's. A
            file's or an array's then wait where sink or recorder has no room; all others are dropped, and counted.
        wait: How to wait for a tick: "sleep", "spin" or "rehearse"; see `waiting` and `rehearsal`.
        late: What becomes of ticks whose time is over: "skip", "catch up" or "at once"; see `Pacing`.
        on_fault: What the robot gets where there is no output to trust: "hold", the last one that could be trusted;
            "safe", the guard's safe output; "stop" ends the loop, with the guard's choice; a function takes the `Tick`
            and returns an output, or `None` to hold. `None`: what the guard says.
        fresh_s: How old a sample may be, seconds, one number or by input: until then a late one is held or predicted,
            and then the tick is stale. `None` is ten periods of a timer, and any age where samples pace the loop.
        on_late_input: "hold" or "predict", one word or by input; whole numbers are held.
        recorder: Gets every tick; closed at the end.
        snapshot: File for the state, written now and then and at the end; not behind a sample of a file or an array at
            which the loop stopped, so that the next one comes to it again.
        snapshot_every_s: How often, seconds.
        extra: Gives what else belongs into a snapshot; called where the state is taken, so it must be quick.
        steps: Steps that were made before, for snapshots of a loop that goes on.
        realtime: Settings of the machine while it runs.
        before: Takes the sample's `x` and may return another one in its place.
        after: Takes the `Tick`: the robot's motors. What it does is within the response that is measured.
        function_limit_s: How long each function may take, seconds; `None` is half a period, 0.01 without a rate.
        watchdog: Told of each turn.
        systemd: Told when the loop is up, turns and ends.
        report: Called with a line of text about what happens, by another thread; `None` prints it on standard error.
        signals: Whether SIGINT and SIGTERM end the loop, in the main thread alone. A second one raises
            KeyboardInterrupt.
        timer: The clock.
        threads: Whether sink, reports and snapshots have threads; else they are written at the end, for tests.

    Raises:
        TypeError, ValueError, OSError: If an argument does not fit, or a file cannot be opened.
    """

    def __init__(
        self,
        model: Model | Guarded,
        source: Any,
        sink: Any = None,
        *,
        rate_hz: float | None = None,
        wait: Wait = "sleep",
        late: Late = "skip",
        on_fault: OnFault | Callable[[Tick], Any] | None = None,
        fresh_s: float | Mapping[str, float | None] | None = None,
        on_late_input: OnLateInput | Mapping[str, OnLateInput] = "hold",
        recorder: Records | None = None,
        snapshot: str | os.PathLike[str] | None = None,
        snapshot_every_s: float = 1.0,
        extra: Callable[[], Mapping[str, Any]] | None = None,
        steps: int = 0,
        realtime: Realtime | None = None,
        before: Callable[[Any], Any] | None = None,
        after: Callable[[Tick], object] | None = None,
        function_limit_s: float | None = None,
        watchdog: Watchdog | None = None,
        systemd: Systemd | None = None,
        report: Callable[[str], object] | None = None,
        signals: bool = True,
        timer: Timer | None = None,
        threads: bool = True,
    ) -> None:
        self._timer = given_timer(timer)
        if not isinstance(model, (Model, Guarded)):
            raise TypeError(f"`model` is {model!r}, expected a model or a guarded stream: lnn_edge.load('NAME.lnn')")
        self.guarded = model if isinstance(model, Guarded) else model.guarded(clock=self._timer.monotonic_ns)
        own = self.guarded.model
        self._period_ns = None if rate_hz is None else 1e9 / real_number("rate_hz", rate_hz, above=0)
        check_parts(own, recorder=recorder, watchdog=watchdog, systemd=systemd, realtime=realtime)
        if report is not None and not callable(report):
            raise TypeError(f"`report` is {report!r}, expected a function that takes a text")
        self._signals, self._threads = given_flag("signals", signals), given_flag("threads", threads)
        self._rate_hz, self._wait_name, self._realtime = rate_hz, wait, realtime
        Pacing(Schedule(rate_hz or 1.0, 0), late)  # refuses what is none
        if rate_hz is not None and own.time.mode == "fixed":
            check_rate(rate_hz, own.time.period_s, self.guarded.guard.pace, own.name)
        self._pacing_late: Late = late
        self._reports = Reports(to_standard_error if report is None else report, self._timer)
        limit_ns = self._function_limit_ns(function_limit_s)
        self._turn = Turn(self.guarded, on_fault, before, after, limit_ns, self._timer, self._reports.note, self._leave)
        self._practice: Practice | None = None
        rehearsing = isinstance(wait, str) and wait == "rehearse"
        way_of("sleep" if rehearsing else wait, self._timer, 1.0)  # refuses what is none
        if rehearsing:
            self._practice = self._make_practice(before is not None, after is not None)
        elif rate_hz is None and wait != "sleep":
            raise ValueError(f"`wait` is '{wait}', and samples pace the loop: pass rate_hz, or wait='rehearse'")
        saver = saver_of(snapshot, own, snapshot_every_s, extra, steps)
        # First: a bad source must cost no file.
        self._feed = make_feed(source, own, self._timer, self._period_ns, fresh_s, on_late_input)
        try:
            taken = as_sink(sink, own) if sink is not None else None
        except BaseException:
            self._feed.close()
            raise
        self._keeping = Keeping(
            self.guarded,
            self._reports,
            self._timer,
            sink=None if taken is None else Behind(taken, start=threads),
            recorder=recorder,
            saver=saver,
            watchdog=watchdog,
            systemd=systemd,
        )
        self._ended: str | None = None
        self._stops = 0  # that were asked for
        self._error: str | None = None
        self._process: int | None = None
        self._left: SystemExit | None = None
        self._ran = self._torn = False  # the latter: within a tick, whose state and results do not belong together
        self._tally = Tally(self._period_ns)
        self._left_out = 0
        self._rehearsal: Rehearsal | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many ticks there were of each status that there was, by its words."""
        return self._tally.counts

    def stop(self, why: str = "stopped") -> None:
        """End the loop behind the tick that it is at; for any thread, a signal's handler, or a function of the loop."""
        self._ended, self._stops = self._ended or why, self._stops + 1

    def run(self, ticks: int | None = None) -> Summary:
        """Run until the source ends, `stop`, a signal, or so many ticks.

        Raises:
            RuntimeError: If it ran before.
            SystemExit: If a function raised it; all is put away then.
            RealtimeError: If the machine refuses a setting, and `realtime` is strict.
        """
        if ticks is not None:
            whole_number("ticks", ticks, 0)
        if self._ran:
            raise RuntimeError("a loop runs once: make another one, with the same guarded stream to go on")
        self._ran, self._process = True, os.getpid()
        began = self._timer.monotonic_ns()
        aside = Aside([*self._keeping.jobs, self._look_at_sources, self._reports.flush], start=self._threads)
        with ExitStack() as stack:
            end_begins = stack.enter_context(stopped_by_signals(self.stop)) if self._signals else None
            try:
                with self._realtime or nullcontext():
                    self._begin()
                    (self._by_timer if self._rate_hz else self._by_samples)(ticks)
            except KeyboardInterrupt:
                self._ended, self._torn = self._ended or "interrupted", True
            finally:
                if end_begins is not None:
                    end_begins()
                if os.getpid() == self._process:
                    self._close(aside)
        if self._left is not None:
            raise self._left
        return self._summary(began)

    def _leave(self, left: SystemExit) -> None:
        """Leave the program once all is put away behind this tick; the child of a fork at once, as it owns nothing."""
        if os.getpid() != self._process:
            raise left
        self._left = left
        self.stop("exit")

    def _goes_on(self, ticks: int | None) -> bool:
        if os.getpid() != self._process:
            raise SystemExit(_CAME_BACK)
        return self._ended is None and (ticks is None or self._tally.ticks < ticks)

    def _make_practice(self, before: bool, after: bool) -> Practice:
        """Turns of a twin with a stream of its own and functions that do nothing, and a step that does not count."""
        sample = [plain_sample(self.guarded.model)[0]]
        twin = Loop(
            guarded_twin(self.guarded, self._timer.monotonic_ns),
            lambda: sample[0],
            rate_hz=self._rate_hz,
            before=_nothing if before else None,
            after=_nothing if after else None,
            report=_nothing,
            signals=False,
            timer=self._timer,
            threads=False,
        )

        again = uncounted(self.guarded.stream)

        def turn(x: Any) -> None:
            sample[0] = x
            error = twin._alone()
            if error is not None:
                twin.guarded.reset()  # the same sample again and again may lead anywhere
                raise error
            if again is not None:
                again(x)

        return Practice(turn, sample[0])

    def _alone(self) -> Exception | None:
        """One turn for practice; return what was wrong with it."""
        feed, now = self._feed, self._timer.monotonic_ns()
        taken = feed.take() if isinstance(feed, TickFeed) else feed.take(0.0)
        return None if taken is None else self._one(taken, now, None if self._rate_hz is None else now).error

    def _function_limit_ns(self, given_s: float | None) -> int:
        usual_s = _LIMIT_S if self._period_ns is None else self._period_ns / 2e9
        return nanoseconds("function_limit_s", usual_s if given_s is None else given_s)

    def _begin(self) -> None:
        keeping = self._keeping
        begin = getattr(keeping.recorder, "begin", None)
        if begin is not None:  # a guarded stream that was stepped before goes on from there
            begin(self.guarded.snapshot())
        if self._practice is not None:
            most_ns = None if self._period_ns is None else int(SHARE * self._period_ns)
            more = {} if most_ns is None else {"most_ns": most_ns}
            self._rehearsal = Rehearsal(self._practice, self._timer, **more)
        if self._rate_hz is not None or self._feed.live:
            self.guarded.in_real_time()
        self._keeping.beat()
        if keeping.watchdog is not None:
            keeping.watchdog.begin()
        if keeping.systemd is not None:
            keeping.systemd.ready()

    def _by_timer(self, ticks: int | None) -> None:
        feed, timer = self._feed, self._timer
        assert isinstance(feed, TickFeed)  # for the type checker, as the next line
        assert self._rate_hz is not None
        way: Waiting = self._rehearsal or way_of(self._wait_name, timer, self._rate_hz)
        self._await_first(feed)
        period = self._period_ns or 0.0
        pacing = Pacing(Schedule(self._rate_hz, timer.monotonic_ns() + int(period)), self._pacing_late)
        while self._goes_on(ticks):
            due = pacing.next(timer.monotonic_ns())
            self._left_out = pacing.dropped
            start = self._wait(way, due)
            if self._ended is not None:
                break
            try:
                taken = feed.take()
            except EOFError:
                self.stop("source ended")
                break
            self._one(taken, start, due)
        self.stop("all ticks")

    def _by_samples(self, ticks: int | None) -> None:
        feed = self._feed
        assert isinstance(feed, SampleFeed)  # for the type checker
        feed.rehearsal = self._rehearsal
        keeping, why = self._keeping, "all ticks"
        while self._goes_on(ticks):
            if feed.stored and keeping.full:
                keeping.rest()
                continue
            try:
                taken = feed.take(_SLICE_NS / 1e9)
            except EOFError:
                why = "source ended"
                break
            if taken is None:
                keeping.beat()
            else:
                self._one(taken, self._timer.monotonic_ns(), None)
        stops = self._stops
        if feed.stored and self._ended in (None, _FAULT):  # the disk has time, until somebody asks for an end
            while not keeping.finish() and self._stops == stops:
                keeping.rest()
        self.stop(why)

    def _await_first(self, feed: TickFeed) -> None:
        """Wait for the first samples of devices for as long as a late one is held, and at least a second."""
        until = self._timer.monotonic_ns() + max(10 * _SLICE_NS, int(FRESH_PERIODS * (self._period_ns or 0)))
        while feed.waits and self._ended is None and (now := self._timer.monotonic_ns()) < until:
            self._keeping.beat()
            self._timer.sleep_until(now + _SLICE_NS // 100)

    def _wait(self, way: Waiting, due_ns: int) -> int:
        """Wait for a tick, a long time in slices, so that a stop is noticed."""
        while due_ns - self._timer.monotonic_ns() > 2 * _SLICE_NS and self._ended is None:
            self._keeping.beat()
            self._timer.sleep_until(self._timer.monotonic_ns() + _SLICE_NS)
        return way.until(due_ns) if self._ended is None else self._timer.monotonic_ns()

    def _one(self, taken: Taken, start_ns: int, due_ns: int | None) -> Tick:
        """One tick, from its sample to what the robot gets, and then to those who keep it."""
        turn, timer = self._turn, self._timer
        tick = turn.step(taken)
        if due_ns is not None and start_ns - due_ns > (self._period_ns or 0) / 2 and tick.status is Status.OK:
            tick = tick._replace(status=Status.LATE)
        tick = turn.answer(tick)
        # The robot has what it waits for: all that follows is for others.
        end_ns = timer.monotonic_ns()
        wall_ns = timer.wall_ns() - (end_ns - start_ns)  # when the tick began
        tally = self._tally
        tally.take(tick, start_ns, end_ns, due_ns)
        if self._practice is not None and tick.stepped and tick.status.trusted:
            self._practice.see(tick.x)
        if turn.fatal is not None:
            self._error = turn.fatal
            self.stop(_FAULT)
            if self._feed.stored:  # the next loop comes to this sample again
                self._keeping.leave_state()
        self._keeping.take(tally.ticks - 1, tally.steps, tick, taken.t_s, start_ns, wall_ns)
        return tick

    def _look_at_sources(self) -> None:
        """Tell of reads that failed in threads: no tick does, as the newest sample is held meanwhile."""
        for name, own in self._feed.in_threads.items():
            if own.failed:
                error = own.last_error
                self._reports.total(f"a read of '{name}' failed", own.failed, f"{type(error).__name__}: {error}")

    def _close(self, aside: Aside) -> None:
        """Put everything away, whatever ended the loop; each whatever became of the others, Ctrl-C among it."""
        keeping, tally = self._keeping, self._tally
        if keeping.systemd is not None:
            keeping.systemd.stopping()
        if keeping.watchdog is not None:
            keeping.watchdog.end()
        if not self._torn:
            keeping.last_state(tally.steps)
        for own in (self._feed, keeping.sink, keeping.recorder):
            try:
                if own is not None:
                    own.close()
            except (Exception, SystemExit, KeyboardInterrupt) as error:
                self._reports.note("end", f"{type(error).__name__}: {one_line(error)}")
        with suppress(KeyboardInterrupt):
            aside.close()
        if keeping.saver is not None:
            keeping.saver.give_up()
        if keeping.systemd is not None:
            keeping.systemd.close()

    def _summary(self, began_ns: int) -> Summary:
        feed, tally, keeping = self._feed, self._tally, self._keeping
        sink, recorder = keeping.sink, keeping.recorder
        readers = list(feed.readers.values())
        failed = sum(own.failed for own in readers) + getattr(feed, "failed", 0)
        return Summary(
            ended=self._ended or "stopped",
            ticks=tally.ticks,
            steps=tally.steps,
            by_status=self.counts,
            left_out=self._left_out,
            misses=tally.misses,
            seconds=(self._timer.monotonic_ns() - began_ns) / 1e9,
            lateness=tally.lateness.distribution(),
            service=tally.service.distribution(),
            response=tally.response.distribution(),
            rehearsal=None if self._rehearsal is None else self._rehearsal.counts,
            functions=self._turn.functions,
            sink=None if sink is None else Lost(sink.written, sink.dropped, sink.error),
            recorder=None if recorder is None else Lost(recorder.written, recorder.dropped, recorder.error),
            csv=None if recorder is None else kept_in_csv(recorder),
            snapshots=None if keeping.saver is None else keeping.saver.lost,
            source_failed=failed,
            replaced=sum(own.replaced for own in readers),
            warnings=() if self._realtime is None else tuple(self._realtime.warnings),
            pace=self.guarded.pace,
            pauses=None if self._realtime is None else self._realtime.pauses,
            error=self._error,
        )


def _nothing(_argument: object) -> None:
    """What functions of a twin do."""
