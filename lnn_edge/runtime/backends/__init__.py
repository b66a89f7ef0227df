"""Backends: one file or folder for each row of the table in `lnn_edge/backends.py`.

ort           onnxruntime on the CPU
native        C, compiled on this machine
trt           TensorRT on an NVIDIA GPU
layout        size and place of each tensor in memory
build_cache   engines and libraries that were built on this device
forks         what the child of a fork inherits from threads that are not there
cache_check   what lies there, for `lnn-edge doctor`
"""
