"""Leaves of what a user's forward returns, each an output: its axis of time, its shape and its scaling."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ...arrays import Array
from ...bundle.spec import Tensor
from .advice import FEWER
from .scaling import Scale, Scaling, by_tensor

__all__ = ["Leaf", "leaf_from_shapes", "leaf_name", "raw_outputs"]

# Steps at which a network that returns only its last output is called whole, and whether on a whole recording too.
_PREFIXES = (1, 2, 3, 5, 8, 16, 32, 64)
_LONGEST_WHOLE = 256


@dataclass(frozen=True)
class Leaf:
    """One output in what a forward returns: where it is, and which of its axes is time (`None`: last step only)."""

    index: int
    name: str
    time_axis: int | None
    shape: tuple[int, ...]
    scaling: Scaling | None = None

    def raw(self, value: torch.Tensor) -> torch.Tensor:
        """In raw units, if the user says how they are scaled."""
        return value if self.scaling is None else self.scaling.undone(value)

    def lengths(self, steps: int) -> set[int]:
        """How many of the samples of a recording a forward is called on, to know it: of all, and of fewer."""
        if self.time_axis is not None:
            return {steps}
        return {n for n in _PREFIXES if n <= steps} | ({steps} if steps <= _LONGEST_WHOLE else set())

    def by_step(self, value: torch.Tensor) -> Array:
        """One output of one row, (steps, ...), in raw units.

        Raises:
            ValueError: If it is of another size than in the calls that told its shape.
        """
        if self.time_axis is None and value.numel() != math.prod(self.shape):
            raise ValueError(
                f"output '{self.name}' has the shape {list(value.shape)} for some number of samples and "
                f"{[1, *self.shape]} for another: neither one for each sample nor one for the recording"
            )
        value = self.raw(value)
        if self.time_axis is None:
            return value.detach().numpy().reshape(1, *self.shape)
        return value.detach().movedim(self.time_axis, 0).numpy().reshape(-1, *self.shape)


def leaf_from_shapes(index: int, name: str, two: tuple[int, ...], three: tuple[int, ...]) -> Leaf:
    """An output by its shapes for two and for three samples of one row: the axis that grows is time.

    Raises:
        ValueError: If it is not one per sample, or not one row.
    """
    grown = [k for k, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
    if len(grown) > 1 or any((two[k], three[k]) != (2, 3) for k in grown):
        raise ValueError(
            f"output '{name}' has shape {list(two)} for 2 samples and {list(three)} for 3: not one per sample"
            + (f". {FEWER}" if any(three[k] < 3 for k in grown) else "")
        )
    rest = [n for k, n in enumerate(three) if k not in grown]
    if rest and rest[0] != 1:
        advice = "A parameter that does not depend on the samples is no output of a step: expand it, or leave it out"
        if grown:  # with time, and without rows
            advice = "If the forward takes the axis of the batch away, squeeze(0), leave that out: (batch, time, ...)"
        raise ValueError(
            f"output '{name}' has shape {list(three)} for one row of 3 samples, expected one row. {advice}"
        )
    return Leaf(index, name, grown[0] if grown else None, tuple(rest[1:]) or (1,))


def raw_outputs(leaves: Sequence[Leaf], batch: int, scale: Scale) -> tuple[tuple[Tensor, ...], list[Leaf]]:
    """The outputs of a step, and the leaves with the scaling that leads to raw units.

    Raises:
        TypeError, ValueError: If a scaling does not fit.
    """
    tensors = tuple(Tensor(leaf.name, (batch, *leaf.shape)) for leaf in leaves)
    scalings = by_tensor("scale_outputs", scale, tensors)
    return tensors, [dataclasses.replace(leaf, scaling=scalings.get(leaf.name)) for leaf in leaves]


def leaf_name(path: Sequence[Any], place: int) -> str:
    """The name of an output: the keys or fields that lead to it, else its place."""
    keys = [str(key.key) for key in path if isinstance(key, pytree.MappingKey)]
    names = [str(key.name) for key in path if isinstance(key, pytree.GetAttrKey)]
    return ".".join(keys or names) or f"output_{place}"
