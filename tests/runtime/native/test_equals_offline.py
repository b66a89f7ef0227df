"""The central test on the backend `native`: stepping a bundle gives what torch gives on the whole sequence.

A row for each way in which a step is called; all cells, networks and wirings are followed in tests/codegen.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import BY_NAME
from exports import quick_export
from offline import LIMIT, PERIOD_S, TIMESPAN, jittered, offline, samples, whole_sequence

import lnn_edge
from lnn_edge.verify.comparison import HALF_TOLERANCE

pytestmark = pytest.mark.usefixtures("compiler")
MEASURED = {"time": "measured", "period_s": PERIOD_S, "timespan": TIMESPAN}


def stream_of(name, path, **options):
    """A stream on C; the export has proven that as well, and compiled it."""
    report = quick_export(BY_NAME[name].build(), path, **options)
    assert any(text.startswith("C compiled by") for text in report.backends)
    return lnn_edge.load(path, backend="native").stream()


@pytest.mark.parametrize(
    ("name", "options", "limit"),
    [
        ("ltc-own-wiring", {}, LIMIT),
        ("cfc-mixed-autoncp", {}, LIMIT),
        ("cfc-pure-autoncp", {"unroll": 4}, LIMIT),
        ("ltc-autoncp", {"precision": "float16"}, HALF_TOLERANCE),
    ],
)
def test_compiled_step_with_fixed_time(name, options, limit, tmp_path, tmp_path_factory):
    stream = stream_of(name, tmp_path / "m.lnn", **options)
    x, _, expected = whole_sequence(tmp_path_factory, name)
    np.testing.assert_allclose(stream.run(x[:400]), expected[:400], rtol=0, atol=limit)
    stream.reset()
    np.testing.assert_allclose(stream.run(x), expected, rtol=0, atol=limit)


@pytest.mark.parametrize("name", ["ltc-mixed", "cfc-gelu"])
def test_compiled_step_with_measured_time(name, tmp_path, tmp_path_factory):
    stream = stream_of(name, tmp_path / "m.lnn", **MEASURED)
    x, dt_s, expected = whole_sequence(tmp_path_factory, name, measured=True)
    np.testing.assert_allclose(stream.run(x, dt_s=dt_s), expected, rtol=0, atol=LIMIT)


def test_compiled_rows_of_a_batch(tmp_path):
    """Each with a dt of its own."""
    stream = stream_of("cfc-autoncp", tmp_path / "m.lnn", batch=3, **MEASURED)
    x = np.stack([samples(10 + b, 200) for b in range(3)], axis=1)
    dt_s = np.stack([jittered(20 + b, 200) for b in range(3)], axis=1)
    got = stream.run(x, dt_s=dt_s[:, :, None])
    for b in range(3):
        expected = offline(BY_NAME["cfc-autoncp"].build(), x[:, b], dt_s[:, b])
        np.testing.assert_allclose(got[:, b], expected, rtol=0, atol=LIMIT)
