"""What the trained torch module gives when it is called once on a whole sequence, and the sequences."""

from __future__ import annotations

import numpy as np
import torch
from cases import BY_NAME, INPUTS
from exports import locked, shared_folder

from lnn_edge.export.trained.weights import quick_lookup

PERIOD_S, TIMESPAN = 0.05, 2.0
STEPS = 1000
LIMIT = 1e-5  # the promise of the issue, absolute; states and outputs of these models are of order 1


def offline(module, x, dt_s=None):
    """Outputs of the torch module called once on the whole sequence, (T, outputs)."""
    axis = 0 if module.batch_first else 1
    dtype = next(module.parameters()).dtype
    last_only, module.return_sequences = not module.return_sequences, True
    spans = None
    if dt_s is not None:
        spans = torch.from_numpy(dt_s.astype(np.float64) * TIMESPAN / PERIOD_S).to(dtype).unsqueeze(axis)
    with torch.inference_mode(), quick_lookup([module]):  # less to keep account of than under no_grad
        width = module.state_size
        zeros = torch.zeros(1, width, dtype=dtype)
        hx = (zeros, zeros.clone()) if module.use_mixed else zeros
        y, _ = module.eval()(torch.from_numpy(x).to(dtype).unsqueeze(axis), hx, timespans=spans)
    module.return_sequences = not last_only
    return y.squeeze(axis).to(torch.float32).numpy()


def samples(seed, steps=STEPS):
    return np.random.default_rng(seed).standard_normal((steps, INPUTS)).astype(np.float32)


def jittered(seed, steps=STEPS):
    return (PERIOD_S * np.random.default_rng(seed).uniform(0.5, 3.0, steps)).astype(np.float32)


def whole_sequence(factory, name, *, measured=False, steps=STEPS):
    """Samples and times of a case, and its `offline` outputs over them: computed once in a run for all that compare.

    The first of `STEPS`: what comes later changes nothing before. Times are `None` unless they are measured.
    """
    x, dt_s = samples(1), jittered(2) if measured else None
    path = shared_folder(factory) / f"{name}-{'measured' if measured else 'fixed'}.npy"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            np.save(path, offline(BY_NAME[name].build(), x, dt_s))
    return x[:steps], None if dt_s is None else dt_s[:steps], np.load(path)[:steps]
