"""A snapshot on disk: a state with its time and count, in one file that is whole whenever the power is cut.

The file is one of safetensors: the state's tensors as `state.NAME`, what a stream keeps beside them as `kept.NAME`, and
in its metadata, as `lnn_edge.snapshot`, a JSON object with all else. `docs/snapshots.md` describes it.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ...arrays import Array
from ...bundle.manifest import Manifest
from ...files.whole import check_kept, given_path, real_place, sync_names
from ...given_numbers import number_text, real_number
from ...tensor_file import read_tensors, write_tensors
from ...times import Stamp
from ..guard.dt_policy import longest_pause_s
from ..state import State, check_build, check_state, of_build

if TYPE_CHECKING:
    from ..guard.guarded import Guarded
    from ..model import Model

__all__ = ["Snapshot", "anew", "backend_of_snapshot", "load_snapshot", "resume", "save_snapshot"]

_ENTRY, _VERSION = "snapshot", 1
_STATE, _KEPT = "state.", "kept."  # before the names of tensors
_WANTED = "the path of a snapshot: 'NAME.snapshot'"
_CLOCKS_APART_S = 1.0  # that a clock may have been set back since then
_MOST_EXTRA = 1 << 24  # bytes, of the 100 MB that the header of a file may have
_SHOWN = 12  # digits of a digest


@dataclass(frozen=True)
class Snapshot:
    """What `load_snapshot` gives.

    Args:
        state: The state, for `Stream.restore`: bit for bit what was saved.
        steps: Samples that were stepped until then, >= 0.
        wall_time: When it was saved, in UTC, by the clock of the computer that saved it.
        extra: What the program that saved it put beside it.
    """

    state: State
    steps: int
    wall_time: datetime
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def t_s(self) -> float | None:
        """Time of the last sample in seconds if the stream was stepped with `t_s=`, else `None`."""
        return self.state.t_s


class _Description(Struct, frozen=True, forbid_unknown_fields=True):
    """All that is no tensor."""

    version: int
    bundle: str  # its manifest's digest
    model: str
    backend: str
    build: str  # "" where the backend builds nothing
    steps: Annotated[int, Meta(ge=0)]
    t_s: float | None
    t_ns: int | None  # nanoseconds since 1970, where the time was one of the calendar
    wall_time: Annotated[datetime, Meta(tz=True)]
    extra: dict[str, Any] = {}


def save_snapshot(
    path: str | os.PathLike[str], state: State, *, model: Model, steps: int, extra: Mapping[str, Any] | None = None
) -> None:
    """Write a state to disk, to go on from it after a restart or a power cut.

    The file takes its place as a whole and is on the disk when this returns, its name as well: a power cut at any
    moment leaves the snapshot that was there before, or this one. It costs two waits for the disk, so it belongs
    beside a control loop and not into it.

    Args:
        path: The file; any name. One that is there is replaced.
        state: From `Stream.snapshot()`.
        model: The model whose state it is: only its bundle, backend and build can go on from it.
        steps: Samples that were stepped until then, >= 0.
        extra: What else the program needs to go on, as JSON has it: strings, finite numbers, lists, dicts by string; at
            most 16 MiB.

    Raises:
        TypeError, ValueError, NonFiniteError: If the state is none of the model's, `extra` is not what JSON holds, or
            too much; or if the path is that of a pipe or a device.
        OSError: If the file cannot be written; the one that was there stays.
    """
    place = given_path(path, _WANTED)
    _check_model(model)
    check_state(state, model.manifest)
    check_build(state, model.build)
    described = _Description(
        version=_VERSION,
        bundle=model.manifest.digest,
        model=model.name,
        backend=model.backend,
        build=model.build,
        steps=_whole(steps),
        t_s=None if state.t_s is None else float(state.t_s),
        t_ns=state.t_s.ns if isinstance(state.t_s, Stamp) else None,
        wall_time=datetime.now(timezone.utc),
        extra=_plain(extra),
    )
    check_kept(place)
    tensors = {_STATE + name: value for name, value in state.tensors.items()}
    kept = {_KEPT + name: value for name, value in state.kept.items()}
    write_tensors(place, _ENTRY, described, tensors | kept)
    sync_names(real_place(place).parent)


def load_snapshot(path: str | os.PathLike[str], model: Model) -> Snapshot:
    """Read what `save_snapshot` wrote. Nothing in the file is executed.

    Args:
        path: The file.
        model: The model that goes on from it.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If it is no snapshot, damaged, newer than this program, or one of another bundle, backend or build.
            The message says what differs, and the command that begins anew.
        OSError: If it is not there or cannot be read.
    """
    place = given_path(path, _WANTED)
    _check_model(model)
    described, tensors = _read(place)
    for what, theirs, ours in _bound(described, model):
        if theirs != ours:
            raise ValueError(f"snapshot '{place}' is of {what} {theirs}, and this is {ours}. {anew(place)}")
    try:
        state = _state(described, tensors)
        check_state(state, model.manifest)
    except (TypeError, ValueError) as error:
        raise ValueError(f"snapshot '{place}' does not fit its model: {error}. {anew(place)}") from error
    return Snapshot(of_build(state, model.build), described.steps, described.wall_time, described.extra)


def resume(guarded: Guarded, path: str | os.PathLike[str], *, within_s: float | None = None) -> Snapshot | None:
    """Let a guarded stream go on from a snapshot on disk, if there is one that is young enough.

    Args:
        guarded: What goes on; where it does not, it is as it was.
        path: The file.
        within_s: How old the snapshot may be by the wall clock, seconds; `None` for `longest_pause_s`: what the guard
            takes for a gap, and with fixed time what its pace allows. Pass `math.inf` where samples bring times of
            their own to a model with measured time.

    Returns:
        What it went on from; `None` if there is no file, or if it is older and the guard's policy on gaps is not to
        refuse: then it begins anew.

    Raises:
        TypeError: If an argument has another type.
        ValueError: As `load_snapshot`; or if it is older and the policy is to refuse.
        OSError: If it cannot be read.
    """
    place = given_path(path, _WANTED)
    if not hasattr(guarded, "tick"):
        raise TypeError(f"`guarded` is {guarded!r}, expected a guarded stream: model.guarded()")
    if within_s is not None and within_s != math.inf:
        real_number("within_s", within_s, above=0, unit=", in seconds")
    if not place.exists():
        return None
    kept = load_snapshot(place, guarded.model)
    if within_s is None:
        within_s = longest_pause_s(guarded.model.time, guarded.guard)
    old_s = (datetime.now(timezone.utc) - kept.wall_time).total_seconds()
    if within_s is not None and not -_CLOCKS_APART_S <= old_s <= within_s:
        if guarded.guard.on_gap == "refuse":
            raise ValueError(
                f"snapshot '{place}' is {old_s:.3g} s old, and '{guarded.model.name}' goes on within {within_s:g} s. "
                f"{anew(place)}; or guard with on_gap='reset'"
            )
        return None
    guarded.restore(kept.state)
    return kept


def backend_of_snapshot(path: str | os.PathLike[str]) -> str:
    """The name of the backend whose state a snapshot holds, before any model is loaded.

    Raises:
        ValueError, OSError: As `load_snapshot`.
    """
    return _read(given_path(path, _WANTED))[0].backend


def _check_model(model: object) -> None:
    if not isinstance(getattr(model, "manifest", None), Manifest):
        raise TypeError(f"`model` is {number_text(model)}, expected a model: lnn_edge.load('NAME.lnn')")


def anew(path: Path) -> str:
    """What to type to leave a snapshot behind."""
    return f"To begin anew, type: rm {shlex.quote(str(path))}"


def _read(place: Path) -> tuple[_Description, dict[str, Array]]:
    try:
        return read_tensors(place, _ENTRY, _Description, _VERSION, again="")
    except FileNotFoundError:
        raise FileNotFoundError(f"no file '{place}', expected a snapshot, as lnn_edge.save_snapshot writes") from None
    except ValueError as error:
        ours = place.is_file()  # and no pipe or device, which nobody should remove
        raise ValueError(f"{error}. {anew(place) if ours else 'Give the snapshot another name'}") from error


def _bound(described: _Description, model: Model) -> Iterator[tuple[str, str, str]]:
    """What it belongs to: in words, as it is in the file, and as the model has it."""
    yield "bundle", _bundle(described.model, described.bundle), _bundle(model.name, model.manifest.digest)
    yield "backend", described.backend, model.backend
    yield "build", described.build or "none", model.build or "none"


def _bundle(name: str, digest: str) -> str:
    return f"'{name}' ({digest[:_SHOWN]})"


def _state(described: _Description, tensors: Mapping[str, Array]) -> State:
    parts: dict[str, dict[str, Array]] = {_STATE: {}, _KEPT: {}}
    for name, value in tensors.items():
        prefix = name.partition(".")[0] + "."
        if prefix not in parts:
            raise ValueError(f"it holds the tensor '{name}', which no snapshot has")
        parts[prefix][name.removeprefix(prefix)] = value
    t_s = described.t_s if described.t_ns is None else Stamp(described.t_ns)
    return State(parts[_STATE], t_s, parts[_KEPT])


def _whole(steps: Any) -> int:
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise TypeError(f"`steps` is {number_text(steps)}, expected the number of samples that were stepped")
    count = int(steps)
    if not 0 <= count < 1 << 63:
        raise ValueError(f"`steps` is {number_text(steps)}, expected a number of samples >= 0")
    return count


def _plain(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same out of JSON: what does not come back as it is would be another state after a restart."""
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise TypeError(f"`extra` is {type(extra).__name__}, expected a dict")
    try:
        text = json.dumps(dict(extra), allow_nan=False)
        back = msgspec.json.decode(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"`extra` is not what JSON holds: {error}") from error
    if back != extra:
        raise ValueError("`extra` does not come back from JSON as it is: expected strings, numbers, lists and dicts")
    if len(text) > _MOST_EXTRA:
        raise ValueError(f"`extra` takes {len(text):,} bytes as JSON, expected at most {_MOST_EXTRA:,}")
    return dict(back)
