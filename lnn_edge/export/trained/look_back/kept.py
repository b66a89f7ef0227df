"""Look-back that is causal: the last samples kept beside the states of the cores, for encoders that see several.

A left-padded convolution or a first difference computes with the last N samples. The step gets them as a window, of
which the last sample alone goes through the cores. At the start of a sequence there are fewer: then the forward sees
what it saw in training, either because zeros or the first sample in their place give the same, or because the step
computes it for each length and chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ....bundle.spec import StatePair, Tensor
from ...forward.forward import Forward
from ...forward.leaves import Leaf
from ..kept_states import KeptStates, RunCore
from ..patching import Part, States, one_span_per_row
from ..protocol import state_pair

__all__ = ["LookBack", "Start", "possible_starts"]

_MOST_LENGTHS = 8  # of beginnings that a step computes beside each other


@dataclass(frozen=True)
class Start:
    """What stands in for samples before the first, and where the forward is run for each number of them.

    Attributes:
        first: Whether it is the first sample, rather than zeros.
        lengths: Whether the forward is run on as many samples as there are, up to the cores.
        heads: Likewise behind them.
    """

    first: bool = False
    lengths: bool = False
    heads: bool = False


@dataclass(frozen=True)
class _Reached:
    """The first core in a call whose output is not known yet, with what it is given."""

    part: Part
    sample: torch.Tensor
    spans: torch.Tensor | None


def possible_starts(samples: int) -> Iterator[Start]:
    """How a sequence may begin with so many samples, the cheapest first."""
    starts = (Start(), Start(first=True), Start(lengths=True), Start(lengths=True, heads=True))
    return (start for start in starts if samples <= _MOST_LENGTHS or not start.lengths)


class LookBack:
    """A forward stepped with its last samples.

    Args:
        forward: How the forward is called.
        kept: The cores.
        leaves: The outputs.
        inputs: The inputs.
        samples: How many samples it sees, the newest among them.
        start: What it sees at the start of a sequence.

    Attributes:
        states: What is kept beside the states of the cores: samples, and if it matters how many there were.
    """

    def __init__(
        self,
        forward: Forward,
        kept: KeptStates,
        leaves: Sequence[Leaf],
        inputs: Sequence[Tensor],
        samples: int,
        start: Start,
    ) -> None:
        self._forward, self._kept, self._leaves, self._inputs = forward, kept, leaves, inputs
        self._samples, self._start = samples, start
        self.states = tuple(self._state_pairs())

    def _state_pairs(self) -> Iterator[StatePair]:
        streamed = [tensor for tensor in self._inputs if not tensor.constant]
        for tensor in streamed:
            name = "last_samples" if len(streamed) == 1 else f"{tensor.name}.last_samples"
            yield state_pair(name, tensor.shape[0], (self._samples - 1) * prod(tensor.shape[1:]))
        if self._counts:
            yield state_pair("seen_samples", self._inputs[0].shape[0], 1)

    @property
    def _counts(self) -> bool:
        return self._start.first or self._start.lengths

    def traced(
        self, module: nn.Module, inputs: States, states: States, span: torch.Tensor | None, run: RunCore
    ) -> tuple[States, States]:
        """Outputs of one sample of some rows, and what is kept after it, whatever the number of samples before it.

        Args:
            module: The module.
            inputs: The sample, (rows, ...) by input.
            states: What was kept, as `states` says.
            span: The timespan, (1, 1), if the forward takes one.
            run: What runs a core.
        """
        windows, seen = self._windows(inputs, states)
        lengths = range(1, self._samples + 1) if self._start.lengths else [self._samples]
        outputs = self._run(module, windows, span, lengths, lambda values: _chosen(values, seen), run)
        return outputs, self._after(windows, seen)

    def stepped(
        self, module: nn.Module, inputs: States, states: States, span: torch.Tensor | None, run: RunCore
    ) -> tuple[States, States]:
        """The same of one row, for as many samples as were before it."""
        windows, seen = self._windows(inputs, states)
        lengths = [self._samples]
        if self._start.lengths and seen is not None:
            lengths = [next((n for n in range(1, self._samples) if seen.item() < n - 0.5), self._samples)]
        outputs = self._run(module, windows, span, lengths, lambda values: values[0], run)
        return outputs, self._after(windows, seen)

    def _windows(self, inputs: States, states: States) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Of each input (rows, samples, ...), and the number of samples before this one (rows, 1).

        A constant stays as it is, (rows, ...). Whole numbers are kept as float32, which holds them.
        """
        seen, windows, kept = states[-1] if self._counts else None, [], iter(states)
        for tensor, x in zip(self._inputs, inputs, strict=True):
            if tensor.constant:
                windows.append(x)
                continue
            before = next(kept).reshape(len(x), self._samples - 1, *x.shape[1:]).to(x.dtype)
            if self._start.first and seen is not None:
                begun = seen.reshape(len(x), 1, *[1] * (x.dim() - 1)) > 0.5
                before = torch.where(begun, before, x.unsqueeze(1))
            windows.append(torch.cat([before, x.unsqueeze(1)], dim=1))
        return windows, seen

    def _after(self, windows: Sequence[torch.Tensor], seen: torch.Tensor | None) -> list[torch.Tensor]:
        kept = [
            window[:, 1:].reshape(len(window), -1).float()
            for tensor, window in zip(self._inputs, windows, strict=True)
            if not tensor.constant
        ]
        return kept if seen is None else [*kept, (seen + 1.0).clamp(max=float(self._samples))]

    def _run(
        self,
        module: nn.Module,
        windows: Sequence[torch.Tensor],
        span: torch.Tensor | None,
        lengths: Sequence[int],
        choose: Callable[[Sequence[torch.Tensor]], torch.Tensor],
        run: RunCore,
    ) -> list[torch.Tensor]:
        """The outputs: core by core, as each needs what those before it gave."""
        known: dict[int, tuple[torch.Tensor, States]] = {}

        def called(length: int) -> list[torch.Tensor] | _Reached:
            return self._called(module, windows, span, length, known)

        last = called(self._samples)
        while isinstance(last, _Reached):
            come = [last if length == self._samples else called(length) for length in lengths]
            reached = [own for own in come if isinstance(own, _Reached)]
            spans = [own.spans for own in reached if own.spans is not None]
            own_span = choose(spans) if spans else None
            known[last.part.index] = run(last.part, choose([own.sample for own in reached]), own_span)
            last = called(self._samples)
        if not self._start.heads:
            return last
        heads = [last if length == self._samples else called(length) for length in lengths]
        return [choose(values) for values in zip(*(own for own in heads if not isinstance(own, _Reached)), strict=True)]

    def _called(
        self,
        module: nn.Module,
        windows: Sequence[torch.Tensor],
        span: torch.Tensor | None,
        length: int,
        known: dict[int, tuple[torch.Tensor, States]],
    ) -> list[torch.Tensor] | _Reached:
        """The outputs for the last sample, or the core that the forward comes to next."""
        reached: list[_Reached] = []

        def replacement(part: Part, seen: States | None, x: Any, _hx: Any, timespans: Any) -> tuple[Any, States]:
            part.check_once(seen)
            batched = part.batched(x)
            if part.index not in known:
                reached.append(_Reached(part, part.sample(x), _newest_span(part, timespans, batched)))
            # the forward goes on with zeros where it is called again; it cannot be left, as a trace is inside of it
            y, states = known.get(part.index) or _nothing(part, reached[-1].sample)
            result, hx = part.convention.returned(y, states, batched)
            return (part.lengthened(result, part.length(x), batched), hx), states

        inputs = [
            window if tensor.constant else self._placed(window[:, window.shape[1] - length :])
            for tensor, window in zip(self._inputs, windows, strict=True)
        ]
        spans = None if span is None else self._placed(span.reshape(-1, 1).expand(-1, length))
        with self._kept.patcher.patched(replacement):
            traced = torch.compiler.is_exporting()  # what a trace cannot follow, `trace_step` tells
            result = self._forward.result if traced else self._forward.call
            leaves = pytree.tree_leaves(result(module, inputs, spans))
        return reached[0] if reached else [_newest(leaves[leaf.index], leaf) for leaf in self._leaves]

    def _placed(self, window: torch.Tensor) -> torch.Tensor:
        """Samples (rows, time, ...) as the forward takes them."""
        return window if self._forward.axis == 1 else window.transpose(0, 1)


def _nothing(part: Part, sample: torch.Tensor) -> tuple[torch.Tensor, States]:
    states = [sample.new_zeros(len(sample), width) for width in part.maths.state_widths]
    return sample.new_zeros(len(sample), part.maths.outputs), states


def _newest(value: torch.Tensor, leaf: Leaf) -> torch.Tensor:
    return value if leaf.time_axis is None else value.narrow(leaf.time_axis, value.shape[leaf.time_axis] - 1, 1)


def _newest_span(part: Part, timespans: torch.Tensor | None, batched: bool) -> torch.Tensor | None:
    """The timespan of the newest sample, (rows, 1)."""
    if timespans is None:
        return None
    axis = part.axis if batched and timespans.dim() > 1 else 0
    newest = timespans.narrow(axis, timespans.shape[axis] - 1, 1)
    return one_span_per_row(newest, newest.shape[1 - axis] if newest.dim() > 1 and batched else 1)


def _chosen(values: Sequence[torch.Tensor], seen: torch.Tensor | None) -> torch.Tensor:
    """The first value where no sample was before this one, the second where there was one, ..."""
    result = values[-1]
    if seen is None:
        return result
    for length in range(len(values) - 1, 0, -1):
        fewer = seen.reshape(-1, *[1] * (result.dim() - 1)) < length - 0.5
        result = torch.where(fewer, values[length - 1], result)
    return result
