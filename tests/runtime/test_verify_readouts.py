"""Verification of windows and readouts: the streams that a robot program has, against the truth offline."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from bundles import copied, resign
from cases import BY_NAME
from exports import quick_export, short_verifications
from ncps.torch import CfC
from torch import nn

import lnn_edge
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.golden import golden_from_bundle
from lnn_edge.bundle.spec import Readout, Window
from lnn_edge.cli.program import main
from lnn_edge.export.verify_against import verify_against
from lnn_edge.runtime.modes import readout
from lnn_edge.runtime.modes.readout import Row
from lnn_edge.runtime.readouts import RecentOutputs, read_out
from lnn_edge.runtime.verify_golden import verify_golden

CASES = {
    "plain": ("cfc-units", {}),
    "blocks": ("cfc-units", {"unroll": 2}),
    "timed": ("ltc-autoncp", {"time": "measured", "period_s": 0.05}),
    "timed-blocks-of-rows": ("ltc-autoncp", {"time": "measured", "period_s": 0.05, "unroll": 2, "batch": 2}),
}
HOW = {
    "mean": (Readout("mean"), None),
    "vote": (Readout("vote", 4), None),
    "windows": (None, Window(12, 4)),
    "windows-stepped-at-their-ends": (None, Window(12, 8)),
    "windows-of-means": (Readout("mean", 5), Window(12, 12)),
    "windows-that-vote": (Readout("vote"), Window(12, 6)),
}


def silent(_phase, _done, _total):
    pass


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    root = tmp_path_factory.mktemp("readouts")
    for name, (case, options) in CASES.items():
        quick_export(BY_NAME[case].build(), root / f"{name}.lnn", **options)
    return root


def said(bundles, tmp_path, name, how):
    path = copied(bundles / f"{name}.lnn", tmp_path / "m.lnn")
    readout, window = HOW[how]
    resign(path, readout=readout, window=window)
    return path


def rows_of(report):
    return [c for c in report.comparisons if c.reference == "the truth offline"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", CASES)
def test_streams_equal_the_truth(bundles, tmp_path, name, how):
    report = verify_golden(said(bundles, tmp_path, name, how), progress=silent)
    assert report.passed, str(report)
    kinds = {"readout"} if how in ("mean", "vote") else {"windows"} if HOW[how][0] is None else {"readout", "windows"}
    assert {row.segment for row in rows_of(report)} == kinds
    assert all(row.steps == 8 * 12 for row in rows_of(report) if row.segment == "windows")


class Toward(nn.Module):
    """A goal that is given once, beside each sample."""

    def __init__(self):
        super().__init__()
        self.rnn = CfC(3 + 2, 4)

    def forward(self, x, goal):
        return self.rnn(torch.cat([x, goal.unsqueeze(1).expand(-1, x.shape[1], -1)], -1))[0]


@pytest.mark.parametrize("options", [{"readout": "mean"}, {"window": 8, "every": 4, "readout": "mean:2", "batch": 3}])
def test_with_constants(tmp_path, options, monkeypatch):
    short_verifications(monkeypatch)
    rng = np.random.default_rng(0)
    example = {"x": rng.standard_normal((3, 20, 3)), "goal": rng.standard_normal((3, 2))}
    torch.manual_seed(0)
    module = Toward()
    quick_export(module, tmp_path / "m.lnn", example=example, **options)
    report = verify_golden(tmp_path / "m.lnn", progress=silent)
    assert report.passed, str(report)
    assert {row.segment for row in rows_of(report)} == {"readout"} | ({"windows"} if "window" in options else set())
    assert verify_against(module, tmp_path / "m.lnn", example=example, steps=1000, progress=silent).passed


def test_a_bundle_without_any_is_verified_as_before(bundles):
    assert rows_of(verify_golden(bundles / "plain.lnn", progress=silent)) == []


def test_the_readout_of_golden_outputs_is_the_expectation(bundles, tmp_path):
    path = said(bundles, tmp_path, "plain", "mean")
    golden = golden_from_bundle(read_bundle(path))
    stream = lnn_edge.load(path).stream()
    first = np.flatnonzero(golden.reset)[1]
    expected = golden.float64["output"][:first].mean(0)[0]
    np.testing.assert_allclose(stream.run(golden.inputs["input"][:first, 0])[-1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("of", [Readout("last"), Readout("mean"), Readout("mean", 3), Readout("vote", 4)], ids=str)
def test_the_readout_at_some_steps_is_that_of_all_steps_there(of):
    outputs = np.random.default_rng(0).normal(size=(20, 2, 3))
    reset, at = np.zeros(20, np.uint8), np.array([19, 0, 7, 8])
    reset[[0, 8]] = 1
    every = read_out(of, outputs, reset)
    assert every.dtype == np.float32
    np.testing.assert_array_equal(read_out(of, outputs, reset, at), every[at])
    recent = RecentOutputs(of)
    for output in outputs[8:]:
        recent = recent.with_output({"y": output})
    np.testing.assert_array_equal(every[-1], recent.value()["y"])


@pytest.mark.parametrize("how", ["mean", "windows-of-means"])
def test_a_readout_that_is_wrong_is_found(bundles, tmp_path, how, monkeypatch):
    value = RecentOutputs.value

    def wrong(self):
        return {name: own * np.float32(1.001) + np.float32(1e-4) for name, own in value(self).items()}

    class Wrong(RecentOutputs):
        pass

    Wrong.value = wrong
    monkeypatch.setattr(readout, "RecentOutputs", Wrong)  # of streams; the truth is computed by the true one
    report = verify_golden(said(bundles, tmp_path, "plain", how), progress=silent)
    assert not report.passed
    assert {row.reference for row in report.comparisons if not row.passed} == {"the truth offline"}


def carrying_the_state(advance):
    """Each window goes on from the end of the one before it."""
    ends = {}

    def advanced(self, now, x, dt):
        moment, recent = now
        if isinstance(moment[0], tuple) and self in ends:  # a beginning
            moment = ends[self]
        after = advance(self, (moment, recent), x, dt)
        ends[self] = self.plain.parked(after[0])
        return after

    return advanced


def test_windows_that_keep_the_state_are_found(bundles, tmp_path, monkeypatch):
    monkeypatch.setattr(Row, "advance", carrying_the_state(Row.advance))
    path = said(bundles, tmp_path, "plain", "windows-stepped-at-their-ends")
    report = verify_golden(path, progress=silent)
    assert {row.segment for row in report.comparisons if not row.passed} == {"windows"}


def test_against_the_model(bundles, tmp_path, monkeypatch):
    short_verifications(monkeypatch)
    path = said(bundles, tmp_path, "plain", "windows-of-means")
    report = verify_against(BY_NAME["cfc-units"].build(), path, steps=1000, progress=silent)
    assert report.passed
    assert {row.segment for row in rows_of(report)} == {"readout", "windows"}


def test_it_is_told(bundles, tmp_path, capsys):
    path = said(bundles, tmp_path, "plain", "windows-of-means")
    assert main(["verify", str(path), "--verbose", "--json", str(tmp_path / "v.json")]) == 0
    out = capsys.readouterr().out
    assert "onnxruntime, windows of 12 every 12 vs the truth offline" in out
    assert "onnxruntime, mean of the last 5 outputs vs the truth offline" in out
    assert re.search(r"^onnxruntime, windows of 12 every 12: within \S+ of the truth computed offline$", out, re.M)
    stored = json.loads((tmp_path / "v.json").read_text())
    assert {c["segment"] for c in stored["comparisons"]} == {"golden", "readout", "windows"}
