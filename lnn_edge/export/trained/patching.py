"""Steers the cores inside a network while its forward runs: whole sequences, single steps, or a trace.

In a steered context each core's forward is replaced on the instance; leaving the context puts the class's own back.
Every context yields a list that holds the new states of each core once the network has been called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...reference import ReferenceCore
from ...wording import listed
from ..cores.calling import convention_of, layer_convention
from ..cores.find import is_cell
from ..cores.timespans import check_timespans
from ..trace.core_op import opaque_core

__all__ = ["GivenStates", "Steering", "changing_start", "initial_value"]

After = list[Any]  # per core a tuple of its new states, `None` until it was called
Starts = list[torch.Tensor]  # per state of all cores its value at the start of a sequence, (1, width)


class Steering:
    """The cores of one network, in order, with the maths that stands for them."""

    def __init__(
        self, layers: Mapping[str, nn.Module], cores: Sequence[ReferenceCore], starts: Starts | None = None
    ) -> None:
        self._layers: list[tuple[str, Any]] = list(layers.items())
        self._conventions = [layer_convention(name, layer) for name, layer in layers.items()]
        self._cores = cores
        self._starts = starts
        self._counts = [len(core.state_names) for core in cores]

    def whole(self, spans: torch.Tensor | None) -> AbstractContextManager[After]:
        """Sequences run as always; only missing timespans are filled in."""

        def forward(index: int, after: After, x: torch.Tensor, hx: Any, timespans: Any) -> Any:
            y, state = self._conventions[index].call(x, hx, self._spans(index, timespans, spans))
            after[index] = tuple(pytree.tree_leaves(state))  # as they are: only their place in memory is asked for
            return y, state

        return self._steered(forward)

    def starting(self) -> AbstractContextManager[After]:
        """Sequences run as always; what is yielded are the states that the forward starts each core from."""

        def forward(index: int, after: After, x: torch.Tensor, hx: Any, timespans: Any) -> Any:
            convention = self._conventions[index]
            result = convention.call(x, hx, timespans)  # first, as it says what is wrong with what it was given
            if after[index] is None:
                after[index] = self._zeros(index) if hx is None else self._first_rows(index, hx, x.dim() > 2)
            return result

        return self._steered(forward)

    def stepping(self, states: list[torch.Tensor], spans: torch.Tensor | None) -> AbstractContextManager[After]:
        """One sample, with the states given, through the layers' own code."""

        def forward(index: int, after: After, x: torch.Tensor, hx: Any, timespans: Any) -> Any:
            self._check_step(index, x, after)
            convention, batched = self._conventions[index], x.dim() > 2
            self._check_start(index, hx, batched)
            own = convention.packed(self._own(states, index), batched)
            y, state = convention.call(x, own, self._spans(index, timespans, spans))
            after[index] = convention.unpacked(state, batched)
            return y, state

        return self._steered(forward)

    def exact(self, states: list[torch.Tensor], spans: torch.Tensor | None) -> AbstractContextManager[After]:
        """One sample, with the states given, through the float64 reference."""

        def forward(index: int, after: After, x: torch.Tensor, _hx: Any, timespans: Any) -> Any:
            self._check_step(index, x, after)
            core, given = self._cores[index], self._spans(index, timespans, spans)
            state = dict(zip(core.state_names, (s.numpy() for s in self._own(states, index)), strict=True))
            timespan = 1.0 if given is None else given.double().reshape(-1, 1).numpy()
            y, new = core.step(self._sample(index, x).double().numpy(), state, timespan)
            after[index] = tuple(torch.from_numpy(new[name]) for name in core.state_names)
            return self._conventions[index].returned(torch.from_numpy(y), after[index], x.dim() > 2)

        return self._steered(forward)

    def tracing(self, states: list[torch.Tensor]) -> AbstractContextManager[After]:
        """One sample of all rows; each core becomes one opaque operation."""

        def forward(index: int, after: After, x: torch.Tensor, _hx: Any, timespans: Any) -> Any:
            self._check_step(index, x, after)
            sample = self._sample(index, x)
            spans = None if timespans is None else timespans.reshape(sample.shape[0], 1)
            y, *new = opaque_core(sample, self._own(states, index), spans, index, self._cores[index].outputs)
            after[index] = tuple(new)
            return self._conventions[index].returned(y, after[index], x.dim() > 2)

        return self._steered(forward)

    def collected(self, after: After) -> list[torch.Tensor]:
        """All new states in order.

        Raises:
            ValueError: If a core was not called.
        """
        missing = [name for (name, _), states in zip(self._layers, after, strict=True) if states is None]
        if missing:
            raise ValueError(f"the forward never calls the core {listed(missing)}; remove it from the model")
        return [state for states in after for state in states]

    @contextmanager
    def _steered(self, forward: Callable[..., Any]) -> Iterator[After]:
        after: After = [None] * len(self._layers)

        def bound(index: int) -> Callable[..., Any]:
            def own_forward(_self: Any, input: torch.Tensor, hx: Any = None, timespans: Any = None) -> Any:  # noqa: A002 - its name in ncps and torch
                return forward(index, after, input, hx, timespans)

            return own_forward

        for index, (_, layer) in enumerate(self._layers):
            layer.forward = MethodType(bound(index), layer)
        try:
            yield after
        finally:
            for _, layer in self._layers:
                del layer.forward

    def _spans(self, index: int, own: torch.Tensor | None, spans: torch.Tensor | None) -> torch.Tensor | None:
        """The timespans that the forward itself passes, else those of the step."""
        if own is None:
            return spans
        check_timespans(self._layers[index][0], self._cores[index], own)
        return own

    def _own(self, states: list[torch.Tensor], index: int) -> list[torch.Tensor]:
        start = sum(self._counts[:index])
        return states[start : start + self._counts[index]]

    def _sample(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """The one sample in a sequence of length one, (rows, features)."""
        return x if x.dim() == 2 else x.select(1 if self._layers[index][1].batch_first else 0, 0)

    def _check_step(self, index: int, x: torch.Tensor, after: After) -> None:
        name, layer = self._layers[index]
        if after[index] is not None:
            raise ValueError(
                f"the forward calls the core '{name}' more than once per sample, so it has no single state"
            )
        length = x.shape[0] if x.dim() == 2 or not layer.batch_first else x.shape[1]
        if length != 1:
            raise ValueError(
                f"the forward gives the core '{name}' {length} time steps for one sample: the model is not causal per "
                "sample (it pads, repeats or flips the sequence), so stepping it would not equal the sequence"
            )

    def _check_start(self, index: int, hx: Any, batched: bool) -> None:
        """A forward that is called without a state begins a sequence, and so with the states that were found."""
        if self._starts is None or hx is None:
            return
        given = self._first_rows(index, hx, batched)
        if not all(torch.equal(a, b) for a, b in zip(given, self._own(self._starts, index), strict=True)):
            raise ValueError(changing_start(self._layers[index][0]))

    def _zeros(self, index: int) -> tuple[torch.Tensor, ...]:
        return tuple(torch.zeros(1, width) for width in self._cores[index].state_widths)

    def _first_rows(self, index: int, hx: Any, batched: bool) -> tuple[torch.Tensor, ...]:
        """States as the forward passes them, (1, width) each: rows do not differ at the start of a sequence."""
        return tuple(state[:1].detach() for state in self._conventions[index].unpacked(hx, batched))


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


def initial_value(state: torch.Tensor) -> float | tuple[float, ...]:
    """One row's state, (1, ...), as the manifest writes it: one number if all units have the same, else one each."""
    values = [float(value) for value in state.flatten().tolist()]
    return values[0] if len(set(values)) == 1 else tuple(values)


def changing_start(name: str) -> str:
    """What is wrong with a core that starts from a state of its own in every call."""
    return (
        f"the forward starts the core '{name}' from a state that differs from call to call: it is random, or computed "
        "from the samples. A stream starts every sequence from one state; pass zeros, or a parameter"
    )
