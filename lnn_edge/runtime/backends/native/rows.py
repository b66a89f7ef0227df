"""Many streams in one call of a compiled step, one in each lane of a register."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....arrays import Array
from ....bundle.manifest import Manifest
from ....bundle.spec import Tensor
from ....codegen.form import ROWS_ABI
from ....errors import BackendUnavailable
from ...compiled.extension import side_by_side
from .library import opened

__all__ = ["NativeRows"]

_CACHE_LINE = 64
_FLOAT32 = np.dtype(np.float32)  # NumPy keeps one object per native dtype
_BYTE = ctypes.c_char
_ANY = (-math.inf, math.inf)


class _Facts(ctypes.Structure):
    """What a library says of itself: see `lnn_edge.codegen.rows`."""

    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("lanes", ctypes.c_uint32),
        ("inputs", ctypes.c_uint64),
        ("states", ctypes.c_uint64),
        ("outputs", ctypes.c_uint64),
        ("work", ctypes.c_uint64),
        ("digest", ctypes.c_ubyte * 68),
    )


class NativeRows:
    """A library that steps streams side by side. It keeps nothing between calls, so threads share it.

    Args:
        data: The library's bytes.
        prefix: Of its names.
        digest: What it must have been made from.
        manifest: Of the bundle.

    Raises:
        BackendUnavailable: If it cannot be loaded, or is of something else.
    """

    def __init__(self, data: bytes, prefix: str, digest: str, manifest: Manifest) -> None:
        try:
            library = opened(data)
            facts = _Facts.in_dll(library, f"{prefix}_about")
            self._rows: Any = getattr(library, f"{prefix}_rows")
        except (OSError, AttributeError, ValueError) as error:
            raise BackendUnavailable(f"the compiled step of many streams cannot be loaded: {error}") from error
        self._in_c = side_by_side()
        self._function = ctypes.cast(self._rows, ctypes.c_void_p).value or 0
        self._rows.restype = None
        self._rows.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_void_p] * 4]
        self._work, self._free = int(facts.work), threading.local()
        self._inputs = [t.name for t in manifest.streamed]
        self._states = {s.input: s.shape[1:] for s in manifest.states}
        self._outputs = {t.name: t.shape[1:] for t in manifest.outputs}
        self._range = manifest.time.dt_range_s if manifest.time.mode == "measured" else None
        self._limits = _limits(manifest.streamed, timed=self._range is not None)
        self._limits_at = None if self._limits is None else _address(self._limits)
        moved = len(self._inputs) + (self._range is not None) + 2 * len(self._states) + len(self._outputs)
        self._places = ctypes.c_void_p * moved
        inputs = [math.prod(t.shape[1:]) for t in manifest.streamed] + [1] * (self._range is not None)
        self._sizes = *inputs, *map(math.prod, self._states.values())  # of a row of each thing that goes in
        self._shapes = *self._outputs.values(), *self._states.values()  # of a row of each that comes out
        counts = sum(inputs), *(sum(map(math.prod, kind.values())) for kind in (self._states, self._outputs))
        if facts.abi != ROWS_ABI or bytes(facts.digest).rstrip(b"\0").decode() != digest:
            raise BackendUnavailable("the compiled step of many streams is of another bundle or version")
        if (facts.inputs, facts.states, facts.outputs) != counts:
            raise BackendUnavailable("the compiled step of many streams takes other numbers than the bundle")

    def step(
        self, x: Mapping[str, Array], state: Mapping[str, Array], dt_s: Array | None
    ) -> tuple[dict[str, Array], dict[str, Array], Array]:
        """Advance all rows; see `lnn_edge.backend_protocols.StepsRows`."""
        given = [_plain(x[name]) for name in self._inputs]
        count, may = len(given[0]), None
        if dt_s is not None and self._range is not None:
            may = (dt_s >= self._range[0]) & (dt_s <= self._range[1])
            given.append(_plain(dt_s))
        given += [_plain(state[name]) for name in self._states]
        if self._in_c is not None:
            *made, ok = self._in_c(
                self._function, self._work, self._limits, tuple(given), self._sizes, self._shapes, may
            )
            y = dict(zip(self._outputs, made, strict=False))
            return y, dict(zip(self._states, made[len(y) :], strict=True)), ok
        return self._through_ctypes(given, count, may)

    def _through_ctypes(
        self, given: list[Array], count: int, may: Array | None
    ) -> tuple[dict[str, Array], dict[str, Array], Array]:
        y = {name: np.empty((count, *shape), np.float32) for name, shape in self._outputs.items()}
        after = {name: np.empty((count, *shape), np.float32) for name, shape in self._states.items()}
        ok = np.empty(count, np.bool_)
        places = self._places(*map(_address, given), *map(_address, y.values()), *map(_address, after.values()))
        # Out of reach while it is in use, for a signal's handler that steps rows as well.
        work, scratch = self._free.__dict__.pop("work", None) or _scratch(self._work)
        self._rows(scratch, count, places, self._limits_at, None if may is None else _address(may), _address(ok))
        self._free.work = work, scratch
        return y, after, ok


def _scratch(nbytes: int) -> tuple[Array, int]:
    """Memory, and the address in it from where a tile lies in whole lines of the cache."""
    work = np.empty(nbytes + _CACHE_LINE, np.uint8)
    address = _address(work)
    return work, address + -address % _CACHE_LINE


def _address(array: Array) -> int:
    """As `array.ctypes.data`, which takes four times as long."""
    if array.size and array.flags.writeable:
        return ctypes.addressof(_BYTE.from_buffer(array.data))
    address: int = array.__array_interface__["data"][0]
    return address


def _plain(array: Array) -> Array:
    """The numbers in float32, row after row."""
    flags = array.flags
    if array.dtype is _FLOAT32 and flags.c_contiguous and flags.aligned:
        return array
    with np.errstate(over="ignore"):  # what has become infinite is refused
        return np.array(array, np.float32, order="C")


def _limits(tensors: Sequence[Tensor], *, timed: bool) -> Array | None:
    """The lowest value of each number of a sample, then the highest ones; `None` where there are none."""
    if not any(feature.limits for tensor in tensors for feature in tensor.features):
        return None
    pairs: list[tuple[float, float]] = []
    for tensor in tensors:
        own = [feature.limits or _ANY for feature in tensor.features] or [_ANY]
        pairs += own * (math.prod(tensor.shape[1:]) // len(own))
    with np.errstate(over="ignore"):  # a limit beyond what the dtype holds is none
        limits: Array = np.array([*pairs, *[_ANY] * timed]).T.astype(np.float32, order="C")
        return limits
