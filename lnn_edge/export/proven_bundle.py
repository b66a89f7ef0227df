"""A bundle on disk that is proven before it takes its place: written as pending, stepped, signed and checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import onnx

from ..bundle.directory import file_entry, read_bundle, write_manifest, write_synced
from ..bundle.golden import encode_golden
from ..bundle.manifest import Manifest, encode_json
from ..bundle.program import StepProgram
from ..bundle.program_file.reading import decode_program
from ..bundle.spec import PROGRAM_JSON, PROGRAM_WEIGHTS, Sensitive, Verification
from ..errors import VerificationError
from ..runtime.loading import open_for_proof
from ..runtime.proof import prove_golden
from ..verify.comparison import Comparison
from ..verify.report import ExportReport
from ..verify.tolerance import OWN_FACTOR, TOLERANCE, TOLERANCE_REASON, largest_error
from ..wording import chosen, limits_advice, typed
from .graph.description import describe
from .proof.few_samples import why_not_over_few
from .proof.prove import golden_from_truth, prove
from .proof.sensitivity import FEWEST_STEPS
from .proof.truth import EXTRACTED, STEPPED_WHOLE, TORCH_EXACT, Truth
from .request import ExportRequest
from .trace.trace import takes_out

__all__ = ["PENDING", "Draft", "stored_program", "write_proven"]

_JUMPS = frozenset({"Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})

PENDING = Verification(
    status="pending", steps=0, tolerance=TOLERANCE, tolerance_reason=TOLERANCE_REASON, max_abs_error={}
)


def stored_program(stage: Path, step: StepProgram) -> StepProgram:
    """Write a program into a staged bundle and read it back, so that what is proven is what the disk holds."""
    for name, data in step.encode().items():
        write_synced(stage / name, data)
    return decode_program(*((stage / name).read_bytes() for name in (PROGRAM_JSON, PROGRAM_WEIGHTS)))


@dataclass(frozen=True)
class Draft:
    """What a bundle will hold, before it is proven.

    Attributes:
        manifest: What the bundle is, still without files and proof.
        step: The step program, as the stage holds it.
        graph: Its graph, still without metadata.
        truth: What the trained module gives.
        sensitive: How fast the model amplifies disturbances, if float32 cannot follow it.
    """

    manifest: Manifest
    step: StepProgram
    graph: onnx.ModelProto
    truth: Truth
    sensitive: Sensitive | None


def write_proven(stage: Path, draft: Draft, request: ExportRequest) -> ExportReport:
    """Write the bundle as pending, prove it through the real runtime, write the proof, and check it as a load does.

    Args:
        stage: The directory in which the bundle is made.
        draft: What goes into it; the metadata is written into its graph.
        request: Where the bundle will stand, how long the proof is, and who is told of it.

    Raises:
        VerificationError: If the bundle does not equal the model.
    """
    staged = _store(stage, draft.manifest, _files(draft) | {"report.json": b"{}\n"})
    bundle = read_bundle(stage)
    few = draft.truth.samples.order is not None
    opened = open_for_proof(bundle, request.backends, partial(why_not_over_few, step=draft.step) if few else None)
    how = request.progress, request.started, request.length
    report = prove(bundle, opened.models, draft.truth, *how, opened.not_run)
    report = dataclasses.replace(report, path=request.target, sensitive=draft.sensitive)
    _require_equal(report, draft.step, draft.truth)
    proven = msgspec.structs.replace(staged, verification=report.verification())
    _store(stage, proven, {"report.json": encode_json(report.to_dict())})
    prove_golden(opened.models[0], read_bundle(stage))  # which is open: of the same bytes it would be opened again
    return report


def _files(draft: Draft) -> dict[str, bytes]:
    """The files of a bundle but for its manifest and its report."""
    describe(draft.graph, draft.manifest)
    return {
        "model.onnx": draft.graph.SerializeToString(),
        "golden.safetensors": encode_golden(golden_from_truth(draft.truth, draft.manifest)),
        **draft.step.encode(),
    }


def _store(stage: Path, manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    """Write files, and the manifest with them beside those that it has."""
    for name, data in files.items():
        write_synced(stage / name, data)
    entries = {name: file_entry(data) for name, data in files.items()}
    complete = msgspec.structs.replace(manifest, files=manifest.files | entries)
    write_manifest(stage, complete)
    return complete


def _require_equal(report: ExportReport, step: StepProgram, truth: Truth) -> None:
    if report.passed:
        return
    what = "the exported step does not equal the trained model"
    if report.precision != "float32":
        what = "the step in half precision drifts too far from the trained model"
    advice = _of_growth(report.sensitive)
    if advice is None and report.worst.against in (EXTRACTED, TORCH_EXACT) and truth.fixed_number:
        advice = _sentence(takes_out(truth.fixed_number))
    if advice is None and report.precision == "float32":
        advice = _of_rounding(report.worst, step, truth)
    raise VerificationError(f"{what}, so nothing was written. {report.worst}. {advice or _advice(report)}", report)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _of_growth(found: Sensitive | None) -> str | None:
    """What to say of a model that amplifies disturbances too fast."""
    if found is None or found.holds_steps >= FEWEST_STEPS:
        return None
    return (
        f"In this model {found.growth} float32 follows exact arithmetic for {found.holds_steps} steps, fewer than the "
        f"{FEWEST_STEPS} that a step must hold: huge weights or a diverged training"
    )


def _of_rounding(worst: Comparison, step: StepProgram, truth: Truth) -> str | None:
    """What to do where rounding alone does it: the program itself, in NumPy, is as far off in float32."""
    (part,) = [slice(start, stop) for name, start, stop in truth.samples.segments if name == worst.segment]
    rounded, exact = truth.rounded[worst.tensor][part], truth.float64[worst.tensor][part]
    if worst.against == STEPPED_WHOLE or OWN_FACTOR * largest_error(rounded, exact) < worst.max_abs:
        return None
    jumps = [node.where for node in step.program.nodes if node.kind in _JUMPS]
    if jumps:
        where = f" ({jumps[0]})" if jumps[0] else ""
        return (
            f"The model's output jumps where a comparison or a rounding in it changes sides{where}, and some samples "
            "lie so near that point that float32 and exact arithmetic fall on different sides: no step can be proven "
            "equal there. Move the point off the values that samples have (.round() in place of .int(), x > 0.55 in "
            "place of x > 0.5 for data with one decimal), or keep samples away from it by limits of the inputs: "
            f"{limits_advice()}"
        )
    return (
        "float32 itself cannot hold this: torch, and the same step in NumPy, are off by about as much from exact "
        "arithmetic. Something in the model amplifies rounding on these samples: a normalisation of values that are "
        "nearly equal (give it a larger eps, or groups of more channels), a division by nearly 0, huge weights, a "
        f"diverged training. Keep the samples where the model works: {limits_advice()}"
    )


def _advice(report: ExportReport) -> str:
    worst = report.worst
    if worst.against == STEPPED_WHOLE:
        return "Torch itself gives another result stepped than on the whole sequence: the model is not causal"
    if worst.against == EXTRACTED:
        return "lnn-edge reads another step out of the model than torch runs; please report it with the model"
    if worst.against == TORCH_EXACT:
        return (
            "Torch float32 itself is this far from exact arithmetic: the model amplifies rounding errors (huge weights "
            "or a diverged training), or lnn-edge misreads it; please report it with the model"
        )
    if report.precision != "float32":
        return (
            f"Type: {chosen('precision', 'float32')}, or narrow the range of the inputs or of dt, "
            f"{typed('dt_range_s=(low, high)', '--dt-range-s LOW HIGH')}"
        )
    return "This is an error of lnn-edge; please report it with the model"
