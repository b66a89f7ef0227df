"""Pooling over time in a user's forward, found by what it gives: the last output of a recording, or a mean of some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ...arrays import Array
from ...bundle.spec import Readout, Tensor, Time
from ...runtime.readouts import LAST, read_out
from ...verify.samples import Excitation
from .protocol import Trained

__all__ = ["pooling"]

_STEPS = 64  # the longest mean of last outputs that is found is a sample shorter
_CLOSE = 1e-4  # of the outputs' size: far above rounding, far below what another mean gives


def pooling(model: Trained, recording: Mapping[str, Array]) -> Readout | None:
    """How a forward that returns one output for a whole recording makes it of the outputs of its samples.

    Args:
        model: The model, which steps.
        recording: Samples by input, (T, batch, ...); they are made to differ from one another.

    Returns:
        The readout; `None` if it is nothing that is known here.
    """
    gain = np.random.default_rng(0).uniform(0.5, 1.5, _STEPS)
    inputs = {
        t.name: _differing(np.resize(recording[t.name], (_STEPS, *recording[t.name].shape[1:])), t, gain)
        for t in model.inputs
    }
    first = np.zeros(_STEPS, np.uint8)
    first[0] = 1
    samples, time = Excitation(inputs, None, first, ()), Time("fixed")
    known = model.whole(samples, time)
    stepped = {name: value for name, value in model.stepped(samples, time).items() if name in known}

    def equal(readout: Readout) -> bool:
        return all(
            np.allclose(
                read_out(readout, value, first)[known[name][0]],
                known[name][1],
                rtol=0,
                atol=_CLOSE * np.abs(value).max(),
            )
            for name, value in stepped.items()
        )

    if not all(np.isfinite(value).all() for value in (*stepped.values(), *(values for _, values in known.values()))):
        return None
    return next((readout for readout in _candidates() if equal(readout)), None)


def _differing(rows: Array, tensor: Tensor, gain: Array) -> Array:
    """Samples of which no two are equal, if they are numbers that may be of any size."""
    if tensor.constant or tensor.dtype != "float32":
        return rows
    spread = gain.reshape(-1, *[1] * (rows.ndim - 1))
    if tensor.center:
        others: Array = np.array(tensor.center) + (rows - np.array(tensor.center)) * spread
        return others
    return (rows * spread).astype(np.float32)


def _candidates() -> Iterator[Readout]:
    yield LAST
    yield Readout("mean")
    yield from (Readout("mean", over) for over in range(2, _STEPS))
