"""Streams whose results are readouts: of a sequence so far, or of windows that each begin from the initial state.

A model that was trained on windows gives, with a state that is kept for ever, what nobody evaluated. Here each window
gets what its author's call gave it.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..arrays import Array
from ..bundle.manifest import Manifest
from ..bundle.spec import DT_INPUT, MAX_WINDOW, Readout
from .clock import make_clock
from .constants import CONSTANT
from .readouts import LAST, RecentOutputs
from .state import State, check_state, initial_state
from .stream import SECOND_THREAD, Stream, newest_label, run_recording

__all__ = ["ReadoutStream", "check_window", "window_stream"]

_MOST_ROWS = 64  # windows that advance side by side; more of them are stepped when they end
_ANOTHER = (
    "the state comes from another stream: it holds {}. Restore it into a stream that is made in the same way: "
    "model.stream(window=...)"
)
_Call = tuple[Any, Any]  # what `Stream.step` takes: sample and dt
_Constants = Mapping[str, Any] | None


class ReadoutStream(Stream):
    """A stream whose step returns the readout of the newest complete window, or of the sequence so far.

    Attributes:
        fresh: Whether the last step completed a window.
        steps: Number of samples.
    """

    one_per_call = True

    def __init__(self, manifest: Manifest, how: _How) -> None:  # nothing of `Stream`'s own: it holds streams
        self._manifest, self._how = manifest, how
        measured = manifest.time.mode == "measured"
        self._dt = np.zeros((manifest.batch, manifest.unroll), np.float32) if measured else None
        self._clock = make_clock(manifest, self._dt)
        self._alone = threading.Lock()
        self._newest: dict[str, Array] | None = None
        self.fresh, self.steps = False, 0

    def step(self, x: Any, *, dt_s: Any = None, t_s: Any = None) -> Any:
        """Advance by one sample, or block of samples; see `Stream.step` for arguments and errors.

        Returns:
            The readout, shaped as the output of one sample; NaN before the first window is complete. A new array.
        """
        if not self._alone.acquire(blocking=False):
            raise RuntimeError(SECOND_THREAD)
        try:
            now = self._clock.put(dt_s, t_s)
            done = self._how.take(x, self._dt)
            self._clock.last_s = now
            self.steps += self._manifest.unroll
            self.fresh = done is not None
            self._newest = done or self._newest
        finally:
            self._alone.release()
        return self._readout()

    @property
    def label(self) -> str | tuple[str, ...] | None:
        """The class that the newest result stands for; see `Stream.label`."""
        return newest_label(self._manifest.labels, None if self._newest is None else self._readout())

    def run(self, xs: Any, *, dt_s: Any = None, t_s: Any = None) -> Any:
        """Advance by a whole recording; see `Stream.run`.

        Returns:
            What each call of `step` returns, (calls, outputs) or (calls, batch, outputs); a dict with several outputs.
        """
        results = run_recording(self, self._manifest, xs, dt_s, t_s)
        if not results:
            empty = {name: np.zeros((0, *y.shape), np.float32) for name, y in self._outputs(None).items()}
            return empty if len(empty) > 1 else next(iter(empty.values()))
        if isinstance(results[0], dict):
            return {name: np.stack([result[name] for result in results]) for name in results[0]}
        return np.stack(results)

    def reset(self, rows: Sequence[int] | None = None, *, constants: Mapping[str, Any] | None = None) -> None:
        """Begin anew: the next sample is the first of a sequence, and of a window.

        Raises:
            ValueError: If only some rows are to begin anew: all rows are in the same windows.
            TypeError, ValueError, NonFiniteError: If a constant is missing, unknown or does not fit.
        """
        if rows is not None:
            raise ValueError(
                "windows and readouts are of all rows together, so single rows cannot begin anew. Leave `rows` out, "
                "or give each row a stream of its own, of a bundle with batch=1"
            )
        self._how.begin(constants)
        self._clock.last_s, self._newest, self.fresh = None, None, False

    def snapshot(self) -> State:
        """Copy the state, the samples of windows that are not complete, and the newest result."""
        newest = {f"newest.{name}": value.copy() for name, value in (self._newest or {}).items()}
        tensors, kept = self._how.read()
        return State(tensors, self._clock.last_s, kept | newest)

    def restore(self, state: State) -> None:
        """Go on from what `snapshot` of such a stream gave. A state of another kind begins anew, at that state's time.

        Raises:
            TypeError, ValueError, NonFiniteError: If it does not fit; the stream keeps what it had.
        """
        check_state(state, self._manifest)
        newest = {n.removeprefix("newest."): v for n, v in state.kept.items() if n.startswith("newest.")}
        shapes = {name: value.shape for name, value in self._outputs(None).items()}
        wrong = [
            name for name, value in newest.items() if value.shape != shapes.get(name) or not np.isfinite(value).all()
        ]
        if wrong:
            raise ValueError(f"the state's newest result '{wrong[0]}' is none of this model: expected shape {shapes}")
        before = self._how.read()
        try:
            self._how.write(state.tensors, state.kept)
        except BaseException:
            self._how.write(*before)
            raise
        self._clock.last_s, self._newest, self.fresh = state.t_s, newest or None, False

    def checked(self, x: Any) -> Any:
        """See `Stream.checked`."""
        return self._how.checked(x)

    def _readout(self) -> Any:
        outputs = self._outputs(self._newest)
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _outputs(self, newest: Mapping[str, Array] | None) -> dict[str, Array]:
        shapes = {t.name: t.shape[self._manifest.batch == 1 :] for t in self._manifest.outputs}
        return {
            name: np.full(shape, np.nan, np.float32) if newest is None else newest[name].copy()
            for name, shape in shapes.items()
        }


class _How(Protocol):
    """How samples become readouts. `take` is all or nothing."""

    def take(self, x: Any, dt: Array | None) -> dict[str, Array] | None:
        """Take one call's samples; the readout, if one is complete."""

    def checked(self, x: Any) -> Any:
        """A copy of a sample, checked."""

    def begin(self, constants: _Constants = None) -> None:
        """Forget all samples."""

    def read(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """State tensors, and what else a snapshot needs."""

    def write(self, tensors: Mapping[str, Array], kept: Mapping[str, Array]) -> None:
        """Go back to what `read` gave."""


class _Row:
    """One sequence from its beginning, and its outputs."""

    def __init__(self, manifest: Manifest, stream: Stream, readout: Readout) -> None:
        self.stream, self.recent = stream, RecentOutputs(readout)
        self._names = [t.name for t in manifest.outputs]
        self._unroll, self._time_axis = manifest.unroll, 0 if manifest.batch == 1 else 1

    def begin(self, constants: _Constants = None) -> None:
        self.stream.reset(constants=constants)
        self.recent.clear()

    def step(self, x: Any, dt: Array | None) -> Any:
        return self.stream.step(x, dt_s=dt)

    def count(self, result: Any) -> None:
        """Take the result of a step, sample by sample."""
        outputs = result if isinstance(result, dict) else {self._names[0]: result}
        for k in range(self._unroll):
            self.recent.add(
                outputs if self._unroll == 1 else {n: y.take(k, self._time_axis) for n, y in outputs.items()}
            )


class _Running:
    """One sequence for ever; its readout so far."""

    def __init__(self, row: _Row) -> None:
        self._row = row

    def take(self, x: Any, dt: Array | None) -> dict[str, Array]:
        self._row.count(self._row.step(x, dt))
        return self._row.recent.value()

    def checked(self, x: Any) -> Any:
        return self._row.stream.checked(x)

    def begin(self, constants: _Constants = None) -> None:
        self._row.begin(constants)

    def read(self) -> tuple[dict[str, Array], dict[str, Array]]:
        state = self._row.stream.snapshot()
        return dict(state.tensors), self._row.recent.read() | dict(state.kept)

    def write(self, tensors: Mapping[str, Array], kept: Mapping[str, Array]) -> None:
        constants, own = _apart(kept)
        if own and "count" not in own:
            raise ValueError(_ANOTHER.format("samples of windows, but this stream has none"))
        self._row.stream.restore(State({name: value.copy() for name, value in tensors.items()}, None, constants))
        self._row.recent.write(own or {"count": np.array(0)})


class _Windows:
    """Windows of `length` calls, one each `every` calls. The samples of those that are not complete are kept.

    Where `every` divides `length`, windows advance side by side with each sample, a row for each; else, or with very
    many rows, each is stepped when it ends.
    """

    def __init__(self, manifest: Manifest, make: Callable[[], _Row], length: int, every: int) -> None:
        self._manifest, self._length, self._every = manifest, length, every
        count = length // every
        self._abreast = length % every == 0 and count <= _MOST_ROWS
        self._rows = [make() for _ in range(count if self._abreast else 1)]
        self._kept: deque[_Call] = deque(maxlen=length)
        self._calls = 0  # since the beginning

    def take(self, x: Any, dt: Array | None) -> dict[str, Array] | None:
        call = (self.checked(x), None if dt is None else dt.copy())
        done = self._step_abreast(call) if self._abreast else self._step_ended(call)
        self._kept.append(call)
        self._calls += 1
        return done

    def checked(self, x: Any) -> Any:
        return self._rows[0].stream.checked(x)

    def _step_abreast(self, call: _Call, first: int = 0) -> dict[str, Array] | None:
        """Step every row whose window began at call `first` or later."""
        places = ((row, self._calls - k * self._every) for k, row in enumerate(self._rows))
        active = [
            (row, at % self._length) for row, at in places if at >= 0 and self._calls - at % self._length >= first
        ]
        before, results = [], []
        try:
            for row, at in active:
                before.append((row, row.stream.snapshot()))
                if at == 0:
                    row.stream.reset()
                results.append(row.step(*call))
        except BaseException:
            for row, state in before:
                row.stream.restore(state)
            raise
        done = None
        for (row, at), result in zip(active, results, strict=True):
            if at == 0:
                row.recent.clear()
            row.count(result)
            if at == self._length - 1:
                done = row.recent.value()
        return done

    def _step_ended(self, call: _Call) -> dict[str, Array] | None:
        """Step the window that ends with this call, if one does."""
        after = self._calls + 1 - self._length
        if after < 0 or after % self._every:
            return None
        (row,) = self._rows
        row.begin()
        for own in (*itertools.islice(self._kept, len(self._kept) - self._length + 1, None), call):
            row.count(row.step(*own))
        return row.recent.value()

    def begin(self, constants: _Constants = None) -> None:
        for row in self._rows:
            row.begin(constants)
        self._kept.clear()
        self._calls = 0

    def read(self) -> tuple[dict[str, Array], dict[str, Array]]:
        shape = (len(self._kept), self._manifest.batch, self._manifest.unroll)
        names = [t.name for t in self._manifest.streamed]
        samples = [x if isinstance(x, dict) else {names[0]: x} for x, _ in self._kept]
        kept = {f"sample.{name}": np.array([own[name] for own in samples]) for name in names if samples}
        kept |= self._rows[0].stream.snapshot().kept
        if samples and DT_INPUT in self._manifest.sample_inputs():
            kept["dt"] = np.array([dt for _, dt in self._kept], np.float32).reshape(shape)
        start = {name: value.copy() for name, value in initial_state(self._manifest).tensors.items()}
        return start, kept | {"calls": np.array(self._calls)}

    def write(self, _tensors: Mapping[str, Array], every: Mapping[str, Array]) -> None:
        constants, kept = _apart(every)
        if kept and "calls" not in kept:
            raise ValueError(_ANOTHER.format("no samples of windows"))
        self.begin({name.removeprefix(CONSTANT): value for name, value in constants.items()} or None)
        calls = int(kept.get("calls", np.array(0)).item())
        samples = {name.removeprefix("sample."): v for name, v in kept.items() if name.startswith("sample.")}
        count = min((len(value) for value in samples.values()), default=0)
        self._check(samples, kept.get("dt"), count, calls)
        self._calls = first = calls - count
        for k in range(count):
            own = {name: value[k] for name, value in samples.items()}
            x = self.checked(own if len(own) > 1 else next(iter(own.values())))
            call = (x, kept["dt"][k] if "dt" in kept else None)
            if self._abreast:
                self._step_abreast(call, first)
            self._kept.append(call)
            self._calls += 1

    def _check(self, samples: Mapping[str, Array], dt: Array | None, count: int, calls: int) -> None:
        if count == calls == 0:
            return
        names, unroll = {t.name for t in self._manifest.streamed}, self._manifest.unroll
        timed = DT_INPUT in self._manifest.sample_inputs()
        if set(samples) != names or timed != (dt is not None) or count != min(calls, self._length):
            held = f"{count * unroll} samples of {calls * unroll}, expected those of windows of {self._length * unroll}"
            raise ValueError(_ANOTHER.format(held))


def _apart(kept: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Constants, and what else a state keeps."""
    constants = {name: value for name, value in kept.items() if name.startswith(CONSTANT)}
    return constants, {name: value for name, value in kept.items() if name not in constants}


def check_window(window: object, every: object) -> tuple[int, int]:
    """Check the length of windows, and from one to the next; `every` is by default the length.

    Raises:
        TypeError: If one is no whole number.
        ValueError: If one is below 1, a window is too long, or they leave samples out.
    """
    for name, value in (("window", window), ("every", every)):
        if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
            raise TypeError(f"`{name}` is {value!r}, expected a whole number of samples")
    if window is None:
        raise ValueError(f"`every` is {every}, but it has a meaning only with `window`, the samples of a window")
    length, step = int(window), int(window if every is None else every)  # type: ignore[call-overload]
    if not 1 <= length <= MAX_WINDOW:
        raise ValueError(f"`window` is {length}, expected 1 to {MAX_WINDOW} samples")
    if not 1 <= step <= length:
        raise ValueError(f"`every` is {step}, expected 1 to {length} samples, the length of a window")
    return length, step


def window_stream(
    manifest: Manifest, make: Callable[[], Stream], readout: Readout | None, window: int | None, every: int | None
) -> ReadoutStream:
    """A stream of readouts.

    Args:
        manifest: The model's.
        make: Makes a plain stream of it.
        readout: Of what outputs; `None` for the last one.
        window: Samples of a window; `None` for one sequence for ever.
        every: Samples from the beginning of one window to that of the next.

    Raises:
        TypeError, ValueError: If window and every do not fit together, or not the model's blocks.
    """

    def row() -> _Row:
        return _Row(manifest, make(), readout or LAST)

    if window is None and every is None:
        return ReadoutStream(manifest, _Running(row()))
    length, step = check_window(window, every)
    unroll = manifest.unroll
    if length % unroll or step % unroll:
        raise ValueError(
            f"`window` is {length} and `every` {step}, but model '{manifest.name}' takes blocks of {unroll} samples: "
            "expected multiples of that"
        )
    return ReadoutStream(manifest, _Windows(manifest, row, length // unroll, step // unroll))
