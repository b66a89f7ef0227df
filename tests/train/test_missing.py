"""Values that are missing or no numbers in training data: told by row and column, with what to type."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from lnn_edge import LiquidNeuralClassifier, LiquidNeuralNetwork, read_recordings

RNG = np.random.default_rng(0)
COLUMNS = ["acc", "gyro"]


def quick(kind=LiquidNeuralNetwork):
    return kind(8, "CfC", epochs=1, verbose=0, random_state=0)


def frame(holes=(), start=0):
    values = RNG.normal(size=(30, 3))
    made = pd.DataFrame(values, columns=[*COLUMNS, "angle"], index=range(start, start + 30))
    for row, column, value in holes:
        made.iloc[row, made.columns.get_loc(column)] = value
    return made


GOOD, GAPS = frame(), frame([(20, "gyro", np.nan), (25, "acc", np.nan)])
INF = frame([(3, "acc", np.inf)])
ANSWER = frame([(7, "angle", np.nan)], start=100)
GLUED = pd.concat([GOOD, GAPS], keys=["walk", "run"])


def fit(*frames):
    return lambda: quick().fit([own[COLUMNS] for own in frames], [own["angle"] for own in frames])


TOLD = {
    "a frame": (
        lambda: quick().fit(GAPS[COLUMNS], GAPS["angle"]),
        "X .*: nan in row 20, column 'gyro', the first of 2",
    ),
    "a list": (fit(GOOD, GAPS), "sequence 1 of X: .* nan in row 20, column 'gyro', the first of 2"),
    "a frame of several": (
        lambda: quick().fit(GLUED[COLUMNS], GLUED["angle"]),
        r"sequence 1 of X: .* nan in row 20, index \('run', 20\), column 'gyro'",
    ),
    "infinity": (fit(INF, GOOD), "sequence 0 of X: .* inf in row 3, column 'acc'"),
    "an array": (lambda: quick().fit(GAPS[COLUMNS].to_numpy(), GAPS["angle"].to_numpy()), r"nan in X\[20, 1\], the"),
    "a batch": (
        lambda: quick().fit(np.stack([own[COLUMNS].to_numpy() for own in (GOOD, GAPS)]), np.zeros((2, 30))),
        r"X .* nan in X\[1, 20, 1\]",
    ),
    "a dict": (
        lambda: quick().fit({name: GAPS[name].to_numpy() for name in COLUMNS}, GAPS["angle"].to_numpy()),
        "nan in row 20, column 'gyro'",
    ),
    "answers": (lambda: quick().fit(ANSWER[COLUMNS], ANSWER["angle"]), "y contains .*: nan in row 7, index 107"),
    "answers of several": (fit(GOOD, ANSWER), r"y\[1\] contains .*: nan in (row 7|y\[1\]\[7\])"),
    "predict": (
        lambda: quick().fit(GOOD[COLUMNS], GOOD["angle"]).predict(GAPS[COLUMNS]),
        "nan in row 20, column 'gyro'",
    ),
}


@pytest.mark.parametrize("kind", TOLD)
def test_where_a_value_is_missing(kind):
    """scikit-learn's own words are that there is one, and that other estimators might take it."""
    call, expected = TOLD[kind]
    with pytest.raises(ValueError, match=expected) as told:
        call()
    assert "interpolate(limit_direction='both')" in str(told.value)
    assert "HistGradient" not in str(told.value)


def test_what_is_advised_works():
    filled = GAPS.interpolate(limit_direction="both")
    quick().fit([GOOD[COLUMNS], filled[COLUMNS]], [GOOD["angle"], filled["angle"]])


def test_a_file_is_told_by_its_first_gap_and_can_be_filled(tmp_path, monkeypatch):
    """It was the first gap of the first column that has one."""
    monkeypatch.chdir(tmp_path)
    GAPS.to_csv("gaps.csv", index=False)
    with pytest.raises(ValueError, match=r"'gaps.csv', line 22: 'gyro' is '', expected a number") as told:
        read_recordings("gaps.csv")
    filled = eval(str(told.value).partition("type: ")[2], {"pandas": pd})
    quick().fit(filled[COLUMNS], filled["angle"])
    (tmp_path / "word.csv").write_text("a,b\n1,2\n3,x\n")
    with pytest.raises(ValueError, match=r"expected a number$"):
        read_recordings("word.csv")


@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_a_column_of_text_is_named_and_what_is_advised_works(dtype):
    """A column that tells recordings apart, left among the features: scikit-learn names its value alone."""
    given = frame().assign(who=pd.Series(["a"] * 8 + ["b"] * 22, dtype=dtype))
    scope = {"X": given[[*COLUMNS, "who"]], "y": given["angle"]}
    with pytest.raises(ValueError, match="X holds 'a' in column 'who', expected real numbers") as told:
        quick().fit(scope["X"], scope["y"])
    dropped, indexed = re.fullmatch(r".* Leave it out, frame(.*), of each .* do so: (.*)", str(told.value)).groups()
    for typed, levels in ((f"X = X{dropped}", 1), (indexed, 2)):
        data = dict(scope)
        exec(typed, data)
        answers = quick().fit(data["X"], data["y"]).predict(data["X"])
        assert answers.index.nlevels == levels
        assert len(answers) == 30
    with pytest.raises(ValueError, match=r"sequence 0 of X: X holds 'a' in column 'who'.*, of each recording$"):
        quick().fit(data["X"].assign(who="a"), data["y"])


LABELS = {
    "a list": (["a", None, "b"], r"y holds None at \[1\]"),
    "NaN in a list": (["a", float("nan"), "b"], r"y holds nan at \[1\]"),
    "a series": (pd.Series(["a", "b", None]), r"y holds (None|nan) at \[2\]"),
    "text of pandas": (pd.Series(["a", "b", None], dtype="string"), r"y holds .* at \[2\]"),
    "categories": (pd.Series(["a", "b", None], dtype="category"), r"y holds nan at \[2\]"),
    "labels per step": ([["a"] * 5, ["b"] * 5, ["a"] * 4 + [None]], r"y\[2\] holds None at \[4\]"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_that_is_missing_is_named(kind):
    """scikit-learn has no place for it, or ends with a TypeError of Python's sort."""
    labels, told = LABELS[kind]
    with pytest.raises(ValueError, match=f"{told}, where a label or a number is missing. Leave it out"):
        quick().fit(RNG.normal(size=(3, 5, 2)), labels)


FLOATS = {
    "of a classifier": lambda x, y: quick(LiquidNeuralClassifier).fit(x, y),
    "a series of pandas": lambda x, y: quick(LiquidNeuralClassifier).fit(x, pd.Series(y)),
    "of either": lambda x, y: quick().fit(x, y),
}


@pytest.mark.parametrize("kind", FLOATS)
def test_a_label_that_is_missing_among_floats_is_not_to_be_filled(kind):
    """Whole numbers become floats where one is missing, and between two classes lies none."""
    x, labels = RNG.normal(size=(6, 5, 2)), np.array([0.0, 1.0, 0.0, np.nan, 1.0, 0.0])
    with pytest.raises(ValueError, match=r"nan in (y\[3\]|row 3).*leave it out, of X and y alike") as told:
        FLOATS[kind](x, labels)
    assert "interpolate" not in str(told.value)
    kept = np.isfinite(labels)
    FLOATS[kind](x[kept], labels[kept])
