"""`lnn-edge verify`: prove a bundle again, on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from ..console import add_json_argument, emit_json, progress_bar, say
from ..exit_codes import NOT_EQUAL, OK
from ..options import (
    add_backend_arguments,
    add_example_arguments,
    add_source_arguments,
    backend_options,
    load_example,
)
from ..proof_text import add_proof_arguments, check_proof_arguments, proof_text, save_plot

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "verify"
HELP = "prove that a bundle equals what was trained, on this machine"
DESCRIPTION = """Replay the golden sequences in the bundle through the real runtime, closed loop, and
compare every output and state with torch float32 and with float64. Needs no torch. With --steps one
stream goes through them again and again, which shows drift and leaks in a stream that lives long.

With --against the whole proof of the export is run again on the trained model itself (needs the
extra `export`): recorded samples if there is an --example, random, constant, stepped and extreme
ones, and the graph in ONNX's own evaluator."""
EPILOG = """examples:
  lnn-edge verify gait.lnn
  lnn-edge verify gait.lnn --steps 100000
  lnn-edge verify gait.lnn --against train.py:make_model --weights gait.safetensors --steps 10000 \\
      --example walk.csv --plot error.svg"""
_AGAINST_ONLY = ("weights", "trust_pickle", "step", "initial_state", "example", "reset_column")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    add_backend_arguments(parser, several=True)
    parser.add_argument("--against", metavar="SOURCE", help="trained model to compare with, FILE.py:FACTORY")
    parser.add_argument(
        "--steps",
        type=int,
        help="closed-loop steps: with --against of the recorded and of the random samples, at least 1000 (default "
        "1024); else of the golden sequences, repeated (default: once through)",
    )
    add_example_arguments(parser, "the bundle's columns")
    add_source_arguments(parser)
    add_proof_arguments(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_proof_arguments(arguments)
    with progress_bar("verify") as progress:
        report = _against_model(arguments, progress) if arguments.against else _against_golden(arguments, progress)
    say(proof_text(report, arguments.verbose), arguments)
    emit_json(report.to_dict(), arguments)
    save_plot(report, arguments)
    where = ", ".join(report.backends)
    if report.passed:
        say(f"{arguments.bundle}: equal over {report.steps:,} closed-loop steps on {where}", arguments)
        return OK
    say(f"{arguments.bundle}: NOT equal on {where}: {report.worst}. Export it again on the workstation", arguments)
    return NOT_EQUAL


def _against_golden(arguments: argparse.Namespace, progress: Any) -> Any:
    from ...runtime.verify_golden import verify_golden

    given = [name for name in _AGAINST_ONLY if getattr(arguments, name)]
    if given:
        option = given[0].replace("_", "-")
        raise ValueError(f"--{option} has a meaning only with --against FILE.py:FACTORY, the model to compare with")
    return verify_golden(
        arguments.bundle,
        backend=arguments.backend,
        threads=arguments.threads,
        options=backend_options(arguments.option),
        steps=arguments.steps,
        progress=progress,
    )


def _against_model(arguments: argparse.Namespace, progress: Any) -> Any:
    from ...bundle.directory import read_bundle
    from ...export.verify_against import verify_against
    from ..options import load_source

    columns = [feature.name for feature in read_bundle(arguments.bundle).manifest.inputs[0].features]
    example = load_example(arguments, columns)
    source = load_source(arguments.against, arguments)
    return verify_against(
        source.module,
        arguments.bundle,
        example=example,
        step=source.step,
        initial_state=source.initial_state,
        backend=arguments.backend,
        threads=arguments.threads,
        options=backend_options(arguments.option),
        steps=1024 if arguments.steps is None else arguments.steps,
        progress=progress,
    )
