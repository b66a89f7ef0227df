"""`lnn-edge verify`: prove a bundle again, on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from .console import add_json_argument, emit_json, grid, progress_bar, say
from .options import add_backend_arguments, add_source_arguments, backend_options

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "comparison_table", "run"]

NAME = "verify"
HELP = "prove that a bundle equals what was trained, on this machine"
DESCRIPTION = """Replay the golden sequences in the bundle through the real runtime, closed loop, and
compare every output and state with torch float32 and with float64. Needs no torch. With --against
the whole proof of the export is run again on the trained model itself (needs the extra `export`)."""
EPILOG = """examples:
  lnn-edge verify gait.lnn
  lnn-edge verify gait.lnn --against train.py:make_model --weights gait.safetensors --steps 10000"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    add_backend_arguments(parser)
    parser.add_argument("--against", metavar="SOURCE", help="trained model to compare with, FILE.py:FACTORY")
    parser.add_argument("--steps", type=int, default=1024, help="steps with --against, at least 1000 (default 1024)")
    add_source_arguments(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    comparisons, description = _against_model(arguments) if arguments.against else _against_golden(arguments)
    passed = all(c.passed for c in comparisons)
    say(comparison_table(comparisons), arguments)
    emit_json({"passed": passed, "backend": description, "comparisons": comparisons}, arguments)
    steps = sum({c.segment: c.steps for c in comparisons}.values())
    if passed:
        say(f"{arguments.bundle}: equal over {steps:,} closed-loop steps on {description}", arguments)
        return 0
    failed = next(c for c in comparisons if not c.passed)
    say(f"{arguments.bundle}: NOT equal on {description}: {failed}. Export it again on the workstation", arguments)
    return 3


def _against_golden(arguments: argparse.Namespace) -> tuple[list[Any], str]:
    from ..bundle import read_bundle
    from ..golden import golden_from_bundle
    from ..runtime.loading import open_bundle
    from ..runtime.replay import compare_with_golden

    bundle = read_bundle(arguments.bundle)
    model = open_bundle(
        bundle, backend=arguments.backend, threads=arguments.threads, options=backend_options(arguments)
    )
    return compare_with_golden(model, golden_from_bundle(bundle)), model.description


def _against_model(arguments: argparse.Namespace) -> tuple[list[Any], str]:
    from ..export.verifying import verify_against
    from .options import load_source

    module, _ = load_source(arguments.against, arguments)
    with progress_bar("verify") as progress:
        report = verify_against(
            module,
            arguments.bundle,
            backend=arguments.backend,
            threads=arguments.threads,
            options=backend_options(arguments),
            steps=arguments.steps,
            progress=progress,
        )
    return list(report.comparisons), report.backend


def comparison_table(comparisons: Any) -> str:
    """Lay out the comparisons, one row per tensor, segment and reference."""
    rows = [
        (
            c.against,
            c.segment,
            c.tensor,
            f"{c.steps:,}",
            f"{c.max_abs:.1e}",
            f"{c.quantiles[1]:.1e}",
            f"{c.max_ulp:.0f}",
            f"{c.growth:.1f}",
            f"{c.limit:.1e}",
            "yes" if c.passed else f"NO, from step {c.first_over}",
        )
        for c in comparisons
    ]
    headers = ("compared", "inputs", "tensor", "steps", "max error", "p90", "max ULP", "growth", "allowed", "equal")
    return grid(headers, rows)
