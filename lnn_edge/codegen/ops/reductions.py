"""Sums, means and extremes over axes, and shares along one."""

from __future__ import annotations

import math

from ...bundle.operations import Operation
from ..c_text import number
from ..emission import Emission
from ..loops import contiguous, nested

__all__ = ["reduction", "softmax"]

_STEP = {"ReduceSum": "{a} += {b};", "ReduceMean": "{a} += {b};"}
_STEP |= {"ReduceMax": "{a} = larger1({a}, {b});", "ReduceMin": "{a} = smaller1({a}, {b});"}
_FIRST = {"ReduceSum": "0.0f", "ReduceMean": "0.0f", "ReduceMax": "-INFINITY", "ReduceMin": "INFINITY"}


def reduction(emission: Emission, node: Operation) -> None:
    """ReduceSum, ReduceMean, ReduceMax, ReduceMin."""
    shape, own = emission.shape(node.inputs[0]), contiguous(emission.shape(node.inputs[0]))
    result, given = emission.shape(node.output), emission.at(node.inputs[0])
    kept = [0 if k in node.axes else stride for k, stride in enumerate(own)]
    inside = tuple(n if k in node.axes else 1 for k, n in enumerate(shape))
    with nested(emission, result, contiguous(result), kept) as (to, start):
        emission.line(f"float sum = {_FIRST[node.op]};")
        with nested(emission, inside, own) as (place,):
            emission.line(_STEP[node.op].format(a="sum", b=f"{given}[{start} + {place}]"))
        share = f" * {number(1.0 / math.prod(inside))}" if node.op == "ReduceMean" else ""
        emission.line(f"{emission.at(node.output)}[{to}] = sum{share};")


def softmax(emission: Emission, node: Operation) -> None:
    """Softmax and LogSoftmax; the largest is subtracted first, so that no exponential overflows."""
    shape, axis = emission.shape(node.output), node.axis
    count, behind = shape[axis], math.prod(shape[axis + 1 :])
    outer = (math.prod(shape[:axis]), behind)
    with nested(emission, outer, (count * behind, 1)) as (start,):
        emission.line(f"const float *p = {emission.at(node.inputs[0])} + {start};")
        emission.line(f"float *q = {emission.at(node.output)} + {start};")
        emission.line("float most = -INFINITY, sum = 0.0f;")
        head = emission.loop("j", count)
        emission.line(f"{head} most = larger1(most, p[j * {behind}]);")
        emission.line(f"{head} sum += (q[j * {behind}] = exp1(p[j * {behind}] - most));")
        if node.op == "Softmax":
            emission.line(f"{head} q[j * {behind}] /= sum;")
        else:
            emission.line(f"{head} q[j * {behind}] = p[j * {behind}] - most - log1(sum);")
