"""Synapses in rows of lanes: each once, in a lane of its target, with its source in reach; their order and limits."""

from __future__ import annotations

import re
from contextlib import contextmanager

import numpy as np
import pytest
from generated import source_of
from generated_models import SIZES, WIDE, sized
from hypothesis import given, settings
from hypothesis import strategies as st
from ncps.wirings import AutoNCP

from lnn_edge.codegen.cores import levels, synapse_loops
from lnn_edge.codegen.cores.levels import Wiring, order_of, positions
from lnn_edge.codegen.cores.runs import SUMMED, Edges, Sources, make_run, together
from lnn_edge.codegen.cores.synapses import Curves, limits_of
from lnn_edge.codegen.rows import _turned
from lnn_edge.reference.interpreter import Interpreter


def wiring_of(reaches, sensory, lanes, unfolds=6):
    return Wiring(Edges(*np.nonzero(reaches)), Edges(*np.nonzero(sensory)), len(reaches), len(sensory), unfolds, lanes)


def auto_ncp(units, outputs, inputs, lanes):
    wiring = AutoNCP(units, outputs, seed=5)
    wiring.build(inputs)
    return wiring_of(wiring.adjacency_matrix != 0, wiring.sensory_adjacency_matrix != 0, lanes)


@st.composite
def wirings(draw):
    units, inputs = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    density, lanes = draw(st.floats(0.0, 1.0)), draw(st.sampled_from([1, 4, 8, 16]))
    own = np.random.default_rng(draw(st.integers(0, 1000)))
    return wiring_of(own.random((units, units)) < density, own.random((inputs, units)) < density, lanes)


@contextmanager
def brief_search():
    """Few exchanges of neurons: rows are right after any number of them, and full ones are of other tests."""
    with pytest.MonkeyPatch.context() as patch:
        for idle in ("_IDLE", "_IDLE_OF_FEW", "_IDLE_OF_LARGE"):
            patch.setattr(levels, idle, 5)
        yield


@given(wirings(), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_each_synapse_is_in_one_row_in_a_lane_of_its_target(wiring, aligned):
    with brief_search():
        order = order_of(wiring)
    assert sorted(unit for group in order.groups for unit in group) == list(range(wiring.units))
    places, starts, width = positions(order.groups, wiring.units, wiring.lanes, packed=not aligned)
    assert len(np.unique(places)) == wiring.units
    assert max(places) < width
    edges, seen = wiring.synapses, list[int]()
    for group, start in zip(order.groups, starts, strict=True):
        np.testing.assert_array_equal(places[list(group)], start + np.arange(len(group)))
        run = make_run(edges, group, Sources(places, width, wiring.lanes, aligned and wiring.lanes >= 8))
        lanes_of = [{k, *(join[k] for join in run.joins)} for k in range(len(group))]
        for k, (row, begin) in enumerate(zip(run.edges.tolist(), run.starts.tolist(), strict=True)):
            for lane, edge in enumerate(row):
                if edge >= 0:
                    assert lane in lanes_of[group.index(edges.target[edge])]
                    seen.append(edge)
                    reach = 1 if k < run.single else wiring.lanes if wiring.lanes >= 8 else width
                    assert 0 <= places[edges.source[edge]] - begin < reach
            assert wiring.lanes < 8 or k < run.single or 0 <= begin <= width - wiring.lanes
    assert sorted(seen) == list(range(len(edges.source)))


def test_levels_of_an_ncp():
    """Inter neurons first, then command neurons, then motor neurons, which reach none."""
    own = order_of(auto_ncp(28, 4, 20, 8))
    assert [sum(map(len, level)) for level in (own.free, own.chain, own.last)] == [15, 9, 4]
    assert sorted(unit for group in own.last for unit in group) == [0, 1, 2, 3]
    assert own == order_of(auto_ncp(28, 4, 20, 8))


@pytest.mark.parametrize(("units", "outputs", "inputs"), [(128, 8, 32), (256, 16, 64)])
def test_rows_of_a_large_ncp_are_nearly_full(units, outputs, inputs):
    wiring = auto_ncp(units, outputs, inputs, 8)
    order = order_of(wiring)
    places, _, width = positions(order.groups, units, 8, packed=True)
    runs = [make_run(wiring.synapses, group, Sources(places, width, 8)) for group in order.groups]
    sensory = [make_run(wiring.sensory, group, wiring.of_inputs()) for group in order.groups]
    for edges, found, most in ((wiring.synapses, runs, 1.15), (wiring.sensory, sensory, 1.3)):
        assert sum(len(run.starts) for run in found) <= most * len(edges.source) / 8


def test_permuted_rows_together_are_each_in_one_sum_of_their_run():
    wiring = auto_ncp(128, 8, 32, 8)
    order = order_of(wiring)
    places, _, width = positions(order.groups, 128, 8, packed=True)
    runs = [make_run(wiring.synapses, group, Sources(places, width, 8)) for group in order.groups]
    runs = [run for run in runs if run.single < len(run.starts)]
    assert {(len(run.starts) - run.single) % 2 for run in runs} == {0, 1}
    assert max(len(run.starts) - run.single for run in runs) > SUMMED
    found, begins = together(runs, 6), 0
    of_run = [[] for _ in runs]
    for end, k in zip(found.ends, found.into, strict=True):
        assert end % 2 == 0
        assert 0 < end - begins <= SUMMED
        of_run[k] += range(begins, end)
        begins = end
    assert found.into == sorted(found.into)
    for run, rows in zip(runs, of_run, strict=True):
        own = np.arange(run.single, len(run.starts))
        np.testing.assert_array_equal(found.run.edges[rows][: len(own)], run.edges[own])
        np.testing.assert_array_equal(found.run.starts[rows][: len(own)], run.starts[own])
        assert np.all(found.run.edges[rows][len(own) :] == -1)
    assert len(found.run.starts) == len(found.run.edges) == begins + 6
    assert np.all(found.run.edges[begins:] == -1)


def curves(slope, offset, w=1.0):
    ones, source = np.ones(len(slope)), np.arange(len(slope)) // 2
    return Curves(source, np.zeros_like(source), ones * w, ones, np.array(slope), np.array(offset))


def test_numbers_of_many_rows_are_asked_for_early_and_nothing_else_changes(monkeypatch):
    step = sized(90, False).step
    usual = source_of(step, 8).source
    monkeypatch.setattr(synapse_loops, "_FAR", 1)
    lines = source_of(step, 8).source.splitlines()
    asked = [line for line in lines if "__builtin_prefetch" in line]
    assert len(asked) % 5 == 0  # of two rows: four lines of numbers, one of sources
    assert asked
    assert [line for line in lines if line not in asked] == usual.splitlines()


def test_limits_of_sources_are_where_their_synapses_are_closed():
    found = limits_of(curves([5.0, -4.0, 3.0, 8.0], [1.0, 2.0, 0.0, 0.0]), 3, half=False)
    assert found[2] == 1e30  # no synapse
    for source, slopes in ((0, (5.0, 4.0)), (1, (3.0, 8.0))):
        t = found[source] * np.array(slopes) * np.log2(np.e)
        assert t.max() <= 120.0
        assert t.min() >= 25.0


@pytest.mark.parametrize(
    "own", [curves([0.1, 9.0], [0.0, 0.0]), curves([3.0, 3.0], [60.0, 90.0]), curves([0.0], [1e3])], ids=str
)
def test_sources_whose_synapses_differ_too_much_have_no_limits(own):
    assert limits_of(own, 1, half=False) is None


@pytest.mark.parametrize(("units", "wide"), SIZES, ids=["small", "small-unlimited", "large", "large-unlimited"])
def test_states_and_inputs_of_any_size(units, wide):
    """Far beyond the limits and beyond all that a neuron comes to by itself; relative to what is largest."""
    step = sized(units, wide).step
    judge, c, draw = Interpreter(step), WIDE["sized", units, wide], np.random.default_rng(2)
    (name,) = c.states
    for size in (1.0, 30.0, 1e4, 1e30):
        x = (draw.standard_normal((1, 11)) * size).astype(np.float32)
        before = {name: (draw.standard_normal((1, units)) * size).astype(np.float32)}
        expected, after = judge.step({"input": x.astype(np.float64)}, {name: before[name].astype(np.float64)})
        got, state = c.step({"input": x}, before)
        assert c.status == 0
        assert np.abs(state[name] - after[name]).max() <= 2e-6 * size
        assert np.abs(got["output"] - expected["output"]).max() <= 2e-6 * size


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_rows_and_columns_change_places(lanes):
    """What the text of many streams does with the rows of a tile, read as C would."""
    t = np.arange(lanes * lanes).reshape(lanes, lanes)
    for line in _turned(lanes).splitlines():
        if found := re.match(r" +p = t\[(\d+)\], q = t\[(\d+)\];", line):
            both = np.concatenate([t[int(k)] for k in found.groups()])
        elif found := re.match(r" +t\[(\d+)\] = mixed\(p, q, (.*)\);", line):
            t[int(found[1])] = both[list(map(int, found[2].split(", ")))]
    np.testing.assert_array_equal(t, np.arange(lanes * lanes).reshape(lanes, lanes).T)
