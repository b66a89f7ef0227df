"""Models of the test tables as they are before an export: frozen, and recorded as step programs, once per run."""

from __future__ import annotations

from functools import cache
from typing import Any

from cases import BY_NAME
from networks import NETWORKS, PERIOD_S, TIMESPAN, built

from lnn_edge.bundle.program import StepProgram
from lnn_edge.bundle.spec import Time
from lnn_edge.export.recordings import examples
from lnn_edge.export.trained.open import open_module

__all__ = ["MODELS", "TIMES", "program_of", "trained_of"]

MODELS = (*BY_NAME, *NETWORKS)
TIMES = {"fixed": Time("fixed", None, TIMESPAN), "measured": Time("measured", PERIOD_S, TIMESPAN, (0.01, 1.0))}


@cache
def trained_of(name: str) -> Any:
    """The model ready to export, one row."""
    if name in BY_NAME:
        return open_module(BY_NAME[name].build()).trained(1, None)
    make, example = NETWORKS[name]
    samples = example()
    opened = open_module(built(make), example=samples)
    return opened.trained(1, examples(opened, 1, samples)[0])


@cache
def program_of(name: str, time: str) -> StepProgram:
    """Its program."""
    return trained_of(name).program(TIMES[time])
