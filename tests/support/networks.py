"""Networks around liquid cores, and the operations that export translates: tables that several rooms test."""

from __future__ import annotations

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn
from torch.nn import functional

PERIOD_S, TIMESPAN = 0.1, 2.0


class ConvEncoder(nn.Module):
    """Image in; policy and value out, as a dict beside the hidden state."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.rnn = CfC(16, AutoNCP(12, 3))
        self.policy = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 2))
        self.value = nn.Linear(3, 1)

    def forward(self, x, hx=None):
        batch, time = x.shape[:2]
        z = self.pool(self.conv(x.flatten(0, 1))).view(batch, time, -1)
        y, hx = self.rnn(z, hx)
        return {"policy": self.policy(y), "value": self.value(y)}, hx


class Recurrent(nn.Module):
    """MLP encoder, a core, a head; hidden state and timespans in the signature, as most people write it."""

    def __init__(self, core):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.LayerNorm(8))
        self.rnn = core
        self.head = nn.Linear(3, 2)

    def forward(self, x, hx=None, timespans=None):
        y, hx = self.rnn(self.encoder(x), hx, timespans)
        return torch.sigmoid(self.head(y)) * 2 - 1, hx


class Stacked(nn.Module):
    """Cores in a row with a residual, one beside them; a tuple comes out."""

    def __init__(self):
        super().__init__()
        self.first, self.second = CfC(5, 8, backbone_units=12), LTC(8, 6)
        self.beside = CfC(5, AutoNCP(10, 2))

    def forward(self, x):
        h, _ = self.first(x)
        y, _ = self.second(h + torch.relu(h))
        z, _ = self.beside(x)
        return torch.cat([y, z], dim=-1), y[..., :2] * z


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.scan = nn.Conv1d(3, 4, 2)
        self.rnn = CfC(14, 8, backbone_units=12)

    def forward(self, lidar, speed, hx=None):
        batch, time = lidar.shape[:2]
        z = functional.elu(self.scan(lidar.reshape(batch * time, 3, 4))).reshape(batch, time, -1)
        y, hx = self.rnn(torch.cat([z, speed], dim=-1), hx)
        return y.mean(dim=-1, keepdim=True), hx


class Reaching(nn.Module):
    """A goal beside every sample."""

    def __init__(self):
        super().__init__()
        self.rnn = CfC(3 + 2, AutoNCP(8, 2))

    def forward(self, x, goal):
        beside = goal.unsqueeze(1).expand(-1, x.shape[1], -1)
        return self.rnn(torch.cat([x, beside], -1))[0]


class LastStep(nn.Module):
    """Only the last output of a sequence comes out: the step's output is that of every prefix."""

    def __init__(self, pick=True):
        super().__init__()
        self.rnn = CfC(5, 8, backbone_units=12, return_sequences=pick)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        y, _ = self.rnn(x)
        return torch.softmax(self.head(y[:, -1] if y.dim() == 3 else y), dim=-1)


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = CfC(5, 8, batch_first=False, backbone_units=12)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return functional.leaky_relu(self.head(self.rnn(x)[0]), 0.2)


class StateInADict(nn.Module):
    """Hidden states travel as a dict, and the head reads them too."""

    def __init__(self):
        super().__init__()
        self.rnn = LTC(5, AutoNCP(12, 3), mixed_memory=True)
        self.head = nn.Linear(12, 2)

    def forward(self, x, hidden=None):
        y, (h, c) = self.rnn(x, None if hidden is None else (hidden["h"], hidden["c"]))
        return y.clamp(-0.5, 0.5) ** 2 / (1 + y.abs()), {"h": h, "c": c}


def vectors(rows=2, steps=40, features=5, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, steps, features)).astype(np.float32)


def built(make):
    torch.manual_seed(3)
    return make()


def two_inputs():
    return built(TwoInputs)


def scans_and_speeds():
    """Four recordings for `two_inputs`."""
    rng = np.random.default_rng(0)
    return {
        name: rng.uniform(-1, 1, (4, 30, width)).astype(np.float32) for name, width in (("lidar", 12), ("speed", 2))
    }


def images():
    return np.random.default_rng(0).standard_normal((1, 30, 1, 8, 8)).astype(np.float32)


NETWORKS = {
    "conv-encoder": (ConvEncoder, images),
    "mlp-ltc": (lambda: Recurrent(LTC(8, AutoNCP(12, 3))), vectors),
    "mlp-cfc-proj": (lambda: Recurrent(CfC(8, 10, proj_size=3, backbone_units=12)), vectors),
    "mlp-mixed": (lambda: Recurrent(CfC(8, AutoNCP(12, 3), mixed_memory=True)), vectors),
    "stacked": (Stacked, vectors),
    "last-step": (LastStep, vectors),
    "last-step-layer": (lambda: LastStep(pick=False), vectors),
    "state-in-a-dict": (StateInADict, vectors),
}


def leaves(result):
    """Outputs by place, hidden states left out."""
    head = result[0] if isinstance(result, tuple) and not isinstance(result[1], torch.Tensor) else result
    if isinstance(result, tuple) and isinstance(result[1], torch.Tensor) and result[1].dim() == 2:
        head = result[0]
    return list(head.values()) if isinstance(head, dict) else list(head) if isinstance(head, tuple) else [head]


class AroundOne(nn.Module):
    """A core with something in front of it or behind it."""

    def __init__(self, before=None, behind=None):
        super().__init__()
        self.rnn = CfC(5, 4, backbone_units=8)
        self.before, self.behind = before, behind

    def forward(self, x):
        y, _ = self.rnn(self.before(x) if self.before else x)
        return self.behind(y) if self.behind else y


def by_row(y, operation):
    """An operation that knows no time axis, on each step's row."""
    return operation(y.flatten(0, 1)).reshape(y.shape)


# One small network per torch operation: the rule for it must equal torch, whatever else the table does.
def written(y, write):
    """A copy of the values, changed in place."""
    copy = y.clone()
    write(copy)
    return copy


def beside(*values):
    """Results of any shape and kind, beside each other."""
    return torch.cat([(value if value.dim() > 2 else value[..., None]).flatten(2).float() for value in values], -1)


def masked(y):
    """The first of four as unlikely as can be."""
    return y.masked_fill(torch.tensor([True, False, False, False]), -torch.inf)


OPERATIONS = {
    "dead-band": lambda y: torch.where(y.abs() > 0.1, y, 0.0),
    "choice-of-two": lambda y: torch.where(y[..., :1] >= y[..., 1:2], y, -y),
    "filled-where-low": lambda y: y.masked_fill(y < 0.05, -1.0),
    "conditions-combined": lambda y: torch.where(((y <= 0.2) & (y != 0)) | ~(y > -0.1), 2 * y, y.new_tensor(0.3)),
    "conditions-of-torch": lambda y: torch.where(torch.logical_or(y.lt(-0.1), torch.logical_not(y == y)), y, y + 1),
    "condition-as-number": lambda y: (y > 0.1).float() * y + (y > 0).sum(-1, keepdim=True) / 4,
    "condition-in-another-shape": lambda y: torch.where((y[..., 0] > 0).unsqueeze(-1), y, 0.5 * y),
    "condition-cut": lambda y: torch.where(torch.cat([y[..., :2] > 0, y[..., 2:] < 0], -1), y, 0.5 * y),
    "bool": lambda y: y * (y > 0.1).float().bool() + y * (y - y).to(torch.bool),
    "whole-numbers": lambda y: y + (9 * y).int() + (5 * y).long().float() / 2,
    "floor-ceil-trunc": lambda y: (9 * y).floor() + (5 * y).ceil() + (7 * y).trunc(),
    "written-place": lambda y: written(y, lambda z: z[..., 0].copy_(2 * y[..., 1])),
    "written-range": lambda y: written(y, lambda z: z[..., 1:3].mul_(y[..., :2] + 1)),
    "written-number": lambda y: written(y, lambda z: z[..., -1].fill_(0.5)),
    "written-where": lambda y: torch.cat([written(y, lambda z: z.__setitem__(y > 0.1, 0.5)), y], -1),
    "written-twice": lambda y: functional.relu_(written(y, lambda z: (z.add_(1), z[..., 0].mul_(3)))),
    "constants-like": lambda y: torch.cat([torch.full_like(y, 0.5), y + torch.ones_like(y), torch.zeros_like(y)], -1),
    "constants-into-a-layer": lambda y: y + functional.linear(torch.zeros_like(y), torch.ones(4, 4), torch.ones(4)),
    "nothing-beside": lambda y: torch.cat([2 * y[..., 4:] - y[..., 4:].exp(), y, y[..., :0]], -1),
    "flip-roll": lambda y: y.flip(-1) + 2 * y.roll(1, dims=-1),
    "repeat": lambda y: y.repeat(1, 1, 3),
    "pad": lambda y: functional.pad(y, (1, 2), value=0.5),
    "max-min-of-axis": lambda y: y.max(-1, keepdim=True).values - y.min(-1, keepdim=True)[0] * torch.max(y, -y),
    "round-sign": lambda y: (9 * y).round() + torch.sign(y),
    "log1p-expm1": lambda y: torch.log1p(y * y) + torch.expm1(y) + torch.log2(1 + y * y),
    "cumsum": lambda y: y.cumsum(-1),
    "cumsum-of-an-axis": lambda y: y.unflatten(-1, (2, 2)).cumsum(-2).flatten(-2),
    "std-var": lambda y: y.std(-1, keepdim=True) + y.var(-1, keepdim=True) + y,
    "logit-lerp": lambda y: torch.logit(torch.sigmoid(y)) + torch.lerp(y, 2 * y, 0.3),
    "nan-to-num": lambda y: torch.nan_to_num(y) + torch.hypot(y, y),
    "addcmul": lambda y: torch.addcmul(y, y, y, value=0.5) + functional.softsign(y) + functional.threshold(y, 0.1, 0.0),
    "masked-softmax": lambda y: masked(functional.linear(y, torch.eye(4) + 0.1)).softmax(-1),
    "product-with-a-vector": lambda y: (y @ torch.arange(4.0) + functional.linear(y, torch.ones(4)))[..., None],
    "width-one": lambda y: functional.normalize(y[..., :1], dim=-1) + functional.rms_norm(y[..., 1:2], [1]),
    "rsub-alpha": lambda y: torch.rsub(y, 2 * y + 1, alpha=3),
    "threshold": lambda y: torch.where((y * 10).round() / 10 == 0.3, y, 2 * y),
    "relu": lambda y: functional.relu(y),
    "elu": lambda y: functional.elu(y, 0.7),
    "leaky_relu": lambda y: functional.leaky_relu(y, 0.3),
    "silu": lambda y: functional.silu(y),
    "gelu": lambda y: functional.gelu(y),
    "gelu-tanh": lambda y: functional.gelu(y, approximate="tanh"),
    "softplus": lambda y: functional.softplus(y, beta=2.0),
    "softmax": lambda y: torch.softmax(y, dim=-1),
    "log_softmax": lambda y: torch.log_softmax(y, dim=-1),
    "clamp": lambda y: y.clamp(min=-0.2, max=0.3),
    "hardtanh": lambda y: functional.hardtanh(y, -0.3, 0.3),
    "exp-log": lambda y: torch.log(torch.exp(y) + 1.0),
    "sqrt": lambda y: torch.sqrt(y.abs() + 0.1),
    "pow": lambda y: (y + 2.0) ** 1.5,
    "square": lambda y: y**2,
    "neg-rsub": lambda y: 1.0 - (-y),
    "add-alpha": lambda y: torch.add(y, y, alpha=0.5),
    "div": lambda y: y / (y.abs() + 1.0),
    "max-min": lambda y: torch.maximum(y, -y) - torch.minimum(y, 0.5 * y),
    "sum": lambda y: y.sum(dim=-1),
    "mean-keep": lambda y: y - y.mean(dim=-1, keepdim=True),
    "chunk": lambda y: torch.cat(y.chunk(2, dim=-1)[::-1], dim=-1),
    "split": lambda y: y.split([1, 3], dim=-1)[1],
    "unbind": lambda y: y.unbind(dim=-1)[2],
    "stack": lambda y: torch.stack([y[..., 0], y[..., 3]], dim=-1),
    "select-slice": lambda y: y[..., 1:3] * y[..., :1],
    "transpose": lambda y: y.reshape(*y.shape[:2], 2, 2).transpose(-1, -2).flatten(2),
    "matmul": lambda y: (y.unsqueeze(-1) @ y.unsqueeze(-2)).flatten(2),
    "expand": lambda y: y.unsqueeze(-1).expand(-1, -1, -1, 3).flatten(2),
    "layer_norm": lambda y: functional.layer_norm(y, (4,)),
    "avg_pool": lambda y: functional.avg_pool1d(y, 2),
    "max_pool": lambda y: functional.max_pool1d(y, 2),
    "constant": lambda y: y + torch.arange(4.0) * 0.1,
    "clamp_max-min": lambda y: torch.clamp_min(torch.clamp_max(y, 0.1), -0.1),
    "relu6": lambda y: functional.relu6(20 * y),
    "selu": lambda y: functional.selu(y),
    "celu": lambda y: functional.celu(y, 0.7),
    "hardsigmoid": lambda y: functional.hardsigmoid(8 * y),
    "hardswish": lambda y: functional.hardswish(8 * y),
    "mish": lambda y: functional.mish(y),
    "logsigmoid": lambda y: functional.logsigmoid(y),
    "prelu": lambda y: by_row(y, lambda z: functional.prelu(z, torch.tensor([0.1, 0.3, -0.2, 0.5]))),
    "glu": lambda y: functional.glu(y, dim=-1),
    "rsqrt-reciprocal": lambda y: torch.rsqrt(y.abs() + 1.0) + 1.0 / (y.abs() + 2.0),
    "sin-cos": lambda y: torch.cat([torch.sin(3 * y), torch.cos(3 * y)], dim=-1),
    "where-number": lambda y: torch.where(MASK, y, 0.5),
    "where-value": lambda y: torch.where(MASK, y, y * 2.0 + 1.0),
    "masked_fill": lambda y: torch.softmax(y.masked_fill(MASK, -torch.inf), dim=-1),
    "index": lambda y: y[..., [2, 0, -1]],
    "index_select": lambda y: y.index_select(-1, torch.tensor([3, 1])),
    "einsum": lambda y: torch.einsum("bti,oi->bto", y, WEIGHT),
    "einsum-transposed": lambda y: torch.einsum("...i,io->...o", y, WEIGHT.T),
    # Of two values the norm is almost a sign: with the usual epsilon of 1e-5 it multiplies their rounding by up to 300.
    "group_norm": lambda y: by_row(y, lambda z: functional.group_norm(z, 2, torch.arange(4.0), torch.ones(4), 0.01)),
    "group_norm-plain": lambda y: by_row(y, lambda z: functional.group_norm(z.reshape(-1, 2, 2), 1)),
    "instance_norm": lambda y: by_row(
        y, lambda z: functional.instance_norm(z.reshape(-1, 2, 2), weight=torch.tensor([2.0, 3.0]), eps=0.01)
    ),
    "instance_norm-trained": lambda y: by_row(y, lambda z: functional.instance_norm(z.reshape(-1, 2, 2), *STATISTICS)),
    "rms_norm": lambda y: functional.rms_norm(y, (4,), torch.arange(4.0), 1e-3),
    "normalize": lambda y: functional.normalize(y, dim=-1),
    "amax-amin": lambda y: torch.stack([y.amax(dim=-1), y.amin(dim=-1)], dim=-1),
    "softsign-tanhshrink": lambda y: functional.softsign(y) + functional.tanhshrink(y),
    "argmax": lambda y: 0.1 * beside(y.argmax(-1, keepdim=True).float(), y.argmin(-1), y),
    "largest-and-place": lambda y: beside(*y.max(-1), *y.min(-1, keepdim=True), *torch.aminmax(y, dim=-1)),
    "topk": lambda y: beside(*y.topk(2), *y.topk(3, largest=False), y.kthvalue(2).values, y.median(-1).values),
    "sort": lambda y: beside(*y.sort(-1), y.argsort(-1, descending=True), torch.quantile(y, 0.4, dim=-1)),
    "sort-of-ties": lambda y: beside(*torch.sort((y - y).round(), stable=True, dim=-1)),
    "gather": lambda y: beside(
        y.gather(-1, torch.tensor([3, 0]).expand(*y.shape[:2], 2)), y.gather(-1, (y[..., :2] > 0).long()),
        torch.take_along_dim(y, y.argsort(-1), -1), y.unflatten(-1, (2, 2)).gather(2, (y[..., None, :2] > 0).long()),
    ),
    "rows-of-a-table": lambda y: beside(
        functional.embedding(y.argmax(-1), WEIGHT.T), WEIGHT.T[y.argmin(-1) - 4], functional.one_hot(y.argmax(-1), 4),
        by_row(y, lambda z: torch.stack([z[torch.arange(len(z)), z.argmax(-1)]] * 4, -1)),
        torch.bucketize(y, WEIGHT[0]), torch.searchsorted(WEIGHT[0], y, right=True),
    ),
    "angles": lambda y: beside(
        torch.atan2(y, y.roll(1, -1)), torch.atan2(y, (y - y)), torch.atan2(y - y, y - y),
        torch.atan2(y, WEIGHT[0] - 0.2),
    ),
    "trigonometry": lambda y: y.arctan() + y.asin() + y.acos() + y.tan() + y.sinh() + y.cosh() + y.asinh() + y.atanh(),
    "logarithms": lambda y: torch.log10(1 + y * y) + torch.acosh(2 + y) + y.erfc() + torch.xlogy(y.relu(), y + 1),
    "clamp-by-values": lambda y: y.clamp(-WEIGHT[0], y[..., :1].abs()) + y.clamp(max=torch.inf),
    "powers": lambda y: 2**y + y.abs() ** y + (1 + y * y) ** WEIGHT[1] + y.exp2() + torch.float_power(1 + y * y, 0.5),
    "division": lambda y: beside(
        torch.div(9 * y, 0.7, rounding_mode="floor"), torch.div(9 * y, WEIGHT[1], rounding_mode="trunc"),
        torch.fmod(9 * y, 0.7), 9 * y % -0.7, torch.remainder(9 * y, WEIGHT[1]), 9 * y // 0.3, torch.frac(9 * y),
        torch.round(y, decimals=1), torch.copysign(WEIGHT[0], y),
    ) / 9,
    "lists-of-places": lambda y: beside(
        y[..., [[0, 1], [2, 3]]], y.unflatten(-1, (2, 2))[:, :, [0, 1], [1, 0]], y.unfold(-1, 2, 1),
        torch.diagonal(y.unsqueeze(-1) * y.unsqueeze(-2), dim1=-2, dim2=-1), y.diff(dim=-1),
    ),
    "moved-axes": lambda y: beside(
        y.reshape(*y.shape[:2], 2, 2, 1).movedim([2, 3], [3, 2]), y.unflatten(-1, (2, 2)).swapdims(2, 3)
    ),
    "written-places": lambda y: beside(
        written(y, lambda z: z[..., [0, 2]].add_(1)),
        written(y, lambda z: z.__setitem__((..., [0, 2]), 2 * y[..., 1:3])),
        torch.zeros_like(y).scatter(-1, torch.tensor([3, 2, 1, 0]).expand(y.shape), y),
        y.scatter(-1, y.argmax(-1, keepdim=True), 0.5), y.index_add(-1, torch.tensor([1, 1]), y[..., 2:]),
        written(y, lambda z: z.__setitem__(y[..., 0] > 0, 0.5)), y.index_fill(-1, torch.tensor([0, 2]), 1.0),
    ),
    # What a constant mask hides is infinite or NaN: it must not leak.
    "masked-logarithm": lambda y: beside(
        torch.log((1 + y.abs()) * MASK).masked_fill(~MASK, 0.2), torch.where(MASK, torch.log((1 + y.abs()) * SIGNS), y),
        torch.where(~MASK, 0.3, y / MASK), y.masked_fill(~MASK.isfinite(), 2.0),
    ),
    "combined-conditions": lambda y: beside(
        ((y > 0) ^ (y < 0.1)).float(), torch.logical_xor(y > 0, MASK).float(), (y > 0).any(-1), (y < 0.1).all(-1),
        torch.isinf(y), torch.signbit(y), torch.isclose(y, WEIGHT[0], atol=0.1), torch.fmax(y, -y),
    ),
    "transposed-convolution": lambda y: beside(
        functional.conv_transpose1d(y.flatten(0, 1)[:, None], KERNEL, WEIGHT[0, :2], 2, 1, 1).unflatten(0, y.shape[:2]),
        functional.conv_transpose2d(
            y.reshape(-1, 2, 2, 1), KERNEL.reshape(2, 1, 3, 1), stride=(3, 1), padding=(3, 0), groups=2, dilation=(2, 1)
        ).unflatten(0, y.shape[:2]),
    ),
    "convolution-of-the-same-size": lambda y: functional.conv1d(
        y.flatten(0, 1)[:, None], KERNEL.transpose(0, 1)[..., 1:], padding="same", dilation=2
    ).reshape(*y.shape[:2], -1),
    "padding": lambda y: beside(*(functional.pad(y, (1, 2), mode) for mode in ("reflect", "replicate", "circular"))),
    "padding-less-than-nothing": lambda y: functional.pad(y, (-1, 1), value=0.5),
    "interpolation": lambda y: beside(*(
        functional.interpolate(y.reshape(-1, 1, 2, 2), (3, 5), None, mode, corners).unflatten(0, y.shape[:2])
        for mode, corners in (("nearest", None), ("bilinear", False), ("bilinear", True), ("bicubic", False))
    )),
    "adaptive-pooling": lambda y: beside(
        functional.adaptive_avg_pool1d(y, 3), functional.adaptive_max_pool1d(y, 3),
        functional.adaptive_max_pool2d(y.reshape(-1, 1, 2, 2), (1, 2)).unflatten(0, y.shape[:2]),
        functional.adaptive_avg_pool2d(y.reshape(-1, 1, 2, 2), (3, 1)).unflatten(0, y.shape[:2]),
    ),
    "pooling-at-the-edges": lambda y: beside(
        functional.avg_pool1d(y, 3, ceil_mode=True), functional.max_pool1d(y, 3, 2, 1, ceil_mode=True),
        functional.avg_pool1d(y, 3, 1, 1, count_include_pad=False),
        functional.avg_pool2d(y.unflatten(-1, (2, 2)), 2, 1, 1, divisor_override=3),
    ),
    "einsum-of-values": lambda y: beside(
        torch.einsum("bti,btj->btij", y, y + 1), torch.einsum("bti,bti->bt", y, y),
        torch.einsum("oi,bti->bto", WEIGHT, y),
        torch.einsum("bti,btj,oij->bto", y, y, WEIGHT.reshape(3, 4, 1) * WEIGHT[0]),
    ),
    "bilinear": lambda y: functional.bilinear(y, 2 * y, WEIGHT.reshape(3, 4, 1) * WEIGHT[0], WEIGHT[:, 1]),
    "distances": lambda y: beside(
        torch.cdist(y, WEIGHT[None]), torch.cdist(y, WEIGHT[None], p=1),
        functional.cosine_similarity(y + 1, WEIGHT[1], -1),
        functional.pairwise_distance(y, 2 * y + 1),
    ),
    "norms": lambda y: beside(
        *(y.norm(p=order, dim=-1) for order in (1, 2, 3, torch.inf, -torch.inf)), functional.normalize(y, 1, -1),
        torch.linalg.matrix_norm(y.unflatten(-1, (2, 2))), torch.logsumexp(y.unflatten(-1, (2, 2)), (-1, -2)),
    ),
    "products-and-moments": lambda y: beside(
        y.prod(-1), y[..., :3].prod(-1), *torch.var_mean(y, -1), *torch.std_mean(y, -1)
    ),
    "attention-over-features": lambda y: beside(*(
        functional.scaled_dot_product_attention(pairs, 2 * pairs, pairs, **options).unflatten(0, y.shape[:2])
        for pairs in [y.flatten(0, 1).unflatten(-1, (2, 2))]
        for options in ({}, {"is_causal": True}, {"attn_mask": torch.tensor([[True, False], [True, True]])})
    )),
    "activations-without-rules": lambda y: beside(
        functional.softmin(y, -1), functional.hardshrink(y, 0.1), functional.softshrink(y, 0.1), torch.sinc(y),
        functional.softplus(y, 1.0, 0.1), torch.logaddexp(y, 2 * y),
        torch.heaviside(y, WEIGHT[0]), functional.local_response_norm(y.flatten(0, 1)[:, :, None], 2).reshape(y.shape),
    ),
}  # fmt: skip


MASK = torch.tensor([True, False, True, False])
SIGNS = 2.0 * MASK - 1


STATISTICS = (torch.tensor([0.1, 0.2]), torch.tensor([0.5, 2.0]), None, None, False)


KERNEL = torch.arange(6.0).reshape(1, 2, 3) / 6


WEIGHT = torch.arange(12.0).reshape(3, 4) / 12
