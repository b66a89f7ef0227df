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
    columns = _unlimited(tensor, seen)
    if not columns:
        return tensor
    held = np.iinfo("int32" if tensor.dtype == "float32" else tensor.dtype)
    ends = (max(int(held.min), -_FARTHEST), min(int(held.max), _FARTHEST))

    def taken(number: int, *places: int) -> bool:
        values = few[tensor.name].copy()
        values[..., list(places)] = number
        return model.accepts({**few, tensor.name: values})

    if all(taken(end, *columns) for end in ends):
        return tensor
    features = list(tensor.features)
    together = _limits(lambda number: taken(number, *columns), seen[..., columns], ends)
    for column in columns:

        def alone(number: int, column: int = column) -> bool:
            return taken(number, column)

        # the tables of several columns are often as long as each other
        low, high = _limits(alone, seen[..., column], ends, together)
        if low is not None and high is not None:
            features[column] = msgspec.structs.replace(features[column], limits=(float(low), float(high)))
    return msgspec.structs.replace(tensor, features=tuple(features))


def _unlimited(tensor: Tensor, seen: Array) -> list[int]:
    """Columns of whole numbers without limits; a place in a table may come among floats as well, and be cast."""
    if tensor.center:
        return []
    columns = [k for k, feature in enumerate(tensor.features) if feature.limits is None]
    if tensor.dtype != "float32":
        return columns
    return [k for k in columns if np.array_equal(seen[..., k], np.rint(seen[..., k]))]


def _limits(
    taken: Callable[[int], bool], seen: Array, ends: tuple[int, int], guess: Sequence[int | None] = (None, None)
) -> list[int | None]:
    """The lowest and the highest number that is taken, from those that were seen or, if it is, a guess."""
    found = []
    for sign, known, end, guessed in zip((-1, 1), (int(seen.min()), int(seen.max())), ends, guess, strict=True):
        if guessed is not None and sign * guessed > sign * known and taken(guessed):
            known = guessed
        found.append(_last(taken, known, sign, end))
    return found


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
