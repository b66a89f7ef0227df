"""Models of time series: sensors, patients, prices, activities. Whole sequences, windows, irregular time."""

from __future__ import annotations

import math

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import NCP, AutoNCP, FullyConnected, Random
from torch import nn
from torch.nn import functional

import lnn_edge
from public_shapes.shape import MEASURED, Shape, numbers, per_sample, sampled, whole, windowed

__all__ = ["SENSORS"]


class Tagger(nn.Module):
    """A core and a head, with whatever is asked for in front, between and behind."""

    def __init__(self, core: nn.Module, width: int, before: nn.Module | None = None, outputs: int = 2) -> None:
        super().__init__()
        self.before = nn.Identity() if before is None else before
        self.rnn, self.out = core, nn.Linear(width, outputs)

    def forward(self, x, timespans=None):
        y, _ = self.rnn(self.before(x), timespans=timespans)
        return self.out(y)


class WithState(Tagger):
    def forward(self, x, hx=None, timespans=None):
        y, hx = self.rnn(self.before(x), hx, timespans)
        return self.out(y), hx


class Readout(Tagger):
    """One result of a whole window."""

    def forward(self, x):
        y, _ = self.rnn(self.before(x))
        return self.read(y)

    def read(self, y):
        return self.out(y[:, -1, :])


class Averaged(Readout):
    def read(self, y):
        return torch.softmax(self.out(y), dim=-1).mean(dim=1)


class Final(Readout):
    """With `return_sequences=False` the layer gives the last output by itself."""

    def read(self, y):
        return self.out(torch.relu(y)).squeeze(-1)


class FromTheState(Readout):
    """The classifier reads the final hidden state."""

    def forward(self, x):
        _, h = self.rnn(self.before(x))
        return functional.log_softmax(self.out(h), dim=-1)


class GapsInAColumn(nn.Module):
    """The last feature is the time since the sample before."""

    def __init__(self, core: nn.Module, keep: bool) -> None:
        super().__init__()
        self.rnn, self.out, self.keep = core, nn.Linear(2, 1), keep

    def forward(self, x):
        gaps = x[..., -1]
        features = x if self.keep else x[..., :-1]
        y, _ = self.rnn(features, timespans=gaps)
        return self.out(y)


class Stamps(nn.Module):
    """Differences of time stamps are taken in front of the core."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = CfC(3, AutoNCP(8, 2)), nn.Linear(2, 1)

    def forward(self, x):
        t = x[..., 0]
        elapsed = torch.cat([torch.ones_like(t[:, :1]), t[:, 1:] - t[:, :-1]], dim=1)
        return self.out(self.rnn(x[..., 1:], timespans=elapsed)[0])


class ConstantDt(nn.Module):
    """A step of integration that the training chose, as a default argument."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = LTC(4, AutoNCP(8, 2)), nn.Linear(2, 1)

    def forward(self, x, dt=0.1):
        spans = x.new_full(x.shape[:2], dt)
        return self.out(self.rnn(x, timespans=spans)[0])


class PerUnit(nn.Module):
    """Timespans repeated for each unit, as ncps wants them for a batch."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.rnn, self.out, self.units = CfC(4, units), nn.Linear(units, 1), units

    def forward(self, x, timespans=None):
        if timespans is not None:
            timespans = timespans.unsqueeze(-1).repeat(1, 1, self.units)
        return self.out(self.rnn(x, timespans=timespans)[0])


class MaskedVitals(nn.Module):
    """Missing values are filled with a learned number, and the mask is a feature."""

    def __init__(self) -> None:
        super().__init__()
        self.fill = nn.Parameter(torch.tensor([0.3, -0.2]))
        self.rnn, self.risk = CfC(4, 6, proj_size=3), nn.Linear(3, 1)

    def forward(self, x):
        values, mask = x[..., :2], x[..., 2:] > 0
        filled = torch.where(mask, values, self.fill)
        y, _ = self.rnn(torch.cat([filled, mask.float()], dim=-1))
        return torch.sigmoid(self.risk(y)).squeeze(-1)


class Decayed(nn.Module):
    """What is old counts less: exp(-relu(w dt)) in front of the core, and the core gets the gaps as well."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Linear(1, 3)
        self.rnn, self.out = LTC(3, AutoNCP(8, 2)), nn.Linear(2, 1)

    def forward(self, x, timespans=None):
        gaps = x.new_ones(x.shape[:2]) if timespans is None else timespans
        weight = torch.exp(-torch.relu(self.decay(gaps.unsqueeze(-1))))
        return self.out(self.rnn(x[..., :3] * weight, timespans=timespans)[0])


class Fourier(nn.Module):
    """Positional features of each value: sines and cosines of octaves."""

    def __init__(self, bands: int = 2) -> None:
        super().__init__()
        self.register_buffer("octaves", math.pi * 2.0 ** torch.arange(bands))

    def forward(self, x):
        angles = (x.unsqueeze(-1) * self.octaves).flatten(-2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FeatureAttention(nn.Module):
    """Each sample weighs its own features."""

    def __init__(self, features: int = 4) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(features, 8), nn.Tanh(), nn.Linear(8, features))

    def forward(self, x):
        return x * torch.softmax(self.score(x), dim=-1)


class TokensOfFeatures(nn.Module):
    """Sensors as tokens: attention over the sensors of one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.place = nn.Linear(1, 4), nn.Parameter(0.1 * torch.ones(4, 4))
        self.mix = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        rows, time = x.shape[:2]
        tokens = self.lift(x.reshape(rows * time, 4, 1)) + self.place
        mixed, _ = self.mix(tokens, tokens, tokens, need_weights=False)
        return mixed.mean(dim=1).reshape(rows, time, 4)


class OverTime(nn.Module):
    """A layer that wants (batch, channels, time), applied sample by sample by its nature."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.permute(0, 2, 1)).permute(0, 2, 1)


class LeftPadded(nn.Module):
    """A layer over (batch, channels, time) that sees two samples before each."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(functional.pad(x.mT, (2, 0))).mT


class Dilated(nn.Module):
    """Residual blocks of growing dilation, cut behind instead of padded in front."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv1d(4, 4, 2, padding=step, dilation=step) for step in (1, 2)])

    def forward(self, x):
        z = x.transpose(1, 2)
        for block in self.blocks:
            z = z + functional.gelu(block(z)[..., : z.size(-1)])
        return z.transpose(1, 2)


class WithDifferences(nn.Module):
    def forward(self, x):
        change = torch.zeros_like(x)
        change[:, 1:] = x[:, 1:] - x[:, :-1]
        return torch.cat([x, change], dim=-1)


class Lags(nn.Module):
    def __init__(self, lags: tuple[int, ...]) -> None:
        super().__init__()
        self.lags = lags

    def forward(self, x):
        late = [functional.pad(x, (0, 0, lag, 0))[:, : x.shape[1]] for lag in self.lags]
        return torch.cat([x, *late], dim=2)


class LessAverage(nn.Module):
    """What is left of a moving average that begins with the first sample."""

    def forward(self, x):
        z = functional.pad(x.transpose(1, 2), (2, 0), mode="replicate")
        return x - functional.avg_pool1d(z, 3, stride=1).transpose(1, 2)


class RunningMean(nn.Module):
    def forward(self, x):
        mean, means = x[:, 0], []
        for t in range(x.shape[1]):
            mean = 0.9 * mean + 0.1 * x[:, t]
            means.append(mean)
        return torch.stack(means, dim=1)


class Categories(nn.Module):
    """The first column is a code, looked up in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 2)

    def forward(self, x):
        code = x[..., 0].abs().clamp(0, 2).round().long()
        return torch.cat([self.table(code), x[..., 1:]], dim=-1)


class ResidualForecast(nn.Module):
    """The next value is this one and a correction."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.rnn, self.fix = core, nn.Linear(3, 4)

    def forward(self, x):
        return x + self.fix(self.rnn(x)[0])


class Horizons(nn.Module):
    """Five steps ahead at once, with bounds: (batch, time, horizon, quantile)."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = CfC(4, 8, backbone_units=8), nn.Linear(8, 15)

    def forward(self, x):
        y, _ = self.rnn(x)
        middle, spread = self.out(y).unflatten(-1, (3, 5)).split([1, 2], dim=-2)
        return torch.cat([middle, middle + functional.softplus(spread).cumsum(-2)], dim=-2).transpose(-1, -2)


class TwoScales(nn.Module):
    """A fast and a slow core beside each other; their outputs are gated."""

    def __init__(self) -> None:
        super().__init__()
        self.fast, self.slow = CfC(4, 6), LTC(4, AutoNCP(9, 6))
        self.gate, self.out = nn.Linear(12, 6), nn.Linear(6, 2)

    def forward(self, x, timespans=None):
        spans = torch.ones(x.shape[:2]) if timespans is None else timespans
        a, _ = self.fast(x, timespans=0.2 * spans)
        b, _ = self.slow(x, timespans=2.0 * spans)
        g = torch.sigmoid(self.gate(torch.cat([a, b], dim=-1)))
        return self.out(g * a + (1 - g) * b)


class BesideAnLstm(nn.Module):
    """A liquid core and an LSTM vote."""

    def __init__(self) -> None:
        super().__init__()
        self.liquid, self.lstm = CfC(4, 5), nn.LSTM(4, 5, batch_first=True)
        self.out = nn.Linear(10, 3)

    def forward(self, x):
        return self.out(torch.cat([self.liquid(x)[0], self.lstm(x)[0]], dim=-1)).softmax(-1)


class GruThenLtc(nn.Module):
    """A GRU reads, an LTC decides."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.GRU(4, 6, batch_first=True)
        self.decide = LTC(6, AutoNCP(8, 2))

    def forward(self, x):
        z, _ = self.read(x)
        y, _ = self.decide(torch.relu(z))
        return y


class Reconstruction(nn.Module):
    """An autoencoder; what an operator looks at is the error of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = CfC(4, AutoNCP(8, 2)), LTC(2, AutoNCP(9, 4))

    def forward(self, x):
        again, _ = self.decode(self.encode(x)[0])
        return {"again": again, "error": (again - x).pow(2).mean(dim=-1, keepdim=True)}


class TimeFirstStack(nn.Module):
    """(time, batch, features) as torch's own layers have it, two cores in a row, dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.a = CfC(4, 6, batch_first=False)
        self.b = CfC(6, AutoNCP(8, 2), batch_first=False)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        y, _ = self.a(x)
        y, _ = self.b(self.drop(y))
        return y


class Normalised(nn.Module):
    """Mean and spread of the training as buffers, and the output back in units."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([1.0, -2.0, 0.5, 3.0]))
        self.register_buffer("std", torch.tensor([2.0, 0.5, 1.0, 4.0]))
        self.rnn, self.out = CfC(4, 8), nn.Linear(8, 1)

    def forward(self, x):
        y, _ = self.rnn((x - self.mean) / (self.std + 1e-8))
        return self.out(y) * 12.0 + 60.0


class Bidirectional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.there, self.back, self.out = CfC(4, 5), CfC(4, 5), nn.Linear(10, 2)

    def forward(self, x):
        back = torch.flip(self.back(torch.flip(x, [1]))[0], [1])
        return self.out(torch.cat([self.there(x)[0], back], dim=-1))


class AttentionOverTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.look, self.out = CfC(4, 6), nn.Linear(6, 1), nn.Linear(6, 2)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.out((torch.softmax(self.look(y), dim=1) * y).sum(dim=1))


class ZScored(nn.Module):
    """Each recording is normalised by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = CfC(4, 6)

    def forward(self, x):
        return self.rnn((x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True, unbiased=False) + 1e-6))[0]


def gaps(seed: int) -> np.ndarray:
    """Three features, and the time since the last sample in the fourth."""
    x = numbers(3, 24, 4, seed=seed)
    x[..., 3] = np.random.default_rng(seed + 1).uniform(0.2, 2.0, x.shape[:2])
    return x


def stamps(seed: int) -> np.ndarray:
    x = gaps(seed)
    x[..., 0] = x[..., 3].cumsum(axis=1)
    return x


def time_first(seed: int) -> np.ndarray:
    return numbers(24, 3, 4, seed=seed)


def whole_time_first(module, samples, _spans):
    return list(module(samples["x"][:, None])[:, 0])


def last_of_all(module, samples, _spans):
    """The recording so far, again and again."""
    x = samples["x"]
    return [module(x[None, :t])[0] for t in range(1, len(x) + 1)]


def per_unit_batch(module, samples, spans):
    """With others in the batch, as the repair is made for."""
    x = torch.stack([samples["x"], samples["x"].flip(0)])
    result = module(x, timespans=torch.stack([spans, 2 * spans]))
    return per_sample(result[:1], len(spans))


GAP = lnn_edge.Feature("gap", limits=(0.1, 3.0))
CNN = "per-sample convolution"

SENSORS = {
    "tagger-cfc": Shape(
        "a layer and a linear head over all steps", "none", "CfC", "linear", "forward(x)", "none",
        lambda: Tagger(CfC(4, 8), 8), whole,
    ),
    "tagger-autoncp-state": Shape(
        "the state in and out of forward, None at the start", "none", "CfC AutoNCP", "linear", "forward(x, hx)", "none",
        lambda: WithState(CfC(4, AutoNCP(8, 2)), 2), sampled,
    ),
    "tagger-ltc-measured": Shape(
        "irregular samples with their times", "linear", "LTC AutoNCP", "linear", "forward(x, hx, timespans)",
        "measured", lambda: WithState(LTC(5, AutoNCP(8, 2)), 2, nn.Linear(4, 5)), sampled, options=MEASURED,
    ),
    "ltc-full": Shape(
        "an LTC with a number of units, which all are outputs", "none", "LTC", "linear", "forward(x)", "none",
        lambda: Tagger(LTC(4, 6), 6), whole,
    ),
    "ltc-fully-connected": Shape(
        "the wiring of the first tutorial", "none", "LTC FullyConnected", "linear", "forward(x)", "none",
        lambda: Tagger(LTC(4, FullyConnected(8, 2)), 2), whole,
    ),
    "ltc-random": Shape(
        "a random wiring for comparison", "none", "LTC Random", "linear", "forward(x)", "none",
        lambda: Tagger(LTC(4, Random(8, 2, sparsity_level=0.5)), 2), whole,
    ),
    "ltc-ncp": Shape(
        "an NCP with every number given", "layer norm", "LTC NCP", "linear", "forward(x)", "fixed timespan",
        lambda: Tagger(LTC(4, NCP(4, 3, 2, 2, 2, 2, 2)), 2, nn.LayerNorm(4)), whole, options={"timespan": 0.5},
    ),
    "cfc-pure": Shape(
        "the closed form alone", "MLP", "CfC pure", "linear", "forward(x, hx, timespans)", "measured",
        lambda: WithState(CfC(6, 8, mode="pure"), 8, nn.Sequential(nn.Linear(4, 6), nn.ReLU())), sampled,
        options=MEASURED,
    ),
    "cfc-no-gate": Shape(
        "no gate, two layers of backbone, an activation of torch", "MLP", "CfC no_gate", "linear", "forward(x)", "none",
        lambda: Tagger(
            CfC(6, 8, mode="no_gate", backbone_layers=2, backbone_units=8, activation="silu"), 8,
            nn.Sequential(nn.Linear(4, 6), nn.GELU()),
        ), whole,
    ),
    "cfc-mixed-state": Shape(
        "mixed memory for long memory, state handed on", "MLP", "CfC mixed", "linear", "forward(x, hx)", "none",
        lambda: WithState(CfC(6, AutoNCP(8, 2), mixed_memory=True), 2, nn.Sequential(nn.Linear(4, 6), nn.SiLU())),
        sampled,
    ),
    "ltc-mixed-measured": Shape(
        "mixed memory and irregular time", "none", "LTC mixed", "linear", "forward(x, hx, timespans)", "measured",
        lambda: WithState(LTC(4, AutoNCP(8, 2), mixed_memory=True), 2), sampled, options=MEASURED,
    ),
    "cfc-proj": Shape(
        "a projection inside of the layer", "none", "CfC proj_size", "sigmoid", "forward(x)", "none",
        lambda: MaskedVitals(), whole,
    ),
    "classifier-last": Shape(
        "the class of a window from its last output", "batch norm", "CfC AutoNCP", "last output", "forward(x)",
        "window", lambda: Readout(CfC(4, AutoNCP(8, 3)), 3, OverTime(nn.BatchNorm1d(4)), 5), windowed(8, 4),
        options={"window": 8, "every": 4}, windows=(8, 4),
    ),
    "classifier-mean": Shape(
        "class probabilities averaged over the window", "linear", "CfC", "mean over time", "forward(x)", "window",
        lambda: Averaged(CfC(4, 6), 6, nn.Linear(4, 4), 3), windowed(6, 6),
        options={"window": 6, "labels": ["walk", "stand", "fall"]}, windows=(6, 6),
    ),
    "classifier-final": Shape(
        "return_sequences=False, one number per window, squeezed", "none", "LTC AutoNCP", "last output", "forward(x)",
        "window", lambda: Final(LTC(4, AutoNCP(8, 3), return_sequences=False), 3, None, 1), windowed(8, 1),
        options={"window": 8, "every": 1}, windows=(8, 1),
    ),
    "classifier-state": Shape(
        "the classifier reads the final hidden state", "none", "CfC", "last state", "forward(x)", "none",
        lambda: FromTheState(CfC(4, 6), 6), last_of_all,
    ),
    "gap-column-kept": Shape(
        "time since the last sample as a feature too", "none", "CfC AutoNCP", "linear", "forward(x)", "column",
        lambda: GapsInAColumn(CfC(4, AutoNCP(8, 2)), True), whole, gaps, {"inputs": ["a", "b", "c", GAP]},
    ),
    "gap-column-cut": Shape(
        "the column of time is cut off", "none", "LTC AutoNCP", "linear", "forward(x)", "column",
        lambda: GapsInAColumn(LTC(3, AutoNCP(8, 2)), False), whole, gaps, {"inputs": ["a", "b", "c", GAP]},
    ),
    "stamps": Shape(
        "gaps computed from time stamps in the forward", "none", "CfC AutoNCP", "linear", "forward(x)", "stamps",
        Stamps, None, stamps, {"inputs": [lnn_edge.Feature("t", limits=(0.0, 60.0)), "a", "b", "c"]},
        refused="from time stamps, give it an argument `timespans` .*stream.step.x, t_s=.* takes stamps",
    ),
    "dt-default": Shape(
        "a period as a default argument", "none", "LTC AutoNCP", "linear", "forward(x, dt=0.1)", "default argument",
        ConstantDt, whole,
    ),
    "per-unit": Shape(
        "timespans repeated per unit for a batch", "none", "CfC", "linear", "forward(x, timespans)", "measured",
        lambda: PerUnit(5), per_unit_batch, options=MEASURED,
    ),
    "decayed": Shape(
        "gaps weigh the input and drive the core", "decay by time", "LTC AutoNCP", "linear", "forward(x, timespans)",
        "measured", Decayed, whole, options=MEASURED,
    ),
    "fourier": Shape(
        "positional features of each value", "positional", "CfC AutoNCP", "linear", "forward(x)", "none",
        lambda: Tagger(CfC(16, AutoNCP(8, 2)), 2, Fourier()), whole,
    ),
    "feature-attention": Shape(
        "attention over the features of a sample", "feature attention", "LTC AutoNCP", "linear", "forward(x, hx)",
        "none", lambda: WithState(LTC(4, AutoNCP(8, 2)), 2, FeatureAttention()), sampled,
    ),
    "sensor-tokens": Shape(
        "sensors as tokens of a small transformer", "multi-head attention", "CfC", "linear", "forward(x)", "none",
        lambda: Tagger(CfC(4, 6), 6, TokensOfFeatures()), whole,
    ),
    "pointwise-conv": Shape(
        "convolutions of width one over (batch, channels, time)", CNN, "CfC AutoNCP", "linear", "forward(x)", "none",
        lambda: Tagger(
            CfC(5, AutoNCP(8, 2)), 2, OverTime(nn.Sequential(nn.Conv1d(4, 5, 1), nn.BatchNorm1d(5), nn.ReLU()))
        ), whole,
    ),
    "embedding": Shape(
        "a code of categories in a column", "embedding", "CfC", "linear", "forward(x)", "none",
        lambda: Tagger(CfC(5, 6), 6, Categories()), whole,
    ),
    "residual-forecast": Shape(
        "the next value as this one and a change", "none", "CfC proj_size", "residual", "forward(x)", "none",
        lambda: ResidualForecast(CfC(4, 6, proj_size=3)), whole,
    ),
    "horizons": Shape(
        "quantiles of several steps ahead", "none", "CfC", "quantiles", "forward(x)", "none", Horizons, whole,
    ),
    "two-scales": Shape(
        "two cores that live at different speeds", "none", "CfC and LTC", "gated", "forward(x, timespans)", "measured",
        TwoScales, whole, options=MEASURED,
    ),
    "beside-an-lstm": Shape(
        "an ensemble with an LSTM", "none", "CfC and LSTM", "softmax", "forward(x)", "none", BesideAnLstm, whole,
    ),
    "gru-then-ltc": Shape(
        "a GRU in front of the core", "GRU", "LTC AutoNCP", "motor neurons", "forward(x)", "none", GruThenLtc, whole,
    ),
    "reconstruction": Shape(
        "an autoencoder for anomalies", "CfC", "LTC AutoNCP", "dict", "forward(x)", "none", Reconstruction, whole,
    ),
    "time-first": Shape(
        "batch_first=False all through", "none", "two CfC", "motor neurons", "forward(x)", "none", TimeFirstStack,
        whole_time_first, time_first,
    ),
    "normalised": Shape(
        "statistics of the training as buffers, outputs in units", "scaling", "CfC", "linear", "forward(x)", "none",
        Normalised, whole,
    ),
    "causal-convolution": Shape(
        "a left-padded convolution over time", "causal convolution", "CfC AutoNCP", "linear", "forward(x)", "none",
        lambda: Tagger(CfC(5, AutoNCP(8, 2)), 2, LeftPadded(nn.Conv1d(4, 5, 3))), whole,
    ),
    "causal-convolution-ltc": Shape(
        "the same with a pooling of width two, and a state", "causal convolution", "LTC AutoNCP", "linear",
        "forward(x, hx)", "none",
        lambda: WithState(
            LTC(5, AutoNCP(8, 2)), 2, LeftPadded(nn.Sequential(nn.Conv1d(4, 5, 2), nn.ReLU(), nn.MaxPool1d(2, 1)))
        ), whole,
    ),
    "dilated": Shape(
        "two dilated residual blocks", "temporal convolutions", "CfC", "linear", "forward(x)", "none",
        lambda: Tagger(CfC(4, 6), 6, Dilated()), whole,
    ),
    "differences": Shape(
        "values and their first differences", "first difference", "LTC AutoNCP", "linear", "forward(x)", "none",
        lambda: Tagger(LTC(8, AutoNCP(8, 2)), 2, WithDifferences()), whole,
    ),
    "lags": Shape(
        "some earlier samples as features", "lags", "CfC AutoNCP", "last output", "forward(x)", "window",
        lambda: Readout(CfC(12, AutoNCP(8, 2)), 2, Lags((1, 3))), windowed(8, 8), options={"window": 8},
        windows=(8, 8),
    ),
    "moving-average": Shape(
        "the rest beside a moving average", "moving average", "CfC", "residual", "forward(x)", "none",
        lambda: ResidualForecast(nn.Sequential(LessAverage(), CfC(4, 6, proj_size=3))), whole,
    ),
    "running-mean": Shape(
        "an exponential mean over time in front of the core", "running mean", "CfC", "linear", "forward(x)", "none",
        lambda: Tagger(CfC(4, 6), 6, RunningMean()), refused="depends on all samples before, .*step=function",
    ),
    "bidirectional": Shape(
        "a second core reads backwards", "none", "two CfC", "linear", "forward(x)", "none", Bidirectional,
        refused="reads the sequence backwards",
    ),
    "attention-over-time": Shape(
        "the steps of a window are weighed", "none", "CfC", "attention over time", "forward(x)", "none",
        AttentionOverTime, refused="makes one output of all samples of a recording by something else",
    ),
    "z-scored": Shape(
        "each recording normalised by itself", "normalised over time", "CfC", "none", "forward(x)", "none", ZScored,
        refused="depends on all samples of the sequence, .*normalise with fixed numbers",
    ),
}  # fmt: skip
