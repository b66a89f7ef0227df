"""Ticks as messages of protobuf in the records of MCAP, many at once, and back.

All messages of a model have the same length: every field is there, and numbers have a fixed width. So they are the
rows of an array, whose tags and lengths stand there from the beginning, and NumPy writes a second's worth in one go;
encoding them one by one would hold the interpreter's lock for milliseconds, in which the loop waits. Two kinds there
are, without and with the state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...arrays import Array
from .layout import Layout, Part

__all__ = ["FIELDS", "FIRST", "Encoded", "Messages", "field_numbers"]

FIRST = 16  # number of the first field of a part; those below have a tag of one byte
_RESERVED = range(19_000, 20_000)  # by protobuf
_FIXED32, _FIXED64, _VARINT, _BYTES = 5, 1, 0, 2  # kinds of fields in protobuf
_WIRES = {"float32": ("<f4", _FIXED32), "float64": ("<f8", _FIXED64), "int32": ("<i4", _FIXED32)}
_BYTE = ("<u4", _FIXED32)  # a single one; several are a field of bytes

# The fields that every tick has: what is in memory, in the message, and its kind. Their numbers are 1, 2, ...
FIELDS = {
    "tick": ("<i8", _FIXED64),
    "t_s": ("<f8", _FIXED64),
    "mono_ns": ("<i8", _FIXED64),
    "wall_ns": ("<i8", _FIXED64),
    "dt_s": ("<f8", _FIXED64),
    "stepped": ("<u4", _FIXED32),
    "status": ("<u1", _VARINT),
    "reset": ("<u1", _VARINT),
    "limited": ("<u1", _VARINT),
}
_RECORD = [  # of MCAP: a message
    ("opcode", "<u1"),
    ("length", "<u8"),
    ("channel", "<u2"),
    ("sequence", "<u4"),
    ("log_time", "<u8"),
    ("publish_time", "<u8"),
]
_OPCODE = 5
_AFTER_LENGTH = 22  # bytes of the others


def field_numbers(layout: Layout) -> dict[str, int]:
    """The number of each field of the parts, by its name."""
    names = [name for part in layout.parts for name in part.fields]
    numbers = (k if k < _RESERVED.start else k + len(_RESERVED) for k in range(FIRST, FIRST + len(names)))
    return dict(zip(names, numbers, strict=True))


class _Run(NamedTuple):
    """Fields of a part that lie in a message one like the other.

    Args:
        part: The part.
        key: Their name in the rows.
        columns: Which of the part's features they are; `None` if they are all numbers of the part, as one list.
        scalars: Whether each is a single number.
    """

    part: Part
    key: str
    columns: slice | None
    scalars: bool


@dataclass
class _Kind:
    """Messages of one kind: their runs, the dtype of a row, and a row with tags and lengths and no numbers."""

    runs: list[_Run] = field(default_factory=list)
    dtype: np.dtype[np.void] = field(default_factory=lambda: np.dtype([]))
    template: Array = field(default_factory=lambda: np.zeros(()))

    @property
    def payload(self) -> int:
        """Bytes of a message, without the head of its record."""
        return self.dtype.itemsize - _HEAD_BYTES


_HEAD_BYTES = np.dtype(_RECORD).itemsize


class Encoded(NamedTuple):
    """Records of messages.

    Args:
        data: One after the other.
        log_times: Nanoseconds, uint64 (n,).
        offsets: Where each begins in `data`, (n,).
    """

    data: bytes
    log_times: Array
    offsets: Array


class Messages:
    """Encodes and decodes the ticks of a layout.

    Args:
        layout: What a tick consists of.
        channel: Number of their channel in the file.
    """

    def __init__(self, layout: Layout, channel: int = 1) -> None:
        self._layout, self._channel = layout, channel
        plain = [part for part in layout.parts if part.role != "state"]
        self._plain, self._whole = (_kind(layout, parts, channel) for parts in (plain, [*layout.parts]))

    @property
    def longest(self) -> int:
        """Bytes of a record with the state."""
        return self._whole.dtype.itemsize

    def encode(self, ticks: Array) -> Encoded:
        """The records of ticks, (n,) of the layout's dtype."""
        with_state = ticks["has_state"] != 0
        sizes = np.where(with_state, self._whole.dtype.itemsize, self._plain.dtype.itemsize)
        ends = np.cumsum(sizes)
        times = np.maximum(ticks["wall_ns"], 0).astype("<u8")
        return Encoded(self._data(ticks, with_state), times, ends - sizes)

    def _data(self, ticks: Array, with_state: Array) -> bytes:
        if not with_state.any():
            return _rows(ticks, self._plain).tobytes()
        if with_state.all():
            return _rows(ticks, self._whole).tobytes()
        kinds = (_rows(ticks[~with_state], self._plain), _rows(ticks[with_state], self._whole))
        turns = np.flatnonzero(np.diff(with_state, prepend=~with_state[:1], append=~with_state[-1:]))
        parts, done = [], [0, 0]
        for first, end in pairwise(turns.tolist()):
            own = int(with_state[first])
            parts.append(kinds[own][done[own] : done[own] + end - first].tobytes())
            done[own] += end - first
        return b"".join(parts)

    def decode(self, payloads: list[bytes]) -> Array:
        """Ticks, (n,) of the layout's dtype, out of messages.

        Raises:
            ValueError: If one is no message of this layout.
        """
        ticks = np.zeros(len(payloads), self._layout.dtype)
        lengths = np.array([len(payload) for payload in payloads], np.int64)
        for kind in (self._plain, self._whole):
            own = np.flatnonzero(lengths == kind.payload)
            if len(own):
                ticks[own] = self._ticks(b"".join(payloads[k] for k in own), kind)
                lengths[own] = 0
        if lengths.any():
            raise ValueError(f"a message of {lengths.max():,} bytes is no tick of this model")
        return ticks

    def _ticks(self, data: bytes, kind: _Kind) -> Array:
        rows = np.zeros(len(data) // kind.payload, kind.dtype)
        rows.view(np.uint8).reshape(len(rows), -1)[:, _HEAD_BYTES:] = np.frombuffer(data, np.uint8).reshape(
            len(rows), -1
        )
        _check_tags(rows, kind)
        ticks = np.zeros(len(rows), self._layout.dtype)
        for name in FIELDS:
            ticks[name] = rows[name]["value"]
        ticks["has_state"] = kind is self._whole
        if (
            max(ticks[name].max() for name in ("status", "reset", "limited")) > 127
            or max(ticks[name].max() for name in ("reset", "limited")) > 1
        ):
            raise ValueError("a message holds a number that is none of its field")
        for run in kind.runs:
            flat = ticks[run.part.key].reshape(len(rows), -1, len(run.part.columns) or 1)
            values = rows[run.key]["value"]
            if run.columns is None:
                ticks[run.part.key] = values.reshape(ticks[run.part.key].shape)
            elif run.scalars:
                flat[:, 0, run.columns] = values
            else:
                flat[:, :, run.columns.start] = values
        return ticks


def _rows(ticks: Array, kind: _Kind) -> Array:
    """Messages of one kind, as rows."""
    rows = np.empty(len(ticks), kind.dtype)
    rows[...] = kind.template
    rows["sequence"] = ticks["tick"] & 0xFFFFFFFF
    rows["log_time"] = np.maximum(ticks["wall_ns"], 0)
    rows["publish_time"] = np.maximum(ticks["mono_ns"], 0)
    for name in FIELDS:
        rows[name]["value"] = ticks[name]
    for run in kind.runs:
        values = ticks[run.part.key]
        if run.columns is None:
            rows[run.key]["value"] = values.reshape(len(ticks), -1)
            continue
        flat = values.reshape(len(ticks), -1, len(run.part.columns))
        rows[run.key]["value"] = flat[:, 0, run.columns] if run.scalars else flat[:, :, run.columns.start]
    return rows


def _check_tags(rows: Array, kind: _Kind) -> None:
    for name in [*FIELDS, *(run.key for run in kind.runs)]:
        if (rows[name]["tag"] != kind.template[name]["tag"]).any():
            raise ValueError("a message is no tick of this model: its fields are others")


def _kind(layout: Layout, parts: list[Part], channel: int) -> _Kind:
    """Lay messages of some parts out."""
    kind = _Kind()
    fields: list[tuple[str, np.dtype[np.void], Array]] = []
    for k, (name, (dtype, wire)) in enumerate(FIELDS.items(), 1):
        fields.append((name, _slot(1, dtype), _varint(k << 3 | wire)))
    numbers = field_numbers(layout)
    for part in parts:
        for run, slot, tags in _runs(part, numbers):
            kind.runs.append(run)
            fields.append((run.key, slot, tags))
    kind.dtype = np.dtype([*_RECORD, *((name, slot) for name, slot, _ in fields)])
    template = np.zeros((), kind.dtype)
    template["opcode"], template["channel"] = _OPCODE, channel
    template["length"] = kind.dtype.itemsize - _HEAD_BYTES + _AFTER_LENGTH
    for name, _, tags in fields:
        template[name]["tag"] = tags
    kind.template = template
    return kind


def _slot(tag: int, dtype: str, shape: tuple[int, ...] = (), count: int | None = None) -> np.dtype[np.void]:
    """A field in a row, tag and value; `count` of them, one behind the other."""
    one = np.dtype([("tag", "u1", (tag,)), ("value", dtype, shape)])
    return one if count is None else np.dtype((one, (count,)))


def _runs(part: Part, numbers: dict[str, int]) -> list[tuple[_Run, np.dtype[np.void], Array]]:
    """The fields of a part, those together that have tags of one length."""
    bytes_ = part.dtype == "uint8"
    many = part.size // max(1, len(part.columns))
    if not part.columns or many > 1:
        dtype, _ = ("<u1", _BYTES) if bytes_ else _WIRES[part.dtype]
        found = []
        for k, name in enumerate(part.fields):
            length = _varint(many * np.dtype(dtype).itemsize)
            tag = np.concatenate([_varint(numbers[name] << 3 | _BYTES), length])
            run = _Run(part, f"{part.key}.{k}", slice(k, k + 1) if part.columns else None, scalars=False)
            found.append((run, _slot(len(tag), dtype, (many,)), tag))
        return found
    dtype, wire = _BYTE if bytes_ else _WIRES[part.dtype]
    tags = [_varint(numbers[name] << 3 | wire) for name in part.fields]
    starts = [0, *(k for k in range(1, len(tags)) if len(tags[k]) != len(tags[k - 1])), len(tags)]
    return [
        (
            _Run(part, f"{part.key}.{first}", slice(first, end), scalars=True),
            _slot(len(tags[first]), dtype, count=end - first),
            np.stack(tags[first:end]),
        )
        for first, end in pairwise(starts)
    ]


def _varint(number: int) -> Array:
    """A whole number as protobuf writes tags and lengths."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return np.frombuffer(bytes(found), np.uint8)
