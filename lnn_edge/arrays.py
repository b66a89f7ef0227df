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
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` is no array: its rows have different lengths or shapes") from error


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
    tensor = tensor.detach().cpu()
    wider = str(tensor.dtype) in ("torch.bfloat16",) or "float8" in str(tensor.dtype)
    array: Array = (tensor.float() if wider else tensor).numpy()  # dtypes that NumPy lacks
    return array
