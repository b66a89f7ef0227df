"""The user's forward, called as in training: on sequences of one row, with whatever it returns taken apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...arrays import Array
from ...bundle.spec import Tensor, Time
from ...verify.samples import Excitation
from ...wording import typed
from ..cores.calling import NOTHING_TO_PACK, forward_signature, packs
from ..cores.liquid import is_core
from ..cores.timespans import timespans_from_dt
from ..trace.trace import raised_by_us, users_line
from .advice import advice_on, any_length, other_width, widths_to_try
from .arguments import STATE_NAMES, TIME_NAMES, only_needed, packing
from .checks import Checks
from .example import Example, ForwardError
from .leaves import Leaf
from .returned import opened

__all__ = ["Forward", "Known", "returned_state"]

Known = dict[str, tuple[Array, Array]]  # per output the steps whose value is known, and the values (known, *shape)
Around = Callable[[torch.Tensor | None], AbstractContextManager[Any]]


class Forward:
    """How the forward of a module takes samples of several inputs, and time.

    Args:
        module: The module.
        inputs: The inputs; one that is called "input" is passed by place, others by name.
        batch: Rows per step.
        batch_first: Whether it takes (batch, time, ...).
        example: How it is given its inputs.
        timed: Whether it is given timespans of 1 although it has a default for them: a step that it is compared with
            gets them.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[Tensor],
        *,
        batch: int,
        batch_first: bool,
        example: Example | None = None,
        timed: bool = False,
    ) -> None:
        self._inputs, self._batch, self._example = inputs, batch, example or Example({})
        self.axis = 1 if batch_first else 0  # of time
        core = is_core(module)
        signature = forward_signature(type(module)) if core else inspect.signature(module.forward)
        parameters = signature.parameters
        self.time_argument = next((name for name in parameters if name in TIME_NAMES), None)
        needed = timed or (self.time_argument and parameters[self.time_argument].default is inspect.Parameter.empty)
        self._needs_time = self.time_argument is not None and bool(needed)
        given = {t.name for t in inputs} | (
            only_needed(parameters.values()) if "input" in {t.name for t in inputs} else set()
        )
        states = [p for name, p in parameters.items() if name in STATE_NAMES and name not in given]
        self.state_argument = states[0].name if states else None
        self._begins: dict[str, Any] = {p.name: None for p in states if p.default is p.empty}  # sequences, with None
        self._packed = packing([t.name for t in inputs], parameters, self._begins)
        self._spans_of_one_feature = False  # until a forward takes them as (batch, time, 1) alone
        self.before_each_call: Callable[[], None] | None = None  # puts back what calls leave in the module
        self.checks = Checks()  # until somebody finds some

    def takes(self, time: Time) -> bool:
        """Whether it is given timespans: not where its training gave it none, and it has a default for them."""
        return self.time_argument is not None and (time.mode == "measured" or time.timespan != 1.0 or self._needs_time)

    def call(self, module: nn.Module, inputs: Sequence[torch.Tensor], spans: torch.Tensor | None) -> list[Any]:
        """The leaves of what a module returns."""
        return list(pytree.tree_leaves(self._tried(module, inputs, spans)))

    def result(
        self, module: nn.Module, inputs: Sequence[torch.Tensor], spans: torch.Tensor | None, state: Any = None
    ) -> Any:
        """What a module returns; several inputs go in by name, and a state that an earlier call returned."""
        keywords = dict(self._begins)
        if self.time_argument is not None and spans is not None:
            keywords[self.time_argument] = spans.unsqueeze(-1) if self._spans_of_one_feature else spans
        if self.state_argument is not None and state is not None:
            keywords[self.state_argument] = state
        named = dict(zip((t.name for t in self._inputs), inputs, strict=True))
        if self.before_each_call is not None:
            self.before_each_call()
        with self.checks.passed():
            places, names = self._packed(named)
            return opened(module(*places, **names, **keywords))

    def _tried(self, module: nn.Module, inputs: Sequence[torch.Tensor], spans: torch.Tensor | None) -> Any:
        """What a module returns; an error of the user's own code is told with what it was called with."""
        try:
            return self.result(module, inputs, spans)
        except Exception as error:
            if raised_by_us(error):
                raise
            if spans is not None and (found := self._with_one_feature(module, inputs, spans)) is not None:
                return found
            named = dict(zip((t.name for t in self._inputs), inputs, strict=True))
            raise ForwardError(self._what_failed(module, error, named, spans)) from error

    def _with_one_feature(self, module: nn.Module, inputs: Sequence[torch.Tensor], spans: torch.Tensor) -> Any:
        """What a forward returns that takes timespans as a feature, (batch, time, 1); `None` if it does not."""
        if self._spans_of_one_feature:
            return None
        self._spans_of_one_feature = True
        try:
            return self.result(module, inputs, spans)
        except Exception:  # the first error is the one to tell
            self._spans_of_one_feature = False
            return None

    def _what_failed(
        self, module: nn.Module, error: Exception, inputs: Mapping[str, torch.Tensor], spans: torch.Tensor | None
    ) -> str:
        """The user's own code raised: what it was called with, and that it is called with other lengths too."""
        order = "batch, time" if self.axis == 1 else "time, batch"
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in inputs.items())
        timed = "" if self.time_argument is None or spans is None else f" and {self.time_argument} {list(spans.shape)}"
        length = max(x.shape[self.axis] for x in inputs.values() if x.dim() > self.axis)
        if packs(line := users_line(error)) or "'PackedSequence' object" in str(error):
            return f"the model packs sequences{line}; {NOTHING_TO_PACK}"
        advice = advice_on(error, length, next(iter(self._begins), None))
        advice = advice or self._other_width(module, error, inputs, spans) or self._whole_recording(module)
        return (
            f"the model's own forward failed with {type(error).__name__}: {error}{line}. It was called "
            f"with {shapes} ({order}, ...){timed}. {advice}"
        )

    def _other_width(
        self, module: nn.Module, error: Exception, inputs: Mapping[str, torch.Tensor], spans: torch.Tensor | None
    ) -> str:
        """What to do, if the model runs on another number of columns."""
        given = next(iter(inputs.values()))
        if len(inputs) > 1 or given.dim() != 3 or self._example.scalings:
            return ""
        tried = widths_to_try(error, given.shape[2])
        fits = (k for k in tried if self._runs(module, [given.new_zeros(*given.shape[:2], k)], spans))
        takes = next(fits, None)
        return "" if takes is None else other_width(takes, given.shape[2])

    def _whole_recording(self, module: nn.Module) -> str:
        """What to do, once it is known whether the recording as it is fails as well, and one sample."""
        rows = {t.name: self._example.rows[t.name][0][:, 0] for t in self._inputs if t.name in self._example.rows}
        if len(rows) != len(self._inputs):
            return any_length()
        whole = [self._sequence(t, rows[t.name]) for t in self._inputs]
        shapes = ", ".join(f"{t.name} {list(x.shape)}" for t, x in zip(self._inputs, whole, strict=True))
        spans = self._ones(len(next(iter(rows.values())))) if self._needs_time else None
        if self._runs(module, whole, spans):
            return (
                f"The recording as it is, {shapes}, it takes: it computes with several samples at once (a norm or a "
                f"layer over all of them, a length that it checks), and a step has one. {any_length()}"
            )
        sample = [x if t.constant else x.select(self.axis, 0) for t, x in zip(self._inputs, whole, strict=True)]
        if self._runs(module, sample, None):
            return "It takes one sample, and no sequence: that is the step. Type: " + typed(
                "step=lambda model, x, state: model(x, state)", "--step forward"
            )
        return f"The recording as it is, {shapes}, fails as well: pass an example as the forward takes it"

    def _runs(self, module: nn.Module, inputs: Sequence[torch.Tensor], spans: torch.Tensor | None) -> bool:
        try:
            with torch.no_grad():
                self.result(module, inputs, spans)
        except Exception:  # the user's own code
            return False
        return True

    def _ones(self, steps: int) -> torch.Tensor:
        return torch.ones(steps).unsqueeze(1 - self.axis)

    def on(self, module: nn.Module, samples: Mapping[str, Array]) -> Any:
        """What a module returns for one row of a few samples, (steps, ...) each, one timespan apart."""
        inputs = [self._sequence(t, samples[t.name]) for t in self._inputs]
        spans = self._ones(len(samples[self._inputs[0].name]))
        with torch.no_grad():
            try:
                return self._tried(module, inputs, spans if self._needs_time else None)
            except ValueError:
                if self._needs_time or self.time_argument is None:
                    raise
                result = self._tried_with_time(module, inputs, spans)
        self._needs_time = True  # its default is none that it can be called with
        return result

    def timed(self, module: nn.Module, samples: Mapping[str, Array], spans: Array) -> list[Any]:
        """The leaves of what a module returns for one row of a few samples, (steps, ...) each, spans (steps,) apart."""
        inputs = [self._sequence(t, samples[t.name]) for t in self._inputs]
        with torch.no_grad():
            return self.call(module, inputs, torch.from_numpy(spans.astype(np.float32)).unsqueeze(1 - self.axis))

    def handed_on(self, module: nn.Module, samples: Sequence[Mapping[str, Array]]) -> list[Any]:
        """What a module returns for samples of one row, one per call, (1, ...) each, with the state handed on.

        Raises:
            ValueError: If a call returns nothing that is a state.
            Exception: Whatever the user's code raises, given what it returned.
        """
        results, state = [], None
        for sample in samples:
            inputs = [self._sequence(t, sample[t.name]) for t in self._inputs]
            spans = torch.ones(1, 1) if self._needs_time else None
            with torch.no_grad():
                results.append(self.result(module, inputs, spans, state))
            state = returned_state(results[-1])
        return results

    def accepts(self, module: nn.Module, samples: Mapping[str, Array]) -> bool:
        """Whether a module takes a few samples of one row, (steps, *shape) by input, or raises."""
        try:
            self.on(module, samples)
        except ValueError:  # what the user's code raised, told by ours
            return False
        return True

    def _tried_with_time(self, module: nn.Module, inputs: Sequence[torch.Tensor], spans: torch.Tensor) -> Any:
        """Call again with timespans; if that fails as well, the first error is the one to tell."""
        try:
            return self.result(module, inputs, spans)
        except Exception:
            return self._tried(module, inputs, None)

    def arguments(
        self, samples: Excitation, time: Time, part: slice, row: int
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Inputs and timespans of one row; no timespans where the training passed none."""
        given = [self._sequence(t, samples.inputs[t.name][part, row]) for t in self._inputs]
        spans = self._spans(samples, time, part, row)
        return given, None if spans is None else spans.unsqueeze(1 - self.axis)

    def _sequence(self, tensor: Tensor, values: Array) -> torch.Tensor:
        """Samples of one row, (steps, *shape), as the forward takes them; a constant has no axis of time."""
        given = self._example.given(tensor, values)
        return given[:1] if tensor.constant else given.unsqueeze(1 - self.axis)

    def one_sample(self, samples: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One sample of one row, (1, *shape) per input as the graph takes it, as the forward does."""
        flat = [self._example.shaped(t, x) for t, x in zip(self._inputs, samples, strict=True)]
        return [x if t.constant else x.unsqueeze(self.axis) for t, x in zip(self._inputs, flat, strict=True)]

    def _spans(self, samples: Excitation, time: Time, part: slice, row: int) -> torch.Tensor | None:
        if samples.dt is not None:
            return torch.from_numpy(timespans_from_dt(samples.dt[part, row, 0], time).astype(np.float32))
        if time.timespan != 1.0 or self._needs_time:
            return torch.full((part.stop - part.start,), time.timespan)
        return None

    def whole(
        self, module: nn.Module, leaves: Sequence[Leaf], samples: Excitation, time: Time, around: Around
    ) -> Known:
        """Outputs of a module called on whole sequences: per output the steps known, and their values.

        Args:
            module: The module.
            leaves: The outputs to look at.
            samples: The samples.
            time: How time enters.
            around: The context in which to call it, made from the timespans of the call.
        """
        if samples.start is not None:  # a forward begins where it begins
            return {leaf.name: (np.empty(0, int), np.empty((0, self._batch, *leaf.shape))) for leaf in leaves}
        found: dict[str, tuple[list[Array], list[Array]]] = {leaf.name: ([], []) for leaf in leaves}

        def called(start: int, length: int, row: int) -> list[Any]:
            inputs, spans = self.arguments(samples, time, slice(start, start + length), row)
            with torch.no_grad(), around(spans):
                return self.call(module, inputs, spans)

        for part in samples.sequences():
            needed = {leaf: leaf.lengths(part.stop - part.start) for leaf in leaves}
            for length in sorted(set().union(*needed.values())):
                rows = [called(part.start, length, row) for row in range(self._batch)]
                for leaf in (own for own in leaves if length in needed[own]):
                    values = np.stack([leaf.by_step(row[leaf.index]) for row in rows], axis=1)
                    known = np.arange(part.start, part.start + length)[-len(values) :]
                    found[leaf.name][0].append(known)
                    found[leaf.name][1].append(values)
        return {name: (np.concatenate(steps), np.concatenate(values)) for name, (steps, values) in found.items()}


def returned_state(result: Any) -> Any:
    """The state in what a forward returns: what is called so, else the last of several.

    Raises:
        ValueError: If there is none.
    """
    named = result._asdict() if hasattr(result, "_asdict") else result
    if isinstance(named, Mapping):
        found = [value for name, value in named.items() if name in STATE_NAMES and value is not None]
    else:
        found = [value for value in result[1:] if value is not None] if isinstance(result, (tuple, list)) else []
    if not found:
        raise ValueError("the forward returns no state")
    return found[-1]
