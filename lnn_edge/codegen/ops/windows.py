"""Convolutions and pools over the last one to three axes, each written as one over three."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from ...bundle.operations import Operation
from ..c_text import number
from ..emission import Emission

__all__ = ["conv", "pool"]


class _Space:
    """Sizes of the windows of an operation, filled up to three axes with axes of length 1."""

    def __init__(self, emission: Emission, node: Operation, kernel: Sequence[int], dilations: Sequence[int]) -> None:
        missing, count = 3 - len(kernel), len(kernel)
        self.given = [1] * missing + list(emission.shape(node.inputs[0])[-count:])
        self.made = [1] * missing + list(emission.shape(node.output)[-count:])
        self.kernel = [1] * missing + list(kernel)
        self.strides = [1] * missing + list(node.strides)
        self.dilations = [1] * missing + list(dilations)
        self.pads = [0] * missing + list(node.pads[:count])
        self.inputs, self.outputs = math.prod(self.given), math.prod(self.made)

    def ends(self, axis: int) -> tuple[list[int], list[int]]:
        """By place in the kernel: the first window along an axis with it on the input, and the one behind the last."""
        reach = [self.dilations[axis] * k - self.pads[axis] for k in range(self.kernel[axis])]
        stride, given, made = self.strides[axis], self.given[axis], self.made[axis]
        first = [max(0, -(own // stride)) for own in reach]
        behind = [max(min(made, (given - 1 - own) // stride + 1), 0) for own in reach]
        return first, behind


def conv(emission: Emission, node: Operation) -> None:
    """A convolution; what comes before the channels is a loop."""
    kernel = emission.tensors[node.weights["W"]]
    outputs, taken, *size = kernel.shape
    space = _Space(emission, node, size, node.dilations)
    images = emission.size(node.output) // (outputs * space.outputs)
    own, bias = outputs // node.group, emission.tensors[node.weights["B"]] if "B" in node.weights else None
    weights, table = emission.weights(kernel), "" if bias is None else emission.table(bias)
    with emission.block(emission.loop("m", images * outputs)):
        emission.line(f"const int o = m % {outputs};")
        channels = f"m / {outputs} * {taken * node.group} + o / {own} * {taken}"
        emission.line(f"const float *p = {emission.at(node.inputs[0])} + ({channels}) * {space.inputs};")
        emission.line(f"float *q = {emission.at(node.output)} + m * {space.outputs};")
        emission.line(f"{emission.loop('e', space.outputs)} q[e] = {f'{table}[o]' if table else '0.0f'};")
        with emission.block(emission.loop("c", taken)), _windows(emission, space) as place:
            emission.line(f"const float f = {weights.one(f'((o * {taken} + c) * {math.prod(size)} + {_tap(space)})')};")
            with place as (to, from_):
                emission.line(f"q[{to}] += f * p[c * {space.inputs} + {from_}];")


def pool(emission: Emission, node: Operation) -> None:
    """MaxPool, where padding does not count, and AveragePool, where it counts as 0."""
    space = _Space(emission, node, node.kernel, [1] * len(node.kernel))
    largest = node.op == "MaxPool"
    with emission.block(emission.loop("m", emission.size(node.output) // space.outputs)):
        emission.line(f"const float *p = {emission.at(node.inputs[0])} + m * {space.inputs};")
        emission.line(f"float *q = {emission.at(node.output)} + m * {space.outputs};")
        emission.line(f"{emission.loop('e', space.outputs)} q[e] = {'-INFINITY' if largest else '0.0f'};")
        with _windows(emission, space) as place, place as (to, from_):
            emission.line(f"q[{to}] = larger1(q[{to}], p[{from_}]);" if largest else f"q[{to}] += p[{from_}];")
        if not largest:
            share = number(1.0 / math.prod(space.kernel))
            emission.line(f"{emission.loop('e', space.outputs)} q[e] *= {share};")


def _tap(space: _Space) -> str:
    return f"(k0 * {space.kernel[1]} + k1) * {space.kernel[2]} + k2"


@contextmanager
def _windows(emission: Emission, space: _Space) -> Iterator[AbstractContextManager[tuple[str, str]]]:
    """Loops over the places of the kernel; gives those over the windows in which each is on the input."""
    ends = [[emission.integers(np.array(side)) for side in space.ends(axis)] for axis in range(3)]
    with emission.block(emission.loop("k0", space.kernel[0])):  # noqa: SIM117
        with emission.block(emission.loop("k1", space.kernel[1])):
            with emission.block(emission.loop("k2", space.kernel[2])):
                yield _places(emission, space, ends)


@contextmanager
def _places(emission: Emission, space: _Space, ends: list[list[str]]) -> Iterator[tuple[str, str]]:
    heads = [f"for (int u{k} = {ends[k][0]}[k{k}]; u{k} < {ends[k][1]}[k{k}]; ++u{k})" for k in range(3)]
    at = [f"(u{k} * {space.strides[k]} + k{k} * {space.dilations[k]} - {space.pads[k]})" for k in range(3)]
    to = f"(u0 * {space.made[1]} + u1) * {space.made[2]} + u2"
    from_ = f"({at[0]} * {space.given[1]} + {at[1]}) * {space.given[2]} + {at[2]}"
    with emission.block(heads[0]), emission.block(heads[1]), emission.block(heads[2]):
        yield to, from_
