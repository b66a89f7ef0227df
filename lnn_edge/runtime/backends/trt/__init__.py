"""The `tensorrt` backend for NVIDIA GPUs: CUDA, TensorRT, the engine cache and the stepper.

Checked against the API of TensorRT 8.6, 10.3, 10.13, 10.16 and 11.4, of cuda-bindings and of libcudart, on a simulated
GPU (tests/fake_tensorrt). It has not run on hardware yet; examples/jetson/README.md says what to check there first.

    backend    what the table names: readiness, engine from the cache or new, streams
    stepper    one stream: buffers, feedback, capture, launch and wait
    figures    where the time of a step goes
    layout     sizes and offsets of every tensor, from the manifest
    options    what a user may choose
    cache      engines and their records in the user's folder
    building   a build in a thread, with progress and an end on Ctrl-C
    engines    the only code that touches TensorRT
    device     is there a GPU, what is it, memory
    streams    copies, graphs, waits
    cudart     the only code that touches CUDA
"""

from __future__ import annotations

__all__: list[str] = []
