"""Proof of loaded models against known results: comparisons by segment and tensor, and the report on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

import numpy as np

from ..arrays import Array
from ..bundle.directory import Bundle
from ..bundle.manifest import Manifest
from ..verify.comparison import EXACT, TORCH, Comparison, compare, largest_error, tolerance_of, versus
from ..verify.report import Curve, ExportReport, Segment, Signal, Timeline
from ..verify.samples import Distinct
from .model import Model

__all__ = ["compare_results", "report_from_proof"]

_COLUMNS = 3  # of an output that are drawn: more than these nobody tells apart


def compare_results(
    model: Model,
    results: Mapping[str, Array],
    float32: Mapping[str, Array],
    float64: Mapping[str, Array],
    segments: Sequence[tuple[str, int, int]],
    judges: Sequence[str] = (TORCH, EXACT),
    name: str | None = None,
) -> list[Comparison]:
    """Compare what a model gave with torch float32 and with float64, by segment (name, start, stop) and tensor.

    The model's precision says how much may be between them. Where torch is not known, float64 is the only judge, and
    `float32` is another computation in float32: it says how far rounding may take a backend. What ran is called by the
    name of the backend, unless it has another `name`.
    """
    rows = []
    for segment, start, stop in segments:
        for tensor, got in results.items():
            every = len(float32[tensor]) // len(got)  # states are known at the ends of unroll blocks only
            known, part = slice(start // every, stop // every), slice(start + every - 1, stop, every)
            own = largest_error(float32[tensor][part], float64[tensor][part])
            for reference in judges:
                expected = {TORCH: float32, EXACT: float64}[reference]
                against = versus(name or model.backend, reference)
                row = compare(
                    tensor,
                    against,
                    segment,
                    got[known],
                    expected[tensor][part],
                    tolerance=tolerance_of(model.manifest.precision, segment),
                    own=own,
                    every=every,
                )
                rows.append(row)
    return rows


def report_from_proof(
    bundle: Bundle,
    models: Sequence[Model],
    comparisons: Sequence[Comparison],
    curves: Sequence[Curve],
    *,
    parts: Sequence[tuple[str, int, int]],
    reset: Array,
    dt_s: Array | None,
    regimes: Mapping[str, str],
    started: float,
    distinct: Distinct | None = None,
    results: Mapping[str, Mapping[str, Array]] | None = None,
    not_run: Mapping[str, str] | None = None,
) -> ExportReport:
    """Put together what a proof found.

    Args:
        bundle: The bundle.
        models: The bundle made ready, once per backend.
        comparisons: Every tensor against every reference.
        curves: Errors over time.
        parts: Name, start and stop of each segment.
        reset: uint8 (steps,).
        dt_s: Seconds, (steps, batch, ...); `None` with fixed time.
        regimes: How the dt of each segment was chosen, by its name.
        started: When the work began, by `time.monotonic`.
        distinct: How many samples differ, if they come over and over.
        results: What each gave, torch float32 and the backends, per output (steps, *shape).
        not_run: Why other backends did not run it, by name.
    """
    places = {name: k for k, name in enumerate(bundle.manifest.results())}
    return ExportReport(
        path=bundle.path,
        backends=tuple(model.description for model in models),
        precision=bundle.manifest.precision,
        steps=len(reset),
        segments=tuple(_segment(part, reset, dt_s, regimes) for part in parts),
        comparisons=tuple(comparisons),
        nodes=bundle.manifest.graph.nodes,
        parameters=bundle.manifest.graph.parameters,
        seconds=monotonic() - started,
        timeline=Timeline(
            curves=tuple(sorted(curves, key=lambda curve: places.get(curve.tensor, len(places)))),
            reset=reset,
            dt_s=None if dt_s is None else dt_s.reshape(len(reset), -1)[:, 0],
            period_s=bundle.manifest.time.period_s,
            signals=_signals(bundle.manifest, results or {}),
        ),
        distinct=distinct,
        not_run=not_run or {},
    )


def _signals(manifest: Manifest, results: Mapping[str, Mapping[str, Array]]) -> tuple[Signal, ...]:
    """The first columns of the first output, of its first row."""
    tensor = manifest.outputs[0]
    size = int(np.prod(tensor.shape[1:]))
    names = [f.name for f in tensor.features] or [
        tensor.name if size == 1 else f"{tensor.name} {k}" for k in range(size)
    ]
    return tuple(
        Signal(column, subject, np.asarray(given[tensor.name], np.float32).reshape(len(given[tensor.name]), -1)[:, k])
        for k, column in enumerate(names[:_COLUMNS])
        for subject, given in results.items()
    )


def _segment(part: tuple[str, int, int], reset: Array, dt_s: Array | None, regimes: Mapping[str, str]) -> Segment:
    name, start, stop = part
    sequences = int(np.count_nonzero(reset[start:stop]))
    if dt_s is None:
        return Segment(name, start, stop - start, sequences)
    own = dt_s[start:stop]
    return Segment(name, start, stop - start, sequences, regimes[name], (float(own.min()), float(own.max())))
