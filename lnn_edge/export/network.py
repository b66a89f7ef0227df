"""A network around liquid cores as the exporter sees it: encoders before, heads after, several cores, any plumbing.

The user's forward runs as it is. Only the cores inside a copy of the network are steered: called on a whole sequence
they do what they always do; called on one sample they take the state that we kept for them, whatever the forward
passes; and when the step is traced they become one opaque operation, which the graph replaces by the core's lowering.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ..manifest import Core, StatePair, Tensor, Time
from ..reference import LiquidCore
from ..wording import listed
from .excitation import Excitation
from .graph import GraphBuilder
from .lowering import lower_core
from .modules import core_from_module, describe_core, is_core
from .operations import RULES
from .steptime import StepTime
from .timespans import timespans_from_dt
from .trained import Known, Results
from .translate import Value, translate

__all__ = ["STATE_NAMES", "TIME_NAMES", "TrainedNetwork", "find_cores"]

Array = npt.NDArray[Any]

TIME_NAMES = ("timespans", "timespan", "dt", "dts", "delta_t", "elapsed", "elapsed_time", "ts")
STATE_NAMES = ("hx", "h", "hidden", "hidden_state", "state", "states", "h0", "hc", "hxs", "rnn_state", "rnn_states")
_PREFIXES = (1, 2, 3, 5, 8, 16, 32, 64)  # steps at which a network that returns only its last output is called whole


@torch.library.custom_op("lnn_edge::core", mutates_args=())
def _core_operation(
    x: torch.Tensor,
    states: list[torch.Tensor],
    timespans: torch.Tensor | None,  # noqa: ARG001 - the translation reads it from the traced call
    index: int,  # noqa: ARG001 - likewise
    outputs: int,
) -> list[torch.Tensor]:
    """Stands for a liquid core while a step is traced; only its shapes matter."""
    return [x.new_zeros(x.shape[0], outputs), *(state.clone() for state in states)]


@_core_operation.register_fake
def _core_shapes(
    x: torch.Tensor, states: list[torch.Tensor], _timespans: torch.Tensor | None, _index: int, outputs: int
) -> list[torch.Tensor]:
    return [x.new_empty(x.shape[0], outputs), *(torch.empty_like(state) for state in states)]


def find_cores(module: nn.Module) -> dict[str, nn.Module]:
    """The ncps layers inside a module, by name."""
    return {name: part for name, part in module.named_modules() if is_core(part)}


@dataclass(frozen=True)
class _Leaf:
    """One output in what the forward returns: where it is, and which of its axes is time (`None`: last step only)."""

    index: int
    name: str
    time_axis: int | None
    shape: tuple[int, ...]


class TrainedNetwork:
    """A module that holds ncps layers. Works on a float32 copy on the CPU in eval mode; the user's is left alone."""

    def __init__(self, module: nn.Module, batch: int, example: Mapping[str, Sequence[Array]]) -> None:
        duplicate: Any = copy.deepcopy(module)
        self._module = duplicate.to("cpu", torch.float32).eval()
        self.batch = batch
        self._layers = find_cores(self._module)
        self.core_maths: list[LiquidCore] = [core_from_module(layer) for layer in self._layers.values()]
        self.cores: tuple[Core, ...] = tuple(
            describe_core(name, layer, core)
            for (name, layer), core in zip(self._layers.items(), self.core_maths, strict=True)
        )
        self.batch_first = all(bool(layer.batch_first) for layer in self._layers.values())
        self._axis = 1 if self.batch_first else 0
        self._time_argument = next((n for n in inspect.signature(module.forward).parameters if n in TIME_NAMES), None)
        self.inputs = tuple(Tensor(name, (batch, *rows[0].shape[2:])) for name, rows in example.items())
        self.states = tuple(self._state_pairs())
        self._steer = _Steering(self._layers, self.core_maths)
        self._leaves = self._find_outputs({name: rows[0][:3, 0] for name, rows in example.items()})
        self.outputs = tuple(Tensor(leaf.name, (batch, *leaf.shape)) for leaf in self._leaves)

    def lower(self, graph: GraphBuilder, time: Time) -> None:
        """Add inputs, one step and outputs to a graph."""
        inputs = [Value(graph.input(t.name, t.shape), t.shape, t.shape) for t in self.inputs]
        states = [Value(graph.input(s.input, s.shape), s.shape, s.shape) for s in self.states]
        when = StepTime(graph, time, self.batch)
        spans = []
        if self._time_argument:
            if when.fixed is None:
                spans = [Value(when.times(1.0), (self.batch, 1), (self.batch, 1))]
            else:
                spans = [Value(graph.constant(np.full((self.batch, 1), when.fixed)), *[(self.batch, 1)] * 2)]

        def lower(index: int, x: Value, own: list[Value], timespans: Value | None) -> list[Value]:
            core, name = self.core_maths[index], list(self._layers)[index]
            graph.scope(name)
            values = dict(zip(core.state_names, (state.name for state in own), strict=True))
            given = when if timespans is None or when.fixed is not None else when.derived(timespans.name)
            y, after = lower_core(graph, core, x.name, values, given)
            graph.scope("")
            width = (self.batch, core.cell.units)
            results = [Value(after[state], width, width) for state in core.state_names]
            return [Value(y, (self.batch, core.outputs), (self.batch, core.outputs)), *results]

        values = translate(graph, self._traced(), [*inputs, *states, *spans], RULES, lower)
        for pair, value in zip(self.states, values[len(self.outputs) :], strict=True):
            graph.output(_exactly(graph, value, pair.shape), pair.output, pair.shape)
        for tensor, value in zip(self.outputs, values, strict=False):
            graph.output(_exactly(graph, value, tensor.shape), tensor.name, tensor.shape)

    def whole(self, samples: Excitation, time: Time) -> Known:
        """Outputs of the torch module called on whole sequences: per output the steps known, and their values."""
        found: dict[str, tuple[list[Array], list[Array]]] = {leaf.name: ([], []) for leaf in self._leaves}
        for part in samples.sequences():
            for leaf in self._leaves:
                lengths = [part.stop - part.start]
                if leaf.time_axis is None:
                    lengths = [n for n in _PREFIXES if n <= lengths[0]]
                for length in lengths:
                    rows = [self._sequence_row(samples, time, part.start, length, row) for row in range(self.batch)]
                    values = np.stack([self._by_step(leaf, row[leaf.index]) for row in rows], axis=1)
                    known = np.arange(part.start, part.start + length)[-len(values) :]
                    found[leaf.name][0].append(known)
                    found[leaf.name][1].append(values)
        return {name: (np.concatenate(steps), np.concatenate(values)) for name, (steps, values) in found.items()}

    def stepped(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states of the torch module called once per sample with its own states fed back."""
        return self._stepped(samples, time, self._module, torch.float32)

    def reference(self, samples: Excitation, time: Time) -> Results:
        """The same in float64, with the cores replaced by the NumPy reference."""
        exact: Any = copy.deepcopy(self._module).double()
        return self._stepped(samples, time, exact, torch.float64)

    def _stepped(self, samples: Excitation, time: Time, module: nn.Module, dtype: torch.dtype) -> Results:
        shapes = {t.name: t.shape for t in self.outputs} | {s.output: s.shape for s in self.states}
        kind = np.float32 if dtype == torch.float32 else np.float64
        results = {name: np.empty((samples.steps, *shape), kind) for name, shape in shapes.items()}
        steer = _Steering(find_cores(module), self.core_maths)
        for row in range(self.batch):
            states: list[torch.Tensor] = []
            for k in range(samples.steps):
                if samples.reset[k]:
                    states = [torch.zeros(1, *pair.shape[1:], dtype=dtype) for pair in self.states]
                spans = self._spans(samples, time, slice(k, k + 1), row)
                with torch.no_grad(), steer.stepping(states, spans, exact=dtype == torch.float64) as after:
                    leaves = self._call(module, self._row(samples, slice(k, k + 1), row, dtype), spans)
                states = steer.collected(after)
                for leaf in self._leaves:
                    results[leaf.name][k, row] = self._by_step(leaf, leaves[leaf.index])[0]
                for pair, state in zip(self.states, states, strict=True):
                    results[pair.output][k, row] = state[0].numpy()
        return results

    def _sequence_row(self, samples: Excitation, time: Time, start: int, length: int, row: int) -> list[torch.Tensor]:
        part = slice(start, start + length)
        spans = self._spans(samples, time, part, row)
        with torch.no_grad(), self._steer.whole(spans):
            return self._call(self._module, self._row(samples, part, row, torch.float32), spans)

    def _row(self, samples: Excitation, part: slice, row: int, dtype: torch.dtype) -> list[torch.Tensor]:
        arrays = (torch.from_numpy(samples.inputs[t.name][part, row]).to(dtype) for t in self.inputs)
        return [array.unsqueeze(1 - self._axis) for array in arrays]

    def _spans(self, samples: Excitation, time: Time, part: slice, row: int) -> torch.Tensor | None:
        """Timespans of one row as ncps takes them, or `None` where the training passed none."""
        if samples.dt is not None:
            spans = torch.from_numpy(timespans_from_dt(samples.dt[part, row, 0], time).astype(np.float32))
        elif time.timespan != 1.0 or self._time_argument:
            spans = torch.full((part.stop - part.start,), time.timespan)
        else:
            return None
        return spans.unsqueeze(1 - self._axis)

    def _call(self, module: nn.Module, inputs: list[torch.Tensor], spans: torch.Tensor | None) -> list[Any]:
        keywords = {} if self._time_argument is None else {self._time_argument: spans}
        named = dict(zip((t.name for t in self.inputs), inputs, strict=True))
        result = module(*inputs, **keywords) if "input" in named else module(**named, **keywords)
        return list(pytree.tree_leaves(result))

    def _by_step(self, leaf: _Leaf, value: torch.Tensor) -> Array:
        """One output of one row, (steps, ...)."""
        if leaf.time_axis is None:
            return value.detach().numpy().reshape(1, *leaf.shape)
        return value.detach().movedim(leaf.time_axis, 0).numpy().reshape(-1, *leaf.shape)

    def _state_pairs(self) -> Iterator[StatePair]:
        for name, core in zip(self._layers, self.core_maths, strict=True):
            prefix = "" if len(self._layers) == 1 else f"{name}."
            for state in core.state_names:
                yield StatePair(f"{prefix}{state}_in", f"{prefix}{state}_out", (self.batch, core.cell.units))

    def _find_outputs(self, sample: Mapping[str, Array]) -> list[_Leaf]:
        """Call the forward on two and on three samples: the axis that grows is time; new states are no outputs."""

        def called(length: int) -> tuple[list[tuple[Any, Any]], list[torch.Tensor]]:
            inputs = [torch.from_numpy(np.resize(v, (length, *v.shape[1:]))).float() for v in sample.values()]
            inputs = [value.unsqueeze(1 - self._axis) for value in inputs]
            spans = torch.ones(length).unsqueeze(1 - self._axis) if self._time_argument else None
            keywords = {} if self._time_argument is None else {self._time_argument: spans}
            named = dict(zip(sample, inputs, strict=True))
            with torch.no_grad(), self._steer.whole(None) as states:
                result = self._module(*inputs, **keywords) if "input" in named else self._module(**named, **keywords)
            return pytree.tree_leaves_with_path(result), self._steer.collected(states)

        (two, _), (three, states) = called(2), called(3)
        kept = [
            k
            for k, (_, leaf) in enumerate(three)
            if isinstance(leaf, torch.Tensor) and (k == 0 or not any(_is_state(leaf, state) for state in states))
        ]
        if not kept:
            raise TypeError(f"the model returns {[type(leaf).__name__ for _, leaf in three]}, expected tensors")
        leaves = []
        for place, k in enumerate(kept):
            path, leaf = three[k]
            name = "output" if len(kept) == 1 else _leaf_name(path, place)
            leaves.append(self._leaf(k, name, tuple(two[k][1].shape), tuple(leaf.shape)))
        return leaves

    @staticmethod
    def _leaf(index: int, name: str, two: tuple[int, ...], three: tuple[int, ...]) -> _Leaf:
        grown = [k for k, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
        if len(grown) > 1 or any((two[k], three[k]) != (2, 3) for k in grown):
            raise ValueError(
                f"output '{name}' has shape {list(two)} for 2 samples and {list(three)} for 3: not one per sample"
            )
        rest = [n for k, n in enumerate(three) if k not in grown]
        if rest and rest[0] != 1:
            raise ValueError(f"output '{name}' has shape {list(three)} for one row of 3 samples, expected one row")
        return _Leaf(index, name, grown[0] if grown else None, tuple(rest[1:]) or (1,))

    def _traced(self) -> torch.export.ExportedProgram:
        """One step of all rows as a torch.export program: (*inputs, *states, timespans?) to (*outputs, *states)."""
        network = self

        class Step(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = network._module

            def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
                count, states = len(network.inputs), len(network.states)
                inputs = [value.unsqueeze(network._axis) for value in values[:count]]
                spans = None
                if network._time_argument:
                    spans = values[-1] if network.batch_first else values[-1].transpose(0, 1)
                with network._steer.tracing(
                    list(values[count : count + states]), bool(network._time_argument)
                ) as after:
                    leaves = network._call(self.inner, inputs, spans)
                outputs = [leaves[leaf.index] for leaf in network._leaves]
                return (*outputs, *network._steer.collected(after))

        arguments = [torch.zeros(t.shape) for t in (*self.inputs,)] + [torch.zeros(s.shape) for s in self.states]
        if self._time_argument:
            arguments.append(torch.ones(self.batch, 1))
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about the tracing of forwards that set attributes, as ours do
            return torch.export.export(Step(), tuple(arguments), strict=False)


class _Steering:
    """Takes the place of the cores' forwards while a context is open; see the module's text."""

    def __init__(self, layers: Mapping[str, nn.Module], cores: Sequence[LiquidCore]) -> None:
        self._layers = list(layers.items())
        self._cores = cores
        self._counts = [len(core.state_names) for core in cores]

    @contextmanager
    def whole(self, spans: torch.Tensor | None) -> Iterator[list[Any]]:
        """Sequences run as always; only missing timespans are filled in."""

        def make(layer: Any, _index: int) -> Callable[..., Any]:
            def forward(_self: Any, x: torch.Tensor, hx: Any = None, timespans: Any = None) -> Any:
                given = spans if timespans is None else timespans
                y, state = type(layer).forward(layer, x, hx, _like(given, x))
                after[_index] = state if isinstance(state, tuple) else (state,)
                return y, state

            return forward

        after: list[Any] = [None] * len(self._layers)
        with self._replaced(make):
            yield after

    @contextmanager
    def stepping(self, states: list[torch.Tensor], spans: torch.Tensor | None, *, exact: bool) -> Iterator[list[Any]]:
        """One sample with the states given; `exact` runs the NumPy reference in place of the ncps code."""

        def make(layer: Any, index: int) -> Callable[..., Any]:
            def forward(_self: Any, x: torch.Tensor, hx: Any = None, timespans: Any = None) -> Any:
                self._check_step(layer, index, x, hx, after)
                own = self._own(states, index)
                given = spans if timespans is None else timespans
                if exact:
                    values = self._reference(layer, index, x, own, given)
                else:
                    flat = tuple(s[0] for s in own) if x.dim() == 2 else tuple(own)
                    y, new = type(layer).forward(layer, x, flat if len(flat) > 1 else flat[0], _like(given, x))
                    new = new if isinstance(new, tuple) else (new,)
                    after[index] = tuple(s.unsqueeze(0) if x.dim() == 2 else s for s in new)
                    return y, new if len(new) > 1 else new[0]
                after[index] = tuple(values[1:])
                return self._as_ncps(layer, x, values)

            return forward

        after: list[Any] = [None] * len(self._layers)
        with self._replaced(make):
            yield after

    @contextmanager
    def tracing(self, states: list[torch.Tensor], timed: bool) -> Iterator[list[Any]]:
        """One sample of all rows; each core becomes one opaque operation."""

        def make(layer: Any, index: int) -> Callable[..., Any]:
            def forward(_self: Any, x: torch.Tensor, hx: Any = None, timespans: Any = None) -> Any:
                del hx  # the state is the one that the graph feeds back
                self._check_step(layer, index, x, None, after)
                sample = x if x.dim() == 2 else x.select(1 if layer.batch_first else 0, 0)
                spans = timespans.reshape(sample.shape[0], 1) if timed and timespans is not None else None
                core = self._cores[index]
                values = torch.ops.lnn_edge.core(sample, self._own(states, index), spans, index, core.outputs)
                after[index] = tuple(values[1:])
                return self._as_ncps(layer, x, values)

            return forward

        after: list[Any] = [None] * len(self._layers)
        with self._replaced(make):
            yield after

    def collected(self, after: list[Any]) -> list[torch.Tensor]:
        """All new states in order."""
        missing = [name for (name, _), states in zip(self._layers, after, strict=True) if states is None]
        if missing:
            raise ValueError(f"the forward never calls the core {listed(missing)}; remove it from the model")
        return [state for states in after for state in states]

    @contextmanager
    def _replaced(self, make: Callable[[Any, int], Callable[..., Any]]) -> Iterator[None]:
        for index, (_, layer) in enumerate(self._layers):
            layer.forward = MethodType(make(layer, index), layer)
        try:
            yield
        finally:
            for _, layer in self._layers:
                del layer.forward

    def _own(self, states: list[torch.Tensor], index: int) -> list[torch.Tensor]:
        start = sum(self._counts[:index])
        return states[start : start + self._counts[index]]

    def _check_step(self, layer: Any, index: int, x: torch.Tensor, hx: Any, after: list[Any]) -> None:
        name = self._layers[index][0]
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
        if any(isinstance(leaf, torch.Tensor) and leaf.any() for leaf in pytree.tree_leaves(hx)):
            raise ValueError(
                f"the forward starts the core '{name}' from a state that is not zero; export starts every sequence at "
                "zero. Pass hx=None at the start of a sequence"
            )

    def _reference(self, layer: Any, index: int, x: torch.Tensor, own: list[torch.Tensor], spans: Any) -> list[Any]:
        core = self._cores[index]
        sample = x if x.dim() == 2 else x.select(1 if layer.batch_first else 0, 0)
        state = dict(zip(core.state_names, (s.numpy() for s in own), strict=True))
        timespan = 1.0 if spans is None else spans.double().reshape(-1, 1).numpy()
        y, new = core.step(sample.double().numpy(), state, timespan)
        return [torch.from_numpy(v) for v in (y, *(new[n] for n in core.state_names))]

    @staticmethod
    def _as_ncps(layer: Any, x: torch.Tensor, values: Sequence[torch.Tensor]) -> tuple[torch.Tensor, Any]:
        """Output and states in the shapes that the ncps layer returns for one sample."""
        y, states = values[0], tuple(values[1:])
        if x.dim() == 2:
            states = tuple(state[0] for state in states)
            y = y if layer.return_sequences else y[0]
        elif layer.return_sequences:
            y = y.unsqueeze(1 if layer.batch_first else 0)
        return y, states if len(states) > 1 else states[0]


def _like(spans: Any, x: torch.Tensor) -> Any:
    """Timespans for a batchless call have no batch axis."""
    return spans.reshape(-1) if isinstance(spans, torch.Tensor) and x.dim() == 2 else spans


def _is_state(leaf: torch.Tensor, state: torch.Tensor) -> bool:
    """Whether an output is a new state handed through: the same memory, perhaps seen in another shape."""
    return leaf.numel() == state.numel() and leaf.data_ptr() == state.data_ptr()


def _leaf_name(path: Sequence[Any], place: int) -> str:
    keys = [str(key.key) for key in path if isinstance(key, pytree.MappingKey)]
    names = [str(key.name) for key in path if isinstance(key, pytree.GetAttrKey)]
    return ".".join(keys or names) or f"output_{place}"


def _exactly(graph: GraphBuilder, value: Value, shape: tuple[int, ...]) -> str:
    if value.physical == shape:
        return value.name
    return graph.node("Reshape", value.name, graph.integers(shape))
