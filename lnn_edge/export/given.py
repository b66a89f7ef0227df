"""Steers the layers and cells of a network whose step brings the states itself: a loop that the user writes.

In a steered context each part's forward is replaced on the instance, and takes whatever the step passes to it;
leaving the context puts the class's own back. A part may be called several times per sample.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn

from ..reference import ReferenceCore
from ..wording import listed
from .cores.calling import convention_of
from .cores.find import is_cell
from .cores.timespans import check_timespans
from .trace.core_op import opaque_core

__all__ = ["GivenStates"]

_Advance = Callable[[int, torch.Tensor, list[torch.Tensor], torch.Tensor], list[torch.Tensor]]


class GivenStates:
    """The layers and cells of one network, in order, with the maths that stands for them."""

    def __init__(self, parts: Mapping[str, nn.Module], cores: Sequence[ReferenceCore]) -> None:
        self._parts: list[tuple[str, Any]] = list(parts.items())
        self._conventions = [convention_of(name, part) for name, part in parts.items()]
        self._cores = cores

    def exact(self) -> AbstractContextManager[None]:
        """Every call goes through the float64 reference.

        Raises:
            ValueError: On leaving, if a part was not called.
        """

        def advance(index: int, x: torch.Tensor, states: list[torch.Tensor], spans: torch.Tensor) -> list[torch.Tensor]:
            core = self._cores[index]
            check_timespans(self._parts[index][0], core, spans)
            before = dict(zip(core.state_names, (state.double().numpy() for state in states), strict=True))
            y, after = core.step(x.double().numpy(), before, spans.double().numpy())
            return [torch.from_numpy(value) for value in (y, *(after[name] for name in core.state_names))]

        return self._steered(advance)

    def tracing(self) -> AbstractContextManager[None]:
        """Every call becomes one opaque operation. Raises as `exact`."""

        def advance(index: int, x: torch.Tensor, states: list[torch.Tensor], spans: torch.Tensor) -> list[torch.Tensor]:
            return opaque_core(x, states, spans, index, self._cores[index].outputs)

        return self._steered(advance)

    @contextmanager
    def _steered(self, advance: _Advance) -> Iterator[None]:
        called: set[int] = set()

        def bound(index: int) -> Callable[..., Any]:
            def own_forward(_self: Any, *args: Any, **keywords: Any) -> Any:
                called.add(index)
                return self._called(index, advance, self._arguments(index, args, keywords))

            return own_forward

        for index, (_, part) in enumerate(self._parts):
            part.forward = MethodType(bound(index), part)
        try:
            yield
        finally:
            for _, part in self._parts:
                del part.forward
        missing = [f"'{name}'" for index, (name, _) in enumerate(self._parts) if index not in called]
        if missing:
            raise ValueError(
                f"the step never calls {listed(missing)} of the model that it is given. It "
                "must use its first argument, not a model from outside; a part that no step needs must leave the model"
            )

    def _called(self, index: int, advance: _Advance, arguments: tuple[Any, Any, Any]) -> Any:
        given, hx, timespans = arguments
        x, batched = self._sample(index, given)
        convention, core = self._conventions[index], self._cores[index]
        if hx is None:
            states = [x.new_zeros(len(x), width) for width in core.state_widths]
        else:
            states = [state.expand(len(x), -1) for state in convention.unpacked(hx, batched)]
        y, *after = advance(index, x, states, _spans(timespans, x))
        return convention.returned(y, after, batched)

    def _arguments(self, index: int, args: Any, keywords: Any) -> tuple[Any, Any, Any]:
        """Sample, states and timespans, however they were passed; torch's own parts know nothing of time."""
        part = self._parts[index][1]
        bound = inspect.signature(type(part).forward).bind(part, *args, **keywords)
        bound.apply_defaults()
        _self, *values = bound.arguments.values()
        x, hx, timespans = (*values, None)[:3]
        return x, hx, timespans

    def _sample(self, index: int, x: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """One sample, (rows, features), and whether it came with an axis of rows."""
        name, part = self._parts[index]
        if is_cell(part):
            return (x, True) if x.dim() == 2 else (x.unsqueeze(0), False)
        batched = x.dim() == 3
        axis = 1 if batched and part.batch_first else 0
        if x.shape[axis] != 1:
            raise ValueError(f"the step gives '{name}' {x.shape[axis]} time steps for one sample, expected one")
        return (x.select(axis, 0) if batched else x), batched


def _spans(timespans: Any, x: torch.Tensor) -> torch.Tensor:
    """Timespans as (rows, 1); a part that gets none computes with 1."""
    if not isinstance(timespans, torch.Tensor):
        return torch.full((len(x), 1), 1.0 if timespans is None else float(timespans))
    return timespans.reshape(-1, 1).expand(len(x), 1)
