"""The check of a row: exported with a short proof, it streams what its author's use gives, or refuses as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import quick_export

import lnn_edge
from public_shapes.shape import PERIOD_S, Samples, Shape, batches

__all__ = ["check_shape"]

LIMIT = 1e-5  # the promise of the proof, relative to outputs of order 1 and to their size above that


def check_shape(shape: Shape, folder: Path) -> str:
    """Export and compare; returns what a refusal said, "" without one."""
    torch.manual_seed(1)
    module = shape.build().eval()
    options = {"example": shape.samples(0), **shape.options}
    options |= {"batch": shape.rows} if shape.rows > 1 else {}
    if shape.refused is not None:
        with pytest.raises((TypeError, ValueError), match=shape.refused) as told:
            quick_export(module, folder / "m.lnn", **options)
        assert "report" not in str(told.value)
        return str(told.value)
    quick_export(module, folder / "m.lnn", **options)
    expected, samples, spans = by_author(shape)
    model = lnn_edge.load(folder / "m.lnn")
    window = {} if shape.windows is None else {"window": shape.windows[0], "every": shape.windows[1]}
    inputs = {name: x.numpy() for name, x in samples.items()}
    dt_s = spans.numpy() * np.float32(PERIOD_S) if shape.measured else None
    got = model.stream(**window).run(inputs if len(inputs) > 1 else next(iter(inputs.values())), dt_s=dt_s)
    got = got if isinstance(got, dict) else dict.fromkeys(expected, got)  # one output, whatever its author calls it
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name].reshape(value.shape), value, rtol=LIMIT, atol=LIMIT)
    return ""


def by_author(shape: Shape) -> tuple[dict[str, np.ndarray], Samples, torch.Tensor | None]:
    """What the author's own use gives on other samples, by output; those samples and timespans."""
    torch.manual_seed(1)
    module = shape.build().eval()
    drawn = shape.samples(7)
    drawn = drawn if isinstance(drawn, dict) else {"x": drawn}
    time_first = any(not getattr(part, "batch_first", True) for part in module.modules())
    if shape.rows > 1:
        assert shape.author is batches
        samples = {n: torch.from_numpy(np.swapaxes(x[: shape.rows], 0, 1).copy()) for n, x in drawn.items()}
    else:
        samples = {n: torch.from_numpy((x[:, 0] if time_first else x[0]).copy()) for n, x in drawn.items()}
    spans = _timespans(shape, len(next(iter(samples.values()))))
    with torch.no_grad():
        results = shape.author(module, samples, spans)
    return _by_output(results), samples, spans


def _timespans(shape: Shape, steps: int) -> torch.Tensor | None:
    """What the author passes: times of any size where they are measured, one number where the training had one."""
    if shape.measured:
        return torch.from_numpy(np.random.default_rng(9).uniform(0.3, 3.0, steps).astype(np.float32))
    fixed = shape.options.get("timespan")
    return None if fixed is None else torch.full((steps,), fixed)


def _by_output(results: list[Any]) -> dict[str, np.ndarray]:
    if isinstance(results[0], dict):
        return {name: np.stack([y[name].numpy() for y in results]) for name in results[0]}
    if isinstance(results[0], (tuple, list)):
        return {f"output_{k}": np.stack([y[k].numpy() for y in results]) for k in range(len(results[0]))}
    return {"output": np.stack([y.numpy() for y in results])}
