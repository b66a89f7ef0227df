"""Plain NumPy float64 steps, written equation by equation: what every export and every backend is judged by.

functions     scalar functions
ltc           the LTC cell
cfc           the CfC cell
recurrent     torch's GRU, LSTM and RNN
cells         the cells of a step program
operations    the operations of a step program
timespans     what a core takes as timespan
interpreter   a whole step program, one step
closed_loop   many steps of it
"""

from __future__ import annotations

from .cfc import CfcCell, CfcLayer
from .ltc import AffineMap, LtcCell, Synapses
from .recurrent import GruLayer, LstmLayer, RnnLayer

__all__ = ["AffineMap", "CfcCell", "CfcLayer", "GruLayer", "LstmLayer", "LtcCell", "RnnLayer", "Synapses"]
