"""A network around liquid cores as the exporter sees it: encoders before, heads after, several cores, any plumbing.

torch's own recurrent layers beside liquid ones are further cores.

The user's forward runs as it is. Only the cores inside a copy of the network are steered: called on a whole sequence
they do what they always do; called on one sample they take the state that we kept for them, whatever the forward
passes; and when the step is traced they become one opaque operation, which the graph replaces by the core's lowering.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.distributions import Distribution
from torch.utils import _pytree as pytree

from ..manifest import Core, StatePair, Tensor, Time
from ..reference import LiquidCore, RecurrentCore
from ..wording import listed
from .checks import type_name
from .excitation import Excitation
from .folding import Unwritten
from .graph import GraphBuilder, Value
from .lowering import lower_core
from .modules import core_from_module, describe_core, is_core
from .operations import RULES
from .recurrent import describe_recurrent, is_recurrent, recurrent_from_module
from .starts import changing_start, initial_value
from .steering import Steering
from .steptime import StepTime
from .timespans import timespans_from_dt
from .trained import Known, Results
from .translate import translate
from .unwrapping import plain_names, unwrap_parts

__all__ = ["STATE_NAMES", "TIME_NAMES", "TrainedNetwork", "find_cores", "is_batch_first"]

Array = npt.NDArray[Any]

TIME_NAMES = ("timespans", "timespan", "dt", "dts", "delta_t", "elapsed", "elapsed_time", "ts")
STATE_NAMES = ("hx", "h", "hidden", "hidden_state", "state", "states", "h0", "hc", "hxs", "rnn_state", "rnn_states")
_PREFIXES = (1, 2, 3, 5, 8, 16, 32, 64)  # steps at which a network that returns only its last output is called whole


def find_cores(module: nn.Module) -> dict[str, nn.Module]:
    """The ncps layers and the recurrent layers of torch inside a module, by name.

    Raises:
        TypeError: If none of them is an ncps layer.
    """
    cores = {name: part for name, part in module.named_modules() if is_core(part) or is_recurrent(part)}
    if any(is_core(core) for core in cores.values()):
        return cores
    foreign = [f"{type(core).__name__} '{name}'" if name else type(core).__name__ for name, core in cores.items()]
    found = f"only torch's own {listed(foreign)} inside; type torch.onnx.export for such a model" if foreign else ""
    raise TypeError(
        f"expected an ncps.torch LTC or CfC, or a network around some, got {type_name(module)} with "
        f"{found or 'none inside'}"
    )


def is_batch_first(cores: Mapping[str, nn.Module]) -> bool:
    """Whether a network takes (batch, time, ...): as its liquid cores do, whatever torch's layers are fed."""
    return all(bool(core.batch_first) for core in cores.values() if is_core(core))


def _read(name: str, layer: nn.Module) -> tuple[LiquidCore | RecurrentCore, Core]:
    """The maths of a core and its description for the manifest."""
    if is_core(layer):
        liquid = core_from_module(layer)
        return liquid, describe_core(name, layer, liquid)
    recurrent = recurrent_from_module(name, layer)
    return recurrent, describe_recurrent(name, layer, recurrent)


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
        # read first: copying a stale nn.GRU makes it forget that it is stale
        originals = find_cores(module)
        plain = plain_names(module, originals)
        read = [_read(plain[name], layer) for name, layer in originals.items()]
        duplicate: Any = unwrap_parts(copy.deepcopy(module))
        self._module = duplicate.to("cpu", torch.float32).eval()
        self.batch = batch
        self._layers = find_cores(self._module)
        self.core_maths = [core for core, _ in read]
        self.cores: tuple[Core, ...] = tuple(described for _, described in read)
        self.batch_first = is_batch_first(self._layers)
        self._axis = 1 if self.batch_first else 0
        self._time_argument = next((n for n in inspect.signature(module.forward).parameters if n in TIME_NAMES), None)
        self.inputs = tuple(Tensor(name, (batch, *rows[0].shape[2:])) for name, rows in example.items())
        self._starts = self._find_starts({name: rows[0][:3, 0] for name, rows in example.items()})
        self.states = tuple(self._state_pairs())
        self._steer = Steering(self._layers, self.core_maths, self._starts)
        self._leaves = self._find_outputs({name: rows[0][:3, 0] for name, rows in example.items()})
        self.outputs = tuple(Tensor(leaf.name, (batch, *leaf.shape)) for leaf in self._leaves)

    def lower(self, graph: GraphBuilder, inputs: list[Value], states: list[Value], when: StepTime) -> list[Value]:
        """See `Trained.lower`."""
        spans: list[Value | torch.Tensor] = []
        if self._time_argument:
            row = (self.batch, 1)
            measured = Unwritten(row, row, lambda: when.times(1.0))  # written only if the forward uses it
            spans = [measured if when.fixed is None else torch.full(row, when.fixed)]

        def lower(index: int, x: Value, own: list[Value], timespans: Value | torch.Tensor | None) -> list[Value]:
            core, name = self.core_maths[index], list(self._layers)[index]
            graph.scope(name)
            values = dict(zip(core.state_names, (state.name for state in own), strict=True))
            y, after = lower_core(graph, core, x.name, values, when.for_core(timespans))
            graph.scope("")
            shapes = [(self.batch, width) for width in core.state_widths]
            results = [Value(after[name], shape, shape) for name, shape in zip(core.state_names, shapes, strict=True)]
            return [Value(y, (self.batch, core.outputs), (self.batch, core.outputs)), *results]

        return translate(graph, self._program, [*inputs, *states, *spans], RULES, lower)

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
        steer = Steering(find_cores(module), self.core_maths, self._starts)
        for row in range(self.batch):
            states: list[torch.Tensor] = []
            for k in range(samples.steps):
                if samples.reset[k]:
                    states = [start.to(dtype) for start in self._starts]
                spans = self._spans(samples, time, slice(k, k + 1), row)
                advance = steer.stepping if dtype == torch.float32 else steer.exact
                with torch.no_grad(), advance(states, spans) as after:
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
        return list(pytree.tree_leaves(self._result(module, inputs, spans)))

    def _result(self, module: nn.Module, inputs: list[torch.Tensor], spans: torch.Tensor | None) -> Any:
        keywords = {} if self._time_argument is None else {self._time_argument: spans}
        named = dict(zip((t.name for t in self.inputs), inputs, strict=True))
        return module(*inputs, **keywords) if "input" in named else module(**named, **keywords)

    def _by_step(self, leaf: _Leaf, value: torch.Tensor) -> Array:
        """One output of one row, (steps, ...)."""
        if leaf.time_axis is None:
            return value.detach().numpy().reshape(1, *leaf.shape)
        return value.detach().movedim(leaf.time_axis, 0).numpy().reshape(-1, *leaf.shape)

    def _state_pairs(self) -> Iterator[StatePair]:
        starts = iter(self._starts)
        for name, core in zip(self._layers, self.core_maths, strict=True):
            prefix = "" if len(self._layers) == 1 else f"{name}."
            for state, width in zip(core.state_names, core.state_widths, strict=True):
                own = f"{prefix}{state}"
                yield StatePair(f"{own}_in", f"{own}_out", (self.batch, width), initial_value(next(starts)))

    def _find_starts(self, sample: Mapping[str, Array]) -> list[torch.Tensor]:
        """The states that the forward starts the cores from: the same whatever the samples are, or none at all."""
        steer = Steering(self._layers, self.core_maths)

        def started(factor: float) -> list[Any]:
            with steer.starting() as starts:
                self._called({name: factor * value for name, value in sample.items()})
            steer.collected(starts)
            return starts

        first, second = started(1.0), started(-0.5)
        for name, one, other in zip(self._layers, first, second, strict=True):
            if not all(torch.equal(a, b) for a, b in zip(one, other, strict=True)):
                raise ValueError(changing_start(name))
        return [state.float() for own in first for state in own]

    def _find_outputs(self, sample: Mapping[str, Array]) -> list[_Leaf]:
        """Call the forward on two and on three samples: the axis that grows is time; new states are no outputs."""

        def called(length: int) -> tuple[list[tuple[Any, Any]], list[torch.Tensor]]:
            with self._steer.whole(None) as states:
                result = self._called({name: np.resize(v, (length, *v.shape[1:])) for name, v in sample.items()})
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

    def _called(self, samples: Mapping[str, Array]) -> Any:
        """What the forward returns for one row of a few samples, (steps, ...) each, one timespan apart."""
        inputs = [torch.from_numpy(value).float().unsqueeze(1 - self._axis) for value in samples.values()]
        spans = torch.ones(len(next(iter(samples.values())))).unsqueeze(1 - self._axis)
        with torch.no_grad():
            return self._result(self._module, inputs, spans)

    @staticmethod
    def _leaf(index: int, name: str, two: tuple[int, ...], three: tuple[int, ...]) -> _Leaf:
        grown = [k for k, (a, b) in enumerate(zip(two, three, strict=True)) if a != b]
        if len(grown) > 1 or any((two[k], three[k]) != (2, 3) for k in grown):
            raise ValueError(
                f"output '{name}' has shape {list(two)} for 2 samples and {list(three)} for 3: not one per sample"
            )
        rest = [n for k, n in enumerate(three) if k not in grown]
        if rest and rest[0] != 1:
            raise ValueError(
                f"output '{name}' has shape {list(three)} for one row of 3 samples, expected one row. A parameter that "
                "does not depend on the samples is no output of a step: expand it, or leave it out"
            )
        return _Leaf(index, name, grown[0] if grown else None, tuple(rest[1:]) or (1,))

    @cached_property
    def _program(self) -> torch.export.ExportedProgram:
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
        with warnings.catch_warnings(), torch.no_grad(), _unchecked_distributions():
            warnings.simplefilter("ignore")  # about the tracing of forwards that set attributes, as ours do
            return torch.export.export(Step(), tuple(arguments), strict=False)


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Without the checks that torch.distributions makes of its arguments: they branch on values, a trace has none."""
    usual = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(usual)


def _is_state(leaf: torch.Tensor, state: torch.Tensor) -> bool:
    """Whether an output is a new state handed through: the same memory, perhaps seen in another shape."""
    return leaf.numel() == state.numel() and leaf.data_ptr() == state.data_ptr()


def _leaf_name(path: Sequence[Any], place: int) -> str:
    keys = [str(key.key) for key in path if isinstance(key, pytree.MappingKey)]
    names = [str(key.name) for key in path if isinstance(key, pytree.GetAttrKey)]
    return ".".join(keys or names) or f"output_{place}"
