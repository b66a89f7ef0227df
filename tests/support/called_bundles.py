"""Bundles of the table's cells, one for each way in which a step is called and for each kind of cell.

Each is exported once in a run, with a short proof, and its C compiled once for all tests that step it: tests of
backends, of many streams, of interruptions and of the central promise take the same ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import BY_NAME, INPUTS
from exports import proven
from offline import PERIOD_S, TIMESPAN

from lnn_edge import Feature

__all__ = ["CALLED", "Bundles"]

_MEASURED = {"time": "measured", "period_s": PERIOD_S, "timespan": TIMESPAN}
CALLED = {
    "fixed": ("cfc-autoncp", {}),
    "period": ("cfc-autoncp", {"period_s": PERIOD_S}),
    "limits": ("cfc-autoncp", {"inputs": [Feature(f"s{k}", limits=(-3.0, 3.0)) for k in range(INPUTS)]}),
    "measured": ("ltc-mixed", _MEASURED),
    "batch": ("cfc-units", _MEASURED | {"batch": 2}),
    "blocks": ("cfc-autoncp", {"unroll": 3}),
    "timed-blocks": ("ltc-autoncp", _MEASURED | {"unroll": 4}),
    "batch-blocks": ("cfc-mixed", _MEASURED | {"unroll": 2, "batch": 3}),
    "half": ("cfc-mixed-autoncp", {"precision": "float16"}),
    "half-ltc": ("ltc-own-wiring", {"precision": "float16"}),
    "batch-blocks-half": ("cfc-units", {"unroll": 2, "batch": 2, "precision": "float16"}),
    "pure": ("cfc-pure-autoncp", {}),
    "gelu": ("cfc-gelu", _MEASURED),
    "mixed": ("cfc-mixed-autoncp", _MEASURED),
}


class Bundles:
    """Those bundles by name. Read-only: copy one before you change it."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory

    def __getitem__(self, name: str) -> Path:
        case, options = CALLED[name]
        return proven(self._factory, BY_NAME[case].build, f"{name}.lnn", short=True, **options)
