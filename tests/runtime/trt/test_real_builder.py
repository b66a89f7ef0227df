"""NVIDIA's own parser and builder, by the adapter of the device: every graph of the tables is one fused node.

The builder is that of TensorRT for RTX, whose Python API is that of TensorRT 11. Operations of torch go through it in
tests/export/test_networks.py, where their graphs are made.
"""

from __future__ import annotations

import pytest
import real_rtx
from bundles import ROOT
from forbidden_graphs import FORBIDDEN, STRANGE
from operation_rows import ROWS, expected_of, inputs_of, program_of_row
from parser_rules import REFUSED_BY_RULE, TAKEN_BY_RULE
from programs import decoded, everything
from recorded import MODELS, TIMES, program_of
from shared_bundles import BUNDLES, shared_bundle

from lnn_edge.errors import BackendUnavailable, BundleError
from lnn_edge.export.step_graph import step_graph

GUARD = "lnn_edge.runtime.backends.trt.engines._guard"
# What the documents forbid, or what onnx has and TensorRT has not: who says so, and with which words.
NODE = rf"node \d+ '{STRANGE}' \(\w+\): "
REFUSED = {
    "sequence": ("parser", NODE),
    "dynamic-shape": ("builder", "Network has dynamic or shape inputs, but no optimization profile"),
    "shape-from-data": ("parser", rf"{NODE}.*NonZero plugin creator version 1 was not found"),
    "unknown-operator": ("parser", NODE),
    "operator-of-nobody": ("parser", rf"{NODE}.*Plugin not found"),
    "rank-9": ("parser", rf"{NODE}.*Number of dimensions \(9\) is not in the valid range"),
    "text": ("parser", NODE),
    "another-domain": ("parser", rf"{NODE}.*Plugin not found"),
    "scatter-add": ("parser", "1 error: a node that it does not name: Unsupported reduction type"),
    "gemm-of-three-axes": ("parser", rf"{NODE}.*GEMM must have 2D inputs"),
}
# What they forbid or warn of, and what this parser and builder take as one node; no step holds any of it all the same.
TAKEN = ["float64", "if", "loop", "int64-arithmetic", "empty-tensor", "straight-through"]


@pytest.fixture(autouse=True, scope="module")
def library():
    real_rtx.need_rtx()


# Each cell and network with one pair of time and precision, both kinds of cell with all four: what one does to a graph
# stands beside what the other does, whichever cell it is.
PRECISIONS = ("float32", "float16")
PAIRS = [(time, precision) for time in TIMES for precision in PRECISIONS]
MODELS_TO_BUILD = [(*PAIRS[row % len(PAIRS)], name) for row, name in enumerate(MODELS)]


@pytest.mark.parametrize(("time", "precision", "name"), MODELS_TO_BUILD)
def test_model_is_one_node(time, precision, name):
    assert real_rtx.build(step_graph(program_of(name, time), precision=precision)).nodes == 1


FIFTH = [(name, PRECISIONS[place % 2]) for place, name in enumerate(MODELS[::5])]  # of each kind of core


@pytest.mark.parametrize(("name", "precision"), FIFTH)
def test_blocks_and_rows_are_one_node(name, precision):
    graph = step_graph(program_of(name, "measured"), precision=precision, unroll=2, batch=2)
    assert real_rtx.build(graph).nodes == 1


@pytest.mark.parametrize("name", ROWS)
def test_operation_of_the_program_is_one_node(name):
    row = ROWS[name]
    result = expected_of(row, inputs_of(row, 1)).shape[1:]
    assert real_rtx.build(step_graph(program_of_row(row, result))).nodes == 1


def test_a_step_with_everything_is_one_node():
    assert real_rtx.build(step_graph(decoded(*everything()))).nodes == 1


@pytest.mark.parametrize("name", BUNDLES)
def test_bundle_that_tests_share_is_one_node(name, tmp_path_factory):
    graph = shared_bundle(tmp_path_factory, name) / "model.onnx"
    assert real_rtx.build_file(graph.read_bytes(), half=False).nodes == 1


@pytest.mark.parametrize(
    "bundle", sorted((ROOT / "tests" / "fixtures" / "bundles").glob("*.lnn")), ids=lambda b: b.stem
)
def test_bundle_of_an_older_version_is_one_node(bundle):
    assert real_rtx.build_file((bundle / "model.onnx").read_bytes(), half="float16" in bundle.stem).nodes == 1


@pytest.mark.parametrize("name", REFUSED)
def test_forbidden_graph_is_refused_with_its_node(name, monkeypatch):
    monkeypatch.setattr(GUARD, lambda _data: None)  # which lets none of these reach a parser, but for one
    who, words = REFUSED[name]
    with pytest.raises(BackendUnavailable, match=words):
        real_rtx.build(FORBIDDEN[name]())
    real_rtx.refused(who)


@pytest.mark.parametrize("name", TAKEN)
def test_what_documents_forbid_and_this_version_takes(name, monkeypatch):
    monkeypatch.setattr(GUARD, lambda _data: None)
    assert real_rtx.build(FORBIDDEN[name]()).nodes == 1


@pytest.mark.parametrize("name", TAKEN_BY_RULE)
def test_what_documents_say_of_what_is_taken(name, monkeypatch):
    """Of older versions; here all of it is one node. What lnn-edge writes of it is in the tables above."""
    monkeypatch.setattr(GUARD, lambda _data: None)
    assert real_rtx.build(TAKEN_BY_RULE[name]()).nodes == 1


@pytest.mark.parametrize("name", REFUSED_BY_RULE)
def test_what_documents_say_of_what_is_not(name, monkeypatch):
    monkeypatch.setattr(GUARD, lambda _data: None)
    graph, words = REFUSED_BY_RULE[name]
    with pytest.raises(BackendUnavailable, match=words):
        real_rtx.build(graph())
    real_rtx.refused("parser")


def test_all_errors_of_the_parser_are_told(monkeypatch):
    monkeypatch.setattr(GUARD, lambda _data: None)
    graph = FORBIDDEN["unknown-operator"]()
    graph.graph.node[0].output[0] = "t"
    graph.graph.node.add(op_type="Liquid", name="second", input=["t"], output=["y"])
    with pytest.raises(BackendUnavailable, match=rf"2 errors: node 0 '{STRANGE}' .*; node 1 'second' \(Liquid\): "):
        real_rtx.build(graph)
    real_rtx.refused("parser")


PASSES = {"straight-through"}  # a matter of form alone
SAID = {"if": "a graph", "loop": "a graph", "scatter-add": "a text", "dynamic-shape": "a name in place of a number"}


@pytest.mark.parametrize("name", sorted(set(FORBIDDEN) - PASSES - {"rank-9"}))
def test_the_guard_names_the_node_before_the_parser_sees_it(name):
    with pytest.raises(
        BundleError, match=rf"node .*'{STRANGE}'.*{SAID.get(name, '')}.*It is not a graph that lnn-edge writes"
    ):
        real_rtx.build(FORBIDDEN[name]())
    real_rtx.refused("guard")


def test_more_axes_than_tensorrt_has_are_refused_by_name():
    """Other runtimes take such a graph, so a bundle may hold it."""
    words = rf"at most 8 axes, but node 0 '{STRANGE}' \(Reshape\) has 'n' of 9\. Type: backend='onnxruntime'"
    with pytest.raises(BackendUnavailable, match=words):
        real_rtx.build(FORBIDDEN["rank-9"]())
    real_rtx.refused("guard")


def test_every_forbidden_graph_is_judged():
    assert {*REFUSED, *TAKEN} == set(FORBIDDEN)


def test_targets():
    """GPUs by the names that `--for` takes, several in one file; float32 products for Turing are not made."""
    graph = step_graph(program_of("cfc-autoncp", "fixed"))
    one, three = (real_rtx.build(graph, targets) for targets in (("sm_86",), ("sm_86", "sm_89", "sm_120")))
    assert one.nodes == three.nodes == 1
    assert one.timings == b""  # nothing is timed
    assert len(three.plan) >= len(one.plan) > 0
    with pytest.raises(ValueError, match=r"builds for no GPU 'sm_87'.*Did you mean 'sm_8"):
        real_rtx.build(graph, ("sm_87",))
    words = r"could not be built for sm_75, sm_86\. .*Turing .*Leave sm_75 out .* with precision='float16'"
    with pytest.raises(BackendUnavailable, match=words):
        real_rtx.build(graph, ("sm_75", "sm_86"))
    real_rtx.refused("builder")
    half = step_graph(program_of("cfc-autoncp", "fixed"), precision="float16")
    assert real_rtx.build(half, ("sm_75", "sm_86")).nodes == 1
