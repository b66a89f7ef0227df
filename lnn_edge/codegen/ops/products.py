"""Matrix products, and normalisation of layers."""

from __future__ import annotations

import math

import numpy as np

from ...bundle.operations import Operation
from ..c_text import number
from ..dense import Source, add_products, begin_sums
from ..emission import Emission
from ..loops import broadcast_strides, contiguous, nested

__all__ = ["gemm", "layer_normalization", "matmul"]


def gemm(emission: Emission, node: Operation) -> None:
    """A product with weights, row by row, some columns at a time."""
    matrix = emission.tensors[node.weights["B"]]
    inputs, width = matrix.shape
    bias = emission.tensors[node.weights["C"]] if "C" in node.weights else np.zeros(width)
    rows, most = emission.size(node.output) // width, emission.sums * emission.lanes
    given, result, padded = emission.at(node.inputs[0]), emission.at(node.output), emission.is_padded(node.output)
    with nested(emission, (rows,), (inputs,), (width,)) as (from_, to):
        for start in range(0, width, most):
            part = slice(start, start + most)
            with emission.braces():
                sums = begin_sums(emission, [bias[part]])
                add_products(emission, sums, [matrix[:, part].T], Source(f"({given} + {from_})", inputs))
                emission.store(f"{result} + {to} + {start}", sums[0], len(bias[part]), padded=padded)


def matmul(emission: Emission, node: Operation) -> None:
    """A product of two values; what comes before the last two axes broadcasts."""
    a, b = (emission.shape(name) for name in node.inputs)
    result = emission.shape(node.output)
    lead, (rows, width), depth = result[:-2], result[-2:], a[-1]
    sizes = [rows * width, rows * depth, depth * width]
    strides = [[stride * size for stride in broadcast_strides(own[:-2], lead)] for own, size in zip((a, b), sizes[1:])]  # noqa: B905
    strides = [[stride * sizes[0] for stride in contiguous(lead)], *strides]
    left, right = (emission.at(name) for name in node.inputs)
    with nested(emission, lead, *strides) as (to, first, second), emission.braces(emission.loop("i", rows)):
        target = f"{emission.at(node.output)}[{to} + i * {width} + j]"
        emission.line(f"{emission.loop('j', width)} {target} = 0.0f;")
        with emission.braces(emission.loop("d", depth)):
            emission.line(f"const float q = {left}[{first} + i * {depth} + d];")
            emission.line(f"{emission.loop('j', width)} {target} += q * {right}[{second} + d * {width} + j];")


def layer_normalization(emission: Emission, node: Operation) -> None:
    """Rows with mean 0 and variance 1, scaled and shifted."""
    width = emission.shape(node.output)[-1]
    rows, share = math.prod(emission.shape(node.output)[:-1]), number(1.0 / width)
    scale, bias = (emission.table(emission.tensors[node.weights[name]]) for name in ("scale", "bias"))
    head = emission.loop("j", width)
    with nested(emission, (rows,), (width,)) as (start,):
        emission.line(f"const float *p = {emission.at(node.inputs[0])} + {start};")
        emission.line(f"float *q = {emission.at(node.output)} + {start};")
        emission.line("float mean = 0.0f, square = 0.0f;")
        emission.line(f"{head} mean += p[j];")
        emission.line(f"mean *= {share};")
        emission.line(f"{head} square += (p[j] - mean) * (p[j] - mean);")
        emission.line(f"square = 1.0f / sqrtf(square * {share} + {number(node.epsilon)});")
        emission.line(f"{head} q[j] = (p[j] - mean) * square * {scale}[j] + {bias}[j];")
