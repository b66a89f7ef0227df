"""Input ports: what the caller has, checked, named and copied into the backend's buffers, or refused."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy import greater_equal, less_equal, ndarray  # names of their own: look-ups less in every step

from ..arrays import Array, finite_check, plain_array
from ..bundle.spec import Tensor
from ..errors import ModelWarning, NonFiniteError
from ..named import column_names, matched
from ..remarks import warn_caller
from ..wording import choices, limits_advice, listed, typed

__all__ = ["InputPort", "by_name", "describe_shape", "feature_label", "input_port", "named_values"]

_FLOAT64 = np.dtype(np.float64)
_REAL = "fiu"  # NumPy kinds that a sensor may deliver: floating, signed and unsigned integers

_NO_NUMBERS = "cmMV"  # which conversion would make something else of: complex, times, bytes


class InputPort:
    """Checks samples for one input and copies them into the backend's buffer.

    Attributes:
        view: The newest sample in the backend's buffer, in the caller's shape.
        sample: The newest sample's numbers in memory, in its own units.
        legal: The lowest and the highest legal value of each of these numbers, or `None` where all are legal.

    With batch 1 the caller's shape drops the batch axis: (features,) instead of (1, features), and (unroll, features)
    instead of (1, unroll, features) where a call takes a block of samples.
    """

    def __init__(self, tensor: Tensor, buffer: Array, model_name: str) -> None:
        self.tensor = tensor
        self._model_name = model_name
        self._dtype = np.dtype(tensor.dtype)  # NumPy keeps one object per native dtype, so identity is enough
        self.view = buffer[0] if tensor.shape[0] == 1 else buffer
        self.shape: tuple[int, ...] = self.view.shape
        self._flat = buffer.reshape(-1)
        self._is_finite = finite_check(self._flat)
        kind = np.float32 if tensor.dtype == "float32" else np.float64  # which holds every int32
        self._limits = _limits(tensor, kind) if any(f.limits for f in tensor.features) else None
        self.legal = None if self._limits is None else _legal(*self._limits, self._flat.size)
        self._legal_flags = bytearray(2 * buffer.size)
        flags = np.frombuffer(self._legal_flags, np.bool_)
        self._above, self._below = flags[: buffer.size], flags[buffer.size :]
        self.sample: memoryview[Any] = self._flat.data

    def put(self, value: Any) -> None:
        """Check one sample and copy it into the buffer; named columns are matched with those of the features.

        Raises:
            TypeError: If it holds no real numbers.
            ValueError: If its shape or a name is wrong, a value is outside its feature's limits, or one is no whole
                number where the model takes such.
            NonFiniteError: If a value is NaN, infinite or too large for float32.
        """
        given = value
        if type(value) is not ndarray or value.dtype is not self._dtype:
            value = self._converted(value)
        if value.shape != self.shape:
            value = self._with_feature(value)
        self.view[...] = value
        if self.legal is not None:  # what lies there is finite as well, so that nothing else needs to be asked
            low, high = self.legal
            greater_equal(self._flat, low, self._above)
            less_equal(self._flat, high, self._below)
            if 0 not in self._legal_flags:
                return
        if not self._is_finite():
            raise NonFiniteError(self._not_finite_message(given))
        if self._limits is not None:
            self._check_limits(*self._limits)

    def by_place(self, value: Any) -> Any:
        """What a caller has for this input, with named columns in the order of its features.

        Raises:
            TypeError, ValueError, NonFiniteError: As `put`.
        """
        return named_values(value, self.tensor)

    def read(self) -> Array:
        """A copy of the sample in the buffer, as the caller passed it."""
        copy: Array = self.view.copy()
        return copy

    def _with_feature(self, value: Array) -> Array:
        """A number for each row and sample, where there is one feature: its axis may be left out."""
        if self.shape != (*value.shape, 1):
            raise ValueError(self._shape_message(value.shape))
        return value[..., np.newaxis]

    def _converted(self, value: Any) -> Array:
        plain = type(value) is ndarray and value.dtype is _FLOAT64 and value.shape == self.shape  # no names, nor masks
        array = value if plain else self._real(value, self.tensor.dtype)
        if self.tensor.dtype != "float32":
            return self._whole(array)
        with np.errstate(over="ignore"):
            return array.astype(np.float32)

    def _real(self, value: Any, best: str) -> Array:
        """What the caller has as an array of real numbers; `best` is the dtype that it had better have."""
        value = named_values(value, self.tensor)
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape != self.shape and (*shape, 1) != self.shape:
            raise ValueError(self._shape_message(tuple(shape)))  # before what may be large is converted
        try:
            array = plain_array(self.tensor.name, value)
        except ValueError as error:  # rows of different lengths
            raise ValueError(f"{error}. Expected {self._expected()}") from error
        if array.dtype == object and not array.ndim:
            raise TypeError(f"`{self.tensor.name}` is a {type(value).__name__}, expected {self._expected()}")
        if array.dtype.kind not in _REAL:
            convert = "" if array.dtype.kind in _NO_NUMBERS else f". Type: np.asarray(x, dtype=np.{best})"
            takes = "whole" if self.tensor.dtype != "float32" else "real"
            raise TypeError(
                f"`{self.tensor.name}` has dtype {array.dtype}, but model '{self._model_name}' takes {takes} numbers "
                f"({best} best){convert}"
            )
        if array.shape != self.shape and (*array.shape, 1) != self.shape:
            raise ValueError(self._shape_message(array.shape))
        return array

    def _whole(self, array: Array) -> Array:
        """Whole numbers that the input's dtype holds, of any dtype."""
        held = np.iinfo(self._dtype)
        with np.errstate(invalid="ignore"):
            bad = ~((array >= held.min) & (array <= held.max) & (array == np.floor(array)))
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            expected = f"expected whole numbers from {held.min} to {held.max} ({self.tensor.dtype})"
            kind = ValueError if np.isfinite(array[index]) else NonFiniteError
            raise kind(self._value_message(bad, expected, array))
        return array.astype(self._dtype)

    def _expected(self) -> str:
        labels = [f.name for f in self.tensor.features]
        count = self._flat.size // math.prod(self.tensor.shape)
        each = "sample" if count == 1 else f"block of {count} samples"
        if self.tensor.constant:
            each = "sequence"
        return f"{describe_shape(self.shape)} per {each}" + (f": {listed(labels)}" if labels else "")

    def _shape_message(self, shape: tuple[int, ...]) -> str:
        message = f"`{self.tensor.name}` has shape {shape}, but model '{self._model_name}' takes {self._expected()}."
        one = self.tensor.shape[1:] if self.tensor.shape[0] == 1 else self.tensor.shape
        calls = self._flat.size // math.prod(self.tensor.shape)
        several = shape[1:] in (one, () if one == (1,) else one) and shape[:1] and shape[0] > calls
        if several and not self.tensor.constant:
            return f"{message} If these are several samples, type: stream.run(x)"
        if tuple(n for n in shape if n != 1) == tuple(n for n in self.shape if n != 1):
            return f"{message} Type: np.reshape(x, {self.shape})"
        return message

    def _not_finite_message(self, given: Any) -> str:
        """`given` is what the caller passed: a finite number may be infinite only in the buffer's float32."""
        bad, values = ~np.isfinite(self.view), self._real(given, self.tensor.dtype).reshape(self.shape)
        if np.isfinite(values[bad][0]):
            most = f"{np.finfo(np.float32).max:.2g}"
            expected = f"that is more than float32 can hold ({most}): check its unit and scale"
            return self._value_message(bad, expected, values)
        return self._value_message(bad, "expected finite numbers", values)

    def _value_message(self, bad: Array, expected: str, values: Array) -> str:
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        label = feature_label(self.tensor, index or (0,))
        what = "constant was refused" if self.tensor.constant else "sample was refused and the state is unchanged"
        return f"`{self.tensor.name}` holds {values[index]} at {label}; {expected}. The {what}"

    def _check_limits(self, low: Array, high: Array) -> None:
        values = self._compared()
        bad = (values < low) | (values > high)
        if bad.any():
            column = int(np.argwhere(bad)[0][-1])
            kind = float if self.tensor.dtype == "float32" else int
            allowed = [kind(side) for side in self.tensor.features[column].limits or ()]
            raise ValueError(f"{self._value_message(bad, f'its legal range is {allowed}', values)}. {_wider()}")

    def _compared(self) -> Array:
        """The sample in its own units."""
        return self.view


def _wider() -> str:
    margin = typed("a larger `margin`", "a larger --margin")
    return f"If such values are genuine, export again with wider limits, {limits_advice()}, or {margin}"


def feature_label(tensor: Tensor, index: tuple[int, ...]) -> str:
    """Name an element: the feature's name if it has one, and the index."""
    if tensor.features:
        return f"'{tensor.features[index[-1]].name}' (index {list(index)})"
    return f"index {list(index)}"


def describe_shape(shape: tuple[int, ...]) -> str:
    """`(6,)` as "shape (6,)"."""
    return f"shape {shape}"


class _CentredPort(InputPort):
    """An input whose columns are centred in float64 before they become float32, which is too coarse for them."""

    def __init__(self, tensor: Tensor, buffer: Array, model_name: str) -> None:
        super().__init__(tensor, buffer, model_name)
        self._center = np.array(tensor.center)
        self._raw = np.zeros(self.shape)
        self.sample = self._raw.reshape(-1).data
        self._ends = None if self._limits is None else _limits(tensor, np.float64)
        self._told = False

    def put(self, value: Any) -> None:
        """See `InputPort.put`.

        Warns:
            ModelWarning: If the first sample that is too coarse for it comes in float32.
        """
        raw = self._as_float64(value)
        if raw.shape != self.shape:
            raw = self._with_feature(raw)
        self._raw[...] = raw
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(self._raw, self._center, out=self.view, casting="same_kind")
        if not self._is_finite():
            raise NonFiniteError(self._not_finite_message(value))
        if self._ends is not None:
            self._check_limits(*self._ends)

    def read(self) -> Array:
        """See `InputPort.read`: as it was passed, in float64."""
        copy: Array = self._raw.copy()
        return copy

    def _as_float64(self, value: Any) -> Array:
        array = self._real(value, "float64")
        if array.dtype.kind == "f" and array.dtype.itemsize <= 4 and not self._told:
            self._told = True
            warn_caller(
                f"`{self.tensor.name}` comes as {array.dtype}, which is too coarse for it: model "
                f"'{self._model_name}' centres it by {self.tensor.center} in float64. Pass float64",
                ModelWarning,
            )
        return array.astype(np.float64)

    def _compared(self) -> Array:
        return self._raw


def input_port(tensor: Tensor, buffer: Array, model_name: str) -> InputPort:
    """The port of one input, whose samples become what is in the backend's buffer."""
    return (_CentredPort if tensor.center else InputPort)(tensor, buffer, model_name)


def _limits(tensor: Tensor, kind: Any) -> tuple[Array, Array]:
    """Lowest and highest legal value of each column; a limit beyond what the dtype holds is none."""
    limits = [f.limits or (-np.inf, np.inf) for f in tensor.features]
    with np.errstate(over="ignore"):
        low, high = (np.array(side, kind) for side in zip(*limits, strict=True))
    return low, high


def _legal(low: Array, high: Array, size: int) -> tuple[Array, Array]:
    """Between what each of the `size` numbers of a sample is finite and within its column's limits."""
    most, repeats = np.finfo(np.float32).max, size // len(low)
    lowest, highest = np.maximum(low, -most), np.minimum(high, most)
    return np.tile(lowest, repeats).astype(low.dtype), np.tile(highest, repeats).astype(high.dtype)


def named_values(value: Any, tensor: Tensor) -> Any:
    """What a caller has for one input, with named columns in the order of its features; see `lnn_edge.named`.

    Raises:
        TypeError, ValueError, NonFiniteError: As `matched`.
    """
    if isinstance(value, Mapping) and list(value) == [tensor.name]:
        value = value[tensor.name]
    return matched(value, [feature.name for feature in tensor.features], tensor.name, stepped=True)


def by_name(value: Any, ports: Mapping[str, object], constants: Collection[str] = ()) -> Mapping[str, Any]:
    """Match a sample of a model with several inputs: a mapping with exactly one entry per input but the constants.

    Raises:
        TypeError: If it is no mapping.
        ValueError: If a name is missing or unknown.
    """
    if not isinstance(value, Mapping):
        own = column_names(value)
        columns = "" if own is None else f" with the columns {listed(map(str, own))}: a part of them for each input"
        raise TypeError(
            f"this model has the inputs {listed(ports)}; pass a dict with these names, got {type(value)}{columns}"
        )
    for name in value:
        if name in constants:
            raise ValueError(
                f"`{name}` is constant: it is given when a sequence begins, and not with a sample. Type: "
                f"stream.reset(constants={{'{name}': ...}})"
            )
        if name not in ports:
            raise ValueError(f"unknown input '{name}'. {choices(str(name), ports)}")
    missing = [name for name in ports if name not in value]
    if missing:
        raise ValueError(f"input {listed(missing)} is missing; pass every input with every sample")
    return value
