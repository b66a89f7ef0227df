"""Lines of the user's code in the nodes of a program, noted without torch's own frames."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from ncps.torch import CfC
from torch import nn
from torch.fx import proxy

from lnn_edge.bundle.spec import Time
from lnn_edge.export.trace import frames
from lnn_edge.export.trained.open import open_module

USUAL = proxy.CapturedTraceback
X = np.zeros((6, 1, 3), np.float32)


class Inner(nn.Module):
    def forward(self, y):
        return torch.tanh(y) + torch.exp(y)


class Outer(nn.Module):
    def __init__(self, last=torch.sin):
        super().__init__()
        self.rnn, self.inner, self.last = CfC(3, 4, backbone_units=4), Inner(), last

    def forward(self, x):
        y, _ = self.rnn(x)
        z = self.inner(y)
        return self.last(z)


def places(module):
    program = open_module(module.eval()).trained(1, {"input": [X]}).program(Time("fixed")).program
    return {getattr(node, "op", node.kind): node.where for node in program.nodes}


def line_of(kind, text):
    lines, first = inspect.getsourcelines(kind.forward)
    return f"test_frames.py:{first + next(k for k, line in enumerate(lines) if text in line)}"


def called_through(frames_more, function):
    """As deep in the caller's program as that: none of its frames are noted."""
    return called_through(frames_more - 1, function) if frames_more else function()


def test_nodes_say_the_innermost_line_of_a_forward():
    found = called_through(100, lambda: places(Outer()))
    inner = f"{line_of(Inner, 'tanh')} inner"
    assert {found["Tanh"], found["Exp"]} == {inner}
    assert found["Sin"] == line_of(Outer, "self.last")
    assert proxy.CapturedTraceback is USUAL


def test_torch_gets_its_own_back_when_a_trace_fails():
    def leaves_torch(z):
        return torch.from_numpy(np.sin(z.numpy()))

    with pytest.raises(TypeError, match=r"cannot be traced \(test_frames\.py, line \d+: `return torch\.from_numpy"):
        places(Outer(leaves_torch))
    assert proxy.CapturedTraceback is USUAL


def test_a_torch_without_that_place_traces_as_well(monkeypatch):
    monkeypatch.setattr(frames, "_USUAL", None)
    assert places(Outer())["Sin"] == line_of(Outer, "self.last")
