"""Samples from CSV: what was written is what is read, and a row that cannot be used says which and why."""

from __future__ import annotations

import csv
import io
import re
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples

from lnn_edge.runtime.transport.csv_file import load_recordings, open_table, read_columns, reader, rows
from lnn_edge.runtime.transport.row import BadRowError

settings.register_profile("table", max_examples=examples(100), deadline=None, derandomize=True)
PROFILE = settings.get_profile("table")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


def parsed(text, names, *, reset=None, time=None):
    table = reader(io.StringIO(text, newline=""))
    columns = read_columns(table, names, reset, time, "data")
    return list(rows(table, columns, "data"))


def bad(text, names=("a",), **options):
    """The messages of the rows that cannot be used."""
    return [str(row) for row in parsed(text, names, **options) if isinstance(row, BadRowError)]


@settings(PROFILE)
@given(values=st.lists(st.tuples(NUMBERS, NUMBERS, LABELS), max_size=20), dialect=st.sampled_from(["excel", "unix"]))
def test_what_was_written_is_what_is_read(values, dialect):
    file = io.StringIO(newline="")
    writer = csv.writer(file, dialect)
    writer.writerow(["note", "b", "a"])
    writer.writerows((label, b, a) for a, b, label in values)
    read = parsed(file.getvalue(), ["a", "b"], reset="note")
    assert [(*row.values, row.recording) for row in read] == values
    assert [row.reset for row in read] == [k == 0 or v[2] != values[k - 1][2] for k, v in enumerate(values)]


@settings(PROFILE)
@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_survives_as_the_shortest_decimal(value):
    (row,) = parsed(f"a\n{np.float32(value)}\n", ["a"])
    assert np.float32(row.values[0]) == np.float32(value)


@settings(PROFILE)
@given(text=st.text(max_size=60))
def test_any_text_gives_rows_or_reasons(text):
    for row in parsed(f"a,b\n{text}", ["a", "b"]):
        assert isinstance(row, BadRowError) or np.isfinite(row.values).all()


def test_columns_are_found_by_name_in_any_order():
    (row,) = parsed("t, b ,x,a\n0.5,2,ignored,1\n", ["a", "b"], time="t")
    assert row.values.tolist() == [1.0, 2.0]
    assert row.t_s == 0.5


def test_recordings_begin_where_the_label_changes():
    read = parsed("a,who\n1,x\n2,x\n3,y\n4,x\n", ["a"], reset="who")
    assert [row.reset for row in read] == [True, False, True, True]


def test_recording_begins_at_its_first_usable_row():
    read = parsed("a,who\n1,x\nbad,y\n3,y\n", ["a"], reset="who")
    assert [getattr(row, "reset", None) for row in read] == [True, None, True]


def test_blank_lines_are_no_rows():
    read = parsed("a\n1\n\n2\n", ["a"])
    assert [(row.line, row.values[0]) for row in read] == [(2, 1.0), (4, 2.0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nx\n", "data, line 2: 'a' is 'x', expected a number"),
        ("a,b\n,1\n", "data, line 2: 'a' is '', expected a number"),
        ("a\n1_0\n", "data, line 2: 'a' is '1_0', expected a number"),
        ("a\nnan\n", "data, line 2: 'a' is nan, expected a finite number"),
        ("a\n1e999\n", "data, line 2: 'a' is 1e999, expected a finite number"),
        ("a\n-inf\n", "data, line 2: 'a' is -inf, expected a finite number"),
        ("a,b\n1\n", "data, line 2: 1 cells, but the header has 2"),
        ("a\n1,2\n", "data, line 2: 2 cells, but the header has 1"),
        ('a,b\n1,"x"y\n', "data, line 2: not CSV: ',' expected after '\"'"),
        ('a,b\n1,"x\n', "data, line 2: not CSV: a quote is not closed in this line, and a sample is one line"),
    ],
)
def test_bad_row_says_where_and_why(text, expected):
    assert bad(text) == [expected]


def test_bad_time_is_a_bad_row():
    assert bad("a,t\n1,soon\n", time="t") == ["data, line 2: 't' is 'soon', expected a number"]


def test_reading_goes_on_after_a_bad_row():
    read = parsed('a\n1\n"x"y\nz\n4\n', ["a"])
    assert [row.line for row in read if not isinstance(row, BadRowError)] == [2, 5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "data is empty; expected a header row with the columns acc_x, acc_y"),
        ("acc_x,acc_z\n", r"data has no column 'acc_y'\. Valid: acc_x, acc_z\. Did you mean 'acc_[xz]'\?"),
        ("acc_x,acc_y,acc_x\n", "data has the column 'acc_x' 2 times; expected it once"),
        ('acc_x,"acc"_y\n', "data, line 1: not CSV: ',' expected after '\"'"),
    ],
)
def test_header_that_does_not_fit_is_refused(text, expected):
    with pytest.raises(ValueError, match=expected):
        parsed(text, ["acc_x", "acc_y"])


NO_HEADER = "begins with numbers, expected a header with the columns acc_x, acc_y."
IN_ORDER = f"{NO_HEADER} If that is their order, type:"
SEPARATED = "separates its cells by {}, expected commas. To change that, type:"


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("0.5,-1e-3\n", "'x.csv'", f"{IN_ORDER} sed '1i acc_x,acc_y' < 'x.csv' > new.csv"),
        ("0,0\n", "standard input", f"{IN_ORDER} ... | stdbuf -oL sed '1i acc_x,acc_y' | lnn-edge ..."),
        ("0,0,0\n", "'x.csv'", f"{NO_HEADER} Put a line with the names of its 3 columns on top"),
        ("a;b\n", "'x.csv'", f"{SEPARATED.format(repr(';'))} tr ',;' '.,' < 'x.csv' > new.csv"),
        ("a\tb\n", "standard input", rf"{SEPARATED.format('tabs')} ... | stdbuf -oL tr ',\t' '.,' | lnn-edge ..."),
    ],
)
def test_header_that_is_no_header_is_suspected(text, source, expected):
    with pytest.raises(ValueError, match=f"^{re.escape(source)} {re.escape(expected)}$"):
        read_columns(reader(io.StringIO(text, newline="")), ["acc_x", "acc_y"], None, None, source)


@pytest.mark.parametrize(("separator", "place"), [(";", ",;"), ("\t", r",\t")])
def test_the_command_that_is_told_repairs_the_table(tmp_path, separator, place):
    """With decimal commas, as spreadsheets write them where they separate by semicolons."""
    (tmp_path / "x.csv").write_text(f"a{separator}b\n0,5{separator}-1\n")
    with pytest.raises(ValueError, match="separates its cells") as caught:
        load_recordings(tmp_path / "x.csv", ["a", "b"], None)
    command = str(caught.value).split("type: ")[1]
    assert place in command
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert load_recordings(tmp_path / "new.csv", ["a", "b"], None)[0].tolist() == [[0.5, -1.0]]


def test_the_command_that_is_told_adds_the_header(tmp_path):
    (tmp_path / "x.csv").write_text("1,2\n3,4\n")
    with pytest.raises(ValueError, match="begins with numbers") as caught:
        load_recordings(tmp_path / "x.csv", ["a'", "b"], None)
    subprocess.run(str(caught.value).split("type: ")[1], shell=True, check=True, cwd=tmp_path)
    assert load_recordings(tmp_path / "new.csv", ["a'", "b"], None)[0].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_file_that_is_not_there_is_named_with_its_neighbours(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"^no file '{tmp_path}/none/x.csv', .* Type: ls {tmp_path}/none$"):
        open_table(tmp_path / "none/x.csv")
    (tmp_path / "walk.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"Valid: walk\.csv\. Did you mean 'walk\.csv'\?"):
        open_table(tmp_path / "wakl.csv")
    with pytest.raises(IsADirectoryError, match=rf"^'{tmp_path}' is a directory, .* Type: ls {tmp_path}$"):
        open_table(tmp_path)


@pytest.mark.parametrize("option", ["reset", "time"])
def test_missing_key_column_is_named(option):
    with pytest.raises(ValueError, match=r"data has no column 'tim'\. Valid: a, time\. Did you mean 'time'\?"):
        parsed("a,time\n", ["a"], **{option: "tim"})


def test_repeated_column_that_nobody_asked_for_is_fine():
    (row,) = parsed("a,x,x\n1,2,3\n", ["a"])
    assert row.values.tolist() == [1.0]


def test_byte_order_mark_before_a_quoted_name_is_no_part_of_it(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'\xef\xbb\xbf"a"\r\n1\r\n')
    assert load_recordings(tmp_path / "x.csv", ["a"], None)[0].tolist() == [[1.0]]


def test_byte_that_is_no_utf8_spoils_its_row_only(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a\n1\n\xff\n3\n")
    with open_table(tmp_path / "x.csv") as file:
        read = parsed(file.read(), ["a"])
    assert [isinstance(row, BadRowError) for row in read] == [False, True, False]


def test_recordings_are_split_and_stacked(tmp_path):
    (tmp_path / "x.csv").write_text("who,a,b\nx,1,2\nx,3,4\ny,5,6\n")
    first, second = load_recordings(tmp_path / "x.csv", ["b", "a"], "who")
    assert first.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert second.tolist() == [[6.0, 5.0]]


def test_without_reset_column_it_is_one_recording(tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n2\n")
    assert [r.tolist() for r in load_recordings(tmp_path / "x.csv", ["a"], None)] == [[[1.0], [2.0]]]


def test_recordings_take_no_bad_row(tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\nx\n")
    with pytest.raises(ValueError, match=r"x\.csv', line 3: 'a' is 'x', expected a number"):
        load_recordings(tmp_path / "x.csv", ["a"], None)


def test_header_alone_is_no_recording(tmp_path):
    (tmp_path / "x.csv").write_text("a\n")
    with pytest.raises(ValueError, match=r"x\.csv' has a header but no samples"):
        load_recordings(tmp_path / "x.csv", ["a"], None)
