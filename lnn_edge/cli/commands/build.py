"""`lnn-edge build`: what a backend would otherwise make on first use, made ready now."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from ..arguments.backend import add_option_argument, backend_options
from ..console import add_json_argument, emit_json, print_result, progress_bar
from ..exit_codes import OK

if TYPE_CHECKING:
    from ...backend_protocols import Prepared

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "build"
HELP = "build on this device what a backend needs, before the first run"
DESCRIPTION = """Build the bundle for this very device and keep the result in the user's cache, where `load`,
`run`, `bench` and `verify` find it. It holds for the device, driver and versions it was built with;
anything else is built anew. The bundle itself is not changed.

With --for it builds for other devices, into a file, where the backend can; nothing of them need be
here. On one of them --from puts the file into the cache. An engine is a program: take none from
strangers."""
EPILOG = """examples:
  lnn-edge build gait.lnn --backend tensorrt
  lnn-edge build gait.lnn --backend tensorrt --option optimization_level=5
  lnn-edge build gait.lnn --backend tensorrt --rebuild
  lnn-edge build gait.lnn --backend native
  lnn-edge build gait.lnn --backend tensorrt-rtx --for sm_86,sm_89,sm_120 -o gait.engine
  lnn-edge build gait.lnn --backend tensorrt-rtx --from gait.engine"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from ...backends import BACKENDS

    names = ", ".join(entry.name for entry in BACKENDS)
    parser.add_argument("bundle", help="the bundle, NAME.lnn")
    parser.add_argument("--backend", required=True, help=f"one of: {names}")
    parser.add_argument("--rebuild", action="store_true", help="build even if the cache has it already")
    parser.add_argument("--for", dest="targets", metavar="GPU,...", help="GPUs to build for, which need not be here")
    parser.add_argument("-o", "--output", metavar="FILE", help="with --for: the file that the engine goes into")
    parser.add_argument("--from", dest="source", metavar="FILE", help="a file that --for made, for this device")
    add_option_argument(parser)
    add_json_argument(parser)


class _Choices(Struct, frozen=True):
    """What was typed."""

    bundle: str
    backend: str
    options: Mapping[str, str]
    rebuild: bool
    targets: tuple[str, ...]
    output: Path | None
    source: Path | None
    json: str | None


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    named = (name.strip() for name in (arguments.targets or "").split(","))
    targets = tuple(dict.fromkeys(name for name in named if name))
    output, source = (None if name is None else Path(name) for name in (arguments.output, arguments.source))
    if bool(targets) != (output is not None):
        raise ValueError("--for names the GPUs of an engine and -o the file that it goes into: give both")
    if source is not None and (targets or arguments.rebuild):
        raise ValueError("--from takes an engine as it is: give it without --for and --rebuild")
    options = backend_options(arguments.option)
    return _build(
        _Choices(
            arguments.bundle, arguments.backend, options, arguments.rebuild, targets, output, source, arguments.json
        )
    )


def _build(choices: _Choices) -> int:
    from ...backend_protocols import Builds, BuildsAhead
    from ...backends import backend_class, checked_options, named_backend
    from ...bundle.directory import read_bundle
    from ...files.whole import check_output

    entry = named_backend(choices.backend)
    options = checked_options(entry, choices.options)
    bundle = read_bundle(choices.bundle)
    backend = backend_class(entry)
    if not issubclass(backend, Builds):
        raise ValueError(f"backend '{entry.name}' runs the bundle as it is: there is nothing to build")
    if (choices.output or choices.source) and not issubclass(backend, BuildsAhead):
        raise ValueError(f"backend '{entry.name}' builds on its device alone: --for and --from are not for it")
    with progress_bar("build") as progress:
        if choices.output is not None and issubclass(backend, BuildsAhead):
            check_output(choices.output)
            prepared = backend.build_ahead(bundle, options, progress, choices.targets, choices.output)
        elif choices.source is not None and issubclass(backend, BuildsAhead):
            prepared = backend.take(bundle, options, choices.source)
        else:
            prepared = backend.prepare(bundle, options, progress, rebuild=choices.rebuild)
    emit_json(prepared, choices.json)
    print_result(f"{choices.bundle}: {_outcome(prepared)}", choices.json)
    return OK


def _outcome(prepared: Prepared) -> str:
    size = f"{prepared.size / 1024:.0f} KiB" + (f", {prepared.how}" if prepared.how else "")
    if not prepared.built:
        return f"already built for this device, {prepared.path} ({size})"
    again = f" (the one in the cache was refused: {prepared.remark})" if prepared.remark else ""
    return f"built in {prepared.seconds:.1f} s{again}, saved {prepared.path} ({size})"
