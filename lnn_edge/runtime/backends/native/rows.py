"""Many streams in one call of a compiled step, one in each lane of a register."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from ....arrays import Array
from ....bundle.manifest import Manifest
from ....codegen.form import ROWS_ABI
from ....errors import BackendUnavailable
from .library import opened

__all__ = ["NativeRows"]

_CACHE_LINE = 64


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
        self._rows.restype = None
        self._rows.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_void_p] * 5]
        self._lanes, self._work = int(facts.lanes), int(facts.work)
        self._inputs = _places({t.name: t.shape[1:] for t in manifest.streamed})
        self._states = _places({s.input: s.shape[1:] for s in manifest.states})
        self._outputs = _places({t.name: t.shape[1:] for t in manifest.outputs})
        self._measured = manifest.time.mode == "measured"
        self._counts = _count(self._inputs) + self._measured, _count(self._states), _count(self._outputs)
        if facts.abi != ROWS_ABI or bytes(facts.digest).rstrip(b"\0").decode() != digest:
            raise BackendUnavailable("the compiled step of many streams is of another bundle or version")
        if (facts.inputs, facts.states, facts.outputs) != self._counts:
            raise BackendUnavailable("the compiled step of many streams takes other numbers than the bundle")

    def step(
        self, x: Mapping[str, Array], state: Mapping[str, Array], dt_s: Array | None
    ) -> tuple[dict[str, Array], dict[str, Array], Array]:
        """Advance all rows; see `lnn_edge.backends.StepsRows`."""
        count = len(next(iter(x.values())))
        padded = -(-count // self._lanes) * self._lanes
        inputs, states, outputs = self._counts
        given, before, out, after = (np.zeros((own, padded), np.float32) for own in (inputs, states, outputs, states))
        for name, (start, size, _) in self._inputs.items():
            given[start : start + size, :count] = _float32(x[name]).reshape(count, size).T
        if dt_s is not None:
            given[-1, :count] = _float32(dt_s)
        for name, (start, size, _) in self._states.items():
            before[start : start + size, :count] = state[name].reshape(count, size).T
        ok, work = np.empty(padded, np.bool_), np.empty(self._work + _CACHE_LINE, np.uint8)
        scratch = _address(work)
        self._rows(scratch + -scratch % _CACHE_LINE, padded, *map(_address, (given, before, out, after, ok)))
        return _shown(out, self._outputs, count), _shown(after, self._states, count), ok[:count]


def _address(array: Array) -> int:
    """As `array.ctypes.data`, which takes three times as long."""
    address: int = array.__array_interface__["data"][0]
    return address


def _float32(array: Array) -> Array:
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):  # what has become infinite is refused
        return array.astype(np.float32)


_Places = Mapping[str, tuple[int, int, tuple[int, ...]]]  # by name: the first number, how many, and their shape


def _places(shapes: Mapping[str, tuple[int, ...]]) -> _Places:
    found, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        found[name], start = (start, size, shape), start + size
    return found


def _count(places: _Places) -> int:
    return sum(size for _, size, _ in places.values())


def _shown(numbers: Array, places: _Places, count: int) -> dict[str, Array]:
    """Rows in front, over memory where they lie side by side, as the next call wants them."""
    found = {}
    for name, (start, size, shape) in places.items():
        own = numbers[start : start + size, :count].T
        found[name] = own if own.shape[1:] == shape else own.reshape(count, *shape)
    return found
