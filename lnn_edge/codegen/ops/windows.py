"""Convolutions and pools over the last one to three axes, each written as one over three."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from ...arrays import Array
from ...bundle.operations import Operation
from ..c_text import number
from ..dense import begin_sums
from ..emission import Emission

__all__ = ["conv", "pool"]

_IN_FLIGHT = 8  # sums that keep both multipliers at work


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
    if emission.lanes > 1 and node.group == 1 and 2 * emission.tensors[node.weights["W"]].shape[0] >= emission.lanes:
        _conv_by_channels(emission, node)
    else:
        _conv_by_windows(emission, node)


def _conv_by_channels(emission: Emission, node: Operation) -> None:
    """Window by window, the output channels side by side in the lanes."""
    kernel = emission.tensors[node.weights["W"]]
    outputs, taken, *size = kernel.shape
    space = _Space(emission, node, size, node.dilations)
    bias = emission.tensors[node.weights["B"]] if "B" in node.weights else np.zeros(outputs)
    # Where they lie: place in the kernel but for its last axis, input channel, last axis, output channel.
    taps = kernel.reshape(outputs, taken, -1, space.kernel[2]).transpose(2, 1, 3, 0)
    most = emission.sums * emission.lanes
    with emission.braces(emission.loop("m", emission.size(node.output) // (outputs * space.outputs))):
        emission.line(f"const float *p = {emission.at(node.inputs[0])} + m * {taken * space.inputs};")
        emission.line(f"float *q = {emission.at(node.output)} + m * {outputs * space.outputs};")
        for start in range(0, outputs, most):
            part = slice(start, start + most)
            with _each_window(emission, space):
                sums = begin_sums(emission, [bias[part]])[0]
                _add_taps(emission, space, sums, np.ascontiguousarray(taps[..., part]))
                _store_channels(emission, space, sums, start, len(bias[part]))


@contextmanager
def _each_window(emission: Emission, space: _Space) -> Iterator[None]:
    """Loops over the windows, in which e is the number of one."""
    with emission.braces(emission.loop("u0", space.made[0])):  # noqa: SIM117
        with emission.braces(emission.loop("u1", space.made[1])):
            with emission.braces(emission.loop("u2", space.made[2])):
                emission.line(f"const int e = (u0 * {space.made[1]} + u1) * {space.made[2]} + u2;")
                yield


def _add_taps(emission: Emission, space: _Space, sums: list[str], taps: Array) -> None:
    """Add what the places of the kernel that lie on the input give, some input channels at a time."""
    _, taken, last, count = taps.shape
    width = emission.padded(count)
    table = emission.weights(np.pad(taps, [(0, 0)] * 3 + [(0, width - count)]))
    sets = [sums]
    while len(sets) * len(sums) < _IN_FLIGHT and len(sets) * 2 <= taken:
        sets.append([emission.fresh("a") for _ in sums])
    for name in (name for own in sets[1:] for name in own):
        emission.line(f"V {name} = allv(0.0f);")
    whole = taken // len(sets) * len(sets)
    given, at = space.given, [f"(u{k} * {space.strides[k]} - {space.pads[k]})" for k in range(3)]
    with emission.braces(_on_input(emission, space, 0)), emission.braces(_on_input(emission, space, 1)):
        rows = [f"({at[k]} + k{k} * {space.dilations[k]})" for k in range(2)]
        emission.line(f"const int from = ({rows[0]} * {given[1]} + {rows[1]}) * {given[2]} + {at[2]};")
        emission.line(f"const int tap = (k0 * {space.kernel[1]} + k1) * {taken};")

        def add(channels: Sequence[tuple[str, list[str]]]) -> None:
            with emission.braces(_on_input(emission, space, 2)):
                for channel, own in channels:
                    spread = emission.fresh("q")
                    place = f"({channel}) * {space.inputs} + from + k2 * {space.dilations[2]}"
                    emission.line(f"const V {spread} = allv(p[{place}]);")
                    for k, name in enumerate(own):
                        tap = f"(((tap + {channel}) * {last} + k2) * {width} + {k * emission.lanes})"
                        emission.line(f"{name} += {spread} * {table.vector(tap)};")

        with emission.braces(emission.loop("c", whole, len(sets))):
            add([(f"c + {k}", own) for k, own in enumerate(sets)])
        for channel in range(whole, taken):
            add([(str(channel), sets[channel - whole])])
    for names in zip(*sets, strict=True):
        if len(names) > 1:
            emission.line(f"{names[0]} = {' + '.join(names)};")


def _on_input(emission: Emission, space: _Space, axis: int) -> str:
    """The head of a loop over the places of the kernel along an axis that lie on the input."""
    first = np.arange(space.made[axis]) * space.strides[axis] - space.pads[axis]
    places = first[:, None] + np.arange(space.kernel[axis]) * space.dilations[axis]
    within = (places >= 0) & (places < space.given[axis])
    if np.all(within):
        return emission.loop(f"k{axis}", space.kernel[axis])
    begin = np.where(within.any(axis=1), within.argmax(axis=1), 0)
    lists = emission.integers(begin), emission.integers(begin + within.sum(axis=1))
    return f"for (int k{axis} = {lists[0]}[u{axis}]; k{axis} < {lists[1]}[u{axis}]; ++k{axis})"


def _store_channels(emission: Emission, space: _Space, sums: Sequence[str], start: int, count: int) -> None:
    """A register has a number of each of some channels, which lie a whole output apart."""
    for k, name in enumerate(sums):
        first = k * emission.lanes
        head = emission.loop("o", min(emission.lanes, count - first))
        emission.line(f"{head} q[({start + first} + o) * {space.outputs} + e] = {name}[o];")


def _conv_by_windows(emission: Emission, node: Operation) -> None:
    """Channel by channel, and place by place in the kernel, over all windows that have it on the input."""
    kernel = emission.tensors[node.weights["W"]]
    outputs, taken, *size = kernel.shape
    space = _Space(emission, node, size, node.dilations)
    images = emission.size(node.output) // (outputs * space.outputs)
    own, bias = outputs // node.group, emission.tensors[node.weights["B"]] if "B" in node.weights else None
    weights, table = emission.weights(kernel), "" if bias is None else emission.table(bias)
    with emission.braces(emission.loop("m", images * outputs)):
        emission.line(f"const int o = m % {outputs};")
        channels = f"m / {outputs} * {taken * node.group} + o / {own} * {taken}"
        emission.line(f"const float *p = {emission.at(node.inputs[0])} + ({channels}) * {space.inputs};")
        emission.line(f"float *q = {emission.at(node.output)} + m * {space.outputs};")
        emission.line(f"{emission.loop('e', space.outputs)} q[e] = {f'{table}[o]' if table else '0.0f'};")
        with emission.braces(emission.loop("c", taken)), _windows(emission, space) as place:
            emission.line(f"const float f = {weights.one(f'((o * {taken} + c) * {math.prod(size)} + {_tap(space)})')};")
            with place as (to, from_):
                emission.line(f"q[{to}] += f * p[c * {space.inputs} + {from_}];")


def pool(emission: Emission, node: Operation) -> None:
    """MaxPool, where padding does not count, and AveragePool, where it counts as 0."""
    space = _Space(emission, node, node.kernel, [1] * len(node.kernel))
    largest = node.op == "MaxPool"
    with emission.braces(emission.loop("m", emission.size(node.output) // space.outputs)):
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
    with emission.braces(emission.loop("k0", space.kernel[0])):  # noqa: SIM117
        with emission.braces(emission.loop("k1", space.kernel[1])):
            with emission.braces(emission.loop("k2", space.kernel[2])):
                yield _places(emission, space, ends)


@contextmanager
def _places(emission: Emission, space: _Space, ends: list[list[str]]) -> Iterator[tuple[str, str]]:
    heads = [f"for (int u{k} = {ends[k][0]}[k{k}]; u{k} < {ends[k][1]}[k{k}]; ++u{k})" for k in range(3)]
    at = [f"(u{k} * {space.strides[k]} + k{k} * {space.dilations[k]} - {space.pads[k]})" for k in range(3)]
    to = f"(u0 * {space.made[1]} + u1) * {space.made[2]} + u2"
    from_ = f"({at[0]} * {space.given[1]} + {at[1]}) * {space.given[2]} + {at[2]}"
    with emission.braces(heads[0]), emission.braces(heads[1]), emission.braces(heads[2]):
        yield to, from_
