"""The workstation half: ncps modules to proven bundles. Needs the extra `export` (torch, ncps, onnx)."""

from __future__ import annotations

try:
    import ncps
    import onnx
    import torch
except ImportError as _error:
    raise ImportError(
        f"exporting needs torch, ncps and onnx, and '{_error.name}' is not installed. "
        "Type: pip install 'lnn-edge[export]'"
    ) from _error

from ..verify.report import ExportReport
from .checkpoint.save_load import load_checkpoint, save_checkpoint
from .exporting import export_model

__all__ = ["ExportReport", "export_model", "load_checkpoint", "save_checkpoint"]

del ncps, onnx, torch
