"""A stream: one sequence of samples through a model, with the recurrent state kept between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Any, NoReturn, TypeVar

import numpy as np

from ..arrays import Array
from ..bundle.manifest import Manifest
from .call_token import Held, alone, claimed, is_interrupted
from .input_port import by_name
from .modes.mode import Mode, Moment, copied
from .seen_ranges import RECENT, Beyond, SeenRanges, Tally
from .sequence import (
    check_lengths,
    check_recording,
    check_time_shapes,
    named_recording,
    recording_in_unroll_blocks,
    samples_from_unroll_blocks,
    times_as_arrays,
)
from .state import State, check_build, of_build

__all__ = ["Stream", "uncounted"]

_T = TypeVar("_T")

_LAST = RECENT - 1


class Stream:
    """Steps a model once per sample and keeps its state. Made by `Model.stream()`.

    A step is all or nothing: when it raises, for whatever reason and at whatever point, state and clock are what they
    were before. A stream is for one call at a time, `snapshot`, `reset` and `restore` as well: that of a second thread
    gets a RuntimeError and changes nothing. Several streams of one model may run in several threads.
    """

    def __init__(self, manifest: Manifest, mode: Mode, start: Moment, *, reuse: bool = False, build: str = "") -> None:
        self._manifest, self._mode, self._build = manifest, mode, build
        self._advance, self._result = mode.advance, mode.result  # a look-up less in every step
        self._seen = SeenRanges(manifest)
        self._sample = mode.sample if self._seen.known else None
        self._recent: list[Any] = [None] * RECENT  # by step; a call that is interrupted writes there again
        self._as_it_is = reuse or mode.new_results
        self._held: Held = {}
        # The one reference that a step replaces: an exception arrives before that or after it, and never in between.
        self._now = start

    @property
    def steps(self) -> int:
        """Number of samples since the stream was made."""
        return self._now[2]

    @property
    def one_per_call(self) -> bool:
        """Whether a block of samples, of a model with `unroll`, has one result, and not one for each sample."""
        return self._mode.one_per_call

    @property
    def fresh(self) -> bool:
        """Whether the last step has a result of its own: with windows, whether it completed one."""
        return self._now[4]

    def step(self, x: Any, *, dt_s: Any = None, t_s: Any = None) -> Any:
        """Advance by one sample, or by one block of samples if the bundle was exported with `unroll`.

        Args:
            x: The sample, of the manifest's dtype at best, shape (features,), or (batch, features) if the batch is
                above 1; a block has shape (unroll, features) or (batch, unroll, features). A dict of such arrays by
                input name if the model has several inputs, constants not among them. What has names (a series, a row
                of a frame, a named tuple, a dict, a structured array) is matched with the features by them.
            dt_s: Only with measured time: seconds since the previous sample, within the manifest's `dt_range_s`. One
                number, or shape (batch, unroll), with `unroll` 1 for single samples; for a block of a single row also
                shape (unroll,). Or a `timedelta` of the standard library, NumPy or pandas.
            t_s: Instead of `dt_s`: the sample's time in seconds, on any clock that goes forward, or as `datetime`,
                `numpy.datetime64` or pandas `Timestamp`; for a block the time of each sample, shape (unroll,). The
                first sample after a reset counts as one period.

        Returns:
            Output, shape (outputs,) or (batch, outputs), for a block (unroll, outputs) or (batch, unroll, outputs); a
            dict of these by name if there are several. New arrays, but for a stream that was made with `reuse=True`:
            there they are the stream's own and last until the next call.

        Raises:
            TypeError: If the sample holds no real numbers, or the time is none.
            ValueError: If a shape or name is wrong, a value is outside its limits, or the time is missing, unexpected
                or illegal.
            NonFiniteError: If the sample, the result or the next state is not finite, or a value is masked.
            BackendError: If the backend fails.
            RuntimeError: If another thread is using this stream, or a signal's handler interrupted a call of it.
        """
        held, me = self._held, get_ident()  # as in `alone`, of which this saves the calls
        try:
            if held.setdefault(0, me) is not me:
                self._held = held = claimed(held, me)
            now = self._advance(self._now, x, dt_s, t_s)
            result = self._result(now) if self._as_it_is else copied(self._result(now))
            if self._sample is not None:
                place = now[2] & _LAST
                self._recent[place] = self._sample()
                if not place:
                    now = self._tallied(now)
            self._now = now
        except BaseException:
            if held.get(0) is me:
                del held[0]
            raise
        del held[0]
        return result

    @property
    def outside(self) -> dict[str, Beyond]:
        """By column the values, since the stream was made, outside the range that the export's example had.

        How many there were, `number`, and the one farthest outside, `farthest`. They are legal where no limits forbid
        them, and the example shows nothing of them. Only columns that had some are there, those of several inputs as
        `input.column`; none where the bundle knows no ranges.
        """
        now, recent = self._now, list(self._recent)
        while now is not self._now:  # a step of another thread came between
            now, recent = self._now, list(self._recent)
        return dict(self._seen.up_to(now[2], now[5], recent).counts) if self._seen.known else {}

    @property
    def label(self) -> str | tuple[str, ...] | None:
        """The class that the newest result stands for; one per row if there are several; `None` before the first.

        Raises:
            ValueError: If the model has no labels.
        """
        return self._reading(self._label)

    def run(self, xs: Any, *, dt_s: Any = None, t_s: Any = None) -> Any:
        """Advance by a whole recording; the same as `step` for every sample or block.

        Args:
            xs: Samples, shape (T, features) or (T, batch, features); a dict of such arrays with several inputs. With
                `unroll` T must be a whole number of blocks. The columns of a frame, a dict of columns or a structured
                array are matched with the features by name; others than these are refused.
            dt_s: Only with measured time: seconds since the previous sample, one number or shape (T,) or (T, batch, 1).
                Or spans of NumPy, pandas or the standard library, as pandas' `diff()` gives.
            t_s: Instead of `dt_s`: the samples' times in seconds, shape (T,), or as datetimes, NumPy's datetime64, a
                pandas series or index of them; taken by place, whatever their index.

        Returns:
            Outputs, shape (T, outputs) or (T, batch, outputs), a copy; a dict with several outputs.

        Raises:
            As `step`. State, clock and `steps` are then what they were before the call; the message names the sample.
        """
        return alone(self, self._run, xs, dt_s, t_s)

    def reset(self, rows: Sequence[int] | None = None, *, constants: Mapping[str, Any] | None = None) -> None:
        """Go back to the initial state; the next sample starts a new sequence.

        Args:
            rows: Of a batch, the numbers of the rows that start anew; the others go on. `None` for all of them.
            constants: The constant inputs of the new sequence by name, shaped as one sample, (rows, ...) with `rows`.
                `None` keeps those of the last one.

        Raises:
            ValueError, TypeError, NonFiniteError: If there is no such row, or a constant is missing, unknown or does
                not fit. The stream keeps the state and the constants that it had.
            RuntimeError: As `step`.
        """
        alone(self, self._begin, rows, constants)

    def snapshot(self) -> State:
        """Copy the state, to `restore` it later, in this stream or another one of the same model.

        It can be pickled, so a program that is restarted goes on where it was. A signal's handler that interrupts a
        call of this stream gets the state before that call.

        Raises:
            RuntimeError: If another thread is using this stream.
        """
        return self._reading(self._state)

    def state_arrays(self) -> dict[str, Array]:
        """A copy of the state's tensors alone, by the name of the state's input: for who proves each step of a stream.

        A snapshot has the time and all else that a stream stands at, and asks whose turn it is. This does not: it is
        for a stream that nobody else has.
        """
        return self._mode.arrays(self._now)

    def restore(self, state: State) -> None:
        """Go on from a state that `snapshot`, `Model.step` or `Model.initial_state` gave.

        Raises:
            TypeError, ValueError, NonFiniteError: If it does not fit; the stream keeps the state it had.
            RuntimeError: As `step`.
        """
        alone(self, self._go_on, state)

    def checked(self, x: Any) -> Any:
        """A copy of a sample as `step` takes it, checked as `step` does, which is not called.

        Raises:
            TypeError, ValueError, NonFiniteError, RuntimeError: As `step`.
        """
        return alone(self, self._mode.checked, x)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a stream cannot be copied or pickled, but its state can: make another one with model.stream(), and then "
            "other.restore(stream.snapshot())"
        )

    def _reading(self, call: Callable[[], _T]) -> _T:
        """As `alone`, but a signal's handler may read what a call of its own thread has not changed yet."""
        return call() if is_interrupted(self._held) else alone(self, call)

    def _run(self, xs: Any, dt_s: Any, t_s: Any) -> Any:
        """The results of all calls, joined. The stream stands where it stood until the last one is there."""
        manifest, given = self._manifest, xs
        xs = named_recording(manifest, given)
        check_recording(manifest, xs)
        if isinstance(xs, Mapping):  # a constant among them has no length of its own
            by_name(xs, {t.name: None for t in manifest.streamed}, [t.name for t in manifest.constants])
        check_time_shapes(manifest.batch, dt_s, t_s)
        check_lengths(xs, dt_s=dt_s, t_s=t_s)
        dt_s, t_s = times_as_arrays(given, dt_s, t_s)
        if manifest.unroll > 1:
            xs, dt_s, t_s = recording_in_unroll_blocks(manifest, xs, dt_s, t_s)
        self._now = self._mode.parked(self._now)
        return self._run_calls(xs, dt_s, t_s)

    def _run_calls(self, xs: Any, dt_s: Any, t_s: Any) -> Any:
        """As `_run`, of what is checked, from a moment that is parked."""
        calls, results, samples, now = _calls(xs), list[Any](), list[Any](), self._now
        for k, sample in enumerate(calls):
            now = self._called(now, sample, (k, len(calls)), _at(dt_s, k), _at(t_s, k))
            results.append(copied(self._result(now)))
            if self._sample is not None:
                samples.append(self._sample())
        joined = self._joined(results)
        self._counting(now, samples)
        return joined

    def _called(self, now: Moment, sample: Any, place: tuple[int, int], dt_s: Any, t_s: Any) -> Moment:
        """The moment after a call of a recording; what it raises names its place, a number of how many."""
        try:
            return self._advance(now, sample, dt_s, t_s)
        except BaseException as error:  # Ctrl-C as well
            if hasattr(error, "add_note"):
                what = "sample" if self._manifest.unroll == 1 else "block"
                error.add_note(f"in {what} {place[0]} of {place[1]}; the stream is back at the state before `run`")
            raise

    def _counting(self, now: Moment, samples: list[Any]) -> None:
        """Stand at a moment after calls whose samples are counted with it."""
        self._now = (*now[:5], Tally(now[2], self._seen.counted(self.outside, samples))) if samples else now

    def _tallied(self, now: Moment) -> Moment:
        """A moment with all that was counted until then."""
        return *now[:5], self._seen.up_to(now[2], now[5], self._recent)

    def _begin(self, rows: Sequence[int] | None, constants: Mapping[str, Any] | None) -> None:
        self._now = self._mode.begun(self._now, rows, constants)

    def _state(self) -> State:
        return of_build(self._mode.state(self._now), self._build)

    def _go_on(self, state: State) -> None:
        check_build(state, self._build)
        self._now = self._mode.parked(self._now)  # the samples of windows are stepped again
        self._now = self._mode.restored(self._now, state)

    def _label(self) -> str | tuple[str, ...] | None:
        from .readouts import label_of  # few models have labels

        newest = self._mode.newest(self._now)
        return label_of(self._manifest.labels, np.full(1, np.nan) if newest is None else newest)

    def _joined(self, results: list[Any]) -> Any:
        """Results call by call, as one array of samples per output."""
        if not results:
            squeeze = self._manifest.batch == 1
            shapes = {t.name: t.shape[1:] if squeeze else t.shape for t in self._manifest.outputs}
            empty = {name: np.zeros((0, *shape), np.float32) for name, shape in shapes.items()}
            return empty if len(empty) > 1 else next(iter(empty.values()))
        if isinstance(results[0], dict):
            return {name: self._samples(np.stack([r[name] for r in results])) for name in results[0]}
        return self._samples(np.stack(results))

    def _samples(self, calls: Array) -> Array:
        if self._manifest.unroll == 1 or self._mode.one_per_call:
            return calls
        return calls.reshape(-1, *calls.shape[2:]) if self._manifest.batch == 1 else samples_from_unroll_blocks(calls)


def uncounted(stream: Stream) -> Callable[[Any], None] | None:
    """What makes a step of a stream that does not count, called with a sample; `None` where nothing can.

    It writes where a step writes before it counts, as one that is refused does: what the stream stands at, its state,
    its results and all its counts stay what they are.
    """
    return getattr(stream, "_practise", None)


def _calls(xs: Any) -> Any:
    """Samples or unroll blocks by index: rows of an array or sequence, or dicts of rows."""
    if isinstance(xs, dict):
        return [{name: value[k] for name, value in xs.items()} for k in range(len(next(iter(xs.values()), ())))]
    return xs


def _at(times: Any, k: int) -> Any:
    return times[k] if np.ndim(times) > 0 else times
