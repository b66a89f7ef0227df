"""The operators that a bundle's graph may hold, and the versions of ONNX that they need."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["OPERATORS", "VERSIONS", "lowest_versions"]

# (opset, IR version) of what graphs ask for: the lowest that has their operators, so that old runtimes read them too.
# The first is read by every onnxruntime from 1.6 on, the second by those from 1.12 on, both by TensorRT from 8.6 on.
VERSIONS = ((13, 7), (17, 8))
_SECOND = frozenset({"LayerNormalization"})  # operators that came with the second


def lowest_versions(operators: Iterable[str]) -> tuple[int, int]:
    """The lowest opset and IR version that have all of these operators."""
    return VERSIONS[1] if _SECOND.intersection(operators) else VERSIONS[0]


# What TensorRT 8.6 to 11 and onnxruntime all import, in the form used here: axes as constants, two-dimensional Gemm.
OPERATORS = frozenset(
    # liquid cores, with Cast for half precision
    {"Abs", "Add", "Cast", "Concat", "Div", "Erf", "Exp", "GatherElements", "Gemm", "Identity", "Mul", "ReduceSum"}
    | {"Relu", "Sigmoid", "Split", "Sub", "Tanh", "Unsqueeze"}
    # what surrounds them
    | {
        "Atan",
        "AveragePool",
        "Conv",
        "Cos",
        "Elu",
        "Expand",
        "Floor",
        "Gather",
        "HardSigmoid",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
    }
    | {"LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Neg", "Pow", "ReduceMax", "ReduceMean", "ReduceMin", "Reshape"}
    | {"Sin", "Slice", "Softmax", "Softplus", "Sqrt", "Transpose"}
    # what they decide
    | {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Where"}
)
