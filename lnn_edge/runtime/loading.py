"""Loading: from a bundle on disk to a model that has just proven itself on this machine."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends import (
    ALL,
    AUTO,
    BACKENDS,
    BackendEntry,
    backend_class,
    base_install,
    checked_options,
    missing_modules,
    named_backend,
    refuse_options,
    why_not_ready,
)
from ..bundle.directory import Bundle, read_bundle
from ..bundle.golden import golden_from_bundle
from ..errors import BackendUnavailable, BundleError, ModelWarning
from ..given_numbers import given_flag, is_whole, number_text
from ..remarks import warn_caller
from .closed_loop import golden_steps
from .model import Model
from .self_test import prove_golden

__all__ = ["load", "open_bundle", "open_each", "step_medians_us"]

_LOGGER = logging.getLogger("lnn_edge")
_STEPS = 300  # of each backend to choose from: enough for a median, and over in milliseconds
_TURN = 20  # steps before it is the next one's turn: all see the same clock and the same other load
_LIMIT_NS = 200_000_000  # per backend, for models whose step takes milliseconds


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
        backend: A name from the backend table, or "auto" for the fastest: if several are ready, each steps some
            hundred golden samples. `Model.backend` says which it is, `Model.description` what each took.
        threads: CPU threads inside a step, 1 to the number of cores. More than one is slower for models of up to some
            hundred units.
        self_test: Replay the golden sequences through the backend and refuse to start on a mismatch. Takes tens of
            milliseconds; leave it on.
        options: Of the backend that is named, by name; `lnn-edge bench --help` lists them.

    Returns:
        The model: immutable, and safe to share.

    Raises:
        BundleError: If the bundle is missing, damaged, inconsistent or too new.
        BackendUnavailable: If the backend cannot run here.
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
    if backend == AUTO:
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
    """Of the backends that are ready the one with the shortest step.

    Raises:
        BackendUnavailable: If none is, or one that is cannot run this bundle: going on without it would hide that.
    """
    models = [_opened(entry, bundle, threads) for entry in _ready_entries()]
    if not models:
        raise BackendUnavailable(f"no backend is ready on this machine. Type: {base_install()}")
    if len(models) == 1:
        return models[0]
    golden = golden_from_bundle(bundle)
    medians = step_medians_us([golden_steps(model, golden) for model in models])
    ranked = sorted(zip(medians, models, strict=True), key=lambda pair: pair[0])
    (first, chosen), *slower = ranked
    others = ", ".join(f"{median:.0f} us on {model.backend}" for median, model in slower)
    chosen.description += f"; the fastest here: {first:.0f} us a step, {others}"
    return chosen


def _ready_entries() -> Iterator[BackendEntry]:
    for entry in BACKENDS:
        if entry.only_named or missing_modules(entry):
            continue
        reason = why_not_ready(entry)
        if reason is None:
            yield entry
        else:
            _leave_out(entry, reason)


def _leave_out(entry: BackendEntry, reason: str) -> None:
    """Say so: the user has it, and will wonder."""
    _LOGGER.warning("backend '%s' is installed but not ready, it is left out: %s", entry.name, reason)


def open_each(
    bundle: Bundle, *, backend: str = ALL, threads: int = 1, options: Mapping[str, Any] | None = None
) -> list[Model]:
    """Make a checked bundle ready on the backend of that name; with `ALL` on every one of the table that can run here.

    Raises:
        BackendUnavailable: If none can.
        ValueError: If there is no such backend, or options without the name of the backend that they are for.
    """
    if backend == AUTO:
        return [open_bundle(bundle, threads=threads, options=options)]
    if backend != ALL:
        return [_opened(named_backend(backend, others=(ALL, AUTO)), bundle, threads, options)]
    refuse_options(options)
    models = []
    for entry in _ready_entries():
        try:
            models.append(_opened(entry, bundle, threads))
        except BackendUnavailable as error:
            _leave_out(entry, str(error))
    return models or [open_bundle(bundle, threads=threads)]  # which says what to type


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
