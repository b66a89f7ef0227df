"""The names of a finished graph: what makes an output bears its name, weights say what they are for.

A viewer then shows `rnn/unfold_0/sigmoid_7` where a number stood, and tools that name results after nodes find them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx

__all__ = ["named"]

# What operands are for, by operator and place, where they are constants that no lowering named.
_OPERANDS = {
    "Conv": ("input", "weight", "bias"),
    "Expand": ("input", "shape"),
    "Gather": ("input", "indices"),
    "GatherElements": ("input", "indices"),
    "Gemm": ("input", "weight", "bias"),
    "LayerNormalization": ("input", "scale", "bias"),
    "MatMul": ("left", "weight"),
    "ReduceSum": ("input", "axes"),
    "Reshape": ("input", "shape"),
    "Slice": ("input", "starts", "ends", "axes", "steps"),
    "Split": ("input", "sizes"),
    "Unsqueeze": ("input", "axes"),
    "Where": ("condition", "then", "else"),
}
_OTHERS = "constant"


def named(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    outputs: Collection[str],
    roles: Mapping[str, str],
) -> None:
    """Rename in place.

    Args:
        nodes: All nodes in order.
        constants: Their constants.
        outputs: Names of the graph's outputs.
        roles: What lowerings call constants, by the names that these have; others are called after the first node
            that takes them. A name in half precision is that of the constant and a suffix.
    """
    new = _named_constants(nodes, {constant.name for constant in constants}, roles)
    for constant in constants:
        constant.name = new[constant.name]
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = new.get(name, name)
        own = next((name for name in node.output if name in outputs), "")
        if own and len(node.output) == 1:
            node.name = own


def _named_constants(
    nodes: Sequence[onnx.NodeProto], constants: Collection[str], roles: Mapping[str, str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    taken = {name for node in nodes for name in node.output}
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in constants and name not in found:
                first, _, suffix = name.partition(".")
                wanted = roles.get(first) or f"{node.name}.{_role(node.op_type, place)}"
                found[name] = _free(f"{wanted}.{suffix}" if suffix else wanted, taken)
                taken.add(found[name])
    return found


def _role(operator: str, place: int) -> str:
    known = _OPERANDS.get(operator, ())
    return known[place] if place < len(known) else _OTHERS


def _free(wanted: str, taken: Collection[str]) -> str:
    """The name, with a number behind it if another constant has it."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name
