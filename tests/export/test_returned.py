"""Results of a forward beside tensors: dataclasses, distributions, mappings, objects; and what it writes into."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import CfC
from torch import nn
from torch.distributions import Beta, Categorical, Independent, Normal, TanhTransform, TransformedDistribution
from torch.nn import functional

import lnn_edge

LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
X = np.random.default_rng(1).standard_normal((20, 4)).astype(np.float32)


@dataclass
class Answer:
    logits: torch.Tensor
    inner: object = None


class Mine(OrderedDict):
    """As model outputs of other libraries are."""


class Secret:
    def __init__(self, y):
        self.y = y


class Around(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.rnn, self.head = CfC(4, 6), head

    def forward(self, x, hx=None):
        y, hx = self.rnn(x, hx)
        return self.head(y)


def positive(y):
    return functional.softplus(y)


RETURNED = {
    "dataclass": (lambda y: Answer(y), ["logits"]),
    "nested": (lambda y: Answer(y[..., :2], {"a": y[..., 2:4], "b": Answer(y[..., 4:])}), None),
    "mapping": (lambda y: Mine(a=y[..., :2], b=y[..., 2:]), ["a", "b"]),
    "normal": (lambda y: Normal(y[..., :3], positive(y[..., 3:])), ["loc", "scale"]),
    "independent": (lambda y: Independent(Normal(y, torch.ones(6)), 1), ["loc", "scale"]),
    "beta": (lambda y: Beta(positive(y[..., :3]), positive(y[..., 3:])), ["concentration1", "concentration0"]),
    "categorical-beside-a-value": (lambda y: (Categorical(logits=y[..., :4]), y[..., 4:5]), ["logits", "output_1"]),
}


@pytest.mark.parametrize("several", [lambda y: (y[..., :3], y[..., 3:]), lambda y: (y[:, -1, :3], y[:, -1, 3:])])
def test_several_outputs_cost_no_more_calls_than_one(tmp_path, several):
    def calls(head):
        lengths = Counter()

        def counted(y):
            lengths[y.shape[1]] += 1
            return head(y)

        quick_export(Around(counted), tmp_path / "m.lnn", example=X[None], overwrite=True)
        return lengths

    one = calls(lambda y: torch.cat(several(y), -1))
    assert calls(several) == one
    assert max(one) > 3


@pytest.mark.parametrize("name", RETURNED)
def test_what_it_is_made_of_streams(tmp_path, name):
    head, names = RETURNED[name]
    torch.manual_seed(0)
    model = Around(head).eval()
    quick_export(model, tmp_path / "m.lnn", example=X[None])
    loaded = lnn_edge.load(tmp_path / "m.lnn")
    got = loaded.stream().run(X)
    if names is not None:
        assert [t.name for t in loaded.outputs] == (["output"] if len(names) == 1 else names)
    with torch.no_grad():
        y = model.rnn(torch.from_numpy(X)[None])[0]
        result = model.head(y)
    expected = by_author(name, result)
    for value, own in zip(got.values() if isinstance(got, dict) else [got], expected, strict=True):
        np.testing.assert_allclose(value, own[0].numpy(), rtol=0, atol=LIMIT)


def by_author(name, result):
    """What the author reads of it."""
    return {
        "dataclass": lambda: [result.logits],
        "nested": lambda: [result.logits, result.inner["a"], result.inner["b"].logits],
        "mapping": lambda: list(result.values()),
        "normal": lambda: [result.mean, result.stddev],
        "independent": lambda: [result.mean, result.stddev],
        "beta": lambda: [result.concentration1, result.concentration0],
        "categorical-beside-a-value": lambda: [result[0].logits, result[1]],
    }[name]()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (lambda y: TransformedDistribution(Normal(y, 1.0), [TanhTransform()]), "no output can be: return what it is"),
        (lambda y: (y, Secret(y)), "a Secret, which holds tensors.*return those, or a dict"),
    ],
    ids=["transformed", "object"],
)
def test_what_hides_its_tensors_is_refused_and_not_left_out(tmp_path, head, said):
    with pytest.raises(TypeError, match=said):
        quick_export(Around(head).eval(), tmp_path / "m.lnn", example=X[None])


class WritesIntoItsInput(Around):
    def forward(self, x, hx=None):
        x[..., 0] *= 2
        x += 0.5
        return self.rnn(x, hx)


def test_a_forward_may_write_into_what_it_is_given(tmp_path):
    torch.manual_seed(0)
    model = WritesIntoItsInput(None).eval()
    quick_export(model, tmp_path / "m.lnn", example=X[None])
    with torch.no_grad():
        expected = model(torch.from_numpy(X.copy())[None])[0][0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X), expected, rtol=0, atol=LIMIT)
