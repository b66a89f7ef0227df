"""Models that drive, fly and walk: policies, actor-critics, nodes that keep their state, loops over cells, pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from ncps.torch import LTC, CfC, CfCCell, LTCCell, WiredCfCCell
from ncps.wirings import NCP, AutoNCP
from torch import nn
from torch.distributions import Categorical, Normal
from torch.nn import functional

from public_shapes.shape import MEASURED, Shape, batches, looped, node, numbers, outputs, per_sample, sampled, whole

__all__ = ["ROBOTS"]


class Policy(nn.Module):
    """Features, a core, bounded actions; the state goes in and comes out."""

    def __init__(self, core: nn.Module, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU())
        self.core, self.act = core, nn.Linear(width, 2)

    def forward(self, obs, hidden=None):
        z, hidden = self.core(self.features(obs), hidden)
        return torch.tanh(self.act(z)) * 0.7, hidden


class Gaussian(Policy):
    """Mean and standard deviation of a distribution, which is a parameter."""

    def __init__(self, core: nn.Module, width: int) -> None:
        super().__init__(core, width)
        self.log_std = nn.Parameter(torch.tensor([-0.5, -1.0]))

    def forward(self, obs, hidden=None):
        z, hidden = self.core(self.features(obs), hidden)
        mean = self.act(z)
        return {"mean": mean, "std": self.log_std.clamp(-5, 2).exp().expand_as(mean)}, hidden


class Squashed(Policy):
    """Soft actor-critic: mean and log std from one layer; without exploration the tanh of the mean."""

    def __init__(self, core: nn.Module, width: int) -> None:
        super().__init__(core, width)
        self.both = nn.Linear(width, 4)

    def forward(self, obs, hidden=None, deterministic=True):
        z, hidden = self.core(self.features(obs), hidden)
        mean, log_std = self.both(z).chunk(2, dim=-1)
        log_std = torch.clamp(log_std, -20, 2)
        action = mean if deterministic else Normal(mean, log_std.exp()).rsample()
        return torch.tanh(action), hidden


class ActorCritic(nn.Module):
    """Logits and a value on one core; the state is detached by the author."""

    def __init__(self) -> None:
        super().__init__()
        self.core = CfC(4, AutoNCP(10, 4))
        self.actor = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self.critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x, hx=None):
        z, hx = self.core(x, hx)
        return (self.actor(z), self.critic(z).squeeze(-1)), hx


class SeparateCritic(nn.Module):
    """Two cores with two states in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = CfC(4, AutoNCP(8, 2)), LTC(4, AutoNCP(8, 1))

    def forward(self, obs, states=None):
        states = states or {"actor": None, "critic": None}
        action, a = self.actor(obs, states["actor"])
        value, c = self.critic(obs, states["critic"])
        return {"action": action.clamp(-1, 1), "value": value}, {"actor": a, "critic": c}


class Discrete(nn.Module):
    """Probabilities of actions, and the action that is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.logits = LTC(4, AutoNCP(8, 3)), nn.Linear(3, 4)

    def forward(self, x, hx=None):
        z, hx = self.core(x, hx)
        choice = Categorical(logits=self.logits(z))
        return {"p": choice.probs, "action": choice.probs.argmax(dim=-1)}, hx


class Answer(NamedTuple):
    steer: torch.Tensor
    brake: torch.Tensor


class NamedAnswer(nn.Module):
    """A named tuple of motor neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.core = LTC(4, NCP(4, 3, 2, 3, 2, 2, 3))

    def forward(self, x):
        y, _ = self.core(x)
        return Answer(steer=torch.tanh(y[..., :1]), brake=torch.sigmoid(y[..., 1:]))


class Stack(nn.Module):
    """A list of layers with a list of states, skips between them."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.lift = nn.Linear(4, 6)
        self.layers = nn.ModuleList([CfC(6, 6, backbone_units=8) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(6) for _ in range(depth)])
        self.out = nn.Linear(6, 2)

    def forward(self, x, hx=None):
        hx = [None] * len(self.layers) if hx is None else list(hx)
        x = self.lift(x)
        for k, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            y, hx[k] = layer(norm(x), hx[k])
            x = x + y
        return self.out(x), hx


class OneSample(nn.Module):
    """A robot's forward: one sample (features,) in, one action out."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.act = CfC(4, AutoNCP(8, 2)), nn.Linear(2, 1)

    def step(self, x, state):
        y, state = self.core(x.unsqueeze(1), state)
        return self.act(y.squeeze(1)), state


class SequenceOrSample(nn.Module):
    """Takes (batch, features) as a sequence of one, (batch, time, features) as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.act = CfC(4, 6), nn.Linear(6, 1)

    def forward(self, x, hx=None):
        single = x.dim() == 2
        if single:
            x = x.unsqueeze(1)
        y, hx = self.core(x, hx)
        y = self.act(y)
        return (y.squeeze(1) if single else y), hx


class RosNode(nn.Module):
    """The state is kept in an attribute, and a method resets it."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core, self.act, self.hx = core, nn.Linear(2, 2), None

    def reset(self):
        self.hx = None

    @torch.no_grad()
    def forward(self, x):
        y, self.hx = self.core(x, self.hx)
        return torch.tanh(self.act(y))


class BufferNode(nn.Module):
    """The state as a buffer of zeros, which is moved with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.act = LTC(4, AutoNCP(8, 2)), nn.Linear(2, 1)
        self.register_buffer("state", torch.zeros(1, 8))

    def forward(self, x):
        y, new = self.core(x, self.state)
        self.state = new.detach()
        return self.act(y)


class Trainer(nn.Module):
    """A module of a training framework: losses, optimisers and metrics beside the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Policy(CfC(6, AutoNCP(8, 2)), 2)
        self.loss, self.seen = nn.MSELoss(), []

    def forward(self, obs, hidden=None):
        return self.net(obs, hidden)

    def training_step(self, batch, _index):
        x, y = batch
        loss = self.loss(self(x)[0], y)
        self.seen.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class FirstOf(nn.Module):
    """What makes a core fit into nn.Sequential."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, x):
        return self.core(x)[0]


class ManyInputs(nn.Module):
    """Lidar, speed and a command, fused before the core."""

    def __init__(self) -> None:
        super().__init__()
        self.scan = nn.Sequential(nn.Conv1d(1, 3, 3, stride=2, padding=1), nn.ELU(), nn.Flatten())
        self.core, self.act = LTC(15, AutoNCP(10, 2)), nn.Linear(2, 1)

    def forward(self, lidar, speed, command):
        rows, time = lidar.shape[:2]
        z = self.scan(lidar.view(rows * time, 1, -1)).view(rows, time, -1)
        y, _ = self.core(torch.cat([z, speed, functional.softmax(command, dim=-1)], dim=-1))
        return self.act(y)


class DictInput(nn.Module):
    """A dict of sensors goes into one turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.imu, self.joints = nn.Linear(4, 3), nn.Linear(2, 3)
        self.core = CfC(6, AutoNCP(8, 2))

    def step(self, sensors, state):
        z = torch.cat([self.imu(sensors["imu"]), self.joints(sensors["joints"])], dim=-1).relu()
        y, state = self.core(z[:, None], state)
        return {"torque": 3.0 * torch.tanh(y[:, 0])}, state


class DelayedAction(nn.Module):
    """The last action is part of the observation."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.act = CfC(5, 6), nn.Linear(6, 1)

    def step(self, x, state):
        hx, last = (None, x.new_zeros(len(x), 1)) if state is None else state
        y, hx = self.core(torch.cat([x, last], -1).unsqueeze(1), hx)
        action = torch.tanh(self.act(y[:, -1]))
        return action, (hx, action)


class SmoothedAction(nn.Module):
    """The output is low-passed outside the core."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.act = LTC(4, AutoNCP(8, 2)), nn.Linear(2, 2)

    def step(self, x, state):
        state = {"h": None, "smooth": torch.zeros(len(x), 2)} if state is None else state
        y, h = self.core(x[:, None], state["h"])
        smooth = 0.8 * state["smooth"] + 0.2 * self.act(y[:, -1])
        return smooth, {"h": h, "smooth": smooth}


class CellLoop(nn.Module):
    """The author's own loop over a cell, over the whole sequence; one turn of it is a method."""

    def __init__(self, cell: nn.Module, units: int, width: int) -> None:
        super().__init__()
        self.cell, self.units = cell, units
        self.read, self.act = nn.Linear(4, 4), nn.Linear(width, 2)

    def forward(self, x, timespans=None):
        state, actions = None, []
        for t in range(x.size(1)):
            span = x.new_ones(len(x), 1) if timespans is None else timespans[:, t, None]
            action, state = self.step(x[:, t], state, span)
            actions.append(action)
        return torch.stack(actions, dim=1)

    def step(self, x, state, dt=1.0):
        h = x.new_zeros(x.size(0), self.units) if state is None else state
        y, h = self.cell(torch.relu(self.read(x)), h, dt)
        return self.act(y), h


class Substeps(CellLoop):
    """Several steps of the solver for each sample."""

    def step(self, x, state, dt=1.0):
        h = x.new_zeros(x.size(0), self.units) if state is None else state
        for _ in range(3):
            y, h = self.cell(self.read(x), h, dt / 3)
        return self.act(y), h


def built(units: int, outputs_: int, inputs: int = 4) -> AutoNCP:
    wiring = AutoNCP(units, outputs_)
    wiring.build(inputs)
    return wiring


class Frames(nn.Module):
    """A convolutional network on each frame."""

    def __init__(self, core: nn.Module, width: int) -> None:
        super().__init__()
        self.eye = nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.core, self.act = core, nn.Linear(width, 1)

    def forward(self, frames, hx=None):
        rows, time = frames.shape[:2]
        z = self.eye(frames.flatten(0, 1)).unflatten(0, (rows, time))
        y, hx = self.core(z, hx)
        return self.act(y), hx


class FramesAndSpeed(nn.Module):
    """A camera and the speed; channels last, scaled by the author."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.LeakyReLU(0.1), nn.MaxPool2d(2))
        self.neck = nn.Linear(4, 5)
        self.core = CfC(6, AutoNCP(8, 2))

    def forward(self, image, speed):
        rows, time = image.shape[:2]
        z = self.eye(image.reshape(-1, *image.shape[2:]).permute(0, 3, 1, 2) / 255.0 - 0.5)
        z = self.neck(z.mean(dim=(2, 3))).view(rows, time, -1)
        return torch.tanh(self.core(torch.cat([z, speed], -1))[0])


class SpatialSoftArgmax(nn.Module):
    """Where each feature map looks, as coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.eye, self.core = nn.Conv2d(1, 3, 3), LTC(6, AutoNCP(8, 2))
        line = torch.linspace(-1, 1, 6)
        self.register_buffer("grid", torch.stack(torch.meshgrid(line, line, indexing="ij")).flatten(1))

    def forward(self, x):
        rows, time = x.shape[:2]
        maps = self.eye(x.flatten(0, 1)).flatten(2).softmax(dim=-1)
        points = torch.einsum("ncp,dp->ncd", maps, self.grid).reshape(rows, time, 6)
        return self.core(points)[0]


class Sequenced(nn.Module):
    """The frames of a sequence go through the encoder one after the other, in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 4))
        self.core, self.act = CfC(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        z = torch.stack([self.eye(x[:, t]) for t in range(x.size(1))], dim=1)
        return self.act(self.core(z)[0])


def frames(seed: int) -> np.ndarray:
    return numbers(2, 12, 1, 8, 8, seed=seed)


def camera(seed: int) -> dict[str, np.ndarray]:
    return {"image": np.abs(80 * numbers(2, 12, 8, 8, 3, seed=seed)), "speed": numbers(2, 12, 1, seed=seed + 1)}


def fused(seed: int) -> dict[str, np.ndarray]:
    return {
        "lidar": numbers(2, 20, 8, seed=seed),
        "speed": numbers(2, 20, 1, seed=seed + 1),
        "command": numbers(2, 20, 2, seed=seed + 2),
    }


def sensors(seed: int) -> dict[str, np.ndarray]:
    return {"imu": numbers(2, 20, 4, seed=seed), "joints": numbers(2, 20, 2, seed=seed + 1)}


def by_name(module, samples, _spans):
    """The whole sequence, several inputs."""
    return per_sample(outputs(module(**{name: x[None] for name, x in samples.items()})), len(samples["speed"]))


def as_floats(author):
    """Choices are numbers on the device."""

    def own(module, samples, spans):
        return [{name: y.float() for name, y in result.items()} for result in author(module, samples, spans)]

    return own


def squeezed(module, samples, _spans):
    """One sample (batch, features) per call."""
    state, results = None, []
    for x in samples["x"]:
        y, state = module(x[None], state)
        results.append(y[0])
    return results


def named(module, samples, spans):
    return [y._asdict() for y in per_sample_named(module(samples["x"][None]))]


def per_sample_named(result: Any) -> list[Any]:
    return [type(result)(*(leaf[0, t] for leaf in result)) for t in range(result[0].shape[1])]


def step_of(kind: Any) -> dict[str, Any]:
    return {"step": kind.step}


ROBOTS = {
    "policy": Shape(
        "a bounded action and the hidden state", "MLP with layer norm", "CfC AutoNCP", "tanh", "forward(x, hx)", "none",
        lambda: Policy(CfC(6, AutoNCP(8, 2)), 2), sampled,
    ),
    "policy-ltc": Shape(
        "the same on an LTC", "MLP with layer norm", "LTC AutoNCP", "tanh", "forward(x, hx)", "none",
        lambda: Policy(LTC(6, AutoNCP(8, 2)), 2), sampled,
    ),
    "policy-gaussian": Shape(
        "mean and a std that is a parameter", "MLP with layer norm", "CfC", "mean and std", "forward(x, hx)", "none",
        lambda: Gaussian(CfC(6, 6), 6), sampled,
    ),
    "policy-squashed": Shape(
        "a stochastic policy run without exploration", "MLP with layer norm", "LTC AutoNCP", "mean and std",
        "forward(x, hx, flag)", "none", lambda: Squashed(LTC(6, AutoNCP(8, 3)), 3), sampled,
    ),
    "actor-critic": Shape(
        "logits and value on one core", "none", "CfC AutoNCP", "actor-critic", "forward(x, hx)", "none", ActorCritic,
        sampled,
    ),
    "separate-critic": Shape(
        "actor and critic with a core each, states in a dict", "none", "CfC and LTC", "dict", "forward(x, hx)", "none",
        SeparateCritic, sampled,
    ),
    "discrete": Shape(
        "a distribution over actions and its mode", "none", "LTC AutoNCP", "argmax", "forward(x, hx)", "none", Discrete,
        as_floats(sampled),
    ),
    "named-answer": Shape(
        "motor neurons in a named tuple", "none", "LTC NCP", "several outputs", "forward(x)", "none", NamedAnswer,
        named,
    ),
    "stack": Shape(
        "layers in a list, states in a list, skips", "linear", "three CfC", "linear", "forward(x, [hx])", "none", Stack,
        sampled,
    ),
    "one-sample": Shape(
        "a turn of the control loop as a method", "none", "CfC AutoNCP", "linear", "step(x, state)", "none", OneSample,
        looped, options=step_of(OneSample),
    ),
    "sequence-or-sample": Shape(
        "one forward for a sample and a sequence", "none", "CfC", "linear", "forward(sample or sequence)", "none",
        SequenceOrSample, squeezed,
    ),
    "node": Shape(
        "a node that keeps its state", "none", "CfC AutoNCP", "tanh", "state in an attribute", "none",
        lambda: RosNode(CfC(4, AutoNCP(8, 2))), node,
    ),
    "node-buffer": Shape(
        "the state as a buffer", "none", "LTC AutoNCP", "linear", "state in a buffer", "none", BufferNode, node,
    ),
    "trainer": Shape(
        "a module of a training framework around the network", "MLP with layer norm", "CfC AutoNCP", "tanh",
        "framework module", "none", Trainer, sampled,
    ),
    "sequential": Shape(
        "nn.Sequential with a wrapper that takes the output", "linear", "CfC AutoNCP", "linear", "nn.Sequential",
        "none",
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), FirstOf(CfC(5, AutoNCP(8, 2))), nn.Linear(2, 1)), whole,
    ),
    "bare-layer": Shape(
        "no module around the layer at all", "none", "LTC AutoNCP", "motor neurons", "the layer itself", "measured",
        lambda: LTC(4, AutoNCP(8, 2)), sampled, options=MEASURED,
    ),
    "several-inputs": Shape(
        "lidar, speed and command by name", "Conv1d over a scan", "LTC AutoNCP", "linear", "forward(a, b, c)", "none",
        ManyInputs, by_name, fused,
    ),
    "dict-step": Shape(
        "a dict of sensors into one turn of the loop", "linear each", "CfC AutoNCP", "dict", "step({}, state)", "none",
        DictInput, looped, sensors, options=step_of(DictInput),
    ),
    "delayed-action": Shape(
        "the last action is fed back", "none", "CfC", "tanh", "step(x, (h, last))", "none", DelayedAction, looped,
        options=step_of(DelayedAction),
    ),
    "smoothed-action": Shape(
        "a low pass behind the core, state in a dict", "none", "LTC AutoNCP", "low pass", "step(x, {})", "none",
        SmoothedAction, looped, options=step_of(SmoothedAction),
    ),
    "ltc-cell-loop": Shape(
        "an own loop over an LTC cell", "linear", "LTCCell", "linear", "step(x, state, dt)", "measured",
        lambda: CellLoop(LTCCell(built(8, 2), 4), 8, 2), looped, options={"step": CellLoop.step, **MEASURED},
    ),
    "cfc-cell-loop": Shape(
        "an own loop over a CfC cell", "linear", "CfCCell", "linear", "step(x, state, dt)", "measured",
        lambda: CellLoop(CfCCell(4, 7, backbone_units=8), 7, 7), whole, options={"step": CellLoop.step, **MEASURED},
    ),
    "wired-cell-loop": Shape(
        "an own loop over a wired CfC cell", "linear", "WiredCfCCell", "linear", "step(x, state, dt)", "none",
        lambda: CellLoop(WiredCfCCell(4, built(8, 2)), 8, 2), whole, options={"step": CellLoop.step},
    ),
    "substeps": Shape(
        "three steps of the solver per sample", "linear", "LTCCell", "linear", "step(x, state, dt)", "fixed timespan",
        lambda: Substeps(LTCCell(built(8, 2), 4), 8, 2), looped, options={"step": Substeps.step, "timespan": 0.3},
    ),
    "loop-without-step": Shape(
        "an own loop, and nothing said about one turn", "linear", "LTCCell", "linear", "forward(x)", "none",
        lambda: CellLoop(LTCCell(built(8, 2), 4), 8, 2), refused="Say what one turn of that loop is: step=function",
    ),
    "rows": Shape(
        "several robots in one batch", "MLP with layer norm", "CfC AutoNCP", "tanh", "forward(x)", "batch of rows",
        lambda: Policy(CfC(6, AutoNCP(8, 2)), 2), batches, rows=3,
    ),
    "frames": Shape(
        "a convolutional encoder on each frame", "Conv2d", "CfC AutoNCP", "linear", "forward(x, hx)", "none",
        lambda: Frames(CfC(4, AutoNCP(8, 2)), 2), sampled, frames,
    ),
    "frames-ltc": Shape(
        "frames in front of an LTC", "Conv2d", "LTC AutoNCP", "linear", "forward(x, hx)", "none",
        lambda: Frames(LTC(4, AutoNCP(8, 2)), 2), sampled, frames,
    ),
    "camera-and-speed": Shape(
        "frames with channels last, and a number", "Conv2d and a number", "CfC AutoNCP", "tanh", "forward(a, b)",
        "none", FramesAndSpeed, by_name, camera,
    ),
    "soft-argmax": Shape(
        "coordinates of feature maps", "Conv2d soft-argmax", "LTC AutoNCP", "motor neurons", "forward(x)", "none",
        SpatialSoftArgmax, whole, frames,
    ),
    "frame-by-frame": Shape(
        "the encoder in a loop over time", "Conv2d in a loop", "CfC", "linear", "forward(x)", "none", Sequenced, whole,
        frames,
    ),
}  # fmt: skip
