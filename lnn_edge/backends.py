"""The one table of backends. The loader, the command line, errors, tests and docs read it; there is no second list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from .errors import BackendUnavailable
from .wording import choices

if TYPE_CHECKING:  # the command line reads this table for its help, and must not wait for NumPy
    import numpy.typing as npt

    from .bundle import Bundle

    Array = npt.NDArray[Any]

__all__ = [
    "ALL",
    "BACKENDS",
    "Backend",
    "BackendEntry",
    "Stepper",
    "backend_class",
    "missing_modules",
    "resolve_backend",
]

ALL = "all"  # for a proof, every backend that is ready; a stream runs on one


class Stepper(Protocol):
    """One stream's buffers in a backend. Two sets alternate, so a step that fails changes nothing.

    `sample` holds the writable float32 input buffers, `dt` included, in graph shapes; `outputs` the results of the
    last `run`, valid until the one after it.
    """

    sample: Mapping[str, Array]
    outputs: Mapping[str, Array]

    def run(self) -> bool:
        """Compute outputs and next state from `sample` and the current state.

        Returns:
            Whether all results are finite. Only then has the next state become the current one.
        """

    def read_state(self) -> dict[str, Array]:
        """Copy the current state, by state input name."""

    def read_results(self) -> dict[str, Array]:
        """Copy outputs and next state of a `run` that returned False, by graph output name, for the message."""

    def write_state(self, state: Mapping[str, Array]) -> None:
        """Replace the current state; shapes are those of the graph."""


class Backend(Protocol):
    """A bundle made ready to run. Shared by all streams of a model, never changed after construction."""

    description: str

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Make the bundle ready; `threads` is the number of CPU threads to use, >= 1."""

    def stepper(self) -> Stepper:
        """Make the buffers for one stream."""


@dataclass(frozen=True)
class BackendEntry:
    """One row of the table.

    Args:
        name: What users type.
        runs: What it runs, in a few words.
        needs: What must be on the machine, in a few words.
        extra: The extra of the package that provides it; `None` for the base install.
        modules: Modules it imports; it is ready when all are there.
        target: "module:class", imported on demand.
    """

    name: str
    runs: str
    needs: str
    extra: str | None
    modules: tuple[str, ...]
    target: str

    @property
    def install(self) -> str:
        """The command that provides what is missing."""
        return f"pip install 'lnn-edge[{self.extra}]'" if self.extra else "pip install lnn-edge"


# Fastest first: `auto` takes the first that is ready.
BACKENDS = (
    BackendEntry(
        name="onnxruntime",
        runs="model.onnx on the CPU",
        needs="base install",
        extra=None,
        modules=("onnxruntime",),
        target="lnn_edge.runtime.cpu:CpuBackend",
    ),
)


def resolve_backend(name: str) -> BackendEntry:
    """Find a backend by name; "auto" takes the fastest one that is ready.

    Raises:
        ValueError: If there is no such backend.
        BackendUnavailable: If "auto" finds none that is ready.
    """
    if name == "auto":
        for entry in BACKENDS:
            if not missing_modules(entry):
                return entry
        raise BackendUnavailable(f"no backend is ready on this machine. Type: {BACKENDS[-1].install}")
    for entry in BACKENDS:
        if entry.name == name:
            return entry
    raise ValueError(f"unknown backend '{name}'. {choices(name, ['auto', *(e.name for e in BACKENDS)])}")


def missing_modules(entry: BackendEntry) -> list[str]:
    """Name the modules a backend needs that are not installed; nothing is imported."""
    from importlib.util import find_spec

    return [module for module in entry.modules if find_spec(module) is None]


def backend_class(entry: BackendEntry) -> type[Backend]:
    """Import a backend's class.

    Raises:
        BackendUnavailable: If something it needs is not installed, with the command that installs it.
    """
    module, _, attribute = entry.target.partition(":")
    try:
        loaded: type[Backend] = getattr(import_module(module), attribute)
    except ImportError as error:
        raise BackendUnavailable(
            f"backend '{entry.name}' cannot be loaded: {error}. It needs: {entry.needs}. Type: {entry.install}"
        ) from error
    return loaded
