"""Fixtures of the tests of costly encoders."""

from __future__ import annotations

import pytest

CHEAP = 1 << 14  # multiplications from which an encoder is costly there, so that the tests are not


@pytest.fixture(scope="module")
def small_pictures_are_costly():
    """Take encoders for costly from `CHEAP` multiplications on, which it gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lnn_edge.bundle.encoder.COSTLY", CHEAP)
        yield CHEAP
