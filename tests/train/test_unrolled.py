"""Whole sequences at once, equal to ncps' own loop: outputs, states and every gradient, for every cell of the table."""

from __future__ import annotations

import copy
import json
import subprocess

import pytest
import torch
from bundles import ROOT
from cases import BY_NAME, CASES, INPUTS
from hypothesis import given, settings
from hypothesis import strategies as st
from ncps.torch import LTC, CfC, CfCCell, LTCCell
from ncps.wirings import AutoNCP, Wiring
from torch import nn
from torch.nn.utils import parametrizations, prune

from lnn_edge.train.unrolled import layer
from lnn_edge.train.unrolled.layer import unrolled
from lnn_edge.train.unrolled.ltc_block import sensory_sums
from lnn_edge.train.unrolled.ltc_fold import _synapses
from lnn_edge.train.unrolled.support import is_covered

B, T = 4, 6
# Relative to the largest entry. float32: the promise of the issue; sums over all steps in another order differ by some
# hundred roundings of 6e-8. float64: the same sums with roundings of 1e-16, so that nothing but rounding can hide.
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}


def by_name(name, dtype=torch.float64):
    return BY_NAME[name].build().to(dtype)


def sequences(dtype=torch.float64, batch=B, steps=T, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, steps, INPUTS, generator=generator, dtype=torch.float64).to(dtype)


def timespans(dtype=torch.float64, batch=B, steps=T, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (0.3 + 2 * torch.rand(batch, steps, generator=generator, dtype=torch.float64)).to(dtype)


def start_state(core, batch=B, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    shape = (1 + core.use_mixed, batch, core.state_size)
    states = tuple((torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5).to(dtype).requires_grad_())
    return tuple(s.detach().requires_grad_() for s in states)


def as_hx(states):
    return states if len(states) > 1 else states[0]


def by_ncps(core, x, state, spans=None):
    """The layer itself, told to return every step, time in the axis where it wants it."""
    core = copy.copy(core)
    core.return_sequences = True
    flip = (lambda v: v) if core.batch_first else (lambda v: v.transpose(0, 1))
    y, hx = core(flip(x), state, timespans=None if spans is None else flip(spans))
    return flip(y), hx


def rows_by_ncps(core, x, state, spans):
    """Each row alone, for which ncps is right about time spans."""
    states = state if isinstance(state, tuple) else (state,)
    each = [
        by_ncps(core, x[k : k + 1], as_hx(tuple(s[k : k + 1] for s in states)), spans[k : k + 1]) for k in range(len(x))
    ]
    hx = [h if isinstance(h, tuple) else (h,) for _, h in each]
    return torch.cat([y for y, _ in each]), as_hx(tuple(torch.cat(parts) for parts in zip(*hx, strict=True)))


def everything(run, core, x, *, spans=None, states=None):
    """Outputs, states and gradients of all that can have one, by name."""
    core.zero_grad()
    leaves = {"x": x.clone().requires_grad_()} | ({} if spans is None else {"spans": spans.clone().requires_grad_()})
    states = start_state(core, len(x), x.dtype) if states is None else states
    y, hx = run(core, leaves["x"], as_hx(states), leaves.get("spans"))
    results = {"y": y} | {f"h{k}": h for k, h in enumerate(hx if isinstance(hx, tuple) else (hx,))}
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r.dtype) for r in results.values()]
    torch.stack([(w * r).mean() for w, r in zip(weights, results.values(), strict=True)]).sum().backward()
    leaves |= {f"state{k}": s for k, s in enumerate(states)} | dict(core.named_parameters())
    return results | {f"grad of {name}": leaf.grad for name, leaf in leaves.items()}


def assert_same(ours, theirs, dtype=torch.float64):
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        found = ours[name]
        if expected is None:  # ncps' loop never reached it
            assert found is None, name
            continue
        apart = float((found - expected).detach().abs().max())
        assert apart <= LIMITS[dtype] * max(1.0, float(expected.detach().abs().max())), f"{name}: {apart:.2e}"


@pytest.fixture
def no_steps(monkeypatch):
    """Fail where the cell is stepped, so that what passes was computed by the loop of this package."""
    for name in ("_step_cell", "_run_layer"):
        monkeypatch.setattr(layer, name, lambda *_: pytest.fail("stepped"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_ncps(case, dtype, no_steps):
    core, x = case.build().eval().to(dtype), sequences(dtype)
    assert_same(everything(unrolled, core, x), everything(by_ncps, core, x), dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_time_spans_belong_to_their_row(case, no_steps):
    core, x, spans = case.build().eval().double(), sequences(), timespans()
    ours, theirs = (everything(run, core, x, spans=spans) for run in (unrolled, rows_by_ncps))
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["ltc-units", "cfc-autoncp", "cfc-units"])
def test_time_spans_where_ncps_mixes_up_rows(name):
    """https://github.com/mlech26l/ncps/issues/81: as many rows as units are broadcast the wrong way, silently."""
    core = by_name(name)
    x, spans = sequences(batch=core.state_size), timespans(batch=core.state_size)
    ours, theirs = (everything(run, core, x, spans=spans) for run in (unrolled, rows_by_ncps))
    assert_same(ours, theirs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_gradients_same_outputs(case, no_steps):
    """Then the buffers of all steps are one."""
    core, x, spans = case.build().eval().double(), sequences(), timespans()
    y, hx = unrolled(core, x, timespans=spans)
    with torch.no_grad():
        again, hx_again = unrolled(core, x, timespans=spans)
    assert not again.requires_grad
    torch.testing.assert_close(
        (again, hx_again), (y, hx), rtol=0, atol=LIMITS[torch.float64]
    )  # products may round apart


@pytest.mark.parametrize("name", ["ltc-autoncp", "ltc-mixed", "cfc-units", "cfc-autoncp", "cfc-mixed-autoncp"])
def test_carried_state(name, no_steps):
    """Two halves are the whole, and gradients go through the state between them."""
    core, x, spans = by_name(name), sequences(), timespans()

    def halves(core, x, state, spans):
        first, state = unrolled(core, x[:, :2], state, spans[:, :2])  # fewer steps than a wired CfC has layers
        second, state = unrolled(core, x[:, 2:], state, spans[:, 2:])
        return torch.cat((first, second), dim=1), state

    ours, whole = (everything(run, core, x, spans=spans) for run in (halves, unrolled))
    assert_same(ours, whole)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-autoncp", "cfc-pure-autoncp", "cfc-mixed", "cfc-backbone-2"])
def test_few_steps(name, steps, no_steps):
    core, x = by_name(name).eval(), sequences(steps=steps)
    assert_same(everything(unrolled, core, x), everything(by_ncps, core, x))


@pytest.mark.parametrize("with_spans", [False, True], ids=["fixed", "measured"])
@pytest.mark.parametrize("name", ["ltc-autoncp", "ltc-mixed", "cfc-autoncp", "cfc-mixed", "cfc-backbone-2"])
def test_samples_that_come_alone_are_the_whole(name, with_spans, monkeypatch):
    """The cell is stepped for them, and the loop for the whole sequence."""
    core, x, state = by_name(name).eval(), sequences(batch=1), None
    spans, stepped = timespans(batch=1) if with_spans else None, []
    with torch.no_grad():
        whole, end = unrolled(core, x, None, spans)
        step = layer._step_cell
        monkeypatch.setattr(layer, "_step_cell", lambda *given: stepped.append(1) or step(*given))
        each = []
        for k in range(x.shape[1]):
            y, state = unrolled(core, x[:, k : k + 1], state, None if spans is None else spans[:, k : k + 1])
            each.append(y)
    assert len(stepped) == x.shape[1]
    torch.testing.assert_close((torch.cat(each, dim=1), state), (whole, end), rtol=0, atol=LIMITS[torch.float64])


@pytest.mark.parametrize("name", ["ltc-mixed", "ltc-autoncp", "cfc-mixed"])
def test_one_state_for_all_rows(name, no_steps):
    """As ncps does where it can."""
    core, x = by_name(name), sequences()
    ours, theirs = (everything(run, core, x, states=start_state(core, 1)) for run in (unrolled, by_ncps))
    assert_same(ours, theirs)


def test_state_is_zero_without_one(no_steps):
    core, x = by_name("ltc-mixed"), sequences()
    zeros = x.new_zeros(B, core.state_size)
    torch.testing.assert_close(unrolled(core, x), unrolled(core, x, (zeros, zeros)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("activation", "layers"), [("lecun_tanh", 2), ("tanh", 3), ("relu", 2), ("gelu", 2), ("silu", 3)]
)
def test_dropout_drops_what_ncps_drops(activation, layers, no_steps):
    """In training mode, from the same seed."""
    core = CfC(
        INPUTS, 6, backbone_units=16, backbone_layers=layers, backbone_dropout=0.4, activation=activation
    ).double()
    results = []
    for run in (unrolled, by_ncps):
        torch.manual_seed(5)
        results.append(everything(run, core, sequences()))
    assert_same(*results)
    assert_same(everything(unrolled, core.eval(), sequences()), everything(by_ncps, core, sequences()))


MODELS = st.one_of(
    st.builds(
        lambda units, outputs, kind, mixed: kind(INPUTS, AutoNCP(units + outputs + 2, outputs), mixed_memory=mixed),
        st.integers(4, 9), st.integers(1, 3), st.sampled_from([LTC, CfC]), st.booleans(),
    ),
    st.builds(
        lambda units, mode, layers, mixed, activation: CfC(
            INPUTS, units, None, True, True, mixed, mode, activation, backbone_units=7, backbone_layers=layers
        ),
        st.integers(1, 7), st.sampled_from(["default", "no_gate", "pure"]), st.integers(0, 3), st.booleans(),
        st.sampled_from(["lecun_tanh", "relu", "tanh", "gelu", "silu"]),
    ),
    st.builds(lambda units, unfolds, mixed: LTC(INPUTS, units, ode_unfolds=unfolds, mixed_memory=mixed),
        st.integers(1, 7), st.integers(1, 4), st.booleans()),
)  # fmt: skip


@settings(max_examples=60, deadline=None)  # deadline: the machine is shared
@given(MODELS, st.integers(1, 5), st.integers(1, 6), st.booleans(), st.integers(0, 2**31))
def test_any_model_equals_its_cell(core, batch, steps, with_spans, seed):
    core, x = core.double(), sequences(batch=batch, steps=steps, seed=seed)
    spans = timespans(batch=batch, steps=steps, seed=seed) if with_spans else None

    def stepped(core, x, state, spans):
        parts = state if isinstance(state, tuple) else (state, None)
        return layer._step_cell(core, x, *parts, spans)

    assert is_covered(core, (x,))
    ours, theirs = (everything(run, core, x, spans=spans) for run in (unrolled, stepped))
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LTC(2, AutoNCP(6, 1), ode_unfolds=2),
        lambda: LTC(2, 3, mixed_memory=True, ode_unfolds=2),
        lambda: CfC(2, 3, backbone_units=4, backbone_layers=2),
        lambda: CfC(2, AutoNCP(6, 1), mode="pure"),
        lambda: CfC(2, AutoNCP(6, 1), mode="no_gate", mixed_memory=True),
    ],
    ids=["ltc", "ltc-mixed", "cfc", "cfc-pure", "cfc-mixed"],
)
def test_gradients_are_those_of_the_function(make):
    """By finite differences, which know nothing of ncps or of autograd; to inputs, state, time spans and parameters."""
    torch.manual_seed(0)
    core = make().double()
    names = [name for name, p in core.named_parameters() if p.requires_grad]
    x, spans = sequences(batch=2, steps=3)[..., :2], timespans(batch=2, steps=3)

    def run(x, spans, *values):
        states, weights = values[: 1 + core.use_mixed], values[1 + core.use_mixed :]
        with torch.no_grad():  # gradcheck moves the values a little; ncps wants them in its own parameters
            for name, weight in zip(names, weights, strict=True):
                core.get_parameter(name).copy_(weight)
        y, hx = unrolled(core, x, as_hx(states), spans)
        return (y, *(hx if isinstance(hx, tuple) else (hx,)))

    leaves = [x.requires_grad_(), spans.requires_grad_(), *start_state(core, 2)]
    values = [core.get_parameter(name) for name in names]
    results = run(*leaves, *(v.detach().clone() for v in values))
    weights = [torch.randn_like(r) for r in results]
    grads = torch.autograd.grad(results, [*leaves, *values], weights)
    step = 1e-5
    inputs = [leaf.detach().clone() for leaf in (*leaves, *values)]
    for tensor, grad in zip(inputs, grads, strict=True):
        direction = torch.randn_like(tensor)
        sums = []
        for sign in (1, -1):
            tensor += sign * step * direction
            with torch.no_grad():
                sums.append(sum(float((w * r).sum()) for w, r in zip(weights, run(*inputs), strict=True)))
            tensor -= sign * step * direction
        # Central differences are off by step**2 = 1e-10 of third derivatives, and by 1e-16 / step = 1e-11 of rounding.
        assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(float((grad * direction).sum()), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-units", "cfc-autoncp", "cfc-mixed"])
def test_second_derivative_is_refused(name):
    core, x = by_name(name), sequences().requires_grad_()
    y, _ = unrolled(core, x)
    with pytest.raises(RuntimeError, match=r"gives first derivatives.*create_graph=True.*core\(x\)"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_second_derivative_by_parameters_of_the_inputs_alone_is_refused():
    """Where the gradient comes to the sensory synapses without passing the loop of the steps."""
    core, x = by_name("ltc-autoncp"), sequences().requires_grad_()
    wires, parameters = _synapses(core.rnn_cell, "sensory_")
    sums = sensory_sums(wires, x.flatten(0, 1).t(), *parameters)
    with pytest.raises(RuntimeError, match="gives first derivatives"):
        torch.autograd.grad(sums.sum(), x, create_graph=True)


@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-units", "cfc-pure-autoncp", "cfc-mixed"])
def test_backward_twice_gives_the_same(name):
    core, x = by_name(name), sequences().requires_grad_()
    y, _ = unrolled(core, x)
    first, second = (torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_outputs_changed_in_place_are_noticed():
    y, _ = unrolled(by_name("cfc-no-gate"), sequences())
    with torch.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


class Halved(CfCCell):
    def forward(self, x, hx, ts):
        y, h = super().forward(x, hx, ts)
        return 0.5 * y, 0.5 * h


class Clipped(LTCCell):
    def _ode_solver(self, inputs, state, elapsed_time):
        return super()._ode_solver(inputs, state, elapsed_time).clamp(-0.1, 0.1)


def own_cell(cell_type):
    def change(core):
        core.rnn_cell.__class__ = cell_type

    return change


def drift(core):
    core.rnn_cell.register_parameter("w", nn.Parameter(core.rnn_cell.w.detach() + 1))  # ncps keeps using the old one


def replace_positive(core):
    core.rnn_cell.make_positive_fn = nn.ReLU()


def hook_head(core):
    core.rnn_cell.ff1.register_forward_hook(lambda _module, _inputs, y: 2 * y)


def wide_softplus(core):
    core.rnn_cell.make_positive_fn = nn.Softplus(beta=2.0)


def other_activation(core):
    core.rnn_cell.backbone[1] = nn.ELU()


def approximate_gelu(core):
    core.rnn_cell.backbone[1] = nn.GELU(approximate="tanh")


def add_head(core):
    core.fc = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).double()


def patched_forward(core):
    forward = core.rnn_cell.forward
    core.rnn_cell.forward = lambda x, hx, ts: tuple(0.5 * part for part in forward(x, hx, ts))


def prune_head(core):
    prune.random_unstructured(core.rnn_cell.ff1, "weight", 0.5)


def parametrise_head(core):
    parametrizations.weight_norm(core.rnn_cell.ff1)


def mixed_modes(core):
    core.rnn_cell._layers[1].mode = "no_gate"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cfc-units", own_cell(Halved)),
        ("ltc-units", own_cell(Clipped)),
        ("ltc-units", replace_positive),
        ("ltc-units", wide_softplus),
        ("cfc-units", hook_head),
        ("cfc-units", other_activation),
        ("cfc-gelu", approximate_gelu),
        ("cfc-units", patched_forward),
        ("cfc-units", prune_head),
        ("cfc-mixed", parametrise_head),
        ("cfc-autoncp", add_head),
        ("cfc-autoncp", mixed_modes),
    ],
)
@pytest.mark.parametrize("with_spans", [False, True], ids=["", "spans"])
def test_what_ncps_does_not_build_is_stepped(name, change, with_spans):
    core, x = by_name(name).eval(), sequences()
    change(core)
    spans = timespans() if with_spans else None
    assert not is_covered(core, (x,))
    theirs = everything(rows_by_ncps if with_spans else by_ncps, core, x, spans=spans)
    assert_same(everything(unrolled, core, x, spans=spans), theirs)


def test_stale_parameters_are_those_that_ncps_uses():
    core, x = by_name("ltc-units"), sequences()
    drift(core)
    assert_same(everything(unrolled, core, x), everything(by_ncps, core, x))


@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-autoncp"])
def test_masks_that_train(name):
    """They should not, but whoever sets requires_grad everywhere gets ncps' gradients."""
    core, x = by_name(name), sequences()
    for parameter in core.parameters():
        parameter.requires_grad_()
    assert_same(everything(unrolled, core, x), everything(by_ncps, core, x))


def test_no_synapses():
    wiring = Wiring(4)
    wiring.set_output_dim(2)
    core, x = LTC(INPUTS, wiring).double(), sequences()
    assert_same(everything(unrolled, core, x), everything(by_ncps, core, x))


class Doubled(LTC):
    def forward(self, input, hx=None, timespans=None):  # noqa: A002 # as ncps calls it
        y, hx = super().forward(input, hx, timespans)
        return 2 * y, hx


@pytest.mark.parametrize("mixed", [False, True], ids=["", "mixed"])
@pytest.mark.parametrize("with_spans", [False, True], ids=["", "spans"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["rows-first", "time-first"])
def test_layer_with_its_own_forward(mixed, with_spans, batch_first):
    core = Doubled(INPUTS, AutoNCP(7, 2), False, batch_first, mixed).double()
    x, spans = sequences(), timespans() if with_spans else None
    theirs = everything(rows_by_ncps if with_spans else by_ncps, core, x, spans=spans)
    assert_same(everything(unrolled, core, x, spans=spans), theirs)
    assert core.return_sequences is False


def test_hooks_of_the_layer_run():
    core, calls = by_name("cfc-units"), []
    core.register_forward_hook(lambda *_: calls.append(1))
    unrolled(core, sequences())
    assert calls == [1]


def test_autocast_is_left_to_the_cell():
    core, x = by_name("cfc-units", torch.float32), sequences(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = unrolled(core, x)
        expected, _ = by_ncps(core, x, None)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"core": nn.GRU(5, 8)}, TypeError, r"`core` is GRU, expected an LTC or CfC of ncps.torch. Call"),
        ({"x": torch.zeros(9, 5)}, ValueError, r"`x` has shape \(9, 5\), expected \(sequences, steps, 5\).*unsqueeze"),
        ({"x": torch.zeros(2, 9, 4)}, ValueError, r"`x` has shape \(2, 9, 4\)"),
        ({"x": torch.zeros(2, 0, 5)}, ValueError, r"`x` has shape \(2, 0, 5\).* at least one of each"),
        ({"timespans": torch.ones(9)}, ValueError, r"`timespans` has shape \(9,\), expected \(2, 9\).*\.expand"),
        ({"timespans": torch.ones(2, 9, 8)}, ValueError, r"`timespans` has shape \(2, 9, 8\)"),
        ({"state": torch.zeros(2, 7)}, ValueError, r"`state` has .* shape \(2, 7\), expected \(2, 8\). Pass what"),
        ({"state": (torch.zeros(2, 8),) * 2}, ValueError, r"`state` is 2 tensor\(s\), expected one tensor. Pass what"),
        (
            {"core": by_name("ltc-mixed", torch.float32), "state": torch.zeros(2, 12)},
            ValueError,
            r"`state` is 1 tensor\(s\), expected a pair \(h, c\): the layer has mixed memory",
        ),
    ],
)
def test_refused(change, error, message):
    arguments = {"core": by_name("cfc-units", torch.float32), "x": torch.zeros(2, 9, INPUTS)} | change
    with pytest.raises(error, match=message):
        unrolled(**arguments)


def test_benchmark(warm):
    arguments = [
        "--runs",
        "1",
        "--steps",
        "5",
        "--batch",
        "2",
        "--json",
        "-",
        "--only",
        "CfC(8, 20)",
        "--only",
        "NCP(20",
    ]
    script = ROOT / "benchmarks" / "training.py"
    done = subprocess.run(["python", "-W", "error", script, *arguments], env=warm, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [r["name"] for r in results] == ["CfC(8, 20)", "CfC(8, AutoNCP(20, 4))", "LTC(8, AutoNCP(20, 4))"]
    assert all(r["gradient_difference"] <= LIMITS[torch.float32] for r in results)
