"""`lnn-edge export`: from a training script and its weights to a proven bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import add_json_argument, emit_json, progress_bar, remarks, say, tell
from ..exit_codes import OK
from ..options import add_example_arguments, add_source_arguments, load_example, load_source, names_list
from ..proof_text import add_proof_arguments, check_proof_arguments, proof_text, save_plot, shown_when_it_fails

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
  lnn-edge export train.py:make_policy policy.lnn --weights policy.pt --step step --example walk.npy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="FILE.py:FACTORY, package.module:FACTORY, a checkpoint (.safetensors) of a single layer or cell, or with "
        "--trust-pickle a whole model (.pt)",
    )
    parser.add_argument("bundle", help="the bundle to write, NAME.lnn")
    add_source_arguments(parser)
    parser.add_argument("--period-s", type=float, metavar="S", help="nominal time between samples, seconds")
    parser.add_argument("--time", choices=("fixed", "measured"), default="fixed", help="whether dt becomes an input")
    parser.add_argument(
        "--timespan", type=float, default=1.0, help="what training passed as timespans for one period (default 1.0)"
    )
    parser.add_argument(
        "--dt-range-s", type=float, nargs=2, metavar=("LOW", "HIGH"), help="legal dt with --time measured, seconds"
    )
    parser.add_argument("--batch", type=int, default=1, help="independent rows per step (default 1)")
    parser.add_argument("--unroll", type=int, default=1, help="samples per step, for sensors with a FIFO (default 1)")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of weights and inner arithmetic (default float32)",
    )
    parser.add_argument(
        "--inputs",
        metavar="NAMES",
        help="input columns: name, name:unit or name:unit:low:high (what is legal), separated by commas",
    )
    parser.add_argument("--outputs", metavar="NAMES", help="output columns, likewise")
    add_example_arguments(parser, "columns from --inputs")
    parser.add_argument("--steps", type=int, default=1024, help="closed-loop steps of the proof, at least 1000")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    add_proof_arguments(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from ...bundle.directory import check_target
    from ...export import export_model

    check_proof_arguments(arguments)
    check_target(Path(arguments.bundle), arguments.overwrite)
    inputs, outputs = names_list(arguments.inputs), names_list(arguments.outputs)
    example = load_example(arguments, None if inputs is None else [feature.name for feature in inputs])
    source = load_source(arguments.source, arguments)
    if arguments.weights is None and source.checkpoint_sha256 is None:
        tell("no --weights: exporting the model as the factory returns it")
    with shown_when_it_fails(arguments), progress_bar("export") as progress, remarks():
        report = export_model(
            source.module,
            arguments.bundle,
            example=example,
            step=source.step,
            initial_state=source.initial_state,
            period_s=arguments.period_s,
            time=arguments.time,
            timespan=arguments.timespan,
            dt_range_s=tuple(arguments.dt_range_s) if arguments.dt_range_s else None,
            batch=arguments.batch,
            unroll=arguments.unroll,
            precision=arguments.precision,
            inputs=inputs,
            outputs=outputs,
            overwrite=arguments.overwrite,
            steps=arguments.steps,
            checkpoint_sha256=source.checkpoint_sha256,
            progress=progress,
        )
    say(proof_text(report, arguments.verbose), arguments)
    emit_json(report.to_dict(), arguments)
    save_plot(report, arguments)
    say(f"saved {report.path}{str(report).removeprefix(report.path.name)}", arguments)
    return OK
