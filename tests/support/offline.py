"""The trained torch module, called once on a whole sequence, and the sequences."""

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
    spans = None if dt_s is None else torch.from_numpy(_spans(dt_s)).unsqueeze(0 if module.batch_first else 1)
    return _called(module, x[:, None], spans)[:, 0]


def _called(module, x, spans):
    """Outputs for rows of samples, (T, rows, outputs)."""
    dtype, rows = next(module.parameters()).dtype, x.shape[1]
    last_only, module.return_sequences = not module.return_sequences, True
    with torch.inference_mode(), quick_lookup([module]):  # less to keep account of than under no_grad
        zeros = torch.zeros(rows, module.state_size, dtype=dtype)
        hx = (zeros, zeros.clone()) if module.use_mixed else zeros
        given = torch.from_numpy(np.swapaxes(x, 0, 1) if module.batch_first else x).to(dtype)
        y, _ = module.eval()(given, hx, timespans=None if spans is None else spans.to(dtype))
    module.return_sequences = not last_only
    outputs = y.to(torch.float32).numpy()
    return np.swapaxes(outputs, 0, 1) if module.batch_first else outputs


def _spans(dt_s):
    """Timespans as the training passed them."""
    return dt_s.astype(np.float64) * TIMESPAN / PERIOD_S


def samples(seed, steps=STEPS):
    return np.random.default_rng(seed).standard_normal((steps, INPUTS)).astype(np.float32)


def jittered(seed, steps=STEPS):
    return (PERIOD_S * np.random.default_rng(seed).uniform(0.5, 3.0, steps)).astype(np.float32)


def whole_sequence(factory, name, *, measured=False, steps=STEPS):
    """Samples and times of a case, and what torch gives for them: computed once in a run for all that compare.

    The first of `STEPS`: what comes later changes nothing before. Times are `None` unless they are measured.
    """
    x, dt_s = samples(1), jittered(2)
    path = shared_folder(factory) / f"{name}.npy"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            np.save(path, _fixed_and_measured(BY_NAME[name].build(), x, dt_s))
    return x[:steps], dt_s[:steps] if measured else None, np.load(path)[:steps, int(measured)]


def _fixed_and_measured(module, x, dt_s):
    """Outputs over the same samples with each of two times, (T, 2, outputs): rows of one batch, in half the time."""
    return _called(module, np.stack([x, x], axis=1), _OwnTimes(np.stack([np.ones(len(x)), _spans(dt_s)])))


class _OwnTimes:
    """Timespans of rows, (rows, T), that ncps looks up for each sample; of a tensor it would mix those of rows."""

    def __init__(self, spans):
        self._spans, self._sample = torch.from_numpy(spans).unsqueeze(-1), 0

    def to(self, dtype):
        self._spans = self._spans.to(dtype)
        return self

    def __getitem__(self, place):
        self._sample = place[1] if isinstance(place, tuple) else place
        return self

    def squeeze(self):
        return self._spans[:, self._sample]
