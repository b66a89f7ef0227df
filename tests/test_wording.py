"""Words that messages share: what a wrong name may have been meant for."""

from __future__ import annotations

import pytest

from lnn_edge.wording import microseconds, nearest


@pytest.mark.parametrize(
    ("got", "valid", "expected"),
    [
        ("acc3", ["acc1", "gyro"], "acc1"),
        ("acc1", ["ACC1", "acc2"], "ACC1"),
        ("Hip", ["knee", "hip"], "hip"),
        ("nofile.csv", ["late.csv", "drive.csv"], None),  # only the suffix is alike, and every file has it
        ("drvie.csv", ["late.csv", "drive.csv"], "drive.csv"),
        ("drive.csv", ["drive.txt", "late.csv"], "drive.txt"),
        ("x", [], None),
    ],
)
def test_nearest(got, valid, expected):
    assert nearest(got, valid) == expected


@pytest.mark.parametrize(
    ("us", "text"), [(0.44, "0.4 us"), (9.94, "9.9 us"), (9.96, "10 us"), (123.4, "123 us"), (0.0, "0.0 us")]
)
def test_durations_below_ten_microseconds_have_tenths(us, text):
    assert microseconds(us) == text
