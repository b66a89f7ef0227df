"""Arguments about what runs a bundle, and what was chosen with them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping

from msgspec import Struct

from ...backends import ALL, AUTO, BACKENDS
from .numbers import whole

__all__ = ["BackendChoice", "add_backend_arguments", "add_option_argument", "backend_options"]


def add_backend_arguments(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add `--backend` and `--threads`; the choices come from the backend table. `several`: all of it by default."""
    names = ", ".join(f"{entry.name} ({entry.runs})" for entry in BACKENDS)
    if several:
        parser.add_argument(
            "--backend", default=ALL, help=f"{ALL} that are ready (default), {AUTO} for the fastest, or one of: {names}"
        )
    else:
        parser.add_argument("--backend", default=AUTO, help=f"{AUTO} for the fastest (default), or one of: {names}")
    parser.add_argument(
        "--threads",
        type=whole(1, os.cpu_count() or 1),
        default=1,
        help="CPU threads inside a step, at most the cores of this machine (default 1)",
    )
    add_option_argument(parser)


def add_option_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--option`; what there is to choose comes from the backend table."""
    shown = [
        f"{entry.name}: " + "; ".join(f"{o.name}={'|'.join(o.values)} ({o.meaning})" for o in entry.options)
        for entry in BACKENDS
        if entry.options
    ]
    parser.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        type=_named_value,
        help=f"choose something about the backend, the first value is the default. {'. '.join(shown)}",
    )


# A struct, not a dataclass: all are defined for every `--help`, and a frozen dataclass takes a millisecond.
class BackendChoice(Struct, frozen=True):
    """What runs the bundle.

    Args:
        name: As `--backend` has it.
        threads: CPU threads inside a step.
        options: What `--option` chose.
    """

    name: str
    threads: int
    options: Mapping[str, str]


def backend_options(given: Iterable[tuple[str, str]] | None) -> dict[str, str]:
    """What `--option` chose, as a mapping; of an option that was typed twice the last."""
    return dict(given or ())


def _named_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got '{text}'")
    return name, value
