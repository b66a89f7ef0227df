"""From a bundle on disk to a model that has just proven itself on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..backends import ALL, BACKENDS, backend_class, checked_options, resolve_backend, why_not_ready
from ..bundle import Bundle, read_bundle
from ..errors import BackendUnavailable, BundleError, VerificationError
from ..golden import golden_from_bundle
from .model import Model
from .replay import compare_with_golden

__all__ = ["load", "open_bundle", "open_each", "prove_golden"]


def load(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    threads: int = 1,
    self_test: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Load a bundle and make it ready to run.

    Args:
        path: The bundle's directory, `NAME.lnn`.
        backend: A name from the backend table, or "auto" for the fastest that is ready; `Model.backend` says which.
        threads: CPU threads inside a step, >= 1. More than one is slower for models of up to some hundred units.
        self_test: Replay the golden sequences through the backend and refuse to start on a mismatch. Takes tens of
            milliseconds; leave it on.
        options: Of the backend, by name; `lnn-edge bench --help` lists them.

    Returns:
        The model: immutable, and safe to share.

    Raises:
        BundleError: If the bundle is missing, damaged, inconsistent or too new.
        BackendUnavailable: If the backend cannot run here.
        VerificationError: If the self-test finds a mismatch.
        ValueError: If the backend's name or an option is unknown, or `threads` is below 1.
    """
    bundle = read_bundle(path)
    if bundle.manifest.verification.status != "passed":
        raise BundleError(f"bundle '{path}' was never verified, so it does not run. Export it again")
    model = open_bundle(bundle, backend=backend, threads=threads, options=options)
    if self_test:
        prove_golden(model, bundle)
    return model


def open_bundle(
    bundle: Bundle, *, backend: str = "auto", threads: int = 1, options: Mapping[str, Any] | None = None
) -> Model:
    """Make a checked bundle ready to run, without the self-test; export uses it to verify what it wrote."""
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"`threads` is {threads!r}, expected a whole number of at least 1")
    entry = resolve_backend(backend)
    ready = backend_class(entry)(bundle, threads, checked_options(entry, options))
    return Model(bundle.path, bundle.manifest, ready, entry.name)


def open_each(
    bundle: Bundle, *, backend: str = ALL, threads: int = 1, options: Mapping[str, Any] | None = None
) -> list[Model]:
    """Make a checked bundle ready on the backend of that name; with `ALL` on every one of the table that can run here.

    Raises:
        BackendUnavailable: If none can.
        ValueError: If there is no such backend, or options without the name of the backend that they are for.
    """
    if backend != ALL:
        resolve_backend(backend, several=True)
        return [open_bundle(bundle, backend=backend, threads=threads, options=options)]
    if options:
        raise ValueError(f"options {sorted(options)} are of one backend: name it with `backend` (--backend)")
    models = []
    for entry in (entry for entry in BACKENDS if why_not_ready(entry) is None):
        with suppress(BackendUnavailable):  # `lnn-edge doctor` says why; a proof is of the backends that it names
            models.append(open_bundle(bundle, backend=entry.name, threads=threads))
    return models or [open_bundle(bundle, threads=threads)]  # which says what to type


def prove_golden(model: Model, bundle: Bundle) -> None:
    """Replay the golden sequences; see `load`.

    Raises:
        BundleError: If golden.safetensors does not fit the manifest.
        VerificationError: Naming the worst tensor, the error and the step.
    """
    comparisons = compare_with_golden(model, golden_from_bundle(bundle))
    failed = [c for c in comparisons if not c.passed]
    if failed:
        worst = max(failed, key=lambda c: c.max_abs / c.limit)
        raise VerificationError(
            f"bundle '{bundle.path}' failed its self-test on {model.description}: {worst}. It does not start. "
            f"Type: lnn-edge verify {bundle.path}"
        )
