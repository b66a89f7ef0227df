"""Networks that loop cells by themselves: the user writes one turn of the loop, and that is what is exported."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from exports import quick_export, short_verifications
from ncps.torch import LTC, CfC, CfCCell, LTCCell, WiredCfCCell
from ncps.wirings import AutoNCP
from torch import nn
from torch.nn import functional

import lnn_edge
from lnn_edge.cli.program import main
from lnn_edge.errors import VerificationError
from lnn_edge.export.verify_against import verify_against

LIMIT = 1e-5  # as for single layers: outputs of order 1, some dozen float32 operations more


def wiring(inputs, units=10, outputs=3):
    wired = AutoNCP(units, outputs, seed=3)
    wired.build(inputs)
    return wired


CELLS = {
    "ltc": lambda: LTCCell(wiring(4), 4),
    "cfc": lambda: CfCCell(4, 10, backbone_units=6, backbone_layers=1),
    "cfc pure": lambda: CfCCell(4, 10, mode="pure", backbone_units=6, backbone_layers=1),
    "wired cfc": lambda: WiredCfCCell(4, wiring(4)),
}


class Loop(nn.Module):
    """An encoder, a liquid cell and a head, looped in the forward as people do who need more than the ncps layers."""

    def __init__(self, kind="ltc"):
        super().__init__()
        self.encoder = nn.Linear(5, 4)
        self.cell = CELLS[kind]()
        self.units = 10
        self.head = nn.Linear(10 if kind.startswith("cfc") else 3, 2)

    def forward(self, x, timespans=None):
        state, outputs = None, []
        for t in range(x.shape[1]):
            y, state = self.step(x[:, t], state, 1.0 if timespans is None else timespans[:, t : t + 1])
            outputs.append(y)
        return torch.stack(outputs, dim=1), state

    def step(self, x, state, timespan=1.0):
        h = torch.zeros(len(x), self.units) if state is None else state
        y, h = self.cell(torch.tanh(self.encoder(x)), h, timespan)
        return self.head(y), h


def recording(steps=40, features=5, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, features)).astype(np.float32)


def export(module, path, **options):
    example = options.pop("example", recording())
    return quick_export(module, path / "m.lnn", example=example, **options)


def streamed(path, samples, dt=None):
    stream = lnn_edge.load(path / "m.lnn").stream()
    given = [{} if dt is None else {"dt_s": dt[k]} for k in range(len(samples))]
    return np.stack([stream.step(x, **time).copy() for x, time in zip(samples, given, strict=True)])


def whole(module, x, spans=None):
    with torch.no_grad():
        return module.eval()(*(torch.from_numpy(np.asarray(a, np.float32))[None] for a in (x, spans) if a is not None))


def refused(path, module, error, match, **options):
    with pytest.raises(error, match=match):
        export(module, path, **options)
    assert not list(path.glob("*.lnn*"))


def rows_compared(report):
    return {row.against for row in report.comparisons}


@pytest.mark.parametrize("kind", CELLS)
def test_stream_equals_the_whole_loop(kind, tmp_path):
    module, x = Loop(kind), recording(60, seed=1)
    report = export(module, tmp_path, step=module.step)
    assert "torch on the whole sequence" in str(rows_compared(report))
    np.testing.assert_allclose(streamed(tmp_path, x), whole(module, x)[0][0].numpy(), atol=LIMIT, rtol=0)


@pytest.mark.parametrize("kind", CELLS)
def test_measured_time_goes_into_the_cells(kind, tmp_path):
    module, x = Loop(kind), recording(60, seed=1)
    export(module, tmp_path, step=Loop.step, time="measured", period_s=0.1)
    dt = np.random.default_rng(2).uniform(0.02, 0.5, 60)
    expected = whole(module, x, dt / 0.1)[0][0].numpy()
    np.testing.assert_allclose(streamed(tmp_path, x, dt), expected, atol=LIMIT, rtol=0)


def test_timespan_of_training_is_folded(tmp_path):
    module, x = Loop(), recording(60, seed=1)
    export(module, tmp_path, step=module.step, timespan=0.25)
    expected = whole(module, x, np.full(60, 0.25))[0][0].numpy()
    np.testing.assert_allclose(streamed(tmp_path, x), expected, atol=LIMIT, rtol=0)


class Everything(nn.Module):
    """Layers and cells of both libraries, a state of several makes, and a loop outside."""

    def __init__(self):
        super().__init__()
        self.ltc = LTC(4, wiring(4), batch_first=False)
        self.cfc = CfC(3, 6, mixed_memory=True, return_sequences=False)
        self.gru = nn.GRU(6, 5, num_layers=2, batch_first=True)
        self.lstm = nn.LSTMCell(5, 4)
        self.rnn = nn.RNNCell(4, 3, nonlinearity="relu")

    def turn(self, inputs, state):
        x = torch.cat([inputs["left"], inputs["right"]], dim=-1)
        state = state or {"ltc": None, "cfc": None, "gru": None, "cells": (None, None, None), "last": None}
        y, ltc = self.ltc(x.unsqueeze(0), state["ltc"])
        y, cfc = self.cfc(input=y[0].unsqueeze(1), hx=state["cfc"])
        y, gru = self.gru(y.unsqueeze(1), state["gru"])
        h, c, r = state["cells"]
        h, c = self.lstm(y[:, 0], None if h is None else (h, c))
        r = self.rnn(h, r)
        last = torch.zeros_like(x) if state["last"] is None else state["last"]
        after = {"ltc": ltc, "cfc": cfc, "gru": gru, "cells": (h, c, r), "last": x}
        return {"action": torch.tanh(r), "change": x - last}, after


def two_arms(steps=40, seed=0):
    x = recording(steps, 4, seed)
    return {"left": x[:, :1], "right": x[:, 1:]}


def looped(module, step, samples, rows=1):
    """What the user's own loop gives, by output name."""
    outputs, state = [], None
    count = len(next(iter(samples.values())))
    for k in range(count):
        with torch.no_grad():
            x = {name: torch.from_numpy(value[k][None]).expand(rows, -1) for name, value in samples.items()}
            y, state = step(module, x, state)
        outputs.append(y)
    return {name: np.stack([y[name].numpy() for y in outputs]) for name in outputs[0]}


@pytest.mark.parametrize("batch", [1, 3])
def test_states_of_any_make(batch, tmp_path):
    module, samples = Everything().eval(), two_arms(50, seed=4)
    report = export(module, tmp_path, step=Everything.turn, example=two_arms(), batch=batch)
    assert "torch on the whole sequence" not in str(rows_compared(report))  # the module has no forward to compare with
    model = lnn_edge.load(tmp_path / "m.lnn")
    names = [pair.input for pair in model.manifest.states]
    assert names == [f"{n}_in" for n in ("ltc", "cfc.0", "cfc.1", "gru", "cells.0", "cells.1", "cells.2", "last")]
    stream = model.stream()
    expected = looped(module, Everything.turn, samples, rows=batch)
    for k in range(50):
        given = {name: np.repeat(value[k][None], batch, axis=0) for name, value in samples.items()}
        step = stream.step(given if batch > 1 else {name: value[0] for name, value in given.items()})
        for name, value in expected.items():
            np.testing.assert_allclose(np.reshape(step[name], value[k].shape), value[k], atol=LIMIT, rtol=0)


def test_cell_that_is_called_twice_per_sample(tmp_path):
    """Two solver steps per sample, as some trainings do; each call is a step of its own in the graph."""

    def twice(model, x, state):
        y, state = model["cell"](x, torch.zeros(len(x), 10) if state is None else state, 0.5)
        y, state = model["cell"](x, state, elapsed_time=0.5)
        return y, state

    module = nn.ModuleDict({"cell": LTCCell(wiring(5), 5)})
    export(module, tmp_path, step=twice)
    x = recording(30, seed=5)
    expected = looped(module, lambda m, v, s: wrap(twice(m, v["x"], s)), {"x": x})["y"][:, 0]
    np.testing.assert_allclose(streamed(tmp_path, x), expected, atol=LIMIT, rtol=0)


def wrap(result):
    y, state = result
    return {"y": y}, state


def test_several_samples_per_call_and_half_precision(tmp_path):
    module, x = Loop("wired cfc"), recording(40, seed=6)
    export(module, tmp_path, step=module.step, unroll=4)
    blocks = streamed(tmp_path, x.reshape(10, 4, 5)).reshape(40, 2)
    np.testing.assert_allclose(blocks, whole(module, x)[0][0].numpy(), atol=LIMIT, rtol=0)
    half = export(module, tmp_path, step=module.step, precision="float16", overwrite=True)
    assert half.precision == "float16"
    assert half.passed


class Learned(Loop):
    """A loop that starts from a state that was trained."""

    def __init__(self):
        super().__init__()
        self.start = nn.Parameter(torch.linspace(-0.5, 0.5, 10)[None])

    def step(self, x, state, timespan=1.0):
        return super().step(x, self.start.expand(len(x), -1) if state is None else state, timespan)


@pytest.mark.parametrize("batch", [1, 2])
def test_initial_state_that_was_trained(batch, tmp_path, monkeypatch):
    module, x = Learned(), recording(30, seed=7)
    refused(tmp_path, module, ValueError, "does not start from zeros.*initial_state=", step=module.step)
    export(module, tmp_path, step=module.step, initial_state=lambda model: model.start, batch=batch)
    samples = np.repeat(x[:, None], 2, axis=1) if batch == 2 else x
    expected = whole(module, x)[0][0].numpy()
    expected = np.repeat(expected[:, None], 2, axis=1) if batch == 2 else expected
    np.testing.assert_allclose(streamed(tmp_path, samples), expected, atol=LIMIT, rtol=0)
    other = Learned()
    with torch.no_grad():
        other.load_state_dict(module.state_dict())
        other.start.add_(0.1)
    short_verifications(monkeypatch)
    report = verify_against(
        other, tmp_path / "m.lnn", example=x, step=other.step, initial_state=other.start, progress=lambda *_: None
    )
    assert not report.passed


def test_the_users_model_is_left_alone(tmp_path):
    module = Loop().double().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    export(module, tmp_path, step=module.step)
    assert module.training
    assert "forward" not in vars(module.cell)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_broken_step_is_caught_by_the_forward(tmp_path):
    """The step is not trusted: the model's own forward over the sequence is what was trained."""

    def forgets(model, x, state):
        return model.step(x, None if state is None else 0.9 * state)

    match = (
        "torch stepped and torch on the whole sequence differ .* not one turn of the loop in the model's own forward"
    )
    refused(tmp_path, Loop(), ValueError, match, step=forgets)


def test_forward_that_is_the_step_itself(tmp_path):
    """A forward with a state that must be passed is no loop; it can be the step."""

    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = LTCCell(wiring(5), 5)

        def forward(self, observation, hx):
            return self.cell(observation, torch.zeros(len(observation), 10) if hx is None else hx)

    export(Policy(), tmp_path, step=Policy.forward)
    export(Policy(), tmp_path, step=lambda model, x, state: model(x, state), overwrite=True)


def test_hidden_forward(tmp_path):
    """What the refusals advise where the forward is something else than the loop that was trained."""

    class Scores(Loop):
        def forward(self, x):
            return torch.stack([super().forward(x)[0].mean()])

    module = Scores()
    refused(tmp_path, module, ValueError, "own forward.*cannot be called.*or.*hide it|hide it", step=module.step)
    hidden = nn.ModuleDict({"net": module})
    export(hidden, tmp_path, step=lambda model, x, state: model["net"].step(x, state))


class Plain(Loop):
    """A loop whose forward knows no time."""

    def forward(self, x):
        return super().forward(x)


def bare():
    return nn.ModuleDict({"cell": LTCCell(wiring(5), 5)})


def begun(x, state, units=10):
    return torch.zeros(len(x), units) if state is None else state


def with_cell(extra):
    """A step around one cell whose result is changed by a function of (x, y, state)."""

    def step(model, x, state):
        y, after = model["cell"](x, begun(x, state if not isinstance(state, tuple) else state[0]))
        return extra(x, y, after, state)

    return step


def grows(x, y, after, state):
    seen = x if state is None else torch.cat([state[1], x], dim=1)
    return y, (after, seen)


def counts(_x, y, after, state):
    return y, (after, torch.zeros(1, dtype=torch.long) if state is None else state[1] + 1)


def outside(cell):
    return lambda _model, x, state: cell(x, begun(x, state))


def raises(_model, _x, _state):
    raise RuntimeError("no such sensor")


def looked_up(x):
    """In a table of four rows, enough for the recording."""
    return functional.embedding(x[:, 0].abs().long(), torch.ones(4, 3))


NEAR_ZERO = np.random.default_rng(0).standard_normal((2, 40, 5)).astype(np.float32)
NEAR_ZERO[:, :3] = 0.01


REFUSED = {
    "no function": (TypeError, "`step` is str, expected a function: step", {"step": "step"}),
    "too few arguments": (TypeError, r"`step` takes \(model, x\), expected step", {"step": lambda model, x: x}),
    "one result": (TypeError, "step returned Tensor, expected .output, new_state", {"step": lambda _m, x, _s: x}),
    "three results": (TypeError, "a tuple of 3, expected", {"step": lambda _m, x, s: (x, s, s)}),
    "no state": (TypeError, "NoneType as 'h' in its new state", {"step": lambda _m, x, _s: (x, None)}),
    "empty state": (TypeError, r"new state \(\), expected a tensor", {"step": lambda _m, x, _s: (x, ())}),
    "no output": (TypeError, r"output \{\}, expected tensors", {"step": with_cell(lambda _x, _y, h, _s: ({}, h))}),
    "text as output": (
        TypeError, "str among its outputs", {"step": with_cell(lambda _x, y, h, _s: ({"y": y, "unit": "m"}, h))},
    ),
    "output without rows": (
        ValueError, r"output of shape \[3\] for one row", {"step": with_cell(lambda _x, y, h, _s: (y[0], h))},
    ),
    "growing state": (ValueError, r"shape \[1, 5\] .*\[1, 10\] .*does not grow", {"step": with_cell(grows)}),
    "counter": (TypeError, "torch.int64 as 'state_1' in its new state.*float tensor", {"step": with_cell(counts)}),
    "other model": (ValueError, "never calls 'cell' of the model", {"step": outside(LTCCell(wiring(5), 5))}),
    "method of another": (TypeError, "method of another model, Loop", {"step": Loop().step}),
    "random": (
        ValueError, "another result .*random", {"step": with_cell(lambda _x, y, h, _s: (y + torch.randn(1), h))},
    ),
    "raises on some": (
        ValueError, r"the step raised IndexError: .* \(test_step_functions.py.*called on sample \d+ of the proof",
        {"step": with_cell(lambda x, y, h, _s: (y + looked_up(0.5 * x), h))},
    ),
    "drawn from few": (
        ValueError, "another result .*random",
        {"step": with_cell(lambda _x, y, h, _s: (y + torch.randint(2, (1,)), h))},
    ),
    "number": (
        TypeError, r"'item', which export cannot translate .*takes a number out of the samples.*without float",
        {"step": with_cell(lambda x, y, h, _s: (y * x.mean().item(), h))},
    ),
    "number in math": (
        TypeError, r"decides on the value of a sample .*without float\(\), .item\(\) or math of Python",
        {"step": with_cell(lambda x, y, h, _s: (y * math.tanh(x.mean()), h))},
    ),
    "place": (
        TypeError, r"decides on the value of a sample .*without float\(\)",
        {"step": with_cell(lambda x, y, h, _s: (y[:, : int(x[0, 0].abs()) + 1][:, :1], h))},
    ),
    "place that is the same for small samples": (
        TypeError, r"decides on the value of a sample .*without float\(\)",
        {"step": with_cell(lambda x, y, h, _s: (y + h[:, int(x[0, 0].abs() > 20)], h))},
    ),
    "place that is the same for a sample near zero": (
        VerificationError, r"takes a number out of its samples \(test_step_functions.py, line \d+: .*of each sample",
        {
            "step": with_cell(lambda x, y, h, _s: (y + h[:, int(x[0, 0].abs() > 20)].unsqueeze(1), h)),
            "example": NEAR_ZERO,
        },
    ),
    "raises": (ValueError, r"RuntimeError: no such sensor .*input \[1, 5\] and the state None", {"step": raises}),
    "time": (
        ValueError, "takes no timespan.*step.model, x, state, timespan",
        {"step": with_cell(lambda _x, y, h, _s: (y, h)), "time": "measured", "period_s": 0.1},
    ),
    "taken name": (
        ValueError, "'h' becomes 'h_in' and 'h_out', which are taken",
        {"step": with_cell(lambda _x, y, h, _s: ({"h_out": y, "b": y}, h))},
    ),
    "initial state without step": (ValueError, "`initial_state` has a meaning only with `step`", {"initial_state": 1}),
    "packed otherwise": (
        ValueError, "takes its state as .* and returns it as",
        {"step": with_cell(lambda _x, y, h, _s: (y, (h, h))), "initial_state": torch.zeros(1, 10)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    error, match, options = REFUSED[name]
    module = Loop() if "step" not in options else bare()
    if "step" not in options:
        module = LTC(5, wiring(5))
    refused(tmp_path, module, error, match, **options)


@pytest.mark.parametrize(
    "extra",
    [lambda x, y, h, _s: (y, (h, x.sum())), lambda x, y, h, _s: (y + x.reshape(1, 5)[:, :1], h)],
    ids=["state without rows", "one row only"],
)
def test_a_step_that_knows_one_row_only_runs_for_a_batch(extra, tmp_path):
    """What is exported is the step of one row, so the author need not have thought of several."""
    module, x = bare(), np.stack([recording(), recording()[::-1]], axis=1)
    for name, batch in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        export(module, tmp_path / name, step=with_cell(extra), batch=batch)
    both = streamed(tmp_path / "two", x)
    for row in range(2):
        np.testing.assert_allclose(both[:, row], streamed(tmp_path / "one", x[:, row]), rtol=0, atol=LIMIT)


def test_cells_without_a_step_are_refused_with_what_to_type(tmp_path):
    refused(tmp_path, Loop(), TypeError, r"holds the cell 'cell'.*loops over time.*step=function")


def test_a_step_needs_an_example(tmp_path):
    refused(
        tmp_path,
        Loop(),
        ValueError,
        r"needs `example`, recorded samples as its step takes them",
        step=Loop.step,
        example=None,
    )


def test_a_step_needs_a_liquid_part(tmp_path):
    module = nn.ModuleDict({"cell": nn.GRUCell(5, 4)})
    refused(tmp_path, module, TypeError, "only torch's own GRUCell 'cell' inside", step=lambda m, x, s: (x, x))


def test_forward_without_time_beside_a_step_with_time(tmp_path):
    module = Plain()
    refused(
        tmp_path, module, ValueError, "forward, which it is compared with, takes none",
        step=module.step, time="measured", period_s=0.1,
    )  # fmt: skip


def test_forward_of_another_shape(tmp_path):
    class Summed(Loop):
        def forward(self, x):
            return super().forward(x)[0].sum(-1, keepdim=True)

    match = r"gives \[1\] per sample where the step gives 'output' as \[2\]"
    refused(tmp_path, Summed(), ValueError, match, step=Loop.step)


SCRIPT = """
import torch
from ncps.torch import LTC, LTCCell
from ncps.wirings import AutoNCP
from torch import nn

class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        wired = AutoNCP(10, 3, seed=3)
        wired.build(5)
        self.cell = LTCCell(wired, 5)
        self.start = nn.Parameter(torch.full((1, 10), 0.1))

    def step(self, x, state):
        return self.cell(x, state)

def begin(model):
    return model.start

def turn(model, x, state):
    return model.cell(x, torch.zeros(len(x), 10) if state is None else state)

def make_model():
    torch.manual_seed(0)
    return Policy()

def make_layer():
    return LTC(5, 3)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    np.save("walk.npy", recording())
    return tmp_path


def call(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("names", [("--step", "turn"), ("--step", "step", "--initial-state", "begin")])
def test_the_command_line_finds_the_step(names, work, capsys, short_commands):
    source = ("train.py:make_model", *names, "--example", "walk.npy")
    code, out, _ = call(capsys, "export", source[0], "m.lnn", *source[1:], "--json", "-")
    assert code == 0
    assert json.loads(out)["passed"]
    assert call(capsys, "verify", "m.lnn", "--against", *source)[0] == 0


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (
            ("--step", "x"),
            "--step is 'x', which is not a method of Policy nor a function of 'train.py'. Valid:",
        ),
        (("--step", "turn", "--initial-state", "end"), "--initial-state is 'end', which is not a method"),
    ],
)
def test_the_command_line_names_what_it_misses(names, match, work, capsys):
    code, _, err = call(capsys, "export", "train.py:make_model", "m.lnn", *names, "--example", "walk.npy")
    assert code == 2
    assert match in err


def test_initial_state_without_a_step(work, capsys):
    code, _, err = call(capsys, "export", "train.py:make_layer", "m.lnn", "--initial-state", "begin")
    assert code == 2
    assert "--initial-state has a meaning only with --step" in err


def test_verify_wants_a_model_for_a_step(capsys, cfc_bundle):
    code, _, err = call(capsys, "verify", cfc_bundle, "--step", "turn")
    assert code == 2
    assert "--step has a meaning only with --against" in err


class Irregular(nn.Module):
    """Time between samples is a column of the samples."""

    def __init__(self, kind):
        super().__init__()
        self.cell = CELLS[kind]()

    def forward(self, x):
        state, outputs = None, []
        for t in range(x.shape[1]):
            y, state = self.step(x[:, t], state)
            outputs.append(y)
        return torch.stack(outputs, dim=1)

    def step(self, x, state):
        return self.cell(x[:, :4], torch.zeros(len(x), 10) if state is None else state, x[:, 4:])


@pytest.mark.parametrize("kind", CELLS)
def test_timespans_from_a_column(kind, tmp_path):
    module, x = Irregular(kind), recording()
    x[:, 4] = np.random.default_rng(2).uniform(0.1, 1.5, len(x))
    refused(tmp_path, module, ValueError, "gives the core 'cell' the timespan -", example=x, step=module.step)
    names = ["a", "b", "c", "d", lnn_edge.Feature("gap", limits=(0.05, 2.0))]
    export(module, tmp_path, example=x, inputs=names, step=module.step)
    np.testing.assert_allclose(streamed(tmp_path, x), whole(module, x)[0].numpy(), rtol=0, atol=LIMIT)


def test_an_output_that_no_sample_changes(tmp_path):
    """A deviation that was learned, beside the mean that it belongs to."""

    def step(model, x, state):
        y, after = model["cell"](x, begun(x, state))
        return {"mean": y, "std": model["std"].expand(len(x), 2)}, after

    module = bare()
    module["std"] = nn.ParameterList([nn.Parameter(torch.tensor([0.5, 2.0]))])

    def with_list(model, x, state):
        return step({"cell": model["cell"], "std": model["std"][0]}, x, state)

    export(module, tmp_path, step=with_list, batch=2, example=np.stack([recording()] * 2, axis=1))
    given = lnn_edge.load(tmp_path / "m.lnn").stream().step(np.zeros((2, 5), np.float32))
    np.testing.assert_array_equal(given["std"], [[0.5, 2.0]] * 2)
