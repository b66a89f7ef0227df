"""The verification of a bundle against the model it claims to be (`verify --against`): the whole proof again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
from torch import nn

from ..backends import ALL
from ..bundle.directory import Bundle, read_bundle
from ..bundle.encoder import is_costly
from ..bundle.golden import golden_from_bundle
from ..bundle.manifest import Manifest
from ..bundle.spec import StatePair, Tensor
from ..runtime.loading import open_each
from ..runtime.verify_readouts import compare_readouts
from ..verify.excitation import steps_of_each
from ..verify.few_samples import excite_affordably
from ..verify.report import ExportReport
from ..verify.samples import SampleRequest
from .arguments import name_features
from .forward.example import Example, first_that_works
from .forward.scaling import Scale, Scaling, by_tensor, parse_scaling
from .named_example import columns_of, example_by_names
from .proof.few_samples import why_not_over_few
from .proof.length import FULL_PROOF
from .proof.prove import prove
from .proof.truth import interpret_where_finite, truth_from_model
from .recordings import examples
from .torch_settings import one_thread, usual_torch
from .trained.open import OpenedModule, in_its_layout, open_module
from .trained.probabilities import WithProbabilities
from .trained.protocol import Results, Trained

__all__ = ["verify_against"]

_USUAL_STEPS = 1024  # of the recorded and of the random samples


@usual_torch()
@one_thread()
def verify_against(
    model: nn.Module,
    path: str | os.PathLike[str] | Bundle,
    *,
    example: Any = None,
    step: Callable[..., Any] | None = None,
    initial_state: Any = None,
    scale_inputs: Any = None,
    scale_outputs: Any = None,
    backend: str = ALL,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
    steps: int | None = None,
    progress: Callable[[str, int, int], None],
) -> ExportReport:
    """Step a bundle against a trained module, as the export does.

    Args:
        model: The trained module.
        path: The bundle, or what was read of it.
        example: Recorded samples, as for `export_model`; they come first in the proof.
        step: As for `export_model`.
        initial_state: As for `export_model`.
        scale_inputs: As for `export_model`.
        scale_outputs: As for `export_model`.
        backend: As for `lnn_edge.load`, or "all" for every backend that is ready.
        threads: As for `lnn_edge.load`.
        options: As for `lnn_edge.load`; only with a named backend.
        steps: Closed-loop steps of all samples together, rounded up to whole segments, of which the recorded and the
            random one have at least 1000 each; `None` for 1024 of these.
        progress: Called with (phase, done, total).

    Returns:
        The report; `passed` says whether they are equal.

    Raises:
        ValueError: If the module's inputs, outputs or states are not those of the bundle, or the example does not fit.
        BundleError, BackendUnavailable: As `lnn_edge.load`.
    """
    started = monotonic()
    bundle = path if isinstance(path, Bundle) else read_bundle(path)
    manifest = bundle.manifest
    constants = [t.name for t in manifest.constants]
    names, results = columns_of(manifest.inputs), columns_of(manifest.outputs)
    example, _ = example_by_names(example, names, constants)
    scaling = by_tensor("scale_inputs", parse_scaling("scale_inputs", scale_inputs, names), manifest.inputs)
    centred = {t.name: np.array(t.center) != 0.0 if t.center else np.zeros(1, bool) for t in manifest.inputs}
    scaling = {name: dataclasses.replace(own, centred=centred[name]) for name, own in scaling.items()}
    raw = parse_scaling("scale_outputs", scale_outputs, results)
    scaled = bool(scaling) or raw is not None
    named = dict.fromkeys(t.name for t in manifest.inputs) if len(manifest.inputs) > 1 else None
    shown = named if example is None else example  # the names alone are looked at
    opened = open_module(model, step=step, initial_state=initial_state, example=shown, scaled=scaled)

    def open_as(laid_out: OpenedModule, read: Example | None) -> tuple[Trained, Example | None]:
        read_as = [read] if read else _zeros(manifest, scaling, raw)
        own: Trained = first_that_works(read_as, partial(laid_out.trained, manifest.batch))
        if manifest.probabilities is not None:
            own = WithProbabilities(own, manifest.probabilities)
        _check_same(own, manifest)
        return own, read

    def in_any_way(laid_out: OpenedModule) -> tuple[Trained, Example | None]:
        ways: Sequence[Example | None] = [None]
        if example is not None:
            ways = examples(laid_out, manifest.batch, example, constants, scaling or None, raw)
        return first_that_works(ways, partial(open_as, laid_out))

    trained, read = in_its_layout(opened, in_any_way)
    recorded = None if read is None else {name: list(rows) for name, rows in read.rows.items()}
    for name, rows in (recorded or {}).items():  # a proof would clip what the limits of a column forbid
        tensor = next(t for t in manifest.inputs if t.name == name)
        name_features("inputs", tensor, tensor.features or None, np.concatenate(rows))
    # An old bundle holds no program; what the model is now stands in for it.
    program = bundle.step or trained.program(manifest.time)
    left_out = partial(why_not_over_few, step=program) if is_costly(program) else None
    ready = open_each(bundle, backend=backend, threads=threads, options=options, left_out=left_out)
    each = _USUAL_STEPS if steps is None else max(FULL_PROOF.least, steps_of_each(steps, recorded is not None))
    wanted = SampleRequest(
        manifest.inputs, manifest.time, each, recorded, unroll=manifest.unroll, least=FULL_PROOF.least
    )
    samples = excite_affordably(program, wanted)
    samples, known = interpret_where_finite(program, samples, manifest.inputs, recorded, progress)
    computed: tuple[Results, Results] | None = known
    if manifest.sensitive is not None:
        samples = samples.cut(manifest.sensitive.holds_steps // manifest.unroll * manifest.unroll)
        computed = None
    truth = truth_from_model(trained, program, samples, manifest.time, progress, computed)
    report = prove(bundle, ready.models, truth, progress, started, not_run=ready.not_run)
    golden = golden_from_bundle(bundle)
    readouts = [row for model in ready.models for row in compare_readouts(model, golden, program)]
    return dataclasses.replace(report, comparisons=(*report.comparisons, *readouts))


def _zeros(manifest: Manifest, scalings: Mapping[str, Scaling], outputs: Scale) -> list[Example]:
    """Examples with the shapes of the bundle's inputs, which do not say whether the model has an axis for features."""
    rows = {t.name: [np.zeros((3, *t.shape), t.dtype)] for t in manifest.inputs}
    centers = {t.name: t.center for t in manifest.inputs if t.center}
    rows |= {name: [rows[name][0] + np.array(center)] for name, center in centers.items()}
    single = frozenset(t.name for t in manifest.inputs if t.shape[1:] == (1,))
    constants = frozenset(t.name for t in manifest.constants)
    return [
        Example(rows, constants, scalars, scalings, centers, outputs)
        for scalars in ([frozenset(), single] if single else [frozenset()])
    ]


def _check_same(trained: Trained, manifest: Manifest) -> None:
    for what, mine, theirs in (
        ("inputs", trained.inputs, manifest.inputs),
        ("outputs", trained.outputs, manifest.outputs),
        ("states", trained.states, manifest.states),
    ):
        here, there = [_described(t) for t in mine], [_described(t) for t in theirs]
        if here != there:
            raise ValueError(
                f"the model has {what} of shape [{', '.join(here)}], but bundle '{manifest.name}' has "
                f"[{', '.join(there)}]: "
                "they are not of the same model"
            )
    mine_named, theirs_named = [t.name for t in trained.inputs], [t.name for t in manifest.inputs]
    if mine_named != theirs_named:
        raise ValueError(
            f"the model takes the inputs {mine_named}, but bundle '{manifest.name}' takes {theirs_named}: "
            "they are not of the same model"
        )


def _described(tensor: Tensor | StatePair) -> str:
    """Its shape, and its dtype if that is no usual one."""
    if not isinstance(tensor, Tensor):
        return f"{list(tensor.shape)}"
    dtype = "" if tensor.dtype == "float32" else f" {tensor.dtype}"
    return f"{list(tensor.shape)}{dtype}" + (f" centred by {list(tensor.center)}" if tensor.center else "")
