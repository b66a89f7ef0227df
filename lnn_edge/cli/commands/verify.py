"""`lnn-edge verify`: the proof of a bundle again, on this machine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msgspec import Struct

from ...given_numbers import MOST_STEPS
from ..arguments.backend import BackendChoice, add_backend_arguments, backend_options
from ..arguments.example import ExampleChoice, add_example_arguments, add_scaling_arguments, load_example, load_scaling
from ..arguments.numbers import whole
from ..arguments.source import SourceChoice, add_source_arguments, load_source
from ..console import add_json_argument, print_result, prints_aside, progress_bar
from ..exit_codes import NOT_EQUAL, OK
from ..proof_text import ProofView, add_proof_arguments, check_plot_path, show_proof
from ..source_check import check_source

if TYPE_CHECKING:
    from ...bundle.spec import Provenance
    from ...progress import Progress
    from ...verify.report import ExportReport

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "verify"
HELP = "prove that a bundle equals what was trained, on this machine"
DESCRIPTION = """Replay the golden sequences in the bundle through the real runtime, closed loop, and
compare every output and state with torch float32 and with float64. Needs no torch. With --steps the
stream goes on through new samples within the ranges of the inputs, compared with the step program
in float64, over as many steps as you like. Windows and readouts of a bundle are run as a robot
program has them, and compared with the truth, computed offline.

With --against the whole proof of the export is run again on the trained model itself (needs the
extra `export`): recorded samples if there is an --example, random, constant, stepped and extreme
ones. Its weights are those of --weights; without, they are what the function builds."""
EPILOG = """examples:
  lnn-edge verify gait.lnn
  lnn-edge verify gait.lnn --steps 100000
  lnn-edge verify gait.lnn --against train.py:make_model --weights gait.safetensors --steps 10000 \\
      --example walk.csv --plot error.svg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    add_backend_arguments(parser, several=True)
    parser.add_argument("--against", metavar="SOURCE", help="trained model to compare with, FILE.py:FACTORY")
    parser.add_argument(
        "--steps",
        type=whole(1, MOST_STEPS),
        help="closed-loop steps of all samples together (default: the golden sequences; with --against 1024 of random "
        "samples, as many of an --example, and a quarter of that of each other kind). --against never takes fewer than "
        "1000 random ones",
    )
    add_example_arguments(parser, "the bundle's columns")
    add_source_arguments(parser)
    add_scaling_arguments(parser)
    add_proof_arguments(parser)
    add_json_argument(parser)


class _Choices(Struct, frozen=True):
    """What was typed; `steps` is `None` for the default, `against` where the golden sequences alone are replayed."""

    bundle: str
    runner: BackendChoice
    against: str | None
    steps: int | None
    example: ExampleChoice
    source: SourceChoice
    scale_inputs: str | None
    scale_outputs: str | None
    view: ProofView


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    return _verify(_choices(arguments))


def _choices(arguments: argparse.Namespace) -> _Choices:
    return _Choices(
        arguments.bundle,
        BackendChoice(arguments.backend, arguments.threads, backend_options(arguments.option)),
        arguments.against,
        arguments.steps,
        ExampleChoice(arguments.example, arguments.reset_column),
        SourceChoice(arguments.weights, arguments.trust_pickle, arguments.step, arguments.initial_state),
        arguments.scale_inputs,
        arguments.scale_outputs,
        ProofView(arguments.verbose, arguments.plot, arguments.json),
    )


def _verify(choices: _Choices) -> int:
    check_plot_path(choices.view.plot)
    advice = "Export it again on the workstation"
    with progress_bar("verify") as progress:
        if choices.against:
            report, weights = _against_model(choices, choices.against, progress)
            advice = weights.advice or advice
        else:
            report, weights = _against_golden(choices, progress), None
    if weights is not None:
        print_result(weights.sentence, choices.view.json)
    show_proof(report, choices.view)
    where = ", ".join(report.backends)
    if report.passed:
        text = f"equal over {report.steps:,} closed-loop steps on {where}"
    else:
        text = f"NOT equal on {where}: {report.worst}. {advice}"
    print_result(f"{choices.bundle}: {text}", choices.view.json)
    return OK if report.passed else NOT_EQUAL


class _Weights(Struct, frozen=True):
    """Which weights a bundle is compared with, and what to type if they are not those that were meant."""

    sentence: str
    advice: str = ""


def _compared_weights(choices: _Choices, against: str, sha256: str | None, origin: Provenance) -> _Weights:
    """What to say of the weights, by the hash of the file that they came from and of the one that was exported."""
    if sha256 is None:
        whose = "as the bundle's own were" if origin.weights == "as built" else "so they are random"
        built = f"compared with {against} as it is built: no --weights FILE, {whose} unless it loads them by itself"
        return _Weights(built, "The trained weights are not among what was compared: type --weights FILE")
    file = choices.source.weights
    sentence = f"compared with {against}" if file is None else f"compared with {against} with the weights of {file}"
    if origin.checkpoint_sha256 is None:
        return _Weights(sentence)
    if origin.checkpoint_sha256 == sha256:
        return _Weights(f"{sentence}, the file that the bundle was exported from")
    differs = f"another file than the bundle was exported from ({sha256[:12]}, not {origin.checkpoint_sha256[:12]})"
    return _Weights(f"{sentence}, {differs}", "Compare it with the file that it was exported from, or export it again")


def _against_golden(choices: _Choices, progress: Progress) -> ExportReport:
    from ...runtime.verify_golden import verify_golden

    _refuse_what_belongs_to_against(choices)
    return verify_golden(
        choices.bundle,
        backend=choices.runner.name,
        threads=choices.runner.threads,
        options=choices.runner.options,
        steps=choices.steps,
        progress=progress,
    )


def _refuse_what_belongs_to_against(choices: _Choices) -> None:
    source, example = choices.source, choices.example
    given = {
        "weights": source.weights,
        "trust-pickle": source.trust_pickle,
        "step": source.step,
        "initial-state": source.initial_state,
        "example": example.path,
        "reset-column": example.reset_column,
        "scale-inputs": choices.scale_inputs,
        "scale-outputs": choices.scale_outputs,
    }
    option = next((name for name, value in given.items() if value), None)
    if option is not None:
        raise ValueError(f"--{option} has a meaning only with --against FILE.py:FACTORY, the model to compare with")


def _against_model(choices: _Choices, against: str, progress: Progress) -> tuple[ExportReport, _Weights]:
    from ...bundle.directory import read_bundle

    bundle = read_bundle(choices.bundle)
    streamed = {tensor.name: list(tensor.features) for tensor in bundle.manifest.streamed}
    columns = streamed if len(streamed) > 1 else next(iter(streamed.values()))
    example = load_example(choices.example, columns)
    scale_inputs = load_scaling("--scale-inputs", choices.scale_inputs)
    scale_outputs = load_scaling("--scale-outputs", choices.scale_outputs)
    check_source(against, choices.source)

    from ...export.verify_against import verify_against  # only now: torch takes seconds

    source = load_source(against, choices.source)
    with prints_aside():
        report = verify_against(
            source.module,
            bundle,
            example=example,
            step=source.step,
            initial_state=source.initial_state,
            scale_inputs=scale_inputs,
            scale_outputs=scale_outputs,
            backend=choices.runner.name,
            threads=choices.runner.threads,
            options=choices.runner.options,
            steps=choices.steps,
            progress=progress,
        )
    return report, _compared_weights(choices, against, source.checkpoint_sha256, bundle.manifest.provenance)
