"""Refusals of what a forward does, each with what to write instead; and that this works when it is written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn
from torch.nn.utils import parametrizations, prune

import lnn_edge
from lnn_edge.export.trained.kept_states import (
    changed_in_the_loop,
    changed_on_the_way,
    changing_start,
    spans_of_a_length,
)
from lnn_edge.wording import in_a_shell

LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
X = np.random.default_rng(1).standard_normal((2, 24, 4)).astype(np.float32)
DONE = (np.random.default_rng(2).random((2, 24, 1)) < 0.3).astype(np.float32)


class Around(nn.Module):
    def __init__(self, inputs=4, units=6):
        super().__init__()
        self.rnn, self.head = CfC(inputs, units), nn.Linear(units, 2)


class OneSample(Around):
    """As a gym calls it: (batch, features) and the state."""

    def forward(self, obs, hx=None):
        y, hx = self.rnn(obs.unsqueeze(1), hx)
        return self.head(y.squeeze(1)), hx

    def step(self, x, state):
        return self(x, state)

    def by_author(self, x):
        results, state = [], None
        for sample in x:
            y, state = self(sample[None], state)
            results.append(y[0])
        return torch.stack(results)


class FedBack(Around):
    """Takes its last output, in a loop of its own."""

    def __init__(self):
        super().__init__(6)

    def step(self, x, state):
        h, last = (None, x.new_zeros(len(x), 2)) if state is None else state
        y, h = self.rnn(torch.cat([x, last], dim=-1).unsqueeze(1), h)
        last = self.head(y[:, 0])
        return last, (h, last)

    def forward(self, x):
        results, state = [], None
        for t in range(x.shape[1]):
            y, state = self.step(x[:, t], state)
            results.append(y)
        return torch.stack(results, dim=1)

    def by_author(self, x):
        return self(x[None])[0]


class Decays(FedBack):
    def __init__(self):
        Around.__init__(self)

    def step(self, x, h):
        y, h = self.rnn(x.unsqueeze(1), h)
        return self.head(y[:, 0]), 0.5 * h


class Shared(FedBack):
    def __init__(self):
        Around.__init__(self, 6)
        self.first = nn.Linear(4, 6)

    def step(self, x, state):
        one, other = (None, None) if state is None else state
        y, one = self.rnn(self.first(x).unsqueeze(1), one)
        y, other = self.rnn(y, other)
        return self.head(y[:, 0]), (one, other)

    def forward(self, x):
        return self.head(self.rnn(self.rnn(self.first(x))[0])[0])


class Folded(FedBack):
    """One core over each channel, in rows."""

    def __init__(self):
        Around.__init__(self, 1)
        self.join = nn.Linear(24, 2)

    def step(self, x, state):
        states = (None,) * 4 if state is None else state
        results = [self.rnn(x[:, None, k : k + 1], own) for k, own in enumerate(states)]
        return self.join(torch.cat([y[:, 0] for y, _ in results], dim=-1)), tuple(own for _, own in results)

    def forward(self, x):
        rows, time, channels = x.shape
        y = self.rnn(x.permute(0, 2, 1).reshape(rows * channels, time, 1))[0]
        return self.join(y.reshape(rows, channels, time, -1).permute(0, 2, 1, 3).reshape(rows, time, -1))


class StartsFromItsFirstSample(FedBack):
    def __init__(self):
        Around.__init__(self)
        self.begin = nn.Linear(4, 6)

    def step(self, x, state):
        h, began = (x.new_zeros(len(x), 6), x.new_zeros(len(x), 1)) if state is None else state
        h = torch.where(began > 0, h, torch.tanh(self.begin(x)))
        y, h = self.rnn(x.unsqueeze(1), h)
        return self.head(y[:, 0]), (h, torch.ones_like(began))

    def forward(self, x):
        return self.head(self.rnn(x, torch.tanh(self.begin(x[:, 0])))[0])


SAID = {
    OneSample: "takes one sample, and no sequence: that is the step. Type: step=lambda",
    FedBack: "a recurrence of your own.*step=function",
    Decays: "its loop over samples does not hand the state of the core 'rnn' on.*step=function",
    Shared: "calls the core 'rnn' more than once per sample.*step=function.*a tuple of as many",
    Folded: "gives the core 'rnn' 4 rows for one: it folds channels.*step=function.*a tuple of states",
    StartsFromItsFirstSample: r"from a state that differs from call to call.*torch.where\(began > 0, h, begin\)",
}


@pytest.mark.parametrize("kind", SAID)
def test_what_a_refusal_says_works(tmp_path, kind):
    torch.manual_seed(0)
    model = kind().eval()
    with pytest.raises(ValueError, match=SAID[kind]) as told:
        quick_export(model, tmp_path / "m.lnn", example=X)
    assert "backwards" not in str(told.value)
    quick_export(model, tmp_path / "m.lnn", example=X, step=kind.step)
    with torch.no_grad():
        expected = model.by_author(torch.from_numpy(X[0])).numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0]), expected, rtol=0, atol=LIMIT)


class Encoded(Around):
    """Columns go through a layer of torch before they come to the core."""

    def __init__(self, encoder):
        super().__init__(5)
        self.encoder = encoder

    def forward(self, x, hx=None):
        return self.rnn(self.encoder(x), hx)


class Convolved(nn.Sequential):
    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Liquid(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = CfC(4, 5)

    def forward(self, x):
        return self.core(x)[0]


ENCODERS = {
    "linear": lambda: nn.Linear(4, 5),
    "convolution": lambda: Convolved(nn.Conv1d(4, 5, 1)),
    "normalised": lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 5)),
    "core": Liquid,
}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_how_many_columns_a_model_takes_is_told(tmp_path, encoder):
    """Torch's own words are of matrices that cannot be multiplied."""
    with pytest.raises(ValueError, match=r"The model takes 4 columns, and the example has 2\. Pass one with 4$"):
        quick_export(Encoded(ENCODERS[encoder]()), tmp_path / "m.lnn", example=X[..., :2])


def test_columns_are_not_blamed_for_what_lies_inside(tmp_path):
    model = Encoded(nn.Sequential(nn.Linear(4, 3), nn.Linear(7, 5)))
    with pytest.raises(ValueError, match="own forward failed") as told:
        quick_export(model, tmp_path / "m.lnn", example=X)
    assert "The model takes" not in str(told.value)


class Resets(Around):
    """The loop of reinforcement learning: where an episode is done, the state begins anew."""

    def step(self, x, h):
        h = x["obs"].new_zeros(len(x["obs"]), 6) if h is None else h
        y, h = self.rnn(x["obs"].unsqueeze(1), h * (1 - x["done"]))
        return self.head(y[:, 0]), h

    def forward(self, obs, done, hx=None):
        results, h = [], obs.new_zeros(len(obs), 6) if hx is None else hx
        for t in range(obs.shape[1]):
            y, h = self.rnn(obs[:, t : t + 1], h * (1 - done[:, t]))
            results.append(self.head(y))
        return torch.cat(results, dim=1), h


def test_a_state_that_is_reset_within_a_sequence_is_told_as_such(tmp_path):
    torch.manual_seed(0)
    model, example = Resets().eval(), {"obs": X, "done": DONE}
    with pytest.raises(ValueError, match=r"does not hand the state of the core 'rnn' on.*resets.*step=function"):
        quick_export(model, tmp_path / "m.lnn", example=example)
    quick_export(model, tmp_path / "m.lnn", example=example, step=model.step)
    with torch.no_grad():
        expected = model(torch.from_numpy(X[:1]), torch.from_numpy(DONE[:1]))[0][0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run({"obs": X[0], "done": DONE[0]})
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


class OfLength(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = LTC(4, AutoNCP(8, 2))

    def forward(self, x, timespans=None):
        if timespans is None:
            timespans = torch.ones(x.shape[:2]) / x.shape[1]
        return self.rnn(x, timespans=timespans)[0]


class Grid(OfLength):
    def forward(self, x):
        t = torch.linspace(0, 1, x.shape[1]).expand(len(x), -1)
        return self.rnn(x, timespans=torch.diff(t, prepend=t[:, :1] - 0.1))[0]


@pytest.mark.parametrize(
    ("kind", "said"), [(OfLength, "as `timespans` then gets it"), (Grid, "give the forward an arg")]
)
def test_timespans_of_the_number_of_samples_are_told_as_such(tmp_path, kind, said):
    with pytest.raises(ValueError, match=rf"makes timespans of the number of samples.*{said}.*timespan=1 / 24"):
        quick_export(kind().eval(), tmp_path / "m.lnn", example=X)


def test_and_stream_with_the_timespan_that_is_named(tmp_path):
    torch.manual_seed(0)
    model = OfLength().eval()
    quick_export(model, tmp_path / "m.lnn", example=X, timespan=1 / 24)
    with torch.no_grad():
        expected = model(torch.from_numpy(X[:1]))[0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0]), expected, rtol=0, atol=LIMIT)


class SpansAsAFeature(OfLength):
    def forward(self, x, dt):
        return self.rnn(x, timespans=dt.squeeze(-1))[0]


def test_timespans_may_be_taken_as_a_feature(tmp_path):
    torch.manual_seed(0)
    model = SpansAsAFeature().eval()
    quick_export(model, tmp_path / "m.lnn", example=X, time="measured", period_s=0.1)
    dt = np.random.default_rng(3).uniform(0.3, 3.0, 24).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(X[:1]), torch.from_numpy(dt).reshape(1, -1, 1))[0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0], dt_s=dt * np.float32(0.1))
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


class NodeThatChangesItsState(Decays):
    """Keeps the state in an attribute, and changes it there: only one sample after the other tells."""

    def __init__(self):
        super().__init__()
        self.h = None

    def forward(self, x):
        y, h = self.rnn(x, self.h)
        self.h = 0.5 * h
        return self.head(y)

    def by_author(self, x):
        return torch.cat([self(sample[None, None])[0] for sample in x])


class NodeOfOneSample(NodeThatChangesItsState):
    """The same with its last output: it takes one sample at a time, (1, 1, features)."""

    step = FedBack.step

    def __init__(self):
        FedBack.__init__(self)
        self.h = self.last = None

    def forward(self, x):
        last = x.new_zeros(len(x), 1, 2) if self.last is None else self.last
        y, self.h = self.rnn(torch.cat([x, last], dim=-1), self.h)
        self.last = self.head(y)
        return self.last


@pytest.mark.parametrize(("kind", "hidden"), [(NodeThatChangesItsState, True), (NodeOfOneSample, False)])
def test_the_step_of_a_node_streams_what_its_author_runs(tmp_path, kind, hidden):
    torch.manual_seed(0)
    model = kind().eval()
    exported, step = model, kind.step
    if hidden:
        with pytest.raises(ValueError, match=r"hide it: export torch.nn.ModuleDict"):
            quick_export(model, tmp_path / "m.lnn", example=X, step=step)
        exported, step = nn.ModuleDict({"net": model}), lambda m, x, state: kind.step(m["net"], x, state)
    quick_export(exported, tmp_path / "m.lnn", example=X, step=step)
    with torch.no_grad():
        expected = model.by_author(torch.from_numpy(X[0])).numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0]), expected, rtol=0, atol=LIMIT)


class Cut(Around):
    def __init__(self, forward, inputs=4):
        super().__init__(inputs)
        self.own, self.norm = forward, nn.InstanceNorm1d(4)

    def forward(self, x):
        return self.own(self, x)


def autocast(model, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model.head(model.rnn(x)[0])


FORWARDS = {
    "norm-over-time": (
        lambda m, x: m.rnn(m.norm(x.transpose(1, 2)).transpose(1, 2))[0],
        r"\[1, 24, 4\], it takes: it computes with several samples at once",
    ),
    "checked-length": (lambda m, x: m.rnn(x.reshape(len(x), 24, 4))[0], r"\[1, 24, 4\], it takes"),
    "pair-to-layer": (lambda m, x: m.head(m.rnn(x)), r"return \(outputs, state\).*y, _ = self.rnn\(x\)"),
    "pair-to-method": (lambda m, x: m.rnn(x).mean(-1), r"return \(outputs, state\)"),
    "pair-in-place-of-a-tensor": (lambda m, x: m.rnn(x)[:, -1], r"return \(outputs, state\)"),
    "pair-times": (lambda m, x: m.rnn(x) * 0.5, r"return \(outputs, state\)"),
    "pair-plus": (lambda m, x: m.rnn(x) + x, r"return \(outputs, state\)"),
    "pair-from": (lambda m, x: x - m.rnn(x), r"return \(outputs, state\)"),
    "wrong-columns": (lambda m, x: m.rnn(x[..., :3])[0], r"\[1, 24, 4\], fails as well: pass an example as"),
    "burn-in": (lambda m, x: m.rnn(x)[0][:, 5:], "no number for few samples.*the output of each sample"),
    "autocast": (autocast, "computes in by itself, as under an autocast.*around the calls"),
    "double": (lambda m, x: m.head(m.rnn(x)[0].double()), "float32 throughout: leave casts"),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_a_forward_that_no_step_can_be_made_of(tmp_path, name):
    forward, said = FORWARDS[name]
    with pytest.raises((TypeError, ValueError), match=said):
        quick_export(Cut(forward).eval(), tmp_path / "m.lnn", example=X)


@pytest.mark.parametrize("tracing", [True, False], ids=["while-tracing", "called"])
def test_an_import_that_fails_is_told_as_such(tmp_path, tracing):
    def forward(model, x):
        if torch.compiler.is_exporting() or not tracing:
            import nowhere_to_be_found  # noqa: F401
        return model.head(model.rnn(x)[0])

    said = r"nowhere_to_be_found'.* It is an import that failed.*Install what is missing where this runs"
    with pytest.raises(TypeError if tracing else ValueError, match=said) as told:
        quick_export(Cut(forward).eval(), tmp_path / "m.lnn", example=X)
    assert "torch alone" not in str(told.value)


class Outputs(nn.Module):
    def forward(self, pair):
        return pair[0]


def test_a_sequential_of_a_core_and_a_layer_is_told_what_stands_between(tmp_path):
    core, head = CfC(4, 8), nn.Linear(8, 1)
    with pytest.raises(ValueError, match=r"In an nn.Sequential put .* def forward\(self, pair\): return pair\[0\]"):
        quick_export(nn.Sequential(core, head), tmp_path / "m.lnn", example=X)
    quick_export(nn.Sequential(core, Outputs(), head), tmp_path / "m.lnn", example=X)
    with torch.no_grad():
        expected = head(core(torch.from_numpy(X))[0])[0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X[0]), expected, rtol=0, atol=LIMIT)


def scripted(model):
    model.head = torch.jit.script(model.head)


def quantised(model):
    model.head = torch.ao.quantization.quantize_dynamic(nn.Sequential(model.head), {nn.Linear})


def valueless(model):
    model.head.to("meta")


def pruned(model):
    prune.l1_unstructured(model.rnn.rnn_cell.ff1, "weight", 0.5)


def parametrised(model):
    parametrizations.spectral_norm(model.rnn.rnn_cell.ff1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript and quantisation
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (scripted, "its part 'head' is TorchScript.*from its Python classes"),
        (quantised, r"its part 'head.0' is quantised.*from before torch.ao.quantization.*precision='float16'"),
        (valueless, r"weight 'head.weight' is on the device 'meta', which holds no values. Build the model on the CPU"),
        (pruned, r"pruning. Type: torch.nn.utils.prune.remove\(layer, 'weight'\)"),
        (parametrised, r"parametrize.remove_parametrizations\(layer, 'weight'\)"),
    ],
)
def test_modules_that_compute_otherwise_than_they_look(tmp_path, change, said):
    model = Cut(lambda m, x: m.head(m.rnn(x)[0])).eval()
    change(model)
    with pytest.raises((TypeError, ValueError), match=said):
        quick_export(model, tmp_path / "m.lnn", example=X)


class Masked(Around):
    def forward(self, x, mask):
        return self.rnn(x.masked_fill(~mask.bool(), 0.0))[0]


def test_masks_go_in_as_numbers_as_the_refusal_says(tmp_path):
    mask = np.random.default_rng(3).random((2, 24, 4)) > 0.5
    torch.manual_seed(0)
    model = Masked().eval()
    with pytest.raises(TypeError, match=r"astype\('float32'\), and .bool\(\) in the forward"):
        quick_export(model, tmp_path / "m.lnn", example={"x": X, "mask": mask})
    quick_export(model, tmp_path / "m.lnn", example={"x": X, "mask": mask.astype("float32")})
    with torch.no_grad():
        expected = model(torch.from_numpy(X[:1]), torch.from_numpy(mask[:1]))[0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run({"x": X[0], "mask": mask[0].astype(np.float32)})
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


class WithGoal(Around):
    def forward(self, x, goal):
        return self.rnn(torch.cat([x, goal.unsqueeze(1).expand(-1, x.shape[1], -1)], dim=-1))[0]


def test_a_constant_may_be_recorded_with_each_sample_if_it_is_one(tmp_path):
    torch.manual_seed(0)
    model = WithGoal(6).eval()
    goal = np.random.default_rng(3).standard_normal((2, 1, 2)).astype(np.float32).repeat(24, axis=1)
    quick_export(model, tmp_path / "m.lnn", example={"x": X, "goal": goal}, constants=["goal"])
    with torch.no_grad():
        expected = model(torch.from_numpy(X[:1]), torch.from_numpy(goal[:1, 0]))[0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream(constants={"goal": goal[0, 0]}).run(X[0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)
    goal[1, 7] += 1
    with pytest.raises(ValueError, match=r"'goal'\] has shape \(2, 24, 2\)|\['goal'\]` has shape .* changes within a"):
        quick_export(model, tmp_path / "n.lnn", example={"x": X, "goal": goal}, constants=["goal"])


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (lambda: changing_start("rnn"), ("step=function, called as step(", "--step NAME, of a")),
        (lambda: changed_on_the_way("hx", 1), ("step=lambda m, x, state: m['net'](x.uns", "--step NAME, of a")),
        (lambda: changed_in_the_loop("rnn"), ("step=function, called as step(", "--step NAME, of a")),
        (lambda: spans_of_a_length("dt"), ("timespan=1 / 24", "--timespan 0.0417")),
        (lambda: spans_of_a_length(None), ("timespan=1 / 24", "--timespan 0.0417")),
    ],
)
def test_advice_is_for_python_or_for_a_shell_and_never_both(told, words):
    with in_a_shell():
        shell = told()
    for text, (own, other) in ((told(), words), (shell, words[::-1])):
        assert own in text
        assert other not in text
