"""Arguments about recorded samples and the scaling of training data, and what their files hold."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ...files.whole import read_whole

if TYPE_CHECKING:
    from ...arrays import Array
    from ...bundle.spec import Feature

    Columns = list[Feature] | dict[str, list[Feature]]

__all__ = ["ExampleChoice", "add_example_arguments", "add_scaling_arguments", "load_example", "load_scaling"]

_MOMENTS = {"mean", "std"}
_MOST_SCALING = 1 << 24  # bytes of a file with mean and std: those of an input of some million values


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


# A struct, not a dataclass: all are defined for every `--help`, and a frozen dataclass takes a millisecond.
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
    from ...runtime.transport.csv_file import load_recordings

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
    from ...runtime.transport.csv_file import open_table

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
