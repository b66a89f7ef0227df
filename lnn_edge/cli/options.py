"""Arguments that several commands share, and what was chosen with them."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct

from ..backends import ALL, AUTO, BACKENDS
from ..files import read_whole
from ..given_numbers import wanted_number
from .console import remarks

if TYPE_CHECKING:
    from ..arrays import Array
    from ..bundle.spec import Feature
    from ..export.checkpoint.source import Source

    Columns = list[Feature] | dict[str, list[Feature]]

__all__ = [
    "BackendChoice",
    "ExampleChoice",
    "SourceChoice",
    "add_backend_arguments",
    "add_example_arguments",
    "add_option_argument",
    "add_scaling_arguments",
    "add_source_arguments",
    "backend_options",
    "load_example",
    "load_scaling",
    "load_source",
    "names_list",
    "number",
    "positive",
    "whole",
]

_MOMENTS = {"mean", "std"}
_MOST_SCALING = 1 << 24  # bytes of a file with mean and std: those of an input of some million values
_SHOWN = 40  # characters of what was typed, in a message
_N = TypeVar("_N", int, float)
_NAMED = re.compile(r"((?:\\.|[^=:,\\])+)=")  # what stands before the columns of one of several inputs or outputs
_COMMA = re.compile(r"(?<!\\),")
_ESCAPED = re.compile(r"\\([,=])")


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


# Structs, not dataclasses: all are defined for every `--help`, and a frozen dataclass takes a millisecond each.
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


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to rebuild a trained model."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="the trained weights: .safetensors, or a state_dict that torch.save wrote, alone or in a checkpoint (.pt)",
    )
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="unpickle a whole saved module, torch.save(model), given as --weights or as SOURCE; this RUNS WHATEVER "
        "CODE IS IN THE FILE, so only for files you made",
    )
    parser.add_argument(
        "--step",
        metavar="NAME",
        help="for a model that loops cells by itself: the function in the SOURCE file, or the method of the model, "
        "that is one turn of that loop, step(model, x, state[, timespan]) -> (output, new state); state is None first",
    )
    parser.add_argument(
        "--initial-state",
        metavar="NAME",
        help="the function or method, initial_state(model), that makes what --step starts from, if that is not None",
    )


def add_example_arguments(parser: argparse.ArgumentParser, columns: str) -> None:
    """Add `--example` and `--reset-column`; `columns` says which columns a .csv file must have."""
    parser.add_argument(
        "--example",
        metavar="FILE",
        help=f"recorded samples: .npy, .csv with {columns}, or for a model of several inputs .npz, "
        "np.savez('walk.npz', x=..., goal=...)",
    )
    parser.add_argument("--reset-column", metavar="NAME", help="column of the example that separates recordings")


def add_scaling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--scale-inputs` and `--scale-outputs`."""
    parser.add_argument(
        "--scale-inputs",
        metavar="FILE",
        help="mean and std of the training data that the network's inputs were scaled by, so that the bundle takes raw "
        'units: .json, {"mean": [0.1, 9.8], "std": [1.2, 3.4]}, or .npz, np.savez("scale.npz", mean=..., std=...); of '
        'several inputs {"x": {"mean": 0, "std": 2}}, or x.mean and x.std',
    )
    parser.add_argument("--scale-outputs", metavar="FILE", help="likewise of the targets; the bundle gives raw units")


def load_scaling(option: str, name: str | None) -> tuple[Any, Any] | dict[str, tuple[Any, Any]] | None:
    """Mean and std from a file, for each input or output where it names several; or `None`.

    Raises:
        ValueError: If it does not hold both.
        OSError: If it cannot be read.
    """
    if name is None:
        return None
    path = Path(name)
    if path.suffix == ".npz":
        held: Any = _by_tensor(_load_npz(option, path, _MOST_SCALING))
    elif path.suffix == ".json":
        try:
            held = msgspec.json.decode(read_whole(path, "mean and std", _MOST_SCALING))
        except msgspec.DecodeError as error:
            raise ValueError(f"{option} '{path}' is no JSON: {error}") from error
    else:
        raise ValueError(f"{option} is '{path}', expected a .json or .npz file with mean and std")
    if isinstance(held, dict) and held and all(isinstance(own, dict) and set(own) == _MOMENTS for own in held.values()):
        return {tensor: (own["mean"], own["std"]) for tensor, own in held.items()}
    if not isinstance(held, dict) or set(held) != _MOMENTS:
        got = sorted(held) if isinstance(held, dict) else type(held).__name__
        raise ValueError(
            f"{option} '{path}' holds {got}, expected mean and std, or these for each of several by name: "
            '{"x": {"mean": ..., "std": ...}}, in .npz x.mean and x.std'
        )
    return held["mean"], held["std"]


def _by_tensor(moments: Mapping[str, Any]) -> dict[str, Any]:
    """`x.mean` and `x.std` as `x` with both."""
    if not moments or any("." not in name for name in moments):
        return dict(moments)
    nested: dict[str, Any] = {}
    for name, value in moments.items():
        tensor, _, what = name.rpartition(".")
        nested.setdefault(tensor, {})[what] = value
    return nested


class ExampleChoice(Struct, frozen=True):
    """Recorded samples.

    Args:
        path: What `--example` names, or `None`.
        reset_column: Column of a .csv file that separates recordings, or `None`.
    """

    path: str | None
    reset_column: str | None


def load_example(
    choice: ExampleChoice, names: Columns | None
) -> Array | list[Array] | dict[str, list[Array]] | dict[str, Array] | None:
    """The recorded samples, or `None`; by input of a .npz file, and where the columns of a .csv file are given so.

    Args:
        choice: The file.
        names: The columns to take from a .csv file, or those of each input.

    Raises:
        ValueError, OSError: If it cannot be read, or a column is missing.
    """
    if choice.path is None:
        if choice.reset_column is not None:
            raise ValueError("--reset-column belongs to --example FILE.csv")
        return None
    path = Path(choice.path)
    if path.suffix == ".npy":
        return _load_npy(path)
    if path.suffix == ".npz":
        return _load_npz("--example", path)
    if path.suffix != ".csv":
        raise ValueError(f"--example is '{path}', expected a .npy, .npz or .csv file")
    if names is None:
        raise ValueError("--example with a .csv file needs --inputs, the columns that are the model's inputs")
    from ..runtime.transport.csv_file import load_recordings

    by_input = names if isinstance(names, dict) else {"": names}
    columns = [feature.name for own in by_input.values() for feature in own]
    _check_colons(path, columns)
    recordings = load_recordings(path, columns, choice.reset_column)
    if not isinstance(names, dict):
        return recordings
    places = {name: [columns.index(feature.name) for feature in own] for name, own in names.items()}
    return {name: [recording[:, own] for recording in recordings] for name, own in places.items()}


def _check_colons(path: Path, names: Sequence[str]) -> None:
    """Say how a colon is written that belongs to a column's name."""
    from ..runtime.transport.csv_file import open_table

    with open_table(path) as file:
        header = [name.strip() for name in file.readline().split(",")]
    for name in names:
        whole = next((column for column in header if column.startswith(f"{name}:")), None)
        if name not in header and whole is not None:
            escaped = whole.replace(":", "\\:")
            raise ValueError(
                f"'{path}' has no column '{name}', but '{whole}'. A colon ends a name in --inputs; one that belongs to "
                f"it is written with a backslash: --inputs '{escaped}'"
            )


def _load_npz(option: str, path: Path, most: int | None = None) -> dict[str, Array]:
    """Arrays of numbers by name, of at most so many bytes."""
    import zipfile

    import numpy as np

    names = "x=..., goal=...), with the names of the model's inputs" if most is None else "mean=..., std=...)"
    wanted = f"In Python type: np.savez('{path}', {names}"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            size = sum(entry.file_size for entry in archive.zip.infolist())  # before anything is unpacked
            if most is not None and size > most:
                raise ValueError(f"it holds {size:,} bytes, expected at most {most:,}")
            return {name: np.asarray(archive[name]) for name in archive.files}
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{option} '{path}' is no archive of arrays of numbers: {error}. {wanted}") from error


def _load_npy(path: Path) -> Array:
    """One array of numbers. What numpy says of other files would have people unpickle them."""
    import numpy as np

    with path.open("rb") as file:
        kept = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
    wanted = f"In Python type: np.save('{path}', np.asarray(samples, dtype=np.float32))"
    if not kept:
        raise ValueError(f"--example '{path}' is not a .npy file: it begins otherwise. {wanted}")
    try:
        samples: Array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        if str(error).startswith("Object arrays"):
            raise ValueError(
                f"--example '{path}' holds Python objects, such as recordings of different lengths, expected one array "
                f"of numbers. {wanted}"
            ) from error
        raise ValueError(f"--example '{path}' is damaged: {error}. {wanted}") from error
    return samples


def positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    value = _parsed(float, text)
    if value is None or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {_typed(text)}")
    return value


def number(least: float, most: float) -> Callable[[str], float]:
    """The type of an argument that is a number from `least` to `most`."""

    def typed(text: str) -> float:
        value = _parsed(float, text)
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {wanted_number('number', least, most)}, got {_typed(text)}")
        return value

    return typed


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` to `most`."""

    def typed(text: str) -> int:
        value = _parsed(int, text)
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"expected {wanted_number('whole number', least, most)}, got {_typed(text)}"
            )
        return value

    return typed


def _parsed(kind: Callable[[str], _N], text: str) -> _N | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _typed(text: str) -> str:
    return f"'{text}'" if len(text) <= _SHOWN else f"'{text[:_SHOWN]}...'"


class SourceChoice(Struct, frozen=True):
    """What it takes to rebuild a trained model, beside its SOURCE.

    Args:
        weights: What `--weights` names, or `None`.
        trust_pickle: Whether a file may be unpickled.
        step, initial_state: Names of functions or methods, or `None`.
    """

    weights: str | None
    trust_pickle: bool
    step: str | None
    initial_state: str | None


def load_source(source: str, choice: SourceChoice) -> Source:
    """What `source` and the options beside it name."""
    from ..export.checkpoint.source import load_trained

    with remarks():
        return load_trained(
            source,
            weights=choice.weights,
            trust_pickle=choice.trust_pickle,
            step=choice.step,
            initial_state=choice.initial_state,
        )


def names_list(option: str, given: Sequence[str] | None) -> Columns | None:
    """`acc_x:m/s2,acc_y,gap:s:0.001:0.5` as features; or of several inputs or outputs `x=acc_x,acc_y` for each of them.

    Args:
        option: Its name, for messages.
        given: What was typed, once for each time; `None` for nothing. Lists without a name go on where the last ended.

    Raises:
        ValueError: If one is no column, a name is given twice, or some lists have a name and others none.
    """
    if given is None:
        return None
    lists = [_named_list(text) for text in given]
    names = [name for name, _ in lists]
    if set(names) == {None}:
        return [feature for _, features in lists for feature in features]
    shown = f"{option} NAME=column,column for each: {option} velocity=vx:m/s,vy:m/s {option} heading=sin,cos"
    if None in names:
        raise ValueError(f"{option} is given with a name and without one. Type {shown}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{option} names '{twice}' {names.count(twice)} times. Type {shown}")
    return {str(name): features for name, features in lists}


def _named_list(text: str) -> tuple[str | None, list[Feature]]:
    """The columns, and what stands before an equals sign; commas and equals signs of names have a backslash."""
    from ..bundle.columns import parse_column

    named = _NAMED.match(text)
    name, columns = (None, text) if named is None else (named[1], text[named.end() :])
    items = [_ESCAPED.sub(r"\1", item.strip()) for item in _COMMA.split(columns)]
    return name, [parse_column(item) for item in items]
