"""A step program with every core and most kinds of operation, as plain JSON and tensors that tests may change."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
from safetensors.numpy import save

from lnn_edge.bundle.program import StepProgram
from lnn_edge.bundle.program_file.reading import decode_program

__all__ = ["assert_same", "decoded", "everything", "files_of", "node_of", "single"]

Plain = dict[str, Any]
Tensors = dict[str, np.ndarray]


def everything() -> tuple[Plain, Tensors]:
    """The program, anew each time."""
    return copy.deepcopy(_TEXT), {name: value.copy() for name, value in _TENSORS.items()}


def files_of(text: Plain, tensors: Tensors) -> tuple[bytes, bytes]:
    """The two files."""
    return json.dumps(text).encode(), save(tensors)


def decoded(text: Plain, tensors: Tensors) -> StepProgram:
    """As it is read from the files."""
    return decode_program(*files_of(text, tensors))


def assert_same(got: StepProgram, expected: StepProgram) -> None:
    """To the bit."""
    assert got.program == expected.program
    assert sorted(got.tensors) == sorted(expected.tensors)
    for name, tensor in expected.tensors.items():
        assert (got.tensors[name].dtype, got.tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert got.tensors[name].tobytes() == tensor.tobytes()


def node_of(text: Plain, made: str) -> Plain:
    """The node that makes a value, or the core of this name."""
    (found,) = [node for node in text["nodes"] if made in (node.get("output"), node.get("name"))]
    return found


def single(
    op: str,
    *shapes: tuple[int, ...],
    weights: Tensors | None = None,
    result: tuple[int, ...] = (),
    truths: int = 0,
    truth: bool = False,
    **attributes: Any,
) -> tuple[Plain, Tensors]:
    """One operation on the inputs a, b, ...; its result is the output.

    Args:
        op: The operation.
        shapes: Of the inputs, for one row.
        weights: Its tensors, by their names in ONNX.
        result: The shape of the output.
        truths: How many inputs, from the first, it takes as true or false: whether they are above 0.
        truth: Whether it makes what is true or false: 1 or 0 at the output.
        attributes: The others.
    """
    names, tensors = list("abc"[: len(shapes)]), {**(weights or {}), "zero": np.zeros(()), "one": np.ones(())}
    taken = [f"{name} > 0" if place < truths else name for place, name in enumerate(names)]
    nodes = [_node("Greater", "", f"{name} > 0") | {"inputs": [name, "zero"]} for name in names[:truths]]
    own = {"weights": {name: name for name in weights}} if weights else {}
    nodes.append({"op": op, "inputs": taken, "output": "made", **own, **attributes})
    if truth:
        nodes.append(_node("Where", "made one zero", "number"))
    used = {name for node in nodes for name in (*node["inputs"], *node.get("weights", ()))}
    text = {
        "schema": _TEXT["schema"],
        "inputs": [{"name": name, "shape": list(shape)} for name, shape in zip(names, shapes, strict=True)],
        "elapsed": {"name": "elapsed", "value": 1.0},
        "states": [],
        "nodes": nodes,
        "outputs": [{"name": "output", "value": "number" if truth else "made", "shape": list(result)}],
    }
    return copy.deepcopy(text), {name: value for name, value in tensors.items() if name in used}


def _node(op: str, inputs: str, output: str, **more: Any) -> Plain:
    return {"op": op, "inputs": inputs.split(), "output": output, **more}


def _weights(**shapes: tuple[int, ...]) -> Tensors:
    draw = np.random.default_rng(0)
    return {name.replace("__", "."): draw.uniform(0.1, 0.9, shape) for name, shape in shapes.items()}


def _synapses(part: str, *pairs: tuple[int, int]) -> Tensors:
    values = _weights(**{f"ltc__{part}__{name}": (len(pairs),) for name in ("w", "mu", "sigma", "erev")})
    ends = np.array(pairs, np.int32).reshape(-1, 2)
    return values | {f"ltc.{part}.source": ends[:, 0].copy(), f"ltc.{part}.target": ends[:, 1].copy()}


def _stacked(name: str, gates: int) -> Tensors:
    rows = 2 * gates
    shapes = {"w_input": (rows, 2), "w_recurrent": (rows, 2), "b_input": (rows,), "b_recurrent": (rows,)}
    return _weights(**{f"{name}__{key}": shape for key, shape in shapes.items()})


def _names(core: str, *keys: str) -> Plain:
    return {key: f"{core}.{key}" for key in keys}


_STACKED = ("w_input", "w_recurrent", "b_input", "b_recurrent")
_SYNAPSES = ("source", "target", "w", "mu", "sigma", "erev")
_HEADS = {head: {"weight": f"cfc.{head}.weight", "bias": f"cfc.{head}.bias"} for head in ("ff1", "ff2", "ta", "tb")}

_TEXT: Plain = {
    "schema": {"name": "lnn-edge step", "version": 1},
    "inputs": [{"name": "image", "shape": [2, 6, 6]}, {"name": "speed", "shape": [4]}],
    "elapsed": {"name": "elapsed", "dt": "dt", "timespan_per_s": 20.0},
    "states": [
        {"name": "h_in", "shape": [3], "next": "ltc.next", "initial": "h.initial"},
        {"name": "g_in", "shape": [2], "next": "cfc.next"},
        {"name": "u_in", "shape": [2], "next": "gru.next"},
        {"name": "m_in", "shape": [2], "next": "lstm.next"},
        {"name": "c_in", "shape": [2], "next": "lstm.memory"},
        {"name": "r_in", "shape": [2], "next": "rnn.next"},
    ],
    "nodes": [
        _node(
            "Conv",
            "image",
            "conv",
            where="policy.py:7 conv",
            weights={"W": "conv.W", "B": "conv.B"},
            strides=[1, 1],
            pads=[1, 1, 1, 1],
            dilations=[1, 1],
        ),
        _node("Relu", "conv", "relu"),
        _node("MaxPool", "relu", "pool", kernel=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]),
        _node("ReduceMean", "pool", "mean", axes=[1, 2]),
        _node("Reshape", "mean", "flat", shape=[4]),
        _node("Concat", "flat speed", "both", axis=0),
        _node("Gather", "both", "picked", axis=0, weights={"indices": "picks"}),
        _node("Slice", "picked", "cut", axis=0, start=1, stop=5, step=2),
        _node("Greater", "cut half", "high"),
        _node("Where", "high cut masked", "open"),
        _node("Max", "open half", "least"),
        _node("Softmax", "least", "soft", axis=0),
        _node("Expand", "soft", "wide", shape=[3, 2]),
        _node("Transpose", "wide", "turned", perm=[1, 0]),
        _node("MatMul", "wide turned", "square"),
        _node("Reshape", "square", "nine", shape=[9]),
        _node("Gemm", "nine", "gemm", weights={"B": "gemm.B", "C": "gemm.C"}),
        _node("LayerNormalization", "gemm", "norm", epsilon=1e-5, weights={"scale": "norm.scale", "bias": "norm.bias"}),
        _node("HardSigmoid", "norm", "gate", alpha=0.2, beta=0.5),
        {
            "op": "ltc",
            "name": "ltc",
            "where": "policy.py:9 ltc",
            "input": "gate",
            "state": "h_in",
            "elapsed": "elapsed",
            "output": "ltc.out",
            "next": "ltc.next",
            "units": 3,
            "motor": 2,
            "unfolds": 4,
            "epsilon": 1e-8,
            **_names("ltc", "cm", "gleak", "vleak"),
            "sensory": _names("ltc.sensory", *_SYNAPSES),
            "synapses": _names("ltc.synapses", *_SYNAPSES),
            "input_map": {"scale": "ltc.in.scale", "shift": "ltc.in.shift"},
            "output_map": {"scale": "ltc.out.scale"},
        },
        {
            "op": "cfc",
            "name": "cfc",
            "input": "ltc.out",
            "state": "g_in",
            "elapsed": "usual",
            "output": "cfc.out",
            "next": "cfc.next",
            "mode": "default",
            "activation": "tanh",
            "layers": [
                {
                    "backbone": [{"weight": "cfc.b.weight", "bias": "cfc.b.bias"}],
                    "ff1": _HEADS["ff1"],
                    "ff2": _HEADS["ff2"],
                    "time_a": _HEADS["ta"],
                    "time_b": _HEADS["tb"],
                }
            ],
        },
        {
            "op": "gru",
            "name": "gru",
            "input": "cfc.out",
            "state": "u_in",
            "next": "gru.next",
            **_names("gru", *_STACKED),
        },
        {
            "op": "lstm",
            "name": "lstm",
            "input": "gru.next",
            "state": "m_in",
            "next": "lstm.next",
            "memory": "c_in",
            "next_memory": "lstm.memory",
            **_names("lstm", *_STACKED),
        },
        {
            "op": "rnn",
            "name": "rnn",
            "input": "lstm.next",
            "state": "r_in",
            "next": "rnn.next",
            "nonlinearity": "tanh",
            **_names("rnn", *_STACKED),
        },
        _node("Atan", "norm", "angle"),
    ],
    "outputs": [
        {"name": "action", "value": "rnn.next", "shape": [2]},
        {"name": "room", "value": "angle", "shape": [4]},
    ],
}

_TENSORS: Tensors = {
    **_weights(conv__W=(4, 2, 3, 3), conv__B=(4,), gemm__B=(9, 4), gemm__C=(4,), norm__scale=(4,), norm__bias=(4,)),
    **_weights(ltc__cm=(3,), ltc__gleak=(3,), ltc__vleak=(3,), ltc__in__scale=(4,), ltc__in__shift=(4,)),
    **_weights(ltc__out__scale=(2,), h__initial=(3,), half=()),
    **_synapses("sensory", (0, 0), (1, 2), (3, 1)),
    **_synapses("synapses", (0, 1), (1, 2), (2, 0), (2, 2)),
    **_weights(cfc__b__weight=(5, 4), cfc__b__bias=(5,)),
    **{f"cfc.{head}.weight": np.linspace(-0.5, 0.5, 10).reshape(2, 5) + k for k, head in enumerate(_HEADS)},
    **{f"cfc.{head}.bias": np.linspace(-0.1, 0.1, 2) * k for k, head in enumerate(_HEADS)},
    **_stacked("gru", 3),
    **_stacked("lstm", 4),
    **_stacked("rnn", 1),
    "picks": np.array([7, 0, 3, 3, 5], np.int32),
    "masked": np.full(2, -np.inf),
    "usual": np.ones(1),
}
