"""The judges of few samples that come over and over: torch stepped, and the deployed graph as a whole and in two parts.

Torch's forward runs at each step. The graph runs whole until all samples have come; over all steps its encoder runs
once for each sample, and the rest of it with what that gave. Both parts are nodes of the graph that is deployed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec
import numpy as np
import onnx

from ...backend_protocols import Builds
from ...backends import BackendEntry, backend_class, named_backend
from ...bundle.directory import Bundle
from ...bundle.encoder import encoder_multiplications
from ...bundle.manifest import Manifest
from ...bundle.program import StepProgram
from ...bundle.spec import DT_INPUT, Tensor, Time
from ...runtime.closed_loop import replay
from ...runtime.loading import open_each
from ...runtime.model import Model
from ...runtime.sequence import samples_from_unroll_blocks, unroll_blocks_from_samples
from ...verify.samples import Excitation
from ..graph.builder import dtype_of
from ..graph.parts import GraphParts, cut_graph
from ..trained.protocol import Results, Trained
from .remembered import RememberedProducts

__all__ = ["IN_PARTS", "graph_parts", "replay_in_parts", "stepped_over_few", "why_not_over_few"]

IN_PARTS = "{} in two parts"

# Multiplications for one sample: what computes a step only as a whole makes some 10^9 a second where it is slow and
# 10^10 where it is not, so that below this the 3,000 steps of a proof take some seconds, and half a minute at worst.
_TOO_COSTLY = 10 << 20
_SECONDS = "/seconds"  # the time between samples, which a part takes as it comes: no clock has a say in it
_CHUNK = 64  # steps whose samples are in memory at a time


def stepped_over_few(model: Trained, samples: Excitation, time: Time) -> Results:
    """What `model.stepped` gives for samples that come over and over; see `RememberedProducts`.

    The state is handed from each few steps to the next, so that not all samples are in memory at once.
    """
    results: list[Results] = []
    with RememberedProducts():
        for sequence in samples.sequences():
            start = None if samples.start is None else {n: v[sequence][:1] for n, v in samples.start.items()}
            for begin in range(sequence.start, sequence.stop, _CHUNK):
                part = samples.pick(np.arange(begin, min(begin + _CHUNK, sequence.stop))).unfolded()
                first = np.eye(1, part.steps, dtype=np.uint8)[0]
                results.append(model.stepped(dataclasses.replace(part, reset=first, start=start), time))
                start = {pair.input: results[-1][pair.output][-1:] for pair in model.states}
    return {name: np.concatenate([own[name] for own in results]) for name in results[0]}


def why_not_over_few(entry: BackendEntry, step: StepProgram) -> str | None:
    """Why a proof of samples that come over and over has no time for a backend, or `None`."""
    if not entry.steps_whole or encoder_multiplications(step) < _TOO_COSTLY:
        return None
    return (
        "it would compute the costly encoder of this model anew at each step of the proof. On the golden sequences: "
        f"lnn-edge verify BUNDLE --backend {entry.name}"
    )


def graph_parts(bundle: Bundle, model: Model) -> GraphParts | None:
    """The graph of a bundle in two parts; `None` where the backend is to run the whole.

    A backend that builds something for its device first would build it twice more, for minutes; and such a device
    takes no time for frames. Nor is there a cut in a graph whose encoder hands over what a runtime does not take.
    """
    if issubclass(backend_class(named_backend(model.backend)), Builds):
        return None
    manifest = bundle.manifest
    late = [state.input for state in manifest.states] + [DT_INPUT]
    parts = cut_graph(onnx.load_from_string(bundle.files["model.onnx"]), late, manifest.batch)
    if parts is not None:
        _rename_input(parts.rest.graph, DT_INPUT, _SECONDS)
    return parts


def _rename_input(graph: onnx.GraphProto, old: str, new: str) -> None:
    for value in graph.input:
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = new if name == old else name


def replay_in_parts(
    bundle: Bundle, parts: GraphParts, model: Model, samples: Excitation, progress: Callable[[int], None]
) -> Results:
    """Step a graph as `replay` does, its encoder once for each sample.

    Args:
        bundle: The bundle.
        parts: Its graph in parts.
        model: The bundle made ready, which names the backend.
        samples: Samples that come over and over.
        progress: Called with the number of steps done.
    """
    unroll, states = bundle.manifest.unroll, {state.output for state in bundle.manifest.states}
    order = np.arange(samples.steps) if samples.order is None else samples.order
    places, given = order[::unroll] // unroll, _calls(samples.inputs, bundle.manifest)
    encoder = _opened(bundle, parts.encoder, model, stateless=True)
    encoded = replay(encoder, given, np.ones(len(next(iter(given.values()))), np.uint8))
    rest = _opened(bundle, parts.rest, model, stateless=False)
    own = {t.name: (given | encoded)[t.name][places] for t in rest.inputs if t.name != _SECONDS}
    if samples.dt is not None:
        own[_SECONDS] = unroll_blocks_from_samples(samples.dt, unroll)[..., 0]
    start = None if samples.start is None else {name: v[::unroll] for name, v in samples.start.items()}
    results = replay(rest, own, samples.reset[::unroll], lambda calls: progress(calls * unroll), start)
    results |= {name: value[places] for name, value in encoded.items() if name in bundle.manifest.results()}
    return {
        name: results[name] if unroll == 1 or name in states else samples_from_unroll_blocks(results[name])
        for name in bundle.manifest.results()
    }


def _opened(bundle: Bundle, graph: onnx.ModelProto, model: Model, *, stateless: bool) -> Model:
    """Part of a graph ready to run on the backend of a model, a call for each sample: what a call takes is one."""
    manifest, states = bundle.manifest, {pair.input for pair in bundle.manifest.states}
    after, centers = {pair.output for pair in manifest.states}, {t.name: t.center for t in manifest.inputs}
    part = msgspec.structs.replace(
        manifest,
        unroll=1,
        inputs=tuple(
            _tensor(value, centers.get(value.name, ())) for value in graph.graph.input if value.name not in states
        ),
        outputs=tuple(_tensor(value) for value in graph.graph.output if value.name not in after),
        states=() if stateless else manifest.states,
        time=Time("fixed"),
        readout=None,
        labels=(),
    )
    files = bundle.files | {"model.onnx": graph.SerializeToString()}
    return open_each(Bundle(bundle.path, part, files), backend=model.backend).models[0]


def _tensor(value: onnx.ValueInfoProto, center: tuple[float, ...] = ()) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(d.dim_value for d in kind.shape.dim)
    return Tensor(value.name, shape, dtype=dtype_of(kind.elem_type), center=center)


def _calls(inputs: Results, manifest: Manifest) -> Results:
    """Samples as the graph takes them, call by call."""
    unroll, constants = manifest.unroll, {t.name for t in manifest.constants}
    if unroll == 1:
        return inputs
    return {n: v[::unroll] if n in constants else unroll_blocks_from_samples(v, unroll) for n, v in inputs.items()}
