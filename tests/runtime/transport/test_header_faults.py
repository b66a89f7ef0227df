"""First lines that are no header, told in words, with a command that puts the table right."""

from __future__ import annotations

import gzip
import io
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from lnn_edge.runtime.transport.csv_file import load_recordings
from lnn_edge.runtime.transport.recordings import read_recordings
from lnn_edge.wording import in_a_shell

NAMES = ["hip", "knee"]
TABLE = "hip,knee\n1,2.5\n3,4\n"
WIDE = TABLE.replace(",", ";").replace(".", ",")


def saved(rows):
    file = io.BytesIO()
    np.save(file, np.array(rows, np.float32))
    return file.getvalue()


# what is written, what is said of it
REPAIRABLE = {
    "a blank line": (f"\n{TABLE}", "begins with a blank line"),
    "lines of spaces": (f"  \n\t\n{TABLE}", "begins with a blank line"),
    "comments": (f"# a, b\n# c\n{TABLE}", "begins with a comment, '# a, b', expected a header"),
    "a comment with %": (f"% recorded\n{TABLE}", "begins with a comment"),
    "a comment with //": (f"// recorded\n{TABLE}", "begins with a comment"),
    "a commented header": (f"# {TABLE}", "has '#' before its header"),
    "a comment below": (TABLE.replace("1,2", "# mid\n1,2"), "line 2: it is a comment, which CSV has not"),
    "sep=,": (f"sep=,\n{TABLE}", "begins with 'sep=,', which only spreadsheets read"),
    "sep=;": (f"sep=;\n{WIDE}", "begins with 'sep=;', which only spreadsheets read"),
    "semicolons": (WIDE, "separates its cells by ';', expected commas"),
    "tabs": (WIDE.replace(";", "\t"), "separates its cells by tabs, expected commas"),
    "bars": (WIDE.replace(";", "|"), "separates its cells by '|', expected commas"),
    "spaces": (WIDE.replace(";", "  "), "separates its cells by spaces, expected commas"),
    "UTF-16": (TABLE.encode("utf-16"), "is in UTF-16, expected UTF-8"),
    "UTF-16LE": (TABLE.encode("utf-16-le"), "is in UTF-16LE, expected UTF-8"),
    "UTF-16BE": (TABLE.encode("utf-16-be"), "is in UTF-16BE, expected UTF-8"),
    "UTF-32": (TABLE.encode("utf-32"), "is in UTF-32, expected UTF-8"),
    "an array": (saved([[1, 2.5], [3, 4]]), "is an array of NumPy, expected CSV"),
    "an array of recordings": (saved([[[1, 2.5]], [[3, 4]]]), "is an array of NumPy, expected CSV"),
    "gzip": (gzip.compress(TABLE.encode(), mtime=0), "is a gzip archive, expected CSV"),
}


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("kind", REPAIRABLE)
def test_the_command_that_is_named_puts_the_table_right(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    content, expected = REPAIRABLE[kind]
    path = written(tmp_path / "walk.csv", content)
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        load_recordings(path, NAMES, None)
    command = re.search(r"type: (.* > new\.csv)", str(caught.value))[1]
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(["sh", "-c", command], check=True)
    (found,) = load_recordings(tmp_path / "new.csv", NAMES, None)
    assert found.tolist() == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("t,hip", "has no column 'knee'. Valid: t, hip."),
        ("t,HIP,Knee", "has no columns 'hip', 'knee'. Valid: t, HIP, Knee. Did you mean 'HIP' and 'Knee'?"),
        ("hip,knee_angle,hop", "has no column 'knee'. Valid: hip, knee_angle, hop. Did you mean 'knee_angle'?"),
        ("hip,toe", "has no column 'knee'. Valid: hip, toe."),
    ],
)
def test_every_column_that_is_missing_is_named(tmp_path, header, expected):
    """And what is meant is looked for among the columns that nobody uses yet."""
    path = written(tmp_path / "walk.csv", f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    with pytest.raises(ValueError, match=f"{re.escape(expected)}$"):
        load_recordings(path, NAMES, None)
    with pytest.raises(ValueError, match=f"{re.escape(expected)}$"):
        read_recordings(path, columns=NAMES)


@pytest.mark.parametrize(
    ("header", "python", "shell"),
    [
        ("t,hip,knee", "inputs=['hip', 'knee']", "--inputs hip,knee"),
        ("hip,knee,toe", "inputs=['hip', 'knee', '...']", "--inputs hip,knee,..."),
    ],
)
def test_names_that_an_export_made_up_are_to_be_given(tmp_path, header, python, shell):
    path = written(tmp_path / "walk.csv", f"{header}\n1,2,3\n")
    for words, within in ((python, nullcontext()), (shell, in_a_shell())):
        said = re.escape(f"Name all 2 columns, in the model's order, at the export: {words}")
        with pytest.raises(ValueError, match=f"{said}$"), within:
            load_recordings(path, ["input_0", "input_1"], None)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_a_column_in_another_encoding_of_bytes(tmp_path, encoding):
    path = written(tmp_path / "walk.csv", "h\u00fcfte,knee\n1,2\n".encode(encoding))
    with pytest.raises(ValueError, match=r"is not in UTF-8, maybe in Latin-1 or Windows-1252. .* type: iconv"):
        load_recordings(path, ["h\u00fcfte", "knee"], None)


@pytest.mark.parametrize("marks", ["\ufeff", "\ufeff\ufeff"])
def test_marks_of_the_byte_order_are_no_part_of_a_name(tmp_path, marks):
    assert len(load_recordings(written(tmp_path / "walk.csv", marks + TABLE), NAMES, None)) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty; expected a header row"),
        ("PK\x03\x04\x00", "is a zip archive, as spreadsheets are, expected CSV. Save the table as CSV in UTF-8"),
        ('hip,knee\n"2,5",1\n', "'hip' is '2,5', expected a number with a decimal point, 2.5"),
        (
            "hip,knee\n2,5,1,5\n",
            "4 cells, but the header has 2. If they are decimal commas, save the table",
        ),
    ],
)
def test_what_no_command_puts_right(tmp_path, content, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        load_recordings(written(tmp_path / "walk.csv", content), NAMES, None)


def test_an_array_whose_columns_nobody_names(tmp_path):
    path = written(tmp_path / "walk.csv", saved([[1.0, 2.0]]))
    with pytest.raises(ValueError, match=r"is an array of NumPy, expected CSV. Type: np.savetxt\(..., delimiter=','"):
        read_recordings(path)
