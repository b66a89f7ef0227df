"""A table of operations of the step program: each in all its forms, beside what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from programs import decoded, single
from torch.nn import functional

from lnn_edge.bundle.operations import OPERATIONS

__all__ = ["ROWS", "Row", "expected_of", "inputs_of", "program_of_row"]


@dataclass(frozen=True)
class Row:
    """One use of an operation: `torch_` takes what the program takes, (rows, *shape) each, and its tensors by name."""

    op: str
    torch_: Callable[..., torch.Tensor]
    shapes: tuple[tuple[int, ...], ...] = ((3, 4),)
    weights: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    above: float = -3.0  # what the inputs are drawn from
    below: float = 3.0


def row(op, torch_, *shapes, weights=(), above=-3.0, below=3.0, **attributes):
    return Row(op, torch_, shapes or ((3, 4),), dict(weights), attributes, above, below)


def drawn(*shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


def pairwise(op, torch_):
    return row(op, lambda a, b, **_: torch_(a, b).double(), (3, 4), (3, 4))


def conv(torch_, shape, kernel, bias=True, *, strides, pads, dilations, group=1):
    """torch pads both ends alike, so it is padded before."""
    space = len(strides)
    both = [end for k in reversed(range(space)) for end in (pads[k], pads[space + k])]

    def expected(x, **own):
        lead = x.shape[: -space - 1]
        padded = functional.pad(x.reshape(-1, *x.shape[-space - 1 :]), both)
        y = torch_(padded, own["W"], own.get("B"), stride=strides, dilation=dilations, groups=group)
        return y.reshape(*lead, *y.shape[1:])

    weights = {"W": drawn(*kernel)} | ({"B": drawn(kernel[0], seed=6)} if bias else {})
    return row("Conv", expected, shape, weights=weights, strides=strides, pads=pads, dilations=dilations, **_but(group))


def _but(group):
    return {} if group == 1 else {"group": group}


def pool(op, torch_, shape, kernel, strides, pads, **options):
    space = len(kernel)

    def expected(x):
        lead = x.shape[:-space]
        y = torch_(x.reshape(-1, 1, *x.shape[-space:]), kernel, strides, pads[:space], **options)
        return y.reshape(*lead, *y.shape[2:])

    return row(op, expected, shape, kernel=kernel, strides=strides, pads=pads)


ROWS = {
    "abs": row("Abs", torch.abs),
    "atan": row("Atan", torch.atan),
    "cos": row("Cos", torch.cos),
    "erf": row("Erf", torch.erf),
    "exp": row("Exp", torch.exp),
    "floor": row("Floor", torch.floor),
    "log": row("Log", torch.log, above=0.1),
    "neg": row("Neg", torch.neg),
    "relu": row("Relu", torch.relu),
    "sigmoid": row("Sigmoid", torch.sigmoid),
    "sin": row("Sin", torch.sin),
    "softplus": row("Softplus", functional.softplus),
    "sqrt": row("Sqrt", torch.sqrt, above=0.0),
    "tanh": row("Tanh", torch.tanh),
    "add": pairwise("Add", torch.add),
    "sub": pairwise("Sub", torch.sub),
    "mul": pairwise("Mul", torch.mul),
    "div": row("Div", lambda a, b: a / b, (3, 4), (3, 4), above=0.5),
    "max": pairwise("Max", torch.maximum),
    "min": pairwise("Min", torch.minimum),
    "pow": row("Pow", torch.pow, (3, 4), (3, 4), above=0.1),
    "add-broadcast": row("Add", lambda a, b: a + b[:, None], (2, 3, 4), (3, 1)),
    "mul-of-a-number": row("Mul", lambda a, b: a * b[:, None, None], (3, 4), ()),
    "equal": row("Equal", lambda a, b: (a == b).double(), (3, 4), (3, 4)),
    "greater": pairwise("Greater", torch.gt),
    "greater-or-equal": pairwise("GreaterOrEqual", torch.ge),
    "less": pairwise("Less", torch.lt),
    "less-or-equal": pairwise("LessOrEqual", torch.le),
    "and": pairwise("And", lambda a, b: (a > 0) & (b > 0)),
    "or": pairwise("Or", lambda a, b: (a > 0) | (b > 0)),
    "not": row("Not", lambda a: (a <= 0).double()),
    "where": row("Where", lambda a, b, c: torch.where(a > 0, b, c[:, None]), (3, 4), (3, 4), (4,)),
    "elu": row("Elu", lambda x: functional.elu(x, 0.7), alpha=0.7),
    "leaky-relu": row("LeakyRelu", lambda x: functional.leaky_relu(x, 0.3), alpha=0.3),
    "hard-sigmoid": row("HardSigmoid", lambda x: torch.clamp(x * 0.3 + 0.4, 0, 1), alpha=0.3, beta=0.4),
    "softmax": row("Softmax", lambda x: torch.softmax(x, 1)),
    "softmax-last": row("Softmax", lambda x: torch.softmax(x, 2), axis=1),
    "log-softmax": row("LogSoftmax", lambda x: torch.log_softmax(x, 2), axis=1),
    "reduce-sum": row("ReduceSum", lambda x: x.sum((1, 3), keepdim=True), (2, 3, 4), axes=[0, 2]),
    "reduce-mean": row("ReduceMean", lambda x: x.mean((1, 3), keepdim=True), (2, 3, 4), axes=[0, 2]),
    "reduce-max": row("ReduceMax", lambda x: x.amax((1, 3), keepdim=True), (2, 3, 4), axes=[0, 2]),
    "reduce-min": row("ReduceMin", lambda x: x.amin((1, 3), keepdim=True), (2, 3, 4), axes=[0, 2]),
    "reshape": row("Reshape", lambda x: x.reshape(-1, 2, 6), shape=[2, 6]),
    "expand": row("Expand", lambda x: x[:, None].expand(-1, 5, 3, 4), (3, 1), shape=[5, 3, 4]),
    "transpose": row("Transpose", lambda x: x.permute(0, 3, 1, 2), (2, 3, 4), perm=[2, 0, 1]),
    "slice": row("Slice", lambda x: x[:, :, 1:4:2], (2, 5), axis=1, start=1, stop=4, step=2),
    "gather": row(
        "Gather", lambda x, indices: x[:, :, indices.long()], weights={"indices": np.array([3, 0, 0], np.int32)}, axis=1
    ),
    "concat": row("Concat", lambda *parts: torch.cat(parts, 2), (2, 3), (2, 1), (2, 4), axis=1),
    "gemm": row("Gemm", lambda x, **own: x @ own["B"] + own["C"], weights={"B": drawn(4, 5), "C": drawn(5)}),
    "gemm-plain": row("Gemm", lambda x, **own: x @ own["B"], (4,), weights={"B": drawn(4, 5)}),
    "matmul": row("MatMul", torch.matmul, (3, 4), (4, 2)),
    "matmul-of-many": row("MatMul", lambda a, b: a @ b[:, None], (5, 3, 4), (4, 2)),
    "conv-1": conv(functional.conv1d, (2, 9), (3, 2, 3), strides=[1], pads=[0, 0], dilations=[1]),
    "conv-1-all": conv(
        functional.conv1d, (4, 11), (6, 2, 3), strides=[2], pads=[1, 3], dilations=[2], group=2, bias=False
    ),
    "conv-2": conv(functional.conv2d, (2, 6, 5), (3, 2, 3, 2), strides=[1, 1], pads=[0] * 4, dilations=[1, 1]),
    "conv-2-all": conv(
        functional.conv2d, (4, 7, 9), (4, 2, 2, 3), strides=[2, 1], pads=[0, 1, 2, 3], dilations=[1, 2], group=2
    ),
    "conv-2-of-many-channels": conv(
        functional.conv2d, (7, 6, 5), (13, 7, 3, 2), strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2]
    ),
    "conv-2-to-many-channels": conv(
        functional.conv2d, (2, 5, 4), (200, 2, 3, 3), False, strides=[1, 2], pads=[2, 2, 0, 1], dilations=[2, 1]
    ),
    "conv-3-to-channels": conv(
        functional.conv3d, (3, 4, 5, 4), (9, 3, 2, 3, 2), strides=[1, 2, 1], pads=[1] * 6, dilations=[1, 1, 2]
    ),
    "conv-2-depthwise": conv(
        functional.conv2d, (3, 6, 6), (6, 1, 3, 3), strides=[1, 1], pads=[1] * 4, dilations=[1, 1], group=3
    ),
    "conv-2-of-frames": conv(
        functional.conv2d, (2, 3, 5, 5), (2, 3, 3, 3), strides=[1, 2], pads=[1, 0, 1, 0], dilations=[1, 1]
    ),
    "conv-3": conv(
        functional.conv3d,
        (2, 5, 6, 4),
        (4, 1, 2, 3, 2),
        strides=[1, 2, 1],
        pads=[1, 0, 1, 0, 1, 0],
        dilations=[2, 1, 1],
        group=2,
    ),
    "layer-normalization": row(
        "LayerNormalization",
        lambda x, scale, bias: functional.layer_norm(x, (4,), scale, bias, 0.01),
        weights={"scale": drawn(4), "bias": drawn(4, seed=6)},
        epsilon=0.01,
    ),
    "max-pool-1": pool("MaxPool", functional.max_pool1d, (2, 9), [3], [2], [1, 1]),
    "max-pool-2": pool("MaxPool", functional.max_pool2d, (2, 6, 7), [2, 3], [1, 2], [1, 0, 1, 0]),
    "max-pool-3": pool("MaxPool", functional.max_pool3d, (1, 4, 4, 5), [2, 2, 3], [2, 1, 1], [0, 1, 1, 0, 1, 1]),
    "average-pool-1": pool("AveragePool", functional.avg_pool1d, (2, 9), [3], [2], [1, 1]),
    "average-pool-2": pool("AveragePool", functional.avg_pool2d, (2, 6, 7), [2, 3], [1, 2], [1, 1, 1, 1]),
    "average-pool-3": pool("AveragePool", functional.avg_pool3d, (1, 4, 4, 5), [2, 2, 3], [2, 1, 1], [0] * 6),
}


def inputs_of(own: Row, rows: int) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    values = [draw.uniform(own.above, own.below, (rows, *shape)) for shape in own.shapes]
    if own.op in ("Equal", "GreaterOrEqual", "LessOrEqual"):
        values[1] = np.where(values[1] > 0, values[0], values[1])  # some are equal
    return values


def expected_of(own: Row, values: list[np.ndarray]) -> np.ndarray:
    weights = {name: torch.from_numpy(value) for name, value in own.weights.items()}
    return own.torch_(*map(torch.from_numpy, values), **weights).numpy()


def program_of_row(own: Row, result: tuple[int, ...]):
    form = OPERATIONS[own.op]
    return decoded(
        *single(
            own.op,
            *own.shapes,
            weights=own.weights,
            result=result,
            truths=form.truths,
            truth=bool(form.truth),
            **own.attributes,
        )
    )
