"""A ring of ticks in memory, allocated once: a loop puts them in, and a writer takes them out.

One thread puts and one takes. Neither waits for the other: of the two positions each thread moves its own alone, after
what it stands for is there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...bundle.manifest import Manifest
from ...times import stamp_seconds
from ..compiled.extension import packer
from ..guard.status import Tick
from ..input_port import named_values
from ..state import State
from .layout import HEAD, Layout, Part

__all__ = ["MOST_BYTES", "Ring", "Starts", "Taken"]

MOST_BYTES = 64 << 20  # of memory; of large ticks, those with pictures for instance, there are fewer
_FEWEST = 16  # ticks, however large
_CODES = {"<i8": "q", "<f8": "d", "<u4": "I", "<u1": "B"}
_HEAD = "<" + "".join(_CODES[kind] for kind in HEAD.values())
_NAN = math.nan

# States, each with the number of the tick that begins from it, and whether no tick led there.
Starts = list[tuple[int, State, bool]]


class Taken(NamedTuple):
    """What the writer takes: ticks, (n,) of the layout's dtype, and whole states that came with them."""

    ticks: Array
    states: Starts


class Ring:
    """See the module's text.

    Args:
        manifest: The model's.
        layout: Of its ticks.
        capacity: How many ticks it holds, if they take no more than `MOST_BYTES`.

    Attributes:
        capacity: How many it holds.
        count: How many were put or dropped.
        dropped: How many found no place.
    """

    def __init__(self, manifest: Manifest, layout: Layout, capacity: int) -> None:
        dtype = layout.dtype
        self.capacity = min(capacity, max(_FEWEST, MOST_BYTES // dtype.itemsize))
        self.count = self.dropped = 0
        self._size = dtype.itemsize
        self._memory = bytearray(b"\1") * (self.capacity * self._size)  # every page is there before the loop begins
        self._ring = np.frombuffer(self._memory, dtype)
        self._head = self._tail = 0
        self._states: list[Starts | None] = [None] * self.capacity
        self._tensors = {t.name: t for t in manifest.streamed}
        samples = [part for part in layout.parts if part.role != "state"]
        # A tick in one call: of all ways to copy a few numbers this is the quickest, and it converts nothing.
        self._pack = struct.Struct(_HEAD + _bytes_of(samples, dtype)).pack_into
        self._pack_head = struct.Struct(_HEAD).pack_into
        self._x, self._y, self._raw, self._state = (self._views(layout, r) for r in ("input", "output", "raw", "state"))
        self._one = len(self._x) == len(self._y) == 1
        (x, _), (y, _) = self._x[0], self._y[0]
        self._x_shape, self._y_shape = x.shape, y.shape
        self._x_dtype, self._y_dtype = np.dtype(x.memory), np.dtype(y.memory)
        plain = self._one and self._x_dtype == self._y_dtype == np.float32
        self._in_c = packer() if plain else None
        self._places = self._of_layout(dtype) if plain else ()
        self._flag = list(HEAD).index("has_state") - len(HEAD) + struct.calcsize(_HEAD)  # the last of single bytes

    def _of_layout(self, dtype: np.dtype[np.void]) -> tuple[int, ...]:
        """Of a tick with one input and one output: its bytes, and where they are and how many numbers they have."""
        (x, _), (y, _), (raw, _) = self._x[0], self._y[0], self._raw[0]
        starts = {name: dtype.fields[name][1] for name in (x.key, y.key, raw.key)} if dtype.fields else {}
        return dtype.itemsize, starts[x.key], x.size, starts[y.key], starts[raw.key], y.size

    def _views(self, layout: Layout, role: str) -> list[tuple[Part, Array]]:
        return [(part, self._ring[part.key]) for part in layout.of_role(role)]

    @property
    def is_full(self) -> bool:
        """Whether the next tick would find no place."""
        return self._head - self._tail >= self.capacity

    def put(self, tick: Tick, t_s: Any, mono_ns: int, wall_ns: int, state: Any, starts: Starts | None) -> bool:
        """Copy a tick; `False` if there is no place for it.

        Args:
            tick: What became of a sample.
            t_s: Its time.
            mono_ns: By the monotonic clock.
            wall_ns: By the wall clock.
            state: After it, a `State` or its tensors; `None` if it is not recorded with this tick.
            starts: States that the loop went on from since the last tick.
        """
        number, head = self.count, self._head
        self.count = number + 1
        if head - self._tail >= self.capacity:
            self.dropped += 1
            return False
        k = head % self.capacity
        pack = self._in_c
        if pack is None or not pack(
            self._memory, k * self._size, self._places, tick, number, t_s, mono_ns, wall_ns, state is not None
        ):
            self._put(k, number, tick, t_s, mono_ns, wall_ns, state)
        if state is not None:
            self._put_state(k, number, state, starts)
        elif starts:
            self._states[k] = starts
        self._head = head + 1
        return True

    def _put(self, k: int, number: int, tick: Tick, t_s: Any, mono_ns: int, wall_ns: int, state: Any) -> None:
        """What the extension has not written: the usual in one call of `struct`."""
        status, y, raw, stepped, reset, dt_s, x, _, limited = tick
        try:
            if not self._one or not stepped or x.shape != self._x_shape or y.shape != self._y_shape:
                raise TypeError
            y_bytes = y.tobytes() if y.dtype is self._y_dtype else _converted(y, self._y_dtype)
            self._pack(
                self._memory,
                k * self._size,
                number,
                _NAN if t_s is None else t_s,
                mono_ns,
                wall_ns,
                _NAN if dt_s is None else dt_s,
                stepped,
                status,
                reset,
                limited,
                state is not None,
                x.tobytes() if x.dtype is self._x_dtype else _converted(x, self._x_dtype),
                y_bytes,
                y_bytes if raw is y else raw.tobytes(),
            )
        except Exception:  # whatever a sensor or a user's function gave, the loop goes on
            self._put_any(k, number, tick, t_s, mono_ns, wall_ns, state)

    def _put_any(self, k: int, number: int, tick: Tick, t_s: Any, mono_ns: int, wall_ns: int, state: Any) -> None:
        """What is not one array of the right kind: several, refused samples, times of other types, or none at all."""
        numbers = (number, _seconds(t_s), _whole(mono_ns), _whole(wall_ns), _seconds(tick.dt_s))
        flags = (bool(tick.reset), bool(tick.limited), state is not None)
        self._pack_head(self._memory, k * self._size, *numbers, tick.stepped, tick.status, *flags)
        with np.errstate(all="ignore"):
            if tick.stepped and self._are_plain(tick):
                for group, value in ((self._x, tick.x), (self._y, tick.y), (self._raw, tick.raw)):
                    for part, view in group:
                        view[k] = value[part.tensor] if len(group) > 1 else value
                return
            for part, view in self._x:
                view[k] = _numbers(self._sample(tick.x, part), part)
            for group, value in ((self._y, tick.y), (self._raw, tick.raw)):
                for part, view in group:
                    view[k] = _numbers(value.get(part.tensor) if isinstance(value, Mapping) else value, part)

    def _are_plain(self, tick: Tick) -> bool:
        """Whether a sample that was stepped, and its results, are plain arrays of the right shapes, by name."""
        for group, value in ((self._x, tick.x), (self._y, tick.y), (self._raw, tick.raw)):
            if len(group) > 1 and value.__class__ is not dict:
                return False
            for part, _ in group:
                array = value.get(part.tensor) if len(group) > 1 else value
                if array.__class__ is not np.ndarray or array.shape != part.shape or array.dtype.kind not in "fiub":
                    return False
        return True

    def _sample(self, x: Any, part: Part) -> Any:
        if len(self._x) > 1:
            x = x.get(part.tensor) if isinstance(x, Mapping) else None
        if isinstance(x, np.ndarray) and x.dtype.names is None:
            return x
        try:
            return named_values(x, self._tensors[part.tensor])
        except Exception:  # a sample that was refused may be anything
            return None

    def _put_state(self, k: int, number: int, state: Any, starts: Starts | None) -> None:
        try:
            tensors = state.tensors if isinstance(state, State) else state
            for part, view in self._state:
                view[k] = tensors[part.tensor]
        except Exception:  # as above
            self._memory[k * self._size + self._flag] = 0
            state = None
        if isinstance(state, State):
            starts = [*(starts or ()), (number + 1, state, False)]
        self._states[k] = starts

    def take(self) -> Taken:
        """All ticks that are there, copied; their places are free then."""
        tail, head = self._tail, self._head
        places = np.arange(tail, head) % self.capacity
        states: Starts = []
        for place in places.tolist():
            own = self._states[place]
            if own is not None:
                states += own
                self._states[place] = None
        ticks = self._ring[places]
        self._tail = head
        return Taken(ticks, states)


def _bytes_of(parts: list[Part], dtype: np.dtype[np.void]) -> str:
    """How `struct` spells the memory of parts behind the head."""
    spelled, place = "", struct.calcsize(_HEAD)
    for part in parts:
        start = dtype.fields[part.key][1] if dtype.fields else 0
        size = part.size * np.dtype(part.memory).itemsize
        spelled += f"{start - place}x{size}s"
        place = start + size
    return spelled


def _converted(array: Any, dtype: np.dtype[Any]) -> bytes:
    """The memory of an array of another dtype, as the model saw it.

    Raises:
        TypeError: If it is no plain array of numbers.
    """
    if array.__class__ is not np.ndarray or array.dtype.kind not in "fiub":
        raise TypeError
    memory: bytes = array.astype(dtype).tobytes()
    return memory


def _numbers(value: Any, part: Part) -> Any:
    """A value as numbers of the part's shape; NaN, or 0 where there is no NaN, if it is none."""
    none = math.nan if part.dtype.startswith("float") else 0
    if value is None:
        return none
    try:
        array = np.asarray(value)
        return array.astype(part.memory).reshape(part.shape) if array.dtype.kind in "fiub" else none
    except Exception:  # as above
        return none


def _seconds(t_s: Any) -> float:
    """A time as float64; NaN where there is none, or it is none."""
    if t_s is None:
        return math.nan
    try:
        return float(stamp_seconds(t_s, "t_s"))
    except Exception:  # as above
        return math.nan


def _whole(value: Any) -> int:
    try:
        return min(max(int(value), -(1 << 63)), (1 << 63) - 1)
    except Exception:  # as above
        return 0
