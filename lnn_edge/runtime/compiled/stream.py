"""A stream whose `step` and `run` are C methods, where the extension is installed and the step itself is compiled.

The C methods do what is usual, the methods of `Stream` do all else and say what is wrong: there is one contract, and
every test of a stream holds for both.
"""

from __future__ import annotations

import inspect
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...arrays import Array
from ...backend_protocols import StepsInC
from ...bundle.manifest import Manifest
from ...bundle.spec import DT_INPUT
from ..call_token import alone
from ..input_port import InputPort
from ..modes.mode import Mode, Moment, as_result, copied
from ..modes.plain import Plain
from ..seen_ranges import Beyond, InputRanges
from ..stream import Stream
from .extension import core_with, why_no_extension

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["make_stream"]

_MOST, _AXES = 8, 4  # inputs or outputs of a stream, and axes of one, that the extension has places for


def make_stream(manifest: Manifest, mode: Mode, start: Moment, *, reuse: bool, build: str) -> Stream:
    """The stream of a mode: one that is stepped in C where that can be, else one in Python."""
    kind = _stream_in_c() if isinstance(mode, Plain) and _fits(manifest, mode) else None
    return (kind or Stream)(manifest, mode, start, reuse=reuse, build=build)


def _fits(manifest: Manifest, mode: Plain) -> bool:
    """Whether the extension has a place for everything; what it has none for is rare, or takes long anyway."""
    inputs, outputs = manifest.streamed, manifest.outputs
    return (
        isinstance(mode.stepper, StepsInC)
        and mode.stepper.addresses is not None
        and 1 <= len(inputs) <= _MOST
        and len(outputs) <= _MOST
        and all(t.dtype == "float32" and not t.center and len(mode.ports[t.name].shape) <= _AXES for t in inputs)
        and (manifest.time.mode == "fixed" or manifest.unroll == 1)
    )


@cache
def _stream_in_c() -> type[Stream] | None:
    """The class, made once; `None` without the extension."""
    if why_no_extension() is not None:
        return None
    core = core_with(inspect.getdoc(Stream.step) or "")
    return type("StreamInC", (core, _InC), {"__module__": __name__, "__doc__": Stream.__doc__})


class _InC(Stream):
    """What a stream in C leaves to Python. The first base of its class is the extension's, which has these methods."""

    if TYPE_CHECKING:
        _arm: Callable[..., None]
        _commit: Callable[[Moment, list[tuple[bytes, ...]]], None]
        _counted: Callable[[], list[tuple[int, int, int, float]]]
        _run_rows: Callable[[tuple[Array, ...], Array | None, float | None, Array], int]
        _mode: Plain

    def __init__(self, manifest: Manifest, mode: Plain, start: Moment, *, reuse: bool = False, build: str = "") -> None:
        super().__init__(manifest, mode, start, reuse=reuse, build=build)
        stepper = cast("StepsInC", mode.stepper)
        self._numbers = stepper.output_bytes // 4  # of all outputs
        ranges = self._seen.inputs if self._seen.known else [None] * len(mode.ports)
        inputs = tuple(_input_row(*pair) for pair in zip(mode.ports.values(), ranges, strict=True))
        timing = None
        if manifest.time.mode == "measured":
            timing = mode.stepper.sample[DT_INPUT], *(manifest.time.dt_range_s or ()), manifest.time.period_s
        names = tuple(t.name for t in manifest.outputs)
        shown = [tuple(r[n] for n in names) if isinstance(r, dict) else (r,) for r in mode.results]
        outputs = stepper.output_bytes, mode.results, (names, *shown)
        kept = inputs, timing, stepper
        self._arm(stepper.addresses, inputs, timing, *outputs, manifest.unroll, reuse, kept)

    @property
    def outside(self) -> dict[str, Beyond]:
        """See `Stream.outside`."""
        inputs = self._seen.inputs
        return {inputs[k].names[column]: Beyond(number, far) for k, column, number, far in self._counted()}

    def _slow_step(self, x: Any, *, dt_s: Any = None, t_s: Any = None) -> Any:
        """As `Stream.step`: what the C method does not take, or has refused."""
        return alone(self, self._stepped, x, dt_s, t_s)

    def _stepped(self, x: Any, dt_s: Any, t_s: Any) -> Any:
        now = self._advance(self._now, x, dt_s, t_s)
        result = self._result(now) if self._as_it_is else copied(self._result(now))
        self._counting(now, [] if self._sample is None else [self._sample()])
        return result

    def _counting(self, now: Moment, samples: list[Any]) -> None:
        """See `Stream._counting`."""
        self._commit(now, [(sample,) if isinstance(sample, bytes) else sample for sample in samples])

    def _run_calls(self, xs: Any, dt_s: Any, t_s: Any) -> Any:
        """See `Stream._run_calls`: in C where all calls are arrays, and the first that C refuses again in Python."""
        arrays = self._arrays(xs)
        times = None if arrays is None else self._times(len(arrays[0]), dt_s, t_s)
        if arrays is None or times is None:
            return super()._run_calls(xs, dt_s, t_s)
        start, (spans, last_s) = self._now, times
        y = np.empty((len(arrays[0]), self._numbers), np.float32)
        self._mode.put_in_place(start)
        k = self._run_rows(arrays, spans, last_s[-1], y)
        if k == len(y):
            return self._joined_rows(y)
        now = (k & 1, last_s[k], start[2] + k * self._manifest.unroll, *start[3:]) if k else start
        sample = {name: x[k] for name, x in xs.items()} if isinstance(xs, dict) else xs[k]
        self._called(now, sample, (k, len(y)), *(None if t is None or not np.ndim(t) else t[k] for t in (dt_s, t_s)))
        return super()._run_calls(xs, dt_s, t_s)  # which is not reached: what C refuses, Python refuses

    def _arrays(self, xs: Any) -> tuple[Array, ...] | None:
        """A recording as C takes it, by input; `None` where it is none of plain arrays of the right shape."""
        ports = self._mode.ports
        named = xs if isinstance(xs, dict) and len(ports) > 1 else {next(iter(ports)): xs}
        if named.keys() != ports.keys() or self._mode.constants.names:
            return None
        found = [_rows(named[name], port.shape) for name, port in ports.items()]
        return tuple(x for x in found if x is not None) if all(x is not None and len(x) for x in found) else None

    def _times(self, count: int, dt_s: Any, t_s: Any) -> tuple[Array | None, Sequence[float | None]] | None:
        """The seconds before each call, and the time of the sample before each, and of the last; `None` for Python."""
        last_s, time = self._now[1], self._manifest.time
        if time.mode == "fixed":
            return (None, [None] * (count + 1)) if dt_s is None and t_s is None else None
        if (dt_s is None) == (t_s is None) or type(last_s) not in (float, NoneType):
            return None
        spans = _spans(count, dt_s) if t_s is None else _between(t_s, last_s, time.period_s)
        low, high = time.dt_range_s or (0.0, 0.0)
        if spans is None or not ((spans >= low) & (spans <= high)).all():
            return None
        if t_s is not None:
            return spans, [last_s, *t_s.tolist()]
        return spans, [None] * (count + 1) if last_s is None else np.add.accumulate([last_s, *spans]).tolist()

    def _joined_rows(self, y: Array) -> Any:
        """All calls' outputs, side by side in `y`, as `run` gives them."""
        one, found, start = self._manifest.batch == 1, {}, 0
        for name, place in self._mode.stepper.places[0].items():
            if start == self._numbers:
                break  # what follows are states
            own = y[:, start : start + place.size].reshape(len(y), *place.shape[one:])
            found[name], start = self._samples(np.ascontiguousarray(own)), start + place.size
        return as_result(found)


def _input_row(port: InputPort, seen: InputRanges | None) -> tuple[Any, ...]:
    """What the extension knows of an input: name, memory, columns, legal values and ranges, number by number."""
    view = port.view
    columns = view.size if seen is None else len(seen.low)
    low, high = (None, None) if port.legal is None else port.legal
    tiled = (None, None) if seen is None else (np.tile(side, view.size // columns) for side in (seen.low, seen.high))
    return port.tensor.name, view, columns, low, high, *tiled


def _rows(x: Any, shape: tuple[int, ...]) -> Array | None:
    """A recording of one input as float32; `None` if it is none of NumPy's own arrays of floats, one sample a row."""
    if type(x) is not np.ndarray or x.dtype not in (np.float32, np.float64) or x.shape[1:] != shape:
        return None
    with np.errstate(over="ignore"):  # the step refuses what has become infinite
        return np.require(x, np.float32, ["C", "A"])


def _spans(count: int, dt_s: Any) -> Array | None:
    """The seconds before each of some calls with a single row."""
    if type(dt_s) in (float, np.float64):  # a whole number may be more than a float can hold
        return np.full(count, dt_s, np.float64)
    plain = type(dt_s) is np.ndarray and dt_s.dtype == np.float64 and dt_s.size == count
    return np.require(dt_s.reshape(count), np.float64, ["C", "A"]) if plain else None


def _between(t_s: Any, last_s: float | None, period_s: float | None) -> Array | None:
    """The seconds between times, which must go forward; the first is a period after a sample that nobody knows."""
    if type(t_s) is not np.ndarray or t_s.dtype != np.float64 or t_s.ndim != 1:
        return None
    spans = np.diff(t_s, prepend=t_s[:1] if last_s is None else last_s)
    if last_s is None:
        spans[0] = period_s
    return spans if np.isfinite(t_s).all() and (spans > 0).all() else None
