"""Windows of samples, each stepped from the initial state, and the readout of the newest complete one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...bundle.manifest import Manifest
from ...bundle.spec import DT_INPUT, MAX_WINDOW, Readout
from ...given_numbers import is_whole, number_text
from ..constants import Constants
from ..readouts import LAST
from ..seen_ranges import Sample
from ..state import initial_state
from .plain import Plain
from .readout import FROM_ANOTHER, ReadoutMode, Row, RowMoment
from .running import Running

__all__ = ["Windows", "check_window", "readout_mode"]

_MOST_ROWS = 64  # windows that advance side by side; more of them are stepped when they end

_Call = tuple[Any, Array | None]  # what a row takes: sample and dt


class _Kept(NamedTuple):
    """What windows keep.

    Args:
        calls: Number of calls since the beginning.
        rows: The moment of each row; of one that has just completed its window, that before its next one.
        last: The last calls, up to the length of a window; `None` where the ring holds them.
    """

    calls: int
    rows: tuple[RowMoment, ...]
    last: tuple[_Call, ...] | None


class Windows:
    """Windows of `length` calls, one each `every` calls. The samples of those that are not complete are kept.

    Where `every` divides `length`, windows advance side by side with each sample, a row for each; else, or with very
    many rows, each is stepped when it ends. See `Sequences`.
    """

    def __init__(self, manifest: Manifest, make: Callable[[], Row], length: int, every: int) -> None:
        self._manifest, self._length, self._every = manifest, length, every
        count = length // every
        self._abreast = length % every == 0 and count <= _MOST_ROWS
        self._rows = [make() for _ in range(count if self._abreast else 1)]
        # One place more than a window has calls: one that is being taken overwrites none of them.
        self._ring: list[_Call | None] = [None] * (length + 1)
        self._sample: Sample = b""

    def beginning(self, constants: Constants | None) -> _Kept:
        """See `Sequences.beginning`."""
        return _Kept(0, tuple(row.beginning(constants) for row in self._rows), ())

    def take(self, kept: _Kept, x: Any, dt: Array | None) -> tuple[_Kept, dict[str, Array] | None]:
        """See `Sequences.take`."""
        sample = self.checked(x)
        self._sample = self._rows[0].plain.sample()  # as long as the newest one stands there
        return self._taken(kept, (sample, None if dt is None else dt.copy()))

    def parked(self, kept: _Kept) -> _Kept:
        """See `Mode.parked`."""
        rows = tuple(row.parked(now) for row, now in zip(self._rows, kept.rows, strict=True))
        return _Kept(kept.calls, rows, self._last(kept))

    def read(self, kept: _Kept) -> tuple[dict[str, Array], dict[str, Array]]:
        """See `Sequences.read`."""
        last = self._last(kept)
        names = [t.name for t in self._manifest.streamed]
        samples = [x if isinstance(x, dict) else {names[0]: x} for x, _ in last]
        own = {f"sample.{name}": np.array([one[name] for one in samples]) for name in names if samples}
        if samples and DT_INPUT in self._manifest.sample_inputs():
            shape = (len(last), self._manifest.batch, self._manifest.unroll)
            own["dt"] = np.array([dt for _, dt in last], np.float32).reshape(shape)
        start = {name: value.copy() for name, value in initial_state(self._manifest).tensors.items()}
        return start, own | {"calls": np.array(kept.calls)}

    def restored(self, _tensors: Mapping[str, Array], own: Mapping[str, Array], constants: Constants | None) -> _Kept:
        """See `Sequences.restored`: the samples that were kept are stepped again."""
        if own and "calls" not in own:
            raise ValueError(FROM_ANOTHER.format("no samples of windows"))
        calls = int(own.get("calls", np.array(0)).item())
        samples = {name.removeprefix("sample."): v for name, v in own.items() if name.startswith("sample.")}
        count = min((len(value) for value in samples.values()), default=0)
        self._check(samples, own.get("dt"), count, calls)
        first = calls - count
        kept = self.beginning(constants)._replace(calls=first)
        for k in range(count):
            one = {name: value[k] for name, value in samples.items()}
            x = self.checked(one if len(one) > 1 else next(iter(one.values())))
            kept, _ = self._taken(kept, (x, own["dt"][k] if "dt" in own else None), first)
        return kept

    def checked(self, x: Any) -> Any:
        """See `Sequences.checked`."""
        return self._rows[0].plain.checked(x)

    def sample(self) -> Sample:
        """See `Mode.sample`."""
        return self._sample

    def _taken(self, kept: _Kept, call: _Call, first: int = 0) -> tuple[_Kept, dict[str, Array] | None]:
        """Take a call, for windows that began at call `first` or later."""
        size = len(self._ring)
        for k, one in enumerate(kept.last or ()):
            self._ring[(kept.calls - len(kept.last or ()) + k) % size] = one
        self._ring[kept.calls % size] = call
        step = self._step_abreast if self._abreast else self._step_ended
        rows, done = step(kept, call, first)
        return _Kept(kept.calls + 1, rows, None), done

    def _step_abreast(
        self, kept: _Kept, call: _Call, first: int
    ) -> tuple[tuple[RowMoment, ...], dict[str, Array] | None]:
        """Step every row whose window has begun."""
        rows, done = list(kept.rows), None
        for k, row in enumerate(self._rows):
            at = kept.calls - k * self._every
            if at < 0 or kept.calls - at % self._length < first:
                continue
            rows[k] = row.advance(rows[k], *call)
            if at % self._length == self._length - 1:
                done = rows[k][1].value()
                rows[k] = row.beginning(rows[k][0][3])
        return tuple(rows), done

    def _step_ended(
        self, kept: _Kept, _call: _Call, first: int
    ) -> tuple[tuple[RowMoment, ...], dict[str, Array] | None]:
        """Step the window that ends with this call, if one does. The row is at its beginning before and after."""
        start = kept.calls + 1 - self._length
        if start < first or start % self._every:
            return kept.rows, None
        (row,), (now,) = self._rows, kept.rows
        for one in self._between(start, kept.calls + 1):
            now = row.advance(now, *one)
        return kept.rows, now[1].value()

    def _last(self, kept: _Kept) -> tuple[_Call, ...]:
        if kept.last is not None:
            return kept.last
        return tuple(self._between(kept.calls - min(kept.calls, self._length), kept.calls))

    def _between(self, first: int, end: int) -> Iterator[_Call]:
        """Calls in the ring."""
        for k in range(first, end):
            call = self._ring[k % len(self._ring)]
            if call is not None:  # which those of a window never are
                yield call

    def _check(self, samples: Mapping[str, Array], dt: Array | None, count: int, calls: int) -> None:
        if count == calls == 0:
            return
        names, unroll = {t.name for t in self._manifest.streamed}, self._manifest.unroll
        timed = DT_INPUT in self._manifest.sample_inputs()
        if set(samples) != names or timed != (dt is not None) or count != min(calls, self._length):
            held = f"{count * unroll} samples of {calls * unroll}, expected those of windows of {self._length * unroll}"
            raise ValueError(FROM_ANOTHER.format(held))


def check_window(window: object, every: object) -> tuple[int, int]:
    """Check the length of windows, and from one to the next; `every` is by default the length.

    Raises:
        TypeError: If one is no whole number.
        ValueError: If one is below 1, a window is too long, or they leave samples out.
    """
    for name, value in (("window", window), ("every", every)):
        if value is not None and not is_whole(value):
            raise TypeError(f"`{name}` is {number_text(value)}, expected a whole number of samples")
    if window is None:
        raise ValueError(f"`every` is {every}, but it has a meaning only with `window`, the samples of a window")
    length, step = int(window), int(window if every is None else every)  # type: ignore[call-overload]
    if not 1 <= length <= MAX_WINDOW:
        raise ValueError(f"`window` is {length}, expected 1 to {MAX_WINDOW} samples")
    if not 1 <= step <= length:
        raise ValueError(f"`every` is {step}, expected 1 to {length} samples, the length of a window")
    return length, step


def readout_mode(
    manifest: Manifest, make: Callable[[], Plain], readout: Readout | None, window: int | None, every: int | None
) -> ReadoutMode:
    """The mode of a stream of readouts.

    Args:
        manifest: The model's.
        make: Makes a plain mode with buffers of its own.
        readout: Of what outputs; `None` for the last one.
        window: Samples of a window; `None` for one sequence for ever.
        every: Samples from the beginning of one window to that of the next.

    Raises:
        TypeError, ValueError: If window and every do not fit together, or not the model's blocks.
    """

    def row() -> Row:
        return Row(manifest, make(), readout or LAST)

    if window is None and every is None:
        return ReadoutMode(manifest, Running(row()))
    length, step = check_window(window, every)
    unroll = manifest.unroll
    if length % unroll or step % unroll:
        raise ValueError(
            f"`window` is {length} and `every` {step}, but model '{manifest.name}' takes blocks of {unroll} samples: "
            "expected multiples of that"
        )
    return ReadoutMode(manifest, Windows(manifest, row, length // unroll, step // unroll))
