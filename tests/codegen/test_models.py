"""Models as C beside the interpreter in float64: every cell and network of the tables, fixed and measured time."""

from __future__ import annotations

import numpy as np
import pytest
from generated import LANES
from generated_models import COMPILED, DRAWN, FOLLOWED, LONG, OF_ANY_WIDTH, OF_HALVES, WIDE, drawn
from programs import decoded, everything
from recorded import TIMES, program_of, trained_of

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
    """Against float64, closed loop; the interpreter in float32 is what torch computes, in another order.

    A quarter of the steps tells how far that is: over all of them it would allow more.
    """
    step = program_of(name, "fixed")
    x = np.random.default_rng(7).standard_normal((10_000, 1, 5)).astype(np.float32)
    exact, single = outputs_of(Interpreter(step), x), outputs_of(Interpreter(step, "float32"), x[:2500])
    own = WIDE[name, "fixed"].run(x)
    worst = [np.abs(found - exact[: len(found)]).max() for found in (own, single)]
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
