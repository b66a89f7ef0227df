"""Limits of outputs and of their slew, and the safe output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...bundle.manifest import Manifest
from ...bundle.spec import Guard, Tensor
from ...wording import listed, one_line
from ..compiled.extension import limited as in_c

__all__ = ["OutputLimits", "as_output", "as_sent", "frozen", "safe_output"]


_FEW = 16  # columns


class _Limits(NamedTuple):
    """Of one output, each shaped as it is; `None` where it has none. `few` is the quick check of few columns."""

    name: str
    low: Array | None
    high: Array | None
    slew_per_s: Array | None
    few: Callable[[Array, Array | None, float], bool] | None


class OutputLimits:
    """Keeps outputs within their columns' limits, and lets none change faster than its slew limit.

    Args:
        manifest: Of the model; limits are those of its outputs' features.
        guard: Whose `slew_per_s` it keeps to.

    Attributes:
        any: Whether there are any.
    """

    def __init__(self, manifest: Manifest, guard: Guard) -> None:
        self._own = tuple(_limits(t, guard, manifest.batch) for t in manifest.outputs)
        self._in_c = in_c()
        self.any = any(own.low is not None or own.slew_per_s is not None for own in self._own)

    def limited(self, raw: Any, sent: Any, dt_s: float) -> tuple[Any, bool]:
        """An output as the robot may have it, read-only, and whether that differs.

        Args:
            raw: What the model gave; it is not changed.
            sent: What the robot had before, `None` if it had nothing.
            dt_s: Seconds since then.
        """
        if raw.__class__ is not dict:
            y = self._one(self._own[0], raw, sent, dt_s)
            return y, y is not raw
        found = {own.name: self._one(own, raw[own.name], sent and sent[own.name], dt_s) for own in self._own}
        return found, any(value is not raw[name] for name, value in found.items())

    def _one(self, own: _Limits, raw: Array, sent: Array | None, dt_s: float) -> Array:
        """`raw` itself where nothing changes it."""
        if self._in_c is not None:
            y = self._in_c(raw, sent, dt_s, own.low, own.high, own.slew_per_s)
            if y is not None:
                return y
        if own.few is not None and own.few(raw, sent, dt_s):
            return raw
        y = _limit(own, raw, sent, dt_s)
        y.setflags(write=False)
        return y


def _limits(tensor: Tensor, guard: Guard, batch: int) -> _Limits:
    low = high = slew = None
    shape = tensor.shape if batch > 1 else tensor.shape[1:]
    if any(f.limits for f in tensor.features):
        pairs = np.array([f.limits or (-np.inf, np.inf) for f in tensor.features], np.float32)
        low, high = (np.broadcast_to(pairs[:, k], shape).copy() for k in (0, 1))
    if tensor.name in guard.slew_per_s:
        numbers = np.asarray(guard.slew_per_s[tensor.name], np.float64).reshape(tensor.shape[1:])
        slew = np.broadcast_to(numbers, shape).copy()
    few = _quick_check(low, high, slew) if len(shape) == 1 and shape[0] <= _FEW else None
    return _Limits(tensor.name, low, high, slew, few)


def _quick_check(
    low: Array | None, high: Array | None, slew: Array | None
) -> Callable[[Array, Array | None, float], bool]:
    """Whether an output of few columns needs no limit; NumPy takes ten times as long for them as plain numbers do."""
    sides = None if low is None or high is None else list(zip(low.tolist(), high.tolist(), strict=True))
    slews = None if slew is None else slew.tolist()

    def is_free(raw: Array, sent: Array | None, dt_s: float) -> bool:
        values = raw.tolist()
        if slews is not None and sent is not None:
            for value, before, most in zip(values, sent.tolist(), slews, strict=True):
                if not -most * dt_s <= value - before <= most * dt_s:
                    return False
        if sides is not None:
            for value, (least, most) in zip(values, sides, strict=True):
                if not least <= value <= most:
                    return False
        return True

    return is_free


def _limit(own: _Limits, raw: Array, sent: Array | None, dt_s: float) -> Array:
    """`raw` itself where nothing changes it."""
    y = raw
    if own.slew_per_s is not None and sent is not None:
        most = own.slew_per_s * dt_s
        y = np.clip(y, sent - most, sent + most).astype(np.float32)
    if own.low is not None:
        y = np.clip(y, own.low, own.high)
    return raw if y is raw or np.array_equal(y, raw) else y


def safe_output(manifest: Manifest, safe: Mapping[str, tuple[float, ...]]) -> Any:
    """The safe output as a step gives outputs, float32; `None` if there is none."""
    if not safe:
        return None
    arrays = {}
    for tensor in manifest.outputs:
        row = np.asarray(safe[tensor.name], np.float32).reshape(tensor.shape[1:])
        arrays[tensor.name] = row if manifest.batch == 1 else np.broadcast_to(row, tensor.shape).copy()
    return frozen(arrays if len(arrays) > 1 else next(iter(arrays.values())))


def as_output(manifest: Manifest, given: Any) -> Any:
    """What a user's function gave for an output, as a step gives it: float32, finite, of the right shape.

    Raises:
        ValueError, TypeError, or what an object raises that is no array: If it is none.
    """
    tensors = manifest.outputs
    if isinstance(given, Mapping):
        names = {t.name for t in tensors}
        if set(given) != names:
            raise ValueError(f"its keys are {listed(map(repr, given))}, expected {listed(map(repr, sorted(names)))}")
    elif len(tensors) > 1:
        raise ValueError(
            f"it is a {type(given).__name__}, expected a dict with {listed(repr(t.name) for t in tensors)}"
        )
    arrays = {}
    for tensor in tensors:
        value = np.asarray(given[tensor.name] if isinstance(given, Mapping) else given, np.float32)
        shape = tensor.shape if manifest.batch > 1 else tensor.shape[1:]
        if value.shape != shape:
            raise ValueError(f"it has the shape {value.shape}, expected {shape}")
        if not np.isfinite(value).all():
            raise ValueError("it has values that are not finite")
        arrays[tensor.name] = value.copy()
    return frozen(arrays if len(arrays) > 1 else next(iter(arrays.values())))


def as_sent(manifest: Manifest, name: str, given: Any) -> Any:
    """As `as_output`, of what somebody says that the robot got; `None` is nothing.

    Raises:
        TypeError, ValueError: If it is no output of the model of this name.
    """
    if given is None:
        return None
    try:
        with np.errstate(over="ignore"):  # what has become infinite is refused
            return as_output(manifest, given)
    except Exception as error:  # an object that is no array may raise anything
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"`sent` is no output of model '{name}': {one_line(error)}. Pass what the robot got as `tick` gives its "
            "`y`, or None. Nothing has changed"
        ) from error


def frozen(y: Any) -> Any:
    """An output that nobody changes: a guard, the robot's program and whoever writes it have the same arrays."""
    if y.__class__ is dict:
        for value in y.values():
            value.setflags(write=False)
    else:
        y.setflags(write=False)
    return y
