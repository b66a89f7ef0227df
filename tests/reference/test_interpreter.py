"""The interpreter of step programs against torch: each operation, each core, rows, dtypes and whole sequences."""

from __future__ import annotations

import numpy as np
import pytest
from operation_rows import ROWS, expected_of, inputs_of, program_of_row
from programs import decoded, everything
from recorded import MODELS, TIMES, program_of, trained_of

from lnn_edge.bundle.operations import OPERATIONS
from lnn_edge.bundle.step_cores import CORES
from lnn_edge.errors import BundleError
from lnn_edge.export.lowering.operations import LOWERED
from lnn_edge.export.proof.truth import truth_from_model
from lnn_edge.export.step_graph import step_graph
from lnn_edge.reference import closed_loop
from lnn_edge.reference.interpreter import Interpreter
from lnn_edge.reference.operations import COMPUTED
from lnn_edge.verify.excitation import excite
from lnn_edge.verify.samples import Excitation, SampleRequest

# Both compute in float64 with another order of summation: some ten roundings of 1e-16 on values of order 1.
LIMIT = 1e-12


def stepped(step, values, dtype="float64"):
    return Interpreter(step, dtype).step(dict(zip("abc", values, strict=False)), {})[0]["output"]


@pytest.mark.parametrize("name", ROWS)
def test_operation_equals_torch_in_float64(name):
    values = inputs_of(ROWS[name], 4)
    expected = expected_of(ROWS[name], values)
    got = stepped(program_of_row(ROWS[name], expected.shape[1:]), values)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", ROWS)
def test_operation_on_a_row_alone(name):
    """To the bit, but for matrix products: BLAS sums a vector in another order than a matrix."""
    values = inputs_of(ROWS[name], 4)
    step = program_of_row(ROWS[name], expected_of(ROWS[name], values).shape[1:])
    together = stepped(step, values)
    for k in range(4):
        alone = stepped(step, [value[k : k + 1] for value in values])
        limit = 1e-14 if ROWS[name].op in ("Gemm", "MatMul", "Conv") else 0.0  # some roundings of values of order 10
        np.testing.assert_allclose(alone[0], together[k], rtol=0, atol=limit)


@pytest.mark.parametrize("name", ROWS)
def test_operation_in_float32_stays_there(name):
    values = inputs_of(ROWS[name], 2)
    step = program_of_row(ROWS[name], expected_of(ROWS[name], values).shape[1:])
    assert stepped(step, values, np.float32).dtype == np.float32


def test_every_operation_has_a_row_an_interpreter_and_a_lowering():
    assert {own.op for own in ROWS.values()} == set(OPERATIONS) == set(COMPUTED) == set(LOWERED)


def test_every_core_is_interpreted_and_lowered():
    step = decoded(*everything())
    assert {node.kind for node in step.program.nodes} >= set(CORES)
    values = {own.name: np.ones((1, *own.shape)) for own in step.program.inputs}
    program = Interpreter(step)
    program.step(values, program.start(1), np.full((1, 1), 0.05))
    assert step_graph(step).graph.node


# ---- models ---------------------------------------------------------------------------------------------------------


def samples_of(name, time, steps=24):
    trained = trained_of(name)
    return excite(SampleRequest(trained.inputs, TIMES[time], steps))


def silent(_phase, _done, _total):
    pass


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", MODELS)
def test_model_equals_torch_within_the_limits_of_a_proof(name, time):
    """Every segment starts with a reset; torch computes in float32, as its author calls it."""
    samples = samples_of(name, time)
    assert samples.reset.sum() > 1
    truth = truth_from_model(trained_of(name), program_of(name, time), samples, TIMES[time], silent)
    failed = [str(comparison) for comparison in truth.comparisons() if not comparison.passed]
    assert failed == []


def batch_of(samples, rows):
    """Rows of one sample each: the same sequence, begun at other places."""
    return {
        name: np.concatenate([np.roll(value, k, axis=0) for k in range(rows)], axis=1)
        for name, value in samples.inputs.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_row_of_a_model_alone_equals_the_same_row_in_a_batch(name):
    """1e-13: BLAS sums a vector in another order than a matrix, a rounding of 1e-16 each; cores contract."""
    step, samples = program_of(name, "measured"), samples_of(name, "measured", 8)
    program, together = Interpreter(step), batch_of(samples, 4)
    dt = np.linspace(0.05, 0.2, 4)[:, None]
    states, alone = program.start(4), [program.start(1) for _ in range(4)]
    for k in range(8):
        outputs, states = program.step({n: v[k] for n, v in together.items()}, states, dt)
        for r in range(4):
            own, alone[r] = program.step({n: v[k][r : r + 1] for n, v in together.items()}, alone[r], dt[r : r + 1])
            for name_, value in (own | alone[r]).items():
                np.testing.assert_allclose(value[0], (outputs | states)[name_][r], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", MODELS)
def test_float32_stays_float32(name):
    """Every value of every node; what is true or false is no number."""
    step = program_of(name, "measured")
    program, values = Interpreter(step, "float32"), {}
    program._runs = [watched(run, values) for run in program._runs]
    inputs = {own.name: np.ones((2, *own.shape)) for own in step.program.inputs}
    outputs, states = program.step(inputs, program.start(2), np.full((2, 1), 0.05))
    dtypes = {key: value.dtype for key, value in (values | outputs | states).items()}
    whole = {key for key, tensor in step.tensors.items() if tensor.dtype == np.int32}
    assert {d for key, d in dtypes.items() if key not in whole} <= {np.dtype(np.float32), np.dtype(bool)}
    assert {own.name for own in step.program.outputs} <= set(dtypes)


def watched(run, seen):
    def ran(values):
        run(values)
        seen.update(values)

    return ran


# ---- time, states ---------------------------------------------------------------------------------------------------


def test_time_is_seconds_times_timespans_per_second():
    """20 timespans a second: 0.1 s are the two timespans of the training."""
    step = program_of("cfc-units", "measured")
    assert step.program.elapsed.timespan_per_s == 20.0
    fixed = program_of("cfc-units", "fixed")
    x, start = np.ones((1, 5)), Interpreter(step).start(1)
    got, _ = Interpreter(step).step({"input": x}, start, np.array([[0.1]]))
    expected, _ = Interpreter(fixed).step({"input": x}, start)
    np.testing.assert_allclose(got["output"], expected["output"], rtol=0, atol=LIMIT)


def test_time_that_is_not_given():
    program = Interpreter(program_of("cfc-units", "measured"))
    with pytest.raises(ValueError, match=r"the program takes 'dt', the seconds since the last sample, \(rows, 1\)"):
        program.step({"input": np.ones((1, 5))}, program.start(1))


def test_sequences_start_from_the_initial_state_of_the_program():
    text, tensors = everything()
    program = Interpreter(decoded(text, tensors))
    start = program.start(3)
    np.testing.assert_array_equal(start["h_in"], np.tile(tensors["h.initial"], (3, 1)))
    for name in ("g_in", "u_in", "m_in", "c_in", "r_in"):
        np.testing.assert_array_equal(start[name], np.zeros((3, 2)))


def test_resets_of_a_closed_loop_start_there_again():
    step = decoded(*everything())
    program, rows = Interpreter(step), 2
    draw = np.random.default_rng(3)
    half = {own.name: draw.standard_normal((4, rows, *own.shape)) for own in step.program.inputs}
    twice = {name: np.concatenate([value, value]) for name, value in half.items()}
    samples = excite_like(twice, np.tile(np.full((4, rows, 1), 0.05), (2, 1, 1)), [0, 4])
    results = closed_loop.interpreted(program, samples)
    assert set(results) == {"action", "room", "h_out", "g_out", "u_out", "m_out", "c_out", "r_out"}
    for value in results.values():
        np.testing.assert_array_equal(value[:4], value[4:])
    assert not np.array_equal(results["h_out"][0], results["h_out"][1])


def excite_like(inputs, dt, resets):
    reset = np.isin(np.arange(len(dt)), resets)
    return Excitation(inputs, dt, reset, (("recorded", 0, len(dt)),))


@pytest.mark.parametrize("timespan", [-0.5, np.inf])
def test_a_constant_timespan_that_no_core_can_take_is_refused_when_it_is_read(timespan):
    """One that a network computes is refused where it comes up; see `test_timespans_from_a_column`."""
    text, tensors = everything()
    tensors["usual"] = np.array([timespan])
    with pytest.raises(BundleError, match="the timespan 'usual' is"):
        decoded(text, tensors)
