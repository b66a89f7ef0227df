"""Loading: from a bundle on disk to a model that has just proven itself on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ..backend_protocols import BuildsForMinutes
from ..backends import (
    ALL,
    AUTO,
    BACKENDS,
    BackendEntry,
    backend_class,
    checked_options,
    missing_modules,
    named_backend,
    refuse_options,
    why_not_bundle,
    why_not_ready,
)
from ..bundle.directory import Bundle, read_bundle
from ..bundle.golden import golden_from_bundle
from ..errors import BackendUnavailable, BundleError, ModelWarning
from ..given_numbers import given_flag, is_whole, number_text
from ..remarks import warn_caller
from ..wording import microseconds
from .closed_loop import golden_steps
from .model import Model
from .proof import prove_golden

__all__ = ["Opened", "load", "open_bundle", "open_each", "open_for_proof", "step_medians_us"]

_STEPS = 300  # of each backend to choose from: enough for a median, and over in milliseconds
_TURN = 20  # steps before it is the next one's turn: all see the same clock and the same other load
_DEVICE_US = 100.0  # what a device apart from the CPU takes for a call, be the work ever so small: tens of microseconds
_LIMIT_NS = 200_000_000  # per backend, for models whose step takes milliseconds

_LeftOut = Callable[[BackendEntry], "str | None"]


def load(
    path: str | os.PathLike[str] | Bundle,
    *,
    backend: str = "auto",
    threads: int = 1,
    self_test: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Load a bundle and make it ready to run.

    Another bundle may take its place meanwhile: the model is all of the one or all of the other.

    Args:
        path: The bundle's directory, `NAME.lnn`, or what a command has read of it.
        backend: A name from the backend table, or "auto" for the fastest: of those that can run this bundle here, each
            steps some hundred golden samples. `Model.backend` says which it is, `Model.description` what each took. The
            first load compiles the step as C where there is a compiler, in a second, and keeps it; an engine is never
            built for "auto", but one that `lnn-edge build` left is taken. What cannot run the bundle is left out, and
            the log says why; it is an error only where it is named.
        threads: CPU threads inside a step, 1 to the number of cores. More than one is slower for models of up to some
            hundred units.
        self_test: Replay the golden sequences through the backend and refuse to start on a mismatch. Takes tens of
            milliseconds; leave it on.
        options: Of the backend that is named, by name; `lnn-edge bench --help` lists them.

    Returns:
        The model: immutable, and safe to share.

    Raises:
        BundleError: If the bundle is missing, damaged, inconsistent or too new.
        OSError: If this machine reads nothing now: too many files are open, or the disk does not answer.
        BackendUnavailable: If the backend cannot run this bundle here, or with "auto" none can.
        VerificationError: If the self-test finds a mismatch.
        TypeError: If an argument has another type.
        ValueError: If the backend's name or an option is unknown, or `threads` is none of 1 to the number of cores.

    Warns:
        ModelWarning: If the model amplifies disturbances, so that float32 follows it for some steps only.
    """
    if not isinstance(path, (str, os.PathLike, Bundle)):
        raise TypeError(f"`path` is {number_text(path)}, expected the path of a bundle: 'NAME.lnn'")
    given_flag("self_test", self_test)
    bundle = path if isinstance(path, Bundle) else read_bundle(path)
    if bundle.manifest.verification.status != "passed":
        raise BundleError(f"bundle '{bundle.path}' was never verified, so it does not run. Export it again")
    model = open_bundle(bundle, backend=backend, threads=threads, options=options)
    if self_test:
        prove_golden(model, bundle)
    if bundle.manifest.sensitive is not None:
        warn_caller(f"'{model.name}' is {bundle.manifest.sensitive}", ModelWarning)
    return model


def open_bundle(
    bundle: Bundle, *, backend: str = "auto", threads: int = 1, options: Mapping[str, Any] | None = None
) -> Model:
    """Make a checked bundle ready to run, without the self-test; export uses it to verify what it wrote."""
    if isinstance(backend, str) and backend == AUTO:
        refuse_options(options)
        return _fastest(bundle, threads)
    return _opened(named_backend(backend, others=(AUTO,)), bundle, threads, options)


def _opened(entry: BackendEntry, bundle: Bundle, threads: int, options: Mapping[str, Any] | None = None) -> Model:
    cores = os.cpu_count() or 1
    if not is_whole(threads) or not 1 <= threads <= cores:
        raise ValueError(
            f"`threads` is {number_text(threads)}, expected a whole number from 1 to {cores}, the cores of this machine"
        )
    ready = backend_class(entry)(bundle, int(threads), checked_options(entry, options))
    return Model(bundle.path, bundle.manifest, ready, entry.name)


def _fastest(bundle: Bundle, threads: int) -> Model:
    """Of the backends that can run this bundle here, without a build of minutes, the one with the shortest step.

    Raises:
        BackendUnavailable: If there is none.
    """
    found = _can_run(bundle)
    unbuilt = [entry for entry in found.entries if not _is_built(entry, bundle)]
    for entry in unbuilt:
        found.entries.remove(entry)
    opened = _each(bundle, found, threads)
    models = opened.models
    if not models:
        builds = {entry.name: f"nothing is built yet. Type: {_build_command(entry, bundle)}" for entry in unbuilt}
        raise BackendUnavailable(_none_runs({**opened.not_run, **builds}))
    if len(models) == 1 and not unbuilt:
        return models[0]
    golden = golden_from_bundle(bundle)
    medians = step_medians_us([golden_steps(model, golden) for model in models])
    ranked = sorted(zip(medians, models, strict=True), key=lambda pair: pair[0])
    (first, chosen), *slower = ranked
    for entry in unbuilt:
        _say_whether_a_build_pays(entry, bundle, chosen, first)
    if slower:
        others = ", ".join(f"{microseconds(median)} on {model.backend}" for median, model in slower)
        chosen.description += f"; the fastest here: {microseconds(first)} a step, {others}"
    return chosen


def _none_runs(not_run: Mapping[str, str]) -> str:
    """What to say, with what to type last."""
    reasons = [f"{name}: {reason}" for name, reason in not_run.items()]
    absent = [entry for entry in BACKENDS if entry.extra is None and missing_modules(entry)]
    reasons += [f"{entry.name}: it is not installed. Type: {entry.install}" for entry in absent]
    return f"no backend is ready on this machine: {'; '.join(reasons)}"


def _is_built(entry: BackendEntry, bundle: Bundle) -> bool:
    """Whether nothing that takes minutes stands between a bundle and a backend."""
    kind = backend_class(entry)
    if not issubclass(kind, BuildsForMinutes):
        return True
    try:
        return kind.is_built(bundle, checked_options(entry, None))
    except BackendUnavailable:  # which making it ready says
        return True


def _say_whether_a_build_pays(entry: BackendEntry, bundle: Bundle, chosen: Model, step_us: float) -> None:
    import logging  # here and below: a start on a backend that is named has nothing to say

    level = logging.WARNING if step_us > _DEVICE_US else logging.INFO
    pays = "it may be faster" if step_us > _DEVICE_US else "it is hardly faster there"
    logging.getLogger("lnn_edge").log(
        level,
        "backend '%s' is left out: nothing is built for '%s' yet. A step takes %s on %s, %s. Type: %s",
        entry.name,
        bundle.manifest.name,
        microseconds(step_us),
        chosen.backend,
        pays,
        _build_command(entry, bundle),
    )


def _build_command(entry: BackendEntry, bundle: Bundle) -> str:
    return f"lnn-edge build {bundle.path} --backend {entry.name}"


class _CanRun(msgspec.Struct, frozen=True):
    """Backends that can run a bundle on this machine, and why the others that are installed cannot, by name."""

    entries: list[BackendEntry]
    not_run: dict[str, str]


def _can_run(bundle: Bundle) -> _CanRun:
    found = _CanRun([], {})
    for entry in BACKENDS:
        if missing_modules(entry):
            continue
        reason = why_not_ready(entry) or why_not_bundle(entry, bundle)
        if reason is None:
            found.entries.append(entry)
        else:
            if not entry.builds_elsewhere:
                found.not_run[entry.name] = reason
            _leave_out(entry, reason)
    return found


def _leave_out(entry: BackendEntry, reason: str, *, failed: bool = False) -> None:
    """Say so: who has installed something for it will wonder, and who sees it fail; else it is only noted."""
    import logging

    wondered = entry.modules and not entry.builds_elsewhere
    level = logging.WARNING if wondered or failed else logging.INFO
    what = "installed but not ready, it is left out" if entry.modules else "left out"
    logging.getLogger("lnn_edge").log(level, "backend '%s' is %s: %s", entry.name, what, reason)


class Opened(msgspec.Struct, frozen=True):
    """A bundle made ready on several backends.

    Args:
        models: One for each backend.
        not_run: Why the others that are installed do not run it, by name.
    """

    models: tuple[Model, ...]
    not_run: Mapping[str, str] = msgspec.field(default_factory=dict)


def open_each(
    bundle: Bundle,
    *,
    backend: str = ALL,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
    left_out: _LeftOut | None = None,
) -> Opened:
    """Make a checked bundle ready on the backend of that name; with `ALL` on every one of the table that can run it.

    Args:
        bundle: The bundle.
        backend: As for `load`, or `ALL`.
        threads: As for `load`.
        options: As for `load`.
        left_out: Says why a proof has no use for a backend, or `None`; asked with `ALL` alone.

    Raises:
        BackendUnavailable: If none can.
        ValueError: If there is no such backend, or options without the name of the backend that they are for.
    """
    if backend == AUTO:
        return Opened((open_bundle(bundle, threads=threads, options=options),))
    if backend != ALL:
        return Opened((_opened(named_backend(backend, others=(ALL, AUTO)), bundle, threads, options),))
    refuse_options(options)
    return _at_least_one(_each(bundle, _wanted(bundle, left_out), threads))


def open_for_proof(bundle: Bundle, names: Sequence[str] | None = None, left_out: _LeftOut | None = None) -> Opened:
    """Make a checked bundle ready for the proof of an export, with what is quick to make ready.

    Args:
        bundle: The bundle.
        names: Of the backends that must run it; `None` for every one that can.
        left_out: As for `open_each`; not asked where they are named.

    Raises:
        BackendUnavailable: If one that is named cannot run it, or none can.
    """
    if names is None:
        return _at_least_one(_each(bundle, _wanted(bundle, left_out), 1, for_proof=True))
    entries = [named_backend(name) for name in names]
    return Opened(tuple(_opened(entry, bundle, 1, entry.proof_options) for entry in entries))


def _wanted(bundle: Bundle, left_out: _LeftOut | None) -> _CanRun:
    """What can run it, but for what a proof has no use for."""
    found = _can_run(bundle)
    if left_out is None:
        return found
    for entry in list(found.entries):
        reason = left_out(entry)
        if reason is not None:
            found.not_run[entry.name] = reason
            found.entries.remove(entry)
    return found


def _each(bundle: Bundle, found: _CanRun, threads: int, *, for_proof: bool = False) -> Opened:
    """On each of these that does not fail; one that does is left out, and says so."""
    models, failed = [], dict(found.not_run)
    for entry in found.entries:
        try:
            models.append(_opened(entry, bundle, threads, entry.proof_options if for_proof else None))
        except BackendUnavailable as error:
            failed[entry.name] = str(error)
            _leave_out(entry, str(error), failed=True)
    return Opened(tuple(models), failed)


def _at_least_one(opened: Opened) -> Opened:
    if not opened.models:
        raise BackendUnavailable(_none_runs(opened.not_run))
    return opened


def step_medians_us(steps: Sequence[Callable[[], object]]) -> list[float]:
    """Median duration of each step, microseconds.

    Args:
        steps: What to time; each does one step of a stream of its own. The first turn warms up and does not count.
    """
    for step in steps:
        _turn(step)
    durations: list[list[int]] = [[] for _ in steps]
    while any(len(own) < _STEPS and sum(own) < _LIMIT_NS for own in durations):
        for step, own in zip(steps, durations, strict=True):
            own += _turn(step)
    return [float(np.median(own)) / 1e3 for own in durations]


def _turn(step: Callable[[], object]) -> list[int]:
    durations: list[int] = []
    while len(durations) < _TURN and sum(durations) < _LIMIT_NS // 4:
        start = time.perf_counter_ns()
        step()
        durations.append(time.perf_counter_ns() - start)
    return durations
