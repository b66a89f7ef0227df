"""States that a forward changes between two calls: a stream is the sequence or the calls, and export does not guess."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import CfC
from torch import nn

import lnn_edge

LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
X = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.second, self.norm = CfC(3, 6), CfC(6, 6), nn.LayerNorm(6)

    def cores(self, x, hx):
        first, second = (None, None) if hx is None else hx
        y, first = self.rnn(x, first)
        y, second = self.second(y, second)
        return y, (first, second)

    def forward(self, x, hx=None):
        return self.cores(x, hx)


class Clamped(Plain):
    def forward(self, x, hx=None):
        y, states = self.cores(x, hx)
        return y, tuple(state.clamp(-0.05, 0.05) for state in states)


class Normed(Plain):
    def forward(self, x, hx=None):
        return self.cores(x, None if hx is None else tuple(self.norm(state) for state in hx))


class Swapped(Plain):
    def forward(self, x, hx=None):
        y, states = self.cores(x, hx)
        return y, states[::-1]


class OneOnly(Plain):
    def forward(self, x, hx=None):
        y, hx = self.rnn(x, hx)
        return self.second(y)[0], hx


class ByName(Plain):
    def forward(self, x, state=None):
        y, states = self.cores(x, state)
        return {"y": y, "state": tuple(0.5 * own for own in states)}


def built(kind):
    torch.manual_seed(0)
    return kind().eval()


@pytest.mark.parametrize("kind", [Clamped, Normed, Swapped, OneOnly, ByName])
def test_a_state_that_is_changed_between_calls_is_refused_with_both_ways_out(tmp_path, kind):
    with pytest.raises(ValueError, match=r"sample by sample.* on the way.*ModuleDict.*step=.*For whole sequences"):
        quick_export(built(kind), tmp_path / "m.lnn", example=X[None])


@pytest.mark.parametrize("kind", [Plain, Clamped, Normed, Swapped, OneOnly])
def test_the_step_that_the_refusal_names_streams_the_calls(tmp_path, kind):
    model = built(kind)
    hidden = nn.ModuleDict({"net": model})
    quick_export(hidden, tmp_path / "m.lnn", example=X[None], step=lambda m, x, state: m["net"](x.unsqueeze(1), state))
    got, state, expected = lnn_edge.load(tmp_path / "m.lnn").stream().run(X), None, []
    with torch.no_grad():
        for sample in torch.from_numpy(X):
            y, state = model(sample[None, None], state)
            expected.append(y[0, 0].numpy())
    np.testing.assert_allclose(got.reshape(len(X), -1), expected, rtol=0, atol=LIMIT)


def test_a_forward_without_the_state_streams_the_sequence(tmp_path):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = built(Clamped)

        def forward(self, x):
            return self.net(x)[0]

    quick_export(Whole(), tmp_path / "m.lnn", example=X[None])
    with torch.no_grad():
        expected = Whole()(torch.from_numpy(X)[None])[0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X), expected, rtol=0, atol=LIMIT)
