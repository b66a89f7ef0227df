"""The export of a trained module: to a bundle that is proven equal, or to nothing at all."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from time import monotonic
from typing import Any, Literal

import msgspec
import onnx
from torch import nn

from ..arrays import Array
from ..bundle.columns import parse_columns
from ..bundle.disk.writing import check_target, staged_directory
from ..bundle.manifest import Manifest, Schema
from ..bundle.program import StepProgram
from ..bundle.spec import Guard, Precision, Readout, Sensitive, StatePair, Tensor, Window
from ..files.whole import given_path
from ..given_numbers import given_flag
from ..progress import Progress, silent
from ..verify.excitation import check_steps
from ..verify.few_samples import excite_affordably
from ..verify.report import ExportReport, WindowFinding
from ..verify.samples import Excitation, SampleRequest
from .arguments import (
    check_backends,
    check_guard,
    check_hash,
    check_precision,
    check_progress,
    check_unroll,
    check_windows,
    make_time,
    with_ranges,
)
from .forward.scaling import parse_scaling
from .graph.builder import graph_facts
from .limits import check_margin
from .named_example import example_by_names
from .proof.length import FULL_PROOF, ProofLength
from .proof.sensitivity import FEWEST_STEPS, samples_that_hold, sensitivity
from .proof.truth import Truth, interpret_where_finite, truth_from_model
from .proven_bundle import PENDING, Draft, stored_program, write_proven
from .provenance import make_provenance
from .reading import Reading, read_model
from .request import ExportRequest, Names, Windows
from .step_graph import step_graph
from .torch_settings import one_thread, usual_torch
from .trained.open import open_module
from .trained.protocol import Results
from .windows import find_window

__all__ = ["export_model", "export_with_proof"]

# How long the proofs of this context are. No argument of `export_model`, so that no user can shorten one.
_LENGTH: ContextVar[ProofLength] = ContextVar("length of proofs", default=FULL_PROOF)


@usual_torch()
@one_thread()
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
    window: int | None = None,
    every: int | None = None,
    readout: str | Readout | None = None,
    labels: Sequence[object] | None = None,
    constants: Sequence[str] | None = None,
    scale_inputs: Any = None,
    scale_outputs: Any = None,
    probabilities: bool | str = False,
    inputs: Names | Mapping[str, Names] | None = None,
    outputs: Names | Mapping[str, Names] | None = None,
    margin: float | None = None,
    guard: Guard | None = None,
    overwrite: bool = False,
    steps: int = 1024,
    backends: Sequence[str] | None = None,
    checkpoint_sha256: str | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Export a trained module as a bundle and prove that stepping it equals the module on whole sequences.

    Args:
        model: An ncps layer or cell, or a network around some; on any device, in any mode. It is not changed.
        path: Where the bundle goes, `NAME.lnn`.
        example: Recorded samples, (T, features) or a batch of recordings as the module takes it; a dict of these by
            argument name if the forward takes several. Columns with names, of a frame or a structured array, are put
            in the order of `inputs`, or name the inputs. Whole numbers are tokens where the model takes only such;
            uint8 are frames of a camera, which the step then takes as they are. Used for the proof, for the ranges in
            the manifest and for the self-test on the device. A network needs it; for a layer random samples can stand
            in.
            It leaves out the time between samples, which in a forward must be called `timespans`, `timespan`, `dt`,
            `dts`, `delta_t`, `elapsed`, `elapsed_time`, `ts`.
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
        window: Samples of a window if the model was trained and evaluated on windows, each from the initial state: the
            proof then runs windows too, and the report says what a state that is kept for ever changes.
            `model.stream(window=N)` runs them on the device.
        every: Samples from the beginning of one window to that of the next; by default the length of a window.
        readout: How one result comes out of the outputs of a window or recording: "last" (the default), "mean" of all,
            "mean:5" of the last five, "vote", "vote:5". A forward that returns the mean over time of its outputs, all
            or the last of them, says so by itself.
        labels: Names of the classes, one per column of the only output; then a stream has a `label`. They also name the
            columns, if `outputs` does not.
        constants: Names of the inputs that are given once per sequence (a goal, the number of a device): a stream takes
            them when it begins, `model.stream(constants={...})`. In the example they are (features,), or one for
            each recording. Where an array can be nothing else, this is found by itself.
        scale_inputs: (mean, std) of the training data, numbers or one per column, or the fitted scaler of scikit-learn
            (StandardScaler, MinMaxScaler, RobustScaler, MaxAbsScaler) that training put before the model; a dict of
            these by input if there are several. The bundle then takes raw units, and so does the example. Where
            float32 is too coarse for raw values, the runtime centres them in float64: pass float64 there.
        scale_outputs: Likewise, what the targets of training were scaled by: the bundle gives raw units.
        probabilities: The only output, or the one of that name, holds logits and the step is to give the probabilities
            of the classes: the softmax is part of the step, and proven with it. One logit becomes two columns, the
            probability that it is not so and that it is. A mean is then one of probabilities.
        inputs: Name, `"name:unit:low:high"` or `Feature` per input column, as in the CSV file or the driver; unit and
            limits may be left out (`"ax:m/s"`, `"gap::0.001:0.5"`), and a colon that belongs to a name has a backslash
            before it. Of several inputs a dict of such lists by input, or the columns of all in a row. The proof and
            the runtime keep to the limits; a column from which the model takes timespans by itself needs them.
        outputs: Name or `Feature` per output column, likewise.
        margin: Give each input column that has no limits those of the example's range, widened on either side by this
            many widths of it; 1.0 is what an estimator's export takes. A column that never changes gets none. `None`:
            any finite value is legal, and a stream counts what lies outside the range, `stream.outside`.
        guard: What guarded streams of the model do about bad, late and gapped samples and states out of bounds, where
            their caller says nothing else: `lnn_edge.Guard(...)`, with the safe output and slew limits.
        overwrite: Replace an existing bundle. Another file or directory of that name is never replaced.
        steps: Closed-loop steps of the recorded and of the random part of the proof, at least 1000.
        backends: Names of those that must run the proof, as in ("onnxruntime",). By default all that can run the bundle
            on this machine; the report says of the others why not.
        checkpoint_sha256: Hash of the checkpoint that the weights come from, for the manifest.
        progress: Called with (phase, done, total) while the proof runs.

    Returns:
        The report; it prints as a sentence.

    Raises:
        TypeError, ValueError: If an argument or a part of the model cannot be exported; the message names it.
        VerificationError: If the bundle does not equal the model. Nothing is left on disk.
        BackendUnavailable: If a backend that `backends` names cannot run the bundle here.
        OSError: If the bundle cannot be written.

    Warns:
        ExportWarning: If training moved sparsity masks off 0 and 1, or float32 is too coarse for a column.
    """
    started, length, note = monotonic(), _LENGTH.get(), check_progress(progress) or silent
    target = given_path(path, "the path of a bundle: 'NAME.lnn'")
    check_target(target, given_flag("overwrite", overwrite))
    check_hash(checkpoint_sha256)
    when = make_time(time, period_s, timespan, dt_range_s)
    check_unroll(unroll)
    check_precision(precision)
    windows = check_windows(window, every, unroll)
    check_steps(steps, length.least)
    inputs, outputs = parse_columns("inputs", inputs), parse_columns("outputs", outputs)
    example, inputs = example_by_names(example, inputs, constants)
    request = ExportRequest(
        target=target,
        overwrite=overwrite,
        time=when,
        batch=batch,
        unroll=unroll,
        precision=precision,
        windows=windows,
        steps=steps,
        readout=readout,
        labels=labels,
        constants=constants,
        scaling=(
            parse_scaling("scale_inputs", scale_inputs, inputs),
            parse_scaling("scale_outputs", scale_outputs, outputs),
        ),
        probabilities=probabilities,
        inputs=inputs,
        outputs=outputs,
        margin=check_margin(margin),
        guard=check_guard(guard),
        backends=check_backends(backends),
        checkpoint_sha256=checkpoint_sha256,
        length=length,
        progress=note,
        started=started,
    )
    opened = open_module(model, step=step, initial_state=initial_state, example=example, scaled=request.scaled)
    return _export(request, read_model(request, opened, example))


def export_with_proof(
    model: nn.Module, path: str | os.PathLike[str], length: ProofLength, **options: Any
) -> ExportReport:
    """Do what `export_model` does with these options, with a proof of that length."""
    usual = _LENGTH.set(length)
    try:
        return export_model(model, path, **options)
    finally:
        _LENGTH.reset(usual)


def _export(request: ExportRequest, reading: Reading) -> ExportReport:
    """Write a model's step in the stage of a bundle and prove it there."""
    program = reading.trained.program(request.time)
    samples = excite_affordably(program, _wanted(request, reading))
    with staged_directory(request.target, request.overwrite) as stage:
        step = stored_program(stage, program)
        graph = _graph(request, reading, step)  # before the long work, as it may refuse
        finding = find_window(step, reading.inputs, request.time, reading.recorded, request.windows, reading.readout)
        truth, sensitive = _truth(request, reading, step, samples)
        held = sensitive if sensitive is not None and _holds(request, sensitive) else None
        manifest = msgspec.structs.replace(
            _manifest(request, reading, graph, truth), window=_window(request.windows, finding), sensitive=held
        )
        report = write_proven(stage, Draft(manifest, step, graph, truth, sensitive), request)
        return dataclasses.replace(report, window=finding)


def _wanted(request: ExportRequest, reading: Reading) -> SampleRequest:
    """The samples of the proof."""
    return SampleRequest(
        reading.inputs,
        request.time,
        request.steps,
        reading.recorded,
        unroll=request.unroll,
        window=request.window,
        least=request.length.least,
    )


def _graph(request: ExportRequest, reading: Reading, step: StepProgram) -> onnx.ModelProto:
    return step_graph(
        step,
        batch=request.batch,
        unroll=request.unroll,
        precision=request.precision,
        name=request.name,
        constants=[t.name for t in reading.inputs if t.constant],
    )


def _truth(
    request: ExportRequest, reading: Reading, step: StepProgram, samples: Excitation
) -> tuple[Truth, Sensitive | None]:
    """What the model gives for the samples, in sequences that float32 holds; and how it amplifies disturbances."""
    samples, computed = interpret_where_finite(step, samples, reading.inputs, reading.recorded, request.progress)
    sensitive = sensitivity(step, samples, *computed)
    known: tuple[Results, Results] | None = computed
    if sensitive is not None and _holds(request, sensitive):
        held = _held_steps(request, sensitive)
        samples = samples_that_hold(samples, computed[0], reading.trained.states, held, request.unroll)
        known = None
    return truth_from_model(reading.trained, step, samples, request.time, request.progress, known), sensitive


def _held_steps(request: ExportRequest, sensitive: Sensitive) -> int:
    """Steps of whole calls over which float32 follows the model."""
    return sensitive.holds_steps // request.unroll * request.unroll


def _holds(request: ExportRequest, sensitive: Sensitive) -> bool:
    """Whether these are enough to prove; else the whole proof fails, and says why."""
    return _held_steps(request, sensitive) >= max(FEWEST_STEPS, request.unroll)


def _manifest(request: ExportRequest, reading: Reading, graph: onnx.ModelProto, truth: Truth) -> Manifest:
    """What the bundle is, as far as one knows without its proof."""
    outputs, recorded = reading.outputs, reading.recorded
    return Manifest(
        schema=Schema(),
        name=request.name,
        precision=request.precision,
        batch=request.batch,
        unroll=request.unroll,
        inputs=reading.inputs,
        outputs=outputs if recorded is None else _with_ranges(outputs, truth, recorded, request.steps),
        states=tuple(_bounded(pair, truth) for pair in reading.trained.states),
        time=request.time,
        cores=reading.trained.cores,
        graph=graph_facts(graph),
        verification=PENDING,
        provenance=make_provenance(request.checkpoint_sha256),
        files={},
        readout=reading.readout,
        labels=reading.labels,
        probabilities=reading.classified,
        guard=request.guard,
    )


def _window(windows: Windows | None, finding: WindowFinding | None) -> Window | None:
    if windows is None:
        return None
    return Window(*windows, None if finding is None else finding.kept_state_changes or None)


def _with_ranges(
    tensors: Sequence[Tensor], truth: Truth, recorded: Mapping[str, Sequence[Array]], steps: int
) -> tuple[Tensor, ...]:
    """Outputs with the ranges that they had on the recorded segment, which comes first."""
    seen = min(sum(map(len, next(iter(recorded.values())))), steps)
    return tuple(with_ranges(tensor, truth.stepped[tensor.name][:seen]) for tensor in tensors)


def _bounded(pair: StatePair, truth: Truth) -> StatePair:
    """With the lowest and highest value of each unit during the proof."""
    flat = truth.stepped[pair.output].reshape(-1, *pair.shape[1:])
    low, high = flat.min(axis=0).ravel().tolist(), flat.max(axis=0).ravel().tolist()
    return msgspec.structs.replace(pair, bounds=(tuple(low), tuple(high)))
