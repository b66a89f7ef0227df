"""The central test: stepping a bundle gives what the trained torch module gives on the whole sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import BY_NAME, CASES, Case
from exports import quick_export
from offline import LIMIT, PERIOD_S, TIMESPAN, jittered, offline, samples, whole_sequence

import lnn_edge

SOME = 50  # samples before a reset, after which the whole sequence begins anew


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fixed_time(case: Case, tmp_path, tmp_path_factory):
    report = quick_export(case.build(), tmp_path / "m.lnn")
    assert report.max_abs_error <= LIMIT
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    x, _, expected = whole_sequence(tmp_path_factory, case.name)
    np.testing.assert_allclose(stream.run(x[:SOME]), expected[:SOME], rtol=0, atol=LIMIT)
    stream.reset()
    np.testing.assert_allclose(stream.run(x), expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_measured_time(case: Case, tmp_path, tmp_path_factory):
    quick_export(case.build(), tmp_path / "m.lnn", time="measured", period_s=PERIOD_S, timespan=TIMESPAN)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    x, dt_s, expected = whole_sequence(tmp_path_factory, case.name, measured=True)
    np.testing.assert_allclose(stream.run(x, dt_s=dt_s), expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", ["ltc-unfolds", "cfc-mixed"])  # of those that keep a state of each kind, the quickest
def test_ten_thousand_steps(name, tmp_path):
    module = BY_NAME[name].build()
    quick_export(module, tmp_path / "m.lnn")
    x = samples(4, 10_000)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x)
    np.testing.assert_allclose(got, offline(module, x), rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-units", "cfc-autoncp"])
def test_fixed_timespan_is_what_training_used(name, tmp_path):
    module = BY_NAME[name].build()
    quick_export(module, tmp_path / "m.lnn", timespan=TIMESPAN)
    x = samples(5, 300)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x)
    np.testing.assert_allclose(got, offline(module, x, np.full(300, PERIOD_S)), rtol=0, atol=LIMIT)
    assert np.abs(got - offline(module, x)).max() > 1e-3  # the timespan matters, so the test can fail


@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-units", "cfc-mixed"])
@pytest.mark.parametrize("time", ["fixed", "measured"])
def test_rows_of_a_batch_are_independent_sequences(name, time, tmp_path):
    """Each row equals its own single run, with a dt of its own: the shape bug of ncps must not get in."""
    module, rows = BY_NAME[name].build(), 3
    options = {"time": "measured", "period_s": PERIOD_S, "timespan": TIMESPAN} if time == "measured" else {}
    quick_export(module, tmp_path / "m.lnn", batch=rows, **options)
    x = np.stack([samples(10 + b, 200) for b in range(rows)], axis=1)
    dt_s = np.stack([jittered(20 + b, 200) for b in range(rows)], axis=1) if time == "measured" else None
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x, dt_s=None if dt_s is None else dt_s[:, :, None])
    for b in range(rows):
        expected = offline(module, x[:, b], None if dt_s is None else dt_s[:, b])
        np.testing.assert_allclose(got[:, b], expected, rtol=0, atol=LIMIT)


def test_batch_as_large_as_the_units(tmp_path):
    """With B == units, ncps silently mixes the rows' timespans (its issues 81 to 83)."""
    module = BY_NAME["cfc-units"].build()
    quick_export(module, tmp_path / "m.lnn", batch=8, time="measured", period_s=PERIOD_S)
    x = np.stack([samples(b, 50) for b in range(8)], axis=1)
    dt_s = np.stack([jittered(b, 50) for b in range(8)], axis=1)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x, dt_s=dt_s[:, :, None])
    for b in range(8):
        with torch.no_grad():
            spans = torch.from_numpy(dt_s[:, b] / np.float32(PERIOD_S))[None]
            expected = module.eval()(torch.from_numpy(x[:, b])[None], timespans=spans)[0][0].numpy()
        np.testing.assert_allclose(got[:, b], expected, rtol=0, atol=LIMIT)


def test_more_input_never_changes_earlier_output(tmp_path):
    quick_export(BY_NAME["cfc-autoncp"].build(), tmp_path / "m.lnn")
    model, x = lnn_edge.load(tmp_path / "m.lnn"), samples(6, 100)
    np.testing.assert_array_equal(model.stream().run(x)[:40], model.stream().run(x[:40]))
