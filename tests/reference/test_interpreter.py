"""The interpreter of step programs against torch: each operation, each core, rows, dtypes and whole sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from programs import decoded, everything, single
from recorded import MODELS, TIMES, program_of, trained_of
from torch.nn import functional

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


@dataclass(frozen=True)
class Row:
    """One use of an operation: `torch_` takes what the program takes, (rows, *shape) each, and its tensors by name."""

    op: str
    torch_: Callable[..., torch.Tensor]
    shapes: tuple[tuple[int, ...], ...] = ((3, 4),)
    weights: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    above: float = -3.0  # what the inputs are drawn from
    below: float = 3.0


def row(op, torch_, *shapes, weights=(), above=-3.0, below=3.0, **attributes):
    return Row(op, torch_, shapes or ((3, 4),), dict(weights), attributes, above, below)


def drawn(*shape, seed=5):
    return np.random.default_rng(seed).standard_normal(shape)


def pairwise(op, torch_):
    return row(op, lambda a, b, **_: torch_(a, b).double(), (3, 4), (3, 4))


def conv(torch_, shape, kernel, bias=True, *, strides, pads, dilations, group=1):
    """torch pads both ends alike, so it is padded before."""
    space = len(strides)
    both = [end for k in reversed(range(space)) for end in (pads[k], pads[space + k])]

    def expected(x, **own):
        lead = x.shape[: -space - 1]
        padded = functional.pad(x.reshape(-1, *x.shape[-space - 1 :]), both)
        y = torch_(padded, own["W"], own.get("B"), stride=strides, dilation=dilations, groups=group)
        return y.reshape(*lead, *y.shape[1:])

    weights = {"W": drawn(*kernel)} | ({"B": drawn(kernel[0], seed=6)} if bias else {})
    return row("Conv", expected, shape, weights=weights, strides=strides, pads=pads, dilations=dilations, **_but(group))


def _but(group):
    return {} if group == 1 else {"group": group}


def pool(op, torch_, shape, kernel, strides, pads, **options):
    space = len(kernel)

    def expected(x):
        lead = x.shape[:-space]
        y = torch_(x.reshape(-1, 1, *x.shape[-space:]), kernel, strides, pads[:space], **options)
        return y.reshape(*lead, *y.shape[2:])

    return row(op, expected, shape, kernel=kernel, strides=strides, pads=pads)


ROWS = {
    "abs": row("Abs", torch.abs),
    "atan": row("Atan", torch.atan),
    "cos": row("Cos", torch.cos),
    "erf": row("Erf", torch.erf),
    "exp": row("Exp", torch.exp),
    "floor": row("Floor", torch.floor),
    "log": row("Log", torch.log, above=0.1),
    "neg": row("Neg", torch.neg),
    "relu": row("Relu", torch.relu),
    "sigmoid": row("Sigmoid", torch.sigmoid),
    "sin": row("Sin", torch.sin),
    "softplus": row("Softplus", functional.softplus),
    "sqrt": row("Sqrt", torch.sqrt, above=0.0),
    "tanh": row("Tanh", torch.tanh),
    "add": pairwise("Add", torch.add),
    "sub": pairwise("Sub", torch.sub),
    "mul": pairwise("Mul", torch.mul),
    "div": row("Div", lambda a, b: a / b, (3, 4), (3, 4), above=0.5),
    "max": pairwise("Max", torch.maximum),
    "min": pairwise("Min", torch.minimum),
    "pow": row("Pow", torch.pow, (3, 4), (3, 4), above=0.1),
    "add-broadcast": row("Add", lambda a, b: a + b[:, None], (2, 3, 4), (3, 1)),
    "mul-of-a-number": row("Mul", lambda a, b: a * b[:, None, None], (3, 4), ()),
    "equal": row("Equal", lambda a, b: (a == b).double(), (3, 4), (3, 4)),
    "greater": pairwise("Greater", torch.gt),
    "greater-or-equal": pairwise("GreaterOrEqual", torch.ge),
    "less": pairwise("Less", torch.lt),
    "less-or-equal": pairwise("LessOrEqual", torch.le),
    "and": pairwise("And", lambda a, b: (a > 0) & (b > 0)),
    "or": pairwise("Or", lambda a, b: (a > 0) | (b > 0)),
    "not": row("Not", lambda a: (a <= 0).double()),
    "where": row("Where", lambda a, b, c: torch.where(a > 0, b, c[:, None]), (3, 4), (3, 4), (4,)),
    "elu": row("Elu", lambda x: functional.elu(x, 0.7), alpha=0.7),
    "leaky-relu": row("LeakyRelu", lambda x: functional.leaky_relu(x, 0.3), alpha=0.3),
    "hard-sigmoid": row("HardSigmoid", lambda x: torch.clamp(x * 0.3 + 0.4, 0, 1), alpha=0.3, beta=0.4),
    "softmax": row("Softmax", lambda x: torch.softmax(x, 1)),
    "softmax-last": row("Softmax", lambda x: torch.softmax(x, 2), axis=1),
    "log-softmax": row("LogSoftmax", lambda x: torch.log_softmax(x, 2), axis=1),
    "reduce-sum": row("ReduceSum", lambda x: x.sum((1, 3), keepdim=True), (2, 3, 4), axes=[0, 2]),
    "reduce-mean": row("ReduceMean", lambda x: x.mean((1, 3), keepdim=True), (2, 3, 4), axes=[0, 2]),
    "reduce-max": row("ReduceMax", lambda x: x.amax((1, 3), keepdim=True), (2, 3, 4), axes=[0, 2]),
    "reduce-min": row("ReduceMin", lambda x: x.amin((1, 3), keepdim=True), (2, 3, 4), axes=[0, 2]),
    "reshape": row("Reshape", lambda x: x.reshape(-1, 2, 6), shape=[2, 6]),
    "expand": row("Expand", lambda x: x[:, None].expand(-1, 5, 3, 4), (3, 1), shape=[5, 3, 4]),
    "transpose": row("Transpose", lambda x: x.permute(0, 3, 1, 2), (2, 3, 4), perm=[2, 0, 1]),
    "slice": row("Slice", lambda x: x[:, :, 1:4:2], (2, 5), axis=1, start=1, stop=4, step=2),
    "gather": row(
        "Gather", lambda x, indices: x[:, :, indices.long()], weights={"indices": np.array([3, 0, 0], np.int32)}, axis=1
    ),
    "concat": row("Concat", lambda *parts: torch.cat(parts, 2), (2, 3), (2, 1), (2, 4), axis=1),
    "gemm": row("Gemm", lambda x, **own: x @ own["B"] + own["C"], weights={"B": drawn(4, 5), "C": drawn(5)}),
    "gemm-plain": row("Gemm", lambda x, **own: x @ own["B"], (4,), weights={"B": drawn(4, 5)}),
    "matmul": row("MatMul", torch.matmul, (3, 4), (4, 2)),
    "matmul-of-many": row("MatMul", lambda a, b: a @ b[:, None], (5, 3, 4), (4, 2)),
    "conv-1": conv(functional.conv1d, (2, 9), (3, 2, 3), strides=[1], pads=[0, 0], dilations=[1]),
    "conv-1-all": conv(
        functional.conv1d, (4, 11), (6, 2, 3), strides=[2], pads=[1, 3], dilations=[2], group=2, bias=False
    ),
    "conv-2": conv(functional.conv2d, (2, 6, 5), (3, 2, 3, 2), strides=[1, 1], pads=[0] * 4, dilations=[1, 1]),
    "conv-2-all": conv(
        functional.conv2d, (4, 7, 9), (4, 2, 2, 3), strides=[2, 1], pads=[0, 1, 2, 3], dilations=[1, 2], group=2
    ),
    "conv-2-depthwise": conv(
        functional.conv2d, (3, 6, 6), (6, 1, 3, 3), strides=[1, 1], pads=[1] * 4, dilations=[1, 1], group=3
    ),
    "conv-2-of-frames": conv(
        functional.conv2d, (2, 3, 5, 5), (2, 3, 3, 3), strides=[1, 2], pads=[1, 0, 1, 0], dilations=[1, 1]
    ),
    "conv-3": conv(
        functional.conv3d,
        (2, 5, 6, 4),
        (4, 1, 2, 3, 2),
        strides=[1, 2, 1],
        pads=[1, 0, 1, 0, 1, 0],
        dilations=[2, 1, 1],
        group=2,
    ),
    "layer-normalization": row(
        "LayerNormalization",
        lambda x, scale, bias: functional.layer_norm(x, (4,), scale, bias, 0.01),
        weights={"scale": drawn(4), "bias": drawn(4, seed=6)},
        epsilon=0.01,
    ),
    "max-pool-1": pool("MaxPool", functional.max_pool1d, (2, 9), [3], [2], [1, 1]),
    "max-pool-2": pool("MaxPool", functional.max_pool2d, (2, 6, 7), [2, 3], [1, 2], [1, 0, 1, 0]),
    "max-pool-3": pool("MaxPool", functional.max_pool3d, (1, 4, 4, 5), [2, 2, 3], [2, 1, 1], [0, 1, 1, 0, 1, 1]),
    "average-pool-1": pool("AveragePool", functional.avg_pool1d, (2, 9), [3], [2], [1, 1]),
    "average-pool-2": pool("AveragePool", functional.avg_pool2d, (2, 6, 7), [2, 3], [1, 2], [1, 1, 1, 1]),
    "average-pool-3": pool("AveragePool", functional.avg_pool3d, (1, 4, 4, 5), [2, 2, 3], [2, 1, 1], [0] * 6),
}


def inputs_of(own: Row, rows: int) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    values = [draw.uniform(own.above, own.below, (rows, *shape)) for shape in own.shapes]
    if own.op in ("Equal", "GreaterOrEqual", "LessOrEqual"):
        values[1] = np.where(values[1] > 0, values[0], values[1])  # some are equal
    return values


def expected_of(own: Row, values: list[np.ndarray]) -> np.ndarray:
    weights = {name: torch.from_numpy(value) for name, value in own.weights.items()}
    return own.torch_(*map(torch.from_numpy, values), **weights).numpy()


def program_of_row(own: Row, result: tuple[int, ...]):
    form = OPERATIONS[own.op]
    return decoded(
        *single(
            own.op,
            *own.shapes,
            weights=own.weights,
            result=result,
            truths=form.truths,
            truth=bool(form.truth),
            **own.attributes,
        )
    )


def stepped(step, values, dtype=np.float64):
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
    program, values = Interpreter(step, np.float32), {}
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
