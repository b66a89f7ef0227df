"""Sequences that start where training put the state: learned, constant or computed from weights, never from samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn

import lnn_edge
from lnn_edge.cli.program import main


def vectors(rows=2, steps=60):
    return np.random.default_rng(3).standard_normal((rows, steps, 3)).astype(np.float32)


class Learned(nn.Module):
    """A core whose first state is a parameter, as `forward(x)` and `forward(x, hx)` both begin with it."""

    def __init__(self, core, *widths):
        super().__init__()
        torch.manual_seed(8)
        self.core = core
        self.starts = nn.ParameterList(nn.Parameter(torch.randn(1, width)) for width in widths)

    def forward(self, x, hx=None):
        if hx is None:
            hx = tuple(start.expand(len(x), -1) for start in self.starts)
            hx = hx if len(hx) > 1 else hx[0]
        return self.core(x, hx)


class Stacked(nn.Module):
    """torch's own layer starts from a constant, the liquid one from what a tanh makes of a parameter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.gru = nn.GRU(3, 5, num_layers=2, batch_first=True)
        self.rnn = LTC(5, AutoNCP(8, 2))
        self.h0 = nn.Parameter(torch.randn(8))

    def forward(self, x):
        z, _ = self.gru(x, torch.full((2, len(x), 5), 0.5))
        return self.rnn(z, torch.tanh(self.h0).repeat(len(x), 1))[0]


MAKERS = {
    "cfc": lambda: Learned(CfC(3, AutoNCP(9, 2)), 9),
    "ltc-mixed": lambda: Learned(LTC(3, 6, mixed_memory=True), 6, 6),
    "stacked": Stacked,
}


def offline(net, x, **keywords):
    with torch.no_grad():
        result = net(torch.from_numpy(x)[None], **keywords)
    return (result[0] if isinstance(result, tuple) else result)[0].numpy()


@pytest.mark.parametrize("unroll", [1, 4])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_streaming_equals_offline_from_the_first_sample(make, unroll, tmp_path):
    net, x = make().eval(), vectors()
    quick_export(net, tmp_path / "m.lnn", example=x, unroll=unroll)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    for recording in x:
        np.testing.assert_allclose(stream.run(recording), offline(net, recording), atol=1e-5)
        stream.reset()


def test_every_row_of_a_batch_starts_there(tmp_path):
    net, x = MAKERS["ltc-mixed"]().eval(), vectors()
    quick_export(net, tmp_path / "m.lnn", example=x, batch=3)
    model = lnn_edge.load(tmp_path / "m.lnn")
    start = model.initial_state().tensors
    for name, learned in zip(("h_in", "c_in"), net.starts, strict=True):
        np.testing.assert_array_equal(start[name], np.repeat(learned.detach().numpy(), 3, axis=0))
    ys = model.stream().run(np.stack([x[0], x[1], -x[0]], axis=1))
    np.testing.assert_allclose(ys[:, 2], offline(net, -x[0]), atol=1e-5)


def test_inspect_shows_the_range(tmp_path, capsys):
    net = MAKERS["cfc"]().eval()
    quick_export(net, tmp_path / "m.lnn", example=vectors())
    main(["inspect", str(tmp_path / "m.lnn")])
    start = net.starts[0].detach()
    assert f"{start.min():.4g} to {start.max():.4g}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "start",
    [lambda x: torch.randn(len(x), 4), lambda x: x.mean(dim=(1, 2)).repeat(4, 1).T, lambda x: x[:, 0, :1].repeat(1, 4)],
    ids=["random", "mean-of-the-samples", "first-sample"],
)
def test_a_start_that_depends_on_the_call_is_refused(start, tmp_path):
    class Start(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = CfC(3, 4, backbone_units=8)

        def forward(self, x):
            return self.rnn(x, start(x))[0]

    with pytest.raises(ValueError, match="starts the core 'rnn' from a state that differs from call to call"):
        quick_export(Start(), tmp_path / "m.lnn", example=vectors())
    assert list(tmp_path.iterdir()) == []
