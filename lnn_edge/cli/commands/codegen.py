"""`lnn-edge codegen`: the step as C, with a program that replays the golden sequences."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from ...files.whole import whole_file
from ...wording import listed
from ..arguments.numbers import whole
from ..console import add_json_argument, emit_json, print_result
from ..exit_codes import OK

if TYPE_CHECKING:
    from ...bundle.directory import Bundle
    from ...bundle.golden import Golden
    from ...codegen.replay import Recording, Result
    from ...codegen.targets import Target

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "codegen"
HELP = "write the step as C, for a microcontroller or a program of your own"
DESCRIPTION = """Write the bundle's step as C99 without heap or global state: a header and a source for your own
program. Beside them main.c replays recorded samples (golden.h) and prints the largest error against what the
trained model gave; CMakeLists.txt builds it. Where a compiler for the target is here, flash and RAM of the step
are measured."""
EPILOG = """examples:
  lnn-edge codegen gait.lnn -o gait-c && cmake -S gait-c -B gait-c/build && cmake --build gait-c/build
  lnn-edge codegen gait.lnn -o gait-m4 --target cortex-m4f
  lnn-edge codegen gait.lnn -o gait-arm --target vector4 --compile aarch64-linux-gnu.2.31"""

_MOST_CALLS = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from ...codegen.targets import TARGETS

    names = "; ".join(f"{target.name} ({target.runs_on})" for target in TARGETS)
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    parser.add_argument(
        "-o", dest="folder", metavar="FOLDER", required=True, help="where the files go; made if need be"
    )
    parser.add_argument("--target", default="generic", help=f"what it runs on: {names} (default: generic)")
    parser.add_argument(
        "--prefix", default="lnn", help="what all public names and the two files begin with (default: lnn)"
    )
    parser.add_argument(
        "--calls",
        type=whole(1, _MOST_CALLS),
        default=200,
        help="how many calls main.c replays, each a sample, or a block of them (default: 200, or all if fewer)",
    )
    parser.add_argument(
        "--compile",
        metavar="TRIPLE",
        help="compile it as well: aarch64-linux-gnu.2.31 is for glibc 2.31 and newer; needs lnn-edge[cross]",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of these names in the folder")
    add_json_argument(parser)


class _Choices(Struct, frozen=True):
    """What was typed."""

    bundle: str
    folder: str
    target: str
    prefix: str
    calls: int
    compile: str | None
    overwrite: bool
    json: str | None


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    return _codegen(
        _Choices(
            arguments.bundle,
            arguments.folder,
            arguments.target,
            arguments.prefix,
            arguments.calls,
            arguments.compile,
            arguments.overwrite,
            arguments.json,
        )
    )


def _codegen(choices: _Choices) -> int:
    from ...bundle.directory import read_bundle
    from ...codegen.c_text import check_prefix
    from ...codegen.targets import named_target
    from ..cross_compile import check_compiler, compiled_for, compiled_name, measured

    target = named_target(choices.target)
    check_prefix(choices.prefix)
    check_compiler(choices.compile)
    bundle = read_bundle(choices.bundle)
    files = _files(bundle, target, choices)
    folder = Path(choices.folder)
    compiled = [] if choices.compile is None else [compiled_name(choices.compile, choices.prefix)]
    _check_folder(folder, [*files, *compiled], choices.overwrite)
    made = None if choices.compile is None else compiled_for(choices.compile, files, choices.prefix, target)
    sizes = measured(files, choices.prefix, target)
    _write(folder, {name: text.encode() for name, text in files.items()} | ({} if made is None else dict([made])))
    saved = [*files, *compiled]
    emit_json({"folder": str(folder), "files": saved, "target": target.name, "sizes": sizes.facts()}, choices.json)
    print_result(f"{sizes.text()}\nsaved {folder}: {', '.join(saved)}", choices.json)
    return OK


def _files(bundle: Bundle, target: Target, choices: _Choices) -> dict[str, str]:
    """Text by name."""
    from ...codegen.c_source import c_source, why_not
    from ...codegen.form import form_of
    from ...codegen.replay import replay_files

    program = bundle.program()
    problem = why_not(program)
    if problem:
        raise ValueError(f"there is no C of bundle '{bundle.path}': {problem}")
    form = form_of(bundle.manifest, bundle.program_digest())
    source = c_source(program, form, target, choices.prefix)
    files = {f"{choices.prefix}.h": source.header, f"{choices.prefix}.c": source.source}
    return files | replay_files(_recording(bundle, choices.calls), target, choices.prefix)


def _recording(bundle: Bundle, most: int) -> Recording:
    """The first calls of the golden sequences."""
    import numpy as np

    from ...bundle.golden import golden_from_bundle
    from ...bundle.spec import DT_INPUT
    from ...codegen.replay import Recording
    from ...runtime.sequence import unroll_blocks_from_samples

    golden, manifest = golden_from_bundle(bundle), bundle.manifest
    unroll = manifest.unroll
    calls = min(most, golden.steps // unroll)
    steps = calls * unroll
    constants = {tensor.name for tensor in manifest.constants}
    inputs = []
    for tensor in manifest.inputs:
        values = golden.inputs[tensor.name][:steps]
        if tensor.center:
            values = values - np.array(tensor.center)
        own = values[::unroll] if tensor.name in constants else unroll_blocks_from_samples(values, unroll)
        inputs.append(own.reshape(calls, -1).astype(tensor.dtype))
    dt = golden.inputs.get(DT_INPUT)
    return Recording(
        inputs=inputs,
        dt=None if dt is None else unroll_blocks_from_samples(dt[:steps], unroll).reshape(calls, -1),
        reset=golden.reset[:steps:unroll],
        outputs=[_result(bundle, golden, tensor.name, calls, whole_call=True) for tensor in manifest.outputs],
        states=[_result(bundle, golden, pair.output, calls, whole_call=False) for pair in manifest.states],
    )


def _result(bundle: Bundle, golden: Golden, name: str, calls: int, *, whole_call: bool) -> Result:
    """What torch gave, call by call: of a state what a call ends with."""
    from ...codegen.replay import Result
    from ...runtime.sequence import unroll_blocks_from_samples
    from ...verify.comparison import compare
    from ...verify.tolerance import largest_error, tolerance_of

    unroll = bundle.manifest.unroll
    expected, exact = golden.float32[name][: calls * unroll], golden.float64[name][: calls * unroll]
    row = compare(
        name,
        "",
        "golden",
        expected,
        expected,
        tolerance=tolerance_of(bundle.manifest.precision),
        own=largest_error(expected, exact),
    )
    shown = unroll_blocks_from_samples(expected, unroll) if whole_call else expected[unroll - 1 :: unroll]
    return Result(shown.reshape(calls, -1), row.limit)


def _check_folder(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """Refuse a folder that cannot be made, or files that would be replaced without a word."""
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"directory '{folder.parent}' does not exist. Type: mkdir -p {folder.parent}")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file, expected a folder. Type: -o {folder}-c")
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not overwrite:
        raise FileExistsError(f"'{folder}' has {listed(there)} already. Another folder, or add: --overwrite")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Each file appears whole."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        with whole_file(folder / name) as file:
            file.write(data)
            if name.startswith("replay-"):  # whoever may read it may run it
                readable = os.fstat(file.fileno()).st_mode & 0o444
                os.fchmod(file.fileno(), readable | readable >> 2 | 0o200)
