"""The weights of a step program: step.safetensors read in place, as views of its bytes.

The safetensors library copies every tensor before anything can be checked; here nothing is copied at all.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np

from ...arrays import Array
from ...errors import BundleError
from ..spec import PROGRAM_WEIGHTS, Frozen

__all__ = ["MAX_TENSORS", "MAX_WEIGHTS_BYTES", "read_weights"]

MAX_TENSORS = 512
MAX_WEIGHTS_BYTES = 64 << 20
_MAX_HEADER_BYTES = 1 << 20
_DTYPES: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "I32": np.dtype("<i4")}

_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]


class _Tensor(Frozen, frozen=True):
    """One entry of the header: where the tensor lies behind it."""

    dtype: str
    shape: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=32)]
    data_offsets: tuple[_Size, _Size]


def read_weights(data: bytes) -> dict[str, Array]:
    """Tensors by name, read-only views of the data. The numbers in them are not looked at.

    Raises:
        BundleError: If it is no safetensors file of float64 and int32 tensors that follow one another without a gap.
    """
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER_BYTES:
        raise BundleError(f"{PROGRAM_WEIGHTS} has a header of {length} bytes, more than {_MAX_HEADER_BYTES}")
    size = len(data) - 8 - length
    if size > MAX_WEIGHTS_BYTES:
        raise BundleError(f"{PROGRAM_WEIGHTS} holds {size} bytes of tensors, more than the {MAX_WEIGHTS_BYTES} allowed")
    header = data[8 : 8 + length]
    if header.count(b"{") > MAX_TENSORS + 1:  # before anything is made of them
        raise BundleError(f"{PROGRAM_WEIGHTS} has more tensors than the {MAX_TENSORS} that a program may have")
    try:
        entries = msgspec.json.decode(header, type=dict[str, _Tensor])
        _check_places(entries, size)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BundleError(f"{PROGRAM_WEIGHTS} is no safetensors file of weights: {error}") from error
    return {name: _view(data, 8 + length, entry) for name, entry in entries.items()}


def _check_places(entries: dict[str, _Tensor], size: int) -> None:
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in _DTYPES:
            raise ValueError(f"{name[:80]!r} is {entry.dtype[:80]!r}, expected {' or '.join(_DTYPES)}")
        start, stop = entry.data_offsets
        needed = math.prod(entry.shape) * _DTYPES[entry.dtype].itemsize
        if start != end or stop - start != needed:
            raise ValueError(f"{name[:80]!r} lies at {start} to {stop}, expected {needed} bytes from {end}")
        end = stop
    if end != size:
        raise ValueError(f"it holds {size} bytes of tensors, expected {end}")


def _view(data: bytes, header: int, entry: _Tensor) -> Array:
    count, dtype = math.prod(entry.shape), _DTYPES[entry.dtype]
    view: Array = np.frombuffer(data, dtype, count, header + entry.data_offsets[0]) if count else np.zeros(0, dtype)
    return view.reshape(entry.shape)
