"""Results of a user's forward or step, opened: dataclasses and distributions as dicts of the tensors in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributions import Distribution, Independent, TransformedDistribution
from torch.utils import _pytree as pytree

from ..cores.copying import tensors_in

__all__ = ["opened"]


def opened(result: Any) -> Any:
    """The same as containers of tensors alone, and of what holds none.

    Raises:
        TypeError: If something holds tensors that no container tells.
    """
    return pytree.tree_map(_opened_leaf, result)


def _opened_leaf(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Distribution):
        return opened(_made_of(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: opened(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): opened(own) for name, own in value.items()}
    if next(tensors_in(value), None) is not None:
        raise TypeError(
            f"the model returns a {type(value).__name__}, which holds tensors that export cannot tell apart: return "
            "those, or a dict, tuple or dataclass of them"
        )
    return value


def _made_of(distribution: Distribution) -> dict[str, Any]:
    """The parameters of a distribution, broadcast as it holds them: those that it was made from."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    names = type(distribution).arg_constraints
    if isinstance(distribution, TransformedDistribution) or not isinstance(names, Mapping):
        raise TypeError(
            f"the model returns a distribution {type(distribution).__name__}, which no output can be: return what it "
            "is made of, the mean or logits that a robot acts on"
        )
    given = [name for name in names if name in vars(distribution)]
    return {name: getattr(distribution, name) for name in given or names}
