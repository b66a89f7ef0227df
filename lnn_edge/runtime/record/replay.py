"""Replay of recordings: each is stepped through its bundle again, and compared tick by tick with what was recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ...bundle.directory import read_bundle
from ...errors import BackendUnavailable
from ...files.whole import given_path
from ...given_numbers import is_real, number_text
from ...wording import one_line, plural
from ..loading import load
from ..model import Model
from .description import Origin, origin_of
from .reading import read_origin
from .retrace import Difference, Retraced, retrace

__all__ = ["InThisProcess", "ReplayReport", "Verdict", "replay"]

_SHOWN = 12  # digits of a digest


@dataclass(frozen=True)
class Verdict:
    """What became of one recording. Prints as a sentence.

    Args:
        recording: Its path.
        backend: The backend that it was replayed on, with its version.
        tolerance: How far results may be apart, relative to max(1, the largest that was recorded); 0.0: bit for bit.
        reason: Why.
        found: What was found.
        error: Why the recording could not be read, of one among several; "" where it could.
    """

    recording: str
    backend: str
    tolerance: float
    reason: str
    found: Retraced
    error: str = ""

    @property
    def same(self) -> bool:
        """Whether nothing differs, and anything was compared."""
        return self.found.first is None and self.found.compared > 0

    @property
    def first(self) -> Difference | None:
        """The first difference."""
        return self.found.first

    def __str__(self) -> str:
        if self.error:
            return f"{self.recording}: UNREADABLE: {self.error}"
        found, how = self.found, "bit for bit" if not self.tolerance else f"within {self.tolerance:g} ({self.reason})"
        notes = [f"{plural(found.skipped, 'tick')} were refused, as then"] if found.skipped else []
        if found.unknown:
            notes.append(f"{plural(found.unknown, 'tick')} not compared: {found.why_unknown}")
        none = found.first is None and not found.compared
        if none and found.cut and not notes:
            text = (
                f"NOTHING to compare: it ends early, as after a crash, and none of its {found.size:,} bytes are of a "
                "complete chunk of ticks. Nothing more can be had of it: leave it out, or record again"
            )
            return f"{self.recording}: {text}"
        if found.cut:
            notes.append("the recording ends early, as after a crash; its complete chunks were compared")
        if none:
            text = "NOTHING to compare" + ("" if notes else ": it holds no ticks")
        elif found.first is None:
            text = f"the same {how}: {plural(found.compared, 'tick')} with all that was recorded"
        else:
            more = f", in {plural(found.different, 'tick')} of {found.compared:,}" if found.compared else ""
            text = f"DIFFERENT, first {found.first}{more}; expected the same {how}"
        return f"{self.recording}: {'; '.join([text, *notes])}"


@dataclass(frozen=True)
class ReplayReport:
    """What `replay` gives. Prints as a sentence for each recording, and one for all.

    Args:
        bundle: The bundle's path.
        verdicts: One for each recording, in the order in which they were passed.
    """

    bundle: str
    verdicts: tuple[Verdict, ...]

    @property
    def same(self) -> bool:
        """Whether all are the same."""
        return all(verdict.same for verdict in self.verdicts)

    def __str__(self) -> str:
        good = sum(verdict.same for verdict in self.verdicts)
        whole = f"{self.bundle}: {good} of {plural(len(self.verdicts), 'recording')} the same"
        return "\n".join([*map(str, self.verdicts), whole])


class InThisProcess(Executor):
    """An executor that runs everything at once and here."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it; what it raises, this raises."""
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def replay(
    bundle: str | os.PathLike[str] | Model,
    recordings: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    executor: Executor | None = None,
    backend: str = "auto",
    tolerance: float | None = None,
) -> ReplayReport:
    """Step recordings through a bundle again, and compare outputs and states with what was recorded.

    Where the same build of the step runs, or the same library on the same kind of processor, every bit has to be the
    same; elsewhere results may be as far apart as the bundle's proof allows. Resets, gaps that were split and samples
    that were refused are what they were then. Files of one recording are looked at one by one, and one of several that
    cannot be read has a verdict like the others.

    Args:
        bundle: The bundle's path, or a model, whose backend is taken then.
        recordings: Paths of recordings, or a single one.
        executor: Where they run, one call for each recording, of which paths and numbers are all that is passed;
            `None` for processes, one for each core, or for this one if there is a single recording. A script that
            starts processes has its own work under `if __name__ == "__main__":`.
        backend: As for `lnn_edge.load`; "auto" is the one of the recording, if it runs here.
        tolerance: Instead of both rules, relative to max(1, the largest value recorded); 0.0 for bit for bit.

    Returns:
        The verdicts; `same` says whether all are the same.

    Raises:
        BundleError, BackendUnavailable, VerificationError: As `lnn_edge.load`.
        OSError: If the only recording cannot be opened.
        TypeError, ValueError: If there is none, one is of another bundle, or the only one is damaged.
        RuntimeError: If a process ended, as in a script without that line.
        ImportError: If the extra `record` is not installed.
    """
    path = Path(bundle.path) if isinstance(bundle, Model) else given_path(bundle, "a bundle or its path", "bundle")
    if isinstance(bundle, Model):
        backend = bundle.backend
    given: Any = recordings
    several = isinstance(given, Iterable) and not isinstance(given, (str, bytes)) and getattr(given, "ndim", 1) > 0
    paths = list(given) if several else [given]
    for one in paths:
        if not isinstance(one, (str, os.PathLike)):
            raise TypeError(f"`recordings` has {one!r}, expected the path of a recording: 'walk.mcap'")
    if not paths:
        raise ValueError("there is no recording to replay. Pass the path of one: 'walk.mcap'")
    if tolerance is not None and not is_real(tolerance):
        raise TypeError(f"`tolerance` is {number_text(tolerance)}, expected a number of at least 0")
    if tolerance is not None and not 0.0 <= tolerance < float("inf"):
        raise ValueError(f"`tolerance` is {tolerance}, expected a number of at least 0")
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(f"`executor` is {executor!r}, expected one: concurrent.futures.ThreadPoolExecutor()")
    known = read_bundle(path).manifest
    several = len(paths) > 1
    for one in paths:  # before any work
        if not several or _unreadable(Path(one)) is None:
            _origin_of(known.name, known.digest, path, Path(one))
    tasks = [(str(path), known.name, known.digest, str(one), backend, tolerance, several) for one in paths]
    if executor is not None:
        return ReplayReport(str(path), _run(executor, tasks))
    if len(tasks) == 1:
        return ReplayReport(str(path), _run(InThisProcess(), tasks))
    workers = min(len(tasks), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            return ReplayReport(str(path), _run(pool, tasks))
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process that replays ended. In a script, put the call under `if __name__ == '__main__':`, or pass "
                "executor=concurrent.futures.ThreadPoolExecutor()"
            ) from error


def _run(executor: Executor, tasks: Sequence[tuple[Any, ...]]) -> tuple[Verdict, ...]:
    futures = [executor.submit(_replay_one, *task) for task in tasks]
    try:
        return tuple(future.result() for future in futures)
    finally:
        for future in futures:
            future.cancel()


def _origin_of(name: str, digest: str, path: Path, recording: Path) -> Origin:
    """Where a recording comes from; refuse one of another bundle than that of this name and digest."""
    origin = read_origin(recording)
    if origin.bundle != digest:
        raise ValueError(
            f"recording '{recording}' is of bundle '{origin.model}' ({origin.bundle[:_SHOWN]}), and '{path}' is "
            f"'{name}' ({digest[:_SHOWN]}). Name the bundle that it was recorded with"
        )
    return origin


def _unreadable(recording: Path) -> str | None:
    """Why nothing can be read of a recording, `None` if something can."""
    try:
        read_origin(recording)
    except (ValueError, OSError) as error:
        return _why(error)
    return None


def _replay_one(
    bundle: str, name: str, digest: str, recording: str, backend: str, tolerance: float | None, several: bool
) -> Verdict:
    """Replay one recording, in whatever process; of several, one that cannot be read stops no other."""
    try:
        return _replayed(bundle, name, digest, recording, backend, tolerance)
    except (ValueError, OSError) as error:
        if not several:
            raise
        return Verdict(recording, "", 0.0, "", Retraced(), _why(error))


def _replayed(bundle: str, name: str, digest: str, recording: str, backend: str, tolerance: float | None) -> Verdict:
    origin = _origin_of(name, digest, Path(bundle), Path(recording))
    model = _loaded(bundle, digest, origin.backend if backend == "auto" else backend, backend == "auto")
    alike = origin.computes_like(origin_of(model))
    if tolerance is not None:
        allowed, reason = tolerance, "as asked for"
    elif alike:
        allowed, reason = 0.0, ""
    else:
        allowed, reason = model.manifest.verification.tolerance, f"it was recorded on {origin.library}"
        if model.manifest.sensitive is not None:
            reason += f"; the model is {model.manifest.sensitive}"
    return Verdict(recording, model.description, allowed, reason, retrace(model, recording, allowed))


@lru_cache(maxsize=2)
def _loaded(bundle: str, digest: str, backend: str, wished: bool) -> Model:
    """The bundle of that digest made ready, on the backend of that name; if it was only wished, on any."""
    try:
        model = load(bundle, backend=backend)
    except (BackendUnavailable, ValueError):
        if not wished:
            raise
        model = load(bundle)
    if model.manifest.digest != digest:
        raise ValueError(f"another bundle took the place of '{bundle}' during the replay. Replay again")
    return model


def _why(error: Exception) -> str:
    """Why a recording cannot be read, behind its name."""
    told = error.strerror if isinstance(error, OSError) else None
    return told or one_line(error)
