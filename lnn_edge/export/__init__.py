"""The workstation half: ncps modules to proven bundles. Needs the extra `export` (torch, ncps, onnx).

exporting       `export_model`
request         what it was asked for
arguments       its arguments, checked
reading         what the example shows of the model
named_example   the example's named columns, in the order of the inputs
recordings      the example, as recordings of each input
limits          limits of inputs around the range of the example
whole_numbers   how far whole numbers may go
cores           the recurrent cores in a model
forward         the user's forward
trained         what a trained model gives
trace           what surrounds the cores, traced and translated
lowering        cores as nodes
graph           the ONNX graph
step_graph      the whole step as a graph
proof           the proof
windows         what a kept state changes in a model of windows
proven_bundle   a bundle written, proven and put in place, or nothing
verify_against  the proof again, for `verify --against`
checkpoint      where trained weights come from
provenance      where a bundle comes from
torch_settings  what is set in torch for a while: threads, gradients, defaults
"""

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
