"""Many streams side by side, in one tile of streams and in two: each operation and core beside NumPy."""

from __future__ import annotations

import ctypes
from functools import partial

import numpy as np
import pytest
from generated import LANES, _target, rows_of_programs
from operation_rows import ROWS, expected_of, inputs_of, program_of_row
from programs import decoded, everything

from lnn_edge.bundle import step_cores
from lnn_edge.codegen import rows
from lnn_edge.codegen.form import Form
from lnn_edge.reference.interpreter import Interpreter
from lnn_edge.runtime.backends.native.rows import _Facts

CORES = [kind for kind in step_cores.CORES if kind in rows._IN_LANES]
COUNT = 2 * LANES[-1] + 3  # two tiles, and one that is not full
LIMIT = 3e-6  # as for single streams, see test_operations.py


def of_an_operation(name):
    own = ROWS[name]
    return program_of_row(own, expected_of(own, inputs_of(own, 1)).shape[1:])


def of_all_cores():
    """One behind the other, with an operation between two of them."""
    text, tensors = everything()
    text["inputs"] = [{"name": "speed", "shape": [4]}]
    nodes = {node["op"]: node for node in text["nodes"] if node["op"] in CORES}
    nodes["ltc"]["input"], nodes["gru"]["input"] = "speed", "between"
    order = [*map(nodes.get, CORES[:2]), {"op": "Relu", "inputs": ["cfc.out"], "output": "between"}]
    text["nodes"] = [*order, *map(nodes.get, CORES[2:])]
    text["states"] = [own for own in text["states"] if own["next"].partition(".")[0] in CORES]
    text["outputs"] = [{"name": "action", "value": "rnn.next", "shape": [2]}]
    used = {*CORES, "usual", "h"}
    return decoded(text, {name: value for name, value in tensors.items() if name.partition(".")[0] in used})


OPERATIONS = [name for name, own in ROWS.items() if own.op in rows._IN_LANES]
PROGRAMS = {name: partial(of_an_operation, name) for name in OPERATIONS} | {"cores": of_all_cores}


def stepped(library, prefix, step, inputs, states, dt_s, count=COUNT):
    """Outputs and next states of the first streams, by the function of a library."""
    facts = _Facts.in_dll(library, f"{prefix}_about")
    given = [*inputs.values(), *([dt_s] if step.program.elapsed.dt else []), *states.values()]
    made = {
        own.name: np.zeros((COUNT, *own.shape), np.float32) for own in (*step.program.outputs, *step.program.states)
    }
    arrays = [np.ascontiguousarray(value, np.float32) for value in given]
    work, ok = np.zeros(facts.work + 64, np.uint8), np.zeros(COUNT, np.bool_)
    addresses = [array.ctypes.data for array in (*arrays, *made.values())]
    call = library[f"{prefix}_rows"]
    call.restype, call.argtypes = None, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_void_p] * 4]
    start = work.ctypes.data + -work.ctypes.data % 64
    call(start, count, (ctypes.c_void_p * len(addresses))(*addresses), None, None, ok.ctypes.data)
    return made, ok


@pytest.mark.parametrize("tiles", [1, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_streams_get_what_the_program_says(name, tiles, monkeypatch):
    monkeypatch.setattr(rows, "_tiles_of", lambda _step: tiles)
    step = PROGRAMS[name]()
    assert rows.why_no_rows(step, Form("0" * 64)) is None
    library, prefixes = rows_of_programs(f"lanes-{tiles}", PROGRAMS)
    draw, program = np.random.default_rng(1), step.program
    inputs = {own.name: draw.uniform(-3, 3, (COUNT, *own.shape)).astype(np.float32) for own in program.inputs}
    states = {own.name: draw.uniform(-0.5, 0.5, (COUNT, *own.shape)).astype(np.float32) for own in program.states}
    dt_s = draw.uniform(0.02, 0.2, (COUNT, 1)).astype(np.float32)
    expected, after = Interpreter(step).step(inputs, states, dt_s if program.elapsed.dt else None)
    made, ok = stepped(ctypes.CDLL(str(library)), prefixes[name], step, inputs, states, dt_s)
    assert ok.all()
    for result, value in (expected | after).items():
        np.testing.assert_allclose(made[result], value, rtol=LIMIT, atol=LIMIT)
    for count in (1, LANES[-1], LANES[-1] + 1, 2 * LANES[-1]):  # a tile by itself gets the bits that it gets beside one
        few, ok = stepped(ctypes.CDLL(str(library)), prefixes[name], step, inputs, states, dt_s, count)
        assert np.flatnonzero(ok).tolist() == list(range(count))
        for result, value in few.items():
            assert value[:count].tobytes() == made[result][:count].tobytes()
            assert not value[count:].any()


def test_tiles_of_halves_are_never_apart():
    """Their bits would differ: products of tables are what two tiles have in common, and one of them has for itself."""
    step = PROGRAMS["cores"]()
    texts = [
        rows.rows_source(step, Form("0" * 64, precision=own), _target(LANES[-1]), "lnn").source
        for own in ("float32", "float16")
    ]
    assert ["sample_alone(" in text for text in texts] == [True, False]
