"""Models as people build them on ncps.torch: each streams what its author's own use gives, or is told why not."""

from __future__ import annotations

from collections import Counter

import pytest
from public_shapes.check import check_shape
from public_shapes.conventions import CONVENTIONS
from public_shapes.robots import ROBOTS
from public_shapes.sensors import SENSORS

SHAPES = {**SENSORS, **ROBOTS, **CONVENTIONS}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_streams_what_its_author_computes(name, tmp_path):
    check_shape(SHAPES[name], tmp_path)


def test_the_table_is_broad():
    assert len(SHAPES) == len(SENSORS) + len(ROBOTS) + len(CONVENTIONS) >= 60
    assert max(Counter(shape.made_of for shape in SHAPES.values()).values()) <= 3
    assert len({shape.habit for shape in SHAPES.values()}) == len(SHAPES)
