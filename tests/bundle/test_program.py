"""Step programs as files: what is written comes back to the bit, and whatever is forged is refused by name."""

from __future__ import annotations

import json
import re
import struct
import tracemalloc

import numpy as np
import pytest
from bundles import manifest_of, resign
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import assert_same, decoded, everything, files_of, node_of, single

from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.operations import OPERATIONS
from lnn_edge.bundle.program_file.checks import MAX_CORES, MAX_NODES
from lnn_edge.bundle.program_file.reading import MAX_TEXT_BYTES, decode_program
from lnn_edge.bundle.program_file.weights import MAX_WEIGHTS_BYTES
from lnn_edge.bundle.spec import PROGRAM_JSON, PROGRAM_WEIGHTS
from lnn_edge.bundle.step_cores import CORES
from lnn_edge.errors import BundleError
from lnn_edge.reference.interpreter import Interpreter

# The same examples in every run.
FUZZ = settings(deadline=None, derandomize=True)


# ---- what is written ------------------------------------------------------------------------------------------------


def test_everything_comes_back():
    step = decoded(*everything())
    assert {node.kind for node in step.program.nodes} > set(CORES)
    assert_same(decode_program(*step.encode().values()), step)


def test_file_has_a_line_for_each_node():
    lines = decoded(*everything()).encode()[PROGRAM_JSON].decode().splitlines()
    assert sum(line.startswith('  {"') for line in lines) == len(everything()[0]["nodes"])


@pytest.mark.parametrize("value", [5e-324, 1.7976931348623157e308, 0.1, -0.0, 1 / 3])
def test_numbers_come_back_to_the_bit(value):
    text, tensors = everything()
    node_of(text, "gate")["alpha"], tensors["conv.B"][0] = value, value
    again = decode_program(*decoded(text, tensors).encode().values())
    (gate,) = [node for node in again.program.nodes if node.kind == "HardSigmoid"]
    assert struct.pack("d", gate.alpha) == struct.pack("d", value)
    assert again.tensors["conv.B"][:1].tobytes() == struct.pack("d", value)


# ---- what is forged -------------------------------------------------------------------------------------------------


def changed(made, **fields):
    return lambda text, tensors: node_of(text, made).update(fields)


def lost(made, *path):
    def change(text, tensors):
        node = node_of(text, made)
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]

    return change


def stored(name, value):
    return lambda text, tensors: tensors.update({name: np.asarray(value)})


def reshaped(name, *shape):
    return stored(name, np.ones(shape))


def at_the_top(key, value):
    return lambda text, tensors: text.update({key: value})


def within(key, place, **fields):
    return lambda text, tensors: text[key][place].update(fields)


def elapsed(**fields):
    return at_the_top("elapsed", {"name": "elapsed", **fields})


def first_last(text, tensors):
    text["nodes"].append(text["nodes"].pop(0))


def cycle(text, tensors):
    node_of(text, "relu")["inputs"] = ["flat"]


def nodes_of_a_kind(count):
    def change(text, tensors):
        text["nodes"] += [{"op": "Relu", "inputs": ["speed"], "output": f"r{k}"} for k in range(count)]

    return change


FORGED = {
    # names
    "operation-unknown": (changed("relu", op="Gelu"), r"node 1 is the operation 'Gelu', which a program does not have"),
    "operation-in-lower-case": (changed("relu", op="relu"), "node 1 is the operation 'relu'"),
    "operation-of-onnx-alone": (changed("relu", op="Loop"), "node 1 is the operation 'Loop'"),
    "operation-is-a-number": (changed("relu", op=3), r"Expected `str`, got `int` - at `\$\.op`"),
    "operand-undeclared": (changed("relu", inputs=["ghost"]), r"node 1 \(Relu relu\): 'ghost' is not declared"),
    "weight-undeclared": (changed("gemm", weights={"B": "ghost"}), r"\(Gemm gemm\): 'ghost' is not declared before"),
    "state-undeclared": (changed("rnn", state="ghost"), r"\(rnn rnn\): 'ghost' is not declared before"),
    "elapsed-undeclared": (changed("ltc", elapsed="ghost"), r"\(ltc ltc\): 'ghost' is not declared before"),
    "used-before-it-is-made": (first_last, r"node 0 \(Relu relu\): 'conv' is not declared before it is used"),
    "cycle": (cycle, r"node 1 \(Relu relu\): 'flat' is not declared before it is used"),
    "own-operand": (changed("relu", inputs=["relu"]), r"node 1 \(Relu relu\): 'relu' is not declared"),
    "value-doubled": (changed("relu", output="conv"), "the name 'conv' is declared twice"),
    "value-called-as-an-input": (changed("relu", output="image"), "the name 'image' is declared twice"),
    "value-called-as-a-state": (changed("relu", output="h_in"), "the name 'h_in' is declared twice"),
    "value-called-as-a-tensor": (changed("relu", output="conv.W"), r"the name 'conv\.W' is declared twice"),
    "value-called-as-the-time": (changed("relu", output="elapsed"), "the name 'elapsed' is declared twice"),
    "value-without-a-name": (changed("relu", output=""), "the name '' is declared twice, or empty"),
    "next-called-as-the-output": (
        changed("ltc", next="ltc.out"),
        r"\(ltc ltc\): the name 'ltc\.out' is declared twice",
    ),
    "input-doubled": (within("inputs", 1, name="image"), "the name 'image' is declared twice"),
    "output-doubled": (within("outputs", 1, name="action"), r"outputs must have names .*\['action', 'action'\]"),
    "output-without-a-name": (within("outputs", 1, name=""), "outputs must have names of their own"),
    # shapes
    "gemm-width": (reshaped("gemm.B", 8, 4), r"\(Gemm gemm\): 'gemm\.B' has shape \[8, 4\], expected \[9, any\]"),
    "gemm-bias": (reshaped("gemm.C", 5), r"'gemm\.C' has shape \[5\], expected \[4\]"),
    "gemm-axes": (reshaped("gemm.B", 9, 4, 1), r"'gemm\.B' has shape \[9, 4, 1\]"),
    "kernel": (reshaped("conv.W", 4, 3, 3, 3), r"'conv\.W' has shape \[4, 3, 3, 3\], expected \[any, 2, any, any\]"),
    "kernel-axes": (reshaped("conv.W", 4, 2, 3), r"'conv\.W' has shape \[4, 2, 3\]"),
    "kernel-larger-than-the-image": (reshaped("conv.W", 4, 2, 9, 3), r"a kernel larger than \[6, 6\]"),
    "kernel-of-size-0": (reshaped("conv.W", 4, 2, 0, 3), r"node 0 \(Conv conv\): its kernel, strides"),
    "no-channel": (reshaped("conv.W", 0, 2, 3, 3), r"\(Conv conv\): 'conv\.B' has shape \[4\], expected \[0\]"),
    "norm": (reshaped("norm.scale", 5), r"'norm\.scale' has shape \[5\], expected \[4\]"),
    "operands-do-not-broadcast": (reshaped("half", 3), r"node 8 \(Greater high\): operands \[\[2\], \[3\]\] do not"),
    "operand-without-elements": (reshaped("half", 0), r"'half' has shape \[0\], expected sizes above 0"),
    "matmul": (changed("square", inputs=["wide", "wide"]), r"\(MatMul square\): operands \[3, 2\] and \[3, 2\]"),
    "matmul-of-vectors": (changed("square", inputs=["soft", "soft"]), r"\(MatMul square\): operands \[2\] and \[2\]"),
    "concat": (changed("both", inputs=["flat", "mean"]), r"\(Concat both\): operands \[\[4\], \[4, 1, 1\]\] along"),
    "reshape": (changed("flat", shape=[5]), r"\(Reshape flat\): shape \[5\] of a value \[4, 1, 1\]"),
    "reshape-minus-one": (changed("flat", shape=[-1]), r"\(Reshape flat\): shape \[-1\]"),
    "reshape-negative-twice": (changed("flat", shape=[-2, -2]), r"\(Reshape flat\): shape \[-2, -2\]"),
    "expand": (changed("wide", shape=[3, 5]), r"\(Expand wide\): operands \[\[3, 5\], \[2\]\] do not broadcast"),
    "expand-to-less": (changed("wide", shape=[1]), r"\(Expand wide\): shape \[1\] of a value \[2\]"),
    "softmax-of-nothing": (changed("soft", axis=1), r"\(Softmax soft\): axis 1 of \[2\]"),
    "axis-negative": (changed("soft", axis=-1), r"\(Softmax soft\): axis -1 of \[2\]"),
    "axes-negative": (changed("mean", axes=[-1]), r"\(ReduceMean mean\): axes \[-1\]"),
    "axes-doubled": (changed("mean", axes=[1, 1]), r"\(ReduceMean mean\): axes \[1, 1\]"),
    "axes-none": (changed("mean", axes=[]), r"\(ReduceMean mean\): axes \[\]"),
    "perm-negative": (changed("turned", perm=[-1, 0]), r"\(Transpose turned\): perm \[-1, 0\]"),
    "perm-doubled": (changed("turned", perm=[0, 0]), r"\(Transpose turned\): perm \[0, 0\]"),
    "slice-beyond": (changed("cut", stop=6), r"\(Slice cut\): 1:6:2 of axis 0 of \[5\]"),
    "slice-negative": (changed("cut", start=-4), r"\(Slice cut\): -4:5:2"),
    "slice-backwards": (changed("cut", step=-2), r"\(Slice cut\): 1:5:-2"),
    "slice-empty": (changed("cut", start=5), r"\(Slice cut\): 5:5:2"),
    "step-0": (changed("cut", step=0), r"\(Slice cut\): 1:5:0"),
    "strides-0": (changed("pool", strides=[0, 2]), r"\(MaxPool pool\): its kernel, strides, pads or dilations"),
    "strides-negative": (changed("conv", strides=[1, -1]), r"\(Conv conv\): its kernel, strides"),
    "strides-of-four-axes": (changed("conv", strides=[1] * 4), r"\(Conv conv\): strides or group"),
    "pads-negative": (changed("conv", pads=[-1, 1, 1, 1]), r"\(Conv conv\): its kernel, strides"),
    "pads-too-few": (changed("conv", pads=[1, 1]), r"\(Conv conv\): its kernel, strides"),
    "pads-beyond-the-kernel": (changed("pool", pads=[2, 0, 0, 0]), r"\(MaxPool pool\): pads .* beyond half"),
    "dilations-0": (changed("conv", dilations=[0, 1]), r"\(Conv conv\): dilations \[0, 1\]"),
    "dilations-negative": (changed("conv", dilations=[1, -1]), r"\(Conv conv\): dilations \[1, -1\]"),
    "dilations-huge": (changed("conv", dilations=[1, 2**30]), r"\(Conv conv\): a kernel larger than \[6, 6\]"),
    "dilations-too-few": (changed("conv", dilations=[1]), r"\(Conv conv\): dilations \[1\]"),
    "group": (changed("conv", group=3), r"\(Conv conv\): 'conv\.W' has shape|group 3 of 2 channels"),
    "group-0": (changed("conv", group=0), r"\(Conv conv\): strides or group"),
    "kernel-0": (changed("pool", kernel=[0, 2]), r"\(MaxPool pool\): its kernel"),
    "kernel-without-axes": (changed("pool", kernel=[]), r"\(MaxPool pool\): kernel \[\]"),
    # cores
    "ltc-units": (changed("ltc", units=4), r"\(ltc ltc\): the state 'h_in' has shape \[3\], expected \[4\]"),
    "ltc-motor": (changed("ltc", motor=4), r"\(ltc ltc\): 4 motor neurons of 3"),
    "ltc-motor-0": (changed("ltc", motor=0), r"\(ltc ltc\): 0 motor neurons of 3"),
    "ltc-unfolds": (changed("ltc", unfolds=10**9), r"\(ltc ltc\): 1000000000 unfolds"),
    "ltc-unfolds-0": (changed("ltc", unfolds=0), r"\(ltc ltc\): 0 unfolds"),
    "ltc-vector": (reshaped("ltc.cm", 4), r"\(ltc ltc\): 'ltc\.cm' has shape \[4\], expected \[3\]"),
    "ltc-map": (reshaped("ltc.out.scale", 3), r"'ltc\.out\.scale' has shape \[3\], expected \[2\]"),
    "ltc-input-axes": (changed("ltc", input="mean"), r"\(ltc ltc\): 'mean' has shape \[4, 1, 1\], expected one axis"),
    "ltc-input-truth": (changed("ltc", input="high"), r"\(ltc ltc\): 'high' is not a number"),
    "synapses-of-other-length": (reshaped("ltc.synapses.w", 3), r"'ltc\.synapses\.w' has shape \[3\], expected \[4\]"),
    "targets-of-other-length": (
        stored("ltc.synapses.target", np.zeros(3, np.int32)),
        r"'ltc\.synapses\.target' and 'ltc\.synapses\.source' differ in length",
    ),
    "sources-in-two-axes": (
        stored("ltc.synapses.source", np.zeros((2, 2), np.int32)),
        r"'ltc\.synapses\.source' has shape \[2, 2\], expected one axis",
    ),
    "timespan-of-two": (reshaped("usual", 2), r"\(cfc cfc\): the timespan 'usual' has shape \[2\], expected \[1\]"),
    "cfc-without-layers": (changed("cfc", layers=[]), r"\(cfc cfc\): no layer"),
    "cfc-mode": (changed("cfc", mode="pure"), r"\(cfc cfc\): its parts are not those of mode 'pure'"),
    "cfc-mode-unknown": (changed("cfc", mode="own"), r"\(cfc\): Invalid enum value 'own'"),
    "cfc-head": (reshaped("cfc.tb.weight", 2, 6), r"'cfc\.tb\.weight' has shape \[2, 6\], expected \[2, 5\]"),
    "cfc-backbone": (reshaped("cfc.b.weight", 5, 3), r"'cfc\.b\.weight' has shape \[5, 3\], expected \[any, 4\]"),
    "gru-gates": (reshaped("gru.b_input", 7), r"\(gru gru\): 7 rows of weights for 3 gates"),
    "rnn-without-units": (reshaped("rnn.b_input", 0), r"\(rnn rnn\): 0 rows of weights for 1 gates"),
    "lstm-memory": (changed("lstm", memory="h_in"), r"\(lstm lstm\): the state 'h_in' has shape \[3\], expected \[2\]"),
    "lstm-weights": (reshaped("lstm.w_recurrent", 8, 3), r"'lstm\.w_recurrent' has shape \[8, 3\], expected \[8, 2\]"),
    "rnn-nonlinearity": (changed("rnn", nonlinearity="gelu"), r"\(rnn\): Invalid enum value 'gelu'"),
    # numbers
    "index-beyond": (stored("picks", np.array([8], np.int32)), r"\(Gather picked\): 'picks' holds 8, expected 0"),
    "index-negative": (stored("picks", np.array([-1], np.int32)), r"\(Gather picked\): 'picks' holds -1, expected"),
    "index-in-two-axes": (stored("picks", np.zeros((1, 1), np.int32)), r"'picks' has shape \[1, 1\], expected one"),
    "no-index": (stored("picks", np.zeros(0, np.int32)), r"'picked' has shape \[0\]"),
    "source-beyond": (
        stored("ltc.sensory.source", np.array([0, 4, 3], np.int32)),
        r"\(ltc ltc\): 'ltc\.sensory\.source' holds 4, expected 0 to 3",
    ),
    "target-negative": (
        stored("ltc.synapses.target", np.array([1, 2, 0, -1], np.int32)),
        r"'ltc\.synapses\.target' holds -1, expected 0 to 2",
    ),
    "weight-nan": (stored("conv.B", [1.0, np.nan, 0.0, 0.0]), r"the tensor 'conv\.B' holds a number that is not"),
    "weight-infinite": (stored("conv.B", [1.0, np.inf, 0.0, 0.0]), r"the tensor 'conv\.B' holds a number that is not"),
    "core-weight-infinite": (stored("ltc.cm", [1.0, np.inf, 1.0]), r"the tensor 'ltc\.cm' holds a number"),
    "initial-infinite": (stored("h.initial", [0.0, -np.inf, 1.0]), r"the tensor 'h\.initial' holds a number"),
    "operand-nan": (stored("masked", [np.nan, -np.inf]), "the tensor 'masked' holds a number that is not"),
    "weight-int32": (stored("conv.B", np.ones(4, np.int32)), r"'conv\.B' is int32, expected float64"),
    "operand-int32": (stored("half", np.ones((), np.int32)), "'half' is int32, expected float64"),
    "index-float64": (stored("picks", np.zeros(5)), "'picks' is float64, expected int32"),
    "whole-numbers-beyond-32-bits": (
        changed("cut", step=2**31),
        r"node 7 \(Slice\): Expected `int` <= 2147483647 - at `\$\.step`",
    ),
    "axis-of-a-thousand-digits": (changed("soft", axis=10**999), r"node \d+ \(Softmax\): Expected `int` <= 2147483647"),
    "expand-beyond-64-bits": (
        changed("wide", shape=[2**70, 2]),
        r"node \d+ \(Expand\): Expected `int` <= 2147483647 - at `\$\.shape\[0\]`",
    ),
    # tensors
    "tensor-unused": (stored("spare", np.ones(3)), "nothing uses the tensor 'spare'"),
    "tensor-missing": (lambda text, tensors: tensors.pop("conv.B"), r"\(Conv conv\): 'conv\.B' is not declared"),
    # fields
    "field-of-the-file": (at_the_top("subgraphs", []), "Object contains unknown field `subgraphs`"),
    "field-of-an-input": (within("inputs", 0, layout="NCHW"), "Object contains unknown field `layout`"),
    "field-of-an-operation": (changed("relu", code="x"), r"node 1 \(Relu\): Object contains unknown field `code`"),
    "field-of-a-core": (changed("ltc", axis=0), r"node \d+ \(ltc\): Object contains unknown field `axis`"),
    "field-of-synapses": (
        lambda text, tensors: node_of(text, "ltc")["sensory"].update(delay="half"),
        r"node \d+ \(ltc\): Object contains unknown field `delay`",
    ),
    "field-missing": (lost("ltc", "cm"), r"node \d+ \(ltc\): Object missing required field `cm`"),
    "field-of-synapses-missing": (lost("ltc", "sensory", "mu"), "Object missing required field `mu`"),
    "attribute-not-taken": (
        changed("relu", axis=1),
        r"\(Relu relu\): without \[\], with \['axis'\], which it does not",
    ),
    "weight-not-taken": (changed("relu", weights={"B": "half"}), r"\(Relu relu\): without \[\], with \['B'\]"),
    "weight-not-given": (lost("gemm", "weights", "B"), r"\(Gemm gemm\): without \['B'\]"),
    "operands-too-many": (changed("relu", inputs=["conv", "conv"]), r"\(Relu relu\): 2 operands, expected 1"),
    "operands-none": (changed("both", inputs=[]), r"\(Concat both\): 0 operands, expected 1"),
    "number-for-a-truth": (changed("open", inputs=["cut", "cut", "masked"]), "'cut' is not true or false"),
    "truth-for-a-number": (changed("least", inputs=["open", "high"]), "'high' is not a number"),
    "attribute-of-another-type": (changed("soft", axis="0"), r"Expected `int`, got `str` - at `\$\.axis`"),
    "attribute-with-a-fraction": (changed("soft", axis=0.5), r"Expected `int`, got `float` - at `\$\.axis`"),
    "null": (changed("soft", axis=None), r"Expected `int`, got `null` - at `\$\.axis`"),
    "norm-epsilon-negative": (changed("norm", epsilon=-1.0), r"\(LayerNormalization norm\): epsilon -1\.0"),
    "node-is-a-list": (lambda text, tensors: text["nodes"].append([]), "Expected `object`, got `array`"),
    "version-newer": (at_the_top("schema", {"name": "lnn-edge step", "version": 2}), r"has schema version 2, but this"),
    "version-newer-with-other-fields": (
        lambda text, tensors: text.update(schema={"version": 3, "kind": "?"}, graphs=[]),
        r"has schema version 3, but this lnn-edge reads up to 1\. Type: pip install --upgrade lnn-edge",
    ),
    "version-0": (
        at_the_top("schema", {"name": "lnn-edge step", "version": 0}),
        "has schema version 0, expected 1 to 1",
    ),
    "schema-of-another-file": (at_the_top("schema", {"name": "lnn-edge bundle"}), "Invalid enum value"),
    # ends
    "state-next-undeclared": (within("states", 1, next="ghost"), "state 'g_in': 'ghost' is not declared"),
    "state-next-of-another-shape": (
        within("states", 0, next="cfc.next"),
        r"state 'h_in' has shape \[3\], but its value 'cfc\.next' has \[2\]",
    ),
    "state-next-truth": (within("states", 1, next="high"), "state 'g_in' has shape .*, but its value 'high'"),
    "state-initial-undeclared": (within("states", 0, initial="ghost"), "state 'h_in': 'ghost' is not declared"),
    "state-initial-is-a-value": (within("states", 1, initial="soft"), "state 'g_in': 'soft' is not declared"),
    "state-initial-of-another-shape": (
        within("states", 1, initial="h.initial"),
        r"state 'g_in': 'h\.initial' has shape \[3\], expected \[2\]",
    ),
    "state-of-another-shape": (within("states", 0, shape=[4]), r"\(ltc ltc\): the state 'h_in' has shape \[4\]"),
    "state-without-axes": (within("states", 1, shape=[]), r"\(cfc cfc\): the state 'g_in' has shape \[\]"),
    "output-undeclared": (within("outputs", 0, value="ghost"), "output 'action': 'ghost' is not declared"),
    "output-of-another-shape": (within("outputs", 0, shape=[3]), r"output 'action' has shape \[3\], but its value"),
    "output-truth": (within("outputs", 0, value="high"), "output 'action' has shape .*, but its value 'high'"),
    "outputs-none": (at_the_top("outputs", []), "it has no input or no output"),
    "input-of-size-0": (within("inputs", 1, shape=[0]), r"'speed' has shape \[0\], expected sizes above 0"),
    "input-negative": (within("inputs", 1, shape=[-4]), r"'speed' has shape \[-4\], expected sizes above 0"),
    "input-float64": (within("inputs", 1, dtype="float64"), "Invalid enum value 'float64'"),
    "input-of-seventeen-axes": (within("inputs", 1, shape=[1] * 17), "'speed' has 17 axes, more than the 16"),
    # elapsed
    "elapsed-both": (elapsed(value=1.0, dt="dt", timespan_per_s=1.0), "`elapsed` has either a `value`, or `dt` and"),
    "elapsed-neither": (elapsed(), "`elapsed` has either a `value`, or `dt` and `timespan_per_s`"),
    "elapsed-half": (elapsed(dt="dt"), "`elapsed` has either"),
    "elapsed-other-half": (elapsed(timespan_per_s=1.0), "`elapsed` has either"),
    "elapsed-one-and-a-half": (elapsed(value=1.0, dt="dt"), "`elapsed` has either"),
    "elapsed-0": (elapsed(value=0.0), r"`elapsed` has the number 0\.0, expected one above 0"),
    "elapsed-negative": (elapsed(dt="dt", timespan_per_s=-20.0), r"`elapsed` has the number -20\.0"),
    "elapsed-from-an-input": (elapsed(dt="speed", timespan_per_s=1.0), "`elapsed` comes from 'speed', expected 'dt'"),
    "elapsed-called-as-an-input": (at_the_top("elapsed", {"name": "speed", "value": 1.0}), "the name 'speed' is"),
    # sizes
    "expand-huge": (changed("wide", shape=[2**25 + 1, 2]), r"'wide' has shape \[33554433, 2\]"),
    "input-huge": (within("inputs", 1, shape=[2**27]), r"'speed' has shape \[134217728\]"),
    "input-beyond-64-bits": (
        within("inputs", 1, shape=[2**80]),
        r"Expected `int` <= 2147483647 - at `\$\.inputs\[1\]\.shape\[0\]`",
    ),
    "pads-huge": (changed("conv", pads=[2**30, 1, 1, 1], strides=[2**31 - 1, 6]), r"\(Conv conv\): pads .* of \[2, 6"),
    "reshape-to-seventeen-axes": (changed("flat", shape=[1] * 16 + [4]), "'flat' has 17 axes"),
    "shape-of-many-axes": (changed("flat", shape=[1] * 65), r"node 4 \(Reshape\): Expected `array` of length <= 64"),
    "operands-of-many": (changed("both", inputs=["flat"] * 1025), r"node 5 \(Concat\): Expected `array` of length"),
    "inputs-of-many": (
        at_the_top("inputs", [{"name": f"i{k}", "shape": [1]} for k in range(1025)]),
        r"Expected `array` of length <= 1024 - at `\$\.inputs`",
    ),
    "nodes-401": (nodes_of_a_kind(MAX_NODES - 24), r"it has 401 nodes, more than the 400"),
    "indices-of-many": (
        stored("picks", np.zeros((1 << 20) + 1, np.int32)),
        r"'picks' has shape \[1048577\], more than",
    ),
    "quoted-in-part": (changed("relu", inputs=["x" * 100_000]), r"node 1 \(Relu relu\): 'x{100,480}\.\.\.$"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_program_is_refused(name):
    change, message = FORGED[name]
    text, tensors = everything()
    change(text, tensors)
    with pytest.raises(BundleError, match=message) as caught:
        decoded(text, tensors)
    assert str(caught.value).startswith("step.json is not a valid step program: ")


DTYPES = {
    "float32": (stored("conv.B", np.ones(4, np.float32)), "'conv.B' is 'F32'"),
    "bool": (stored("half", np.ones((), bool)), "'half' is 'BOOL'"),
    "int64": (stored("picks", np.zeros(5, np.int64)), "'picks' is 'I64'"),
}


@pytest.mark.parametrize("name", DTYPES)
def test_tensor_of_another_type_is_refused(name):
    change, message = DTYPES[name]
    text, tensors = everything()
    change(text, tensors)
    with pytest.raises(BundleError, match=rf"step\.safetensors is no .*: {message}, expected F64 or I32$"):
        decoded(text, tensors)


ALONE = {
    "pads-huge": (
        "MaxPool",
        [(1, 4)],
        {"kernel": [2], "strides": [1], "pads": [2**40, 0]},
        r"node 0 \(MaxPool\): Expected `int` <= 2147483647 - at `\$\.pads\[0\]`",
    ),
    "pads-of-a-conv": (
        "Conv",
        [(1, 4)],
        {"strides": [2**30], "pads": [2**31 - 1, 0], "dilations": [1], "weights": {"W": np.ones((1, 1, 1))}},
        r"pads \[2147483647, 0\] of \[1, 4\]",
    ),
    "dilations-0-of-one": (
        "Conv",
        [(1, 4)],
        {"strides": [1], "pads": [0, 0], "dilations": [0], "weights": {"W": np.ones((1, 1, 1))}},
        r"dilations \[0\]",
    ),
    "pool-of-four-axes": (
        "AveragePool",
        [(1,) * 5],
        {"kernel": [1] * 4, "strides": [1] * 4, "pads": [0] * 8},
        "kernel",
    ),
    "pool-without-channels": ("MaxPool", [(4,)], {"kernel": [2], "strides": [2], "pads": [0, 0]}, "kernel"),
    "softmax-of-a-number": ("Softmax", [()], {}, "axis 0 of"),
    "norm-of-a-number": (
        "LayerNormalization",
        [()],
        {"weights": {"scale": np.ones(1), "bias": np.ones(1)}},
        "operand",
    ),
    "gemm-of-a-number": ("Gemm", [()], {"weights": {"B": np.ones((1, 1))}}, "an operand without an axis"),
    "gemm-without-outputs": ("Gemm", [(4,)], {"weights": {"B": np.ones((4, 0))}}, "'made' has shape"),
}


@pytest.mark.parametrize("name", ALONE)
def test_forged_operation_is_refused(name):
    op, shapes, options, message = ALONE[name]
    with pytest.raises(BundleError, match=rf"node 0 \({op} made\): .*{message}|{message}"):
        decoded(*single(op, *shapes, **options))


def test_operand_may_be_infinite():
    """What is masked before a softmax is."""
    text, tensors = everything()
    assert np.isneginf(tensors["masked"]).all()
    decoded(text, tensors)


def test_operand_that_is_a_weight_too_may_not_be_infinite():
    text, tensors = single("LayerNormalization", (2,), weights={"scale": np.full(2, -np.inf), "bias": np.zeros(2)})
    text["nodes"].append({"op": "Max", "inputs": ["made", "scale"], "output": "masked"})
    text["outputs"] = [{"name": "output", "value": "masked", "shape": [2]}]
    with pytest.raises(BundleError, match="the tensor 'scale' holds a number that is not finite"):
        decoded(text, tensors)


# ---- the bytes ------------------------------------------------------------------------------------------------------


def encoded(described):
    return json.dumps(described).encode()


def header(described, data=b""):
    return forged_header(encoded(described), data)


def forged_header(described, data):
    return struct.pack("<Q", len(described)) + described + data


F64 = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
SECOND = {**F64, "data_offsets": [8, 16]}
TEXTS = {
    "empty": lambda text: b"",
    "junk": lambda text: b"\x00\x01\x02",
    "not-utf-8": lambda text: text.replace(b"policy.py", b"p\xfclicy"),
    "half-a-surrogate": lambda text: text.replace(b"policy.py", b"\\ud800"),
    "truncated": lambda text: text[:-2],
    "two-of-them": lambda text: text + text,
    "no-object": lambda text: b"[" + text + b"]",
    "not-a-number": lambda text: text.replace(b"1e-08", b"NaN"),
    "infinite": lambda text: text.replace(b"1e-08", b"Infinity"),
    "infinite-by-size": lambda text: text.replace(b"1e-08", b"1e999"),
    "infinite-by-digits": lambda text: text.replace(b"1e-08", b"9" * 400),
    "deep": lambda text: b'{"schema": ' + b"[" * 100_000,
    "deep-in-a-node": lambda text: text.replace(b'"policy.py:7 conv"', b"[" * 50_000 + b"]" * 50_000),
    "deep-in-a-shape": lambda text: text.replace(b"[2, 6, 6]", b"[" * 50_000 + b"]" * 50_000),
    "large": lambda text: text + b" " * MAX_TEXT_BYTES,
    "million-nodes": lambda text: text.replace(b'"nodes": [', b'"nodes": [' + b"{}, " * 1_000_000),
    "million-empty-nodes": lambda text: text.replace(b'"nodes": [', b'"nodes": [' + b"0," * 1_000_000),
}
WEIGHTS = {
    "empty": lambda data: b"",
    "junk": lambda data: b"junk" * 10,
    "truncated-header": lambda data: data[:100],
    "truncated": lambda data: data[:-1],
    "more-than-it-says": lambda data: data + b"\0",
    "huge-header": lambda data: struct.pack("<Q", 1 << 62) + data[8:],
    "header-of-two-megabytes": lambda data: struct.pack("<Q", 2 << 20) + b" " * (2 << 20),
    "many-tensors": lambda data: header({f"t{k}": {**F64, "shape": [0], "data_offsets": [0, 0]} for k in range(9000)}),
    "header-without-utf-8": lambda data: data[:8] + b"\xff" * (len(data) - 8),
    "bfloat16": lambda data: header({"half": {"dtype": "BF16", "shape": [], "data_offsets": [0, 2]}}, b"\0\0"),
    "unknown-dtype": lambda data: header({"half": {**F64, "dtype": "F65"}}, b"\0" * 8),
    "metadata": lambda data: header({"__metadata__": {"made": "elsewhere"}, "half": F64}, b"\0" * 8),
    "doubled-name": lambda data: forged_header(b'{"a":%b,"a":%b}' % (encoded(F64), encoded(SECOND)), b"\0" * 16),
    "gap": lambda data: header({"a": F64, "b": {**SECOND, "data_offsets": [16, 24]}}, b"\0" * 24),
    "one-twice": lambda data: header({"a": F64, "b": F64, "c": SECOND}, b"\0" * 16),
    "backwards": lambda data: header({"a": {**F64, "data_offsets": [8, 0]}}, b"\0" * 8),
    "from-before-the-data": lambda data: header({"a": {**F64, "data_offsets": [-8, 0]}}, b"\0" * 8),
    "overlapping": lambda data: header({"a": F64, "b": F64}, b"\0" * 8),
    "larger-than-the-file": lambda data: header({"half": {**F64, "shape": [1 << 40]}}, b"\0" * 8),
    "shape-beyond-64-bits": lambda data: header({"half": {**F64, "shape": [1 << 63, 2]}}, b"\0" * 8),
    "empty-and-huge": lambda data: header({"half": {"dtype": "F64", "shape": [0, 1 << 62], "data_offsets": [0, 0]}}),
    "too-large": lambda data: data + b"\0" * (MAX_WEIGHTS_BYTES + (1 << 20)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_program(name):
    text, weights = files_of(*everything())
    forged = TEXTS[name](text)
    assert forged != text
    with pytest.raises(BundleError, match=r"step\.json is not a valid step program: "):
        decode_program(forged, weights)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_no_safetensors(name):
    text, weights = files_of(*everything())
    forged = WEIGHTS[name](weights)
    assert forged != weights
    with pytest.raises(BundleError, match=r"step\.safetensors (is no safetensors file|has |holds )"):
        decode_program(text, forged)


def test_weights_are_read_in_place():
    """A forged file may be as large as it likes: it is refused without a copy of what it holds."""
    text, tensors = single("Gemm", (1,), weights={"B": np.zeros((1, 1 << 20))}, result=(1 << 20,))
    tensors["B"][0, -1] = np.nan
    files = files_of(text, tensors)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match="the tensor 'B' holds a number that is not finite"):
            decode_program(*files)
        assert tracemalloc.get_traced_memory()[1] < tensors["B"].nbytes / 8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("values", [[1e308, 1e308], [1e308, 1e308, -1e308, -1e308, -1e308], [-1.7e308] * 3])
def test_weights_whose_sum_overflows_are_sound(values):
    text, tensors = single("Gemm", (1,), weights={"B": np.array([values])}, result=(len(values),))
    np.testing.assert_array_equal(decoded(text, tensors).tensors["B"], [values])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, (1 << 15) - 1, 1 << 15, (1 << 16) + 6])
def test_number_that_is_not_finite_is_found_wherever_it_stands(place, value):
    weight = np.full((1, (1 << 16) + 7), 1e308)
    weight[0, place] = value
    with pytest.raises(BundleError, match="the tensor 'B' holds a number that is not finite"):
        decoded(*single("Gemm", (1,), weights={"B": weight}, result=weight.shape[1:]))


def test_more_cores_than_a_program_may_have():
    text, tensors = everything()
    text["nodes"] += [node_of(text, "ltc") | {"output": f"out{k}", "next": f"next{k}"} for k in range(MAX_CORES)]
    with pytest.raises(BundleError, match="it has 69 cores, more than the 64 that a program may have"):
        decoded(text, tensors)


def test_more_weights_than_a_program_may_have():
    width = MAX_WEIGHTS_BYTES // 8 + 1
    text, tensors = single("Gemm", (1,), weights={"B": np.zeros((1, width))}, result=(width,))
    with pytest.raises(BundleError, match=r"step\.safetensors holds 67108872 bytes of tensors, more than the 67108864"):
        decoded(text, tensors)


# ---- beside the manifest --------------------------------------------------------------------------------------------


def forged_in(bundle, change):
    """The bundle with its program changed, and signed again."""
    text, tensors = json.loads((bundle / PROGRAM_JSON).read_text()), decode_program(*files(bundle)).tensors
    tensors = {name: value.copy() for name, value in tensors.items()}
    change(text, tensors)
    for name, data in zip((PROGRAM_JSON, PROGRAM_WEIGHTS), files_of(text, tensors), strict=True):
        (bundle / name).write_bytes(data)
    return resign(bundle)


def files(bundle):
    return [(bundle / name).read_bytes() for name in (PROGRAM_JSON, PROGRAM_WEIGHTS)]


def starting_elsewhere(text, tensors):
    text["states"][0]["initial"], tensors["start"] = "start", np.full(text["states"][0]["shape"], 0.5)


BESIDE = {
    "input-renamed": (
        lambda text, tensors: text.update(
            json.loads(json.dumps(text).replace('"input"', '"x"').replace('"x":', '"input":'))
        ),
        "inputs are .*'x'.* in the program, .*'input'.* in the manifest",
    ),
    "input-more": (
        lambda text, tensors: text["inputs"].append({"name": "more", "shape": [1]}),
        "inputs are .*'more'.* in the program",
    ),
    "output-renamed": (within("outputs", 0, name="y"), "outputs are .*'y'.* in the program"),
    "output-lost": (
        lambda text, tensors: text["outputs"].append({**text["outputs"][0], "name": "twin"}),
        "outputs are .*'twin'.* in the program",
    ),
    "state-renamed": (
        lambda text, tensors: text.update(json.loads(json.dumps(text).replace('"h_in"', '"g_in"'))),
        "states are .*'g_in'.* in the program",
    ),
    "time-measured": (
        elapsed(dt="dt", timespan_per_s=50.0),
        "time is fixed in the manifest, and not in the program",
    ),
    "timespan": (elapsed(value=2.0), r"`elapsed` has 2\.0 in the program, expected 1\.0"),
    "initial-state": (starting_elsewhere, "'h_in' does not start in the program from what the manifest says"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_program_of_another_manifest(cfc_copy, name):
    change, message = BESIDE[name]
    with pytest.raises(BundleError, match=rf"gait\.lnn': step\.json and manifest\.json differ: {message}"):
        read_bundle(forged_in(cfc_copy, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (elapsed(value=1.0), "time is measured in the manifest, and not in the program"),
        (elapsed(dt="dt", timespan_per_s=11.0), r"`elapsed` has 11\.0 in the program, expected 10\.0"),
    ],
    ids=["fixed", "scale"],
)
def test_program_of_another_measured_time(ltc_copy, change, message):
    with pytest.raises(BundleError, match=message):
        read_bundle(forged_in(ltc_copy, change))


def test_same_program_written_another_way_is_taken(cfc_copy):
    read_bundle(forged_in(cfc_copy, lambda text, tensors: None)).program()


@pytest.mark.parametrize("missing", [PROGRAM_JSON, PROGRAM_WEIGHTS])
def test_schema_2_without_its_program(cfc_copy, missing):
    entries = {name: entry for name, entry in manifest_of(cfc_copy).files.items() if name != missing}
    with pytest.raises(BundleError, match=r"manifest\.json is inconsistent: `files` lists .*, expected .*step\.json"):
        read_bundle(resign(cfc_copy, files=entries))


def test_schema_1_with_a_program(cfc_copy):
    manifest = manifest_of(cfc_copy)
    old = type(manifest.schema)(version=1)
    with pytest.raises(BundleError, match=r"manifest\.json is inconsistent: `files` lists .*step\.safetensors"):
        read_bundle(resign(cfc_copy, schema=old))


def test_schema_1_has_no_program(cfc_copy):
    manifest = manifest_of(cfc_copy)
    kept = {name: entry for name, entry in manifest.files.items() if name not in (PROGRAM_JSON, PROGRAM_WEIGHTS)}
    bundle = read_bundle(resign(cfc_copy, schema=type(manifest.schema)(version=1), files=kept))
    with pytest.raises(BundleError, match=r"has schema 1, which holds no step program\. Export it again: lnn-edge exp"):
        bundle.program()


# ---- anything -------------------------------------------------------------------------------------------------------


def places_in(value, path=()):
    """Paths to all values within."""
    yield path
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_in(part, (*path, key))


def held_at(value, path):
    for key in path:
        value = value[key]
    return value


NUMBERS = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 4, 5, 7, 1000, 2**31 - 1, 2**31, 2**40, 2**63, 2**64, 10**30])
FLOATS = st.sampled_from([-1e308, -1.0, -0.0, 0.0, 5e-324, 0.5, 1e-8, 1e308])
TEXT, TENSORS = everything()
NAMES = sorted({held_at(TEXT, path) for path in places_in(TEXT) if isinstance(held_at(TEXT, path), str)})
ANYTHING = st.one_of(
    NUMBERS, FLOATS, st.sampled_from([*NAMES, *OPERATIONS, ""]), st.none(), st.booleans(), st.lists(NUMBERS, max_size=5)
)


def mutated(data, text):
    """One value changed, removed or doubled."""
    path = data.draw(st.sampled_from([path for path in places_in(text) if path]))
    parent, key = held_at(text, path[:-1]), path[-1]
    kind = data.draw(st.sampled_from(["change", "change", "change", "remove", "double", "swap"]))
    if kind == "remove":
        del parent[key]
    elif kind == "double" and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif kind == "swap" and isinstance(parent, list) and len(parent) > 1:
        parent[key], parent[key - 1] = parent[key - 1], parent[key]
    else:
        same = {str: st.sampled_from(NAMES), int: NUMBERS, float: FLOATS}.get(type(parent[key]), ANYTHING)
        parent[key] = data.draw(st.one_of(same, same, ANYTHING))


def other_tensor(data, tensors):
    """One tensor with another shape, dtype or number."""
    name = data.draw(st.sampled_from(sorted(tensors)))
    kind = data.draw(st.sampled_from(["number", "shape", "dtype", "remove", "double"]))
    value = tensors[name].copy()
    if kind == "remove":
        del tensors[name]
    elif kind == "double":
        tensors[f"{name}.twin"] = value
    elif kind == "dtype":
        dtype = data.draw(st.sampled_from([np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_, np.float64]))
        with np.errstate(all="ignore"):
            tensors[name] = value.astype(dtype)
    elif kind == "shape":
        shape = data.draw(st.lists(st.integers(0, 5), max_size=4))
        tensors[name] = np.resize(value, shape)
    elif value.size and value.dtype in (np.int32, np.float64):
        whole = value.dtype == np.int32
        extreme = [-(2**31), -1, 0, 2, 3, 7, 8, 2**31 - 1] if whole else [np.nan, np.inf, -np.inf, -1e308, 0.0, 1e308]
        value.flat[data.draw(st.integers(0, value.size - 1))] = data.draw(st.sampled_from(extreme))
        tensors[name] = value


def step_or_refuse(text, tensors):
    """Whatever is read can be stepped."""
    try:
        step = decoded(text, tensors)
    except BundleError:
        return
    program = Interpreter(step)
    inputs = {own.name: np.ones((2, *own.shape)) for own in step.program.inputs}
    with np.errstate(all="ignore"):
        try:
            outputs, states = program.step(inputs, program.start(2), np.full((2, 1), 0.05))
        except ValueError as error:
            assert re.search("the model itself gives the core '.*' the timespan", str(error))  # noqa: PT017
            return
    assert {o.name: (2, *o.shape) for o in step.program.outputs} == {n: v.shape for n, v in outputs.items()}
    assert {s.name: (2, *s.shape) for s in step.program.states} == {n: v.shape for n, v in states.items()}


@settings(FUZZ, max_examples=300)
@given(data=st.data())
def test_any_change_of_the_text_is_refused_or_can_be_stepped(data):
    text, tensors = everything()
    for _ in range(data.draw(st.integers(1, 3))):
        mutated(data, text)
    step_or_refuse(text, tensors)


@settings(FUZZ, max_examples=150)
@given(data=st.data())
def test_any_change_of_the_tensors_is_refused_or_can_be_stepped(data):
    text, tensors = everything()
    for _ in range(data.draw(st.integers(1, 2))):
        other_tensor(data, tensors)
    step_or_refuse(text, tensors)


@settings(FUZZ, max_examples=100)
@given(data=st.data())
def test_any_change_of_the_bytes_is_refused_or_can_be_read(data):
    files = [bytearray(part) for part in files_of(TEXT, TENSORS)]
    part = data.draw(st.sampled_from(files))
    for _ in range(data.draw(st.integers(1, 3))):
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_program(*map(bytes, files))
    except BundleError as error:
        assert str(error).startswith("step.")  # noqa: PT017
