"""Patching of the cores inside a module: while its code runs, something else stands in their place.

Each core's forward is replaced on the instance; leaving the context puts the class's own back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn

from ...wording import listed, step_advice
from ..cores.calling import convention_of, forward_signature
from ..cores.find import is_cell
from ..cores.maths import CoreMaths
from ..cores.repairs import ignores_time
from ..trace.core_op import opaque_core

__all__ = ["After", "CorePatcher", "Part", "States", "one_span_per_row", "opaque", "opaque_parts"]

States = Sequence[torch.Tensor]  # (rows, width) each
After = list[States | None]  # per core its new states, `None` until it was called


class Part:
    """A layer or cell inside a module, the maths that stands for it, and how it is called."""

    def __init__(self, index: int, name: str, module: Any, maths: CoreMaths) -> None:
        self.index, self.name, self.maths = index, name, maths
        self.module = module
        self.convention = convention_of(name, module)
        self.timeless = ignores_time(module)
        self._signature = forward_signature(type(module))
        _self, *parameters = self._signature.parameters.values()
        self._defaults = tuple(p.default for p in parameters)
        plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
        needed = sum(p.default is p.empty for p in parameters)
        self._by_place = range(needed, len(parameters) + 1) if plain else ()  # numbers of values that need no names
        self.axis = 1 if getattr(module, "batch_first", False) else 0  # of time, in a call with rows

    def arguments(self, *args: Any, **keywords: Any) -> tuple[Any, Any, Any]:
        """Samples, states and timespans, however they were passed; torch's own parts know nothing of time."""
        if not keywords and len(args) in self._by_place:  # to bind them takes a tenth of a step
            values = [*args, *self._defaults[len(args) :]]
        else:
            bound = self._signature.bind(self.module, *args, **keywords)
            bound.apply_defaults()
            _self, *values = bound.arguments.values()
        x, hx, timespans = (*values, None)[:3]
        return x, hx, timespans

    def batched(self, x: torch.Tensor) -> bool:
        """Whether samples come with an axis of rows."""
        return x.dim() == (2 if is_cell(self.module) else 3)

    def length(self, x: torch.Tensor) -> int:
        """Number of samples in a call."""
        return 1 if is_cell(self.module) else x.shape[self.axis if self.batched(x) else 0]

    def rows(self, x: torch.Tensor) -> int:
        """Number of rows in a call."""
        return x.shape[0 if is_cell(self.module) else 1 - self.axis] if self.batched(x) else 1

    def sample(self, x: torch.Tensor) -> torch.Tensor:
        """The newest sample of a call, and the only one where there is one, (rows, features)."""
        if is_cell(self.module):
            return x if self.batched(x) else x.unsqueeze(0)
        return x.select(self.axis, -1) if self.batched(x) else x[-1:]

    def check_once(self, seen: States | None) -> None:
        """Refuse a forward that calls it again: `seen` are its new states, if it was called before."""
        if seen is not None:
            raise ValueError(
                f"the forward calls the core '{self.name}' more than once per sample, so it has no single state. Keep "
                f"one for each call: {step_advice()}, with a state that is a tuple of as many, (batch, units) each"
            )

    def lengthened(self, y: torch.Tensor, length: int, batched: bool) -> torch.Tensor:
        """The output of one sample, as it returns it, in the place of those of several."""
        if not getattr(self.module, "return_sequences", True):
            return y
        axis = self.axis if batched else 0
        return y.expand(*(length if k == axis else -1 for k in range(y.dim())))


Replacement = Callable[[Part, States | None, Any, Any, Any], tuple[Any, States]]


def opaque(part: Part, x: torch.Tensor, states: States, spans: torch.Tensor | None) -> list[torch.Tensor]:
    """Output and new states as one operation of a trace; without timespans it has those of the step."""
    if part.timeless:
        spans = torch.ones(1, 1)
    return opaque_core(x, list(states), spans, part.index, part.maths.outputs)


class CorePatcher:
    """The layers and cells of one module, in order, with the maths that stands for them."""

    def __init__(self, parts: Mapping[str, nn.Module], maths: Sequence[CoreMaths]) -> None:
        self.parts = [
            Part(index, name, module, own)
            for index, ((name, module), own) in enumerate(zip(parts.items(), maths, strict=True))
        ]

    @contextmanager
    def patched(self, replacement: Replacement) -> Iterator[After]:
        """Call something else in place of each part.

        Args:
            replacement: From the part, its new states if it was called before, samples, states and timespans to what
                the part returns and its new states.

        Yields:
            The new states of each part, once it was called.
        """
        after: After = [None] * len(self.parts)

        def bound(part: Part) -> Callable[..., Any]:
            def forward(_self: Any, *args: Any, **keywords: Any) -> Any:
                result, after[part.index] = replacement(part, after[part.index], *part.arguments(*args, **keywords))
                return result

            return forward

        for part in self.parts:
            part.module.forward = MethodType(bound(part), part.module)
        try:
            yield after
        finally:
            for part in self.parts:
                del part.module.forward

    def uncalled(self, after: After) -> list[str]:
        """Names of the parts that were not called."""
        return [part.name for part, states in zip(self.parts, after, strict=True) if states is None]


def one_span_per_row(timespans: torch.Tensor, rows: int) -> torch.Tensor:
    """Timespans of one sample as (rows, 1); those that are repeated for each unit are one, which `_spans` checks."""
    if timespans.numel() % rows:
        return timespans.reshape(-1, 1).expand(rows, 1)
    return timespans.reshape(rows, -1)[:, :1]


@contextmanager
def opaque_parts(patcher: CorePatcher) -> Iterator[None]:
    """Make every call of a part, with the states that the caller gives it, one operation of a trace.

    Raises:
        ValueError: On leaving, if a part was not called.
    """

    def replacement(part: Part, _seen: States | None, given: Any, hx: Any, timespans: Any) -> tuple[Any, States]:
        length, batched = part.length(given), part.batched(given)
        if length != 1:
            raise ValueError(f"the step gives '{part.name}' {length} time steps for one sample, expected one")
        x = part.sample(given)
        if hx is None:
            states = [x.new_zeros(len(x), width) for width in part.maths.state_widths]
        else:
            states = [state.expand(len(x), -1) for state in part.convention.unpacked(hx, batched)]
        y, *after = opaque(part, x, states, _given_spans(timespans, x))
        return part.convention.returned(y, after, batched), after

    with patcher.patched(replacement) as after:
        yield
    missing = [f"'{name}'" for name in patcher.uncalled(after)]
    if missing:
        raise ValueError(
            f"the step never calls {listed(missing)} of the model that it is given. It "
            "must use its first argument, not a model from outside; a part that no step needs must leave the model"
        )


def _given_spans(timespans: Any, x: torch.Tensor) -> torch.Tensor:
    """Timespans as (rows, 1); a part that gets none computes with 1."""
    if not isinstance(timespans, torch.Tensor):
        return torch.full((len(x), 1), 1.0 if timespans is None else float(timespans))
    return one_span_per_row(timespans, len(x))
