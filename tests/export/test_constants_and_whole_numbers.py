"""Inputs that are no float vector per sample: constants of a sequence, tokens, frames of a camera."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from cases import BY_NAME
from checks import make_ready
from exports import proven, quick_export
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from networks import Reaching
from torch import nn

import lnn_edge
from lnn_edge.backends import BACKENDS
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.errors import NonFiniteError

RNG = np.random.default_rng(3)
X = RNG.normal(size=(6, 40, 3)).astype(np.float32)
GOALS = RNG.normal(size=(6, 2)).astype(np.float32)
TOKENS = RNG.integers(0, 6, (4, 30))
FRAMES = RNG.integers(0, 256, (2, 8, 3, 6, 6)).astype(np.uint8)


class PerDevice(nn.Module):
    """The number of a device, embedded, which shifts what goes into the core."""

    def __init__(self):
        super().__init__()
        self.table, self.rnn, self.head = nn.Embedding(7, 3), LTC(3, AutoNCP(7, 2)), nn.Linear(2, 1)

    def forward(self, x, device):
        return self.head(self.rnn(x + self.table(device).unsqueeze(1))[0])


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(9, 4), CfC(4, AutoNCP(8, 2))

    def forward(self, x):
        return self.rnn(self.table(x))[0]


class Categories(nn.Module):
    """Two columns of categories, each with a table of its own."""

    def __init__(self):
        super().__init__()
        self.road, self.gear, self.rnn = nn.Embedding(4, 2), nn.Embedding(6, 3), CfC(5, 6)

    def forward(self, x):
        return self.rnn(torch.cat([self.road(x[..., 0]), self.gear(x[..., 1])], -1))[0]


class Camera(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(3, 4, 3, stride=2), CfC(4, 6)

    def forward(self, frames):
        flat = frames.flatten(0, 1).float() / 255.0
        return self.rnn(torch.relu(self.conv(flat)).mean((-1, -2)).view(*frames.shape[:2], -1))[0]


class Mixed(nn.Module):
    """Tokens without an axis for features, beside numbers."""

    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(6, 2), CfC(3 + 2, 6)

    def forward(self, x, phase):
        return self.rnn(torch.cat([x, self.table(phase)], -1))[0]


def made(kind, seed=0):
    torch.manual_seed(seed)
    return kind()


def exported(module, path, example, **options):
    quick_export(module, path / "m.lnn", example=example, **options)
    return lnn_edge.load(path / "m.lnn")


def by_author(module, *inputs):
    with torch.no_grad():
        return module(*map(torch.as_tensor, inputs))[0].numpy()


@pytest.fixture(scope="module")
def reaching(tmp_path_factory):
    module = made(Reaching)
    return module, exported(module, tmp_path_factory.mktemp("reaching"), {"x": X, "goal": GOALS}, window=10)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    module = made(Tokens)
    return module, exported(module, tmp_path_factory.mktemp("tokens"), TOKENS)


def test_constants_are_found_and_named(reaching):
    _, model = reaching
    assert [(t.name, t.shape, t.constant) for t in model.inputs] == [("x", (1, 3), False), ("goal", (1, 2), True)]
    assert [t.name for t in model.manifest.constants] == ["goal"]


def test_every_sequence_has_its_constants(reaching):
    module, model = reaching
    stream = model.stream(constants={"goal": GOALS[0]})
    for k in (0, 3, 5):
        stream.reset(constants={"goal": GOALS[k]})
        np.testing.assert_allclose(stream.run(X[k]), by_author(module, X[k : k + 1], GOALS[k : k + 1]), atol=2e-6)
    stream.reset()  # keeps the last
    np.testing.assert_allclose(stream.run({"x": X[0]}), by_author(module, X[:1], GOALS[5:]), atol=2e-6)


def test_constants_travel_in_states(reaching):
    module, model = reaching
    first, second = (model.stream(constants={"goal": goal}) for goal in GOALS[:2])
    first.run(X[0, :10])
    kept = pickle.loads(pickle.dumps(first.snapshot()))
    second.restore(kept)
    expected = by_author(module, X[:1], GOALS[:1])
    np.testing.assert_allclose(second.run(X[0, 10:]), expected[10:], atol=2e-6)
    state = model.initial_state(constants={"goal": GOALS[0]})
    for k in range(5):
        y, state = model.step(X[0, k], state)
        np.testing.assert_allclose(y, expected[k], atol=2e-6)


@pytest.mark.parametrize("every", [5, 4])  # windows abreast, and each stepped when it ends
def test_windows_have_constants(every, reaching):
    module, model = reaching
    stream = model.stream(window=10, every=every, constants={"goal": GOALS[0]})
    stream.step(X[3, 0])
    stream.reset(constants={"goal": GOALS[1]})
    for k in range(20):
        if k == 13:
            kept, stream = stream.snapshot(), model.stream(window=10, every=every, constants={"goal": GOALS[2]})
            stream.restore(kept)
        y = stream.step(X[1, k])
        if stream.fresh:
            np.testing.assert_allclose(y, by_author(module, X[1:2, k - 9 : k + 1], GOALS[1:2])[-1], atol=2e-6)


def test_constants_of_rows(tmp_path):
    module = made(Reaching)
    model = exported(module, tmp_path, {"x": X, "goal": GOALS}, batch=2, unroll=2)
    stream = model.stream(constants={"goal": GOALS[:2]})
    both = stream.run(X[:2, :10].swapaxes(0, 1))
    np.testing.assert_allclose(both[:, 1], by_author(module, X[1:2, :10], GOALS[1:2]), atol=2e-6)
    stream.reset(rows=[1], constants={"goal": GOALS[4:5]})
    both = stream.run(X[:2, 10:20].swapaxes(0, 1))
    np.testing.assert_allclose(both[:, 0], by_author(module, X[:1, :20], GOALS[:1])[10:], atol=2e-6)
    np.testing.assert_allclose(both[:, 1], by_author(module, X[1:2, 10:20], GOALS[4:5]), atol=2e-6)
    with pytest.raises(ValueError, match=r"constant `goal` has shape \(2,\) for 1 rows, expected \(1, 2\)"):
        stream.reset(rows=[0], constants={"goal": GOALS[0]})


@pytest.mark.parametrize(
    ("constants", "error", "message"),
    [
        (
            None,
            ValueError,
            r"constant inputs, which each sequence needs: goal, shape \(2,\). Type: model.stream\(constan",
        ),
        ({}, ValueError, "constant goal is missing"),
        ({"gaol": GOALS[0]}, ValueError, "no constant input 'gaol'.*Did you mean 'goal'"),
        ({"goal": GOALS[0], "x": X[0, 0]}, ValueError, "no constant input 'x'"),
        ({"goal": [1.0]}, ValueError, r"`goal` has shape \(1,\), but model 'm' takes shape \(2,\) per sequence"),
        (
            {"goal": GOALS},
            ValueError,
            r"has shape \(6, 2\), but model 'm' takes shape \(2,\) per sequence: goal_0, goal_1\.$",
        ),
        ({"goal": [1.0, np.inf]}, NonFiniteError, r"`goal` holds inf at 'goal_1'.* The constant was refused"),
        ({"goal": ["a", "b"]}, TypeError, "takes real numbers"),
        ([1.0, 2.0], TypeError, "`constants` is list, expected a dict"),
    ],
)
def test_wrong_constants_are_named(constants, error, message, reaching):
    _, model = reaching
    for begin in (model.stream, model.initial_state):
        with pytest.raises(error, match=message):
            begin(constants=constants)
    if constants is None:  # of a reset it keeps them
        return
    stream = model.stream(constants={"goal": GOALS[0]})
    stream.run(X[0, :5])
    before = stream.snapshot()
    with pytest.raises(error, match=message):
        stream.reset(constants=constants)
    after = stream.snapshot()
    for one, other in ((before.tensors, after.tensors), (before.kept, after.kept)):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_constants_do_not_change_in_mid_sequence(reaching):
    _, model = reaching
    stream = model.stream(constants={"goal": GOALS[0]})
    for call in (stream.step, stream.run):
        with pytest.raises(ValueError, match=r"`goal` is constant: .* Type: stream.reset\(constants=\{'goal': ...\}\)"):
            call({"x": X[0], "goal": GOALS[0]})
    with pytest.raises(ValueError, match="the state holds no constants"):
        model.step(X[0, 0], lnn_edge.State({s.input: np.zeros(s.shape, np.float32) for s in model.states}))


def test_a_model_without_constants_takes_none(tokens):
    _, model = tokens
    with pytest.raises(ValueError, match=r"no constant input 'goal'\. It takes all its inputs with each sample"):
        model.stream(constants={"goal": [1.0]})


@pytest.mark.parametrize(
    ("example", "constants", "message"),
    [
        ({"x": X, "goal": GOALS[:4]}, ["goal"], r"constant `example\['goal'\]` has shape \(4, 2\) for 6 recordings"),
        ({"x": X, "goal": GOALS}, ["gaol"], "`constants` names 'gaol', which is no input.*Did you mean 'goal'"),
        ({"x": X, "goal": GOALS}, ["goal", "x"], "all inputs, x, goal, are constants"),
        ({"x": X[0], "goal": X[0, :7, :2]}, None, r"different lengths per input.*name it: constants=\['...'\]"),
        ({"x": X, "goal": GOALS}, "goal", r"`constants` is 'goal', expected a list of names: constants=\['goal'\]"),
        (None, ["goal"], r"`constants` is \['goal'\], which needs an `example`"),
    ],
)
def test_wrong_constants_of_an_example(example, constants, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        quick_export(made(Reaching), tmp_path / "m.lnn", example=example, constants=constants)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("example", [{"x": X, "device": np.arange(6)}, {"x": X[0], "device": 3}])
def test_the_number_of_a_device(example, tmp_path):
    module = made(PerDevice)
    model = exported(module, tmp_path, example)
    (device,) = model.manifest.constants
    assert (device.shape, device.dtype, device.features[0].limits) == ((1, 1), "int32", (0.0, 6.0))
    for number in (0, 3, 6):
        stream = model.stream(constants={"device": number})
        np.testing.assert_allclose(stream.run(X[0]), by_author(module, X[:1], [number]), atol=2e-6)
    with pytest.raises(ValueError, match=r"`device` holds 7 .* its legal range is \[0, 6\]"):
        model.stream(constants={"device": 7})


def test_tokens_are_whole_numbers(tokens):
    module, model = tokens
    (own,) = model.inputs
    assert (own.shape, own.dtype, own.features[0].limits) == ((1, 1), "int32", (0.0, 8.0))
    expected = by_author(module, [[0, 8, 3]])  # of which 8 is not in the example
    np.testing.assert_allclose(model.stream().run([0, 8, 3]), expected, atol=2e-6)
    np.testing.assert_allclose(model.stream().run(np.array([[0.0], [8.0], [3.0]])), expected, atol=2e-6)
    np.testing.assert_array_equal(model.stream().step(5), model.stream().step([5]))
    graph = read_bundle(model.path)
    assert graph.step.program.inputs[0].dtype == "int32"


@pytest.mark.parametrize(
    ("token", "error", "message"),
    [
        (9, ValueError, r"`input` holds 9 at 'input_0' \(index \[0\]\); its legal range is \[0, 8\]"),
        (-1, ValueError, r"holds -1 .* its legal range is \[0, 8\]"),
        (2.5, ValueError, r"holds 2.5 at 'input_0' .*expected whole numbers from -2147483648 to 2147483647 \(int32\)"),
        (2**40, ValueError, r"holds 1099511627776 at 'input_0' .*expected whole numbers"),
        (float("nan"), NonFiniteError, "holds nan at 'input_0'"),
        ("a", TypeError, "takes whole numbers"),
        (True, TypeError, "takes whole numbers"),
        ([1, 2], ValueError, r"If these are several samples, type: stream.run\(x\)"),
    ],
)
def test_what_is_no_token_is_named(token, error, message, tokens):
    _, model = tokens
    stream = model.stream()
    stream.step(3)
    before = stream.snapshot().tensors
    with pytest.raises(error, match=message):
        stream.step(token)
    assert all(np.array_equal(value, before[name]) for name, value in stream.snapshot().tensors.items())


@pytest.mark.parametrize("example", [TOKENS[0], TOKENS.astype(np.int16), torch.tensor(TOKENS)])
def test_tokens_come_in_one_recording_or_several(example, tmp_path):
    module = made(Tokens)
    model = exported(module, tmp_path, example)
    np.testing.assert_allclose(model.stream().run(TOKENS[0]), by_author(module, TOKENS[:1]), atol=2e-6)


@pytest.mark.parametrize("batched", [True, False])
def test_columns_of_categories(batched, tmp_path):
    columns = np.stack([RNG.integers(0, 4, (3, 20)), RNG.integers(0, 5, (3, 20))], -1)
    module = made(Categories)
    model = exported(module, tmp_path, columns if batched else columns[0], inputs=["road", "gear"])
    assert [f.limits for f in model.inputs[0].features] == [(0.0, 3.0), (0.0, 5.0)]
    np.testing.assert_allclose(model.stream().run(columns[0]), by_author(module, columns[:1]), atol=2e-6)


def test_limits_of_the_user_stay(tmp_path):
    model = exported(made(Tokens), tmp_path, TOKENS, inputs=[lnn_edge.Feature("token", limits=(0, 7))])
    assert model.inputs[0].features[0].limits == (0, 7)


def test_tokens_beside_numbers(tmp_path):
    module, example = made(Mixed), {"x": X[:4, :30], "phase": TOKENS}
    model = exported(module, tmp_path, example)
    assert [(t.name, t.dtype, t.shape) for t in model.inputs] == [("x", "float32", (1, 3)), ("phase", "int32", (1, 1))]
    got = model.stream().run({"x": X[0, :30], "phase": TOKENS[0]})
    np.testing.assert_allclose(got, by_author(module, X[:1, :30], TOKENS[:1]), atol=2e-6)


def test_a_guard_holds_whole_numbers_where_it_predicts_others(tmp_path):
    """A line through categories ends between two of them, or past the last one."""
    model = exported(made(Mixed), tmp_path, {"x": X[:4, :30], "phase": TOKENS}, period_s=0.1)
    guarded, none = model.guarded(lnn_edge.Guard(on_bad="predict")), np.nan
    masked = np.ma.masked_all(1)
    given = [([1] * 3, [5]), ([none, 1, 1], [none]), ([2] * 3, [3]), ([none] * 3, masked), ([0] * 3, [none])]
    found = [guarded.tick({"x": x, "phase": phase}).x for x, phase in given]
    assert [own["phase"].tolist() for own in found] == [[5], [5], [3], [3], [3]]
    np.testing.assert_allclose([own["x"][0] for own in found], [1, 1, 2, 2.5, 0], rtol=1e-6)


def camera():
    return made(Camera)


def per_device():
    return made(PerDevice)


@pytest.mark.parametrize("backend", [entry.name for entry in BACKENDS])
@pytest.mark.parametrize("options", [{}, {"unroll": 2}], ids=["samples", "blocks"])
def test_frames_tokens_and_constants_on_every_backend(backend, options, tmp_path_factory, request):
    bundles = [
        proven(tmp_path_factory, camera, short=True, example=FRAMES, **options),
        proven(tmp_path_factory, per_device, short=True, example={"x": X, "device": np.arange(6)}, **options),
    ]
    make_ready(backend, request)
    for bundle, module, constants, given in (
        (bundles[0], camera(), None, (FRAMES[:1],)),
        (bundles[1], per_device(), {"device": 4}, (X[:1, :8], [4])),
    ):
        got = lnn_edge.load(bundle, backend=backend).stream(constants=constants).run(given[0][0])
        np.testing.assert_allclose(got, by_author(module, *given), atol=2e-6)


def test_frames_are_bytes(tmp_path):
    model = exported(made(Camera), tmp_path, FRAMES)
    assert model.inputs[0].dtype == "uint8"
    with pytest.raises(
        ValueError, match=r"holds 256 at index \[0, 0, 0\]; expected whole numbers from 0 to 255 \(uint8\)"
    ):
        model.stream().step(np.full((3, 6, 6), 256))
    with pytest.raises(ValueError, match=r"holds \d+\.5 at index"):
        model.stream().step(FRAMES[0, 0] // 2 + 0.5)


def test_frames_in_half_precision(tmp_path):
    module = made(Camera)
    model = exported(module, tmp_path, FRAMES, precision="float16")
    np.testing.assert_allclose(model.stream().run(FRAMES[0]), by_author(module, FRAMES[:1]), atol=1e-3)


def test_whole_numbers_of_sensors_are_numbers_like_any_other(tmp_path):
    """What a model takes as numbers comes as such, whatever type the example happens to have."""
    model = exported(BY_NAME["cfc-units"].build(), tmp_path, RNG.integers(-3, 3, (30, 5)))
    assert model.inputs[0].dtype == "float32"
    model.stream().step([0.5, 0, 0, 0, 0])


def test_a_step_function_has_constants_and_tokens(tmp_path):
    class Looped(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.rnn, self.head = nn.Embedding(5, 3), CfC(3 + 2, 6), nn.Linear(6, 1)

        def step(self, x, state):
            features = torch.cat([self.table(x["word"]), x["goal"]], -1)
            y, state = self.rnn(features.unsqueeze(1), state)
            return self.head(y[:, 0]), state

        def forward(self, word, goal):
            state, ys = None, []
            for k in range(word.shape[1]):
                y, state = self.step({"word": word[:, k], "goal": goal}, state)
                ys.append(y)
            return torch.stack(ys, 1)

    module = made(Looped)
    words = RNG.integers(0, 5, (6, 20))
    model = exported(module, tmp_path, {"word": words, "goal": GOALS}, step=Looped.step, constants=["goal"])
    assert [(t.name, t.dtype, t.constant) for t in model.inputs] == [
        ("word", "int32", False),
        ("goal", "float32", True),
    ]
    got = model.stream(constants={"goal": GOALS[2]}).run(words[2])
    np.testing.assert_allclose(got, by_author(module, words[2:3], GOALS[2:3]), atol=2e-6)


def test_a_wrong_row_of_a_table_is_noticed(tmp_path, monkeypatch):
    """Every token is stepped in the proof, also those that the example does not hold."""
    from lnn_edge.errors import VerificationError
    from lnn_edge.export import proven_bundle

    whole = proven_bundle.stored_program

    def changed(stage, step):
        for value in step.tensors.values():
            if value.shape == (9, 4):
                value[8, 1] += 0.01
        return whole(stage, step)

    monkeypatch.setattr("lnn_edge.export.exporting.stored_program", changed)
    with pytest.raises(VerificationError):
        exported(made(Tokens), tmp_path, TOKENS)


class AmongFloats(nn.Module):
    """A category in the last column of floats, cast before its table."""

    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(7, 2), CfC(2 + 2, 6)

    def forward(self, x):
        return self.rnn(torch.cat([x[..., :2], self.table(x[..., 2].long())], -1))[0]


def test_a_category_among_floats_gets_the_limits_of_its_table(tmp_path):
    x = X[:2].copy()
    x[..., 2] = RNG.integers(0, 6, x.shape[:2])
    module = made(AmongFloats)
    model = exported(module, tmp_path, x)
    assert [feature.limits for feature in model.inputs[0].features] == [None, None, (0.0, 6.0)]
    np.testing.assert_allclose(model.stream().run(x[0]), by_author(module, x[:1]), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"holds 7.0 at 'input_2'.*legal range is \[0.0, 6.0\]"):
        model.stream().step(np.array([0.1, 0.2, 7.0], np.float32))


def test_many_columns_of_whole_numbers_take_few_calls(tmp_path):
    class Scan(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.calls = CfC(200, 4), 0

        def forward(self, x):
            type(self).counted += 1
            return self.rnn(x.float() / 255.0)[0]

    Scan.counted = 0
    quick_export(made(Scan), tmp_path / "m.lnn", example=FRAMES[:, :, 0].repeat(6, 2).reshape(2, 8, -1)[..., :200])
    few = Scan.counted
    quick_export(made(Scan), tmp_path / "n.lnn", example=RNG.integers(0, 256, (2, 8, 200)).astype(np.float32))
    assert Scan.counted - few < few + 20  # no call for each column


@pytest.mark.parametrize(
    ("example", "told"),
    [
        (np.full((3, 20), 9), "IndexError: index out of range.*If these are places in a table, it is smaller"),
        (
            RNG.integers(0, 9, (3, 20)).astype(np.float32),
            r"whole numbers: pass them as integers, example.astype\(int\)",
        ),
    ],
)
def test_tokens_that_a_table_does_not_take(example, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        exported(made(Tokens), tmp_path, example)


@pytest.mark.parametrize(
    "example",
    [
        {"x": X[0], "goal": GOALS[0]},  # one recording
        {"x": X, "goal": GOALS[0]},  # the same goal for all recordings
    ],
    ids=["of-one", "of-all"],
)
def test_a_constant_without_an_axis_of_recordings(example, tmp_path):
    module = made(Reaching)
    model = exported(module, tmp_path, example, constants=["goal"])
    got = model.stream(constants={"goal": GOALS[1]}).run({"x": X[1]})
    np.testing.assert_allclose(got, by_author(module, X[1:2], GOALS[1:2]), rtol=0, atol=1e-5)


class Searching(nn.Module):
    """What to look for is a picture, beside samples that are none."""

    def __init__(self):
        super().__init__()
        self.look, self.rnn = nn.Conv2d(3, 2, 3), CfC(3 + 2, 6)

    def forward(self, x, wanted):
        seen = torch.relu(self.look(wanted)).mean((-1, -2))
        return self.rnn(torch.cat([x, seen.unsqueeze(1).expand(-1, x.shape[1], -1)], -1))[0]


def test_a_picture_beside_samples_is_a_constant(tmp_path):
    module, pictures = made(Searching), np.random.default_rng(0).random((len(X), 3, 8, 8), dtype=np.float32)
    model = exported(module, tmp_path, {"x": X, "wanted": pictures})
    assert [(t.name, t.shape) for t in model.manifest.constants] == [("wanted", (1, 3, 8, 8))]
    got = model.stream(constants={"wanted": pictures[1]}).run({"x": X[1]})
    np.testing.assert_allclose(got, by_author(module, X[1:2], pictures[1:2]), rtol=0, atol=1e-5)


def test_what_is_true_or_false_is_told_what_to_be(tmp_path):
    with pytest.raises(
        TypeError, match=r"`example\['goal'\]` has dtype bool, .* as 0\.0 and 1\.0, example\['goal'\]\.astype"
    ):
        quick_export(made(Reaching), tmp_path / "m.lnn", example={"x": X, "goal": GOALS > 0})


def test_what_has_a_default_is_an_input_if_it_is_recorded(tmp_path):
    class Assisted(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.towards = CfC(3, 6), nn.Linear(2, 6)

        def forward(self, x, goal=None, hx=None):
            y, hx = self.rnn(x, hx)
            return (y if goal is None else y + self.towards(goal).unsqueeze(1)), hx

    module = made(Assisted)
    model = exported(module, tmp_path, {"x": X, "goal": GOALS})
    got = model.stream(constants={"goal": GOALS[1]}).run({"x": X[1]})
    with torch.no_grad():
        expected = module(torch.from_numpy(X[1:2]), torch.from_numpy(GOALS[1:2]))[0][0].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_tokens_and_numbers_of_several_rows_need_no_axis_for_features(tmp_path):
    module = made(Tokens)
    quick_export(module, tmp_path / "t.lnn", example=TOKENS, batch=4, unroll=2)
    got = lnn_edge.load(tmp_path / "t.lnn").stream().run(TOKENS.T)
    with torch.no_grad():
        expected = module(torch.from_numpy(TOKENS)).numpy()
    np.testing.assert_allclose(np.swapaxes(got, 0, 1), expected, rtol=0, atol=1e-5)
    module, devices = made(PerDevice), RNG.integers(0, 7, 6)
    quick_export(module, tmp_path / "d.lnn", example={"x": X, "device": devices}, batch=3)
    stream = lnn_edge.load(tmp_path / "d.lnn").stream(constants={"device": devices[:3]})
    stream.reset(rows=[1], constants={"device": devices[4:5]})
    got = stream.run({"x": np.swapaxes(X[:3], 0, 1)})[:, 1]
    np.testing.assert_allclose(got, by_author(module, X[1:2], devices[4:5]), rtol=0, atol=1e-5)


def test_a_start_from_a_constant_is_refused_with_what_to_write(tmp_path):
    class Begins(Reaching):
        def __init__(self):
            super().__init__()
            self.rnn, self.start = CfC(3, 4), nn.Linear(2, 4)

        def forward(self, x, goal):
            return self.rnn(x, torch.tanh(self.start(goal)))[0]

    with pytest.raises(ValueError, match=r"or from a constant input.*what is constant beside each sample, torch.cat"):
        quick_export(made(Begins), tmp_path / "m.lnn", example={"x": X, "goal": GOALS})
