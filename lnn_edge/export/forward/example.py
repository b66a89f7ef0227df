"""The user's example in one way of reading it: recordings by input, and how the model is given them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from ...arrays import Array
from ...bundle.spec import Dtype, Tensor
from .scaling import Scale, Scaling

__all__ = ["Example", "ForwardError", "first_that_works", "folded", "varied"]

_Way = TypeVar("_Way")
_Found = TypeVar("_Found")

_DTYPE = re.compile(r"scalar type|same dtype|only applicable to index tensor")  # in torch's words

_TYPES: dict[str, Dtype] = {"float32": "float32", "float64": "float32", "int32": "int32", "uint8": "uint8"}


class ForwardError(ValueError):
    """What the user's own code raised, told with what it was called with."""


@dataclass(frozen=True)
class Example:
    """Recordings by input, and what no array says of them.

    Args:
        rows: Per input one array for each recording, (T, batch, *shape) of the input's dtype; a constant is repeated
            with each sample.
        constants: Names of the inputs that are given once per sequence.
        scalars: Names of the inputs that have no axis for features in the user's forward: (batch, time) where others
            are (batch, time, features). In a bundle that axis has length 1.
        scalings: How inputs are scaled before the model gets them, by name.
        outputs: How the model's outputs are scaled.
        centers: What the runtime subtracts from them in float64, by name, (features,); such rows are float64.
    """

    rows: Mapping[str, Sequence[Array]]
    constants: frozenset[str] = frozenset()
    scalars: frozenset[str] = frozenset()
    scalings: Mapping[str, Scaling] = field(default_factory=dict)
    centers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    outputs: Scale = None

    def tensors(self, batch: int) -> tuple[Tensor, ...]:
        """The inputs of a step."""
        return tuple(
            Tensor(
                name,
                (batch, *rows[0].shape[2:]),
                constant=name in self.constants,
                dtype=_TYPES[str(rows[0].dtype)],
                center=self.centers.get(name, ()),
            )
            for name, rows in self.rows.items()
        )

    def given(self, tensor: Tensor, values: Array) -> torch.Tensor:
        """Values of one input, (rows, *shape) as they were recorded, as the user's code gets them: scaled and shaped.

        Whole numbers are int64 but for frames, of uint8.
        """
        return self.shaped(tensor, self.taken(tensor, values))

    def taken(self, tensor: Tensor, values: Array) -> torch.Tensor:
        """The same as the graph takes them."""
        if tensor.center:
            values = values - np.array(tensor.center)
        given = torch.from_numpy(np.array(values, tensor.dtype))
        return given.long() if tensor.dtype == "int32" else given

    def shaped(self, tensor: Tensor, values: torch.Tensor) -> torch.Tensor:
        """The same for what the graph takes, (rows, *shape)."""
        if tensor.name in self.scalings:
            values = self.scalings[tensor.name].applied(values, tensor.center)
        return values.squeeze(-1) if tensor.name in self.scalars else values


def varied(values: Array, factor: float, center: Sequence[float] = ()) -> Array:
    """Other samples of the same kind, (steps, ...): numbers times a factor; whole ones, maybe places, mirrored."""
    if factor == 1.0 or not len(values):
        return values
    if center:
        others: Array = np.array(center) + factor * (values - np.array(center))
        return others
    exact = values.astype(np.float64)
    whole = (exact == np.rint(exact)).all(axis=0)
    mirrored = exact.min(axis=0) + exact.max(axis=0) - exact
    return np.where(whole, mirrored, factor * exact).astype(values.dtype)


def folded(values: Array, recorded: Array) -> Array:
    """Samples, (steps, ...), mirrored at the lowest and the highest that was recorded until they lie between."""
    low, high = (side.astype(np.float64) for side in (recorded.min(axis=0), recorded.max(axis=0)))
    width = np.where(high > low, high - low, 1.0)
    inside = low + np.abs((values - low + width) % (2 * width) - width)
    mirrored: Array = np.clip(np.where(high > low, inside, low), low, high).astype(values.dtype)
    return mirrored


def first_that_works(ways: Sequence[_Way], tried: Callable[[_Way], _Found]) -> _Found:
    """What the first way of reading an example gives that the model takes.

    Raises:
        TypeError, ValueError: If none works, that of the first way, the likeliest; but where this is that the model's
            code takes no numbers of that dtype, that of the way that came furthest.
    """
    failed: list[Exception] = []
    for way in ways:
        try:
            return tried(way)
        except (TypeError, ValueError) as error:
            failed.append(error)
    raise (
        failed[0] if not _of_dtype(failed[0]) else min(failed, key=lambda error: 2 * _of_dtype(error) + _of_user(error))
    )


def _of_user(error: Exception) -> bool:
    """Whether the user's own code raised, and not what export found behind it."""
    return isinstance(error, ForwardError)


def _of_dtype(error: Exception) -> bool:
    return _of_user(error) and _DTYPE.search(str(error)) is not None
