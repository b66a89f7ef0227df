"""Values of many rows of which some cannot be used: those become NaN, which no step takes, and the others go on."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...arrays import Array, plain_array
from ...errors import NonFiniteError
from ...named import column_names, matched

__all__ = ["usable_rows", "usable_values", "without_masks"]

_NO_VALUE = ("NAType", "NaTType")  # pandas' own, which is not imported for them


def without_masks(value: Any) -> Any:
    """A masked array of numbers as a plain one, with NaN where it is masked; anything else as it is."""
    if not isinstance(value, np.ma.MaskedArray) or value.dtype.kind not in "fiu":
        return value
    wide: Any = value if value.dtype.kind == "f" else value.astype(np.float64)
    return np.asarray(wide.filled(np.nan))


def usable_rows(value: Any, shape: tuple[int, ...], features: Sequence[str], name: str) -> Array | None:
    """Samples that were refused as a whole, float64 (rows, ...) with NaN in each row that is none.

    Args:
        value: A list of rows, an array of objects, a frame, or a dict of columns.
        shape: Of a row.
        features: Names of its columns, if they have any.
        name: Of the input.

    Returns:
        The rows, or `None` where it is no matter of some of them.
    """
    names = column_names(value)
    if names is None:
        return usable_values(value, shape, lambda row: _row(row, features, name))
    if set(names) != set(features) or shape != (len(features),):
        return None
    columns = [getattr(value, own) if isinstance(value, tuple) else value[own] for own in features]
    found = [usable_values(column, (), _number) for column in columns]
    if any(column is None for column in found) or len({len(column) for column in columns}) > 1:
        return None
    return np.stack([column for column in found if column is not None], axis=-1)


def usable_values(values: Any, shape: tuple[int, ...], read: Callable[[Any], Array | float]) -> Array | None:
    """What can be read of some values, float64 (values, ...), with NaN for the others.

    Args:
        values: A list or another sequence, or what NumPy makes an array of.
        shape: Of what each of them gives; where it ends with 1, that axis may be left out.
        read: Gives the numbers of one value; of what is none it raises, as the value's own methods may, whatever they
            like.

    Returns:
        The numbers; `None` where it is no such list, or all values that are there are wrong.
    """
    values = _one_by_one(values)
    if values is None:
        return None
    found, wrong, right = np.full((len(values), *shape), np.nan), 0, 0
    for k in range(len(values)):
        try:
            value = values[k]
            if not _is_missing(value):
                found[k] = _shaped(read(value), shape)
                right += 1
        except NonFiniteError:  # a mask: nothing is there
            continue
        except Exception:  # an object that is no sample may raise anything when it is asked for its numbers
            wrong += 1
    return None if wrong and not right else found


def _one_by_one(values: Any) -> Any:
    """What has them by number; `None` where there is no such thing, or no more than one value."""
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return values
    if not hasattr(values, "__array__") or hasattr(values, "detach"):
        return None
    array = without_masks(np.asanyarray(values))
    return array if array.ndim else None


def _shaped(value: Array | float, shape: tuple[int, ...]) -> Array:
    array = np.asarray(value, np.float64)
    if array.shape != shape and (*array.shape, 1) != shape:
        raise ValueError(f"shape {array.shape}, expected {shape}")
    return array.reshape(shape)


def _row(row: Any, features: Sequence[str], name: str) -> Array:
    """The numbers of one row."""
    array = plain_array(name, matched(row, features, name, stepped=True))
    if array.dtype == object:
        return np.array([_number(item) for item in array.ravel()]).reshape(array.shape)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"dtype {array.dtype}")
    return array


def _number(item: Any) -> float:
    if _is_missing(item):
        return math.nan
    if isinstance(item, (bool, np.bool_)) or not isinstance(item, numbers.Real):
        raise TypeError(type(item).__name__)
    try:
        return float(item)
    except OverflowError:  # a whole number beyond what a float holds
        return math.inf


def _is_missing(item: Any) -> bool:
    return (
        item is None
        or item is np.ma.masked
        or type(item).__name__ in _NO_VALUE
        or (isinstance(item, (np.timedelta64, np.datetime64)) and bool(np.isnat(item)))
    )
