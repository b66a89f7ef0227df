"""Liquid neural networks from `ncps.torch` to the robot: exported as one step, proven equal, streamed with state.

Everything here is imported on first use, so `import lnn_edge` stays light and the device half never sees torch.

    bundle          the format
    backends        the one table of backends
    backend_protocols  what a backend must be, and what it may be besides
    reference       float64 cells, equation by equation
    codegen         the step program as C
    verify          what "equal" means
    machine         what this computer is
    export          workstation half: trained modules to proven bundles
    train           the estimator
    runtime         device half: load, step, stream, measure
    cli             the commands
    errors          what a robot program may want to catch
    files           files that appear whole or not at all, and files of lines
    tensor_file     tensors and a description in one file
    format_version  the version of a file, looked at first
    former_names    where the classes of old pickles are today
    wording         helpers that messages share
    remarks         warnings that name the caller's line
    named           data with names, matched by them
    times           times in any unit or type, as seconds
    arrays          their type, what callers pass made into one, the check of a buffer
    given_numbers   numbers that callers pass, of the right kind and in range
    progress        the type of progress
"""

from __future__ import annotations

import sys
from importlib import import_module

from . import errors

TYPE_CHECKING = False  # as type checkers read it; to import `typing` for it takes ten times as long as all the rest
if TYPE_CHECKING:
    from .bundle.spec import Feature, Guard
    from .export import ExportReport, export_model, load_checkpoint, save_checkpoint
    from .runtime import Model, State, Stream, load
    from .runtime.guard.guarded import Guarded
    from .runtime.guard.status import Status, Tick
    from .runtime.loop.loop import Loop
    from .runtime.loop.realtime import Realtime
    from .runtime.loop.source import Sample, Source
    from .runtime.loop.systemd import Systemd
    from .runtime.loop.watchdog import Watchdog
    from .runtime.record.recorder import Recorder
    from .runtime.record.replay import replay
    from .runtime.record.snapshot import Snapshot, load_snapshot, resume, save_snapshot
    from .runtime.transport.recordings import read_recordings
    from .train import LiquidNeuralClassifier, LiquidNeuralNetwork, LiquidNeuralRegressor

if not getattr(sys, "_is_gil_enabled", lambda: True)():  # of Python 3.13
    raise ImportError(
        "lnn-edge does not run on free-threaded Python: its streams count on the interpreter's lock. Use the usual "
        "build of Python (python3.13, not python3.13t), or switch the lock on: export PYTHON_GIL=1"
    )

__version__ = "0.1.0"
__all__ = [
    "ExportReport",
    "Feature",
    "Guard",
    "Guarded",
    "LiquidNeuralClassifier",
    "LiquidNeuralNetwork",
    "LiquidNeuralRegressor",
    "Loop",
    "Model",
    "Realtime",
    "Recorder",
    "Sample",
    "Snapshot",
    "Source",
    "State",
    "Status",
    "Stream",
    "Systemd",
    "Tick",
    "Watchdog",
    "__version__",
    "errors",
    "export_model",
    "load",
    "load_checkpoint",
    "load_snapshot",
    "read_recordings",
    "replay",
    "resume",
    "save_checkpoint",
    "save_snapshot",
]

_HOMES = {
    "ExportReport": "export",
    "Feature": "bundle.spec",
    "Guard": "bundle.spec",
    "Guarded": "runtime.guard.guarded",
    "LiquidNeuralClassifier": "train",
    "LiquidNeuralNetwork": "train",
    "LiquidNeuralRegressor": "train",
    "Loop": "runtime.loop.loop",
    "Model": "runtime",
    "Realtime": "runtime.loop.realtime",
    "Recorder": "runtime.record.recorder",
    "Sample": "runtime.loop.source",
    "Snapshot": "runtime.record.snapshot",
    "Source": "runtime.loop.source",
    "State": "runtime",
    "Status": "runtime.guard.status",
    "Stream": "runtime",
    "Systemd": "runtime.loop.systemd",
    "Tick": "runtime.guard.status",
    "Watchdog": "runtime.loop.watchdog",
    "export_model": "export",
    "load": "runtime",
    "load_checkpoint": "export",
    "load_snapshot": "runtime.record.snapshot",
    "read_recordings": "runtime.transport.recordings",
    "replay": "runtime.record.replay",
    "resume": "runtime.record.snapshot",
    "save_checkpoint": "export",
    "save_snapshot": "runtime.record.snapshot",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lnn_edge' has no attribute '{name}'")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


class _FormerModules:
    """Finder that Python asks last: for modules of ours that are gone, which old pickles name; see `former_names`."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Look the module up; the table is read only then, as importing the package must cost next to nothing."""
        if not name.startswith("lnn_edge."):
            return None
        from .former_names import FormerModules

        return FormerModules.find_spec(name, path, target)


sys.meta_path.append(_FormerModules)  # here, because every pickle that needs it begins by importing this package
