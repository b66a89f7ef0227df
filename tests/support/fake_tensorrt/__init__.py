"""TensorRT and CUDA without a GPU: install them with `install`, and the backend cannot tell."""

from __future__ import annotations

import ctypes
import gc
import sys

from lnn_edge.runtime.backends.trt import cudart, device, engines

from . import cuda
from .library import make_library
from .machine import Machine, Misuse, Segfault
from .surface import FOR_RTX, VERSIONS

__all__ = ["FOR_RTX", "VERSIONS", "Fake", "Machine", "Misuse", "Segfault", "install"]


class Fake:
    """What was installed.

    Attributes:
        machine: The GPU.
        world: What TensorRT should do wrong, and what it was asked for.
        library: The module `tensorrt`.
    """

    def __init__(self, version: str, machine: Machine):
        self.machine, self.world = machine, {}
        self.library = make_library(version, machine, self.world)


def install(monkeypatch, version, tmp_path, *, ctypes_path=False, **facts) -> Fake:
    """Make `import tensorrt`, or that of TensorRT for RTX, and CUDA give the fakes; the caches are under `tmp_path`."""
    fake = Fake(version, Machine(**facts))
    name = "tensorrt_rtx_bindings" if version == FOR_RTX else "tensorrt"
    monkeypatch.setitem(sys.modules, name, fake.library)
    if version == FOR_RTX:
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # the meta package is not there
    if ctypes_path:
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        monkeypatch.setattr(ctypes, "CDLL", lambda path: cuda.Library(fake.machine))
    else:
        runtime = cuda.bindings(fake.machine, cudart.SIGNATURES)
        monkeypatch.setattr(sys.modules["cuda.bindings"], "runtime", runtime)
    monkeypatch.setattr(device, "why_the_driver_fails", str)  # the driver is a fake, and not that of this computer
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    return fake


def forget() -> None:
    """Forget what was opened, as a new process would have."""
    gc.collect()
    gc.freeze()  # what survived stays for long; else each of hundreds of collections looks at all of it
    for opened in (cudart.open_cudart, device.open_device, engines.open_tensorrt):
        opened.cache_clear()
