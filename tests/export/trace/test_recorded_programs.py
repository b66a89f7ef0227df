"""Programs of the test tables: what the recorder makes is what a reader makes of its files."""

from __future__ import annotations

import pytest
from programs import assert_same
from recorded import MODELS, program_of

from lnn_edge.bundle.program_file.reading import decode_program


@pytest.mark.parametrize("time", ["fixed", "measured"])
@pytest.mark.parametrize("name", MODELS)
def test_program_comes_back_from_its_files(name, time):
    step = program_of(name, time)
    assert_same(decode_program(*step.encode().values()), step)
