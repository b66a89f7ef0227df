"""The estimator: liquid networks trained, used and exported as scikit-learn does it. Needs the extra `train`.

estimators      the public estimators
base            what they share
settings        their parameters, checked
data            what is passed to `fit`
network         what is trained
unrolled        layers over whole sequences
fit             one training run
predicting      a fitted network over sequences
forecasting     its own outputs in place of samples to come
deploy          export
saving          estimators in files
scoring         scores of predictions
former_pickles  old pickles brought to the layout of today
plotting        pictures
"""

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
