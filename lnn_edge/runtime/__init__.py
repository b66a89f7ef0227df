"""The device half: load a bundle, step it, measure it. Needs NumPy and a backend, never torch, onnx or ncps."""

from __future__ import annotations

from .loading import load
from .model import Model
from .state import State
from .stream import Stream

__all__ = ["Model", "State", "Stream", "load"]
