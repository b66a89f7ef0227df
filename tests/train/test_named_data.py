"""Names and labels of the data of a fit: columns go by their names, and rows that do not as well are told."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from labelled_array import Labelled

import lnn_edge
from lnn_edge import LiquidNeuralClassifier, LiquidNeuralNetwork, LiquidNeuralRegressor
from lnn_edge.errors import ModelWarning

NAMES, MIXED = ["hip", "knee", "ankle"], ["ankle", "hip", "knee"]
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(60, 3)).astype(np.float32)
Y = XS @ [1.0, 2.0, -1.0]
TIMES = pd.date_range("2024-05-01", periods=60, freq="20ms")
FRAME = pd.DataFrame(XS, columns=NAMES)
TARGETS = pd.DataFrame({"force": Y, "torque": -2.0 * Y})


def fitter(kind=LiquidNeuralRegressor, **options):
    return kind(8, "CfC", **{"epochs": 1, "n_jobs": 1, "verbose": 0, "random_state": 0, **options})


quick = fitter


class PlainFrame:
    """A frame as Polars has them: columns by name, no index."""

    def __init__(self, frame):
        self.columns, self.shape, self._own = list(frame.columns), frame.shape, frame

    def __len__(self):
        return len(self._own)

    def __getitem__(self, name):
        return self._own[name].to_numpy()

    def __array__(self, dtype=None, copy=None):
        return self._own.to_numpy(dtype)


FRAMES = {
    "plain frame": PlainFrame,
    "structured": lambda frame: np.asarray(frame.to_records(index=False)),
    "dict": lambda frame: {name: frame[name].to_numpy() for name in frame},
    "list of series": lambda frame: [frame.iloc[k] for k in range(len(frame))],
    "list of dicts": lambda frame: frame.to_dict("records"),
    "named tuples": lambda frame: list(frame.itertuples(index=False)),
}


@pytest.fixture(scope="module")
def model():
    return quick(epochs=3).fit(FRAME, TARGETS)


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_columns_of_any_frame_go_by_name(model, make):
    fitted = quick(epochs=3).fit(make(FRAME), TARGETS)
    assert list(fitted.feature_names_in_) == NAMES
    expected = model.predict(FRAME)
    np.testing.assert_array_equal(fitted.predict(FRAME), expected)
    np.testing.assert_array_equal(model.predict(make(FRAME[MIXED])), expected)
    with pytest.raises(ValueError, match=r"`X.*has its columns by name.*'t' is none of them"):
        model.predict(make(FRAME.assign(t=0.0)))


@pytest.mark.parametrize("make", [FRAMES["plain frame"], FRAMES["structured"], FRAMES["dict"]])
def test_several_sequences_by_name(model, make):
    fitted = quick(epochs=3).fit([make(FRAME[:30]), make(FRAME[30:])], [Y[:30], Y[30:]])
    expected = quick(epochs=3).fit([FRAME[:30], FRAME[30:]], [Y[:30], Y[30:]])
    np.testing.assert_array_equal(fitted.predict([FRAME[:20]])[0], expected.predict([FRAME[:20]])[0])
    np.testing.assert_array_equal(fitted.predict([make(FRAME[MIXED][:20])])[0], expected.predict([FRAME[:20]])[0])


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_a_batch_of_records(model):
    records = np.asarray(FRAME[MIXED].to_records(index=False)).reshape(2, 30)
    np.testing.assert_array_equal(model.predict(records), model.predict(XS.reshape(2, 30, 3)))


def test_a_sample_goes_by_name(model):
    expected = model.predict_step(XS[0])[0]
    for row in (FRAME[MIXED].iloc[0], FRAME[MIXED].iloc[0].to_dict(), next(FRAME[MIXED].itertuples(index=False))):
        np.testing.assert_array_equal(model.predict_step(row)[0], expected)
    nameless = quick().fit(XS, Y)
    with pytest.raises(ValueError, match=r"by name, hip, knee, ankle.*have no names.*x.to_numpy\(\)"):
        nameless.predict_step(FRAME.iloc[0])


def test_targets_go_by_name(model):
    assert model.score(FRAME, TARGETS[["torque", "force"]]) == model.score(FRAME, TARGETS)
    with pytest.raises(ValueError, match=r"y has the columns \['force', 'speed'\], expected.*'torque' is missing"):
        model.score(FRAME, TARGETS.rename(columns={"torque": "speed"}))
    losses = [
        [record.validation_loss for record in quick().fit(FRAME, TARGETS, validation=(FRAME, held)).history_]
        for held in (TARGETS, TARGETS[["torque", "force"]])
    ]
    assert losses[0] == losses[1]
    records = quick(epochs=3).fit(FRAME, np.asarray(TARGETS.to_records(index=False)))
    assert records.output_names_ == ("force", "torque")


def masked(values):
    return np.ma.masked_greater(values, np.sort(values.ravel())[-2])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda m: quick().fit(masked(XS), Y), "X"),
        (lambda m: quick().fit([masked(XS), XS], [Y, Y]), r"X\[0\]"),
        (lambda m: quick().fit(XS, masked(Y)), "y"),
        (lambda m: quick().fit([XS, XS], [Y, masked(Y)]), r"y\[1\]"),
        (lambda m: quick().fit(XS, Y, sample_weight=masked(np.abs(Y))), "sample_weight"),
        (lambda m: quick().fit(XS, Y, timespans=masked(np.abs(Y) + 1.0)), "timespans"),
        (lambda m: quick().fit(XS, Y, validation=(masked(XS), Y)), "X"),
        (lambda m: m.predict(masked(XS)), "X"),
        (lambda m: m.score(XS, masked(TARGETS.to_numpy())), "y"),
        (lambda m: m.predict_step(np.ma.array(XS[0], mask=[0, 1, 0])), "x"),
    ],
    ids=["X", "sequences", "y", "answers", "weights", "timespans", "validation", "predict", "score", "step"],
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_masked_values_are_refused(model, call, name):
    with pytest.raises(ValueError, match=f"`{name}` holds masked values"):
        call(model)


@pytest.mark.parametrize("index", [range(60), TIMES], ids=["numbers", "times"])
def test_answers_in_another_order_are_told(index):
    frame = FRAME.set_index(pd.Index(index))
    y = pd.Series(Y, index=frame.index)
    shuffled = y.sample(frac=1.0, random_state=0)
    with pytest.warns(ModelWarning, match=r"index of y holds the labels of X in another order.*y.loc\[X.index\]"):
        quick().fit(frame, shuffled)
    quick().fit(frame, shuffled.loc[frame.index])
    quick().fit(frame, y.reset_index(drop=True).shift(-1).fillna(0.0))
    with pytest.warns(ModelWarning, match="index of sample_weight holds"):
        quick().fit(frame, y, sample_weight=shuffled.abs() + 1.0)
    with pytest.warns(ModelWarning, match="index of timespans holds"):
        quick().fit(frame, y, timespans=shuffled.abs() + 1.0)
    with pytest.warns(ModelWarning, match="index of y holds"):
        quick().fit([frame, frame], [y, shuffled])
    with pytest.warns(ModelWarning, match="index of y holds"):
        quick(rows="sequences").fit(frame, shuffled)


ORDERS = {
    "unsorted": (lambda frame: frame.sample(frac=1.0, random_state=0), "not in order.*X.sort_index"),
    "backwards": (lambda frame: frame[::-1], "not in order"),
    "one after a later one": (
        lambda frame: pd.concat([frame[30:35], frame[20:], frame[32:]]),
        "not in order.*a list of",
    ),
    "equal": (lambda frame: pd.concat([frame[:20], frame[19:]]), "same label for two rows: .* in row 20.*duplicated"),
    "gapped": (lambda frame: pd.concat([frame[:20], frame[30:]]), "gaps: .* in row 20, 11 times the usual.*timespans"),
    "a sample lost": (lambda frame: frame.drop(frame.index[7]), "gaps: .* in row 7, 2 times the usual"),
}
INDICES = {
    "stamps": TIMES,
    "with a zone": TIMES.tz_localize("Europe/Berlin"),
    "spans": TIMES - TIMES[0],
    "periods": TIMES.to_period("ms"),
    "seconds": pd.Index(np.arange(60) * 0.02),
    "milliseconds": pd.Index(np.arange(60) * 20, name="t_ms"),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize(("change", "message"), ORDERS.values(), ids=ORDERS)
def test_times_that_are_no_even_sequence_are_told(index, change, message):
    frame = change(FRAME.set_index(index))
    y = np.zeros(len(frame)) + np.arange(len(frame)) / 7
    with pytest.warns(ModelWarning, match=message):
        quick().fit(frame, y)


@pytest.mark.parametrize(("order", "kind"), [*zip(ORDERS, INDICES, strict=True)])
def test_one_recording_of_several_that_is_no_even_sequence_is_told(order, kind):
    (change, message), index = ORDERS[order], INDICES[kind]
    frame = change(FRAME.set_index(index))
    y = np.zeros(len(frame)) + np.arange(len(frame)) / 7
    with pytest.warns(ModelWarning, match=message):
        quick().fit([FRAME.set_index(index), frame], [Y, y])
    levels = pd.concat({"a": FRAME.set_index(index), "b": frame})
    with pytest.warns(ModelWarning, match=message):
        quick().fit(levels, pd.Series(np.r_[Y, y], levels.index))


def test_what_is_even_or_known_is_not_told():
    for index in INDICES.values():
        quick().fit(FRAME.set_index(index), Y)
    frame = FRAME.set_index(TIMES)
    gapped = frame.drop(frame.index[20:30])
    spans = np.diff(gapped.index.to_numpy(), prepend=gapped.index.to_numpy()[0] - np.timedelta64(20, "ms"))
    quick().fit(gapped, Y[:50], timespans=spans)
    quick().fit(FRAME.drop(7), Y[:59])  # running numbers: left out on purpose
    jitter = TIMES + pd.to_timedelta(RNG.uniform(-4, 4, 60), "ms")
    quick().fit(FRAME.set_index(jitter), Y)
    quick(rows="sequences").fit(FRAME.set_index(TIMES)[::-1], Y)


WAVES = np.sin(np.arange(200) / 9.0 + RNG.uniform(0, 6, (12, 3, 1)))


@pytest.mark.parametrize(
    "cases", [WAVES, RNG.normal(size=(12, 3, 200)), WAVES[:, :, :8], list(WAVES)], ids=["waves", "noise", "few", "list"]
)
def test_channels_before_time_are_told(cases):
    with pytest.warns(ModelWarning, match=r"cases, channels, time.*X.transpose\(0, 2, 1\)"):
        quick().fit(cases, np.arange(12.0))


def test_time_before_channels_is_not_told():
    quick().fit(WAVES.transpose(0, 2, 1), np.arange(12.0))
    wide = np.cumsum(RNG.normal(size=(12, 10, 64)), axis=1)  # ten steps of 64 features, which are no sequence
    quick().fit(wide, np.arange(12.0))


def test_whole_numbers_that_may_be_amounts_are_told():
    counts, quick = np.arange(60) % 29 * 3, partial(fitter, wiring="full")
    with pytest.warns(ModelWarning, match="29 different whole numbers, from 0 to 84.*task='regression'"):
        assert quick(LiquidNeuralNetwork).fit(XS, counts).task_ == "classification"
    with pytest.warns(ModelWarning, match="29 different whole numbers"):
        quick(LiquidNeuralNetwork).fit(XS, counts // 3)
    for task in ("classification", "regression"):
        assert quick(LiquidNeuralNetwork, task=task).fit(XS, counts).task_ == task
    quick(LiquidNeuralNetwork).fit(XS, counts % 10)
    quick(LiquidNeuralNetwork).fit(XS, np.array(list("abcdefghijklmnopqrst"))[np.arange(60) % 20])
    quick(LiquidNeuralClassifier).fit(XS, counts)


BAD_NAMES = [" hip ", "hip\t", "", "a\nb", "a\x1bb"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_no_export_takes_are_refused_before_the_training(name, tmp_path):
    with pytest.raises(ValueError, match=r"X has the column .*Type: X.columns = X.columns.str.strip\(\)"):
        quick().fit(FRAME.rename(columns={"hip": name}), Y)
    with pytest.raises(ValueError, match=r"y has the column .*without spaces"):
        quick().fit(FRAME, TARGETS.rename(columns={"force": name}))
    with pytest.raises(ValueError, match="y has the column"):
        quick().fit(FRAME, pd.Series(Y, name=name))
    with pytest.raises(ValueError, match="y has the label"):
        quick(LiquidNeuralClassifier).fit(FRAME, np.where(Y > 0, name, "walk"))
    with pytest.raises(ValueError, match="X has the column"):
        quick().fit({"hip": XS[:, 0], name: XS[:, 1]}, Y)


def test_a_column_that_stands_twice_is_refused_before_the_training():
    with pytest.raises(ValueError, match=r"'hip' (more than once|2 times)"):
        quick().fit(FRAME.rename(columns={"knee": "hip"}), Y)


def test_names_that_fit_takes_are_exported(tmp_path):
    names = ["hip angle", "größe", "knee-2"]
    fitted = quick().fit(FRAME.set_axis(names, axis=1), pd.Series(Y, name="joint torque"))
    fitted.export(tmp_path / "m.lnn", period_s=0.02)
    loaded = lnn_edge.load(tmp_path / "m.lnn")
    assert [feature.name for feature in loaded.inputs[0].features] == names
    stream = loaded.stream()
    with pytest.raises(
        ValueError, match=r"legal range.*unchanged.*wider limits, inputs=\['NAME:unit:low:high'.*a larger `margin`"
    ):
        stream.step(XS[0] + 100.0)
    fitted.export(tmp_path / "m.lnn", period_s=0.02, margin=None, overwrite=True)
    assert np.isfinite(lnn_edge.load(tmp_path / "m.lnn").stream().step(XS[0] + 100.0)).all()


@pytest.mark.parametrize("shape", [XS, XS.reshape(3, 20, 3)], ids=["one", "several"])
def test_coordinates_are_names_that_scikit_learn_does_not_see(shape):
    given = Labelled(shape, ("case", "t", "f")[-shape.ndim :], {"f": NAMES})
    y = Y.reshape(shape.shape[:-1])
    for call in (
        lambda: quick().fit(given, y),
        lambda: quick().fit([given], [Y]),
        lambda: quick().fit(XS, Y).predict(given),
    ):
        with pytest.raises(ValueError, match=r"X is a Labelled with its columns by name, hip, knee, ankle. Type: X.t"):
            call()


def test_a_frame_that_lies_on_its_side_is_refused_though_its_shape_would_fit():
    with pytest.raises(ValueError, match=r"`X` has hip, knee, ankle as the names of its rows, expected columns"):
        quick().fit(FRAME, Y).predict(FRAME[:3].T)


def test_plans_of_tables_are_refused_in_words():
    class LazyFrame:
        columns = NAMES

        def collect(self):
            raise AssertionError

    for call in (lambda: quick().fit(LazyFrame(), Y), lambda: quick().fit(XS, LazyFrame())):
        with pytest.raises(TypeError, match=r"is a LazyFrame, which holds no values yet. Type: x.collect\(\)"):
            call()


def test_dates_are_no_features_and_no_targets():
    """NumPy counts them: nanoseconds since 1970 became a feature of 1.7e18."""
    stamps = np.broadcast_to(TIMES.to_numpy()[:, None], (60, 3))
    for X in (stamps, pd.DataFrame(stamps), FRAME.assign(knee=TIMES - TIMES[0])):
        with pytest.raises(TypeError, match="X holds dates or spans of time, expected real numbers"):
            quick().fit(X, Y)
    with pytest.raises(TypeError, match="y holds dates or spans of time, expected numbers or labels"):
        quick().fit(XS, stamps[:, 0] - stamps[0, 0])


def test_tensors_that_numpy_does_not_take():
    x = torch.tensor(XS)
    expected = quick().fit(XS, Y).predict(XS)
    np.testing.assert_array_equal(quick().fit(torch._neg_view(-x), Y).predict(XS), expected)
    assert quick().fit(x.bfloat16(), Y).n_epochs_ == 1
    with pytest.raises(TypeError, match=r"`X` is a sparse tensor, expected a plain one. Type: X.to_dense\(\)"):
        quick().fit(x.to_sparse(), Y)
    with pytest.raises(TypeError, match="`y` is a tensor on the device 'meta', which holds no values"):
        quick().fit(x, torch.empty(60, device="meta"))
