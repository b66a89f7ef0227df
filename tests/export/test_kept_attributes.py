"""Nodes that keep their state in attributes, states that come back in any make, and inputs called like a state."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import LTC, CfC
from torch import nn

import lnn_edge

LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
X = np.random.default_rng(1).standard_normal((25, 3)).astype(np.float32)


class Node(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = CfC(3, 6), nn.Linear(6, 2)
        self.h = None

    def forward(self, x):
        y, self.h = self.rnn(x, self.h)
        return self.head(y)


class Zeros(Node):
    def forward(self, x):
        if self.h is None:
            self.h = torch.zeros(x.shape[0], 6)
        y, self.h = self.rnn(x, self.h)
        return self.head(y)


class Detached(Node):
    def forward(self, x):
        y, h = self.rnn(x, self.h)
        self.h = h.detach()
        return self.head(y)


class Buffer(Node):
    def __init__(self):
        super().__init__()
        del self.h
        self.register_buffer("h", torch.zeros(1, 6))

    def forward(self, x):
        y, h = self.rnn(x, self.h)
        self.h = h.detach()
        return self.head(y)


class InPlace(Buffer):
    def forward(self, x):
        y, h = self.rnn(x, self.h)
        self.h.copy_(h)
        return self.head(y)


class InADict(Node):
    def __init__(self):
        super().__init__()
        self.state = {"h": None, "calls": 0}

    def forward(self, x):
        y, self.state["h"] = self.rnn(x, self.state["h"])
        self.state["calls"] += 1
        return self.head(y)


class InAList(Node):
    def __init__(self):
        super().__init__()
        self.rnns, self.states = nn.ModuleList([CfC(3, 6), LTC(6, 4)]), [None, None]
        self.head = nn.Linear(4, 2)
        del self.rnn

    def forward(self, x):
        for k, rnn in enumerate(self.rnns):
            x, self.states[k] = rnn(x, self.states[k])
        return self.head(x)


class Memory(Node):
    def __init__(self):
        super().__init__()
        self.rnn = CfC(3, 6, mixed_memory=True)


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy, self.out = Node(), nn.Linear(2, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.policy(x)))


NODES = [Node, Zeros, Detached, Buffer, InPlace, InADict, InAList, Memory, Inside]


def built(kind):
    torch.manual_seed(5)
    return kind().eval()


def one_call_per_sample(module):
    with torch.no_grad():
        return np.stack([module(torch.from_numpy(x)[None, None])[0, 0].numpy() for x in X])


@pytest.mark.parametrize("kind", NODES)
def test_a_node_exports_as_its_author_runs_it(kind, tmp_path):
    module = built(kind)
    quick_export(module, tmp_path / "m.lnn", example=X[None])
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X)
    np.testing.assert_allclose(got, one_call_per_sample(built(kind)), rtol=0, atol=LIMIT)
    np.testing.assert_allclose(got, one_call_per_sample(module), rtol=0, atol=LIMIT)  # and export leaves it alone


def test_a_node_that_was_just_trained_can_be_copied(tmp_path):
    module = built(Node)
    module(torch.from_numpy(X)[None]).sum().backward()
    assert module.h.grad_fn is not None
    with pytest.raises(ValueError, match="something in `h` from call to call, and it holds what an earlier call left"):
        quick_export(module, tmp_path / "m.lnn", example=X[None])
    module.h = None
    quick_export(module, tmp_path / "m.lnn", example=X[None])


class LastAction(Node):
    """What it gave last is an input: state that no core has."""

    def __init__(self):
        super().__init__()
        self.rnn, self.last = CfC(4, 6), torch.zeros(1, 1, 1)

    def forward(self, x):
        y, self.h = self.rnn(torch.cat([x, self.last.expand(*x.shape[:2], 1)], dim=-1), self.h)
        action = self.head(y)
        self.last = action[:, -1:, :1].detach()
        return action


class Average(Node):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x[:, -1].mean(dim=0)
        return self.head(self.rnn(x - self.mean)[0])


class Halved(Node):
    """The state is not handed on as it is."""

    def forward(self, x):
        y, h = self.rnn(x, self.h)
        self.h = 0.5 * h
        return self.head(y)


class HalvedBefore(Node):
    def forward(self, x):
        y, self.h = self.rnn(x, None if self.h is None else 0.5 * self.h)
        return self.head(y)


class Once(Node):
    def forward(self, x):
        y, h = self.rnn(x, self.h)
        self.h = h if self.h is None else self.h
        return self.head(y)


class NowAndThen(Node):
    """A counter is state as well."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        if self.calls % 20 == 0:
            self.h = None
        self.calls += 1
        y, self.h = self.rnn(x, self.h)
        return self.head(y)


class Swapped(Node):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.a, self.b = CfC(3, 6), CfC(6, 6), None, None
        del self.rnn

    def forward(self, x):
        y, a = self.one(x, self.a)
        y, b = self.two(y, self.b)
        self.a, self.b = b, a
        return self.head(y)


class Queue(Node):
    def __init__(self):
        super().__init__()
        self.queue = deque([torch.zeros(1, 1, 2)] * 3, maxlen=3)

    def forward(self, x):
        y, self.h = self.rnn(x, self.h)
        y = self.head(y)
        self.queue.append(y[:, -1:].detach())
        return y + self.queue[0]


STATE_OF_THEIR_OWN = [
    (LastAction, "`last`"),
    (Average, "`mean`"),
    (Halved, "`h`"),
    (HalvedBefore, "`h`"),
    (Once, "`h`"),
    (NowAndThen, "`calls`"),
    (Swapped, "`a`, `b`"),
    (Queue, "`queue`"),
]


@pytest.mark.parametrize(("kind", "names"), STATE_OF_THEIR_OWN)
def test_state_of_ones_own_is_named(kind, names, tmp_path):
    with pytest.raises(ValueError, match=f"the model keeps {names} from call to call, .* step=function"):
        quick_export(built(kind), tmp_path / "m.lnn", example=X[None])
    assert list(tmp_path.iterdir()) == []


class OnlyLeaves(Node):
    """For a plot, say: nothing takes it."""

    def forward(self, x):
        y, self.h = self.rnn(x)
        return self.head(y)


def test_what_is_only_left_is_called_on_whole_sequences(tmp_path):
    module = built(OnlyLeaves)
    quick_export(module, tmp_path / "m.lnn", example=X[None])
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X)
    np.testing.assert_allclose(got, on_the_whole_sequence(module), rtol=0, atol=LIMIT)


class InNumpy(Node):
    def __init__(self):
        super().__init__()
        self.h = np.zeros((1, 6), np.float32)

    def forward(self, x):
        y, h = self.rnn(x, torch.from_numpy(self.h))
        self.h = h.detach().numpy()
        return self.head(y)


class InNumpyLater(Node):
    def forward(self, x):
        y, h = self.rnn(x, None if self.h is None else torch.as_tensor(self.h))
        self.h = h.detach().numpy()
        return self.head(y)


@pytest.mark.parametrize("kind", [InNumpy, InNumpyLater])
def test_a_state_in_numpy_is_told(kind, tmp_path):
    with pytest.raises(TypeError, match=r"keeps `h` from call to call, as NumPy arrays, .*self\.h = h\.detach\(\)"):
        quick_export(built(kind), tmp_path / "m.lnn", example=X[None])


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_a_weight_that_each_call_computes_anew_is_no_state(norm, tmp_path):
    class Normed(Node):
        def __init__(self):
            super().__init__()
            self.head = norm(nn.Linear(6, 2))

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    module = built(Normed)
    with torch.no_grad():
        dict(module.head.named_parameters())["weight_v" if norm is nn.utils.weight_norm else "weight_orig"].mul_(1.5)
    quick_export(module, tmp_path / "m.lnn", example=X[None])
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X)
    np.testing.assert_allclose(got, on_the_whole_sequence(module), rtol=0, atol=LIMIT)


# ---- states that come back in any make ------------------------------------------------------------------------------


class Returned(nn.Module):
    def __init__(self, make, take):
        super().__init__()
        self.one, self.two, self.head = CfC(3, 6), LTC(6, 6), nn.Linear(6, 2)
        self.make, self.take = make, take

    def forward(self, x, hx=None):
        a, b = (None, None) if hx is None else self.take(hx)
        y, a = self.one(x, a)
        y, b = self.two(y, b)
        return self.head(y), self.make(a, b)


MADE = {
    "stacked": (lambda a, b: torch.stack([a, b]), lambda hx: hx),
    "concatenated": (lambda a, b: torch.cat([a, b], dim=-1), lambda hx: hx.chunk(2, dim=-1)),
    "cloned": (lambda a, b: (a.clone(), b.clone()), lambda hx: hx),
    "in-a-list": (lambda a, b: [a, b.clone()], lambda hx: hx),
    "in-a-dict": (lambda a, b: {"a": a.clone(), "b": b}, lambda hx: (hx["a"], hx["b"])),
    "with-an-axis": (lambda a, b: (a.unsqueeze(0), b.unsqueeze(0).clone()), lambda hx: (hx[0][0], hx[1][0])),
}


@pytest.mark.parametrize("name", MADE)
def test_states_that_are_handed_back_are_no_outputs(name, tmp_path):
    torch.manual_seed(5)
    module = Returned(*MADE[name]).eval()
    quick_export(module, tmp_path / "m.lnn", example=X[None])
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert [t.name for t in model.outputs] == ["output"]
    state, expected = None, []
    with torch.no_grad():
        for x in X:
            y, state = module(torch.from_numpy(x)[None, None], state)
            expected.append(y[0, 0].numpy())
    np.testing.assert_allclose(model.stream().run(X), expected, rtol=0, atol=LIMIT)


# ---- inputs that are called like a state ----------------------------------------------------------------------------


class Observed(Node):
    def forward(self, state):
        return self.head(self.rnn(state)[0])


class ObservedBesideAGoal(Node):
    def forward(self, hidden, goal):
        return self.head(self.rnn(hidden + goal)[0])


def test_an_observation_may_be_called_state(tmp_path):
    module = built(Observed)
    quick_export(module, tmp_path / "m.lnn", example=X[None])
    np.testing.assert_allclose(
        lnn_edge.load(tmp_path / "m.lnn").stream().run(X), on_the_whole_sequence(module), rtol=0, atol=LIMIT
    )


def on_the_whole_sequence(module):
    with torch.no_grad():
        return module(torch.from_numpy(X)[None])[0].numpy()


def test_an_observation_among_others_is_one_if_it_is_recorded(tmp_path):
    module = built(ObservedBesideAGoal)
    example = {"hidden": X[None], "goal": 0.1 * X[None]}
    with pytest.raises(ValueError, match=r"needs `hidden` in every call.*an observation, record it in the example"):
        quick_export(module, tmp_path / "m.lnn", example=X[None])
    quick_export(module, tmp_path / "m.lnn", example=example)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run({"hidden": X, "goal": 0.1 * X})
    with torch.no_grad():
        expected = module(torch.from_numpy(X)[None], 0.1 * torch.from_numpy(X)[None])[0].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)
