"""The central test on the backend `native`: stepping a bundle gives what torch gives on the whole sequence.

A row for each way in which a step is called; all cells, networks and wirings are followed in tests/codegen.
"""

from __future__ import annotations

import numpy as np
import pytest
from called_bundles import CALLED, Bundles
from cases import BY_NAME
from exports import quick_export
from offline import LIMIT, jittered, offline, samples, whole_sequence

import lnn_edge
from lnn_edge.verify.tolerance import HALF_TOLERANCE

pytestmark = pytest.mark.usefixtures("compiler")


def follow(path, name, limit, factory):
    """A recording and, after a reset, a longer one."""
    stream = lnn_edge.load(path, backend="native").stream()
    x, _, expected = whole_sequence(factory, name)
    for count in (402, 999):  # blocks of three as well
        np.testing.assert_allclose(stream.run(x[:count]), expected[:count], rtol=0, atol=limit)
        stream.reset()


@pytest.mark.parametrize(("way", "limit"), [("pure", LIMIT), ("blocks", LIMIT), ("half-ltc", HALF_TOLERANCE)])
def test_compiled_step_with_fixed_time(way, limit, tmp_path_factory):
    follow(Bundles(tmp_path_factory)[way], CALLED[way][0], limit, tmp_path_factory)


def test_compiled_step_of_an_export_that_has_proven_it(tmp_path, tmp_path_factory):
    """And compiled it: what is loaded is what was proven."""
    report = quick_export(BY_NAME["cfc-autoncp"].build(), tmp_path / "m.lnn")
    assert any(text.startswith("C compiled by") for text in report.backends)
    follow(tmp_path / "m.lnn", "cfc-autoncp", LIMIT, tmp_path_factory)


@pytest.mark.parametrize("way", ["measured", "gelu", "mixed"])
def test_compiled_step_with_measured_time(way, tmp_path_factory):
    stream = lnn_edge.load(Bundles(tmp_path_factory)[way], backend="native").stream()
    x, dt_s, expected = whole_sequence(tmp_path_factory, CALLED[way][0], measured=True)
    np.testing.assert_allclose(stream.run(x, dt_s=dt_s), expected, rtol=0, atol=LIMIT)


def test_compiled_rows_of_a_batch(tmp_path_factory):
    """Each with a dt of its own."""
    stream = lnn_edge.load(Bundles(tmp_path_factory)["batch"], backend="native").stream()
    x = np.stack([samples(10 + b, 200) for b in range(2)], axis=1)
    dt_s = np.stack([jittered(20 + b, 200) for b in range(2)], axis=1)
    got = stream.run(x, dt_s=dt_s[:, :, None])
    for b in range(2):
        expected = offline(BY_NAME[CALLED["batch"][0]].build(), x[:, b], dt_s[:, b])
        np.testing.assert_allclose(got[:, b], expected, rtol=0, atol=LIMIT)
