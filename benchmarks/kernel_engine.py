"""A small kernel in the place of a TensorRT engine, for the GPU backend on a real GPU without TensorRT.

One step of `UNITS` neurons: h' = 0.9 * (the neighbour's h) + 0.1 * x, y = 2 * h'. Each neuron reads its neighbour, so
a state that is overwritten too early gives other numbers. `expected` computes the same bit for bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping

import numpy as np

from lnn_edge.runtime.backends.layout import ALIGNMENT, Layout, slab

UNITS = 64
SHAPE = (1, UNITS)
LAYOUT = Layout(
    sample=slab({"input": SHAPE}, ALIGNMENT),
    states=slab({"h_in": SHAPE}, ALIGNMENT),
    results=slab({"output": SHAPE, "h_out": SHAPE}, ALIGNMENT),
    pairs=(("h_in", "h_out"),),
)

# Separate products and sums, rounded to nearest: what NumPy's float32 does. Any GPU of compute 6.0 or newer takes it.
PTX = f"""
.version 7.0
.target sm_60
.address_size 64

.visible .entry step(.param .u64 x, .param .u64 h, .param .u64 y, .param .u64 next)
{{
    .reg .u32 %i, %j, %wraps;
    .reg .pred %last;
    .reg .u64 %x, %h, %y, %next, %own, %other;
    .reg .f32 %a, %b;

    mov.u32 %i, %tid.x;
    add.u32 %j, %i, 1;
    setp.eq.u32 %last, %j, {UNITS};
    selp.u32 %j, 0, %j, %last;
    mul.wide.u32 %own, %i, 4;
    mul.wide.u32 %other, %j, 4;

    ld.param.u64 %x, [x];
    ld.param.u64 %h, [h];
    ld.param.u64 %y, [y];
    ld.param.u64 %next, [next];
    add.u64 %x, %x, %own;
    add.u64 %h, %h, %other;
    add.u64 %y, %y, %own;
    add.u64 %next, %next, %own;

    ld.global.f32 %a, [%h];
    ld.global.f32 %b, [%x];
    mul.rn.f32 %a, %a, 0f{np.float32(0.9).view(np.uint32):08X};
    mul.rn.f32 %b, %b, 0f{np.float32(0.1).view(np.uint32):08X};
    add.rn.f32 %a, %a, %b;
    st.global.f32 [%next], %a;
    add.rn.f32 %a, %a, %a;
    st.global.f32 [%y], %a;
    ret;
}}
"""

Launch = Callable[[int, int, int, int, int], int]


def expected(x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output and next state of one step, float32."""
    after = np.float32(0.9) * np.roll(h, -1, axis=-1) + np.float32(0.1) * x
    with np.errstate(over="ignore"):
        return after + after, after


def load_kernel() -> Launch:
    """Compile the kernel by the driver; the CUDA runtime must have opened the device in this thread.

    Returns:
        Queues it: (stream, x, h, y, next h), all as integers; gives the driver's error code.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    text = ctypes.create_string_buffer(PTX.encode())
    _require(driver.cuModuleLoadData(ctypes.byref(module), text), "cuModuleLoadData")
    _require(driver.cuModuleGetFunction(ctypes.byref(function), module, b"step"), "cuModuleGetFunction")

    def launch(stream: int, *addresses: int) -> int:
        values = [ctypes.c_uint64(address) for address in addresses]
        parameters = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        size = [1, 1, 1, UNITS, 1, 1, 0]  # blocks, threads, shared memory
        return int(driver.cuLaunchKernel(function, *size, ctypes.c_void_p(stream), parameters, None))

    return launch


def _require(error: int, what: str) -> None:
    if error:
        raise SystemExit(f"gpu.py: {what} failed with CUDA error {error}")


class KernelEngine:
    """What a stepper needs of `lnn_edge.runtime.backends.trt.engines.Engine`."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._error = 0

    def context(self, addresses: Mapping[str, int]) -> KernelContext:
        """The kernel at these addresses."""
        return KernelContext(self._queued, tuple(addresses[name] for name in ("input", "h_in", "output", "h_out")))

    def said(self) -> str:
        """Why it was refused last."""
        return f"cuLaunchKernel failed with CUDA error {self._error}"

    def _queued(self, stream: int, *addresses: int) -> bool:
        self._error = self._launch(stream, *addresses)
        return self._error == 0


class KernelContext:
    """What a stepper needs of a TensorRT execution context."""

    def __init__(self, queue: Callable[..., bool], addresses: tuple[int, ...]) -> None:
        self._queue, self._addresses = queue, addresses

    def execute_async_v3(self, stream: int) -> bool:
        """Queue the kernel; whether that worked."""
        return self._queue(stream, *self._addresses)
