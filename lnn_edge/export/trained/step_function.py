"""A step that the user writes: what it takes and returns, and what the state between its calls is made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..cores.wrappers import unwrapped
from ..forward.arguments import TIME_NAMES
from ..forward.checks import Checks
from ..forward.returned import opened

__all__ = ["StateTree", "StepFunction", "resolved", "same_tensors", "zeros_like"]

StepCallable = Callable[..., Any]
_SIGNATURE = "step(model, x, state) or step(model, x, state, timespan), returning (output, new_state)"


class StepFunction:
    """The function, called with a model of the exporter's choice.

    Attributes:
        takes_time: Whether it takes a timespan.
    """

    def __init__(self, function: StepCallable, module: nn.Module, inputs: Sequence[str]) -> None:
        """Look at the function without calling it.

        Args:
            function: A function, or a method of the model, bound or not.
            module: The model.
            inputs: Names of the inputs; one that is called "input" is passed as a tensor, else a dict is passed.

        Raises:
            TypeError: If it cannot be called like that.
        """
        self._function = _unbound(function, module)
        self._inputs = tuple(inputs)
        self.takes_time = _takes_time(self._function)
        self.checks = Checks()  # until somebody finds some

    def __call__(
        self, module: nn.Module, inputs: Sequence[torch.Tensor], state: Any, span: torch.Tensor | None
    ) -> tuple[Any, Any]:
        """One sample: inputs (rows, ...), the state or `None`, the timespan (rows, 1) if it takes one."""
        return self.checked(self.called(module, inputs, state, span))

    def called(self, module: nn.Module, inputs: Sequence[torch.Tensor], state: Any, span: torch.Tensor | None) -> Any:
        """Whatever the function returns."""
        x = inputs[0] if self._inputs == ("input",) else dict(zip(self._inputs, inputs, strict=True))
        with self.checks.passed():
            return self._function(module, x, state, *([span] if self.takes_time else []))

    @staticmethod
    def checked(result: Any) -> tuple[Any, Any]:
        """Output and new state, if that is what it returned."""
        if not isinstance(result, tuple) or len(result) != 2:
            got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
            raise TypeError(f"the step returned {got}, expected (output, new_state)")
        output, state = result
        return opened(output), state

    def is_forward_of(self, module: nn.Module) -> bool:
        """Whether the step is the module's own forward, which then is no loop over sequences."""
        return self._function is type(module).forward


def _unbound(function: Any, module: nn.Module) -> Callable[..., Any]:
    """A bound method of the model as the plain function, so that it can be called with a copy of the model."""
    if not callable(function):
        raise TypeError(f"`step` is {type(function).__name__}, expected a function: {_SIGNATURE}")
    owner = getattr(function, "__self__", None)
    if not isinstance(owner, nn.Module):
        return function  # type: ignore[no-any-return]
    if owner is not module and unwrapped(owner) is not unwrapped(module):
        raise TypeError(
            f"`step` is a method of another model, {type(owner).__name__}, not of the one that is exported. Export "
            f"that model, or pass a function: {_SIGNATURE}"
        )
    return function.__func__  # type: ignore[no-any-return]


def _takes_time(function: Callable[..., Any]) -> bool:
    """Whether a step takes a timespan: a fourth argument that must be given, or that is called like one."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    fourth = [p for p in signature.parameters.values() if p.kind in kinds][3:4]
    timed = any(p.default is p.empty or p.name in TIME_NAMES for p in fourth)
    try:
        signature.bind(*range(4 if timed else 3))
    except TypeError as error:
        raise TypeError(f"`step` takes {signature}, expected {_SIGNATURE}") from error
    return timed


def same_tensors(one: Any, other: Any) -> bool:
    """Whether two results are the same to the last bit."""
    ones, others = pytree.tree_leaves(one), pytree.tree_leaves(other)
    return len(ones) == len(others) and all(
        isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)
        for a, b in zip(ones, others, strict=True)
    )


@dataclass(frozen=True)
class StateTree:
    """What one row's state is made of: names, shapes, and how they are packed. The exporter keeps (1, width) each."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    spec: pytree.TreeSpec

    @classmethod
    def of(cls, state: Any) -> StateTree:
        """Of a state for one row.

        Raises:
            TypeError: If it is made of anything but tensors of real numbers.
        """
        leaves, spec = pytree.tree_flatten_with_path(state)
        if not leaves:
            raise TypeError(f"the step returned the new state {state!r}, expected a tensor, or a tuple or dict of some")
        names = tuple(_name(path, len(leaves)) for path, _ in leaves)
        for name, (_, leaf) in zip(names, leaves, strict=True):
            if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
                kind = leaf.dtype if isinstance(leaf, torch.Tensor) else type(leaf).__name__
                raise TypeError(
                    f"the step returned {kind} as '{name}' in its new state, expected tensors of real numbers: (batch, "
                    "width). Keep a counter as a float tensor (batch, 1), and constants in the model"
                )
        return cls(names, tuple(leaf.shape for _, leaf in leaves), spec)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers per row of each tensor."""
        return tuple(shape.numel() for shape in self.shapes)

    def flat(self, state: Any) -> list[torch.Tensor]:
        """A state as (1, width) tensors.

        Raises:
            ValueError: If it is packed in another way, or has grown.
        """
        leaves, spec = pytree.tree_flatten(state)
        if spec != self.spec:
            raise ValueError(f"the step takes its state as {self.spec} and returns it as {spec}; both must be the same")
        flat = []
        for name, leaf, shape in zip(self.names, leaves, self.shapes, strict=True):
            several = shape[:1] == (1,)  # rows, where there may be several
            if leaf.shape[several:] != shape[several:]:
                raise ValueError(
                    f"'{name}' in the state has the shape {list(shape)} in one call of the step and {list(leaf.shape)} "
                    "in the next. A stream needs a state that does not grow: keep the last few samples, not all"
                )
            flat.append(leaf.reshape(len(leaf) if several else 1, -1))
        return flat

    def packed(self, flat: Sequence[torch.Tensor]) -> Any:
        """The other way around."""
        leaves = [
            own.reshape(len(own), *shape[1:]) if shape[:1] == (1,) else own.reshape(shape)
            for own, shape in zip(flat, self.shapes, strict=True)
        ]
        return pytree.tree_unflatten(leaves, self.spec)


def _name(path: Sequence[Any], count: int) -> str:
    """`h` for the only tensor, else the keys and places that lead to it."""
    if count == 1 and not any(isinstance(key, pytree.MappingKey) for key in path):
        return "h"
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path]
    return ".".join(parts) if not parts[0].isdigit() else f"state_{'_'.join(parts)}"


def zeros_like(state: Any) -> Any:
    """The same state with every number zero."""
    return pytree.tree_map_only(torch.Tensor, torch.zeros_like, state)


def resolved(initial: Any, module: nn.Module) -> Any:
    """The initial state that the caller passed: as it is, or what a function makes of the model."""
    state = initial(module) if callable(initial) else initial
    return pytree.tree_map_only(torch.Tensor, lambda leaf: leaf.detach().cpu().float(), state)
