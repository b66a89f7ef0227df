"""States and streams that are made of anything but what they are made of: said as such, and nothing has changed."""

from __future__ import annotations

import pickle
import re
from types import MappingProxyType

import numpy as np
import pytest
from checks import make_ready

import lnn_edge
from lnn_edge.backends import BACKENDS

H = np.zeros((1, 3), np.float32)


@pytest.fixture(params=[entry.name for entry in BACKENDS if entry.name in ("onnxruntime", "native")])
def model(request, cfc_bundle, loaded):
    make_ready(request.param, request)
    return loaded(cfc_bundle, request.param)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([None], "the state's `tensors` is None, expected a dict of NumPy arrays by name, as `snapshot()`"),
        ([H], "the state's `tensors` is array([[0., 0., 0.]], dtype=float32), expected a dict of"),
        ([[H]], "the state's `tensors` is [array([[0., 0., 0.]], dtype=float32)], expected a dict of"),
        (["h_in"], "the state's `tensors` is 'h_in', expected a dict of"),
        ([[("h_in", H)]], "the state's `tensors` is [('h_in', array([[0., 0., 0.]], dtype=fl..., expected a dict of"),
        ([7], "the state's `tensors` is 7, expected a dict of"),
        ([{"h_in": None}], "state 'h_in' is a NoneType, expected a NumPy array of float32"),
        ([{"h_in": [0.0, 0.0]}], "state 'h_in' is a list, expected a NumPy array of float32"),
        ([{None: H}], "the state holds an array by the name None, expected a text: 'h_in'"),
        ([{0: H}], "the state holds an array by the name 0, expected a text"),
        ([{"h_in": H}, None, None], "the state's `kept` is None, expected a dict of NumPy arrays by name"),
        ([{"h_in": H}, None, {"count": 3}], "state 'count' is a int, expected a NumPy array of float32"),
        ([{"h_in": H}, None, {}, None], "the state's `build` is None, expected a text as `snapshot()` gives it"),
        ([{"h_in": H}, None, {}, b"1"], "the state's `build` is b'1', expected a text"),
    ],
)
def test_what_a_state_is_not_made_of(given, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        lnn_edge.State(*given)


def test_an_array_stays_the_callers_where_no_state_is_made_of_it():
    own = H.copy()
    with pytest.raises(TypeError):
        lnn_edge.State({"h_in": own, "c_in": None})
    own[0, 0] = 1
    assert lnn_edge.State(MappingProxyType({"h_in": own})).tensors["h_in"][0, 0] == 1


@pytest.mark.parametrize("t_s", ["now", None, b"", [1.0], True])
def test_the_time_of_a_state(model, t_s):
    stream = model.stream()
    stream.step([0.1, 0.2, 0.3])
    before = stream.snapshot()
    state = lnn_edge.State(model.initial_state().tensors, t_s)
    if t_s is None:
        stream.restore(state)
        return
    with pytest.raises(TypeError, match=r"the state's `t_s` is .*, expected seconds or None"):
        stream.restore(state)
    np.testing.assert_array_equal(stream.snapshot().tensors["h_in"], before.tensors["h_in"])


NO_STATES = [None, 7, "h_in", b"", [], {}, H, object(), {"h_in": H}]


@pytest.mark.parametrize("state", NO_STATES, ids=lambda state: type(state).__name__)
@pytest.mark.parametrize("options", [{}, {"window": 4}, {"reuse": True}], ids=str)
def test_what_no_stream_goes_on_from(model, state, options):
    stream = model.stream(**options)
    stream.step([0.1, 0.2, 0.3])
    before = pickle.dumps(stream.snapshot())
    with pytest.raises(TypeError, match=r"expected a State from `initial_state\(\)`, `step` or `snapshot\(\)`, got"):
        stream.restore(state)
    assert pickle.dumps(stream.snapshot()) == before


@pytest.mark.parametrize("state", NO_STATES, ids=lambda state: type(state).__name__)
def test_what_is_no_state_of_a_step(model, state):
    with pytest.raises(TypeError, match=r"expected a State from `initial_state\(\)`, `step` or `snapshot\(\)`, got"):
        model.step([0.1, 0.2, 0.3], state)
    with pytest.raises(TypeError, match=r"expected a State of `initial_state\(rows=...\)` or `step_many`, got"):
        model.step_many([[0.1, 0.2, 0.3]], state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.stream(reuse="no"), "`reuse` is 'no', expected True or False"),
        (lambda model: model.stream(reuse=None), "`reuse` is None, expected True or False"),
        (lambda model: model.stream(readout="mean"), "`readout` is 'mean', expected True or False"),
        (lambda model: model.stream(constants=7), "`constants` is int, expected a dict of values by name"),
        (lambda model: model.stream(constants=["goal"]), "`constants` is list, expected a dict of values by name"),
        (lambda model: model.stream(window="4"), "`window` is '4', expected a whole number of samples"),
        (lambda model: model.stream(window=4, every=2.0), "`every` is 2.0, expected a whole number of samples"),
        (lambda model: model.stream().reset(rows="0"), "`rows` is '0', expected a list of numbers of rows"),
        (lambda model: model.stream().reset(constants=H), "`constants` is ndarray, expected a dict of values by name"),
        (lambda model: model.initial_state(constants=7), "`constants` is int, expected a dict of values by name"),
        (lambda model: model.initial_state(rows="4"), "`rows` is '4', expected how many streams there are"),
        (lambda model: model.initial_state(rows=[4]), "`rows` is [4], expected how many streams there are"),
        (lambda model: model.guarded("strict"), "`guard` is a str, expected lnn_edge.Guard"),
        (lambda model: model.guarded(clock=None), "`clock` is None, expected a function that gives nanoseconds"),
        (lambda model: model.guarded(constants=7), "`constants` is int, expected a dict of values by name"),
        (lambda model: lnn_edge.load(None), "`path` is None, expected the path of a bundle"),
        (lambda model: lnn_edge.load(b"m.lnn"), "`path` is b'm.lnn', expected the path of a bundle"),
        (lambda model: lnn_edge.load(model.path, backend=None), "`backend` is None, expected a name"),
        (lambda model: lnn_edge.load(model.path, backend=b"native"), "`backend` is b'native', expected a name"),
        (lambda model: lnn_edge.load(model.path, threads=None), "`threads` is None, expected a whole number"),
        (lambda model: lnn_edge.load(model.path, threads="1"), "`threads` is '1', expected a whole number"),
        (lambda model: lnn_edge.load(model.path, self_test=None), "`self_test` is None, expected True or False"),
        (lambda model: lnn_edge.load(model.path, options=7), "`options` is 7, expected a dict of values by name"),
        (lambda model: lnn_edge.load(model.path, options="tune"), "`options` is 'tune', expected a dict of values"),
    ],
)
def test_arguments_that_are_none(model, call, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call(model)
