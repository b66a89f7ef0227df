"""Pass of an ncps layer over whole sequences, faster than its own loop: the same outputs, states and gradients.

Where the layer is what ncps builds, the loop is hand-written (see `time_loop`); where it is not, or where one sample
comes alone, its cell is stepped as ncps does. Either way time spans belong to their row; ncps' own loop mixes the rows
up (github.com/mlech26l/ncps, issues 81 to 83).
"""

from __future__ import annotations

from typing import Any

import torch
from ncps.torch import LTC, CfC, WiredCfCCell
from torch import Tensor

from .cfc_fold import Skew, encoding_of, lstm_stage, skewed_stage, stacked_stages, unwired_stages
from .ltc_fold import ltc_outputs, ltc_stage
from .support import has_own_forward, is_covered
from .time_loop import run_loop

__all__ = ["unrolled"]

_State = Tensor | tuple[Tensor, Tensor]


def unrolled(
    core: torch.nn.Module, x: Tensor, state: _State | None = None, timespans: Tensor | None = None
) -> tuple[Tensor, _State]:
    """Run an ncps layer over a batch of sequences.

    Its outputs, next state and gradients are those of stepping its cell, within rounding
    (tests/train/test_unrolled.py). A second derivative is refused.

    Args:
        core: An `LTC` or `CfC` of ncps.torch. Its `return_sequences` and `batch_first` do not matter here.
        x: Inputs, (B, T, features), float32 or float64 like the weights; T at least 1.
        state: The state before the first step: (B, units), with mixed memory a pair of them; (1, units) goes for all
            rows; `None` for zeros.
        timespans: (B, T), > 0, in the unit of training; `None` for 1.

    Returns:
        The outputs of every step, (B, T, outputs), and the next state as ncps returns it.

    Raises:
        TypeError: If `core` is no ncps layer.
        ValueError: If a shape does not fit.
        RuntimeError: In the backward pass, if that is to be differentiated again.
    """
    if not isinstance(core, (LTC, CfC)):
        raise TypeError(
            f"`core` is {type(core).__name__}, expected an LTC or CfC of ncps.torch. Call the module itself"
        )
    layer: Any = core
    _check_sequences(layer, x, timespans)
    h, c = _states(layer, x, state)
    if has_own_forward(core):
        return _run_layer(layer, x, h, c, timespans)
    values = tuple(v for v in (x, h, c, timespans) if v is not None)
    # a sample alone, as a forecast takes them, costs what is prepared for a loop; the cell takes half of that or less
    alone = x.shape[:2] == (1, 1) and not torch.is_grad_enabled()
    if alone or not is_covered(core, values):
        return _step_cell(layer, x, h, c, timespans)
    by_step = x.transpose(0, 1)
    spans = None if timespans is None else timespans.t()
    run = _run_ltc if isinstance(core, LTC) else _run_cfc
    outputs, h, c = run(layer, by_step, h, c, spans)
    return outputs.transpose(0, 1), h if c is None else (h, c)


def _run_ltc(core: Any, x: Tensor, h: Tensor, c: Tensor | None, spans: Tensor | None) -> tuple[Tensor, Tensor, Any]:
    stage = ltc_stage(core.rnn_cell, x, spans, flip=c is not None)
    if c is not None:
        states, c = run_loop([lstm_stage(core.lstm, x, encoding_of("ltc")), stage], h, len(x), c)
    else:
        states = run_loop([stage], h.t().contiguous(), len(x))[0].transpose(1, 2)
    return ltc_outputs(core.rnn_cell, states), states[-1], c


def _run_cfc(core: Any, x: Tensor, h: Tensor, c: Tensor | None, spans: Tensor | None) -> tuple[Tensor, Tensor, Any]:
    cell, wired = core.rnn_cell, type(core.rnn_cell) is WiredCfCCell
    cells = cell._layers if wired else [cell]
    carried, skew = encoding_of(cells[0].mode), Skew(tuple(layer.hidden_size for layer in cells), len(x))
    start = carried.encoded(h)
    if wired and c is None:
        states, _ = run_loop([skewed_stage(cells, x, spans, skew)], start, skew.ticks)
        outputs, last = skew.gathered(carried.decoded(states))
        return core.fc(outputs), last, None
    stages = stacked_stages(cells, x, spans, skew) if wired else unwired_stages(cell, x, spans)
    if c is not None:
        stages.insert(0, lstm_stage(core.lstm, x, carried))
    states, memory = run_loop(stages, start, len(x), c)
    states = carried.decoded(states)
    return core.fc(states[:, :, skew.slots[-1]]), states[-1], None if c is None else memory


def _step_cell(core: Any, x: Tensor, h: Tensor, c: Tensor | None, timespans: Tensor | None) -> tuple[Tensor, _State]:
    """What ncps' own loop does, with one time span per row."""
    outputs = []
    for t in range(x.shape[1]):
        span = 1.0 if timespans is None else timespans[:, t : t + 1]
        if c is not None:
            h, c = core.lstm(x[:, t], (h, c))
        y, h = core.rnn_cell.forward(x[:, t], h, span)
        outputs.append(core.fc(y) if isinstance(core, CfC) else y)
    return torch.stack(outputs, dim=1), h if c is None else (h, c)


def _run_layer(core: Any, x: Tensor, h: Tensor, c: Tensor | None, timespans: Tensor | None) -> tuple[Tensor, _State]:
    """Call the layer itself: on all rows where that is right, row by row where they have time spans."""
    if timespans is None or len(x) == 1:
        return _call_layer(core, x, h, c, timespans)
    rows = range(len(x))
    memories: list[Any] = [None if c is None else c[k : k + 1] for k in rows]
    each = [_call_layer(core, x[k : k + 1], h[k : k + 1], memories[k], timespans[k : k + 1]) for k in rows]
    outputs, states = zip(*each, strict=True)
    if c is None:
        return torch.cat(outputs), torch.cat(states)
    return torch.cat(outputs), (torch.cat([s[0] for s in states]), torch.cat([s[1] for s in states]))


def _call_layer(core: Any, x: Tensor, h: Tensor, c: Tensor | None, timespans: Tensor | None) -> tuple[Tensor, _State]:
    whole, core.return_sequences = core.return_sequences, True
    try:
        if not core.batch_first:
            x, timespans = x.transpose(0, 1), None if timespans is None else timespans.t()
        outputs, state = core(x, h if c is None else (h, c), timespans=timespans)
    finally:
        core.return_sequences = whole
    return outputs if core.batch_first else outputs.transpose(0, 1), state


def _check_sequences(core: Any, x: Tensor, timespans: Tensor | None) -> None:
    features = core.input_size
    if x.dim() != 3 or x.shape[2] != features or 0 in x.shape[:2]:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}, expected (sequences, steps, {features}) with at least one of each. "
            "For one sequence type: x.unsqueeze(0)"
        )
    if timespans is not None and timespans.shape != x.shape[:2]:
        raise ValueError(
            f"`timespans` has shape {tuple(timespans.shape)}, expected {tuple(x.shape[:2])}, one per sequence and "
            "step. For the same in all sequences type: timespans.expand(len(x), -1)"
        )


def _states(core: Any, x: Tensor, state: _State | None) -> tuple[Tensor, Tensor | None]:
    """The states before the first step, (B, units), the second with mixed memory only."""
    shape = (len(x), core.state_size)
    if state is None:
        return x.new_zeros(shape), x.new_zeros(shape) if core.use_mixed else None
    parts = state if isinstance(state, tuple) else (state,)
    if len(parts) != 1 + core.use_mixed:
        expected = "a pair (h, c): the layer has mixed memory" if core.use_mixed else "one tensor"
        raise ValueError(f"`state` is {len(parts)} tensor(s), expected {expected}. Pass what the last call returned")
    for part in parts:
        if part.shape not in (shape, (1, shape[1])):
            raise ValueError(
                f"`state` has a tensor of shape {tuple(part.shape)}, expected {shape}. Pass what the last call returned"
            )
    h, *memory = (part.expand(shape) for part in parts)
    return h, memory[0] if memory else None
