"""Times as programs have them: datetimes and spans of NumPy, pandas and the standard library, beside seconds."""

from __future__ import annotations

import copy
import datetime
import itertools
import pickle
import tracemalloc

import numpy as np
import pytest

import lnn_edge
from lnn_edge.runtime.guard.dt_policy import GapError, GapPolicy, PaceCheck
from lnn_edge.times import Stamp, stamp_seconds, unit_of_name

START = np.datetime64("2024-05-01T12:00:00.123456789", "ns")
NS = np.array([0, 100_000_000, 200_000_001, 350_000_000, 400_000_000, 500_000_000, 600_000_000, 700_000_000])
SECONDS = NS / 1e9
STAMPS = START + NS.astype("m8[ns]")
SPANS = np.diff(NS, prepend=-100_000_000).astype("m8[ns]")
XS = np.random.default_rng(0).standard_normal((len(NS), 3)).astype(np.float32)


def python_datetimes(zone=None) -> list[datetime.datetime]:
    return [stamp.astype("M8[us]").item().replace(tzinfo=zone) for stamp in STAMPS]


def pandas_stamps(zone=None):
    pandas = pytest.importorskip("pandas")  # a device has none
    return pandas.DatetimeIndex(STAMPS, tz=zone)


STAMPED = {
    "datetime64": lambda: STAMPS,
    "datetime": python_datetimes,
    "datetime with a zone": lambda: python_datetimes(datetime.timezone(datetime.timedelta(hours=2))),
    "pandas": pandas_stamps,
    "pandas with a zone": lambda: pandas_stamps("Europe/Berlin"),
}
SPANNED = {
    "timedelta64": lambda: SPANS,
    "in microseconds": lambda: SPANS.astype("m8[us]"),
    "timedelta": lambda: [span.astype("m8[us]").item() for span in SPANS],
    "pandas": lambda: pytest.importorskip("pandas").to_timedelta(SPANS),
}


@pytest.fixture(params=["drift", "blocks"])
def model(request, ltc_bundle, block_bundle_of_runtime, loaded):
    return loaded(ltc_bundle if request.param == "drift" else block_bundle_of_runtime, "onnxruntime")


@pytest.fixture(scope="session")
def block_bundle_of_runtime(tmp_path_factory):
    from shared_bundles import shared_bundle

    return shared_bundle(tmp_path_factory, "blocks.lnn")


def stepped(model, **times) -> np.ndarray:
    """Call by call, as a robot program has them."""
    size, stream, results = model.manifest.unroll, model.stream(), []
    for k in range(0, len(XS), size):
        part = slice(k, k + size) if size > 1 else k
        results.append(stream.step(XS[part], **{name: own[part] for name, own in times.items()}).copy())
    return np.reshape(results, (len(XS), -1))


@pytest.mark.parametrize("times", STAMPED.values(), ids=STAMPED)
def test_datetimes_are_times(model, times):
    """float64 seconds since 1970 are no finer than 0.24 us, and would show in the last digits."""
    given, exact = times(), model.stream().run(XS, t_s=SECONDS)
    tolerance = 1e-6 if "datetime" in str(type(given[0])) or "imestamp" in str(type(given[0])) else 0.0
    np.testing.assert_allclose(stepped(model, t_s=given), exact, rtol=0, atol=tolerance)
    np.testing.assert_allclose(model.stream().run(XS, t_s=given), exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("spans", SPANNED.values(), ids=SPANNED)
def test_spans_of_time_are_seconds(model, spans):
    exact = model.stream().run(XS, dt_s=SPANS.astype(np.int64) / 1e9)
    np.testing.assert_allclose(stepped(model, dt_s=spans()), exact, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.stream().run(XS, dt_s=spans()), exact, rtol=0, atol=1e-6)


def test_one_span_for_all_samples(model):
    exact = model.stream().run(XS, dt_s=0.1)
    for span in (np.timedelta64(100, "ms"), datetime.timedelta(seconds=0.1)):
        np.testing.assert_array_equal(model.stream().run(XS, dt_s=span), exact)


def test_nanoseconds_outlast_a_snapshot(ltc_bundle):
    model = lnn_edge.load(ltc_bundle)
    stream = model.stream()
    stream.run(XS[:4], t_s=STAMPS[:4])
    other = model.stream()
    other.restore(pickle.loads(pickle.dumps(stream.snapshot())))
    rest = [own.run(XS[4:], t_s=STAMPS[4:]) for own in (stream, other)]
    np.testing.assert_array_equal(*rest)
    np.testing.assert_array_equal(rest[0], model.stream().run(XS, t_s=SECONDS)[4:])
    state, ys = model.initial_state(), []
    for x, t in zip(XS, STAMPS, strict=True):
        y, state = model.step(x, state, t_s=t)
        ys.append(y)
    np.testing.assert_array_equal(ys, model.stream().run(XS, t_s=SECONDS))


REFUSED = [
    ({"t_s": "2024-05-01T12:00:00"}, TypeError, r"`t_s` is the text '2024-05-01T12:00:00' .* np.datetime64\(text\)"),
    ({"t_s": "0.02"}, TypeError, "`t_s` is the text '0.02' .*, expected seconds"),
    ({"t_s": True}, TypeError, "`t_s` is True"),
    ({"t_s": datetime.date(2024, 5, 1)}, TypeError, "`t_s` is datetime.date"),
    ({"t_s": np.timedelta64(20, "ms")}, TypeError, "`t_s` is a span of time .*, expected a time"),
    ({"t_s": np.datetime64("NaT")}, ValueError, "`t_s` holds NaT"),
    ({"t_s": np.datetime64("9999-12-31")}, ValueError, "`t_s` is 9999-12-31, expected a date within 1678 and 2262"),
    ({"t_s": datetime.datetime(1, 1, 1)}, ValueError, "`t_s` is 0001-01-01T00:00:00.000000, expected a date within"),
    ({"t_s": 10**400}, ValueError, "`t_s` is inf, expected a time in seconds"),
    ({"t_s": float("nan")}, ValueError, "`t_s` is nan, expected a time in seconds"),
    ({"dt_s": START}, TypeError, "`dt_s` holds times .*, expected the time since the sample before"),
    ({"dt_s": datetime.datetime(2024, 5, 1)}, TypeError, "`dt_s` holds times"),
    ({"dt_s": np.timedelta64("NaT", "ns")}, ValueError, "`dt_s` holds NaT"),
    # of which 2^64 nanoseconds are left out, so that 0.29 s remain
    ({"dt_s": np.timedelta64(18_446_744_074, "s")}, ValueError, "`dt_s` is 18446744074 seconds, expected at most 292"),
    ({"dt_s": np.timedelta64(20)}, TypeError, "`dt_s` has no unit"),
    ({"dt_s": "0.02"}, TypeError, "`dt_s` is the text '0.02'"),
    ({"dt_s": 40.0}, ValueError, "That is 400 periods: if it is in milliseconds, divide by 1e3. After a longer gap"),
    ({"dt_s": 100.0}, ValueError, "is 1,000 periods: if it is in milliseconds, divide by 1e3. After a longer gap"),
    ({"dt_s": 10**5}, ValueError, "is 1,000,000 periods: if it is in microseconds, divide by 1e6"),
    ({"dt_s": np.float32(1e8)}, ValueError, "is 1,000,000,000 periods: if it is in nanoseconds, divide by 1e9"),
]


@pytest.mark.parametrize(("times", "error", "expected"), REFUSED)
def test_what_is_no_time_is_refused_by_its_name(ltc_bundle, times, error, expected):
    stream = lnn_edge.load(ltc_bundle).stream()
    with pytest.raises(error, match=expected):
        stream.step(XS[0], **times)
    assert stream.steps == 0
    np.testing.assert_array_equal(stream.run(XS, t_s=SECONDS), lnn_edge.load(ltc_bundle).stream().run(XS, t_s=SECONDS))


@pytest.mark.parametrize("last", ["2262-04-11T23:47:16", "1678-01-01"])
def test_dates_go_as_far_as_nanoseconds_do(last):
    assert stamp_seconds(np.datetime64(last), "t_s").ns == np.datetime64(last, "ns").astype(int)


def test_units_finer_than_nanoseconds_are_rounded():
    assert stamp_seconds(np.datetime64(12_345_678, "ps"), "t_s").ns == 12_345


@pytest.mark.parametrize("per_second", [1e3, 1e6, 1e9])
def test_times_in_another_unit_say_which(model, per_second):
    with pytest.raises(ValueError, match=rf"if it is in \w+, divide by {per_second:.0e}".replace("e+0", "e")):
        model.stream().run(XS, t_s=SECONDS * per_second)


def test_times_passed_as_spans_are_refused(model):
    """They grow from sample to sample, within what is legal; spans that do so by a factor may be meant."""
    with pytest.raises(ValueError, match=r"`dt_s` grows from 0.1 to 0.8, as the times .* Pass times as `t_s`"):
        model.stream().run(XS, dt_s=SECONDS + 0.1)
    with pytest.raises(TypeError, match="`dt_s` holds times"):
        model.stream().run(XS, dt_s=STAMPS)
    model.stream().run(XS, dt_s=0.01 * 1.7 ** np.arange(len(XS)))
    model.stream().run(XS, dt_s=(SECONDS + 0.1)[::-1])


@pytest.mark.parametrize("t_s", [np.float64(2.0), np.float32(2.0), 2])
def test_a_restored_time_is_a_float_again(model, t_s):
    """Whatever number a program puts into a state: C steps from a float alone, and all else would go a slower way."""
    stream = model.stream()
    stream.restore(lnn_edge.State(model.initial_state().tensors, t_s))
    assert type(stream.snapshot().t_s) is float
    assert stream.snapshot().t_s == 2.0


def test_a_policy_takes_datetimes(ltc_bundle):
    time = lnn_edge.load(ltc_bundle).time
    assert GapPolicy("drift", time).check(STAMPS[1], STAMPS[0]) is None
    with pytest.raises(GapError, match=r"8\.8 s after the last sample"):
        GapPolicy("drift", time).check(STAMPS[0] + np.timedelta64(8800, "ms"), STAMPS[0])
    with pytest.raises(GapError, match="If it is in milliseconds, pass seconds"):
        GapPolicy("drift", time).check(200, 100)
    pace = PaceCheck("gait", lnn_edge.bundle.spec.Time("fixed", 0.1))
    for last, now in itertools.pairwise(STAMPS):
        pace.take(now, last)
    assert (pace.finding().off, pace.finding().unit) == (2, None)


def test_a_stamp_keeps_its_nanoseconds():
    stamp = stamp_seconds(STAMPS[2], "t")
    assert [own.ns for own in (stamp, copy.deepcopy(stamp), pickle.loads(pickle.dumps(stamp)))] == [stamp.ns] * 3
    assert stamp.ns - Stamp(int(START.astype(np.int64))).ns == 200_000_001
    assert stamp == stamp.ns / 1e9


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("t_ms", "ms"), ("t [us]", "us"), ("time (\u00b5s)", "us"), ("stampNs", "ns"), ("ns", "ns"), ("t_s", "s"),
        ("Seconds", "s"), ("unix.nanos", "ns"), ("t", None), ("status", None), ("items", None), ("gps", None),
        ("time", None), ("axis", None), ("", None),
    ],
)  # fmt: skip
def test_the_unit_that_a_name_tells(name, unit):
    assert unit_of_name(name) == unit


@pytest.mark.parametrize("unit", ["m8[ms]", "M8[ms]", np.int64])
def test_times_of_a_wrong_shape_are_refused_before_they_are_converted(model, unit):
    """A view of a stranger's shape costs nothing; its conversion would take gigabytes."""
    count, stream = 2_000_000, model.stream()
    name = "dt_s" if unit == "m8[ms]" else "t_s"
    wide, long = (np.broadcast_to(np.zeros((), unit), shape) for shape in ((len(XS), count), (count,)))
    sample = XS[: model.manifest.unroll] if model.manifest.unroll > 1 else XS[0]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"`{name}` has shape \(8, 2000000\), expected one for each of the T"):
            stream.run(XS, **{name: wide})
        with pytest.raises(ValueError, match=rf"`{name}` has 2000000 entries for 8 samples"):
            stream.run(XS, **{name: long})
        with pytest.raises(ValueError, match=rf"`{name}` has shape \(2000000,\)"):
            stream.step(sample, **{name: long})
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_gap_between_times_is_told_as_what_was_passed(model):
    size, stream = model.manifest.unroll, model.stream()
    sample = np.zeros((size, 3)) if size > 1 else np.zeros(3)
    times = 100 + 0.1 * np.arange(2 * size)
    times[size:] += 50
    stream.step(sample, t_s=times[:size] if size > 1 else float(times[0]))
    with pytest.raises(
        lnn_edge.errors.Gap, match=rf"^`t_s` is {times[size]:g}, 50\.1 s after the previous sample, but"
    ):
        stream.step(sample, t_s=times[size:] if size > 1 else float(times[size]))
    assert stream.steps == size


def test_times_passed_as_dt_are_told_where_the_range_refuses_them(model):
    """Each call knows the dt of the one before, and can say what it looks like; within the range it is any dt."""
    size, stream = model.manifest.unroll, model.stream()
    times = 0.1 * np.arange(1, 101).reshape(-1, size)
    sample = np.zeros((size, 3)) if size > 1 else np.zeros(3)

    def step_all():
        for part in times:
            stream.step(sample, dt_s=part if size > 1 else float(part[0]))

    with pytest.raises(ValueError, match=r"`dt_s` is .*grows from sample to sample by about a period.*as `t_s`"):
        step_all()
    assert 15 < stream.steps <= 20  # up to 20 periods are legal


def test_a_gap_is_none_of_that(model):
    size, stream = model.manifest.unroll, model.stream()
    sample = np.zeros((size, 3)) if size > 1 else np.zeros(3)
    stream.step(sample, dt_s=0.1)
    with pytest.raises(ValueError, match=r"proven for .*After a longer gap call stream.reset\(\)"):
        stream.step(sample, dt_s=5.0)
