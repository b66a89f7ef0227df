"""Named data: what has names is matched by them or refused in words about them, and never taken by its place."""

from __future__ import annotations

import itertools
from collections import namedtuple

import numpy as np
import pytest
from labelled_array import Labelled
from shared_bundles import shared_bundle

import lnn_edge
from lnn_edge.errors import NonFiniteError

NAMES = ["acc_x", "acc_y", "gyro_z"]  # as shared_bundles has them
MIXED = ["gyro_z", "acc_x", "acc_y"]
XS = np.random.default_rng(0).uniform(-0.9, 0.9, (8, 3)).astype(np.float32)
T = np.arange(8) * 0.1


class PlainFrame:
    """A frame as Polars has them: columns by name, no index."""

    def __init__(self, columns: dict[str, np.ndarray]) -> None:
        self._own = columns

    @property
    def columns(self) -> list[str]:
        return list(self._own)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), len(self._own)

    def __len__(self) -> int:
        return len(next(iter(self._own.values())))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._own[name]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.stack(list(self._own.values()), axis=-1).astype(dtype)


class ArrowTable(PlainFrame):
    """A table as Arrow has them: `columns` are data, not names."""

    @property
    def column_names(self) -> list[str]:
        return list(self._own)

    @property
    def columns(self):
        return list(self._own.values())


def columns_of(names, xs=XS):
    return {name: xs[..., NAMES.index(name)] for name in names}


def pandas_frame(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def structured(columns):
    rows = np.zeros(len(next(iter(columns.values()))), [(name, np.float32) for name in columns])
    for name, values in columns.items():
        rows[name] = values
    return rows


def series(columns):
    pandas = pytest.importorskip("pandas")
    return [pandas.Series(row) for row in dicts(columns)]


def dicts(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def tuples(columns):
    kind = namedtuple("kind", list(columns))
    return [kind(*row) for row in zip(*columns.values(), strict=True)]


FRAMES = {
    "pandas": pandas_frame,
    "plain frame": PlainFrame,
    "table": ArrowTable,
    "dict": dict,
    "structured": structured,
    "records": lambda columns: structured(columns).view(np.recarray),
    "masked records": lambda columns: np.ma.array(structured(columns)),
    "list of series": series,
    "list of dicts": dicts,
    "list of named tuples": tuples,
}
ROWS = {
    "series": series,
    "dicts": dicts,
    "named tuples": tuples,
    "structured": structured,
    "masked records": lambda columns: np.ma.array(structured(columns)),
}


@pytest.fixture(scope="module")
def gait(tmp_path_factory):
    return lnn_edge.load(shared_bundle(tmp_path_factory, "gait.lnn"))


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    return lnn_edge.load(shared_bundle(tmp_path_factory, "drift.lnn"))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return lnn_edge.load(shared_bundle(tmp_path_factory, "blocks.lnn"))


@pytest.mark.parametrize("order", list(itertools.permutations(NAMES)), ids=" ".join)
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_run_matches_columns_by_name(gait, frame, order):
    np.testing.assert_array_equal(gait.stream().run(frame(columns_of(order))), gait.stream().run(XS))


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_step_matches_a_row_by_name(gait, rows):
    stream, expected = gait.stream(), gait.stream().run(XS)
    for row, wanted in zip(rows(columns_of(MIXED)), expected, strict=True):
        np.testing.assert_array_equal(stream.step(row), wanted)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_block_is_matched_by_name(blocks, frame):
    expected = blocks.stream().run(XS, dt_s=0.1)
    np.testing.assert_array_equal(blocks.stream().run(frame(columns_of(MIXED)), dt_s=0.1), expected)
    np.testing.assert_array_equal(blocks.stream().step(frame(columns_of(MIXED, XS[:4])), dt_s=0.1), expected[:4])


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (columns_of(NAMES[:2]), "'gyro_z' is missing"),
        (columns_of(NAMES) | {"note": XS[:, 0]}, "'note' is none of them"),
        (columns_of(NAMES) | {"t": T}, "'t' is none of them"),
        (columns_of(NAMES[:2]) | {"gyroz": XS[:, 2]}, "'gyro_z' is missing .is it 'gyroz'"),
        (dict(zip("abc", XS.T, strict=True)), "expected acc_x, acc_y, gyro_z"),
    ],
    ids=["missing", "extra", "time", "misspelt", "others"],
)
def test_other_names_are_refused_in_words(gait, frame, columns, message):
    stream = gait.stream()
    with pytest.raises(ValueError, match=f"by name.*{message}.*(Type|Rename|Pass|add)"):
        stream.run(frame(columns))
    assert stream.steps == 0


ROW = namedtuple("ROW", ["Index", *NAMES, "time"])  # as `itertuples` makes them


@pytest.mark.parametrize("give", ["step", "run"])
@pytest.mark.parametrize("kind", ["tuple", "dict", "structured"])
def test_what_is_advised_beside_more_columns_works(gait, kind, give):
    """`[x[n] for n in ...]` is a TypeError where x is a named tuple, and no columns where x is a dict of them."""
    values = XS[0] if give == "step" else XS.T
    row = ROW(values[0] * 0, *values, values[0])
    x = {"tuple": row, "dict": row._asdict()}.get(kind)
    if x is None:
        dtype = [(name, np.float32) for name in ROW._fields]
        x = np.rec.fromarrays(list(row), dtype=dtype).view(np.ndarray)
        x = x[()] if give == "step" else x
    with pytest.raises(ValueError, match="with the times as t_s=") as caught:
        getattr(gait.stream(), give)(x)
    advised, times = str(caught.value).partition("Type: ")[2].split(", with the times as t_s=")
    expected = gait.stream().step(XS[0]) if give == "step" else gait.stream().run(XS)
    np.testing.assert_array_equal(getattr(gait.stream(), give)(eval(advised, {"x": x})), expected)
    np.testing.assert_array_equal(eval(times.partition(" if ")[0], {"x": x}), row.time)


@pytest.mark.parametrize("frame", [dict, PlainFrame, ArrowTable])
def test_the_place_is_advised_only_where_the_counts_fit(gait, frame):
    """By place fewer columns are refused too."""
    fewer, others = columns_of(NAMES[:2]), dict(zip("abc", XS.T, strict=True))
    with pytest.raises(ValueError, match=r"'gyro_z' is missing. It takes 3 columns by these names: add or rename what"):
        gait.stream().run(frame(fewer))
    with pytest.raises(ValueError, match=r"to go by their place|or go by their place: np.asarray\(x\)"):
        gait.stream().run(frame(others))


def test_a_name_in_other_letters_is_found(gait):
    with pytest.raises(ValueError, match=r"'gyro_z' is missing \(is it 'GYRO_Z'\?\)"):
        gait.stream().run(columns_of(NAMES[:2]) | {"GYRO_Z": XS[:, 2]})


def test_a_time_column_is_told_where_it_belongs(timed):
    frame = pandas_frame(columns_of(MIXED) | {"time_s": T})
    with pytest.raises(ValueError, match=r"x\[\['acc_x', 'acc_y', 'gyro_z'\]\], with the times as t_s=x\['time_s'\]"):
        timed.stream().run(frame)
    expected = timed.stream().run(XS, t_s=T)
    np.testing.assert_array_equal(timed.stream().run(frame[NAMES], t_s=frame["time_s"]), expected)


def test_a_column_that_stands_twice_or_has_levels(gait):
    pandas = pytest.importorskip("pandas")
    twice = pandas.DataFrame(np.zeros((8, 4)), columns=[*NAMES, "acc_x"])
    with pytest.raises(ValueError, match="'acc_x' stands there more than once"):
        gait.stream().run(twice)
    levels = pandas.DataFrame(XS, columns=pandas.MultiIndex.from_product([["imu"], NAMES]))
    with pytest.raises(ValueError, match=r"names of 2 levels, such as \('imu', 'acc_x'\)"):
        gait.stream().run(levels)
    with pytest.raises(TypeError, match=r"\['acc_y'\]` has dtype"):
        gait.stream().run(pandas.DataFrame(columns_of(NAMES) | {"acc_y": ["a"] * 8}))


def test_numbered_columns_go_by_their_place_and_only_in_order(gait):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(XS)
    np.testing.assert_array_equal(gait.stream().run(frame), gait.stream().run(XS))
    np.testing.assert_array_equal(gait.stream().step(frame.iloc[0]), gait.stream().step(XS[0]))
    with pytest.raises(ValueError, match="by name, 2, 0, 1"):
        gait.stream().run(frame[[2, 0, 1]])


def test_missing_values_of_pandas_own_types_are_nan(gait):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(columns_of(MIXED)).convert_dtypes()
    np.testing.assert_array_equal(gait.stream().run(frame), gait.stream().run(XS))
    frame.loc[2, "acc_x"] = pandas.NA
    with pytest.raises(NonFiniteError, match="holds nan at 'acc_x'"):
        gait.stream().run(frame)


def test_a_value_out_of_order_is_named_right(gait):
    pandas = pytest.importorskip("pandas")
    row = pandas.Series({"gyro_z": 0.1, "acc_x": np.inf, "acc_y": 0.2})
    with pytest.raises(NonFiniteError, match=r"holds inf at 'acc_x' \(index \[0\]\)"):
        gait.stream().step(row)


MASKED = np.ma.array(XS, mask=np.arange(24).reshape(8, 3) == 7)


@pytest.mark.parametrize("given", [MASKED, list(MASKED), [list(MASKED)[2]] * 3], ids=["array", "list", "rows"])
def test_masked_values_are_refused(gait, given):
    with pytest.raises(NonFiniteError, match="holds masked values"):
        gait.stream().run(given)


def test_masked_values_are_refused_wherever_they_come(gait, blocks, timed):
    with pytest.raises(NonFiniteError, match=r"masked values, first at index \[1\].*x.filled"):
        gait.stream().step(MASKED[2])
    with pytest.raises(NonFiniteError, match="masked"):
        gait.step(MASKED[2], gait.initial_state())
    with pytest.raises(NonFiniteError, match="masked"):
        blocks.stream().run(MASKED, dt_s=0.1)
    for times in ({"dt_s": np.ma.array(np.full(8, 0.1), mask=T > 0.5)}, {"t_s": np.ma.array(T, mask=T > 0.5)}):
        with pytest.raises(NonFiniteError, match=f"`{next(iter(times))}` holds masked"):
            timed.stream().run(XS, **times)
    records = np.ma.array(structured(columns_of(MIXED)))
    records["acc_y"][3] = np.ma.masked
    with pytest.raises(NonFiniteError, match=r"\['acc_y'\]` holds masked values, first at index \[3\]"):
        gait.stream().run(records)
    nothing = np.ma.array(XS, mask=False)
    np.testing.assert_array_equal(gait.stream().run(nothing), gait.stream().run(XS))


@pytest.mark.parametrize(
    "index", [range(100, 108), list("abcdefgh"), range(7, -1, -1)], ids=["shifted", "text", "back"]
)
def test_times_of_any_index(timed, index):
    pandas = pytest.importorskip("pandas")
    stamps = pandas.Series(T, index=list(index))
    expected = timed.stream().run(XS, t_s=T)
    np.testing.assert_array_equal(timed.stream().run(XS, t_s=stamps), expected)
    np.testing.assert_array_equal(timed.stream().run(XS, t_s=pandas.to_datetime(stamps, unit="s")), expected)
    spans = pandas.Series(np.diff(T, prepend=-0.1), index=list(index))
    np.testing.assert_array_equal(timed.stream().run(XS, dt_s=spans), timed.stream().run(XS, dt_s=spans.to_numpy()))


def test_times_of_the_same_samples_in_another_order(timed):
    frame = pandas_frame(columns_of(NAMES))
    with pytest.raises(ValueError, match=r"the index of `dt_s`.*dt_s.loc\[x.index\]"):
        timed.stream().run(frame, dt_s=pytest.importorskip("pandas").Series(0.1 + T / 100).iloc[::-1])


MOVED = Labelled(XS[:, [NAMES.index(name) for name in MIXED]], ("t", "f"), {"f": MIXED})


def test_coordinates_of_the_last_axis_are_names(gait):
    np.testing.assert_array_equal(gait.stream().run(MOVED), gait.stream().run(XS))
    np.testing.assert_array_equal(gait.stream().step(MOVED[0]), gait.stream().step(XS[0]))
    plain = Labelled(XS, ("t", "f"), {"t": list(range(8))})
    np.testing.assert_array_equal(gait.stream().run(plain), gait.stream().run(XS))


def test_unknown_coordinates_are_refused_with_what_to_type(gait):
    more = Labelled(np.zeros((8, 4)), ("t", "f"), {"f": [*NAMES, "t"]})
    with pytest.raises(ValueError, match=r"'t' is none of them. Type: x.sel\(\{'f': \['acc_x', 'acc_y', "):
        gait.stream().run(more)


def test_names_on_another_axis_are_refused_though_the_shape_would_fit(gait):
    square = Labelled(MOVED.values[:3], ("f", "t"), {"f": MIXED})
    with pytest.raises(ValueError, match=r"along 'f', expected them along its last axis. Type: x.tr"):
        gait.stream().run(square)
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"as the names of its rows, expected columns. Type: x.T"):
        gait.stream().run(pandas.DataFrame(XS[:3], columns=NAMES).T)


def test_a_plan_of_a_table_is_refused_in_words(gait):
    class LazyFrame:
        columns = NAMES

        def collect(self):
            raise AssertionError

    for call in (gait.stream().run, gait.stream().step):
        with pytest.raises(TypeError, match=r"is a LazyFrame, which holds no values yet. Type: x.collect"):
            call(LazyFrame())


@pytest.mark.parametrize("value", [None, {1.0, 2.0}, iter([1.0])], ids=["none", "set", "iterator"])
def test_what_is_no_sample_at_all_is_named(gait, value):
    """`np.asarray(None, dtype=np.float32)`, which was the advice, is not a number but NaN."""
    with pytest.raises(TypeError, match=rf"`input` is a {type(value).__name__}, expected shape \(3,\) per sample"):
        gait.stream().step(value)


@pytest.mark.workstation
def test_tensors_are_taken_as_they_are(gait, ltc_bundle):
    import torch

    given = torch.tensor(XS, requires_grad=True)
    for xs in (given, list(given), torch._neg_view(torch.tensor(-XS))):
        np.testing.assert_array_equal(gait.stream().run(xs), gait.stream().run(XS))
    drift = lnn_edge.load(ltc_bundle)
    times, spans = torch.tensor(T, requires_grad=True), torch.full((8,), 0.1, requires_grad=True, dtype=torch.float64)
    np.testing.assert_array_equal(drift.stream().run(XS, t_s=times), drift.stream().run(XS, t_s=T))
    np.testing.assert_array_equal(drift.stream().run(XS, dt_s=spans), drift.stream().run(XS, dt_s=0.1))
    np.testing.assert_array_equal(drift.stream().step(XS[0], dt_s=spans[0]), drift.stream().step(XS[0], dt_s=0.1))
