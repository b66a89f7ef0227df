"""A guard in a bundle: kept, checked, honoured, and overruled by who asks for another."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import copied, edit_json, resign, small_cfc, small_ltc
from exports import quick_export

import lnn_edge
from lnn_edge import Feature, Guard
from lnn_edge.errors import BundleError
from lnn_edge.runtime.guard.status import Status

pytestmark = pytest.mark.workstation

X = np.array([0.3, -0.2, 0.1], np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    guard = Guard(warm_up=2, on_fault="safe", safe={"output": np.array([0.5, -0.5])}, slew_per_s={"output": (1e9, 2.0)})
    path = tmp_path_factory.mktemp("guard") / "gait.lnn"
    outputs = [Feature("left", limits=(-0.01, 0.01)), Feature("right")]
    quick_export(small_cfc(), path, period_s=0.02, outputs=outputs, guard=guard)
    return path


def test_it_is_honoured(bundle):
    guarded = lnn_edge.load(bundle).guarded()
    found = [guarded.tick(X * 3) for _ in range(4)]
    assert [tick.status.text for tick in found] == ["warming up", "warming up", "ok", "ok"]
    assert found[0].y.tolist() == [0.5, -0.5]
    assert guarded.tick(X * np.nan).y.tolist() == [0.5, -0.5]
    for tick, before in zip(found[2:], found[1:], strict=False):
        assert abs(tick.y[0]) <= np.float32(0.01)
        assert abs(tick.y[1] - before.y[1]) <= 2.0 * 0.02 * (1 + 1e-5)
    assert any(tick.limited for tick in found[2:])


def test_who_asks_for_another_gets_it(bundle):
    guarded = lnn_edge.load(bundle).guarded(Guard())
    assert guarded.tick(X).status is Status.OK


def test_bare_streams_know_nothing_of_it(bundle):
    stream, guarded = lnn_edge.load(bundle).stream(), lnn_edge.load(bundle).guarded()
    np.testing.assert_array_equal(stream.step(X), guarded.tick(X).raw)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"guard": {"warm_up": 1}}, TypeError, r"expected lnn_edge\.Guard"),
        ({"guard": Guard(safe={"force": (0,)})}, ValueError, "`guard` does not fit the model: `safe` names 'force'"),
        ({"guard": Guard(), "unroll": 4}, ValueError, "takes blocks of 4"),
        ({"guard": Guard(slew_per_s={"output": (1, 1)})}, ValueError, "export with `period_s`"),
        (
            {"guard": Guard(gap_s=99.0), "time": "measured", "period_s": 0.1},
            ValueError,
            "`gap_s` is 99.0, but the model was proven for at most 2 s",
        ),
    ],
)
def test_one_that_does_not_fit_is_refused_before_any_work(tmp_path, options, kind, message):
    with pytest.raises(kind, match=message):
        quick_export(small_ltc(), tmp_path / "x.lnn", **options)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "forged", [{"warm_up": -1}, {"on_gap": "run"}, {"more": 1}, {"pace": [2.0, 3.0]}, {"gap_s": "x"}]
)
def test_one_that_was_forged_is_refused(bundle, tmp_path, forged):
    own = copied(bundle, tmp_path / "gait.lnn")
    edit_json(own, lambda plain: plain["guard"].update(forged))
    with pytest.raises(BundleError, match=r"guard"):
        lnn_edge.load(own)


def test_one_of_another_model_is_refused(bundle, tmp_path):
    own = resign(copied(bundle, tmp_path / "gait.lnn"), guard=Guard(safe={"output": (0.0,)}))
    with pytest.raises(BundleError, match="`safe` of 'output' has 1 numbers, expected 2"):
        lnn_edge.load(own)
