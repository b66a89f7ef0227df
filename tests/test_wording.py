"""Words that messages share: what a wrong name may have been meant for."""

from __future__ import annotations

import pytest

from lnn_edge.wording import nearest


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
