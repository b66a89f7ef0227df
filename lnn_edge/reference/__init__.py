"""Plain NumPy float64 cells, written equation by equation: what every export and every backend is judged by."""

from __future__ import annotations

from .cfc import CfcCell, CfcLayer
from .core import LiquidCore
from .lstm import LstmCell
from .ltc import LtcCell

__all__ = ["CfcCell", "CfcLayer", "LiquidCore", "LstmCell", "LtcCell"]
