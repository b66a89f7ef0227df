"""Arrays: their type in signatures, what callers pass made into one, and the check that a buffer is finite."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import isfinite

__all__ = ["Array", "finite_check", "plain_array", "shape_of"]

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
else:  # all that a start needs to know of it
    Array = np.ndarray

_FEW = 128  # numbers whose bytes are read sooner than NumPy is called
_HIGHEST = 3 if sys.byteorder == "little" else 0  # of the bytes of a float32: its sign and most of its exponent


def plain_array(name: str, value: Any) -> Array:
    """What a caller passes as an array of NumPy's, of any dtype; tensors of torch from any device, without gradients.

    Raises:
        TypeError: If it is a tensor that holds no plain values.
        ValueError: If it is a list of rows of different lengths.
    """
    if hasattr(value, "detach"):
        return _from_torch(name, value)
    try:
        return np.asarray(_without_tensors(name, value) if isinstance(value, (list, tuple)) else value)
    except ValueError as error:
        raise ValueError(f"`{name}` is no array: its rows have different lengths or shapes") from error


def _without_tensors(name: str, value: Any) -> Any:
    """A list with torch's tensors in it as one of arrays: NumPy takes none that has a gradient."""
    return [plain_array(name, part) for part in value] if _holds_tensors(value) else value


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensors, value))
    return hasattr(value, "detach")


def shape_of(name: str, value: Any) -> tuple[int, ...]:
    """The shape of what a caller passes; what has one is not converted to tell it.

    Raises:
        ValueError: If it is a list of rows of different lengths.
    """
    shape = getattr(value, "shape", None)
    return tuple(shape) if isinstance(shape, tuple) else plain_array(name, value).shape


def finite_check(numbers: Array) -> Callable[[], bool]:
    """What tells, at any time, whether all numbers of a flat array in memory are finite.

    A call of NumPy costs half a microsecond whatever the size. The highest byte of a float32 that is NaN or infinite is
    0x7f or 0xff, and else only that of one of 2^127 (1.7e38) or more: where no such byte is there, nothing else needs
    to be asked.

    Args:
        numbers: One-dimensional and contiguous, of any dtype that NumPy can call finite; the buffer that is checked.
    """
    flags = bytearray(numbers.size)
    shown = np.frombuffer(flags, np.bool_)

    def by_numpy() -> bool:
        isfinite(numbers, shown)
        return 0 not in flags  # one memchr; ndarray.all() costs four times as much as the comparison itself

    if numbers.dtype != np.float32 or numbers.size > _FEW:
        return by_numpy
    read = numbers.data.tobytes

    def by_bytes() -> bool:
        highest = read()[_HIGHEST::4]
        return (0x7F not in highest and 0xFF not in highest) or by_numpy()

    return by_bytes


def _from_torch(name: str, tensor: Any) -> Array:
    if str(getattr(tensor, "layout", "torch.strided")) != "torch.strided":
        raise TypeError(f"`{name}` is a sparse tensor, expected a plain one. Type: {name}.to_dense()")
    if getattr(tensor, "is_meta", False):
        raise TypeError(f"`{name}` is a tensor on the device 'meta', which holds no values")
    if getattr(tensor, "is_quantized", False):
        raise TypeError(f"`{name}` is a quantized tensor, expected a plain one. Type: {name}.dequantize()")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    wider = str(tensor.dtype) in ("torch.bfloat16",) or "float8" in str(tensor.dtype)
    array: Array = (tensor.float() if wider else tensor).numpy()  # dtypes that NumPy lacks
    return array
