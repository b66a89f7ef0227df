"""Recordings from files: in the order of their numbers, with the same columns, or told what is wrong."""

from __future__ import annotations

import os

import numpy as np
import pytest

import lnn_edge
from lnn_edge import read_recordings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k in (1, 2, 10):
        rows = "".join(f"{k},{k + j / 10},walk\n" for j in range(3))
        (tmp_path / f"run{k}.csv").write_text(f"hip,knee,what\n{rows}")
    return tmp_path


def test_files_of_a_pattern_come_in_the_order_of_their_numbers(folder):
    recordings = read_recordings("run*.csv")
    assert [r["hip"][0] for r in recordings] == [1, 2, 10]
    first = recordings[0]
    assert first.dtype.names == ("hip", "knee", "what")
    assert (first["knee"].dtype, first["what"].tolist()) == (np.float64, ["walk"] * 3)
    np.testing.assert_array_equal(first["knee"], [1.0, 1.1, 1.2])
    assert [r["hip"][0] for r in read_recordings(["run10.csv", folder / "run1.csv"])] == [10, 1]
    assert len(read_recordings(os.path.join(folder, "run[12].csv"))) == 2


def test_columns_are_matched_by_name(folder):
    (folder / "run2.csv").write_text("knee,what,hip\n1,walk,2\n")
    recordings = read_recordings("run*.csv")
    assert {r.dtype.names for r in recordings} == {("hip", "knee", "what")}
    assert recordings[1].tolist() == [(2.0, 1.0, "walk")]
    chosen = read_recordings("run*.csv", ["knee", "hip"])
    assert {r.dtype.names for r in chosen} == {("knee", "hip")}
    assert chosen[1].tolist() == [(1.0, 2.0)]


def test_a_reset_column_begins_new_recordings(folder):
    (folder / "all.csv").write_text("who,hip\na,1\na,2\nb,3\na,4\n")
    recordings = read_recordings("all.csv", reset_column="who")
    assert [r["hip"].tolist() for r in recordings] == [[1, 2], [3], [4]]
    assert recordings[0].dtype.names == ("hip",)
    assert read_recordings("all.csv", ["who", "hip"], reset_column="who")[1].tolist() == [("b", 3.0)]


def test_what_is_read_can_be_fitted_and_exported(folder):
    pytest.importorskip("ncps")
    rng = np.random.default_rng(0)
    for k in (1, 2, 10):
        rows = "".join(f"{a},{b},{a - b}\n" for a, b in rng.normal(size=(20 + k, 2)))
        (folder / f"run{k}.csv").write_text(f"hip,knee,angle\n{rows}")
    recordings = read_recordings("run*.csv")
    model = lnn_edge.LiquidNeuralRegressor(8, "CfC", epochs=1, verbose=0, random_state=0)
    model.fit([r[["hip", "knee"]] for r in recordings], [r["angle"] for r in recordings])
    assert list(model.feature_names_in_) == ["hip", "knee"]
    assert [len(own) for own in model.predict([r[["knee", "hip"]] for r in recordings])] == [21, 22, 30]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hip,kne,what\n1,2,walk\n", "'run2.csv' has the columns hip, kne, what; expected those of 'run1.csv', hip, k"),
        ("hip,kne,what\n1,2,walk\n", r"'knee' is missing \(is it 'kne'\?\) and 'kne' is none of them\. Leave the"),
        ("hip,knee,what,t\n1,2,walk,3\n", "'t' is none of them"),
        ("hip,knee,what\n1,2,walk\n1,x,walk\n", "'run2.csv', line 3: 'knee' is 'x', expected a number"),
        ("hip,knee,what\n1,2,walk\n1,nan,walk\n", "'run2.csv', line 3: 'knee' is nan, expected a finite number"),
        ("hip,knee,what\n1,,walk\n1,2,walk\n", "'run2.csv', line 2: 'knee' is '', expected a number"),
        ("hip,knee,what\n1,2\n", "'run2.csv', line 2: 2 cells, but the header has 3"),
        ("hip,knee,what\n1,2,\"walk\n", "'run2.csv', line 2: not CSV: a quote is not closed"),
        ("hip,knee,what\n1,two,walk\n", "the column 'knee' holds numbers in some recordings and text in others"),
        ("hip,knee,what\n", "'run2.csv' has a header but no samples"),
        ("", "'run2.csv' is empty; expected a header row"),
        ("\n1,2,3\n", "'run2.csv' begins with a blank line"),
        ("1,2,3\n4,5,6\n", "'run2.csv' begins with numbers, expected a header"),
        ("hip,hip,what\n1,2,walk\n", "'run2.csv' has the column 'hip' 2 times; expected different names"),
        ("hip,,what\n1,2,walk\n", "'run2.csv' has a column without a name"),
        ("hip;knee;what\n1;2;walk\n", "'run2.csv' separates its cells by ';', expected commas"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_told_by_its_name(folder, text, told):
    (folder / "run2.csv").write_text(text)
    with pytest.raises(ValueError, match=told):
        read_recordings("run*.csv")


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("rum*.csv",), FileNotFoundError, r"no file matches 'rum\*.csv'. Valid: run1.csv, run10.csv, run2.csv."),
        (("none.csv",), FileNotFoundError, "no file 'none.csv', expected a CSV file. Valid: "),
        ((["run1.csv", "run*.csv"],), ValueError, "'run1.csv' is named twice"),
        (([],), TypeError, r"`files` is \[\], expected a file, a pattern"),
        ((3,), TypeError, "`files` is 3, expected a file"),
        (("run*.csv", "hip"), TypeError, "`columns` is 'hip', expected a list of names"),
        (("run*.csv", ["hip", "ankle"]), ValueError, "'run1.csv' has no column 'ankle'. Valid: hip, knee, what."),
        (("run*.csv", ["hip", "hip"]), ValueError, "`columns` has 'hip' twice"),
    ],
)
def test_what_is_asked_for_and_not_there_is_told(folder, arguments, kind, told):
    with pytest.raises(kind, match=told):
        read_recordings(*arguments)
    with pytest.raises(ValueError, match=r"'run1.csv' has no column 'wha', the `reset_column`\. .*Did you mean 'what'"):
        read_recordings("run*.csv", reset_column="wha")
