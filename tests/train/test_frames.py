"""Frames whose index tells the sequences apart: everything is matched by label, whatever the order of the rows."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch

from lnn_edge import LiquidNeuralClassifier, LiquidNeuralRegressor

RNG = np.random.default_rng(0)
ORDER, LENGTHS = ["jog", "amble", "walk", "climb"], [9, 12, 10, 11]
COLUMNS = ["hip", "knee"]
TABLE = pd.concat(
    pd.DataFrame(RNG.normal(size=(length, 2)), columns=COLUMNS).assign(
        who=who, t=range(length), dt=RNG.uniform(0.5, 1.5, length)
    )
    for who, length in zip(ORDER, LENGTHS, strict=True)
)
TABLE["torque"] = TABLE["hip"] * 2 + TABLE["knee"]
FRAME = TABLE.set_index(["who", "t"])
PARTS = [part for _, part in TABLE.groupby("who", sort=False)]
LISTS = {
    "X": [part[COLUMNS].to_numpy() for part in PARTS],
    "y": [part["torque"].to_numpy() for part in PARTS],
    "last": np.array([part["torque"].iloc[-1] for part in PARTS]),
    "spans": [part["dt"].to_numpy() for part in PARTS],
}
SORTED = FRAME.sort_index()  # another order of sequences
MIXED = FRAME.sort_index(level="t", sort_remaining=False)  # rows of different sequences in turns
WEIGHTS = {"jog": 1.0, "amble": 3.0, "walk": 0.0, "climb": 2.0}


def quick(kind=LiquidNeuralRegressor, **options):
    return kind(8, "CfC", **{"epochs": 3, "n_jobs": 1, "verbose": 0, "random_state": 0, **options})


def by_sequence(found):
    """What a frame of predictions holds for each sequence, in the order in which their labels come."""
    if isinstance(found, (pd.Series, pd.DataFrame)) and found.index.nlevels > 1:
        return [part.to_numpy() for _, part in found.groupby(level=0, sort=False, dropna=False)]
    return found


def same(found, expected):
    found, expected = by_sequence(found), by_sequence(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("y", [FRAME, SORTED, MIXED, FRAME[::-1]], ids=["same order", "sorted", "mixed", "backwards"])
def test_answers_per_step(y):
    expected = quick().fit(LISTS["X"], LISTS["y"])
    model = quick().fit(FRAME[COLUMNS], y["torque"])
    same(model.predict(FRAME[COLUMNS]), expected.predict(LISTS["X"]))
    assert model.score(FRAME[COLUMNS], y["torque"]) == expected.score(LISTS["X"], LISTS["y"])
    assert list(model.feature_names_in_) == COLUMNS
    assert model.output_names_ == ("torque",)


def test_rows_in_turns_are_put_together():
    same(quick().fit(MIXED[COLUMNS], FRAME["torque"]).predict(MIXED[COLUMNS]),
         quick().fit(LISTS["X"], LISTS["y"]).predict(LISTS["X"]))  # fmt: skip


def test_answers_per_sequence():
    """pandas sorts groups by default: by position each answer would go to another sequence."""
    last = FRAME["torque"].groupby(level="who").last()
    assert list(last.index) != ORDER
    expected = quick().fit(LISTS["X"], LISTS["last"])
    model = quick().fit(FRAME[COLUMNS], last)
    np.testing.assert_array_equal(model.predict(FRAME[COLUMNS]), expected.predict(LISTS["X"]))
    assert model.score(FRAME[COLUMNS], last) == expected.score(LISTS["X"], LISTS["last"])
    np.testing.assert_array_equal(
        quick().fit(FRAME[COLUMNS], LISTS["last"]).predict(FRAME[COLUMNS]), expected.predict(LISTS["X"])
    )


def test_labels_per_sequence():
    fast = pd.Series({"walk": "slow", "climb": "slow", "amble": "slow", "jog": "fast"})
    model = quick(LiquidNeuralClassifier).fit(FRAME[COLUMNS], fast)
    expected = quick(LiquidNeuralClassifier).fit(LISTS["X"], ["fast", "slow", "slow", "slow"])
    np.testing.assert_array_equal(model.predict_proba(FRAME[COLUMNS]), expected.predict_proba(LISTS["X"]))


@pytest.mark.parametrize(("kind", "plain"), [("Int64", "int64"), ("boolean", "bool")])
def test_labels_of_pandas_own_types(kind, plain):
    fast = pd.Series([1, 0, 0, 1], index=ORDER)
    model = quick(LiquidNeuralClassifier).fit(FRAME[COLUMNS], fast.astype(kind))
    assert model.classes_.dtype == plain
    assert model.predict(FRAME[COLUMNS]).dtype == plain


@pytest.mark.parametrize("spans", [FRAME["dt"], SORTED["dt"], SORTED[["dt"]]], ids=["series", "sorted", "frame"])
def test_timespans(spans):
    expected = quick().fit(LISTS["X"], LISTS["y"], timespans=LISTS["spans"])
    model = quick().fit(FRAME[COLUMNS], FRAME["torque"], timespans=spans)
    same(model.predict(FRAME[COLUMNS], spans), expected.predict(LISTS["X"], LISTS["spans"]))


def test_weights():
    expected = quick().fit(LISTS["X"], LISTS["y"], sample_weight=[WEIGHTS[who] for who in ORDER])
    each = pd.Series(WEIGHTS).sort_index()
    steps = pd.Series([WEIGHTS[who] for who, _ in SORTED.index], index=SORTED.index)
    for weights in (each, steps):
        model = quick().fit(FRAME[COLUMNS], FRAME["torque"], sample_weight=weights)
        same(model.predict(FRAME[COLUMNS]), expected.predict(LISTS["X"]))
        score = model.score(FRAME[COLUMNS], FRAME["torque"], sample_weight=weights)
        assert score == expected.score(LISTS["X"], LISTS["y"], sample_weight=[WEIGHTS[who] for who in ORDER])


def test_steps_of_another_name_are_taken_in_their_order():
    """Numbered from one sequence to the next in one frame, within each in the other."""
    numbered = TABLE.assign(t=range(len(TABLE))).set_index(["who", "t"])["torque"]
    same(
        quick().fit(FRAME[COLUMNS], numbered).predict(FRAME[COLUMNS]),
        quick().fit(LISTS["X"], LISTS["y"]).predict(LISTS["X"]),
    )


def test_next_samples():
    same(
        quick().fit(SORTED[COLUMNS]).predict(FRAME[COLUMNS]),
        quick().fit([LISTS["X"][k] for k in (1, 3, 0, 2)]).predict(LISTS["X"]),
    )


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (FRAME.drop("walk", level="who")["torque"], "that of X: 'walk' is only in X. Type: X = X.loc"),
        (FRAME.rename({"walk": "run"}, level="who")["torque"], "that of X: 'run' is only in y"),
    ],
    ids=["missing", "other"],
)
def test_other_sequences_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(FRAME[COLUMNS], y)


STEPS = FRAME["torque"]
EACH = STEPS.groupby(level="who").last()
UNLIKE = {
    "X has more": (FRAME, STEPS.drop("walk", level="who")),
    "y has more": (FRAME.drop("walk", level="who"), STEPS),
    "each has more": (FRAME.drop("run", level="who", errors="ignore"), STEPS.rename({"walk": "fly"}, level="who")),
    "X has more, one each": (FRAME, EACH.drop("walk")),
    "y has more, one each": (FRAME.drop("walk", level="who"), EACH),
    "each has more, one each": (FRAME, EACH.rename({"walk": "fly"})),
}


@pytest.mark.parametrize("unlike", UNLIKE)
def test_what_is_advised_for_other_sequences_works(unlike):
    """`y.loc[X.index]` raised a KeyError where X has a sequence that y lacks."""
    frame, y = UNLIKE[unlike]
    own = {"X": frame[COLUMNS], "y": y}
    with pytest.raises(ValueError, match=r"Type: ") as caught:
        quick().fit(own["X"], own["y"])
    advised = str(caught.value).partition("Type: ")[2].partition(", or ")[0]
    exec(advised if "=" in advised else f"y = {advised}", own)
    quick(epochs=1).fit(own["X"], own["y"])


def test_some_labels_are_not_enough():
    """By place they would go to other sequences."""
    last = FRAME["torque"].groupby(level="who").last().rename({"walk": "run"})
    with pytest.raises(ValueError, match=r"holds some of the labels of X, but not the same: 'run', 'walk' are only in"):
        quick().fit(FRAME[COLUMNS], last)
    by_place = quick().fit(FRAME[COLUMNS], pd.Series(LISTS["last"]))  # numbered, and no label of X is a number
    np.testing.assert_array_equal(
        by_place.predict(FRAME[COLUMNS]), quick().fit(LISTS["X"], LISTS["last"]).predict(LISTS["X"])
    )


class TestArraysInFrames:
    """A table of numbers is what its numbers are, not the names of its columns."""

    X = RNG.normal(size=(6, 6, 2)).astype(np.float32)
    Y = X[..., 0]
    WEIGHTS = RNG.uniform(0.5, 2.0, (6, 6))

    def test_weights(self):
        expected = quick().fit(self.X, self.Y, sample_weight=self.WEIGHTS)
        found = quick().fit(self.X, self.Y, sample_weight=pd.DataFrame(self.WEIGHTS))
        np.testing.assert_array_equal(found.predict(self.X), expected.predict(self.X))
        each = self.WEIGHTS[:, 0]
        for given in (each[:, None], pd.DataFrame({"w": each}), pd.Series(each), torch.from_numpy(each)):
            np.testing.assert_array_equal(
                quick().fit(self.X, self.Y, sample_weight=given).predict(self.X),
                quick().fit(self.X, self.Y, sample_weight=each).predict(self.X),
            )

    def test_timespans(self):
        expected = quick().fit(self.X, self.Y, timespans=self.WEIGHTS).predict(self.X, self.WEIGHTS)
        table = pd.DataFrame(self.WEIGHTS)
        np.testing.assert_array_equal(quick().fit(self.X, self.Y, timespans=table).predict(self.X, table), expected)

    def test_answers(self):
        expected = quick().fit(self.X, self.Y).predict(self.X)
        np.testing.assert_array_equal(quick().fit(self.X, pd.DataFrame(self.Y)).predict(self.X), expected)


class TestNamedColumns:
    def test_a_sample(self):
        model = quick().fit(FRAME[COLUMNS], FRAME["torque"])
        sample = pd.Series({"hip": 0.3, "knee": -0.8})
        expected, _ = model.predict_step([0.3, -0.8])
        for given in (sample, sample[["knee", "hip"]], pd.Series([0.3, -0.8])):
            np.testing.assert_array_equal(model.predict_step(given)[0], expected)

    def test_the_future(self):
        x = pd.DataFrame(RNG.normal(size=(20, 3)), columns=["a", "b", "c"])
        model = quick().fit(x, x["a"])
        future = pd.DataFrame(RNG.normal(size=(4, 2)), columns=["b", "c"])
        expected = model.forecast(5, x, columns=["a"], future=future.to_numpy())
        for given in (future, future[["c", "b"]]):
            np.testing.assert_array_equal(model.forecast(5, x, columns=["a"], future=given), expected)


def test_a_label_that_is_missing_is_a_sequence_too():
    """pandas would drop its rows without a word."""
    frame = FRAME.rename({"walk": np.nan}, level="who")
    assert len(by_sequence(quick().fit(frame[COLUMNS], frame["torque"]).predict(frame[COLUMNS]))) == 4


@pytest.mark.parametrize("kind", ["groups", "chosen", "pairs"])
def test_groups_are_told_what_makes_recordings_of_them_and_that_works(kind):
    """NumPy's words were of text that is no number, or of an inhomogeneous shape."""
    values = RNG.normal(size=(40, 3))
    table = pd.DataFrame(values, columns=["acc", "gyro", "angle"]).assign(rec=np.repeat(["a", "b"], 20))
    grouped = table.drop(columns="angle").groupby("rec")
    made = {"groups": grouped, "chosen": grouped[["acc", "gyro"]], "pairs": list(grouped[["acc", "gyro"]])}
    scope = {"X": made[kind], "y": table.groupby("rec")["angle"]}
    for name, of in (("X", "list of" if kind == "pairs" else "DataFrameGroupBy"), ("y", "SeriesGroupBy")):
        with pytest.raises(TypeError, match=f"^{name} is a {of}.* a list of the parts") as told:
            quick().fit(scope["X"], scope["y"])
        exec(re.search(r"Type: (.*);", str(told.value))[1], scope)
    assert quick().fit(scope["X"], scope["y"]).n_features_in_ == 2
