"""A network around liquid cores as the exporter sees it: encoders before, heads after, several cores, any plumbing.

torch's own recurrent layers beside liquid ones are further cores.

The user's forward runs as it is. Only the cores inside a copy of the network are patched: called on a whole sequence
they do what they always do; called on one sample they take the state that we kept for them, whatever the forward
passes; and when the step is traced they become one opaque operation, in whose place the program gets the core's nodes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...arrays import Array
from ...bundle.program import StepProgram
from ...bundle.spec import Core, Readout, StatePair, Time
from ...verify.samples import Excitation
from ...wording import step_advice
from ..cores.copying import copied_module
from ..cores.find import ReadCore, find_cores, is_batch_first
from ..cores.repairs import takes_timespans
from ..cores.timespans import legal_timespans
from ..cores.wrappers import unwrap_parts
from ..forward.attributes import CallAttributes
from ..forward.checks import find_checks
from ..forward.example import Example, varied
from ..forward.forward import Forward, Known
from ..forward.leaves import Leaf, leaf_from_shapes, leaf_name, raw_outputs
from ..trace.trace import decides, takes_out
from .closed_loop import closed_loop
from .kept_states import (
    Call,
    KeptStates,
    changed_in_the_loop,
    changed_on_the_way,
    changing_start,
    spans_of_a_length,
    without_time,
)
from .look_back.kept import LookBack, possible_starts
from .look_back.receptive_field import PerturbedForward
from .patching import After, States
from .pooling import differing_readouts, pooling, steps_as_called
from .protocol import NOT_CAUSAL, Results, state_pair
from .traced import TracedStep
from .weights import quick_lookup

__all__ = ["TrainedNetwork", "TurnedError"]


_CALLS = 48  # of a forward that keeps state in attributes, sample by sample
_FEW, _MORE = 3, 6  # samples of two calls that tell what is made of their number
_LOOPED = 48  # samples of a recording, over which a forward that loops shows what it does to states
_HANDED_ON = 8  # samples over which a state that is not handed on as it is shows


class TurnedError(Exception):
    """The forward turns (batch, time, ...) into (time, batch, ...) before its cores, or the other way around."""


class TrainedNetwork:
    """A module that holds ncps layers. Works on a float32 copy on the CPU in eval mode; the user's is left alone.

    `batch_first` is how it is given samples; `None` for as its cores take them.

    Raises:
        TurnedError: If it is `None`, and they take them the other way around.
    """

    def __init__(
        self,
        module: nn.Module,
        cores: Sequence[ReadCore],
        batch: int,
        example: Example,
        batch_first: bool | None = None,
    ) -> None:
        duplicate: Any = unwrap_parts(copied_module(module))
        self._module = duplicate.to("cpu", torch.float32).eval()
        self.batch = batch
        self._layers = find_cores(self._module)
        self.core_maths = [core.maths for core in cores]
        self.cores: tuple[Core, ...] = tuple(core.described for core in cores)
        self.batch_first = is_batch_first(self._layers) if batch_first is None else batch_first
        self.inputs = example.tensors(batch)
        self._forward = Forward(module, self.inputs, batch=batch, batch_first=self.batch_first, example=example)
        first = {name: rows[0][:3, 0] for name, rows in example.rows.items()}
        attributes = CallAttributes(self._module, lambda: self._forward.on(self._module, first))
        if attributes.names:
            self._forward.before_each_call = attributes.put_back
        started: list[list[Any]] = []
        self._forward.checks = find_checks(lambda factor: started.append(self._started(first, factor)))
        self._starts = self._find_starts(first, started)
        self._core_states: tuple[StatePair, ...] = tuple(self._state_pairs())
        self._kept = KeptStates(self._layers, self.core_maths, self._starts)
        self._leaves = self._find_outputs(first, checked=batch_first is None)
        if attributes.names:
            self._refuse_state_in(attributes, self._single_samples(example, _CALLS))
        self.outputs, self._leaves = raw_outputs(self._leaves, batch, example.outputs)
        self._recording = {name: rows[0] for name, rows in example.rows.items()}
        self.states = self._core_states
        rows = {name: value[:, 0] for name, value in self._recording.items()}
        self._perturbed = PerturbedForward(
            partial(self._forward.on, self._module), self._kept, self._leaves, rows, self.inputs
        )
        self._look_back: LookBack | None = None
        if not attributes.names:
            self._find_look_back()
        self._refuse_changed_loops()
        if self._look_back is None and self._forward.state_argument is not None:
            self._refuse_changed_states(self._single_samples(example, _HANDED_ON))
        named = dict(zip(self._layers, self.core_maths, strict=True))
        taken = [example.taken(t, rows[t.name]) for t in self.inputs]
        self._traced = TracedStep(self._module, self._traced_sample, self.inputs, self.states, named, taken)
        self.readout = self._pooling()

    @property
    def fixed_number(self) -> str:
        """See `Trained`."""
        return self._forward.checks.fixed

    @property
    def why_unequal(self) -> str:
        """See `Trained`; found by looking at what each output depends on."""
        if self._forward.checks.decision:
            return decides(self._forward.checks.decision)
        if self._forward.checks.number:
            return takes_out(self._forward.checks.number)
        try:
            if told := self._made_of_a_length():
                return told
            field = self._perturbed.receptive_field()
            pooled = any(leaf.time_axis is None for leaf in self._leaves)
            return (
                (differing_readouts(self, self._leaves, self._recording) if pooled else "")
                or field.told()
                or NOT_CAUSAL
            )
        except Exception:  # the user's own code, called on other samples and lengths than it is made for
            return NOT_CAUSAL

    def _made_of_a_length(self) -> str:
        """What is wrong if cores are given timespans that are made of the number of samples; "" if they are not."""
        few, many = self._calls_of(self._repeated(_FEW)), self._calls_of(self._repeated(_MORE))
        second = [_second(call.timespans, length) for call, length in ((few[0], _FEW), (many[0], _MORE))]
        if second[0] is not None and second[1] is not None and not torch.equal(second[0], second[1]):
            return spans_of_a_length(self._forward.time_argument)
        return ""

    def _refuse_changed_loops(self) -> None:
        """Refuse a forward that loops over samples and changes states between them, also if no sample here shows it."""
        if not self._looped(self._recorded(_MORE)):
            return
        recorded = self._recorded(_LOOPED)
        moved = {
            t.name: recorded[t.name] + np.float32(not t.constant) if t.dtype == "float32" else recorded[t.name]
            for t in self.inputs
        }
        for rows in (recorded, moved):
            for core, calls in self._looped(rows).items():
                if not all(_same_states(a.after, b.before) for a, b in itertools.pairwise(calls)):
                    raise ValueError(changed_in_the_loop(core))

    def _refuse_cores_without_time(self, time: Time) -> None:
        """Refuse a forward that computes with the time itself, and does not hand it on to each core.

        Where it ignores the time altogether, the cores get it all the same.
        """
        rows, calls, results = self._recorded(_FEW), list[Call](), list[list[Any]]()
        length = len(next(iter(rows.values())))
        with self._kept.watching(calls):
            for spans in (np.ones(1), *legal_timespans(time)):
                with contextlib.suppress(Exception):  # the user's own code may refuse a time that it is not made for
                    results.append(self._forward.timed(self._module, rows, np.resize(spans, length)))
        without = [c.core for c in calls if c.timespans is None and takes_timespans(type(self._layers[c.core]))]
        if without and not all(_same_values(results[0], other) for other in results):
            raise ValueError(without_time(without[0], self._forward.time_argument))

    def _looped(self, rows: Mapping[str, Array]) -> dict[str, list[Call]]:
        """The calls of the cores that are called once for each of these samples, in a loop of the forward's own."""
        try:
            calls = self._calls_of(rows)
        except Exception:  # the user's own code, called on other samples and lengths than it is made for
            return {}
        own = {core: [call for call in calls if call.core == core] for core in self._layers}
        length = len(next(iter(rows.values())))
        return {
            core: found
            for core, found in own.items()
            if len(found) == length > 1 and all(call.length == 1 for call in found)
        }

    def _recorded(self, most: int) -> dict[str, Array]:
        return {name: own[:most, 0] for name, own in self._recording.items()}

    def _repeated(self, length: int) -> dict[str, Array]:
        """So many samples, all of them the first."""
        return {name: np.repeat(own[:1, 0], length, axis=0) for name, own in self._recording.items()}

    def _calls_of(self, rows: Mapping[str, Array]) -> list[Call]:
        """The calls of the cores in one call of the forward on these samples."""
        calls: list[Call] = []
        with self._kept.watching(calls):
            self._forward.on(self._module, rows)
        return calls

    def program(self, time: Time) -> StepProgram:
        """See `Steppable.program`."""
        if self._forward.takes(time) and (time.mode == "measured" or time.timespan != 1.0):
            self._refuse_cores_without_time(time)
        return self._traced.program(self.outputs, time, timed=self._forward.takes(time))

    def whole(self, samples: Excitation, time: Time) -> Known:
        """Outputs of the torch module called on whole sequences: per output the steps known, and their values."""
        with quick_lookup(self._layers.values()):
            return self._forward.whole(self._module, self._leaves, samples, time, self._kept.whole)

    def stepped(self, samples: Excitation, time: Time) -> Results:
        """Outputs and states of the torch module called once per sample with its own states fed back."""

        def one_sample(k: int, rows: slice, states: States) -> tuple[list[Array], States]:
            inputs, spans = self._forward.arguments(samples, time, slice(k, k + 1), rows.start)
            if self._look_back is not None:
                return self._looking_back(self._look_back, inputs, states, spans)
            with torch.no_grad(), self._kept.stepping(states, spans) as after:
                leaves = self._forward.call(self._module, inputs, spans)
            new = self._kept.collected(after)
            outputs = [leaf.by_step(leaves[leaf.index]) for leaf in self._leaves]
            return [*outputs, *(state.detach().numpy() for state in new)], new

        kept = () if self._look_back is None else self._look_back.states
        starts = [*self._starts, *(torch.zeros(1, *pair.shape[1:]) for pair in kept)]
        with quick_lookup(self._layers.values()):
            return closed_loop(self, samples, lambda states: states or starts, one_sample)

    def _looking_back(
        self, look_back: LookBack, inputs: States, states: States, spans: torch.Tensor | None
    ) -> tuple[list[Array], States]:
        """One sample of one row, with the last ones."""
        after: After = [None] * len(self._layers)
        own, count = self._without_time(inputs), len(self._core_states)
        with torch.no_grad():
            run = self._kept.one_sample(states, spans, after)
            values, kept = look_back.stepped(self._module, own, states[count:], spans, run)
        new = [*self._kept.collected(after), *kept]
        outputs = [leaf.by_step(value) for leaf, value in zip(self._leaves, values, strict=True)]
        return [*outputs, *(state.detach().numpy() for state in new)], new

    def accepts(self, samples: Mapping[str, Array]) -> bool:
        """See `Trained.accepts`."""
        return self._forward.accepts(self._module, samples)

    def _traced_sample(
        self, module: nn.Module, inputs: States, states: States, span: torch.Tensor | None
    ) -> tuple[States, States]:
        """One sample of one row; see `TracedStep`."""
        if self._look_back is not None:
            after: After = [None] * len(self._layers)
            run, count = self._kept.one_operation(states, after), len(self._core_states)
            rows = self._without_time(self._forward.one_sample(inputs))
            outputs, kept = self._look_back.traced(module, rows, states[count:], span, run)
            raw = [leaf.raw(value) for leaf, value in zip(self._leaves, outputs, strict=True)]
            return raw, [*self._kept.collected(after), *kept]
        inputs = self._forward.one_sample(inputs)
        spans = span if span is None or self.batch_first else span.transpose(0, 1)
        with self._kept.tracing(states) as after:  # what a trace cannot follow, `trace_step` tells
            leaves = pytree.tree_leaves(self._forward.result(module, inputs, spans))
        return [leaf.raw(leaves[leaf.index]) for leaf in self._leaves], self._kept.collected(after)

    def _without_time(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One sample of some rows, (rows, ...) by input; a constant has no axis of time."""
        axis = self._forward.axis
        return [x if t.constant else x.squeeze(axis) for t, x in zip(self.inputs, inputs, strict=True)]

    def _pooling(self) -> Readout | None:
        """How it makes its outputs of those of all samples, if each comes once for a recording."""
        return pooling(self, self._recording) if all(leaf.time_axis is None for leaf in self._leaves) else None

    def _find_look_back(self) -> None:
        """Let the step keep its last samples, if what surrounds the cores depends on some and on no later ones."""
        try:
            field = self._perturbed.receptive_field() if self._perturbed.around() else None
        except Exception:  # the user's own code, called on other samples and lengths than it is made for
            return
        if field is None or not field.back or field.ahead != 0 or field.counts:
            if field is not None and self._perturbed.needs_several():
                raise ValueError(field.told())  # such as the spread over time of one sample
            return
        samples = field.back + 1
        for start in possible_starts(samples):
            self._look_back = LookBack(self._forward, self._kept, self._leaves, self.inputs, samples, start)
            self.states = (*self._core_states, *self._look_back.states)
            try:
                if steps_as_called(self, self._recording, 2 * samples + 8) or (field.pools and self._pooling()):
                    return
            except Exception:  # the user's own code again
                continue
        self._look_back, self.states = None, self._core_states

    def _state_pairs(self) -> Iterator[StatePair]:
        starts = iter(self._starts)
        for name, core in zip(self._layers, self.core_maths, strict=True):
            prefix = "" if len(self._layers) == 1 else f"{name}."
            for state, width in zip(core.state_names, core.state_widths, strict=True):
                yield state_pair(f"{prefix}{state}", self.batch, width, next(starts))

    def _find_starts(self, sample: Mapping[str, Array], known: Sequence[list[Any]]) -> list[torch.Tensor]:
        """The states that the forward starts the cores from: the same whatever the samples are, or none at all.

        `known` are those of calls that ended, the first of them on the sample as it is.
        """
        first = known[0] if known else self._started(sample, 1.0)
        second = self._started(sample, -0.5)
        for name, one, other in zip(self._layers, first, second, strict=True):
            if not all(torch.equal(a, b) for a, b in zip(one, other, strict=True)):
                raise ValueError(changing_start(name))
        return [state.float() for own in first for state in own]

    def _refuse_state_in(self, attributes: CallAttributes, samples: Sequence[Mapping[str, Array]]) -> None:
        """Refuse a forward that, called sample by sample, computes something else than its cores with their states.

        What only leaves something in attributes, and never takes it, is called on whole sequences.
        """

        def called(sample: Mapping[str, Array]) -> list[torch.Tensor]:
            return self._outputs_of(self._forward.on(self._module, sample))

        kept = KeptStates(self._layers, self.core_maths)
        alone = [called(sample) for sample in samples]
        stepped = self._stepped_with_states(samples)
        attributes.put_back()
        self._forward.before_each_call = None  # as its author calls it
        by_author = []
        for sample in samples:
            with kept.whole(None) as after:
                by_author.append(called(sample))
        names = attributes.beside(kept.collected(after))
        self._forward.before_each_call = attributes.put_back
        if not _close(by_author, alone) and not _close(by_author, stepped):
            raise ValueError(
                f"the model keeps {names} from call to call, and what it computes from sample to sample depends on "
                "more than the states of its cores as they are: it changes them, or has state of its own. A stream "
                f"keeps no attribute: let one turn of the loop take and return it, {step_advice()}"
            )

    def _refuse_changed_states(self, samples: Sequence[Mapping[str, Array]]) -> None:
        """Refuse a forward that, given the state that it returned, computes something else than on a whole sequence."""
        by_author = self._handed_on(samples)
        if by_author is None or _close(by_author, self._stepped_with_states(samples)):
            return
        again = self._handed_on(samples)
        if again is None or not all(map(torch.equal, itertools.chain(*by_author), itertools.chain(*again))):
            return  # it draws random numbers, which is told of whole sequences
        raise ValueError(changed_on_the_way(str(self._forward.state_argument), self._forward.axis))

    def _handed_on(self, samples: Sequence[Mapping[str, Array]]) -> list[list[torch.Tensor]] | None:
        """Outputs of samples, one per call, with the state that the forward returns handed on, if it is one."""
        try:
            with self._kept.whole(None):
                return [self._outputs_of(result) for result in self._forward.handed_on(self._module, samples)]
        except Exception:  # the user's own code: what it returns is no state that it takes
            return None

    def _stepped_with_states(self, samples: Sequence[Mapping[str, Array]]) -> list[list[torch.Tensor]]:
        """Outputs of samples, one per call, with the states of the cores kept for them."""
        kept, states, stepped = KeptStates(self._layers, self.core_maths), list(self._starts), []
        for sample in samples:
            with kept.stepping(states, None) as after:
                stepped.append(self._outputs_of(self._forward.on(self._module, sample)))
            states = kept.collected(after)
        return stepped

    def _outputs_of(self, result: Any) -> list[torch.Tensor]:
        leaves = pytree.tree_leaves(result)
        return [leaves[leaf.index].detach().clone() for leaf in self._leaves]

    @staticmethod
    def _single_samples(example: Example, count: int) -> list[dict[str, Array]]:
        """So many samples of the first recording, each (1, ...) by input."""
        recorded = {name: rows[0][:, 0] for name, rows in example.rows.items()}
        many = {name: np.resize(rows, (count, *rows.shape[1:])) for name, rows in recorded.items()}
        return [{name: own[k : k + 1] for name, own in many.items()} for k in range(count)]

    def _is_state(self, leaf: torch.Tensor, states: list[torch.Tensor]) -> bool:
        """Whether an output is a new state, handed through; or copied, stacked or joined, if the forward takes one."""
        if any(_handed_through(leaf, state) for state in states):
            return True
        if self._forward.state_argument is None:
            return False
        flat = [state.reshape(-1) for state in states]
        runs = (torch.cat(flat[a:b]) for a in range(len(flat)) for b in range(a + 1, len(flat) + 1))
        return any(torch.equal(leaf.reshape(-1), run) for run in runs)

    def _started(self, sample: Mapping[str, Array], factor: float) -> list[Any]:
        """The states that the forward starts the cores from, called on samples times a factor."""
        kept = KeptStates(self._layers, self.core_maths)
        with kept.starting() as starts:
            self._forward.on(self._module, {t.name: varied(sample[t.name], factor, t.center) for t in self.inputs})
        kept.collected(starts)
        return starts

    def _find_outputs(self, sample: Mapping[str, Array], *, checked: bool) -> list[Leaf]:
        """Call the forward on two and on three samples: the axis that grows is time; new states are no outputs."""

        def called(length: int) -> tuple[list[tuple[Any, Any]], list[torch.Tensor]]:
            with self._kept.whole(None) as states:
                few = {name: np.resize(v, (length, *v.shape[1:])) for name, v in sample.items()}
                result = self._forward.on(self._module, few)
            return pytree.tree_leaves_with_path(result), self._kept.collected(states)

        (two, twice), (three, states) = called(2), called(3)
        if checked and _rows(twice) == {2} and _rows(states) == {3}:
            raise TurnedError
        kept = [
            k
            for k, (_, leaf) in enumerate(three)
            if isinstance(leaf, torch.Tensor) and (k == 0 or not self._is_state(leaf, states))
        ]
        if not kept:
            raise TypeError(f"the model returns {[type(leaf).__name__ for _, leaf in three]}, expected tensors")
        leaves = []
        for place, k in enumerate(kept):
            path, leaf = three[k]
            name = "output" if len(kept) == 1 else leaf_name(path, place)
            _check_output(name, leaf)
            leaves.append(leaf_from_shapes(k, name, tuple(two[k][1].shape), tuple(leaf.shape)))
        return leaves


def _same_states(one: States, other: States | None) -> bool:
    return other is not None and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _same_values(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether the leaves of two results are the same tensors."""
    return len(one) == len(other) and all(
        torch.equal(a, b) for a, b in zip(one, other, strict=True) if isinstance(a, torch.Tensor)
    )


def _second(spans: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """The timespans of the second sample of one row; `None` where there are none for each."""
    if spans is None or spans.numel() % length:
        return None
    return spans.reshape(length, -1)[1]


def _rows(states: Sequence[torch.Tensor]) -> set[int]:
    """How many rows the cores were given, by their states."""
    return {len(state) if state.dim() == 2 else 1 for state in states}


def _check_output(name: str, leaf: torch.Tensor) -> None:
    if leaf.is_complex() or leaf.layout != torch.strided:
        kind = leaf.dtype if leaf.is_complex() else leaf.layout
        raise TypeError(
            f"output '{name}' is {kind}, expected dense real numbers: return torch.view_as_real(y), or y.to_dense()"
        )
    if leaf.dtype in (torch.bfloat16, torch.float16):
        raise TypeError(
            f"output '{name}' is {leaf.dtype}, which the forward computes in by itself, as under an autocast: export "
            "computes in float32. Put the autocast around the calls in training, and not into the forward"
        )
    if not leaf.numel():
        raise ValueError(
            f"output '{name}' has shape {list(leaf.shape)}: it holds no number for few samples. Leave it out, or "
            "return the output of each sample, also of those of a burn-in"
        )


def _close(one: Sequence[Sequence[torch.Tensor]], other: Sequence[Sequence[torch.Tensor]]) -> bool:
    pairs = ((a, b) for first, second in zip(one, other, strict=True) for a, b in zip(first, second, strict=True))
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


def _handed_through(leaf: torch.Tensor, state: torch.Tensor) -> bool:
    """Whether it is the same memory, perhaps seen in another shape."""
    return leaf.numel() == state.numel() and leaf.data_ptr() == state.data_ptr()
