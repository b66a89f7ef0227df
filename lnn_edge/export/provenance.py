"""The provenance of a bundle: versions, time, command, commit."""

from __future__ import annotations

import datetime
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ..bundle.spec import Provenance
from ..machine.describe import package_version
from ..wording import CONTROL

__all__ = ["installed_versions", "make_provenance", "weights_as_built"]

_PACKAGES = ("lnn-edge", "torch", "ncps", "onnx", "onnxruntime", "numpy")

# What the program knows of a model that it built by itself. No argument of `export_model`: whoever trains a model in
# Python hands it over with the weights that it has.
_AS_BUILT: ContextVar[bool] = ContextVar("weights as a function built them", default=False)


@contextmanager
def weights_as_built() -> Iterator[None]:
    """Let the provenance of what is exported in this `with` say that no weights were loaded."""
    usual = _AS_BUILT.set(True)
    try:
        yield
    finally:
        _AS_BUILT.reset(usual)


def make_provenance(checkpoint_sha256: str | None) -> Provenance:
    """Collect what can be known without asking the network."""
    return Provenance(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        command=_command(),
        versions=installed_versions(),
        git_commit=_git_commit(),
        checkpoint_sha256=checkpoint_sha256,
        weights="as built" if _AS_BUILT.get() else None,
    )


def _command() -> str:
    """The command of ours that was typed, else "". What another program was started with may hold what is secret."""
    name = Path(sys.argv[0] or "python").name
    own = name in ("lnn-edge", "__main__.py") and "lnn_edge.cli.program" in sys.modules
    return CONTROL.sub(" ", shlex.join(["lnn-edge", *sys.argv[1:]])) if own else ""


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that take part in an export, as far as they are installed."""
    found = {package: package_version(package) for package in _PACKAGES}
    return {"python": platform.python_version()} | {package: own for package, own in found.items() if own}


def _git_commit() -> str | None:
    """The commit of the working directory, if it is in a repository and git is there."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
