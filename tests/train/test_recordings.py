"""Recordings in frames: glued ones are refused, predictions are frames, columns go by name, folds keep them whole."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict, cross_val_score

import lnn_edge
from lnn_edge import LiquidNeuralClassifier, LiquidNeuralRegressor
from lnn_edge.errors import ModelWarning

RNG = np.random.default_rng(0)
COLUMNS = ["hip", "knee"]
PARTS = [
    pd.DataFrame(RNG.normal(size=(n, 2)), columns=COLUMNS).assign(
        torque=lambda f: f.hip - f.knee, walk=lambda f: f.hip > 0
    )
    for n in (14, 12, 15, 13)
]
NAMES = ["a", "b", "c", "d"]
FRAME = pd.concat(PARTS, keys=NAMES, names=["who", "t"])
GROUPS = FRAME.index.get_level_values("who")


def quick(kind=LiquidNeuralRegressor, **options):
    return kind(8, "CfC", **{"epochs": 2, "n_jobs": 1, "verbose": 0, "random_state": 0, **options})


GLUED = pd.concat(PARTS)


@pytest.mark.parametrize(
    "glued",
    [
        GLUED,
        GLUED.set_index(pd.Index(GLUED.index * 0.02, name="t")),
        GLUED.set_index(pd.Timestamp("2024-05-01") + pd.to_timedelta(GLUED.index, "s")),
        pd.concat([PARTS[0][5:], PARTS[1]]),
    ],
    ids=["numbers", "seconds", "stamps", "an earlier one behind"],
)
def test_glued_recordings_are_refused(glued):
    told = r"index of X starts again: \S+.* after .*, in row \d+\. So [24] recordings seem to be glued together"
    with pytest.raises(ValueError, match=told):
        quick().fit(glued[COLUMNS], glued["torque"])
    with pytest.raises(ValueError, match=r"index of sequence 1 of X starts again"):
        quick().fit([PARTS[0][COLUMNS], glued[COLUMNS]], [PARTS[0]["torque"], glued["torque"]])
    named = pd.concat({"x": glued[:9], "y": glued})
    with pytest.raises(ValueError, match=r"Pass a list of them, or an index that names them, pd.concat\(parts, keys="):
        quick().fit(named[COLUMNS], named["torque"])
    with pytest.raises(ValueError, match="starts again"):
        quick().fit(FRAME[COLUMNS], FRAME["torque"]).predict(glued[COLUMNS])
    plain = glued.reset_index(drop=True)  # the advice that says that it is one
    quick().fit(plain[COLUMNS], plain["torque"])


@pytest.mark.filterwarnings("ignore::lnn_edge.errors.ModelWarning")
@pytest.mark.parametrize(
    "whole",
    [
        PARTS[0],
        PARTS[0][::-1],
        PARTS[0].sample(frac=1.0, random_state=0),
        PARTS[0][::3],
        PARTS[0].set_index("hip", drop=False),
    ],
    ids=["in order", "backwards", "shuffled", "thinned", "labelled by values"],
)
def test_an_index_that_does_not_start_again_is_one_recording(whole):
    assert len(quick().fit(whole[COLUMNS], whole["torque"]).predict(whole[COLUMNS])) == len(whole)


def test_rows_that_are_sequences_may_have_any_index():
    quick(rows="sequences").fit(GLUED[COLUMNS], GLUED["torque"])


def test_predictions_for_frames_are_frames():
    one = quick().fit(PARTS[0][COLUMNS], PARTS[0]["torque"])
    found = one.predict(PARTS[1][COLUMNS])
    assert isinstance(found, pd.Series)
    assert (found.name, list(found.index)) == ("torque", list(PARTS[1].index))
    np.testing.assert_array_equal(found, one.predict([PARTS[1][COLUMNS]])[0])
    two = quick().fit(FRAME[COLUMNS], FRAME[["torque", "hip"]])
    found = two.predict(FRAME[COLUMNS])
    assert list(found.columns) == ["torque", "hip"]
    pd.testing.assert_index_equal(found.index, FRAME.index)
    parts = two.predict([part[COLUMNS] for part in PARTS])
    for part, name, rows in zip(parts, NAMES, PARTS, strict=True):
        np.testing.assert_array_equal(part, found.loc[name])
        pd.testing.assert_index_equal(part.index, rows.index)


def test_rows_in_turns_get_their_own_predictions():
    mixed = FRAME.sort_index(level="t", sort_remaining=False)
    model = quick().fit(FRAME[COLUMNS], FRAME["torque"])
    pd.testing.assert_series_equal(model.predict(mixed[COLUMNS]), model.predict(FRAME[COLUMNS]).loc[mixed.index])


def test_one_answer_for_each_recording_goes_by_its_name():
    last = FRAME["torque"].groupby(level="who").last()[["c", "a", "d", "b"]]
    model = quick().fit(FRAME[COLUMNS], last)
    found = model.predict(FRAME[COLUMNS])
    assert (list(found.index), found.index.name, found.name) == (NAMES, "who", "torque")
    assert r2_score(last.loc[NAMES], found) == pytest.approx(model.score(FRAME[COLUMNS], last))
    assert isinstance(model.predict([part[COLUMNS] for part in PARTS]), np.ndarray)  # which have no names


def test_labels_and_probabilities_come_in_frames():
    model = quick(LiquidNeuralClassifier).fit(FRAME[COLUMNS], FRAME["walk"])
    labels, shares = model.predict(FRAME[COLUMNS]), model.predict_proba(FRAME[COLUMNS])
    assert accuracy_score(FRAME["walk"], labels) == model.score(FRAME[COLUMNS], FRAME["walk"])
    assert list(shares.columns) == [False, True]
    pd.testing.assert_index_equal(shares.index, FRAME.index)
    np.testing.assert_array_equal(shares[True] > 0.5, labels)


def test_arrays_stay_arrays():
    model = quick().fit(FRAME[COLUMNS], [part["torque"].to_numpy() for part in PARTS])
    assert [type(part) for part in model.predict(FRAME[COLUMNS])] == [np.ndarray] * 4
    model = quick().fit(FRAME[COLUMNS], FRAME["torque"])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert isinstance(model.predict(PARTS[0][COLUMNS].to_numpy()), np.ndarray)


def test_a_series_without_a_name_gives_one_without():
    assert quick().fit(FRAME[COLUMNS], FRAME["torque"].rename(None)).predict(FRAME[COLUMNS]).name is None
    forecast = quick().fit(PARTS[0][COLUMNS])
    assert list(forecast.predict(PARTS[0][COLUMNS]).columns) == COLUMNS


def test_frames_go_through_files_and_pickles(tmp_path):
    model = quick().fit(FRAME[COLUMNS], FRAME["torque"])
    model.save(tmp_path / "m.safetensors")
    for again in (LiquidNeuralRegressor.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(model))):
        pd.testing.assert_series_equal(again.predict(FRAME[COLUMNS]), model.predict(FRAME[COLUMNS]))


@pytest.mark.parametrize("scoring", [None, "r2", "neg_mean_absolute_error"])
def test_metrics_of_scikit_learn_work_on_frames(scoring):
    options = {"cv": GroupKFold(2), "groups": GROUPS, "scoring": scoring, "error_score": "raise"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)  # recordings stay whole
        scores = cross_val_score(quick(), FRAME[COLUMNS], FRAME["torque"], **options)
    assert np.isfinite(scores).all()
    found = cross_val_predict(quick(), FRAME[COLUMNS], FRAME["torque"], cv=GroupKFold(2), groups=GROUPS)
    assert mean_absolute_error(FRAME["torque"], found) > 0


@pytest.mark.filterwarnings("ignore:the index of X has gaps")
@pytest.mark.parametrize("cv", [KFold(3), KFold(3, shuffle=True, random_state=0)], ids=["blocks", "shuffled"])
@pytest.mark.parametrize("inner", ["numbers", "stamps"])
def test_a_fold_that_cuts_a_recording_is_told(cv, inner):
    frame = FRAME
    if inner == "stamps":
        stamps = pd.Timestamp("2024-05-01") + pd.to_timedelta(FRAME.index.get_level_values("t") * 20, "ms")
        frame = FRAME.set_index(pd.MultiIndex.from_arrays([GROUPS, stamps]))
    with pytest.warns(ModelWarning, match=r"a part of '[abcd]'.* is here, and another was in the fit.*cv=GroupKFold"):
        cross_val_score(quick(), frame[COLUMNS], frame["torque"], cv=cv, error_score="raise")


def test_what_was_fitted_and_other_recordings_of_that_name_are_no_cut():
    model = quick().fit(FRAME[COLUMNS], FRAME["torque"])
    stamps = [
        part.set_index(pd.date_range(f"2024-05-0{k + 1}", periods=len(part), freq="20ms"))
        for k, part in enumerate(PARTS)
    ]
    later = [part.set_index(part.index + pd.Timedelta("40D")) for part in stamps]
    dated = pd.concat(stamps, keys=NAMES)
    other = quick().fit(dated[COLUMNS], dated["torque"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)
        model.predict(FRAME[COLUMNS])
        model.predict(FRAME[COLUMNS].loc[["b"]])
        model.predict(FRAME[COLUMNS].groupby(level=0).head(5))
        other.predict(pd.concat(later, keys=NAMES)[COLUMNS])


def test_columns_in_another_order_go_by_their_names(tmp_path):
    turned = FRAME[COLUMNS[::-1]]
    expected = quick().fit(FRAME[COLUMNS], FRAME[["torque", "hip"]])
    pd.testing.assert_frame_equal(expected.predict(turned), expected.predict(FRAME[COLUMNS]))
    assert expected.score(turned, FRAME[["hip", "torque"]]) == expected.score(FRAME[COLUMNS], FRAME[["torque", "hip"]])
    parts = [part[COLUMNS if k % 2 else COLUMNS[::-1]] for k, part in enumerate(PARTS)]
    mixed = quick().fit([PARTS[0][COLUMNS], *parts[1:]], [part[["torque", "hip"]] for part in PARTS])
    np.testing.assert_array_equal(np.concatenate(mixed.predict(parts)), expected.predict(FRAME[COLUMNS]))
    held_out = ([parts[0]], [PARTS[0][["torque", "hip"]]])
    quick().fit(FRAME[COLUMNS], FRAME[["torque", "hip"]], validation=held_out)
    report = expected.export(tmp_path / "m.lnn", example=PARTS[0][COLUMNS[::-1]])
    assert report.passed
    assert [f.name for f in lnn_edge.load(tmp_path / "m.lnn").inputs[0].features] == COLUMNS


@pytest.mark.parametrize("columns", [["hip"], ["hip", "knee", "torque"], ["hip", "torque"]])
def test_other_columns_are_refused(columns):
    model = quick().fit(FRAME[COLUMNS], FRAME["torque"])
    with pytest.raises(ValueError, match="feature names"):
        model.predict(FRAME[columns])
