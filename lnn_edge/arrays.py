"""Arrays: their type in signatures, where docstrings give shapes and dtypes, and what callers pass made into one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "plain_array", "shape_of"]

Array = npt.NDArray[Any]


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
