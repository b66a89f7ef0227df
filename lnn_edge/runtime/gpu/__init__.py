"""The `tensorrt` backend for NVIDIA GPUs: CUDA, TensorRT, the engine cache and the stepper."""

from __future__ import annotations

__all__: list[str] = []
