"""Models as C beside the interpreter in float64: every cell and network of the tables, fixed and measured time."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest
import torch
from cases import BY_NAME
from generated import LANES, Family, Wanted
from hypothesis import given, settings
from hypothesis import strategies as st
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP, Random
from networks import NETWORKS
from programs import decoded, everything
from recorded import TIMES, program_of, trained_of

from lnn_edge.export.trained.open import open_module
from lnn_edge.reference.interpreter import Interpreter
from lnn_edge.verify.excitation import excite
from lnn_edge.verify.samples import SampleRequest

STEPS = 60
# Closed loop against float64 on the excitation of a proof: as the tests of streams, states and outputs of order 1.
LIMIT = 1e-5


def followed(step, c, inputs, dt_s=None, rows=1):
    """Step C and the interpreter side by side; the largest distance of outputs and states, relative above 1."""
    judge, worst = Interpreter(step), 0.0
    before, states = judge.start(rows), c.start()
    for k in range(len(next(iter(inputs.values())))):
        x = {name: value[k] for name, value in inputs.items()}
        dt = None if dt_s is None else np.broadcast_to(np.asarray(dt_s[k]), (rows, 1))
        expected, before = judge.step(x, before, dt)
        got, states = c.step(x, states, dt)
        assert c.status == 0
        for name, value in (expected | before).items():
            distance = np.abs((got | states)[name] - value) / np.maximum(np.abs(value), 1.0)
            worst = max(worst, float(distance.max(initial=0.0)))
    return worst


def excitation(name, time, steps=STEPS):
    samples = excite(SampleRequest(trained_of(name).inputs, TIMES[time], steps))
    return samples.inputs, samples.dt


# Cells with measured time, which takes the longer way, and each third with fixed time as well.
FOLLOWED = [(name, "measured") for name in BY_NAME]
FOLLOWED += [(name, "fixed") for name in (*list(BY_NAME)[::3], *NETWORKS)]
OF_ANY_WIDTH = ["ltc-autoncp", "ltc-explicit", "cfc-gelu", "cfc-mixed-autoncp", "cfc-pure"]
LONG = ["ltc-autoncp", "cfc-units", "cfc-mixed", "ltc-units-large"]
OF_HALVES = ["ltc-autoncp", "ltc-mixed", "cfc-units", "cfc-gelu", "cfc-mixed-autoncp", "cfc-pure"]
DRAWN = 8


def wanted(name, time, **form):
    return Wanted(program_of(name, time), form)


def everything_wanted():
    return Wanted(decoded(*everything()), {"batch": 2})


@st.composite
def small_models(draw):
    """A model of random size, wiring and mode."""
    inputs, units = draw(st.integers(1, 20)), draw(st.integers(4, 40))
    seed = draw(st.integers(0, 2**16))
    kind = draw(st.sampled_from(["ltc", "ltc-random", "cfc", "cfc-wired"]))
    mode = draw(st.sampled_from(["default", "pure", "no_gate"]))
    torch.manual_seed(seed)
    if kind == "ltc":
        return LTC(
            inputs, AutoNCP(units, draw(st.integers(1, units - 3)), seed=seed), ode_unfolds=draw(st.integers(1, 6))
        )
    if kind == "ltc-random":
        sparsity = draw(st.floats(0.1, 0.9))
        return LTC(
            inputs, Random(units, 1, sparsity_level=sparsity, random_seed=seed), mixed_memory=draw(st.booleans())
        )
    if kind == "cfc":
        return CfC(
            inputs, units, mode=mode, backbone_layers=draw(st.integers(0, 2)), backbone_units=draw(st.integers(1, 40))
        )
    return CfC(inputs, AutoNCP(units, draw(st.integers(1, units - 3)), seed=seed), mode=mode)


@cache
def all_drawn():
    found = []

    @given(small_models(), st.sampled_from(["fixed", "measured"]))
    @settings(max_examples=DRAWN, deadline=None, derandomize=True)
    def draw_one(module, time):
        found.append(Wanted(open_module(module.eval()).trained(1, None).program(TIMES[time]), {}))

    draw_one()
    assert len(found) == DRAWN
    return found


def drawn(place):
    return all_drawn()[place]


def members(lanes):
    """All models of these tests that are compiled for so many lanes, by what is asked of each."""
    own = {(name, "measured"): partial(wanted, name, "measured") for name in OF_ANY_WIDTH}
    if lanes in LANES:
        own |= {("ltc-mixed", n): partial(wanted, "ltc-mixed", "measured", unroll=n) for n in (1, 3)}
        own |= {("drawn", k): partial(drawn, k) for k in range(DRAWN)} | {"everything": everything_wanted}
    if lanes == LANES[-1]:
        own |= {(name, time): partial(wanted, name, time) for name, time in FOLLOWED}
        own |= {(name, "fixed"): partial(wanted, name, "fixed") for name in LONG}
        own |= {(name, "half"): partial(wanted, name, "fixed", precision="float16") for name in OF_HALVES}
    return own


# One file for each width: a compiler takes longer to begin with the next than for most of them.
COMPILED = {lanes: Family("models", lanes, members(lanes)) for lanes in sorted({1, 4, 8, 16, *LANES})}
WIDE = COMPILED[LANES[-1]]


@pytest.mark.parametrize(("name", "time"), FOLLOWED)
def test_model_follows_the_interpreter(name, time):
    inputs, dt_s = excitation(name, time)
    assert followed(program_of(name, time), WIDE[name, time], inputs, dt_s) <= LIMIT


@pytest.mark.parametrize("lanes", [lanes for lanes in COMPILED if lanes != LANES[-1]])
@pytest.mark.parametrize("name", OF_ANY_WIDTH)
def test_model_is_the_same_in_registers_of_any_width(name, lanes):
    """As wide as the machine's and wider: the compiler then takes several, and sources are loaded one by one."""
    inputs, dt_s = excitation(name, "measured", 24)
    assert followed(program_of(name, "measured"), COMPILED[lanes][name, "measured"], inputs, dt_s) <= LIMIT


@pytest.mark.parametrize("lanes", COMPILED)
@pytest.mark.parametrize("name", ["ltc-autoncp", "ltc-explicit"])
def test_synapses_that_are_closed_or_open_stay_so_however_large_a_sample_is(name, lanes):
    """Samples are limited where that changes nothing, as a power of two of what they are has no float32."""
    inputs, dt_s = excitation(name, "measured", 24)
    large = {own: value * np.float32(1e4) for own, value in inputs.items()}
    assert followed(program_of(name, "measured"), COMPILED[lanes][name, "measured"], large, dt_s) <= LIMIT


@pytest.mark.parametrize("lanes", LANES)
def test_every_core_and_most_operations_in_one_program(lanes):
    step = decoded(*everything())
    draw = np.random.default_rng(3)
    inputs = {own.name: draw.standard_normal((STEPS, 2, *own.shape)).astype(np.float32) for own in step.program.inputs}
    c = COMPILED[lanes]["everything"]
    assert followed(step, c, inputs, draw.uniform(0.02, 0.2, (STEPS, 2, 1)).astype(np.float32), rows=2) <= LIMIT


@pytest.mark.parametrize("lanes", LANES)
def test_samples_of_a_call_are_steps_one_after_the_other(lanes):
    inputs, dt_s = excitation("ltc-mixed", "measured", 24)
    one, three = (COMPILED[lanes]["ltc-mixed", n] for n in (1, 3))
    states, together = one.start(), three.start()
    for k in range(0, 24, 3):
        outputs = []
        for j in range(k, k + 3):
            got, states = one.step({n: v[j] for n, v in inputs.items()}, states, dt_s[j])
            outputs.append(next(iter(got.values()))[0])
        x = {n: np.swapaxes(v[k : k + 3], 0, 1) for n, v in inputs.items()}
        all_, together = three.step(x, together, np.swapaxes(dt_s[k : k + 3], 0, 1)[..., 0])
        np.testing.assert_array_equal(next(iter(all_.values()))[0], outputs)
    for name, value in states.items():
        np.testing.assert_array_equal(together[name], value)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("place", range(DRAWN))
def test_model_of_any_wiring_and_size(place, lanes):
    own, draw = drawn(place), np.random.default_rng(1)
    program = own.step.program
    inputs = {one.name: draw.standard_normal((12, 1, *one.shape)).astype(np.float32) for one in program.inputs}
    dt_s = draw.uniform(0.02, 0.2, (12, 1, 1)).astype(np.float32) if program.elapsed.dt else None
    assert followed(own.step, COMPILED[lanes]["drawn", place], inputs, dt_s) <= LIMIT


@pytest.mark.parametrize("name", LONG)
def test_error_of_ten_thousand_steps_is_at_most_twice_that_of_float32(name):
    """Against float64, closed loop; the interpreter in float32 is what torch computes, in another order."""
    step = program_of(name, "fixed")
    x = np.random.default_rng(7).standard_normal((10_000, 1, 5)).astype(np.float32)
    exact, single = (outputs_of(Interpreter(step, dtype), x) for dtype in (np.float64, np.float32))
    own = WIDE[name, "fixed"].run(x)
    worst = [np.abs(found - exact).max() for found in (own, single)]
    assert worst[0] <= 2 * worst[1], worst


def outputs_of(judge, x):
    """Closed loop, (steps, outputs)."""
    states, outputs = judge.start(1), []
    for sample in x:
        y, states = judge.step({"input": sample}, states)
        outputs.append(y["output"][0])
    return np.array(outputs)


@pytest.mark.parametrize("name", OF_HALVES)
def test_half_precision_stays_within_its_bound(name):
    """Weights rounded to 11 bits, 5e-4 of each; what is proven of an export in float16 allows a hundredth."""
    step = program_of(name, "fixed")
    inputs, _ = excitation(name, "fixed")
    found = followed(step, WIDE[name, "half"], inputs)
    assert 1e-6 < found <= 1e-2
