"""A guarded stream: bad, late and gapped samples and states out of bounds, each handled by the guard's policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ...bundle.manifest import guard_problems
from ...bundle.spec import Guard
from ...errors import BackendError, Gap, LateSample, NonFiniteError, StateError
from ..call_token import Held, alone, claimed
from ..modes.plain import Plain
from ..state import State
from .fast_path import Now, Ticking, usual_tick
from .held_values import Filled
from .holes import Holes
from .outputs import OutputLimits, as_sent, frozen, safe_output
from .pace import Pace, PaceWindow
from .sample_time import Plan, SampleTimes
from .state_health import StateHealth
from .status import Status, Tick
from .stepping import advance, as_stepped

if TYPE_CHECKING:
    from ..model import Model
    from ..stream import Stream

__all__ = ["Guarded"]

_OK = Status.OK  # an attribute of an enumeration is slow to look up
_new = tuple.__new__  # of a named tuple, whose own `__new__` takes twice as long


class Guarded:
    """A stream with a guard around it. Made by `Model.guarded()`.

    `tick` is for a loop that must go on: it raises for nothing that a sensor, a clock or a backend does, and its
    result says what became of the sample. `step` gives the output alone, and raises. What is refused changes no state:
    after any samples the state is that after the good ones alone. As a stream, it is for one call at a time, `stop` not
    among them: that of a second thread gets a RuntimeError and changes nothing.

    Args:
        model: The model; its `guarded` calls this.
        stream: A new stream of it.
        guard: The policies.
        clock: The monotonic clock in nanoseconds, for samples that bring no time.

    Attributes:
        model, stream, guard: As passed.
        held: How many values stood in for missing ones, by column.

    Raises:
        ValueError: If the guard does not fit the model, or the model takes blocks of samples.
    """

    def __init__(self, model: Model, stream: Stream, guard: Guard, clock: Callable[[], int]) -> None:
        manifest, time = model.manifest, model.time
        if manifest.unroll > 1:
            raise ValueError(
                f"model '{model.name}' takes blocks of {manifest.unroll} samples, and a guard looks at each sample: "
                "export it with unroll=1"
            )
        problem = next(guard_problems(guard, manifest.outputs, time), None)
        if problem:
            raise ValueError(f"Guard(...) does not fit model '{model.name}': {problem}")
        self.model, self.stream, self.guard = model, stream, guard
        self._fixed = time.mode == "fixed"
        self._period_s = (time.period_s or 0.0) * manifest.unroll
        self._times = SampleTimes(model.name, time, guard, clock)
        self._pace = self._new_pace()
        limits = OutputLimits(manifest, guard)
        self._limits = limits if limits.any else None
        self._safe = safe_output(manifest, guard.safe)
        self._health = StateHealth(manifest.states, guard.state_margin)
        mode = stream._mode
        self._in_place = self._health.in_place(mode.stepper.places) if isinstance(mode, Plain) else None
        self.held: Counter[str] = Counter()
        self._holes = self._new_holes()
        self._came = 0  # samples
        self._counts = [0] * len(Status)
        self._stopped = False
        self._begun = False  # by `reset`, and no tick has said so yet
        self._now: Now = (None, None, guard.warm_up, None, None)
        self._held: Held = {}
        self._ticking = self._way()

    @property
    def counts(self) -> dict[str, int]:
        """How many ticks there were of each status that there was, by its words.

        One that an exception of a signal's handler ended, KeyboardInterrupt for instance, may be missing though its
        sample was stepped, never the other way round: for each such exception the counts are short by one at most.
        """
        return {status.text: self._counts[status] for status in Status if self._counts[status]}

    @property
    def pace(self) -> Pace | None:
        """Bias and jitter of the samples of a model with fixed time, as far as their times are known."""
        return None if self._pace is None else self._pace.pace()

    @property
    def hold(self) -> Any:
        """The last output that could be trusted, `None` before there was one."""
        return self._now[4]

    @property
    def warming_up(self) -> bool:
        """Whether the next step's output must not be trusted yet."""
        return self._now[2] > 0

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called, and not `enable` since then."""
        return self._stopped

    def in_real_time(self) -> None:
        """Say that samples are ticked as they come: the clock then tells the pace of those that bring no time.

        Without it a model with fixed time looks at times that are passed alone, as a recording may be ticked as fast
        as it is read.
        """
        self._times.read_clock()
        self._ticking = self._way()

    def tick(self, x: Any, *, t_s: Any = None, dt_s: Any = None) -> Tick:
        """Take a sample, and say what became of it.

        Args:
            x: As `Stream.step`.
            t_s: The sample's time, as `Stream.step`. With fixed time it is checked, and not told to the model.
            dt_s: Instead of it, with measured time: seconds since the sample before, one number. With neither the
                monotonic clock says it.

        Raises:
            StateError: If the state left its bounds and the policy is to raise.
            RuntimeError: If another thread is using this stream.
        """
        held, me = self._held, get_ident()  # as in `alone`, of which this saves the calls
        try:
            if held.setdefault(0, me) is not me:
                self._held = held = claimed(held, me)
            tick = self._while_stopped() if self._stopped else self._ticking(self, x, t_s, dt_s)
            if self._begun:
                tick, self._begun = tick._replace(reset=True), False
            self._counts[tick[0]] += 1
        except BaseException:
            if held.get(0) is me:
                del held[0]
            raise
        del held[0]
        error = tick.error
        if error is not None and tick.status is Status.STATE_OUT_OF_BOUNDS and self.guard.on_state == "raise":
            raise error
        return tick

    def miss(self, status: Status, error: Exception | None = None, x: Any = None) -> Tick:
        """A tick without a sample to step, or with one, `x`, that the caller will not have stepped; it is counted.

        Args:
            status: Why: `STALE` for instance.
            error: The same in words.
            x: What there was of a sample.

        Raises:
            RuntimeError: If another thread is using this stream.
        """
        return alone(self, self._missed, status, error, x)

    @property
    def sent(self) -> Any:
        """What the robot has, the `y` of the last tick; slew limits start from it.

        Set it where the robot got something else; a copy is kept. TypeError or ValueError: it is no output.
        """
        return self._now[3]

    @sent.setter
    def sent(self, y: Any) -> None:
        alone(self, self._got, y)

    def step(self, x: Any, *, t_s: Any = None, dt_s: Any = None) -> Any:
        """The output of a sample, limits applied, shape (outputs,), or a dict of these; see `tick` for arguments.

        Returns:
            The output, of the model as it is while it warms up; `None` if the sample only started the clock.

        Raises:
            LateSample, Gap, StateError, NonFiniteError, TypeError, ValueError, BackendError: If the policy refuses it.
            RuntimeError: If it was stopped, or another thread is using this stream.
        """
        tick = self.tick(x, t_s=t_s, dt_s=dt_s)
        if tick.error is not None:
            raise tick.error
        if tick.status is Status.STOPPED:
            raise RuntimeError("the stream was stopped. To begin anew, call enable()")
        return tick.raw if tick.status is Status.WARMING_UP else tick.y

    def reset(self, *, constants: Mapping[str, Any] | None = None) -> None:
        """Begin a new sequence, with warm-up; also for another mode of operation, with other constants.

        Raises:
            As `Stream.reset`.
        """
        alone(self, self._reset, constants)

    def stop(self) -> Tick:
        """Emergency stop: from here on every tick gives the safe output, or the last one if there is no safe one.

        Nothing is stepped, and the state stands still, until `enable`. It may be called from any thread, and by a
        signal's handler; a tick that is at work meanwhile is the last one that steps.
        """
        self._stopped = True
        return self._stopped_tick()

    def enable(self) -> None:
        """Begin anew after `stop`: from the initial state, with warm-up, as what was before it is too old."""
        if self._stopped:
            self.reset()
            self._stopped = False

    def snapshot(self) -> State:
        """The state, as `Stream.snapshot`, with the time of the last sample where samples brought one."""
        return alone(self, self._snapshot)

    def restore(self, state: State) -> None:
        """Go on from a state; see `Stream.restore` for errors. The next sample is late or after a gap by its time."""
        alone(self, self._restore, state)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a guarded stream cannot be copied or pickled, but its state can: guarded.snapshot()")

    def _reset(self, constants: Mapping[str, Any] | None) -> None:
        self.stream.reset(constants=constants)
        self._begin()
        self._begun = True

    def _missed(self, status: Status, error: Exception | None, x: Any) -> Tick:
        y, begun = self._fallback(), self._begun
        self._send(y)
        self._begun = False
        self._counts[status] += 1
        return Tick(status, y, None, 0, begun, None, x, error, False)

    def _got(self, y: Any) -> None:
        own = any(y is known for known in (*self._now[3:], self._safe))  # slew limits ask whether it is the same
        self._send(y if own else as_sent(self.model.manifest, self.model.name, y))

    def _send(self, y: Any) -> None:
        *known, _, trusted = self._now
        self._now = (*known, y, trusted)

    def _snapshot(self) -> State:
        state = self.stream.snapshot()
        return State(state.tensors, self._now[0], state.kept, state.build)

    def _restore(self, state: State) -> None:
        self.stream.restore(state)
        self._begin()
        self._now = (state.t_s, None, 0, *self._now[3:])

    def _begin(self) -> None:
        """A new sequence: what another one measured stands in for nothing, and its pace is none of this one's."""
        self._holes, self._pace = self._new_holes(), self._new_pace()
        self._now = (None, None, self.guard.warm_up, *self._now[3:])

    def _way(self) -> Ticking:
        """How a sample is ticked: at once where all is as usual, and else step by step."""
        usual = None
        mode, guard = self.stream._mode, self.guard
        if isinstance(mode, Plain) and guard.on_bad == "refuse":
            rows = self._health.rows(mode.stepper.places)
            usual = usual_tick(self.stream, self._times, rows, self._limits, self._period_s)
        return usual or Guarded._tick

    def _new_holes(self) -> Holes | None:
        return None if self.guard.on_bad == "refuse" else Holes(self.model.manifest, self.guard, self.held)

    def _new_pace(self) -> PaceWindow | None:
        guard, period_s = self.guard, self.model.time.period_s
        return PaceWindow(period_s, guard.pace, guard.pace_window) if self._fixed and period_s else None

    def _tick(self, x: Any, t_s: Any, dt_s: Any, now_s: float | None = None) -> Tick:
        """The tick of any sample; `now_s` is what the clock said, where it was asked already."""
        self._came += 1
        try:
            plan = self._times.plan(t_s, dt_s, self._now, now_s)
            return self._planned(x, plan) if plan.reset or not plan.steps else self._stepped(x, plan)
        except LateSample as error:
            return self._refused(Status.CLOCK_BACKWARD, x, error)
        except Gap as error:
            return self._refused(Status.GAP, x, error)
        except StateError as error:
            return self._out_of_bounds(x, error)
        except NonFiniteError as error:
            return self._refused(Status.NOT_FINITE_OUTPUT if error.result else Status.NOT_FINITE_INPUT, x, error)
        except BackendError as error:
            return self._refused(Status.BACKEND_ERROR, x, error)
        except Exception as error:  # an object that is no array may raise anything when it is asked for its numbers
            return self._refused(Status.BAD_INPUT, x, error)

    def _planned(self, x: Any, plan: Plan) -> Tick:
        """A sample with which a sequence begins: where it is refused, nothing began."""
        stream = self.stream
        before = stream._mode.parked(stream._now), self._now, self._holes, self._pace
        try:
            if plan.reset:
                stream.reset()
                self._begin()
            if plan.steps:
                return self._stepped(x, plan)
            self._now = (*plan.at, *self._now[2:])
            return Tick(Status.WARMING_UP, self._fallback(), None, 0, plan.reset, None, x, None, False)
        except BaseException:
            stream._now, self._now, self._holes, self._pace = before
            raise

    def _stepped(self, x: Any, plan: Plan) -> Tick:
        """Step a sample, and keep what the guard knows of it, or neither."""
        stream, now, between_s, filled = self.stream, self._now, plan.between_s, None
        _, _, to_warm, sent, trusted = now
        once = plan.steps == 1
        before = stream._now if once else stream._mode.parked(stream._now)
        try:
            if once and self._holes is None and x.__class__ is np.ndarray:
                raw = stream.step(x) if plan.dt_s is None else stream.step(x, dt_s=plan.dt_s)
            else:
                raw, x, filled = self._outputs(x, plan)
            problem = self._state_problem()
            if problem is not None:
                raise StateError(problem)
            y, limited, status = frozen(raw), False, _OK
            if self._limits is not None:
                # Since another output was sent in place of one, one period at most is known to be over.
                since_s = between_s if between_s is not None and sent is trusted else self._period_s
                y, limited = self._limits.limited(raw, sent, since_s)
            if to_warm:
                status, y, limited = Status.WARMING_UP, self._fallback(), False
                self._now = (*plan.at, to_warm - 1, y, trusted)
            else:
                self._now = (*plan.at, 0, y, y)
        except BaseException:  # of a signal's handler as well
            stream._now, self._now = before, now
            raise
        if self._holes is not None:
            self._holes.remember(x, filled, self._measured_at(plan))
        if self._pace is not None and between_s is not None and self._pace.take(between_s) and status is _OK:
            status = Status.OFF_PACE
        return _new(Tick, (status, y, raw, plan.steps, plan.reset, plan.dt_s, x, None, limited))

    def _outputs(self, x: Any, plan: Plan) -> tuple[Any, Any, Filled | None]:
        """The model's output for a sample, the sample as it was stepped, and how its holes were filled."""
        try:
            raw = advance(self.stream, x, plan)
        except (NonFiniteError, TypeError) as error:
            if self._holes is None or getattr(error, "result", False):
                raise
            filled = self._holes.filled(x, self._measured_at(plan), error)
            whole = self._holes.sample(filled)
            return advance(self.stream, whole, plan), whole, filled
        return raw, x if x.__class__ is np.ndarray else as_stepped(self.stream, x), None

    def _state_problem(self) -> str | None:
        place = self.stream._now[0]
        if self._in_place is not None and place.__class__ is int:
            return self._in_place(place)
        return self._health.problem(self.stream.state_arrays())

    def _measured_at(self, plan: Plan) -> float:
        """When a sample was measured, seconds, on the one clock of its sequence; else by counting periods."""
        at = plan.at
        if at.stamp_s is not None:
            return at.stamp_s
        return self._came * self._period_s if at.monotonic_s is None else at.monotonic_s

    def _fallback(self) -> Any:
        """What the robot gets where no output can be trusted."""
        trusted = self._now[4]
        return self._safe if self.guard.on_fault == "safe" or trusted is None else trusted

    def _refused(self, status: Status, x: Any, error: Exception, reset: bool = False) -> Tick:
        y = self._fallback()
        self._send(y)
        return Tick(status, y, None, 0, reset, None, x, error, False)

    def _out_of_bounds(self, x: Any, error: StateError) -> Tick:
        reset = self.guard.on_state == "reset"
        if reset:
            self.stream.reset()
            self._begin()
        return self._refused(Status.STATE_OUT_OF_BOUNDS, x, error, reset)

    def _while_stopped(self) -> Tick:
        tick = self._stopped_tick()
        self._send(tick.y)
        return tick

    def _stopped_tick(self) -> Tick:
        y = self._now[4] if self._safe is None else self._safe
        return Tick(Status.STOPPED, y, None, 0, False, None, None, None, False)
