"""Backends: one file or folder for each row of the table in `lnn_edge/backends.py`.

ort           onnxruntime on the CPU
trt           TensorRT on an NVIDIA GPU
layout        size and place of each tensor in memory
build_cache   engines that were built on this device
"""
