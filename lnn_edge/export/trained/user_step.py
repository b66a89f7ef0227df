"""A network whose step the user writes: cells in a loop of their own, layers with a state of any make.

The step is called as it is on a copy of the model. For the reference in float64, and when the step is traced, the
layers and cells of the copy are steered; what they take and return is the step's own affair.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...arrays import Array
from ...bundle.spec import Core, StatePair, Tensor, Time
from ...verify.samples import Excitation
from ..cores.find import ReadCore, find_parts, is_cell
from ..cores.liquid import is_core
from ..cores.timespans import timespans_from_dt
from ..cores.wrappers import unwrap_parts
from ..graph.builder import GraphBuilder, Value
from ..lowering.step_time import StepTime
from ..trace.trace import lower_program, span_argument, trace_step
from .forward import Forward, Leaf, leaf_from_shapes, leaf_name, needed_arguments
from .network import STATE_NAMES
from .patching import GivenStates, initial_value
from .protocol import Known, Results
from .step_function import StateTree, StepFunction, first_samples, resolved, same_tensors, zeros_like

__all__ = ["TrainedStep"]


_HIDE = (
    "If that forward is not the loop over time that was trained, hide it: export torch.nn.ModuleDict({'net': model}) "
    "with a step that uses model['net']"
)


class TrainedStep:
    """A module and a step function. Works on a float32 copy on the CPU in eval mode; the user's is left alone."""

    batch_first = True
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
        example: Mapping[str, Sequence[Array]],
        initial_state: Any = None,
    ) -> None:
        duplicate: Any = unwrap_parts(copy.deepcopy(module))
        self._module: nn.Module = duplicate.to("cpu", torch.float32).eval()
        self.batch = batch
        self._maths = [core.maths for core in cores]
        self.cores: tuple[Core, ...] = tuple(core.described for core in cores)
        self.inputs = tuple(Tensor(name, (batch, *rows[0].shape[2:])) for name, rows in example.items())
        self._step = StepFunction(step, module, list(example))
        self._samples = first_samples(example, 3)
        self._start = None if initial_state is None else resolved(initial_state, self._module)
        self._leaves, zero = self._begun()
        self.outputs = tuple(Tensor(leaf.name, (batch, *leaf.shape)) for leaf in self._leaves)
        self._one_row = StateTree.of(zero)
        self._initial = self._one_row.flat(zero)
        self._tree = self._one_row if batch == 1 else self._found_rows()
        self.states = tuple(self._state_pairs())
        self._forward = self._own_forward(module)
        self._known = [] if self._forward is None else self._forward_leaves(self._forward, example)

    def lower(self, graph: GraphBuilder, inputs: list[Value], states: list[Value], when: StepTime) -> list[Value]:
        """See `Lowerable.lower`."""
        spans = [span_argument(self.batch, when)] if self._step.takes_time else []
        cores = list(zip(find_parts(self._module), self._maths, strict=True))
        return lower_program(graph, self._program, [*inputs, *states, *spans], cores, when)

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
        return self._run(samples, time, self._module, torch.float32, self._start)

    def reference(self, samples: Excitation, time: Time) -> Results:
        """The same in float64, with the layers and cells replaced by the NumPy reference."""
        exact: Any = copy.deepcopy(self._module).double()
        start = self._one_row.packed([state.double() for state in self._initial])
        with GivenStates(find_parts(exact), self._maths).exact(), _double_by_default():
            return self._run(samples, time, exact, torch.float64, start)

    def _run(self, samples: Excitation, time: Time, module: nn.Module, dtype: torch.dtype, start: Any) -> Results:
        if not self._step.takes_time and (samples.dt is not None or time.timespan != 1.0):
            raise ValueError(
                "the step takes no timespan, so it cannot know the time between samples. Write it as step(model, x, "
                "state, timespan), and pass the timespan, (batch, 1), on to the layers and cells"
            )
        shapes = {t.name: t.shape for t in self.outputs} | {s.output: s.shape for s in self.states}
        kind = np.float32 if dtype == torch.float32 else np.float64
        results = {name: np.empty((samples.steps, *shape), kind) for name, shape in shapes.items()}
        for row in range(self.batch):
            state: Any = start
            for k in range(samples.steps):
                state = start if samples.reset[k] else state
                inputs = [torch.from_numpy(samples.inputs[t.name][k, row][None]).to(dtype) for t in self.inputs]
                with torch.no_grad():
                    y, state = self._step(module, inputs, state, _span(samples, time, k, row, dtype))
                leaves = pytree.tree_leaves(y)
                for leaf in self._leaves:
                    results[leaf.name][k, row] = leaf.by_step(leaves[leaf.index])[0]
                for pair, own in zip(self.states, self._one_row.flat(state), strict=True):
                    results[pair.output][k, row] = own[0].numpy()
        return results

    def _begun(self) -> tuple[list[Leaf], Any]:
        """The outputs of the step, and the state that its first sample meets: zeros, or what the caller passed."""
        sample = self._samples[0]
        output, after = self._tried(sample, self._start)
        leaves = _outputs(output)
        StateTree.of(after)
        if not same_tensors((output, after), self._tried(sample, self._start)):
            raise ValueError(
                "the step gives another result when it is called again with the same sample and state: it draws random "
                "numbers, or keeps state in the model. All state must be in the `state` that it takes and returns"
            )
        begin = zeros_like(after) if self._start is None else self._start
        StateTree.of(begin).flat(self._tried(sample, after)[1])  # packed alike and of the same shapes ever after
        if self._start is None and not all(
            same_tensors(self._tried(own, None), self._tried(own, begin)) for own in self._samples
        ):
            raise ValueError(
                "the step called with the state None does not start from zeros, and export cannot see what it starts "
                "from. Pass it: initial_state=the state for one row, (1, width), or a function that makes it from the "
                "model (--initial-state NAME)"
            )
        return leaves, begin

    def _tried(self, sample: Sequence[torch.Tensor], state: Any) -> tuple[Any, Any]:
        """Call the step on samples; what the user's own code raises is said with what it was called with."""
        rows = len(sample[0])
        try:
            with torch.no_grad():
                result = self._step.called(self._module, sample, state, torch.ones(rows, 1))
        except Exception as error:
            shapes = ", ".join(f"{t.name} {list(x.shape)}" for t, x in zip(self.inputs, sample, strict=True))
            hint = ". If it cannot start from None, pass initial_state=..." if state is None else ""
            raise ValueError(
                f"the step raised {type(error).__name__}: {error} (called with {shapes} and the state "
                f"{'None' if state is None else 'that it starts from or returned'}{hint})"
            ) from error
        return self._step.checked(result)

    def _found_rows(self) -> StateTree:
        """Find the axis of the rows in every tensor of the state, by stepping two rows."""
        sample = [torch.cat([a, b]) for a, b in zip(*self._samples[:2], strict=True)]
        failed: Exception | None = None
        for tree in self._one_row.with_rows():
            state = tree.packed([own.expand(2, -1) for own in self._initial])
            try:
                tree.flat(self._tried(sample, state)[1])
            except ValueError as error:
                failed = error
            else:
                return tree
        raise ValueError(f"the step runs for one row, but not for a batch of two: {failed}") from failed

    def _state_pairs(self) -> Iterator[StatePair]:
        taken = {t.name for t in (*self.inputs, *self.outputs)}
        for name, width, start in zip(self._tree.names, self._tree.widths, self._initial, strict=True):
            if {f"{name}_in", f"{name}_out"} & taken:
                raise ValueError(f"the state '{name}' becomes '{name}_in' and '{name}_out', which are taken. Rename it")
            yield StatePair(f"{name}_in", f"{name}_out", (self.batch, width), initial_value(start))

    def _own_forward(self, module: nn.Module) -> Forward | None:
        """The module's forward if it takes whole sequences without a state."""
        needed = needed_arguments(module)
        own = type(module).forward is not nn.Module.forward and not is_core(module) and not is_cell(module)
        named = len(needed) == 1 or sorted(needed) == sorted(t.name for t in self.inputs)
        if not own or not named or any(name in STATE_NAMES for name in needed) or self._step.is_forward_of(module):
            return None
        return Forward(module, self.inputs, batch=self.batch, batch_first=True)

    def _forward_leaves(self, forward: Forward, example: Mapping[str, Sequence[Array]]) -> list[Leaf]:
        """Where the outputs of the step are in what the forward returns for a sequence: they come first."""
        few = {name: rows[0][:, 0] for name, rows in example.items()}

        def called(length: int) -> list[Any]:
            return pytree.tree_leaves(
                forward.on(self._module, {name: np.resize(v, (length, *v.shape[1:])) for name, v in few.items()})
            )

        try:
            two, three = called(2), called(3)
            leaves = [
                leaf_from_shapes(k, own.name, tuple(two[k].shape), tuple(three[k].shape))
                for k, own in enumerate(self._leaves)
            ]
        except Exception as error:
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

    @cached_property
    def _program(self) -> torch.export.ExportedProgram:
        """One step of all rows as a torch.export program: (*inputs, *states, timespan?) to (*outputs, *states)."""
        trained = self
        steer = GivenStates(find_parts(self._module), self._maths)

        class Step(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = trained._module

            def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
                count = len(trained.inputs)
                inputs, rest = values[:count], list(values[count:])
                span = rest.pop() if trained._step.takes_time else None
                with steer.tracing():
                    y, after = trained._step(self.inner, inputs, trained._tree.packed(rest), span)
                return (*pytree.tree_leaves(y), *trained._tree.flat(after))

        arguments = [torch.zeros(t.shape) for t in self.inputs] + [torch.zeros(s.shape) for s in self.states]
        return trace_step(Step(), arguments + ([torch.ones(self.batch, 1)] if self._step.takes_time else []))


def _outputs(output: Any) -> list[Leaf]:
    """The outputs of a step for one row, each (1, ...)."""
    leaves = pytree.tree_leaves_with_path(output)
    for _, leaf in leaves:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
            kind = leaf.dtype if isinstance(leaf, torch.Tensor) else type(leaf).__name__
            raise TypeError(f"the step returned {kind} among its outputs, expected tensors of real numbers")
        if leaf.dim() and leaf.shape[0] != 1:
            raise ValueError(f"the step returned an output of shape {list(leaf.shape)} for one row, expected [1, ...]")
    if not leaves:
        raise TypeError(f"the step returned the output {output!r}, expected tensors of real numbers")
    names = ["output"] if len(leaves) == 1 else [leaf_name(path, k) for k, (path, _) in enumerate(leaves)]
    return [
        Leaf(k, name, None, tuple(leaf.shape[1:]) or (1,))
        for k, (name, (_, leaf)) in enumerate(zip(names, leaves, strict=True))
    ]


def _span(samples: Excitation, time: Time, k: int, row: int, dtype: torch.dtype) -> torch.Tensor:
    """The timespan of one sample, (1, 1): as float32 knows it, which is what the step runs with."""
    span = time.timespan if samples.dt is None else timespans_from_dt(samples.dt[k, row], time)
    return torch.from_numpy(np.asarray(span, np.float32).reshape(1, 1)).to(dtype)


@contextmanager
def _double_by_default() -> Iterator[None]:
    """So that tensors which the step makes itself, such as zeros, are as exact as the rest."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)
