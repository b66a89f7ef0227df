"""A whole core as a graph: memory cell, cell and projection, or torch's recurrent layers."""

from __future__ import annotations

import numpy as np

from ...reference import LiquidCore, LstmCell, LtcCell, RecurrentCore
from ..graph.builder import GraphBuilder
from .cfc import lower_cfc
from .ltc import lower_ltc
from .rnn import gated_memory, lower_recurrent
from .step_time import StepTime

__all__ = ["lower_core"]


def lower_core(
    graph: GraphBuilder, core: LiquidCore | RecurrentCore, x: str, states: dict[str, str], time: StepTime
) -> tuple[str, dict[str, str]]:
    """Add one step of a core.

    Args:
        graph: Where to.
        core: The core.
        x: Input value, (batch, inputs).
        states: State values by name, (batch, width) each.
        time: The timespan.

    Returns:
        Output value (batch, outputs) and next state values by name.
    """
    if isinstance(core, RecurrentCore):
        return lower_recurrent(graph, core, time.batch, x, states)
    h, memory = states["h"], {}
    if core.lstm is not None:
        h, memory["c"] = _lower_lstm(graph, core.lstm, x, h, states["c"])
    if isinstance(core.cell, LtcCell):
        y, h = lower_ltc(graph, core.cell, x, h, time)
    else:
        y, h = lower_cfc(graph, core.cell, x, h, time)
    if core.projection is not None:
        weight, bias = core.projection
        y = graph.linear(y, weight.T, bias)
    return y, {"h": h} | memory


def _lower_lstm(graph: GraphBuilder, cell: LstmCell, x: str, h: str, c: str) -> tuple[str, str]:
    """The memory cell (equations: `lnn_edge.reference.lstm`)."""
    units = cell.w_recurrent.shape[1]
    weight = np.concatenate([cell.w_input, cell.w_recurrent], axis=1).T
    bias = cell.b_input + np.concatenate([np.zeros(2 * units), np.ones(units), np.zeros(units)])
    candidate, input_gate, forget_gate, output_gate = (
        (weight[:, k : k + units], bias[k : k + units]) for k in range(0, 4 * units, units)
    )
    return gated_memory(graph, graph.concat([x, h]), c, candidate, input_gate, forget_gate, output_gate)
