"""Models by how they are called and what they return: gym policies, distributions, dicts, turned layouts, own loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn
from torch.distributions import Independent, Normal

from public_shapes.shape import MEASURED, Shape, looped, numbers, outputs, per_sample, sampled, whole, windowed

__all__ = ["CONVENTIONS"]


class GymPolicy(nn.Module):
    """Called by an environment: one observation (batch, features) and the state."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.act = CfC(4, AutoNCP(8, 2)), nn.Linear(2, 1)

    def forward(self, obs, hx=None):
        y, hx = self.core(obs.unsqueeze(1), hx)
        return torch.tanh(self.act(y.squeeze(1))), hx

    step = forward


class NeedsState(nn.Module):
    """Mixed memory whose state has no default."""

    def __init__(self) -> None:
        super().__init__()
        self.core = LTC(4, AutoNCP(8, 2), mixed_memory=True)

    def forward(self, obs, rnn_hxs):
        return self.core(obs, rnn_hxs)


class GymDict(nn.Module):
    """Observations by name in one argument, an encoder for each."""

    def __init__(self) -> None:
        super().__init__()
        self.extract = nn.ModuleDict({"joints": nn.Linear(4, 3), "imu": nn.Linear(2, 3)})
        self.core = CfC(6, AutoNCP(8, 2))

    def forward(self, observations, state=None):
        z = [torch.relu(part(observations[name])) for name, part in self.extract.items()]
        return self.core(torch.cat(z, dim=-1), state)


class ReturnsNormal(nn.Module):
    """The policy's distribution itself, and a value."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.mean, self.value = CfC(4, 6), nn.Linear(6, 2), nn.Linear(6, 1)
        self.log_std = nn.Parameter(torch.tensor([-0.5, -1.0]))

    def forward(self, x, hx=None):
        y, hx = self.core(x, hx)
        return Independent(Normal(self.mean(y), self.log_std.exp()), 1), self.value(y), hx


@dataclass
class Answer:
    logits: torch.Tensor
    confidence: torch.Tensor
    state: Any = None


class ReturnsDataclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core, self.classes = LTC(4, AutoNCP(8, 3)), nn.Linear(3, 3)

    def forward(self, x, state=None):
        y, state = self.core(x, state)
        logits = self.classes(y)
        return Answer(logits, torch.softmax(logits, dim=-1).amax(dim=-1, keepdim=True), state)


class ClampsItsState(nn.Module):
    """Keeps the state small between calls, which no sequence does."""

    def __init__(self) -> None:
        super().__init__()
        self.core = CfC(4, 6)

    def forward(self, x, hx=None):
        y, hx = self.core(x, hx)
        return y, hx.clamp(-0.1, 0.1)


class Episodes(nn.Module):
    """Where an episode is done, the state begins anew."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.value = LTC(4, AutoNCP(8, 2)), nn.Linear(2, 1)

    def step(self, x, state):
        h = x["obs"].new_zeros(len(x["obs"]), 8) if state is None else state
        y, h = self.core(x["obs"].unsqueeze(1), h * (1 - x["done"]))
        return self.value(y[:, 0]), h

    def forward(self, obs, done):
        results, state = [], None
        for t in range(obs.shape[1]):
            y, state = self.step({"obs": obs[:, t], "done": done[:, t]}, state)
            results.append(y)
        return torch.stack(results, dim=1)


class Decoder(nn.Module):
    """Takes its last prediction, at training sometimes the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.out = CfC(5, AutoNCP(8, 3)), nn.Linear(3, 1)

    def step(self, x, state):
        h, last = (None, x.new_zeros(len(x), 1)) if state is None else state
        y, h = self.core(torch.cat([x, last], dim=-1).unsqueeze(1), h)
        last = self.out(y[:, 0])
        return last, (h, last)

    def forward(self, x, target=None, teacher_forcing=0.5):
        results, state = [], None
        for t in range(x.shape[1]):
            y, (h, last) = self.step(x[:, t], state)
            forced = self.training and target is not None and torch.rand(()) < teacher_forcing
            state = (h, target[:, t] if forced else last)
            results.append(y)
        return torch.stack(results, dim=1)


class Forecast(nn.Module):
    """An encoder over the window, and a decoder that begins from its state and its last sample."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.out = LTC(4, 6), CfC(1, 6), nn.Linear(6, 1)

    def ahead(self, h, y):
        results = []
        for _ in range(3):
            z, h = self.decoder(y, h)
            y = self.out(z)
            results.append(y)
        return torch.cat(results, dim=1)

    def step(self, x, state):
        _, h = self.encoder(x.unsqueeze(1), state)
        return self.ahead(h, x[:, None, :1]), h

    def forward(self, x):
        return self.ahead(self.encoder(x)[1], x[:, -1:, :1])


class LargestOverTime(nn.Module):
    """The classifier reads the largest value that each unit had in the window."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.classes = CfC(4, 6), nn.Linear(6, 3)

    def step(self, x, state):
        h, largest = (None, x.new_full((len(x), 6), -10.0)) if state is None else state
        y, h = self.core(x.unsqueeze(1), h)
        largest = torch.maximum(largest, y[:, 0])
        return self.classes(largest), (h, largest)

    def forward(self, x):
        return self.classes(self.core(x)[0].amax(dim=1))


class Siamese(nn.Module):
    """One core over two sensors."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.same = CfC(2, 6), nn.Linear(6, 1)

    def step(self, x, state):
        left, right = (None, None) if state is None else state
        y, left = self.core(x[:, None, :2], left)
        z, right = self.core(x[:, None, 2:], right)
        return self.same((y - z).abs()[:, 0]), (left, right)

    def forward(self, x):
        return self.same((self.core(x[..., :2])[0] - self.core(x[..., 2:])[0]).abs())


class TurnsTime(nn.Module):
    """Batches first, and a core that wants time first."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.out = LTC(4, AutoNCP(8, 2), batch_first=False), nn.Linear(2, 1)

    def forward(self, x):
        y, _ = self.core(x.permute(1, 0, 2))
        return self.out(y).permute(1, 0, 2)


class GapsAsFeature(nn.Module):
    """Gaps (batch, time, 1), as a column of a frame is cut out."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.out = CfC(5, AutoNCP(8, 2)), nn.Linear(2, 1)

    def forward(self, x, dt):
        y, _ = self.core(torch.cat([x, dt], dim=-1), timespans=dt.squeeze(-1))
        return self.out(y)


class PerWindow(nn.Module):
    """Timespans of one over the length of the window."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.out = LTC(4, AutoNCP(8, 2)), nn.Linear(2, 1)

    def forward(self, x, timespans=None):
        if timespans is None:
            timespans = torch.ones(x.shape[:2]) / x.shape[1]
        return self.out(self.core(x, timespans=timespans)[0])


class WindowSpans(PerWindow):
    def forward(self, x):
        return super().forward(x)


def observed(module, samples, _spans):
    result = outputs(module({name: x[None] for name, x in samples.items()}))
    return per_sample(result, result.shape[1])


def as_normal(module, samples, _spans):
    normal, value, _ = module(samples["x"][None])
    length = value.shape[1]
    return [{"loc": normal.mean[0, t], "scale": normal.stddev[0, t], "output_2": value[0, t]} for t in range(length)]


def as_dataclass(module, samples, _spans):
    answer = module(samples["x"][None])
    return [{"logits": answer.logits[0, t], "confidence": answer.confidence[0, t]} for t in range(24)]


def clamped(module, samples, _spans):
    return sampled(module["net"], samples, None)


def timed_by_feature(module, samples, spans):
    return per_sample(module(samples["x"][None], spans[None, :, None]), len(spans))


def two_sensors(seed):
    return {"joints": numbers(2, 20, 4, seed=seed), "imu": numbers(2, 20, 2, seed=seed + 1)}


def episodes(seed):
    return {"obs": numbers(2, 20, 4, seed=seed), "done": (numbers(2, 20, 1, seed=seed + 1) > 1).astype("float32")}


CONVENTIONS = {
    "gym-policy": Shape(
        "an environment calls it with one observation and the state", "none", "CfC AutoNCP", "tanh",
        "forward(sample, hx)", "none", GymPolicy, looped, options={"step": lambda model, x, state: model(x, state)},
    ),
    "gym-policy-alone": Shape(
        "the same, and nothing said about the step", "none", "CfC AutoNCP", "tanh", "forward(sample, hx)", "none",
        GymPolicy, refused="takes one sample, and no sequence: that is the step",
    ),
    "needs-state": Shape(
        "a state without a default", "none", "LTC mixed", "motor neurons", "forward(x, hx), both needed", "none",
        NeedsState, sampled,
    ),
    "gym-dict": Shape(
        "observations by name in one argument", "linear each", "CfC AutoNCP", "motor neurons", "forward({}, hx)",
        "none", GymDict, observed, two_sensors,
    ),
    "returns-normal": Shape(
        "the policy returns its distribution", "none", "CfC", "distribution", "forward(x, hx)", "none", ReturnsNormal,
        as_normal,
    ),
    "returns-dataclass": Shape(
        "answers in a dataclass", "none", "LTC AutoNCP", "dataclass", "forward(x, hx)", "none", ReturnsDataclass,
        as_dataclass,
    ),
    "clamps-its-state": Shape(
        "the state is clamped between calls", "none", "CfC", "none", "forward(x, hx)", "none", ClampsItsState,
        refused="it changes the state on the way.*ModuleDict.*step=",
    ),
    "clamps-its-state-step": Shape(
        "the same, with the step that its refusal names", "none", "CfC", "none", "step of a hidden forward", "none",
        lambda: nn.ModuleDict({"net": ClampsItsState()}), clamped,
        options={"step": lambda m, x, state: m["net"](x.unsqueeze(1), state)},
    ),
    "episodes": Shape(
        "states begin anew where an episode is done", "none", "LTC AutoNCP", "linear", "step({}, state)", "none",
        Episodes, looped, episodes, options={"step": Episodes.step},
    ),
    "episodes-alone": Shape(
        "the same loop of episodes, and nothing said of its turn", "none", "LTC AutoNCP", "linear", "forward(x, done)",
        "none", Episodes, samples=episodes,
        refused="its loop over samples does not hand the state of the core .* on",
    ),
    "decoder": Shape(
        "the last prediction is fed back, the truth in training", "none", "CfC AutoNCP", "linear", "step(x, (h, last))",
        "none", Decoder, whole, options={"step": Decoder.step},
    ),
    "forecast": Shape(
        "a decoder begins from the encoder's last state", "none", "LTC and CfC", "three steps ahead", "step(x, state)",
        "window", Forecast, windowed(6, 3), options={"step": Forecast.step, "window": 6, "every": 3}, windows=(6, 3),
    ),
    "largest-over-time": Shape(
        "the class of a window from the largest values", "none", "CfC", "maximum over time", "step(x, state)", "window",
        LargestOverTime, windowed(6, 2), windows=(6, 2),
        options={
            "step": LargestOverTime.step, "window": 6, "every": 2,
            "initial_state": (torch.zeros(1, 6), torch.full((1, 6), -10.0)),
        },
    ),
    "siamese": Shape(
        "one core over two sensors", "none", "CfC twice", "linear", "step(x, (h, h))", "none", Siamese, whole,
        options={"step": Siamese.step},
    ),
    "turns-time": Shape(
        "batches first, and a core that wants time first", "none", "LTC AutoNCP", "linear", "transposed", "none",
        TurnsTime, whole,
    ),
    "gaps-as-feature": Shape(
        "gaps with an axis of their own", "gaps beside features", "CfC AutoNCP", "linear", "forward(x, dt)", "measured",
        GapsAsFeature, timed_by_feature, options=MEASURED,
    ),
    "per-window": Shape(
        "timespans of one over the length of the window", "none", "LTC AutoNCP", "linear", "forward(x, timespans)",
        "one over length", PerWindow, whole, options={"timespan": 1 / 24},
    ),
    "per-window-alone": Shape(
        "the same without an argument for them", "none", "LTC AutoNCP", "linear", "forward(x)", "one over length",
        WindowSpans, refused="makes timespans of the number of samples in a call",
    ),
}  # fmt: skip
