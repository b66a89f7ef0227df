"""Protocols of backends: what each of them is, and what one may be besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:  # the command line reads the table of backends for its help, and must not wait for NumPy
    from pathlib import Path

    from .arrays import Array
    from .bundle.directory import Bundle
    from .machine.checks import Finding
    from .progress import Progress
    from .runtime.figures.durations import DeviceFigures

__all__ = [
    "Backend",
    "BackendChecks",
    "Builds",
    "BuildsAhead",
    "BuildsForMinutes",
    "ChoosesBundles",
    "MeasuresDevice",
    "Prepared",
    "RowsStepper",
    "Stepper",
    "StepsInC",
    "StepsRows",
]


class Stepper(Protocol):
    """One stream's buffers in a backend. It keeps no state: the stream says which place holds the current one.

    `sample` holds the writable input buffers, `dt` included, in graph shapes and of the manifest's dtypes, which a run
    only reads. Each of the two `places` holds the results of a step, outputs and next states by graph output name: a
    run reads the state in one and writes into the other, so a step that fails, or that something interrupts at any
    point, leaves the place of the current state alone. Whatever a backend keeps besides must be right after that too.
    """

    sample: Mapping[str, Array]
    places: tuple[Mapping[str, Array], Mapping[str, Array]]

    def run(self, source: int) -> bool:
        """Compute outputs and next state from `sample` and the state in place `source`, into the other place.

        Returns:
            Whether all results are finite.

        Raises:
            BackendError: If the backend fails. What a signal's handler raises meanwhile is not its failure.
        """

    def write_state(self, place: int, state: Mapping[str, Array]) -> None:
        """Put a state, by state input name and shaped as the graph's, into a place."""


@runtime_checkable
class StepsInC(Protocol):
    """A stepper whose run is one call of a C function, for who makes it without Python.

    Attributes:
        addresses: Of the function, and of its four arguments in their order: scratch memory, sample, and the two
            places, of which a run reads one and writes the other. `None` where a run takes so long that other threads
            must go on meanwhile.
        output_bytes: All outputs together, which lie first in a place, each float32, in the order of the manifest.
    """

    addresses: tuple[int, int, int, int, int] | None
    output_bytes: int


@runtime_checkable
class StepsRows(Protocol):
    """A backend that can compute many streams at once."""

    def rows(self) -> RowsStepper | None:
        """What does that, made ready at the first call; `None` where this bundle's streams go one by one."""


class RowsStepper(Protocol):
    """Steps many streams in one call. Keeps nothing; several threads may use it."""

    def step(
        self, x: Mapping[str, Array], state: Mapping[str, Array], dt_s: Array | None
    ) -> tuple[dict[str, Array], dict[str, Array], Array]:
        """Advance all rows, whatever numbers they hold.

        Args:
            x: Samples by input, (rows, ...).
            state: By state input name, float32 (rows, ...).
            dt_s: Seconds, (rows,); `None` with fixed time.

        Returns:
            Outputs and next states by name, new arrays in float32, and which rows were done, bool (rows,): those whose
            sample, time, state and results are finite and within the limits of the bundle. The others get NaN, and
            keep their states.
        """


class Backend(Protocol):
    """A bundle made ready to run. Shared by all streams of a model, never changed after construction."""

    description: str

    def __init__(self, bundle: Bundle, threads: int, options: Mapping[str, str]) -> None:
        """Make the bundle ready; `threads` is the number of CPU threads to use, >= 1, `options` from `checked_options`.

        Raises:
            BackendUnavailable: If it cannot run here.
        """

    def stepper(self) -> Stepper:
        """Make the buffers for one stream."""


class Prepared(msgspec.Struct, frozen=True):
    """What a backend has made for this device, or found in the cache.

    Args:
        path: Where it lies.
        built: Whether it was built now; else it was there already.
        seconds: How long that took.
        size: Bytes.
        remark: Why one that was there could not be used, or "".
        how: What was chosen for this device, or "".
    """

    path: str
    built: bool
    seconds: float
    size: int
    remark: str
    how: str = ""


@runtime_checkable
class Builds(Protocol):
    """A backend that makes something for this device first, kept in the user's cache."""

    @classmethod
    def prepare(cls, bundle: Bundle, options: Mapping[str, str], progress: Progress, *, rebuild: bool) -> Prepared:
        """Build it, or find it unless `rebuild`."""


@runtime_checkable
class BuildsForMinutes(Protocol):
    """A backend whose build takes minutes: `auto` takes what was built before, and never starts one."""

    @classmethod
    def is_built(cls, bundle: Bundle, options: Mapping[str, str]) -> bool:
        """Whether `prepare` would find what it needs in the cache."""


@runtime_checkable
class BuildsAhead(Protocol):
    """A backend whose builds need no device: into a file, for devices that are named, which `take` loads on one."""

    @classmethod
    def build_ahead(
        cls, bundle: Bundle, options: Mapping[str, str], progress: Progress, targets: Sequence[str], path: Path
    ) -> Prepared:
        """Build for `targets` into the file `path`."""

    @classmethod
    def take(cls, bundle: Bundle, options: Mapping[str, str], path: Path) -> Prepared:
        """Put what lies in such a file into the cache of this device."""


@runtime_checkable
class ChoosesBundles(Protocol):
    """A backend that cannot run every bundle."""

    @classmethod
    def why_not_bundle(cls, bundle: Bundle) -> str | None:
        """Why it cannot run this one, or `None`; nothing is built to be asked."""


@runtime_checkable
class MeasuresDevice(Protocol):
    """A backend that can say where the time of a step goes on its device."""

    def device_figures(self, steps: int) -> DeviceFigures:
        """Measure `steps` steps apart from all streams."""


class BackendChecks(NamedTuple):
    """What a backend has to say about this machine, for `lnn-edge doctor`; empty where it has no business here.

    Args:
        software: What must be installed for it.
        device: What it finds to run on, and what it keeps.
        not_needed: Why it has no business on this machine, if it has none.
    """

    software: tuple[Finding, ...] = ()
    device: tuple[Finding, ...] = ()
    not_needed: str = ""
