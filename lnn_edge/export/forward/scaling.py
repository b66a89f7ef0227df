"""Scaling: a network's own normalisation of its inputs and outputs, which becomes part of the step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...arrays import Array
from ...bundle.spec import Feature, Tensor
from ...named import column_names, matched
from ...wording import choices, listed

__all__ = ["Scale", "Scaling", "by_tensor", "parse_scaling"]

# What scikit-learn's scalers hold once they are fitted, as (mean, scale) of (x - mean) / scale.
_SCALERS: Mapping[str, Callable[[Any], tuple[Any, Any]]] = {
    "StandardScaler": lambda own: (own.mean_ if own.with_mean else None, own.scale_),
    "RobustScaler": lambda own: (own.center_, own.scale_),
    "MaxAbsScaler": lambda own: (None, own.scale_),
    "MinMaxScaler": lambda own: (-own.min_ / own.scale_, 1.0 / own.scale_),
}


@dataclass(frozen=True, eq=False)
class Scaling:
    """`(x - mean) / std` of one tensor, and the way back.

    Args:
        mean, std: Float64, a number, one per column, or as broadcasts to a sample.
        centred: Columns whose mean the runtime subtracts in float64, (columns,) of bool, or of outputs those that are
            too coarse in float32; `None` where the values of the example, or the std of outputs, tell.
    """

    mean: Array
    std: Array
    centred: Array | None = None

    def applied(self, x: torch.Tensor, center: Sequence[float]) -> torch.Tensor:
        """Scaled, in float32; `center` is what was subtracted before."""
        offset = self.mean - (np.array(center) if center else 0.0)
        shifted = x if not np.any(offset) else x - torch.tensor(offset, dtype=torch.float32)
        return shifted if np.all(self.std == 1.0) else shifted / torch.tensor(self.std, dtype=torch.float32)

    def undone(self, y: torch.Tensor) -> torch.Tensor:
        """From what a network gives to raw units, in float32."""
        return y * torch.tensor(self.std, dtype=torch.float32) + torch.tensor(self.mean, dtype=torch.float32)


Scale = Scaling | Mapping[str, Scaling] | None  # of one tensor, or by name


def parse_scaling(argument: str, given: Any, names: Any = None) -> Scale:
    """What the user says of the scaling of inputs or outputs.

    Args:
        argument: Its name, for messages.
        names: `inputs` or `outputs` of the export: a scaler that was fitted on a frame, and a series of means, are put
            in that order.
        given: (mean, std), numbers or one per column; a fitted scaler of scikit-learn; a dict of these by tensor;
            `None` for none.

    Raises:
        TypeError: If it is nothing of that.
        ValueError: If it is no finite numbers, a std is not above 0, a scaler is not fitted, or has other columns.
    """
    if given is None or isinstance(given, Scaling):
        return given
    if isinstance(given, Mapping):
        own_names = names if isinstance(names, Mapping) else {}
        found = {
            str(name): parse_scaling(f"{argument}['{name}']", own, own_names.get(name)) for name, own in given.items()
        }
        return {name: own for name, own in found.items() if isinstance(own, Scaling)}
    if isinstance(given, (tuple, list)) and len(given) == 2:
        mean, std = given
    else:
        mean, std = _of_scaler(argument, given)
    columns = getattr(given, "feature_names_in_", None)
    mean, std = (
        _numbers(argument, what, default if value is None else _in_order(argument, value, columns, names))
        for what, value, default in (("mean", mean, 0.0), ("std", std, 1.0))
    )
    if np.any(std <= 0):
        raise ValueError(f"`{argument}` has a std of {std.min():g}, expected numbers above 0")
    return Scaling(mean, std)


def _in_order(argument: str, value: Any, columns: Sequence[str] | None, names: Any) -> Any:
    """Numbers per column in the order of the names, where they say to which column they belong."""
    named = value if columns is None else dict(zip(columns, np.broadcast_to(value, len(columns)), strict=True))
    own = column_names(named)
    if own is None:
        return value
    if isinstance(names, Mapping):
        names = next(iter(names.values())) if len(names) == 1 else None
    wanted = own if names is None else [n.name if isinstance(n, Feature) else str(n) for n in names]
    return matched(named, wanted, argument)


def by_tensor(argument: str, scaling: Scale, tensors: Sequence[Tensor]) -> dict[str, Scaling]:
    """The scaling of each tensor that has one.

    Raises:
        TypeError: If there are several tensors, and one scaling without a name.
        ValueError: If there is no such tensor, or a scaling has not the size of its samples.
    """
    if scaling is None:
        return {}
    if isinstance(scaling, Scaling):
        names = [t.name for t in tensors if not t.constant]
        if len(names) > 1:
            raise TypeError(
                f"the model has {listed(names)}: pass `{argument}` as a dict, {{'{names[0]}': (mean, std)}}"
            )
        scaling = {names[0]: scaling}
    shapes = {t.name: t.shape[1:] for t in tensors}
    scaling = dict(scaling)
    for name, own in scaling.items():
        if name not in shapes:
            raise ValueError(f"`{argument}` names '{name}'. {choices(name, shapes)}")
        own = scaling[name] = _without_leading_axes(own, len(shapes[name]))
        for what, value in (("mean", own.mean), ("std", own.std)):
            if not _fits(value.shape, shapes[name]):
                raise ValueError(
                    f"`{argument}` has a {what} of shape {value.shape}, but '{name}' has samples of shape "
                    f"{shapes[name]}: expected one number, or one per column"
                )
    return scaling


def _without_leading_axes(own: Scaling, axes: int) -> Scaling:
    """Without axes of length 1 for recordings and time, which `keepdims` leaves."""

    def cut(value: Array) -> Array:
        spare = max(0, value.ndim - axes)
        return value.reshape(value.shape[spare:]) if value.shape[:spare] == (1,) * spare else value

    return dataclasses.replace(own, mean=cut(own.mean), std=cut(own.std))


def _fits(shape: tuple[int, ...], sample: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, sample) == sample
    except ValueError:
        return False


def _of_scaler(argument: str, scaler: Any) -> tuple[Any, Any]:
    kind = type(scaler)
    takes = f"(mean, std), or a fitted {listed(_SCALERS)} of scikit-learn"
    if kind.__name__ not in _SCALERS or not kind.__module__.startswith("sklearn."):
        shown = kind.__name__ if not isinstance(scaler, (tuple, list)) else f"{kind.__name__} of {len(scaler)}"
        raise TypeError(f"`{argument}` is a {shown}, expected {takes}")
    if getattr(scaler, "clip", False):
        raise ValueError(f"`{argument}` is a MinMaxScaler that clips, which is no scaling: limit the columns instead")
    try:
        mean, std = _SCALERS[kind.__name__](scaler)
    except AttributeError as error:
        raise ValueError(f"`{argument}` is a {kind.__name__} that is not fitted: type scaler.fit(x) first") from error
    return mean, std


def _numbers(argument: str, what: str, value: Any) -> Array:
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{argument}` has a {what} that is no number: {value!r}") from error
    if not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > np.finfo(np.float32).max:
        raise ValueError(f"`{argument}` has a {what} that is not finite: {array.tolist()}")
    return array
