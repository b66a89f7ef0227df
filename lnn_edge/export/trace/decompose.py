"""Torch's own decomposition of one operation: a small traced program of simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import cache
from typing import Any

import torch
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

__all__ = ["decomposed", "operation_name"]


def operation_name(target: Any) -> str:
    """Torch's name of an operation, by which rules are found."""
    return str(target).removeprefix("aten.").partition(".")[0]


def decomposed(
    target: Any, leaves: Sequence[Any], spec: pytree.TreeSpec, rules: Container[str]
) -> torch.fx.GraphModule | None:
    """What an operation is made of; a placeholder for each tensor that it is called with, in order.

    One operation is traced and not the whole program anew, as `run_decompositions` does: that takes a second.

    Args:
        target: The operation.
        leaves: What it is called with, flat: tensors of the right shapes and dtypes, and all else.
        spec: How to unflatten that into arguments and keywords.
        rules: Names of the operations that need no decomposition.

    Returns:
        The program, or `None` if torch has none.
    """
    known = _known()
    function: Callable[..., Any] = known.get(target, target)
    if function is target:
        if not isinstance(target, torch._ops.OpOverload) or not target._can_decompose():
            return None
        function = target.decompose

    def called(*tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        arguments, keywords = pytree.tree_unflatten(filled, spec)
        return function(*arguments, **keywords)

    table = {own: function for own, function in known.items() if operation_name(own) not in rules}
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    made = make_fx(called, decomposition_table=table)(*tensors)
    # what a decomposition writes into a tensor becomes a value of its own
    return make_fx(torch.func.functionalize(made))(*tensors) if _writes(made) else made


def _writes(program: torch.fx.GraphModule) -> bool:
    targets = [node.target for node in program.graph.nodes]
    return any(isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable for target in targets)


@cache
def _known() -> dict[Any, Callable[..., Any]]:
    table: Any = core_aten_decompositions()
    return dict(table.items())
