"""Plain NumPy float64 cells, written equation by equation: what every export and every backend is judged by.

ltc        the LTC cell
cfc        the CfC cell
lstm       the memory cell of `mixed_memory`
core       a whole liquid core
recurrent  torch's GRU, LSTM and RNN
functions  scalar functions
"""

from __future__ import annotations

from .cfc import CfcCell, CfcLayer
from .core import LiquidCore, ReferenceCore
from .lstm import LstmCell
from .ltc import LtcCell
from .recurrent import GruLayer, LstmLayer, RecurrentCore, RnnLayer

__all__ = [
    "CfcCell",
    "CfcLayer",
    "GruLayer",
    "LiquidCore",
    "LstmCell",
    "LstmLayer",
    "LtcCell",
    "RecurrentCore",
    "ReferenceCore",
    "RnnLayer",
]
