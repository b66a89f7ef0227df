"""Two doors to the machine that look as the real ones: `cuda.bindings.runtime`, and libcudart for ctypes.

The first takes its signatures, enumerations and handle types from the installed cuda-bindings, so that a call which
the package would refuse fails here as well.
"""

from __future__ import annotations

import ctypes
import re
import types

from cuda.bindings import runtime as real

HANDLES = {
    "cudaStreamCreateWithFlags": "cudaStream_t",
    "cudaEventCreateWithFlags": "cudaEvent_t",
    "cudaStreamEndCapture": "cudaGraph_t",
    "cudaGraphInstantiateWithFlags": "cudaGraphExec_t",
}
RESULTS = {  # functions that return something beside the error
    *HANDLES, "cudaMalloc", "cudaHostAlloc", "cudaHostGetDevicePointer", "cudaGetDeviceCount", "cudaEventElapsedTime",
    "cudaRuntimeGetVersion", "cudaDriverGetVersion", "cudaDeviceGetAttribute", "cudaGetDeviceFlags",
}  # fmt: skip
ERROR_TEXTS = {2: b"out of memory", 35: b"CUDA driver version is insufficient for CUDA runtime version"}


def parameters(name):
    """[(name, type or None)] from the first line of the real function's documentation."""
    line = getattr(real, name).__doc__.split("\n")[0]
    inside = re.fullmatch(rf"{name}\((.*)\)", line).group(1)
    return [parameter(text) for text in inside.split(", ") if text]


def parameter(text):
    name, _, kind = text.partition(": ")
    if kind:
        return name, getattr(real, kind)
    return name.split()[-1], int if " " in name else None  # "size_t size", or "stream": a handle or an address


def bindings(machine, names):
    """A module that stands for cuda.bindings.runtime."""
    module = types.ModuleType("cuda.bindings.runtime")
    for enum in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"):
        setattr(module, enum, getattr(real, enum))
    for name in names:
        setattr(module, name, _function(machine, name))
    module.cudaGetErrorString = lambda error: (real.cudaError_t.cudaSuccess, real.cudaGetErrorString(error)[1])
    module.cudaGetDeviceProperties = lambda device: _properties(machine, device)
    return module


def _function(machine, name):
    expected = parameters(name)

    def call(*arguments):
        if len(arguments) != len(expected):
            raise TypeError(f"{name} takes {len(expected)} positional arguments, {len(arguments)} given")
        for (parameter, kind), value in zip(expected, arguments, strict=True):
            if kind is not None and not isinstance(value, kind):
                raise TypeError(f"{name}: '{parameter}' is {value!r}, expected {kind.__name__}")
        code, result = machine.call(name, *(int(value) for value in arguments))
        if name not in RESULTS:
            return (real.cudaError_t(code),)
        if name in HANDLES and code == 0:
            result = getattr(real, HANDLES[name])(result)
        return real.cudaError_t(code), result

    return call


def _properties(machine, device):
    properties = real.cudaDeviceProp()
    properties.name = machine.name.encode().ljust(256, b"\0")
    return real.cudaError_t.cudaSuccess, properties


class Library:
    """libcudart as ctypes opens it."""

    def __init__(self, machine):
        self._machine = machine

    def __getattr__(self, name):
        function = Function(self._machine, name)
        setattr(self, name, function)
        return function


class Function:
    def __init__(self, machine, name):
        self.machine, self.name, self.argtypes, self.restype = machine, name, None, ctypes.c_int

    def __call__(self, *arguments):
        if self.name == "cudaGetErrorString":
            return ERROR_TEXTS.get(arguments[0], b"some error")
        if self.name == "cudaGetDeviceProperties":
            arguments[0].value = self.machine.name.encode()
            return 0
        if len(arguments) != len(self.argtypes):
            raise TypeError(f"this function takes {len(self.argtypes)} arguments ({len(arguments)} given)")
        results = [a._obj for a in arguments if hasattr(a, "_obj")]
        inputs = [a for a in arguments if not hasattr(a, "_obj")]
        code, result = self.machine.call(self.name, *(value or 0 for value in inputs))
        if results and code == 0:
            results[0].value = result
        return code
