"""Repairs of ncps' timespans that people write, and what computes something else under the same name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import LTC, CfC, CfCCell, LTCCell
from ncps.wirings import AutoNCP
from torch import nn

import lnn_edge

LIMIT = 1e-5  # the promise of the proof, absolute; outputs of these models are of order 1
PERIOD_S = 0.1
X = np.random.default_rng(1).standard_normal((30, 3)).astype(np.float32)
DT_S = np.random.default_rng(2).uniform(0.02, 0.5, 30).astype(np.float32)


class PerUnit(nn.Module):
    """The commonest repair: ncps squeezes (batch, time), but not (batch, time, units)."""

    def __init__(self, core, units):
        super().__init__()
        self.rnn, self.head, self.units = core, nn.Linear(2, 1), units

    def forward(self, x, timespans=None):
        if timespans is not None:
            timespans = timespans.unsqueeze(-1).expand(-1, -1, self.units)
        return self.head(self.rnn(x, timespans=timespans)[0])


class RowByRow(CfC):
    """Each row on its own, whatever the others' timespans are."""

    def forward(self, samples, hx=None, timespans=None):
        if timespans is None or len(samples) == 1:
            return super().forward(samples, hx, timespans)
        rows = [
            super(RowByRow, self).forward(x[None], None if hx is None else hx[k : k + 1], span[None])
            for k, (x, span) in enumerate(zip(samples, timespans, strict=True))
        ]
        return torch.cat([y for y, _ in rows]), torch.cat([h for _, h in rows])


class Checked(LTC):
    """Hands on whatever it gets."""

    def forward(self, *arguments, **keywords):
        return super().forward(*arguments, **keywords)


class Reshaped(CfCCell):
    """Its own cell forward, written out for timespans of (batch,)."""

    def forward(self, sample, hx, ts):
        ts = ts.reshape(-1, 1) if isinstance(ts, torch.Tensor) and ts.dim() else ts
        return super().forward(sample, hx, ts)


class Solver(LTCCell):
    def _ode_solver(self, inputs, state, elapsed_time):
        return super()._ode_solver(inputs, state, elapsed_time)


class Slower(LTCCell):
    def _ode_solver(self, inputs, state, elapsed_time):
        return super()._ode_solver(inputs, state, 2.0 * elapsed_time)


class Around(nn.Module):
    def __init__(self, core, outputs=2):
        super().__init__()
        self.rnn, self.head = core, nn.Linear(outputs, 1)

    def forward(self, x, timespans=None):
        return self.head(self.rnn(x, timespans=timespans)[0])

    def turn(self, x, state):
        y, state = self.rnn(x.unsqueeze(1), state)
        return self.head(y[:, -1]), state


def with_cell(layer, kind):
    """A layer whose cell is of another class, as a global patch makes it."""
    layer.rnn_cell.__class__ = kind
    return layer


TAKEN = {
    "per-unit-cfc": lambda: PerUnit(CfC(3, AutoNCP(8, 2)), 1),
    "per-unit-cfc-units": lambda: PerUnit(CfC(3, 2), 2),
    "per-unit-ltc": lambda: PerUnit(LTC(3, AutoNCP(8, 2)), 8),
    "row-by-row": lambda: Around(RowByRow(3, 2)),
    "row-by-row-alone": lambda: RowByRow(3, 2),
    "hands-on": lambda: Around(Checked(3, AutoNCP(8, 2))),
    "hands-on-alone": lambda: Checked(3, 4),
    "cell-of-a-cfc": lambda: Around(with_cell(CfC(3, 2), Reshaped)),
    "cell-of-an-ltc": lambda: Around(with_cell(LTC(3, AutoNCP(8, 2)), Solver)),
    "mixed-memory": lambda: Around(Checked(3, AutoNCP(8, 2), mixed_memory=True)),
}


@pytest.mark.parametrize("time", ["fixed", "measured"])
@pytest.mark.parametrize("name", TAKEN)
def test_a_repair_exports_and_equals_its_author(name, time, tmp_path):
    torch.manual_seed(3)
    module = TAKEN[name]().eval()
    measured = {"time": "measured", "period_s": PERIOD_S} if time == "measured" else {}
    quick_export(module, tmp_path / "m.lnn", example=X[None], **measured)
    spans = torch.from_numpy(DT_S / PERIOD_S)[None] if measured else None
    with torch.no_grad():
        result = module(torch.from_numpy(X)[None], timespans=spans)
    expected = (result[0] if isinstance(result, tuple) else result)[0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X, dt_s=DT_S if measured else None)
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("make", [lambda: RowByRow(3, 2), lambda: Checked(3, 2)], ids=["row-by-row", "hands-on"])
def test_a_repair_inside_a_step(make, tmp_path):
    torch.manual_seed(3)
    module = Around(make()).eval()
    quick_export(module, tmp_path / "m.lnn", example=X[None], step=Around.turn)
    with torch.no_grad():
        expected = module(torch.from_numpy(X)[None])[0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X), expected, rtol=0, atol=LIMIT)


def test_what_computes_something_else_is_refused(tmp_path):
    match = "Slower overrides `_ode_solver` of ncps, and gives another result than the plain LTCCell does for one row"
    with pytest.raises(TypeError, match=match):
        quick_export(Around(with_cell(LTC(3, AutoNCP(8, 2)), Slower)), tmp_path / "m.lnn", example=X[None])


def test_different_timespans_of_the_units_are_refused(tmp_path):
    class Ramp(PerUnit):
        def forward(self, x, timespans=None):
            spans = torch.ones(*x.shape[:2], 1) * torch.linspace(0.5, 1.5, self.units)
            return self.head(self.rnn(x, timespans=spans)[0])

    with pytest.raises(ValueError, match="gives the units of the core 'rnn' different timespans, but a step has one"):
        quick_export(Ramp(CfC(3, 2), 2), tmp_path / "m.lnn", example=X[None])


class Timeless(CfC):
    """Its author passes none, and its forward hands none on."""

    def forward(self, x, hx=None, timespans=None):
        return super().forward(x, hx)


class WithoutTheArgument(LTC):
    def forward(self, x, hx=None):
        return super().forward(x, hx)


class Alone(CfC):
    def forward(self, x, hx=None, timespans=None):
        return super().forward(x, hx, timespans)[0]


class Unaware(Around):
    def forward(self, x):
        return self.head(self.rnn(x)[0])


TIMELESS = {
    "cfc": lambda: Unaware(Timeless(3, 2)),
    "ltc": lambda: Unaware(WithoutTheArgument(3, AutoNCP(8, 2))),
    "cfc-alone": lambda: Timeless(3, 2),
    "ltc-alone": lambda: WithoutTheArgument(3, AutoNCP(8, 2)),
}


def timeless(name):
    torch.manual_seed(3)
    return TIMELESS[name]().eval()


@pytest.mark.parametrize("options", [{}, {"timespan": 0.5}])
@pytest.mark.parametrize("name", TIMELESS)
def test_a_subclass_that_ignores_time_computes_without_it(name, options, tmp_path):
    """Whatever is said about time: the truth is the author's call."""
    module = timeless(name)
    quick_export(module, tmp_path / "m.lnn", example=X[None], **options)
    with torch.no_grad():
        result = module(torch.from_numpy(X)[None])
    expected = (result[0] if isinstance(result, tuple) else result)[0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(X), expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", TIMELESS)
def test_a_subclass_that_ignores_time_takes_no_measured_one(name, tmp_path):
    with pytest.raises(ValueError, match=r"nothing in the model depends on the time between samples.*time='fixed'"):
        quick_export(timeless(name), tmp_path / "m.lnn", example=X[None], time="measured", period_s=PERIOD_S)


def test_a_subclass_that_returns_its_output_alone_is_told_what_to_do(tmp_path):
    with pytest.raises(TypeError, match="Train with the plain CfC, and compute what it adds in a module that holds it"):
        quick_export(nn.Sequential(Alone(3, 2), nn.Linear(2, 1)), tmp_path / "m.lnn", example=X[None])


class TimeAsFeature(nn.Module):
    """A forward that computes with the time, and gives it to its core as `spans` says, or not."""

    def __init__(self, spans=None):
        super().__init__()
        self.rnn, self.spans = LTC(4, AutoNCP(8, 2)), spans

    def forward(self, x, hx=None, dt=None):
        if dt is None:
            return self.rnn(x, hx)
        given = {} if self.spans is None else {"timespans": self.spans(dt)}
        return self.rnn(x + dt.reshape(1, -1, 1), hx, **given)


@pytest.mark.parametrize("time", [{}, {"time": "measured"}], ids=["fixed", "measured"])
def test_a_core_without_the_time_that_the_forward_computes_with_is_refused(tmp_path, time):
    """The core would get the time of the step, and its author's has 1; what is advised equals the author's use."""
    x = np.random.default_rng(1).standard_normal((1, 20, 4)).astype(np.float32)
    options = {"example": x, "period_s": 0.02, "timespan": 0.02, **time}
    torch.manual_seed(0)
    with pytest.raises(
        ValueError, match=r"`dt`, and calls the core 'rnn' without timespans.*torch.ones_like\(dt\) for"
    ):
        lnn_edge.export_model(TimeAsFeature(), tmp_path / "m.lnn", **options)
    for k, spans in enumerate((torch.ones_like, lambda dt: dt)):
        model = TimeAsFeature(spans).eval()
        quick_export(model, tmp_path / f"{k}.lnn", **options)
        with torch.no_grad():
            expected = model(torch.from_numpy(x), dt=torch.full((1, 20), 0.02))[0][0].numpy()
        dt_s = {"dt_s": np.full(20, 0.02, np.float32)} if time else {}
        got = lnn_edge.load(tmp_path / f"{k}.lnn").stream().run(x[0], **dt_s)
        np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


class Clipped(TimeAsFeature):
    """The same, of a time that has one value from a tenth on."""

    def forward(self, x, hx=None, dt=None):
        return super().forward(x, hx, None if dt is None else dt.clamp(max=0.1))


@pytest.mark.parametrize("time", [{}, {"time": "measured"}, {"time": "measured", "timespan": 1.0}])
def test_a_time_that_is_computed_with_only_where_it_is_short_is_told_as_well(tmp_path, time):
    x = np.random.default_rng(1).standard_normal((1, 20, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="the forward computes with `dt`"):
        quick_export(Clipped(), tmp_path / "m.lnn", example=x, period_s=0.02, **({"timespan": 0.02} | time))


class TimeAlways(TimeAsFeature):
    def forward(self, x, dt):
        return super().forward(x, None, dt)[0]


def test_a_core_without_time_is_exported_where_the_time_is_always_1(tmp_path):
    """ncps computes with 1 there, and so does the step."""
    x, model = np.random.default_rng(1).standard_normal((1, 20, 4)).astype(np.float32), TimeAlways().eval()
    quick_export(model, tmp_path / "m.lnn", example=x)
    with torch.no_grad():
        expected = model(torch.from_numpy(x), torch.ones(1, 20))[0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0]), expected, rtol=0, atol=LIMIT)


class TwoCores(nn.Module):
    """Two cores, of which each gets the time or does not."""

    def __init__(self, first, second):
        super().__init__()
        self.one, self.two, self.timed = LTC(3, AutoNCP(8, 2)), CfC(2, AutoNCP(8, 2)), (first, second)

    def step(self, x, state, timespan=None):
        state, (first, second) = state or (None, None), self.timed
        y, one = self.one(x[:, None], state[0], timespan if first else None)
        y, two = self.two(y, state[1], timespan if second else None)
        return y[:, 0], (one, two)

    def forward(self, x, timespans=None):
        first, second = (timespans if timed else None for timed in self.timed)
        return self.two(self.one(x, timespans=first)[0], timespans=second)[0]


@pytest.mark.parametrize("timed", [(True, False), (False, True)], ids=["first", "second"])
def test_of_two_cores_one_without_time_computes_with_1_in_a_step_and_is_refused_in_a_forward(tmp_path, timed):
    model = TwoCores(*timed).eval()
    options = {"example": X[None], "time": "measured", "period_s": PERIOD_S, "timespan": 0.3}
    missing = "two" if timed[0] else "one"
    with pytest.raises(ValueError, match=f"calls the core '{missing}' without timespans"):
        quick_export(model, tmp_path / "refused.lnn", **options)
    quick_export(model, tmp_path / "m.lnn", step=model.step, **options)
    with torch.no_grad():
        expected = model(torch.from_numpy(X)[None], torch.from_numpy(DT_S * 0.3 / PERIOD_S)[None].float())[0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(X, dt_s=DT_S)
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)
