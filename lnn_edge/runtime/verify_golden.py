"""Verification without the trained model: the golden sequences that a bundle ships, and its step program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import monotonic
from typing import Any

import numpy as np

from ..arrays import Array
from ..backends import ALL
from ..bundle.directory import Bundle, read_bundle
from ..bundle.encoder import is_costly
from ..bundle.golden import Golden, golden_from_bundle
from ..bundle.program import StepProgram
from ..bundle.spec import DT_INPUT
from ..given_numbers import MOST_STEPS, is_whole, whole_number
from ..progress import Progress
from ..reference.closed_loop import interpreted
from ..reference.interpreter import Interpreter
from ..verify.comparison import Comparison, compare
from ..verify.excitation import DT_REGIMES, excite_again
from ..verify.few_samples import excite_few_again
from ..verify.grounds import finite_ground
from ..verify.report import Curve, ExportReport, curves_from_results
from ..verify.samples import Distinct, Excitation, SampleRequest, different_samples
from ..verify.tolerance import EXACT, TORCH, versus
from .closed_loop import replay_progress
from .loading import open_each
from .model import Model
from .proof import compare_results, replay_golden, report_from_proof
from .verify_readouts import compare_readouts

__all__ = ["verify_golden"]

# Of the tensor's size, at least 1. Machines differ in the last bits of exp and tanh, 4e-16. A proof lets torch's
# float32, which rounds by 6e-8, be off by 1e-3, so feedback makes an error at most 16,000 times larger: 7e-12.
_SAME = 1e-10


def verify_golden(
    path: str | os.PathLike[str] | Bundle,
    *,
    backend: str = ALL,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
    steps: int | None = None,
    progress: Progress,
) -> ExportReport:
    """Replay a bundle's golden sequences and compare every output and state at every step.

    With `steps` the stream goes on: through samples that nobody has stepped it through before, of all kinds and within
    the ranges of the inputs, compared with the bundle's step program in float64. A bundle that holds no program
    (schema 1) goes through its golden sequences again and again, which says that a stream which lives long still gives
    what it gave at first.

    Args:
        path: The bundle, or what was read of it.
        backend: As for `lnn_edge.load`, or "all" for every backend that is ready.
        threads: As for `lnn_edge.load`.
        options: As for `lnn_edge.load`; only with a named backend.
        steps: Closed-loop steps, at least those of the golden sequences; `None` for these once.
        progress: Called with (phase, done, total).

    Returns:
        The report; `passed` says whether they are equal.

    Raises:
        ValueError: If `steps` is too low.
        VerificationError: If a step refuses a golden sample or gives a result that is not finite.
        BundleError, BackendUnavailable: As `lnn_edge.load`.
    """
    started = monotonic()
    bundle = path if isinstance(path, Bundle) else read_bundle(path)
    golden = golden_from_bundle(bundle)
    once, unroll = golden.steps, bundle.manifest.unroll
    if steps is not None and is_whole(steps) and steps < once:
        raise ValueError(
            f"`steps` is {steps}, but the golden sequences of '{bundle.path}' alone have {once}: pass more"
        )
    if steps is not None:
        whole_number("steps", steps, once, MOST_STEPS)
    total = -(-(steps or once) // unroll) * unroll
    opened = open_each(bundle, backend=backend, threads=threads, options=options)
    run: _Repeated | _GoingOn
    if bundle.step is None or total == once:
        run = _Repeated(golden, total)
    else:
        run = _GoingOn(golden, bundle, bundle.step, total, progress)
    comparisons, curves = _program_of(bundle, golden), run.curves()
    each = {TORCH: {name: value[:once] for name, value in golden.float32.items()}}
    for model in opened.models:
        results = replay_golden(model, run.samples, replay_progress(progress, model, total), run.order)
        comparisons += run.compare(model, results) + compare_readouts(model, golden, bundle.step)
        curves += curves_from_results(model.backend, results, run.samples.float64)
        each[model.backend] = results
    return report_from_proof(
        bundle,
        opened.models,
        comparisons,
        curves,
        parts=run.parts,
        reset=run.samples.reset,
        dt_s=run.samples.inputs.get(DT_INPUT),
        regimes=DT_REGIMES | dict.fromkeys(("golden", "repeated"), "as in the proof of the export"),
        started=started,
        distinct=run.distinct(),
        results=each,
        not_run=opened.not_run,
    )


def _program_of(bundle: Bundle, golden: Golden) -> list[Comparison]:
    """Compare the step program with what it gave when the bundle was proven, if the bundle holds one."""
    if bundle.step is None:
        return []
    dt_s = golden.inputs.get(DT_INPUT)
    inputs = {name: value for name, value in golden.inputs.items() if name != DT_INPUT}
    given = interpreted(Interpreter(bundle.step), Excitation(inputs, dt_s, golden.reset, ()))
    return [
        compare(name, versus("step program", "its proof"), "golden", given[name], expected, tolerance=_SAME)
        for name, expected in golden.float64.items()
    ]


class _Repeated:
    """The golden sequences, once or again and again.

    Attributes:
        samples: All steps, with the results of torch and in float64.
        order: The number of the sample at each step where few come over and over, (steps,); else `None`.
        parts: Name, start and stop of each segment.
    """

    order: Array | None = None

    def distinct(self) -> Distinct | None:
        """How many samples differ where few come over and over."""
        return None

    def __init__(self, golden: Golden, steps: int) -> None:
        self._once = golden.steps
        self.samples = _repeated(golden, steps)
        self.parts = [("golden", 0, self._once), *([("repeated", self._once, steps)] if steps > self._once else [])]

    def curves(self) -> list[Curve]:
        """Torch's own error over time."""
        return curves_from_results(TORCH, self.samples.float32, self.samples.float64)

    def compare(self, model: Model, results: dict[str, Array]) -> list[Comparison]:
        """With torch and float64, and each later pass with the first."""
        rows = compare_results(model, results, self.samples.float32, self.samples.float64, self.parts)
        return rows + _later_passes(model.backend, results, self._once, self.samples.steps)


class _GoingOn:
    """The golden sequences, and then samples whose results the step program knows; attributes as `_Repeated`."""

    def __init__(self, golden: Golden, bundle: Bundle, step: StepProgram, steps: int, progress: Progress) -> None:
        manifest, once = bundle.manifest, golden.steps
        excited = excite_few_again if is_costly(step) else excite_again
        more = excited(SampleRequest(manifest.inputs, manifest.time, steps - once, unroll=manifest.unroll, seed=1))
        if manifest.sensitive is not None:
            more = more.cut(manifest.sensitive.holds_steps // manifest.unroll * manifest.unroll)

        def computed(samples: Excitation) -> tuple[dict[str, Array], dict[str, Array]]:
            return (
                _interpreted(step, samples, "float64", progress),
                _interpreted(step, samples, "float32", progress),
            )

        proven = {tensor.name: [golden.inputs[tensor.name]] for tensor in manifest.inputs}
        more, (exact, rounded), _ = finite_ground(more, manifest.inputs, proven, computed)
        self.samples = _joined(golden, more, rounded, dict(exact))
        self.order = None if more.order is None else np.concatenate([np.arange(once), once + more.order])
        self._known = [("golden", 0, once)]
        self._further = [(name, once + start, once + stop) for name, start, stop in more.segments]
        self.parts = self._known + self._further

    def distinct(self) -> Distinct | None:
        """See `_Repeated.distinct`; the whole graph runs at all steps."""
        if self.order is None:
            return None
        inputs = {name: value for name, value in self.samples.inputs.items() if name != DT_INPUT}
        return Distinct(different_samples(inputs, self.order), self.samples.steps)

    def curves(self) -> list[Curve]:
        """None of torch, whose results end with the golden sequences."""
        return []

    def compare(self, model: Model, results: dict[str, Array]) -> list[Comparison]:
        """With torch as far as it is known, and with float64."""
        own = (model, results, self.samples.float32, self.samples.float64)
        return compare_results(*own, self._known) + compare_results(*own, self._further, judges=(EXACT,))


def _interpreted(step: StepProgram, samples: Excitation, dtype: str, progress: Progress) -> dict[str, Array]:
    phase = f"step program, {dtype}"
    return interpreted(Interpreter(step, dtype), samples, lambda done: progress(phase, done, samples.steps))


def _joined(golden: Golden, more: Excitation, rounded: dict[str, Array], exact: dict[str, Array]) -> Golden:
    """The golden sequences with more samples behind them."""
    inputs = more.inputs if more.dt is None else more.inputs | {DT_INPUT: more.dt}

    def behind(own: dict[str, Array], further: dict[str, Array]) -> dict[str, Array]:
        return {
            name: np.concatenate([value, further[name].reshape(-1, *value.shape[1:])]) for name, value in own.items()
        }

    return Golden(
        behind(golden.inputs, inputs),
        np.concatenate([golden.reset, more.reset]),
        behind(golden.float32, rounded),
        behind(golden.float64, exact),
    )


def _repeated(golden: Golden, steps: int) -> Golden:
    """The sequences one after the other until there are so many steps; each pass starts with a reset."""

    def again(tensors: dict[str, Array]) -> dict[str, Array]:
        return {name: np.resize(value, (steps, *value.shape[1:])) for name, value in tensors.items()}

    return Golden(again(golden.inputs), np.resize(golden.reset, steps), again(golden.float32), again(golden.float64))


def _later_passes(backend: str, results: dict[str, Array], once: int, steps: int) -> list[Comparison]:
    """Compare every later pass with the first one; a backend that is deterministic repeats it to the bit."""
    rows = []
    for name, got in results.items():
        every = steps // len(got)  # states are known at the ends of unroll blocks only
        later = got[once // every :]
        if len(later):
            first = np.resize(got[: once // every], later.shape)
            against = versus(f"{backend} repeated", "its first pass")
            rows.append(compare(name, against, "repeated", later, first, every=every))
    return rows
