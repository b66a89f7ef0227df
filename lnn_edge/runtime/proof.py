"""Proof of loaded models against known results: comparisons by segment and tensor, and the report on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..arrays import Array
from ..bundle.directory import Bundle
from ..bundle.golden import Golden, golden_from_bundle
from ..bundle.manifest import Manifest
from ..errors import VerificationError
from ..verify.tolerance import EXACT, TORCH, is_equal, largest_error, tolerance_of, versus
from .closed_loop import replay
from .model import Model

if TYPE_CHECKING:  # here and below: a load that finds no error has nothing to report
    from ..verify.comparison import Comparison
    from ..verify.report import Curve, ExportReport, Segment, Signal
    from ..verify.samples import Distinct

__all__ = ["all_equal", "compare_results", "prove_golden", "replay_golden", "report_from_proof"]

_COLUMNS = 3  # of an output that are drawn: more than these nobody tells apart


def prove_golden(model: Model, bundle: Bundle) -> None:
    """Replay the golden sequences; see `load`.

    Raises:
        BundleError: If golden.safetensors does not fit the manifest.
        VerificationError: Naming the worst tensor, the error and the step.
    """
    golden = golden_from_bundle(bundle)
    results = replay_golden(model, golden)
    if all_equal(model, results, golden.float32, golden.float64, "golden"):  # the figures are for a failure alone
        return
    segments = [("golden", 0, golden.steps)]
    comparisons = compare_results(model, results, golden.float32, golden.float64, segments)
    failed = [c for c in comparisons if not c.passed]
    if failed:
        worst = max(failed, key=lambda c: c.max_abs / c.limit)
        raise VerificationError(
            f"bundle '{bundle.path}' failed its self-test on {model.description}: {worst}. It does not start. "
            f"Type: lnn-edge verify {bundle.path}"
        )


def replay_golden(
    model: Model, golden: Golden, progress: Callable[[int], None] | None = None, order: Array | None = None
) -> dict[str, Array]:
    """Replay golden sequences, and what follows them; see `replay`.

    Raises:
        VerificationError: If a step refuses a golden sample or gives a result that is not finite.
    """
    try:
        return replay(model, golden.inputs, golden.reset, progress, order=order)
    except ValueError as error:
        raise VerificationError(
            f"bundle '{model.path}' failed its self-test on {model.description}: a golden step was refused: {error}"
        ) from error


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
    from ..verify.comparison import compare

    rows = []
    for segment in segments:
        for tensor, got in results.items():
            for pair in _pairs(segment, got, float32[tensor], float64[tensor], judges):
                row = compare(
                    tensor,
                    versus(name or model.backend, pair.reference),
                    segment[0],
                    pair.got,
                    pair.expected,
                    tolerance=tolerance_of(model.manifest.precision, segment[0]),
                    own=pair.own,
                    every=pair.every,
                )
                rows.append(row)
    return rows


def all_equal(
    model: Model, results: Mapping[str, Array], float32: Mapping[str, Array], float64: Mapping[str, Array], segment: str
) -> bool:
    """Whether all of what `compare_results` would find in a segment of all steps has passed."""
    tolerance = tolerance_of(model.manifest.precision, segment)
    return all(
        is_equal(pair.got, pair.expected, tolerance=tolerance, own=pair.own)
        for tensor, got in results.items()
        for pair in _pairs((segment, 0, len(float32[tensor])), got, float32[tensor], float64[tensor], (TORCH, EXACT))
    )


class _Pair(NamedTuple):
    """What a tensor gave over a segment, and what it is compared with."""

    reference: str
    got: Array
    expected: Array
    own: float
    every: int


def _pairs(
    segment: tuple[str, int, int], got: Array, float32: Array, float64: Array, judges: Sequence[str]
) -> Iterator[_Pair]:
    _, start, stop = segment
    every = len(float32) // len(got)  # states are known at the ends of unroll blocks only
    known, part = slice(start // every, stop // every), slice(start + every - 1, stop, every)
    own = largest_error(float32[part], float64[part])
    for reference in judges:
        expected = {TORCH: float32, EXACT: float64}[reference]
        yield _Pair(reference, got[known], expected[part], own, every)


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
    from ..verify.report import ExportReport, Timeline

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
            signals=_signals(bundle.manifest, results or {}, _failed(bundle.manifest, comparisons, parts)),
        ),
        distinct=distinct,
        not_run=not_run or {},
    )


def _failed(manifest: Manifest, comparisons: Sequence[Comparison], parts: Sequence[tuple[str, int, int]]) -> str | None:
    """The output, or if there is none the state, that is first over what is allowed; `None` if all is equal."""
    starts, outputs = {name: start for name, start, _ in parts}, {tensor.name for tensor in manifest.outputs}
    over = [
        (c.tensor not in outputs, starts.get(c.segment, 0) + c.first_over, c.tensor)
        for c in comparisons
        if c.first_over is not None
    ]
    return min(over)[2] if over else None


def _signals(manifest: Manifest, results: Mapping[str, Mapping[str, Array]], failed: str | None) -> tuple[Signal, ...]:
    """The first columns of the first output; of what failed, those that are furthest apart. Of the first row."""
    from ..verify.report import Signal

    name = manifest.outputs[0].name if failed is None else failed
    lines = {subject: _columns(given[name], len(given[manifest.outputs[0].name])) for subject, given in results.items()}
    if not lines:
        return ()
    names = _column_names(manifest, name, next(iter(lines.values())).shape[1])
    apart = _apart(list(lines.values())) if failed else np.zeros(len(names))
    kept = sorted(np.argsort(-apart[: len(names)], kind="stable")[:_COLUMNS].tolist())
    return tuple(Signal(name, names[k], subject, line[:, k]) for k in kept for subject, line in lines.items())


def _columns(values: Array, steps: int) -> Array:
    """One value per step, (steps, all columns) float32; in unroll blocks a state comes once per block."""
    flat = np.asarray(values, np.float32).reshape(len(values), -1)
    return np.repeat(flat, steps // len(flat), axis=0)


def _column_names(manifest: Manifest, name: str, size: int) -> list[str]:
    """Of an output by its features, of a state by number; those of the first row of a batch."""
    outputs = {tensor.name: tensor for tensor in manifest.outputs}
    if name in outputs and outputs[name].features:
        return [feature.name for feature in outputs[name].features]
    size //= manifest.batch
    return [name if size == 1 else f"{name} {k}" for k in range(size)]


def _apart(lines: Sequence[Array]) -> Array:
    """How far each column of the others is from that of the first at most; what is not finite is furthest."""
    with np.errstate(invalid="ignore", over="ignore"):
        off = [np.abs(line[: len(lines[0])] - lines[0][: len(line)]).max(axis=0, initial=0.0) for line in lines[1:]]
    return np.nan_to_num(np.max(off, axis=0), nan=np.inf) if off else np.zeros(lines[0].shape[1])


def _segment(part: tuple[str, int, int], reset: Array, dt_s: Array | None, regimes: Mapping[str, str]) -> Segment:
    from ..verify.report import Segment

    name, start, stop = part
    sequences = int(np.count_nonzero(reset[start:stop]))
    if dt_s is None:
        return Segment(name, start, stop - start, sequences)
    own = dt_s[start:stop]
    return Segment(name, start, stop - start, sequences, regimes[name], (float(own.min()), float(own.max())))
