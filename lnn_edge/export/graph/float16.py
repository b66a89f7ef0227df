"""Half precision: a finished float32 step with its weights and inner arithmetic in float16.

Inputs, outputs and states stay float32, and so does what half cannot carry: the nodes that a lowering marks as exact
(sums that go on over steps, such as the solver of an LTC and the memory of an LSTM) and the operators in `_WIDE`, whose
range or accumulation float16 would break. `Sigmoid`, `Tanh` and `Softplus` are operators of their own, never written
with an exponential, which overflows in half from 11.1 on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ...wording import chosen

__all__ = ["halved"]

_WIDE = frozenset({"Div", "Exp", "LayerNormalization", "Log", "LogSoftmax", "Pow", "ReduceMean", "Softmax", "Sqrt"})
_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_LOGIC = frozenset({"And", "Not", "Or"})
_MOVES = frozenset(  # no arithmetic: they keep the type of what they move, so that the largest equals one of the values
    {"Concat", "Expand", "GatherElements", "Identity", "ReduceMax", "ReduceMin", "Reshape", "Slice", "Split"}
    | {"Transpose", "Unsqueeze"}
)
_LARGEST = float(np.finfo(np.float16).max)


def halved(
    nodes: Sequence[NodeProto],
    initializers: Sequence[TensorProto],
    inputs: Sequence[str],
    outputs: Collection[str],
    exact: Collection[str],
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Rewrite a step in half precision.

    Args:
        nodes: All nodes in order.
        initializers: Their constants.
        inputs: Names of the graph's inputs, float32 or whole numbers, which a Cast takes.
        outputs: Names of the graph's outputs, which stay float32.
        exact: Names of the nodes that stay float32.

    Returns:
        Nodes, with Casts between the two types, and the constants that they use.

    Raises:
        ValueError: If a constant is too large for float16.
    """
    rewriting = _Rewriting(initializers, inputs, outputs)
    for node in nodes:
        rewriting.add(node, wide=node.name in exact or node.op_type in _WIDE)
    return rewriting.nodes, list(rewriting.used.values())


class _Rewriting:
    """Which type each value has, and the casts made so far."""

    def __init__(self, initializers: Sequence[TensorProto], inputs: Sequence[str], outputs: Collection[str]) -> None:
        self.nodes: list[NodeProto] = []
        self.used: dict[str, TensorProto] = {}
        self._constants = {constant.name: constant for constant in initializers}
        self._types = dict.fromkeys(inputs, TensorProto.FLOAT)
        self._outputs = outputs
        self._cast: dict[tuple[str, int], str] = {}

    def add(self, node: NodeProto, wide: bool) -> None:
        """Append a node with its operands in the type it computes in."""
        if node.op_type == "Cast":  # of whole numbers, the first that becomes of them
            self.nodes.append(node)
            self._types[node.output[0]] = TensorProto.FLOAT
            return
        kind = TensorProto.FLOAT if wide else TensorProto.FLOAT16
        result = kind
        if node.op_type in _COMPARISONS:  # in float32, so that the decision does not depend on the precision
            kind, result = TensorProto.FLOAT, TensorProto.BOOL
        elif node.op_type in _LOGIC:
            kind = result = TensorProto.BOOL
        elif node.op_type in _MOVES:
            given = [self._types[name] for name in node.input if name in self._types]
            kind = given[0] if len(set(given)) == 1 else kind
            result = kind
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [
            name if self._types.get(name) == TensorProto.BOOL else self._operand(name, kind) for name in node.input
        ]
        self.nodes.append(copy)
        for k, name in enumerate(node.output):
            self._types[name] = result
            if name in self._outputs and kind != TensorProto.FLOAT:
                inner = f"{name}.half"
                copy.output[k] = inner
                self._append_cast(inner, name, TensorProto.FLOAT)
                self._cast[name, kind] = inner
                self._types[name] = TensorProto.FLOAT

    def _operand(self, name: str, kind: int) -> str:
        if name in self._constants:
            return self._constant(self._constants[name], kind)
        if self._types[name] == kind:
            return name
        if (name, kind) not in self._cast:
            target = f"{name}.{'half' if kind == TensorProto.FLOAT16 else 'float'}"
            self._cast[name, kind] = target
            self._append_cast(name, target, kind)
        return self._cast[name, kind]

    def _append_cast(self, source: str, target: str, kind: int) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=kind))

    def _constant(self, constant: TensorProto, kind: int) -> str:
        if constant.data_type != TensorProto.FLOAT or kind == TensorProto.FLOAT:
            self.used[constant.name] = constant
            return constant.name
        name = f"{constant.name}.half"
        if name not in self.used:
            value = numpy_helper.to_array(constant)
            largest = float(np.abs(value[np.isfinite(value)]).max(initial=0.0))  # what is masked is infinite
            if largest > _LARGEST:
                raise ValueError(
                    f"a constant of the step is {largest:g}, more than a float16 can hold ({_LARGEST:g}). Scale the "
                    f"model's inputs and weights, or export with {chosen('precision', 'float32')}"
                )
            self.used[name] = numpy_helper.from_array(value.astype(np.float16), name)
        return name
