"""Sources: what has samples, as a loop reads it, and what has none."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pytest

import lnn_edge
from lnn_edge.runtime.loop.source import Sample, Source, as_source
from lnn_edge.runtime.transport.row import BadRowError


def all_of(source, most=100):
    """Samples until the end; what cannot be used as the text that says why."""
    found = []
    for _ in range(most):
        try:
            found.append(source.read(0.0))
        except EOFError:
            return found
        except ValueError as error:
            found.append(str(error))
    raise AssertionError("no end")


class Device:
    """The ten lines of a user's own source."""

    def __init__(self):
        self.closed = False
        self.left = 2

    def read(self, timeout_s):
        if not self.left:
            raise EOFError
        self.left -= 1
        return Sample([1.0, 2.0], t_s=0.1)

    def close(self):
        self.closed = True


def test_a_device_of_ones_own_stays_what_it_is():
    device = Device()
    assert isinstance(device, Source)
    assert as_source(device) is device
    assert all_of(device) == [Sample([1.0, 2.0], 0.1)] * 2


def test_rows_of_an_array():
    xs = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal([sample.x for sample in all_of(as_source(xs))], xs)


def test_arrays_by_input():
    source = as_source({"image": np.zeros((2, 4, 4)), "imu": np.arange(2.0)[:, None]})
    first, second = all_of(source)
    assert set(first.x) == {"image", "imu"}
    assert second.x["imu"] == [1.0]


def test_arrays_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="different numbers of samples: 'a' 3, 'b' 2"):
        as_source({"a": np.zeros((3, 1)), "b": np.zeros((2, 1))})


DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0.1, [1.0, 2.0]), Sample([1.0, 2.0], 0.1)),
        ((np.float64(0.1), {"a": [1.0]}), Sample({"a": [1.0]}, np.float64(0.1))),
        ((DAY, [1.0]), Sample([1.0], DAY)),
        ((np.datetime64("2026-01-01"), [1.0]), Sample([1.0], np.datetime64("2026-01-01"))),
        ((None, [1.0]), Sample([1.0])),  # a device without a clock
        (("noon", [1.0]), Sample([1.0], "noon")),  # the stream says that it is no time
        ((0.1, 0.2), Sample((0.1, 0.2))),  # two columns
        ([0.1, [0.2]], Sample([0.1, [0.2]])),  # no pair: the stream will refuse it
        (([1.0], [2.0]), Sample(([1.0], [2.0]))),
        (Sample([3.0], 1.0, "imu"), Sample([3.0], 1.0, "imu")),
        (None, None),
    ],
)
def test_what_an_iterable_gives(given, expected):
    assert all_of(as_source([given])) == [expected]


def test_a_generator_is_closed():
    closed = []

    def samples():
        try:
            yield 0.0, [1.0]
            yield 0.1, [2.0]
        finally:
            closed.append(True)

    source = as_source(samples())
    assert source.read(0.0) == Sample([1.0], 0.0)
    source.close()
    assert closed == [True]


@pytest.mark.parametrize("end", [StopIteration, EOFError])
def test_a_function_is_called_at_each_read(end):
    values = iter([[1.0], None, (0.5, [2.0])])

    def call():
        try:
            return next(values)
        except StopIteration:
            raise end from None

    assert all_of(as_source(call)) == [Sample([1.0]), None, Sample([2.0], 0.5)]


def test_a_functions_own_error_comes_through():
    def broken():
        raise OSError("no bus")

    with pytest.raises(OSError, match="no bus"):
        as_source(broken).read(0.0)


@pytest.mark.parametrize("given", [3, None, b"abc"])
def test_what_has_no_samples_is_refused(given):
    with pytest.raises(TypeError, match=r"the source is a .*, expected an object with read"):
        as_source(given)


def test_csv_by_the_columns_of_the_model(cfc_bundle, tmp_path):
    model = lnn_edge.load(cfc_bundle)
    names = [feature.name for feature in model.inputs[0].features]
    cells = [str(k) for k in range(len(names))]
    rows = [
        ",".join(["t_ms", "spare", *reversed(names)]),
        ",".join(["10", "7", *reversed(cells)]),
        ",".join(["20", "7", *reversed(["x", *cells[1:]])]),
        ",".join(["30", "7", *reversed(cells)]),
    ]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    source = as_source(tmp_path / "a.csv", model, time="t_ms:ms")
    first, bad, last = all_of(source)
    np.testing.assert_array_equal(first.x, range(len(names)))
    assert last.t_s - first.t_s == 0.02
    assert f"line 3: '{names[0]}' is 'x'" in bad
    source.close()


def test_csv_without_the_models_columns_is_refused(cfc_bundle, tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv' has no column"):
        as_source(tmp_path / "a.csv", lnn_edge.load(cfc_bundle))


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(ValueError, match=r"a\.txt', expected a file that ends in \.csv, or in \.jsonl for JSON lines"):
        as_source(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"only a model says which columns: as_source\(path, model\)"):
        as_source(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match=r"no file '.*a\.jsonl'"):
        as_source(tmp_path / "a.jsonl")


def test_json_lines_and_their_bad_ones(tmp_path):
    lines = [
        json.dumps({"t_s": 0.1, "x": [1.0, 2.0]}),
        "",
        json.dumps({"x": {"a": [1], "b": [[2, 3]]}}),
        "{",
        "[1, 2]",
        json.dumps({"x": [1], "y": 2}),
        json.dumps({"x": [1, [2]]}),
        json.dumps({"x": ["one"]}),
        json.dumps({"x": [1], "t_s": "now"}),
        json.dumps({"x": [1], "t_s": True}),
        "[" * 100_000,
        '{"x": [1, null]}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = as_source(tmp_path / "a.jsonl")
    first, second, *bad, last = all_of(source)
    np.testing.assert_array_equal(first.x, [1, 2])
    assert (first.t_s, second.t_s) == (0.1, None)
    np.testing.assert_array_equal(second.x["b"], [[2, 3]])
    for text, number, words in zip(
        bad,
        range(4, 12),
        ["not JSON", "expected {", "expected {", "lengths", "no numbers", "'now'", "True", "not JSON"],
        strict=True,
    ):
        assert f"a.jsonl', line {number}: " in text
        assert words in text
    np.testing.assert_array_equal(last.x, [1, np.nan])  # a missing value, for the guard's policies
    source.close()


def test_a_bad_line_is_one_that_a_caller_can_tell(tmp_path):
    (tmp_path / "a.jsonl").write_text("{\n")
    source = as_source(str(tmp_path / "a.jsonl"))
    with pytest.raises(BadRowError):
        source.read(0.0)
    source.close()
