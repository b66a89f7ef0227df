"""A network whose step the user writes: cells in a loop of their own, layers with a state of any make.

The step is called as it is on a copy of the model. When it is traced, the layers and cells of the copy are patched;
what they take and return is the step's own affair.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...arrays import Array
from ...bundle.program import StepProgram
from ...bundle.spec import Core, Readout, StatePair, Time
from ...verify.samples import Excitation
from ...wording import limits_advice
from ..cores.copying import copied_module
from ..cores.find import ReadCore, find_parts, is_cell
from ..cores.liquid import is_core
from ..cores.timespans import timespans_from_dt
from ..cores.wrappers import unwrap_parts
from ..forward.arguments import STATE_NAMES, needed_arguments
from ..forward.attributes import CallAttributes
from ..forward.checks import find_checks
from ..forward.example import Example, ForwardError, varied
from ..forward.forward import Forward, Known
from ..forward.leaves import Leaf, leaf_from_shapes, raw_outputs
from ..trace.trace import raised_by_us, users_line
from .closed_loop import closed_loop
from .patching import CorePatcher, States, opaque_parts
from .probe import StepProbe
from .protocol import Results, state_pair
from .step_function import StateTree, StepFunction, resolved
from .traced import TracedStep
from .weights import quick_lookup

__all__ = ["TrainedStep"]


_HIDE = (
    "If that forward is not the loop over time that was trained, hide it: export torch.nn.ModuleDict({'net': model}) "
    "with a step that uses model['net']"
)


class TrainedStep:
    """A module and a step function. Works on a float32 copy on the CPU in eval mode; the user's is left alone."""

    batch_first = True
    readout: Readout | None = None
    why_unequal = (
        "the step is not one turn of the loop in the model's own forward: it computes something else, starts from "
        f"another state, or keeps state where the step cannot see it. {_HIDE}"
    )

    def __init__(
        self,
        module: nn.Module,
        cores: Sequence[ReadCore],
        step: Callable[..., Any],
        batch: int,
        example: Example,
        initial_state: Any = None,
    ) -> None:
        duplicate: Any = unwrap_parts(copied_module(module))
        self._module: nn.Module = duplicate.to("cpu", torch.float32).eval()
        self.batch = batch
        self._maths = [core.maths for core in cores]
        self.cores: tuple[Core, ...] = tuple(core.described for core in cores)
        self.inputs, self._example = example.tensors(batch), example
        self._step = StepFunction(step, module, list(example.rows))
        self._start = None if initial_state is None else resolved(initial_state, self._module)
        few = {name: rows[0][:, 0] for name, rows in example.rows.items()}
        samples = [self._given({name: rows[[k % len(rows)]] for name, rows in few.items()}) for k in range(3)]
        self._step.checks = find_checks(lambda factor: self._called(self._varied(few, factor)))
        probe = StepProbe(self._step, self._module, self.inputs, samples)
        self._leaves, zero = probe.begun(self._start)
        self.outputs, self._leaves = raw_outputs(self._leaves, batch, example.outputs)
        self._tree = StateTree.of(zero)
        self._initial = self._tree.flat(zero)
        self.states = tuple(self._state_pairs())
        self._forward = self._own_forward(module)
        self._known = [] if self._forward is None else self._forward_leaves(self._forward, few)
        parts = find_parts(self._module)
        self._patcher, named = CorePatcher(parts, self._maths), dict(zip(parts, self._maths, strict=True))
        taken = [example.taken(t, few[t.name]) for t in self.inputs]
        self._traced = TracedStep(self._module, self._traced_sample, self.inputs, self.states, named, taken)

    @property
    def fixed_number(self) -> str:
        """See `Trained`."""
        return self._step.checks.fixed

    def accepts(self, samples: Mapping[str, Array]) -> bool:
        """See `Trained.accepts`."""
        try:
            self._called(self._given({name: rows[:1] for name, rows in samples.items()}))
        except Exception:  # whatever a user's code raises
            return False
        return True

    def _varied(self, few: Mapping[str, Array], factor: float) -> list[torch.Tensor]:
        """The first sample, or another of its kind."""
        return self._given({t.name: varied(few[t.name][:2], factor, t.center)[:1] for t in self.inputs})

    def _given(self, rows: Mapping[str, Array]) -> list[torch.Tensor]:
        """Samples, (rows, *shape) by input, as the step takes them."""
        return [self._example.given(t, rows[t.name]) for t in self.inputs]

    def _called(self, given: Sequence[torch.Tensor]) -> None:
        """Call the step twice on a sample: with what it starts from, and what it returned."""
        with torch.no_grad():
            _, state = self._step(self._module, given, self._start, torch.ones(1, 1))
            self._step(self._module, given, state, torch.ones(1, 1))

    def program(self, time: Time) -> StepProgram:
        """See `Steppable.program`."""
        return self._traced.program(self.outputs, time, timed=self._step.takes_time)

    def whole(self, samples: Excitation, time: Time) -> Known:
        """Outputs of the module's own forward on whole sequences; none if it has no such forward."""
        if self._forward is None:
            return {}
        if self._forward.time_argument is None and (samples.dt is not None or time.timespan != 1.0):
            raise ValueError(
                "the step takes a timespan, but the model's own forward, which it is compared with, takes none. Give "
                f"that forward a `timespans` argument. {_HIDE}"
            )
        return self._forward.whole(self._module, self._known, samples, time, lambda _: nullcontext())

    def stepped(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states of the step called once per sample with its own state fed back, as the user would."""
        if not self._step.takes_time and (samples.dt is not None or time.timespan != 1.0):
            raise ValueError(
                "the step takes no timespan, so it cannot know the time between samples. Write it as step(model, x, "
                "state, timespan), and pass the timespan, (batch, 1), on to the layers and cells"
            )

        def one_sample(k: int, rows: slice, state: Any) -> tuple[list[Array], Any]:
            inputs = self._given({t.name: samples.inputs[t.name][k, rows] for t in self.inputs})
            try:
                with torch.no_grad():
                    y, state = self._step(self._module, inputs, state, _span(samples, time, k, rows))
            except Exception as error:
                if raised_by_us(error):
                    raise
                raise ValueError(
                    f"the step raised {type(error).__name__}: {error}{users_line(error)}, called on sample {k} of the "
                    "proof, which holds random ones as well. Write it for any values, or give the inputs limits: "
                    f"{limits_advice()}"
                ) from error
            leaves = pytree.tree_leaves(y)
            outputs = [leaf.by_step(leaves[leaf.index]) for leaf in self._leaves]
            return [*outputs, *(own.detach().numpy() for own in self._tree.flat(state))], state

        def begin(states: list[torch.Tensor] | None) -> Any:
            return self._start if states is None else self._tree.packed(states)

        with quick_lookup(find_parts(self._module).values()):
            return closed_loop(self, samples, begin, one_sample)

    def _traced_sample(
        self, module: nn.Module, inputs: States, states: States, span: torch.Tensor | None
    ) -> tuple[States, States]:
        """One sample of one row; see `TracedStep`."""
        inputs = [self._example.shaped(t, x) for t, x in zip(self.inputs, inputs, strict=True)]
        with opaque_parts(self._patcher):
            y, after = self._step(module, inputs, self._tree.packed(states), span)
        leaves = pytree.tree_leaves(y)
        return [leaf.raw(leaves[leaf.index]) for leaf in self._leaves], self._tree.flat(after)

    def _state_pairs(self) -> Iterator[StatePair]:
        taken = {t.name for t in (*self.inputs, *self.outputs)}
        for name, width, start in zip(self._tree.names, self._tree.widths, self._initial, strict=True):
            if {f"{name}_in", f"{name}_out"} & taken:
                raise ValueError(f"the state '{name}' becomes '{name}_in' and '{name}_out', which are taken. Rename it")
            yield state_pair(name, self.batch, width, start)

    def _own_forward(self, module: nn.Module) -> Forward | None:
        """The module's forward if it takes whole sequences without a state."""
        needed = needed_arguments(module)
        own = type(module).forward is not nn.Module.forward and not is_core(module) and not is_cell(module)
        named = len(needed) == 1 or sorted(needed) == sorted(t.name for t in self.inputs)
        if not own or not named or any(name in STATE_NAMES for name in needed) or self._step.is_forward_of(module):
            return None
        return Forward(
            module,
            self.inputs,
            batch=self.batch,
            batch_first=True,
            example=self._example,
            timed=self._step.takes_time,
        )

    def _put_back_attributes(self, forward: Forward, few: Mapping[str, Array]) -> None:
        """Let every call of a forward that keeps state in attributes begin a sequence, as the step does."""
        try:
            attributes = CallAttributes(self._module, lambda: forward.on(self._module, few))
        except ForwardError:  # which the call behind this one tells
            return
        if attributes.names:
            forward.before_each_call = attributes.put_back

    def _forward_leaves(self, forward: Forward, few: Mapping[str, Array]) -> list[Leaf]:
        """Where the outputs of the step are in what the forward returns for a sequence: they come first."""

        def called(length: int) -> list[Any]:
            return pytree.tree_leaves(
                forward.on(self._module, {name: np.resize(v, (length, *v.shape[1:])) for name, v in few.items()})
            )

        three_samples = {name: np.resize(v, (3, *v.shape[1:])) for name, v in few.items()}
        self._put_back_attributes(forward, three_samples)
        forward.checks = find_checks(
            lambda factor: forward.on(
                self._module, {t.name: varied(three_samples[t.name], factor, t.center) for t in self.inputs}
            )
        )
        try:
            two, three = called(2), called(3)
            leaves = [
                dataclasses.replace(
                    leaf_from_shapes(k, own.name, tuple(two[k].shape), tuple(three[k].shape)), scaling=own.scaling
                )
                for k, own in enumerate(self._leaves)
            ]
        except Exception as error:
            single = self._given({name: rows[:1] for name, rows in few.items()})
            if isinstance(error, ForwardError) and _takes_one_sample(forward, self._module, single):
                self._forward = None
                return []
            raise ValueError(
                "the model's own forward, which the step is compared with, cannot be called on sequences, (batch, "
                f"time, ...): {type(error).__name__}: {error}. {_HIDE}"
            ) from error
        for leaf, own in zip(leaves, self._leaves, strict=True):
            if leaf.shape != own.shape:
                raise ValueError(
                    f"the model's own forward, which the step is compared with, gives {list(leaf.shape)} per sample "
                    f"where the step gives '{own.name}' as {list(own.shape)}. {_HIDE}"
                )
        return leaves


def _takes_one_sample(forward: Forward, module: nn.Module, sample: Sequence[torch.Tensor]) -> bool:
    """Whether a forward that fails on a sequence takes one sample, with or without an axis of time: it is no loop."""
    for given in (sample, [x.unsqueeze(1) for x in sample]):
        try:
            with torch.no_grad():
                forward.result(copied_module(module), given, None)
        except Exception:  # the user's own code
            continue
        return True
    return False


def _span(samples: Excitation, time: Time, k: int, rows: slice) -> torch.Tensor:
    """The timespan of one sample, (1, 1)."""
    span = time.timespan if samples.dt is None else timespans_from_dt(samples.dt[k, rows], time)
    return torch.from_numpy(np.asarray(span, np.float32).reshape(1, 1))
