"""Arguments of another type: an error says which argument it is, what was given and what is expected."""

from __future__ import annotations

import re

import numpy as np
import pytest

import lnn_edge


@pytest.fixture(scope="module")
def model(cfc_bundle):
    return lnn_edge.load(cfc_bundle, backend="onnxruntime")


ARRAY, NUMBER = np.array([1, 2]), np.array(3)
X = np.zeros((2, 3), np.float32)
WRONG = {
    "Systemd(environment)": lambda _m, _p: lnn_edge.Systemd(environment=5),
    "Watchdog(start)": lambda _m, _p: lnn_edge.Watchdog(1.0, print, start="no"),
    "Realtime(cpus)": lambda _m, _p: lnn_edge.Realtime(cpus=NUMBER),
    "Realtime(cpus), bytes": lambda _m, _p: lnn_edge.Realtime(cpus=b"12"),
    "Loop(recorder)": lambda m, _p: lnn_edge.Loop(m, X, recorder=ARRAY),
    "Loop(on_late_input)": lambda m, _p: lnn_edge.Loop(m, X, on_late_input=5),
    "Recorder(start)": lambda m, p: lnn_edge.Recorder(p / "a.mcap", m, start=5),
    "save_snapshot(model)": lambda m, p: lnn_edge.save_snapshot(p / "s", m.initial_state(), model=5, steps=0),
    "load_snapshot(model)": lambda _m, p: lnn_edge.load_snapshot(p / "s", None),
    "resume(within_s)": lambda m, p: lnn_edge.resume(m.guarded(), p / "s", within_s="x"),
    "resume(within_s), nan": lambda m, p: lnn_edge.resume(m.guarded(), p / "s", within_s=float("nan")),
    "replay(bundle)": lambda _m, _p: lnn_edge.replay(5, ["a.mcap"]),
    "replay(recordings)": lambda m, _p: lnn_edge.replay(m, NUMBER),
    "replay(tolerance)": lambda m, _p: lnn_edge.replay(m, ["a.mcap"], tolerance="x"),
    "read_recordings(files)": lambda _m, _p: lnn_edge.read_recordings([5]),
    "load(backend)": lambda _m, p: lnn_edge.load(p, backend=ARRAY),
    "stream(window)": lambda m, _p: m.stream(window=ARRAY),
    "stream(every)": lambda m, _p: m.stream(window=2, every=int),
}


@pytest.mark.parametrize("call", WRONG)
def test_an_argument_of_another_type_is_told_by_its_name(call, model, cfc_bundle, tmp_path):
    name = re.search(r"\((\w+)\)", call)[1]
    with pytest.raises((TypeError, ValueError), match=rf"^`{name}` (is|has) .*(expected|Valid: )"):
        WRONG[call](model, cfc_bundle if call == "load(backend)" else tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gap_s": "x"}, "Guard(gap_s='x'): Expected a number or None, got a text"),
        ({"on_gap": None}, "Guard(on_gap=None): Expected a text, got None"),
        ({"safe": 5}, "Guard(safe=5): Expected a dict, got a whole number"),
        ({"pace": "x"}, "Guard(pace='x'): Expected a list, got a text"),
        ({"slew_per_s": {"y": "x"}}, "Guard(slew_per_s={'y': 'x'}): Expected a list, got a text in it"),
    ],
)
def test_a_guard_speaks_of_types_in_the_words_of_python(given, said):
    with pytest.raises(TypeError, match=f"^{re.escape(said)}$"):
        lnn_edge.Guard(**given)
