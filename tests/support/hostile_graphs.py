"""Graphs that nobody exported: forged ones by name, and seeded mutations and random nodes, for one process to survive.

As a program, `hostile_graphs.py BUNDLE FOLDER COUNT SEED` signs so many changed graphs of a bundle again, loads and
steps each, and prints how often each thing happened as JSON. What the rules let pass must run, or be refused by its
self-test; "late" is what onnxruntime refused.
"""

from __future__ import annotations

import json
import random
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bundles import copied, resign
from onnx import TensorProto, helper, numpy_helper

from lnn_edge.bundle.onnx_operators import ATTRIBUTES

Change = Callable[[onnx.ModelProto], object]


def _last(model: onnx.ModelProto) -> str:
    """A float32 value (1, n) that each of our graphs makes."""
    return model.graph.output[-1].name


def _add(model: onnx.ModelProto, node: onnx.NodeProto, **constants: np.ndarray) -> None:
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.append(node)


def _node(operator: str, inputs: str = "*", outputs: str = "forged", /, **more: Any) -> Callable[..., None]:
    """A node behind the others; `*` among its inputs is the last output, `-` the empty name."""

    def change(model: onnx.ModelProto) -> None:
        names, made = (
            [{"*": _last(model), "-": ""}.get(name, name) for name in ends.split()] for ends in (inputs, outputs)
        )
        constants = {name: value for name, value in more.items() if isinstance(value, np.ndarray)}
        attributes = {name: value for name, value in more.items() if name not in constants}
        _add(model, helper.make_node(operator, names, made, **attributes), **constants)

    return change


def _whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _division(model: onnx.ModelProto) -> None:
    """The smallest int32 by -1: a signal that ends the process."""
    x, y = (np.array([n], np.int32) for n in (-(2**31), -1))
    _add(model, helper.make_node("Div", ["x", "y"], ["forged"]), x=x, y=y)


def _subgraph(operator: str, inputs: list[str], attribute: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        ends = [helper.make_tensor_value_info(n, TensorProto.INT64 if n == "i" else TensorProto.BOOL, []) for n in "ic"]
        again = [helper.make_tensor_value_info("again", TensorProto.BOOL, [])]
        body = helper.make_graph([helper.make_node("Identity", ["c"], ["again"])], "body", ends, again)
        more = {attribute: body} | ({"else_branch": body} if operator == "If" else {})
        _add(model, helper.make_node(operator, inputs, ["forged"], **more), turns=np.array(2**62), yes=np.array(True))

    return change


def _functions(model: onnx.ModelProto) -> None:
    """Each calls the next twice: 2^24 nodes once they are unfolded."""
    for k in range(24):
        callee = f"f{k + 1}" if k < 23 else "Abs"
        domain = "own" if k < 23 else ""
        nodes = [
            helper.make_node(callee, ["x"], ["y"], domain=domain),
            helper.make_node(callee, ["y"], ["z"], domain=domain),
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", f"f{k}", ["x"], ["z"], nodes, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    _add(model, helper.make_node("f0", [_last(model)], ["forged"], domain="own"))


def _external(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "/etc/passwd", "offset": "0", "length": "64"}.items():
        tensor.external_data.add(key=key, value=value)


def _external_in_an_attribute(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="*/_ORT_MEM_ADDR_/*")
    _add(model, helper.make_node("Constant", [], ["forged"], value=tensor))


def _sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(_whole(1 << 40)), [1 << 41])
    )


def _grow(model: onnx.ModelProto) -> None:
    """Each node doubles the value before it."""
    name = _last(model)
    for k in range(60):
        _add(model, helper.make_node("Concat", [name, name], [f"twice_{k}"], axis=1))
        name = f"twice_{k}"


def _outer(model: onnx.ModelProto) -> None:
    """Two values of a megabyte, and their product of a terabyte."""
    rows, columns = (np.ones(shape, np.float32) for shape in ((1 << 18, 1), (1, 1 << 18)))
    _add(model, helper.make_node("Mul", ["rows", "columns"], ["forged"]), rows=rows, columns=columns)


def _hoard(model: onnx.ModelProto) -> None:
    """Values that are all within the limit, and a gigabyte together."""
    sizes = _whole(6_000_000, 1, 10)
    model.graph.initializer.append(numpy_helper.from_array(sizes, "sizes"))
    for k in range(5):
        _add(model, helper.make_node("Expand", [_last(model), "sizes"], [f"hoard_{k}"]))


def _toil(model: onnx.ModelProto) -> None:
    """Products that fit into memory and last for hours."""
    name = "square"
    _add(model, helper.make_node("Identity", [name], ["p"]), square=np.ones((2048, 2048), np.float32))
    for k in range(20):
        _add(model, helper.make_node("MatMul", [name, "p"], [f"power_{k}"]))
        name = f"power_{k}"


def _cycle(model: onnx.ModelProto) -> None:
    for a, b in (("one", "other"), ("other", "one")):
        _add(model, helper.make_node("Abs", [a], [b]))


def _dims(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [1 << 31, 1 << 31]


def _input(kind: int, shape: list[Any]) -> Change:
    return lambda model: model.graph.input.append(helper.make_tensor_value_info("forged", kind, shape))


def _many(model: onnx.ModelProto) -> None:
    name = _last(model)
    model.graph.node.extend(helper.make_node("Abs", [name], [f"n{k}"]) for k in range(20_001))


def _opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def _domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "ai.onnx"


def _bool(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="b", data_type=TensorProto.BOOL, dims=[1], raw_data=b"\x07")
    model.graph.initializer.append(tensor)


# What a stranger may put into a graph, and a part of the message that refuses it.
FORGED: dict[str, tuple[Change, str]] = {
    "int32 minimum by -1": (_division, "not float, float16, int64 or bool"),
    "Max of nothing": (_node("Max", "* -"), "takes ''"),
    "LayerNormalization without bias": (
        _node("LayerNormalization", "* s -", axis=-1, epsilon=1e-5, s=np.ones(2, np.float32)),
        "takes ''",
    ),
    "an output without a name": (
        _node("Split", "* s", "- -", axis=1, s=_whole(5, 5)),
        "the name '' is empty",
    ),
    "RandomNormal": (_node("RandomNormal", "", shape=[1 << 20]), "an operator that no step uses"),
    "Loop": (_subgraph("Loop", ["turns", "yes"], "body"), "holds field 6"),
    "If": (_subgraph("If", ["yes"], "then_branch"), "holds field 6"),
    "functions": (_functions, "`opset_import`|field 25"),
    "a function of the empty domain": (lambda m: m.functions.add(name="Abs"), "field 25"),
    "ConstantOfShape": (_node("ConstantOfShape", "s", s=_whole(1 << 30)), "an operator that no step uses"),
    "Expand": (_node("Expand", "* s", s=_whole(1 << 26, 1, 10)), "elements"),
    "Expand with negative sizes": (_node("Expand", "* s", s=_whole(-1, 2)), "shape"),
    "Reshape to -1": (_node("Reshape", "* s", s=_whole(-1)), "shape"),
    "Reshape by a value": (_node("Reshape", "* *"), "is no constant"),
    "an external tensor": (_external, "field 1[34]"),
    "an external tensor in an attribute": (_external_in_an_attribute, "field 5"),
    "a sparse tensor": (_sparse, "field 15"),
    "doubling": (_grow, "elements"),
    "an outer product": (_outer, "elements"),
    "a hoard": (_hoard, "elements together"),
    "toil": (_toil, "multiplications"),
    "a cycle": (_cycle, "not made before it"),
    "huge dimensions": (_dims, "elements"),
    "a huge input": (_input(TensorProto.FLOAT, [1 << 40, 1 << 40]), "elements"),
    "an input of a size with a name": (_input(TensorProto.FLOAT, ["rows"]), "holds field 2"),
    "an input of text": (_input(TensorProto.STRING, [1]), "has type 8"),
    "an input of doubles": (_input(TensorProto.DOUBLE, [1]), "has type 11"),
    "arithmetic on whole numbers": (_node("Add", "a a", a=_whole(1)), "operands of types"),
    "Cast to whole numbers": (_node("Cast", "*", to=TensorProto.INT64), "from type 1 to 7"),
    "Cast to text": (_node("Cast", "*", to=TensorProto.STRING), "from type 1 to 8"),
    "Cast of whole constants": (_node("Cast", "a", to=TensorProto.FLOAT, a=_whole(1)), "from type 7"),
    "an index outside": (_node("Gather", "* i", axis=1, i=_whole(1 << 40)), "indices outside"),
    "a negative index": (_node("Gather", "* i", axis=1, i=_whole(-3)), "indices outside"),
    "GatherElements outside": (_node("GatherElements", "* i", axis=1, i=_whole(99)[None]), "indices outside"),
    "Slice backwards": (
        _node("Slice", "* a b c d", a=_whole(9), b=_whole(-9), c=_whole(1), d=_whole(-1)),
        "of axis 1",
    ),
    "Slice by nothing": (
        _node("Slice", "* a b c d", a=_whole(0), b=_whole(1), c=_whole(1), d=_whole(0)),
        "of axis 1",
    ),
    "Split in negative pieces": (_node("Split", "* s", "u v", axis=1, s=_whole(-1, 3)), "in pieces"),
    "a pool without strides": (_node("MaxPool", "*", kernel_shape=[1 << 40]), "attributes"),
    "a convolution of another rank": (
        _node(
            "Conv",
            "* w",
            dilations=[1],
            group=1,
            kernel_shape=[1],
            pads=[0, 0],
            strides=[1],
            w=np.ones((1, 1, 1), np.float32),
        ),
        "strides or group|a kernel|expected",
    ),
    "a group of 0": (
        _node(
            "Conv",
            "* w",
            dilations=[1],
            group=0,
            kernel_shape=[1],
            pads=[0, 0],
            strides=[1],
            w=np.ones((1, 1, 1), np.float32),
        ),
        "group",
    ),
    "an attribute of another type": (_node("Softmax", "*", axis=1.0), "attribute `axis`"),
    "an axis outside": (_node("Softmax", "*", axis=7), "axis 7"),
    "an attribute too many": (_node("Relu", "*", alpha=1.0), "attributes"),
    "a training info": (lambda m: m.training_info.add(), "field 20"),
    "a quantization": (lambda m: m.graph.quantization_annotation.add(), "field 14"),
    "a name twice": (_node("Abs", "*", "*"), "made twice"),
    "many nodes": (_many, "more than 20000"),
    "another opset": (_opset, "opset 18"),
    "a domain": (_domain, "field 7"),
    "a truth that is neither": (_bool, "neither true nor false"),
    "an output that nothing makes": (
        lambda m: m.graph.output.append(helper.make_tensor_value_info("none", TensorProto.FLOAT, [1, 1])),
        "no node makes output",
    ),
    "an output of another shape": (
        lambda m: m.graph.output[-1].CopyFrom(helper.make_tensor_value_info(_last(m), TensorProto.FLOAT, [1, 1 << 20])),
        "shape that it is said to have",
    ),
}


def forged(data: bytes, name: str) -> bytes:
    """A graph with one of the changes."""
    model = onnx.load_from_string(data)
    FORGED[name][0](model)
    return model.SerializeToString()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A graph with some bytes changed, put in, taken out or copied to another place."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place, length = rng.randrange(len(changed)), rng.choice((1, 2, 5, 40))
        kind = rng.randrange(4)
        if kind == 0:
            changed[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 1:
            changed[place:place] = rng.randbytes(length)
        elif kind == 2:
            del changed[place : place + length]
        else:
            start = rng.randrange(len(changed))
            changed[place : place + length] = changed[start : start + length]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def with_random_nodes(data: bytes, rng: random.Random) -> bytes:
    """A graph with nodes of our own operators, their operands, attributes and constants drawn at random."""
    model = onnx.load_from_string(data)
    graph = model.graph
    names = [value.name for value in graph.input] + [name for node in graph.node for name in node.output]
    for k in range(rng.choice((1, 2, 4))):
        operator = rng.choice(sorted(ATTRIBUTES))
        operands = [rng.choice([*names, _constant(model, rng)]) for _ in range(rng.choice((1, 1, 2, 2, 3, 5)))]
        outputs = [f"random_{k}.{n}" for n in range(rng.choice((1, 1, 1, 2)))]
        attributes = {name: _attribute(name, rng) for name in sorted(ATTRIBUTES[operator])}
        graph.node.append(helper.make_node(operator, operands, outputs, **attributes))
        names += outputs
    return model.SerializeToString()


def _constant(model: onnx.ModelProto, rng: random.Random) -> str:
    name = f"random_constant_{len(model.graph.initializer)}"
    shape = rng.choice(((), (1,), (2,), (3,), (1, 2), (1, 3), (2, 2), (1, 1, 3)))
    numbers = [rng.choice((0, 1, 1, 2, 3, -1, 2**31, 2**62)) for _ in range(int(np.prod(shape)))]
    array = np.array(numbers, np.int64).reshape(shape)
    kind = rng.choice((np.int64, np.float32, np.float16, np.bool_))
    with np.errstate(over="ignore"):
        model.graph.initializer.append(numpy_helper.from_array(array.astype(kind), name))
    return name


def _attribute(name: str, rng: random.Random) -> object:
    if name in ("alpha", "beta", "epsilon"):
        return rng.choice((0.0, 1.0, -1.0, 1e30, float("nan")))
    if name in ("axis", "group", "keepdims", "to"):
        return rng.choice((0, 1, 1, 2, 10, -1, 2**31, -(2**63)))
    return [rng.choice((0, 0, 1, 1, 2, -1, 2**31)) for _ in range(rng.choice((1, 2, 2, 4)))]


def _outcome(bundle: Path) -> str:
    import lnn_edge
    from lnn_edge.errors import BundleError, LnnEdgeError

    try:
        lnn_edge.load(bundle, backend="onnxruntime")
    except BundleError as error:
        return "BundleError" if "cannot be loaded: " in str(error) and "lnn-edge writes" in str(error) else "late"
    except LnnEdgeError as error:
        return type(error).__name__
    return "loaded"


def main(source: str, folder: str, count: str, seed: str) -> None:
    """See the module's docstring."""
    rng, bundle = random.Random(int(seed)), copied(Path(source), Path(folder) / "m.lnn")
    data = (bundle / "model.onnx").read_bytes()
    happened: Counter[str] = Counter()
    for k in range(int(count)):
        make = (mutated, with_random_nodes)[k % 2]
        (bundle / "model.onnx").write_bytes(make(data, rng))
        happened[_outcome(resign(bundle))] += 1
    print(json.dumps(happened))


def field(number: int, value: bytes | int | float) -> bytes:
    """One field as it stands in a file."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    """A number in groups of seven bits."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


if __name__ == "__main__":
    main(*sys.argv[1:])
