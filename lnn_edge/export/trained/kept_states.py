"""States of a network's cores, kept for them from sample to sample, whatever the forward around them passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...wording import listed, step_advice, typed
from ..cores.calling import layer_convention
from ..cores.maths import CoreMaths
from ..cores.timespans import check_timespans
from .patching import After, CorePatcher, Part, States, one_span_per_row, opaque

__all__ = [
    "Call",
    "KeptStates",
    "RunCore",
    "changed_in_the_loop",
    "changed_on_the_way",
    "changing_start",
    "spans_of_a_length",
    "without_time",
]

# Runs a core on one sample (rows, features) with a timespan (rows, 1) or that of the step: its output and new states.
RunCore = Callable[[Part, torch.Tensor, torch.Tensor | None], tuple[torch.Tensor, States]]


class Call(NamedTuple):
    """One call of a core: samples, states before, timespans and states after; `None` for what it was not given."""

    core: str
    length: int
    before: States | None
    timespans: torch.Tensor | None
    after: States


class KeptStates:
    """The cores of one network, in order.

    Every context yields the new states of each core, once the network has been called.

    Args:
        layers: The cores by name.
        maths: What stands for them.
        starts: Each state at the start of a sequence, (1, width), once that is known.

    Attributes:
        patcher: What patches them.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], maths: Sequence[CoreMaths], starts: States | None = None
    ) -> None:
        self.patcher = CorePatcher(layers, maths)
        self._conventions = [layer_convention(part.name, part.module) for part in self.patcher.parts]
        self._counts = [len(core.state_names) for core in maths]
        self._starts = starts

    def whole(self, spans: torch.Tensor | None) -> AbstractContextManager[After]:
        """Sequences run as always; only missing timespans are filled in."""

        def forward(part: Part, _seen: States | None, x: Any, hx: Any, timespans: Any) -> tuple[Any, States]:
            y, state = self._conventions[part.index].call(x, hx, _spans(part, timespans, spans))
            return (y, state), pytree.tree_leaves(state)  # as they are: only their place in memory is asked for

        return self.patcher.patched(forward)

    def starting(self) -> AbstractContextManager[After]:
        """Sequences run as always; what is yielded are the states that the forward starts each core from."""

        def forward(part: Part, seen: States | None, x: Any, hx: Any, timespans: Any) -> tuple[Any, States]:
            # called first, as it says what is wrong with what it was given
            result = self._conventions[part.index].call(x, hx, timespans)
            if seen is None:
                seen = _zeros(part) if hx is None else _first_rows(part, hx, part.batched(x))
            return result, seen

        return self.patcher.patched(forward)

    def stepping(self, states: States, spans: torch.Tensor | None) -> AbstractContextManager[After]:
        """One sample, with the states given, through the layers' own code."""

        def forward(part: Part, seen: States | None, x: Any, hx: Any, timespans: Any) -> tuple[Any, States]:
            _check_step(part, seen, x, len(self._own(states, part)[0]))
            batched = part.batched(x)
            self._check_start(part, hx, batched)
            convention = self._conventions[part.index]
            own = convention.packed(self._own(states, part), batched)
            y, state = convention.call(x, own, _spans(part, timespans, spans))
            return (y, state), convention.unpacked(state, batched)

        return self.patcher.patched(forward)

    def tracing(self, states: States) -> AbstractContextManager[After]:
        """One sample of one row; each core becomes one opaque operation."""

        def forward(part: Part, seen: States | None, x: Any, _hx: Any, timespans: Any) -> tuple[Any, States]:
            _check_step(part, seen, x, len(self._own(states, part)[0]))
            sample = part.sample(x)
            spans = None if timespans is None else one_span_per_row(timespans, len(sample))
            y, *new = opaque(part, sample, self._own(states, part), spans)
            return part.convention.returned(y, new, part.batched(x)), new

        return self.patcher.patched(forward)

    def memoryless(self, inputs: dict[str, list[torch.Tensor]]) -> AbstractContextManager[After]:
        """Sequences run; in place of each core is what depends on each sample and its timespan alone.

        Args:
            inputs: Gets what each core is given in each call, by its name.
        """

        def forward(part: Part, _seen: States | None, x: Any, _hx: Any, timespans: Any) -> tuple[Any, States]:
            inputs.setdefault(part.name, []).append(x.detach())
            batched, draws = part.batched(x), torch.Generator().manual_seed(part.index)
            y = torch.tanh(x @ torch.randn(x.shape[-1], part.maths.outputs, generator=draws))
            if timespans is not None and timespans.numel() % y[..., 0].numel() == 0:
                y = y + 0.1 * timespans.reshape(*y.shape[:-1], -1)[..., :1]
            last = part.sample(y)
            states = [last.mean(dim=-1, keepdim=True).repeat(1, width) for width in part.maths.state_widths]
            alone = not getattr(part.module, "return_sequences", True)
            result = (last if batched else last[0]) if alone else y
            return (result, self._conventions[part.index].packed(states, batched)), states

        return self.patcher.patched(forward)

    def watching(self, calls: list[Call]) -> AbstractContextManager[After]:
        """Sequences run as always; `calls` gets what each call of a core was given and gave."""

        def forward(part: Part, _seen: States | None, x: Any, hx: Any, timespans: Any) -> tuple[Any, States]:
            y, state = self._conventions[part.index].call(x, hx, timespans)
            given = None if hx is None else _first_rows(part, hx, part.batched(x))
            calls.append(Call(part.name, part.length(x), given, timespans, _first_rows(part, state, part.batched(x))))
            return (y, state), pytree.tree_leaves(state)

        return self.patcher.patched(forward)

    def one_sample(self, states: States, spans: torch.Tensor | None, after: After) -> RunCore:
        """What runs a core on one sample of one row, through the layer's own code; `after` gets the new states."""

        def run(part: Part, sample: torch.Tensor, own: torch.Tensor | None) -> tuple[torch.Tensor, States]:
            convention, hx = self._conventions[part.index], self._own(states, part)
            y, state = convention.call(sample.unsqueeze(0), convention.packed(hx, True), _spans(part, own, spans))
            after[part.index] = new = convention.unpacked(state, True)
            return y.reshape(1, -1), new

        return run

    def one_operation(self, states: States, after: After) -> RunCore:
        """The same as one opaque operation of a trace, on one sample of some rows."""

        def run(part: Part, sample: torch.Tensor, own: torch.Tensor | None) -> tuple[torch.Tensor, States]:
            y, *new = opaque(part, sample, self._own(states, part), own)
            after[part.index] = new
            return y, new

        return run

    def collected(self, after: After) -> list[torch.Tensor]:
        """All new states in order.

        Raises:
            ValueError: If a core was not called.
        """
        missing = self.patcher.uncalled(after)
        if missing:
            raise ValueError(f"the forward never calls the core {listed(missing)}; remove it from the model")
        return [state.float() for states in after for state in states or ()]  # an autocast lowers them

    def _own(self, states: States, part: Part) -> States:
        start = sum(self._counts[: part.index])
        return states[start : start + self._counts[part.index]]

    def _check_start(self, part: Part, hx: Any, batched: bool) -> None:
        """A forward that is called without a state begins a sequence, and so with the states that were found."""
        if self._starts is None or hx is None:
            return
        given = _first_rows(part, hx, batched)
        if not all(torch.equal(a, b) for a, b in zip(given, self._own(self._starts, part), strict=True)):
            raise ValueError(changing_start(part.name))


def _spans(part: Part, own: torch.Tensor | None, spans: torch.Tensor | None) -> torch.Tensor | None:
    """The timespans that the forward itself passes, else those of the step."""
    if own is None:
        return spans
    check_timespans(part.name, part.maths, own)
    return own


def _check_step(part: Part, seen: States | None, x: torch.Tensor, rows: int) -> None:
    part.check_once(seen)
    given = part.rows(x)
    if given > rows:
        raise ValueError(
            f"the forward gives the core '{part.name}' {given} rows for {'one' if rows == 1 else rows}: it folds "
            "channels into the rows, and each has a state of its own. Call the core for each, with a state for each "
            f"call: {step_advice()}, with a tuple of states"
        )
    length = part.length(x)
    if length != 1:
        raise ValueError(
            f"the forward gives the core '{part.name}' {length} time steps for one sample: the model is not causal per "
            "sample (it pads, repeats or flips the sequence), so stepping it would not equal the sequence"
        )


def _zeros(part: Part) -> States:
    return [torch.zeros(1, width) for width in part.maths.state_widths]


def _first_rows(part: Part, hx: Any, batched: bool) -> States:
    """States as the forward passes them, (1, width) each: rows do not differ at the start of a sequence."""
    # copied, as the forward may write the new states into the tensors that it passed
    return [state[:1].detach().clone() for state in part.convention.unpacked(hx, batched)]


def changing_start(name: str) -> str:
    """What is wrong with a core that starts from a state of its own in every call."""
    return (
        f"the forward starts the core '{name}' from a state that differs from call to call: it is random, or computed "
        "from the samples or from a constant input. A stream starts every sequence from one state: pass zeros or a "
        "parameter, and what is constant beside each sample, torch.cat([x, goal.unsqueeze(1).expand(-1, T, -1)], -1); "
        f"or let one turn of the loop begin, {step_advice()}, with a number in its state that is 0 at first and 1 ever "
        "after: h = torch.where(began > 0, h, begin)"
    )


def _step_of_a_net(axis: int) -> str:
    """How the step that is a forward of one sample is named."""
    turn = f"m['net'](x.unsqueeze({axis}), state)"
    return typed(
        f"step=lambda m, x, state: {turn}", f"--step NAME, of a function NAME(m, x, state) that returns {turn}"
    )


def changed_on_the_way(argument: str, axis: int) -> str:
    """What is wrong with a forward that changes the states of its cores between two calls; `axis` is that of time."""
    return (
        f"called sample by sample, each time with the state that it returned as `{argument}`, the model gives "
        "something else than on the whole sequence: it changes the state on the way, or hands on those of some cores "
        "only, and a stream is one of both. For samples with the state handed on, say that this is the step, hidden "
        "from the forward, with which it would be compared: export torch.nn.ModuleDict({'net': model}) with "
        f"{_step_of_a_net(axis)}. For whole sequences, write a "
        f"forward that takes no `{argument}` and returns the outputs alone, or hand on the states of all cores as they "
        "are"
    )


def changed_in_the_loop(core: str) -> str:
    """What is wrong with a forward that loops over samples and changes the state of a core between them."""
    return (
        f"its loop over samples does not hand the state of the core '{core}' on as it is: it resets, masks or scales "
        f"it, or begins anew. Say what one turn of that loop is: {step_advice()}"
    )


def spans_of_a_length(argument: str | None) -> str:
    """What is wrong with timespans that are made of the number of samples, 1/T; `argument` is that of time."""
    span = typed("timespan=1 / 24", "--timespan 0.0417")
    how = (
        f"say what they are for the recordings of the training, as `{argument}` then gets it: {span} where those have "
        "24 samples"
        if argument
        else "give the forward an argument `timespans`, pass it on to the cores, and say what it was in training: "
        f"{span} where recordings have 24 samples"
    )
    return f"the forward makes timespans of the number of samples in a call, and a stream has no end: {how}"


def without_time(core: str, argument: str | None) -> str:
    """What is wrong with a forward that computes with the time, and calls a core as if it were always 1."""
    return (
        f"the forward computes with `{argument}`, and calls the core '{core}' without timespans, which ncps takes "
        f"for 1. Say what the core shall have: timespans={argument}, or timespans=torch.ones_like({argument}) for "
        "what it has"
    )
