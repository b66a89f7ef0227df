"""Description of a graph for whoever has only the file: in words, and as JSON in its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import onnx

from ...bundle.manifest import Manifest
from ...bundle.spec import DT_INPUT, Feature, StatePair, Tensor

__all__ = ["describe"]

_IN_METADATA = ("schema", "inputs", "outputs", "states", "time", "unroll", "cores")


def describe(graph: onnx.ModelProto, manifest: Manifest) -> None:
    """Write what the manifest knows into the graph: of the model, of each input and output, and metadata.

    Args:
        graph: Finished; changed in place.
        manifest: Of its bundle.
    """
    graph.doc_string = _of_the_step(manifest)
    texts = _of_inputs(manifest) | _of_outputs(manifest)
    for value in (*graph.graph.input, *graph.graph.output):
        value.doc_string = texts[value.name]
    onnx.helper.set_model_props(graph, {f"lnn_edge.{key}": _json(value) for key, value in _metadata(manifest).items()})


def _metadata(manifest: Manifest) -> dict[str, Any]:
    """As in the manifest, but that the time is among the inputs, as in the graph, and shapes are those of the graph."""
    taken: dict[str, Any] = {key: msgspec.to_builtins(getattr(manifest, key)) for key in _IN_METADATA}
    shapes = manifest.sample_inputs() | manifest.results()
    taken["inputs"] = [*taken["inputs"], *(msgspec.to_builtins(tensor) for tensor in _time(manifest))]
    for tensor in (*taken["inputs"], *taken["outputs"]):
        tensor["shape"] = list(shapes[tensor["name"]])
    return taken


def _time(manifest: Manifest) -> list[Tensor]:
    """The time between samples as an input of its own, where it is one."""
    if manifest.time.mode == "fixed":
        return []
    column = Feature(DT_INPUT, "s", limits=manifest.time.dt_range_s)
    return [Tensor(DT_INPUT, (manifest.batch, manifest.unroll), (column,))]


def _of_the_step(manifest: Manifest) -> str:
    per_call = "sample" if manifest.unroll == 1 else f"block of {manifest.unroll} samples"
    fed = ", ".join(f"{state.output} to {state.input}" for state in manifest.states)
    feed = f" Feed states back for the next call: {fed}." if fed else ""
    time = manifest.time
    period = "" if time.period_s is None else f", {time.period_s:g} s"
    when = f"`{DT_INPUT}` is an input, in seconds" if time.mode == "measured" else f"fixed{period}"
    return (
        f"One step of a recurrent network, exported by lnn-edge and proven equal to the trained model. Run it once per "
        f"{per_call}.{feed} Time between samples: {when}. The metadata holds the same as JSON."
    )


def _of_inputs(manifest: Manifest) -> dict[str, str]:
    texts = {tensor.name: _of_tensor(tensor, manifest) for tensor in manifest.inputs}
    for tensor in _time(manifest):
        legal = manifest.time.dt_range_s
        limits = f", {legal[0]:g} to {legal[1]:g}" if legal else ""
        texts[tensor.name] = f"time since the sample before, seconds{limits}; (rows, samples)"
    return texts | {state.input: _of_state(state) for state in manifest.states}


def _of_outputs(manifest: Manifest) -> dict[str, str]:
    texts = {tensor.name: _of_tensor(tensor, manifest) for tensor in manifest.outputs}
    return texts | {state.output: f"next state: goes into {state.input} of the next call" for state in manifest.states}


def _of_tensor(tensor: Tensor, manifest: Manifest) -> str:
    once, blocks = tensor.constant, manifest.unroll > 1
    axes = ["rows", *(["samples"] if blocks and not once else []), *map(str, tensor.shape[1:])]
    given = "given once per sequence; " if once else ""
    return f"{given}({', '.join(axes)}){_columns(tensor.features)}"


def _columns(features: Sequence[Feature]) -> str:
    named = ", ".join(f.name + (f" [{f.unit}]" if f.unit else "") for f in features)
    return f"; columns: {named}" if named else ""


def _of_state(state: StatePair) -> str:
    first = f"{state.initial:g}" if isinstance(state.initial, float | int) else "as in lnn_edge.states"
    return f"state: {first} before the first call, then what {state.output} was"


def _json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return msgspec.json.encode(value).decode()
