"""scikit-learn's own checks, and what people do with its estimators: pipelines, grid search, clones."""

from __future__ import annotations

import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from lnn_edge import LiquidNeuralClassifier, LiquidNeuralNetwork, LiquidNeuralRegressor

# The checks fit tables of independent rows, so rows are read as sequences of one step.
QUICK = {"rows": "sequences", "epochs": 30, "learning_rate": 0.05, "n_jobs": 1, "verbose": 0}
EXCLUDED = {}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@parametrize_with_checks(
    [LiquidNeuralRegressor(**QUICK), LiquidNeuralClassifier(**QUICK)],
    expected_failed_checks=lambda _estimator: EXCLUDED,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
