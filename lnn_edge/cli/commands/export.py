"""`lnn-edge export`: from a training script and its weights to a proven bundle."""

from __future__ import annotations

import argparse
import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from ...bundle.spec import MAX_BATCH, MAX_UNROLL, MAX_WINDOW
from ...given_numbers import MOST_STEPS
from ..arguments.columns import names_list
from ..arguments.example import ExampleChoice, add_example_arguments, add_scaling_arguments, load_example, load_scaling
from ..arguments.numbers import number, positive, whole
from ..arguments.source import SourceChoice, add_source_arguments, load_source
from ..console import add_json_argument, note, print_result, prints_aside, progress_bar, remarks
from ..exit_codes import OK
from ..guard_file import GUARD_HELP, read_guard
from ..proof_text import ProofView, add_proof_arguments, check_plot_path, show_proof, shown_when_it_fails
from ..source_check import check_source

if TYPE_CHECKING:
    from ...bundle.spec import Precision

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "export"
HELP = "export a trained model as a bundle and prove it equal"
DESCRIPTION = """Build the model that SOURCE names, load the trained weights, write one recurrent step as
ONNX, and step it against torch closed loop. If it is not equal, nothing is written and the exit
code is 3.

SOURCE is FILE.py:FACTORY or package.module:FACTORY; FACTORY is a function without arguments that
returns the module, or the module itself. The file is imported, so training belongs under
`if __name__ == "__main__":`. A single layer or cell that training saved with
lnn_edge.save_checkpoint needs no Python file: then SOURCE is that .safetensors file. Nor does a
whole model saved by torch.save(model), but unpickling it runs the code in the file: SOURCE is that
.pt file, and --trust-pickle says that you made it.

A network around layers needs an --example. If its forward takes the time between samples, that
argument must be called timespans, timespan, dt, dts, delta_t, elapsed, elapsed_time, ts."""
EPILOG = """examples:
  lnn-edge export train.py:make_model gait.lnn --weights gait.safetensors --period-s 0.1
  lnn-edge export gait.safetensors gait.lnn
  lnn-edge export train.py:make_model gait.lnn --weights gait.pt --time measured --period-s 0.02 \\
      --inputs acc_x:m/s2,acc_y:m/s2,gyro_z:rad/s --example walk.csv --plot error.svg
  lnn-edge export train.py:make_policy policy.lnn --weights policy.pt --step step --example walk.npy
  lnn-edge export train.py:make_classifier activity.lnn --weights activity.pt --example walk.npy \\
      --probabilities --labels walk,run,stand
  lnn-edge export train.py:make_net load.lnn --weights load.pt --example walk.npy --scale-inputs scale.json
  lnn-edge export train.py:make_policy reach.lnn --weights reach.pt --example walk.npz --constants goal"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="FILE.py:FACTORY, package.module:FACTORY, a checkpoint (.safetensors) of a single layer or cell, or with "
        "--trust-pickle a whole model (.pt)",
    )
    parser.add_argument("new_bundle", metavar="bundle", help="the bundle to write, NAME.lnn")
    add_source_arguments(parser)
    parser.add_argument("--period-s", type=positive, metavar="S", help="nominal time between samples, seconds")
    parser.add_argument(
        "--rate", type=positive, metavar="HZ", help="instead of --period-s: samples per second, as in --rate 100"
    )
    parser.add_argument("--time", choices=("fixed", "measured"), default="fixed", help="whether dt becomes an input")
    parser.add_argument(
        "--timespan", type=positive, default=1.0, help="what training passed as timespans for one period (default 1.0)"
    )
    parser.add_argument(
        "--dt-range-s", type=positive, nargs=2, metavar=("LOW", "HIGH"), help="legal dt with --time measured, seconds"
    )
    parser.add_argument("--batch", type=whole(1, MAX_BATCH), default=1, help="independent rows per step (default 1)")
    parser.add_argument(
        "--unroll", type=whole(1, MAX_UNROLL), default=1, help="samples per step, for sensors with a FIFO (default 1)"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of weights and inner arithmetic (default float32)",
    )
    parser.add_argument(
        "--window",
        type=whole(1, MAX_WINDOW),
        metavar="N",
        help="the model was trained and is evaluated on windows of N samples: prove those too, and tell what a state "
        "that is kept for ever changes, as in --window 30",
    )
    parser.add_argument(
        "--every",
        type=whole(1, MAX_WINDOW),
        metavar="K",
        help="with --window, samples from one window to the next (default N), as in --window 30 --every 5",
    )
    parser.add_argument(
        "--readout",
        metavar="HOW",
        help="how one result comes out of the outputs of a window or recording: last (default), mean, mean:5 (of the "
        "last five), vote or vote:5, as in --readout mean:5",
    )
    parser.add_argument(
        "--labels", metavar="NAMES", help="names of the classes, one per output column, as in --labels walk,run,stand"
    )
    parser.add_argument(
        "--constants",
        metavar="NAMES",
        help="inputs that are given once per sequence and not with each sample, as in --constants goal,device; needs "
        "--example FILE.npz",
    )
    parser.add_argument(
        "--probabilities",
        nargs="?",
        const=True,
        default=False,
        metavar="OUTPUT",
        help="the output, or the one of that name, holds logits: give the probabilities of its classes, their softmax, "
        "as in --probabilities policy",
    )
    parser.add_argument(
        "--inputs",
        metavar="NAMES",
        action="append",
        help="input columns: name, name:unit or name:unit:low:high (what is legal), separated by commas; of several "
        "inputs the columns of all in a row, or --inputs NAME=... once for each. A colon, comma or equals sign that "
        "belongs to a name has a backslash before it",
    )
    parser.add_argument(
        "--outputs",
        metavar="NAMES",
        action="append",
        help="output columns, likewise, as in --outputs velocity=vx:m/s,vy:m/s --outputs heading=sin,cos",
    )
    add_example_arguments(parser, "columns from --inputs")
    parser.add_argument(
        "--margin",
        type=number(0.0, 1e9),
        metavar="WIDTHS",
        help="refuse samples on the device that lie further outside the range of the example than this many widths of "
        "it, in columns without limits of their own, as in --margin 1 (default: any finite value is legal)",
    )
    add_scaling_arguments(parser)
    parser.add_argument(
        "--steps", type=whole(1, MOST_STEPS), default=1024, help="closed-loop steps of the proof, at least 1000"
    )
    parser.add_argument(
        "--backends",
        metavar="NAMES",
        help="prove it on these, as in --backends onnxruntime (default: on all that can run it on this machine)",
    )
    parser.add_argument("--guard", metavar="FILE", help=f"{GUARD_HELP} (kept in the bundle, for guarded streams of it)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    add_proof_arguments(parser)
    add_json_argument(parser)


class _Choices(Struct, frozen=True):
    """What was typed; `inputs` and `outputs` are lists of columns."""

    source: str
    bundle: str
    beside: SourceChoice
    example: ExampleChoice
    period_s: float | None
    time: Literal["fixed", "measured"]
    timespan: float
    dt_range_s: tuple[float, float] | None
    batch: int
    unroll: int
    precision: Precision
    window: int | None
    every: int | None
    readout: str | None
    labels: str | None
    constants: str | None
    scale_inputs: str | None
    scale_outputs: str | None
    probabilities: bool | str
    inputs: list[str] | None
    outputs: list[str] | None
    steps: int
    backends: str | None
    margin: float | None
    guard: str | None
    overwrite: bool
    view: ProofView


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    return _export(_choices(arguments))


def _choices(arguments: argparse.Namespace) -> _Choices:
    return _Choices(
        source=arguments.source,
        bundle=arguments.new_bundle,
        beside=SourceChoice(arguments.weights, arguments.trust_pickle, arguments.step, arguments.initial_state),
        example=ExampleChoice(arguments.example, arguments.reset_column),
        period_s=_period_s(arguments.period_s, arguments.rate),
        time=arguments.time,
        timespan=arguments.timespan,
        dt_range_s=tuple(arguments.dt_range_s) if arguments.dt_range_s else None,
        batch=arguments.batch,
        unroll=arguments.unroll,
        precision=arguments.precision,
        window=arguments.window,
        every=arguments.every,
        readout=arguments.readout,
        labels=arguments.labels,
        constants=arguments.constants,
        scale_inputs=arguments.scale_inputs,
        scale_outputs=arguments.scale_outputs,
        probabilities=arguments.probabilities,
        inputs=arguments.inputs,
        outputs=arguments.outputs,
        steps=arguments.steps,
        backends=arguments.backends,
        margin=arguments.margin,
        guard=arguments.guard,
        overwrite=arguments.overwrite,
        view=ProofView(arguments.verbose, arguments.plot, arguments.json),
    )


def _period_s(period_s: float | None, rate_hz: float | None) -> float | None:
    """The period that one of them says, or both."""
    if rate_hz is None:
        return period_s
    if period_s is not None and not math.isclose(period_s * rate_hz, 1.0, rel_tol=1e-6):
        raise ValueError(
            f"--rate {rate_hz:g} is a period of {1 / rate_hz:g} s, but --period-s is {period_s:g}: leave one of them "
            "out"
        )
    return 1 / rate_hz if period_s is None else period_s


def _check_backends(names: str | None) -> None:
    """Unknown ones are refused before torch is imported."""
    from ...backends import named_backend

    for name in _words(names) or ():
        named_backend(name)


def _check_time(choices: _Choices) -> None:
    if choices.time == "measured" and choices.period_s is None:
        raise ValueError(
            "--time measured needs the nominal time between samples: --period-s S in seconds, or --rate HZ"
        )
    if choices.time == "fixed" and choices.dt_range_s is not None:
        raise ValueError("--dt-range-s has a meaning only with --time measured")


def _export(choices: _Choices) -> int:
    from ...bundle.columns import escaped_columns
    from ...bundle.disk.writing import check_target

    check_plot_path(choices.view.plot)
    _check_backends(choices.backends)
    check_target(Path(choices.bundle), choices.overwrite)
    _check_time(choices)
    inputs, outputs = names_list("--inputs", choices.inputs), names_list("--outputs", choices.outputs)
    check_source(choices.source, choices.beside)
    guard = read_guard(choices.guard)
    example = load_example(choices.example, inputs)
    scale_inputs = load_scaling("--scale-inputs", choices.scale_inputs)
    scale_outputs = load_scaling("--scale-outputs", choices.scale_outputs)

    from ...export import export_model  # only now: torch takes seconds, and what is wrong is often found without it

    source = load_source(choices.source, choices.beside)
    as_built = source.checkpoint_sha256 is None
    if as_built:
        note("no --weights: exporting the model as the factory returns it")
    shown = shown_when_it_fails(choices.view)
    with shown, progress_bar("export") as progress, remarks(), prints_aside(), _weights(as_built):
        report = export_model(
            source.module,
            choices.bundle,
            example=example,
            step=source.step,
            initial_state=source.initial_state,
            period_s=choices.period_s,
            time=choices.time,
            timespan=choices.timespan,
            dt_range_s=choices.dt_range_s,
            batch=choices.batch,
            unroll=choices.unroll,
            precision=choices.precision,
            window=choices.window,
            every=choices.every,
            readout=choices.readout,
            labels=_words(choices.labels),
            constants=_words(choices.constants),
            scale_inputs=scale_inputs,
            scale_outputs=scale_outputs,
            probabilities=choices.probabilities,
            inputs=escaped_columns(inputs),
            outputs=escaped_columns(outputs),
            margin=choices.margin,
            guard=guard,
            overwrite=choices.overwrite,
            steps=choices.steps,
            backends=_words(choices.backends),
            checkpoint_sha256=source.checkpoint_sha256,
            progress=progress,
        )
    show_proof(report, choices.view)
    untrained = "; untrained? No --weights FILE was given" if as_built else ""
    print_result(f"saved {report.path}{str(report).removeprefix(report.path.name)}{untrained}", choices.view.json)
    return OK


def _weights(as_built: bool) -> AbstractContextManager[None]:
    """Let the bundle say where its weights come from, as far as a checkpoint's hash does not."""
    from ...export.provenance import weights_as_built

    return weights_as_built() if as_built else nullcontext()


def _words(text: str | None) -> list[str] | None:
    """Names separated by commas."""
    return None if text is None else [word.strip() for word in text.split(",")]
