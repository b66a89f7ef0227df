"""Threads that torch computes on in a fit and afterwards: by the size of the work, unless the user names a number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lnn_edge import LiquidNeuralRegressor
from lnn_edge.train.network.module import LiquidModule

X = np.random.default_rng(0).normal(size=(6, 20, 3)).astype(np.float32)


@pytest.fixture
def threads_seen(monkeypatch):
    """Torch's own setting is four; the numbers of threads on which a network has run."""
    seen = set()

    def run(self, *values, **named):
        seen.add(torch.get_num_threads())
        return whole(self, *values, **named)

    whole, before = LiquidModule.run, torch.get_num_threads()
    monkeypatch.setattr(LiquidModule, "run", run)
    torch.set_num_threads(4)
    yield seen
    torch.set_num_threads(before)


def fitted(**options):
    return LiquidNeuralRegressor(8, **{"epochs": 1, "verbose": 0, "random_state": 0} | options).fit(X)


@pytest.mark.parametrize("kind", ["LTC", "CfC"])
def test_a_small_network_takes_one_thread(threads_seen, kind):
    """Threads that wait for one another spin: a fit of 20 LTC neurons took ten times the CPU time of one thread."""
    fitted(model_type=kind)
    assert threads_seen == {1}
    assert torch.get_num_threads() == 4


def test_so_do_its_predictions(threads_seen):
    model = fitted()
    threads_seen.clear()
    state = model.warm_up(X[:1])
    model.predict(X)
    model.predict_step(X[0, 0], state)
    model.forecast(3, X[0])
    assert threads_seen == {1}
    assert torch.get_num_threads() == 4


def test_a_large_one_takes_what_torch_has(threads_seen, monkeypatch):
    monkeypatch.setattr("lnn_edge.train.network.threads._WORTH_THREADS", 1000)
    fitted().predict(X)
    assert threads_seen == {4}


def test_what_the_user_names_is_taken(threads_seen, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    fitted(n_jobs=2)
    assert threads_seen == {2}


def test_results_do_not_depend_on_the_choice(monkeypatch):
    small = fitted(epochs=3)
    monkeypatch.setattr("lnn_edge.train.network.threads._WORTH_THREADS", 0)
    assert [r.loss for r in fitted(epochs=3).history_] == [r.loss for r in small.history_]
