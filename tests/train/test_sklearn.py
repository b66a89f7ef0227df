"""scikit-learn's own checks, and what people do with its estimators: pipelines, grid search, clones."""

from __future__ import annotations

import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from lnn_edge import LiquidNeuralClassifier, LiquidNeuralRegressor

# The checks fit tables of independent rows, so rows are read as sequences of one step.
QUICK = {"rows": "sequences", "epochs": 5, "learning_rate": 0.1, "n_jobs": 1, "verbose": 0}
# Those that ask what was learnt. Two epochs of one batch serve the others: what `fit` takes, leaves, and gives twice.
LEARNING = {"check_classifiers_train", "check_classifiers_classes", "check_regressors_train"}
EXCLUDED = {
    "check_sample_weight_equivalence_on_dense_data": "training is in float32: a weight of 2 and a repeated row round "
    "differently, and after 30 epochs at 0.05 predictions differ by 5e-7, where the check allows 1e-7 of the value. "
    "test_a_weight_is_worth_repetitions checks the same with 1e-4",
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@parametrize_with_checks(
    # The regressor is wired fully, as it then learns in few steps.
    [LiquidNeuralRegressor(wiring="full", batch_size=64, **QUICK), LiquidNeuralClassifier(**QUICK)],
    expected_failed_checks=lambda _estimator: EXCLUDED,
)
def test_scikit_learn_checks(estimator, check):
    learning = check.func.__name__ in LEARNING
    check(estimator if learning else clone(estimator).set_params(epochs=2, batch_size=256))
