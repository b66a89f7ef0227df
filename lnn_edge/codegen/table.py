"""The table of what C has: which function writes which node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..bundle.operations import Node, Operation
from ..bundle.program import Program
from ..bundle.step_cores import Core
from .cores.cfc import emit_cfc
from .cores.gru import emit_gru
from .cores.lstm import emit_lstm
from .cores.ltc import emit_ltc
from .cores.rnn import emit_rnn
from .emission import Emission
from .ops.each import EACH
from .ops.moves import concat, expand, gather, reshape, slice_, transpose
from .ops.products import gemm, layer_normalization, matmul
from .ops.reductions import reduction, softmax
from .ops.windows import conv, pool

__all__ = ["EMITTED", "Emit", "missing"]

Emit = Callable[[Emission, Any], None]

EMITTED: Mapping[str, Emit] = {
    "ltc": emit_ltc,
    "cfc": emit_cfc,
    "gru": emit_gru,
    "lstm": emit_lstm,
    "rnn": emit_rnn,
    **EACH,
    "Reshape": reshape,
    "Expand": expand,
    "Transpose": transpose,
    "Slice": slice_,
    "Gather": gather,
    "Concat": concat,
    **dict.fromkeys(["Softmax", "LogSoftmax"], softmax),
    **dict.fromkeys(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"], reduction),
    "Gemm": gemm,
    "MatMul": matmul,
    "LayerNormalization": layer_normalization,
    "Conv": conv,
    **dict.fromkeys(["MaxPool", "AveragePool"], pool),
}


def missing(program: Program) -> Iterator[str]:
    """What C has no words for, each with its place in the user's model."""
    for node in program.nodes:
        if node.kind not in EMITTED:
            yield f"operation {node.kind} ({_place(node)})"


def _place(node: Node) -> str:
    own = node.name if isinstance(node, Core) else node.made()[0]
    return node.where or own if isinstance(node, (Core, Operation)) else own
