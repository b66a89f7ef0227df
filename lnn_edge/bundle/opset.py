"""The operators that a bundle's graph may hold, and the versions of ONNX that they need."""

from __future__ import annotations

__all__ = ["IR_VERSION", "OPERATORS", "OPSET"]

# Opset 17 and IR 8 are the newest that every TensorRT parser from 8.6 on and every onnxruntime from 1.14 on reads.
OPSET, IR_VERSION = 17, 8


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
