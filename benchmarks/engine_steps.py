"""Real engines of a bundle on the GPU at hand, by TensorRT and TensorRT for RTX, whichever runs there; for gpu.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lnn_edge.backends import named_backend, why_not_ready
from lnn_edge.bundle.directory import Bundle, read_bundle
from lnn_edge.bundle.golden import golden_from_bundle
from lnn_edge.runtime.closed_loop import golden_steps
from lnn_edge.runtime.figures.durations import Distribution
from lnn_edge.runtime.loading import load
from lnn_edge.runtime.measure.timing import back_to_back
from lnn_edge.runtime.verify_golden import verify_golden

BACKENDS = ("tensorrt", "tensorrt-rtx")
OURS = Path(__file__).parents[1] / "tests" / "fixtures" / "bundles" / "measured_2.lnn"  # where none is given
FEEDBACKS = ("copy", "pingpong")

Told = Callable[[str, Callable[[], object]], bool]


def run_engines(
    path: str | None, steps: int, held: Told, told: Told, show: Callable[[str, Distribution], None]
) -> None:
    """Build and load an engine with each library, compare its stream with the step program, and time its step.

    Args:
        path: The bundle.
        steps: Of each comparison and figure.
        held, told: Check or do something, and say so.
        show: Print figures.
    """
    bundle = read_bundle(path or OURS)
    for name in BACKENDS:
        reason = why_not_ready(named_backend(name))
        if reason is not None:
            print(f"{name}: no engine is run here: {reason}")
            continue
        for feedback in FEEDBACKS:
            options = {"feedback": feedback}
            engine = f"{name}, {bundle.manifest.name}, {feedback}"
            held(f"{engine}: equal to the step program:", lambda n=name, o=options: equal(bundle, n, o, steps))
            told(engine, lambda n=name, o=options, e=engine: show(e, timed(bundle, n, o, steps)))


def equal(bundle: Bundle, name: str, options: dict[str, str], steps: int) -> None:
    report = verify_golden(
        bundle,
        backend=name,
        options=options,
        steps=max(steps, golden_from_bundle(bundle).steps),
        progress=lambda *_: None,
    )
    if not report.passed:
        raise RuntimeError(f"NOT equal over {report.steps:,} steps: {report.worst}")


def timed(bundle: Bundle, name: str, options: dict[str, str], steps: int) -> Distribution:
    model = load(bundle, backend=name, options=options)
    print(model.description)
    return back_to_back(golden_steps(model, golden_from_bundle(bundle)), steps, 100, lambda _: None)[0]
