"""The estimator: liquid networks trained, used and exported as scikit-learn does it. Needs the extra `train`."""

from __future__ import annotations

try:
    import ncps
    import onnx
    import sklearn
    import torch
except ImportError as _error:
    raise ImportError(
        f"training needs torch, ncps, onnx and scikit-learn, and '{_error.name}' is not installed. "
        "Type: pip install 'lnn-edge[train]'"
    ) from _error

from .estimators import LiquidNeuralClassifier, LiquidNeuralNetwork, LiquidNeuralRegressor

__all__ = ["LiquidNeuralClassifier", "LiquidNeuralNetwork", "LiquidNeuralRegressor"]

del ncps, onnx, sklearn, torch
