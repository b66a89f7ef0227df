"""Liquid neural networks from `ncps.torch` to the robot: exported as one step, proven equal, streamed with state.

Everything here is imported on first use, so `import lnn_edge` stays light and the device half never sees torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .former_names import FormerModules

if TYPE_CHECKING:
    from .bundle.spec import Feature
    from .export import ExportReport, export_model, load_checkpoint, save_checkpoint
    from .runtime import Model, State, Stream, load
    from .train import LiquidNeuralClassifier, LiquidNeuralNetwork, LiquidNeuralRegressor

__version__ = "0.1.0"
__all__ = [
    "ExportReport",
    "Feature",
    "LiquidNeuralClassifier",
    "LiquidNeuralNetwork",
    "LiquidNeuralRegressor",
    "Model",
    "State",
    "Stream",
    "__version__",
    "errors",
    "export_model",
    "load",
    "load_checkpoint",
    "save_checkpoint",
]

_HOMES = {
    "ExportReport": "export",
    "Feature": "bundle.spec",
    "LiquidNeuralClassifier": "train",
    "LiquidNeuralNetwork": "train",
    "LiquidNeuralRegressor": "train",
    "Model": "runtime",
    "State": "runtime",
    "Stream": "runtime",
    "export_model": "export",
    "load": "runtime",
    "load_checkpoint": "export",
    "save_checkpoint": "export",
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


if FormerModules not in sys.meta_path:
    sys.meta_path.append(FormerModules)  # here, because every pickle that needs it begins by importing this package
