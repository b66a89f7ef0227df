"""Graphs that nobody exported: no library sees them, and they cost neither time nor memory.

That all graphs of the exporter pass is seen wherever the tests export; those of the table of cells also in
tests/bundle/test_parsers.py, and those of older versions in tests/runtime/test_old_bundles.py.
"""

from __future__ import annotations

import json
import random
import tracemalloc

import onnx
import pytest
from bundles import ROOT, resign
from hostile_graphs import FORGED, field, forged, mutated, varint, with_random_nodes

import lnn_edge
from lnn_edge.backends import BACKENDS
from lnn_edge.bundle.onnx_graph import check_graph
from lnn_edge.bundle.onnx_operators import ATTRIBUTES
from lnn_edge.bundle.opset import OPERATORS
from lnn_edge.cli.program import main
from lnn_edge.errors import BundleError


@pytest.fixture(scope="module")
def graph(cfc_bundle) -> bytes:
    return (cfc_bundle / "model.onnx").read_bytes()


@pytest.fixture
def called(monkeypatch) -> list[str]:
    """What was asked of the spy that stands in place of every backend, and with it of its library."""
    calls: list[str] = []

    class Spy:
        def __init__(self, bundle, threads, options):
            calls.append("load")
            raise RuntimeError("the spy was called")

        @classmethod
        def prepare(cls, bundle, options, progress, *, rebuild):
            calls.append("build")
            raise RuntimeError("the spy was called")

    for place in ("lnn_edge.backends.backend_class", "lnn_edge.runtime.loading.backend_class"):
        monkeypatch.setattr(place, lambda _entry: Spy)
    monkeypatch.setattr("lnn_edge.runtime.loading.missing_modules", lambda _entry: [])
    monkeypatch.setattr("lnn_edge.runtime.loading.why_not_ready", lambda _entry: None)
    return calls


BACKEND_NAMES = [entry.name for entry in BACKENDS]


@pytest.mark.parametrize("backend", [*BACKEND_NAMES, "auto"])
def test_no_backend_sees_a_forged_graph(cfc_copy, called, backend):
    good = (cfc_copy / "model.onnx").read_bytes()
    with pytest.raises(RuntimeError, match="the spy was called"):
        lnn_edge.load(cfc_copy, backend=backend)
    assert called == ["load"]
    for name in FORGED:
        (cfc_copy / "model.onnx").write_bytes(forged(good, name))
        with pytest.raises(BundleError, match=r"gait\.lnn': model\.onnx cannot be loaded: "):
            lnn_edge.load(resign(cfc_copy), backend=backend)
    assert called == ["load"]


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_nothing_is_built_of_a_forged_graph(cfc_copy, called, backend, capsys):
    good = (cfc_copy / "model.onnx").read_bytes()
    (cfc_copy / "model.onnx").write_bytes(forged(good, "Loop"))
    main(["build", str(resign(cfc_copy)), "--backend", backend])
    assert "model.onnx cannot be loaded: " in capsys.readouterr().err
    assert called == []


@pytest.mark.parametrize("name", FORGED)
def test_forged_graph_is_refused_in_words(graph, name):
    with pytest.raises(BundleError, match=FORGED[name][1]) as caught:
        check_graph(forged(graph, name))
    assert len(str(caught.value)) < 700


def test_the_rules_know_the_operators_of_the_format():
    assert set(ATTRIBUTES) == OPERATORS


# ---- the wire format ------------------------------------------------------------------------------------------------


def test_every_prefix_is_refused(graph):
    model = onnx.load_from_string(graph)
    del model.metadata_props[:]  # without which a graph is whole as well
    graph = model.SerializeToString()
    check_graph(graph)
    for stop in range(0, len(graph) - 1, 7):
        with pytest.raises(BundleError, match="cannot be loaded"):
            check_graph(graph[:stop])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80" * 20, "a number of more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "a number of more than 64 bits"),
        (b"\x08\xff", "in the middle of a field"),
        (b"\x08", "in the middle of a field"),
        (b"\x3a" + varint(1 << 62) + b"x", "ends beyond it"),
        (field(8, field(2, 17)) + field(7, b"\x0a\x7f"), "the graph holds a field that ends beyond it"),
        (b"\x0b\x0c", r"field 1 \(wire type 3\)"),
        (b"\x09" + b"x" * 8, r"field 1 \(wire type 1\)"),
        (field(1, 8) + field(1, 8), "more than 1 of `ir_version`"),
        (field(7, b"") + field(7, b""), "more than 1 of `graph`"),
        (field(7, b""), "`opset_import` is missing"),
        (field(8, field(1, b"own")), "domain of their own"),
        (field(8, field(2, 17)), "`graph` is missing"),
        (field(8, field(2, 17)) + field(7, field(1, field(4, b"\xff"))), "no UTF-8|missing"),
        (field(4, b"domain"), "field 4"),
        (field(1 << 28, 1), "field 268435456"),
    ],
)
def test_what_is_no_message_is_refused(data, message):
    with pytest.raises(BundleError, match=message):
        check_graph(data)


def _model(graph: bytes) -> bytes:
    return field(1, 8) + field(8, field(2, 17)) + field(7, graph)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        (field(1, b"axis") + field(20, 2), "not one number"),
        (field(1, b"axis") + field(20, 3) + field(3, 1), "not one number"),
        (field(1, b"axis") + field(20, 2) + field(3, 1) + field(2, 1.0), "not one number"),
        (field(3, 1) + field(20, 2), "`name` is missing"),
        (field(1, b"axis") + field(20, 7) + b"".join(field(8, 1) for _ in range(65)), "more than 64 of `ints`"),
    ],
)
def test_attributes_that_are_no_numbers_are_refused(attribute, message):
    node = field(4, b"Softmax") + field(5, attribute)
    with pytest.raises(BundleError, match=message):
        check_graph(_model(field(1, node)))


def test_an_attribute_twice_is_refused():
    axis = field(5, field(1, b"axis") + field(20, 2) + field(3, 1))
    with pytest.raises(BundleError, match="an attribute twice"):
        check_graph(_model(field(1, field(4, b"Softmax") + axis + axis)))


def test_a_file_of_many_fields_is_refused():
    node = field(1, field(1, b"x") * 2000 + field(4, b"Concat"))
    with pytest.raises(BundleError, match="more than 480000 fields"):
        check_graph(_model(node * 300))


SMALL = {
    "names": lambda: field(14, field(1, b"k")) * 200_000,
    "axes": lambda: _model(field(5, field(1, 1) * 1_000_000)),
    "zeros": lambda: bytes(100 << 20),
    "one weight": lambda: _model(field(5, field(2, 1) + field(8, b"w") + field(9, bytes(100 << 20)))),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_large_file_costs_little(name):
    """100 MiB that are looked at are not copied."""
    data = SMALL[name]()
    tracemalloc.start()
    with pytest.raises(BundleError):
        check_graph(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 << 20


# ---- what nobody thought of -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [mutated, with_random_nodes])
@pytest.mark.parametrize("name", ["cfc", "ltc"])
def test_whatever_is_changed_is_refused_or_a_graph_of_ours(request, make, name):
    """Nothing but a BundleError; onnx itself reads what passes as the same operators."""
    data, rng = (request.getfixturevalue(f"{name}_bundle") / "model.onnx").read_bytes(), random.Random(18)
    passed = 0
    for _ in range(500):
        changed = make(data, rng)
        try:
            check_graph(changed)
        except BundleError:
            continue
        passed += 1
        model = onnx.load_from_string(changed)
        assert {node.op_type for node in model.graph.node} <= OPERATORS
        assert not [node for node in model.graph.node if node.domain]
        assert not model.functions
    assert 5 < passed < 450


def test_a_process_survives_what_is_changed_and_signed_again(cfc_bundle, tmp_path, python):
    """What passes the rules is run: onnxruntime neither ends the process nor keeps it, and refuses nothing itself."""
    script = ROOT / "tests/support/hostile_graphs.py"
    done = python(script, cfc_bundle, tmp_path, 240, 18, timeout=240)
    assert done.returncode == 0, done.stderr
    happened = json.loads(done.stdout)
    assert sum(happened.values()) == 240
    assert happened["BundleError"] > 100
    assert happened.get("late", 0) <= 12, happened
