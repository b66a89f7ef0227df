"""Whole numbers that a model takes: how far tokens and numbers of devices may go before its own code refuses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from ..arrays import Array
from ..bundle.spec import Tensor
from .trained.protocol import Trained

__all__ = ["with_legal_numbers"]

_FARTHEST = 1 << 20  # beyond that a number is no place in a table


def with_legal_numbers(
    tensors: Sequence[Tensor], model: Trained, recorded: Mapping[str, Sequence[Array]] | None
) -> tuple[Tensor, ...]:
    """Give the columns of whole numbers that have no limits those beyond which the model's own code raises.

    Args:
        tensors: The inputs, named.
        model: The model.
        recorded: Recordings by input, (T, batch, *shape) each.
    """
    if recorded is None:
        return tuple(tensors)
    few = {name: rows[0][:2, 0] for name, rows in recorded.items()}
    return tuple(_limited(tensor, model, few, np.concatenate(recorded[tensor.name])) for tensor in tensors)


def _limited(tensor: Tensor, model: Trained, few: Mapping[str, Array], seen: Array) -> Tensor:
    if tensor.dtype == "float32" or not tensor.features:
        return tensor
    held = np.iinfo(tensor.dtype)
    features = []
    for column, feature in enumerate(tensor.features):

        def taken(number: int, column: int = column) -> bool:
            values = few[tensor.name].copy()
            values[..., column] = number
            return model.accepts({**few, tensor.name: values})

        own = seen[..., column]
        high = _last(taken, int(own.max()), 1, min(held.max, _FARTHEST))
        low = _last(taken, int(own.min()), -1, max(held.min, -_FARTHEST))
        if feature.limits is None and low is not None and high is not None:
            feature = msgspec.structs.replace(feature, limits=(float(low), float(high)))
        features.append(feature)
    return msgspec.structs.replace(tensor, features=tuple(features))


def _last(taken: Callable[[int], bool], known: int, sign: int, farthest: int) -> int | None:
    """The last number on one side that is taken, from one that is; `None` if all of them are."""
    step, good = 1, known
    while taken(good + sign * step) if sign * (good + sign * step) <= sign * farthest else False:
        good, step = good + sign * step, 2 * step
    bad = good + sign * step
    if sign * bad > sign * farthest:
        if good == farthest or taken(farthest):
            return None
        bad = farthest
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if taken(middle) else (good, middle)
    return good
