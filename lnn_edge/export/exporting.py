"""`export_model`: from a trained module to a bundle that is proven equal, or to nothing at all."""

from __future__ import annotations

import dataclasses
import os
import time as clock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
from torch import nn

from ..bundle.directory import check_target, file_entry, read_bundle, staged_directory, write_manifest, write_synced
from ..bundle.golden import encode_golden
from ..bundle.manifest import Manifest, Schema, encode_json
from ..bundle.spec import Feature, Precision, StatePair, Verification
from ..errors import VerificationError
from ..progress import Progress, silent
from ..runtime.loading import load, open_each
from ..verify.comparison import TOLERANCE, TOLERANCE_REASON
from ..verify.report import ExportReport
from .arguments import (
    check_batch,
    check_precision,
    check_unroll,
    make_time,
    name_features,
    names_for,
    recordings,
    with_ranges,
)
from .cores.masks import warn_of_drifted_masks
from .cores.wrappers import unwrapped
from .graph.builder import graph_facts
from .proof.excitation import excite
from .proof.length import FULL_PROOF, ProofLength
from .proof.prove import golden_from_truth, prove
from .proof.truth import STEPPED_WHOLE, TORCH_EXACT, Truth, check_causal, truth_from_model
from .provenance import make_provenance
from .step_graph import step_graph
from .trained.open import describe_inputs, trained_from_module

__all__ = ["export_model", "export_with_proof"]

Names = Sequence[str | Feature]


def export_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Any = None,
    step: Callable[..., Any] | None = None,
    initial_state: Any = None,
    period_s: float | None = None,
    time: Literal["fixed", "measured"] = "fixed",
    timespan: float = 1.0,
    dt_range_s: tuple[float, float] | None = None,
    batch: int = 1,
    unroll: int = 1,
    precision: Precision = "float32",
    inputs: Names | Mapping[str, Names] | None = None,
    outputs: Names | Mapping[str, Names] | None = None,
    overwrite: bool = False,
    steps: int = 1024,
    checkpoint_sha256: str | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Export a trained module as a bundle and prove that stepping it equals the module on whole sequences.

    Args:
        model: An ncps layer or cell, or a network around some; on any device, in any mode. It is not changed.
        path: Where the bundle goes, `NAME.lnn`.
        example: Recorded samples, (T, features) or a batch of recordings as the module takes it; a dict of these by
            argument name if the forward takes several. Used for the proof, for the ranges in the manifest and for the
            self-test on the device. A network needs it; for a single layer random samples can stand in. It leaves out
            the time between samples, which in a forward must be called `timespans`, `timespan`, `dt`, `dts`, `delta_t`,
            `elapsed`, `elapsed_time`, `ts`.
        step: For a network that loops cells by itself: what one turn of that loop is, a function or a method of the
            model, called as `step(model, x, state)` or `step(model, x, state, timespan)`. x is (batch, ...), or a dict
            of these if the example is one; timespan is (batch, 1). It returns the output and the new state, a tensor or
            a tuple or dict of tensors, (batch, width) each; the state is `None` at the start of a sequence. Use the
            model that is passed: it is a copy. If the model's forward takes whole sequences, the step must equal it.
        initial_state: The state that `step` starts from, for one row, or a function that makes it from the model; not
            needed if that is `None`, and the step takes `None` for zeros.
        period_s: Nominal time between samples, seconds. Needed with time="measured" and for paced benchmarks.
        time: "fixed" folds the timespan into the weights; "measured" makes `dt` in seconds an input.
        timespan: The value that the training passed as `timespans` for one period; 1.0 if it passed none.
        dt_range_s: Lowest and highest legal dt with time="measured", seconds; default period/20 to period*20.
        batch: Number of independent rows (robots, sensors) per step.
        unroll: Samples per call, for sensors that deliver blocks and devices where a launch costs more than a step.
        precision: "float16" keeps weights and inner arithmetic in half, inputs, outputs and state in float32. It is
            accepted only if the drift of real half arithmetic stays small; the report shows it.
        inputs: Name or `Feature` per input column, as in the CSV file or the driver; a dict by input if there are
            several. The proof and the runtime keep to the limits of a `Feature`; a column from which the model takes
            timespans by itself needs them.
        outputs: Name or `Feature` per output column, likewise.
        overwrite: Replace an existing bundle. Another file or directory of that name is never replaced.
        steps: Closed-loop steps of the recorded and of the random part of the proof, at least 1000.
        checkpoint_sha256: Hash of the checkpoint that the weights come from, for the manifest.
        progress: Called with (phase, done, total) while the proof runs.

    Returns:
        The report; it prints as a sentence.

    Raises:
        TypeError, ValueError: If an argument or a part of the model cannot be exported; the message names it.
        VerificationError: If the bundle does not equal the model. Nothing is left on disk.
        OSError: If the bundle cannot be written.

    Warns:
        ExportWarning: If training moved sparsity masks off 0 and 1.
    """
    return export_with_proof(
        model,
        path,
        FULL_PROOF,
        example=example,
        step=step,
        initial_state=initial_state,
        period_s=period_s,
        time=time,
        timespan=timespan,
        dt_range_s=dt_range_s,
        batch=batch,
        unroll=unroll,
        precision=precision,
        inputs=inputs,
        outputs=outputs,
        overwrite=overwrite,
        steps=steps,
        checkpoint_sha256=checkpoint_sha256,
        progress=progress,
    )


def export_with_proof(
    model: nn.Module,
    path: str | os.PathLike[str],
    length: ProofLength,
    *,
    example: Any,
    step: Callable[..., Any] | None,
    initial_state: Any,
    period_s: float | None,
    time: Literal["fixed", "measured"],
    timespan: float,
    dt_range_s: tuple[float, float] | None,
    batch: int,
    unroll: int,
    precision: Precision,
    inputs: Names | Mapping[str, Names] | None,
    outputs: Names | Mapping[str, Names] | None,
    overwrite: bool,
    steps: int,
    checkpoint_sha256: str | None,
    progress: Progress | None,
) -> ExportReport:
    """Do what `export_model` does, with a proof of that length."""
    started = clock.monotonic()
    target = Path(path)
    check_target(target, overwrite)
    tell = progress or silent
    when = make_time(time, period_s, timespan, dt_range_s)
    check_unroll(unroll)
    recorded = recordings(
        describe_inputs(model, stepped=step is not None, example=example), check_batch(batch), example
    )
    trained = trained_from_module(model, batch, recorded, step, initial_state)
    warn_of_drifted_masks(unwrapped(model))
    seen = None if recorded is None else {name: np.concatenate(rows) for name, rows in recorded.items()}
    named_inputs = [
        name_features("inputs", tensor, names, None if seen is None else seen[tensor.name])
        for tensor, names in zip(trained.inputs, names_for("inputs", trained.inputs, inputs), strict=True)
    ]
    named_outputs = [
        name_features("outputs", tensor, names)
        for tensor, names in zip(trained.outputs, names_for("outputs", trained.outputs, outputs), strict=True)
    ]
    check_causal(trained, excite(named_inputs, when, recorded, length.least, least=length.least), when)
    # before the long work: it refuses what no graph can compute
    graph = step_graph(trained, when, unroll, check_precision(precision), name=target.stem)
    samples = excite(named_inputs, when, recorded, steps, unroll=unroll, least=length.least)
    truth = truth_from_model(trained, samples, when, tell)
    if seen is not None:  # the recorded segment comes first
        seen_steps = min(len(next(iter(seen.values()))), steps)
        named_outputs = [with_ranges(tensor, truth.stepped[tensor.name][:seen_steps]) for tensor in named_outputs]
    manifest = Manifest(
        schema=Schema(),
        name=target.stem,
        precision=check_precision(precision),
        batch=trained.batch,
        unroll=unroll,
        inputs=tuple(named_inputs),
        outputs=tuple(named_outputs),
        states=tuple(_bounded(pair, truth) for pair in trained.states),
        time=when,
        cores=trained.cores,
        graph=graph_facts(graph),
        verification=_PENDING,
        provenance=make_provenance(checkpoint_sha256),
        files={},
    )
    _describe(graph, manifest)
    with staged_directory(target, overwrite) as stage:
        return _write_proven(stage, target, manifest, graph, truth, length, tell, started)


def _write_proven(
    stage: Path,
    target: Path,
    manifest: Manifest,
    graph: onnx.ModelProto,
    truth: Truth,
    length: ProofLength,
    tell: Progress,
    started: float,
) -> ExportReport:
    """Write the bundle as pending, prove it through the real runtime, write the proof, and load it as a user would."""
    files = {
        "model.onnx": graph.SerializeToString(),
        "golden.safetensors": encode_golden(golden_from_truth(truth, manifest)),
    }
    staged = _store(stage, manifest, files | {"report.json": b"{}\n"})
    bundle = read_bundle(stage)
    models = open_each(bundle)
    proof = prove(bundle, models, truth, tell, started, length)
    report = dataclasses.replace(proof, path=target)
    _require_equal(report)
    proven = msgspec.structs.replace(staged, verification=report.verification())
    _store(stage, proven, files | {"report.json": encode_json(report.to_dict())})
    load(stage, backend=models[0].backend)
    return report


def _store(stage: Path, manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    for name, data in files.items():
        write_synced(stage / name, data)
    complete = msgspec.structs.replace(manifest, files={name: file_entry(data) for name, data in files.items()})
    write_manifest(stage, complete)
    return complete


def _describe(graph: onnx.ModelProto, manifest: Manifest) -> None:
    """Write into the graph's metadata what it is."""
    described = ("schema", "inputs", "outputs", "states", "time", "unroll", "cores")
    metadata = {f"lnn_edge.{key}": msgspec.json.encode(getattr(manifest, key)).decode() for key in described}
    onnx.helper.set_model_props(graph, metadata)


def _bounded(pair: StatePair, truth: Truth) -> StatePair:
    """With the lowest and highest value of each unit during the proof."""
    flat = truth.stepped[pair.output].reshape(-1, *pair.shape[1:])
    low, high = flat.min(axis=0).ravel().tolist(), flat.max(axis=0).ravel().tolist()
    return msgspec.structs.replace(pair, bounds=(tuple(low), tuple(high)))


def _require_equal(report: ExportReport) -> None:
    if report.passed:
        return
    what = "the exported step does not equal the trained model"
    if report.precision != "float32":
        what = "the step in half precision drifts too far from the trained model"
    raise VerificationError(f"{what}, so nothing was written. {report.worst}. {_advice(report)}", report)


def _advice(report: ExportReport) -> str:
    worst = report.worst
    if worst.against == STEPPED_WHOLE:
        return "Torch itself gives another result stepped than on the whole sequence: the model is not causal"
    if worst.against == TORCH_EXACT:
        return (
            "Torch float32 itself is this far from exact arithmetic: the model amplifies rounding errors (huge weights "
            "or a diverged training), or lnn-edge misreads it; please report it with the model"
        )
    if report.precision != "float32":
        return (
            "Type: precision='float32' (--precision float32), or narrow the range of the inputs or of dt (dt_range_s)"
        )
    return "This is an error of lnn-edge; please report it with the model"


_PENDING = Verification(
    status="pending", steps=0, tolerance=TOLERANCE, tolerance_reason=TOLERANCE_REASON, max_abs_error={}
)
