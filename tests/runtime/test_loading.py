"""`backend="auto"`: the fastest for the bundle, found by stepping it, and never a silent second choice."""

from __future__ import annotations

import re

import pytest
from second_backend import Choosy, Second, Slow, Unavailable, put_into_the_table, row

import lnn_edge
from lnn_edge.backends import BACKENDS, BackendOption
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.cli.program import main
from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.loading import open_each, step_medians_us


class Clock:
    """A clock that only its own steps move."""

    def __init__(self):
        self._now_us = 0

    def perf_counter_ns(self):
        return self._now_us * 1000

    def move(self, us):
        self._now_us += us

    def step(self, us, calls, name):
        """A step that takes so long, and notes that it was called."""

        def step():
            calls.append(name)
            self.move(us)

        return step


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr("lnn_edge.runtime.loading.time", fake)
    return fake


def test_steps_are_timed_in_turns(clock):
    calls = []
    medians = step_medians_us([clock.step(200, calls, "a"), clock.step(1000, calls, "b")])
    assert medians == [200, 1000]
    turns = re.findall(r"a+|b+", "".join(calls))
    assert {len(turn) for turn in turns} == {20}
    assert calls.count("a") == calls.count("b") > 100


def test_one_slow_step_does_not_decide(clock):
    durations = iter([10] * 50 + [300_000] + [10] * 10_000)
    assert step_medians_us([lambda: clock.move(next(durations))]) == [10]


def test_slow_steps_are_timed_only_a_few_times(clock):
    calls = []
    step_medians_us([clock.step(50_000, calls, "a")])
    assert len(calls) < 10


@pytest.mark.parametrize("rows", [(Slow, Second), (Second, Slow)], ids=["slow first", "slow last"])
def test_the_fastest_is_taken_wherever_it_stands(rows, monkeypatch, cfc_bundle):
    monkeypatch.setattr("lnn_edge.runtime.loading.BACKENDS", tuple(map(row, rows)))
    model = lnn_edge.load(cfc_bundle)
    assert model.backend == "second"
    assert re.fullmatch(r"second backend; the fastest here: [\d.]+ us a step, \d{4,} us on slow", model.description)


def test_a_gpu_is_measured_like_any_other(gpu, cfc_bundle, capsys):
    """The simulated one is slower than the CPU: each step computes on the CPU and is then copied about."""
    gpu("10.3")
    assert main(["build", str(cfc_bundle), "--backend", "tensorrt"]) == 0
    model = lnn_edge.load(cfc_bundle)
    assert model.backend == "onnxruntime"
    assert re.search(
        r"on the CPU, 1 thread; the fastest here: [\d.]+ us a step, [\d.]+ us on tensorrt$", model.description
    )
    assert main(["bench", str(cfc_bundle), "--steps", "50", "--warmup", "0", "--seconds", "0"]) == 0
    assert "us on tensorrt" in capsys.readouterr().out.splitlines()[-1]


def test_alone_it_is_not_measured(cfc_bundle):
    assert "fastest" not in lnn_edge.load(cfc_bundle).description


def test_one_that_is_ready_and_fails_is_left_out_with_a_line(monkeypatch, cfc_bundle, caplog):
    """It is an error only where it is named."""
    put_into_the_table(monkeypatch, row(Unavailable))
    assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
    assert [record.message for record in caplog.records if "'unavailable'" in record.message] == [
        "backend 'unavailable' is left out: backend 'unavailable' finds no device"
    ]
    with pytest.raises(BackendUnavailable, match="backend 'unavailable' finds no device"):
        lnn_edge.load(cfc_bundle, backend="unavailable")


def test_none_is_left(monkeypatch, cfc_bundle):
    monkeypatch.setattr("lnn_edge.runtime.loading.BACKENDS", (row(Unavailable), row(Choosy)))
    message = "no backend is ready on this machine: choosy: it takes no model called gait; unavailable: backend 'unava"
    for backend in ("auto", "all"):
        with pytest.raises(BackendUnavailable, match=message):
            open_each(read_bundle(cfc_bundle), backend=backend)


@pytest.mark.parametrize("backend", ["auto", "all"])
def test_one_that_cannot_run_this_bundle(backend, monkeypatch, cfc_bundle, caplog):
    put_into_the_table(monkeypatch, row(Choosy))
    caplog.set_level("INFO")
    opened = open_each(read_bundle(cfc_bundle), backend=backend)
    assert [model.backend for model in opened.models] == ["onnxruntime"]
    said = [record.message for record in caplog.records if "choosy" in record.message]
    assert said == ["backend 'choosy' is left out: it takes no model called gait"]


def test_a_proof_of_all_says_which_it_leaves_out(gpu, cfc_bundle, capfd, caplog):
    """Installed, and not part of the proof: with exit code 0 nobody would know."""
    gpu("10.3").world["build"] = "internal error"
    assert main(["verify", str(cfc_bundle)]) == 0
    assert "'tensorrt' is installed but not ready, it is left out: TensorRT 10.3.0: the engine could not" in caplog.text
    caplog.clear()
    gpu("10.3", driver=11040)
    assert main(["verify", str(cfc_bundle)]) == 0
    assert "'tensorrt' is installed but not ready, it is left out: the CUDA driver supports CUDA 11.4" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"wait": "spin"},
            "with the options 'wait' the backend must be named: backend='tensorrt'",
        ),
        (
            {"wait": "spin", "tf32": "on"},
            "with the options 'wait', 'tf32' the backend must be named: backend='tensorrt'",
        ),
        ({"wiat": "spin"}, "no backend has an option 'wiat'. Valid: wait, graph, "),
        ({"wiat": "spin"}, " Did you mean 'wait'?"),
    ],
)
def test_options_need_a_name(options, message, cfc_bundle):
    with pytest.raises(ValueError, match=re.escape(message)):
        lnn_edge.load(cfc_bundle, options=options)
    with pytest.raises(ValueError, match=re.escape(message)):
        open_each(read_bundle(cfc_bundle), options=options)


def test_options_of_several_backends(monkeypatch, cfc_bundle):
    """Which of them is the user's to say; options that no single one has are told apart."""
    options = (BackendOption("wait", ("a",), "tests"), BackendOption("other", ("a",), "tests"))
    put_into_the_table(monkeypatch, row(Second)._replace(options=options))
    named = "backend='tensorrt' or backend='tensorrt-rtx' or backend='second'"
    with pytest.raises(ValueError, match=rf"must be named: {named}$"):
        lnn_edge.load(cfc_bundle, options={"wait": "a"})
    with pytest.raises(ValueError, match=r"no backend has all of the options 'other', 'graph'"):
        lnn_edge.load(cfc_bundle, options={"other": "a", "graph": "on"})


def test_unknown_backend_with_auto_among_the_valid(cfc_bundle):
    with pytest.raises(ValueError, match=rf"unknown backend 'onxruntime'\. Valid: auto, .*{BACKENDS[-1].name}"):
        lnn_edge.load(cfc_bundle, backend="onxruntime")
