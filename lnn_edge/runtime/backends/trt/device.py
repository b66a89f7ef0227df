"""The GPU: whether it can be used, what it is, and memory that frees itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ....errors import BackendUnavailable
from ....machine.jetson import closed_devices
from ....wording import other_backend_advice
from ..layout import Slab
from .cuda_stream import CudaStream
from .cudart import FLAGS, CudaError, Cudart, gpu_free, open_cudart
from .driver_trial import why_the_driver_fails

__all__ = ["Device", "DeviceMemory", "Facts", "HostMemory", "open_device", "unavailable"]

_OLDEST_CUDA = 11080
_NO_DEVICE, _INSUFFICIENT_DRIVER, _OUT_OF_MEMORY = 100, 35, 2


@dataclass(frozen=True)
class Facts:
    """What an engine depends on.

    Args:
        name: Of the device, "Orin" for instance.
        compute_capability: "8.7" for instance.
        multiprocessors: Their number.
        integrated: Whether GPU and CPU share memory, as on every Jetson.
        driver, runtime: CUDA versions, "12.6" for instance.
    """

    name: str
    compute_capability: str
    multiprocessors: int
    integrated: bool
    driver: str
    runtime: str


class DeviceMemory:
    """Memory on the device, not initialised, freed with the object."""

    def __init__(self, cudart: Cudart, nbytes: int) -> None:
        self.address = int(cudart.call("cudaMalloc", nbytes))
        self.nbytes = nbytes
        gpu_free(self, cudart, "cudaFree", self.address)


class HostMemory:
    """Pinned memory that CPU and GPU both see.

    Attributes:
        array: All of it, float32, zeroed. It and views of it keep the memory alive.
        host_address: Where the CPU sees it.
        address: Where the GPU sees it.
    """

    def __init__(self, cudart: Cudart, nbytes: int) -> None:
        pinned = _Pinned(cudart, nbytes)
        self.array: npt.NDArray[np.float32] = np.asarray(pinned)
        self.array[...] = 0.0
        self.host_address = pinned.pointer
        self.address = int(cudart.call("cudaHostGetDevicePointer", pinned.pointer, 0))

    def views(self, slab: Slab) -> dict[str, npt.NDArray[np.float32]]:
        """Tensors in this memory, by name."""
        return slab.views(self.array)


class _Pinned:
    """Owner of pinned memory; NumPy keeps it as the base of every view, so results outlive their stream."""

    def __init__(self, cudart: Cudart, nbytes: int) -> None:
        self.pointer = int(cudart.call("cudaHostAlloc", nbytes, FLAGS["cudaHostAllocMapped"]))
        gpu_free(self, cudart, "cudaFreeHost", self.pointer)
        shape = (nbytes // 4,)
        self.__array_interface__ = {"version": 3, "typestr": "<f4", "shape": shape, "data": (self.pointer, False)}


class Device:
    """GPU 0 of this process, with a driver that works."""

    def __init__(self, cudart: Cudart) -> None:
        self.cudart = cudart
        _probe(cudart)
        self.facts = _facts(cudart)

    def select(self) -> None:
        """Make it the device of this thread, whatever another library chose."""
        self.cudart.call("cudaSetDevice", 0)

    def memory(self, nbytes: int) -> DeviceMemory:
        """Allocate device memory."""
        return DeviceMemory(self.cudart, nbytes)

    def host_memory(self, nbytes: int) -> HostMemory:
        """Allocate pinned memory that the GPU sees as well."""
        return HostMemory(self.cudart, nbytes)

    def cuda_stream(self, wait: str) -> CudaStream:
        """Make a stream; for "spin", from then on every wait of this process for this GPU spins."""
        if wait == "spin":
            flags = self.cudart.call("cudaGetDeviceFlags")
            # Neither the default, which on a low-power Jetson sleeps, nor what another library chose. Mapping host
            # memory is always on, and not a flag that may be set.
            kept = flags & ~(FLAGS["cudaDeviceScheduleMask"] | FLAGS["cudaDeviceMapHost"])
            self.cudart.call("cudaSetDeviceFlags", kept | FLAGS["cudaDeviceScheduleSpin"])
        return CudaStream(self.cudart, wait)

    def spins(self) -> bool:
        """Whether waiting for it keeps a core busy; another library may have chosen otherwise since."""
        flags = int(self.cudart.call("cudaGetDeviceFlags"))
        return flags & FLAGS["cudaDeviceScheduleMask"] == FLAGS["cudaDeviceScheduleSpin"]


@lru_cache(maxsize=1)
def open_device() -> Device:
    """Open GPU 0; nothing of TensorRT is touched before this has worked.

    Raises:
        BackendUnavailable: If there is no runtime library, no driver, one that crashes, no GPU, or a version that
            does not fit.
    """
    broken = why_the_driver_fails()
    if broken:
        raise BackendUnavailable(f"{broken}. Install the driver again, then type: nvidia-smi")
    cudart = open_cudart()
    try:
        return Device(cudart)
    except CudaError as error:
        raise unavailable(error) from error


def unavailable(error: CudaError) -> BackendUnavailable:
    """A CUDA call that failed while something was made ready, as an error for users."""
    full = error.code == _OUT_OF_MEMORY
    hint = "The GPU's memory is full: stop what uses it" if full else _closed() or "Type: lnn-edge doctor"
    return BackendUnavailable(f"the GPU cannot be used: {error}. {hint}")


def _probe(cudart: Cudart) -> None:
    """Say in words why there is no GPU to use. Nothing is initialised, and no choice of another library changed."""
    driver, runtime = _version(cudart, "cudaDriverGetVersion"), _version(cudart, "cudaRuntimeGetVersion")
    try:
        count = int(_ask(cudart, "cudaGetDeviceCount"))
    except CudaError as error:
        if error.code == _INSUFFICIENT_DRIVER:
            raise BackendUnavailable(_driver_message(cudart, driver, runtime)) from error
        if error.code != _NO_DEVICE:
            raise
        count = 0
    if count < 1:
        hint = _closed() or "Type: nvidia-smi; echo $CUDA_VISIBLE_DEVICES"
        raise BackendUnavailable(f"no CUDA GPU is visible. {hint}")
    if runtime < _OLDEST_CUDA:
        raise BackendUnavailable(
            f"the CUDA runtime ({cudart.name}) is {_dotted(runtime)}, expected 11.8 or newer. "
            f"Type: pip install 'cuda-bindings=={driver // 1000}.*'"
        )


def _version(cudart: Cudart, function: str) -> int:
    """The newest CUDA that the driver supports, or that of the runtime; 0 where a missing driver hides it."""
    try:
        return int(_ask(cudart, function))
    except CudaError as error:
        if error.code == _INSUFFICIENT_DRIVER:
            return 0
        raise


def _closed() -> str:
    """What to do where this user may not open the GPU, which CUDA calls an unknown error or no device; or ""."""
    closed = closed_devices()
    if not closed:
        return ""
    groups = sorted({file.group for file in closed})
    named = f"This user may not open {closed[0].path}"
    if "root" in groups:
        return f"{named}. Type: ls -l {closed[0].path}"
    return f"{named}; log in again after this. Type: sudo usermod -aG {','.join(groups)} $USER"


def _ask(cudart: Cudart, name: str, *arguments: Any) -> Any:
    """As `call`; old versions of cuda-bindings raise a RuntimeError of their own where there is no driver."""
    try:
        return cudart.call(name, *arguments)
    except CudaError:
        raise
    except RuntimeError as error:
        raise CudaError(name, _INSUFFICIENT_DRIVER, str(error)) from error


def _driver_message(cudart: Cudart, driver: int, runtime: int) -> str:
    if driver == 0:
        return "there is no CUDA driver on this machine (libcuda.so.1 is missing or too old). Type: lnn-edge doctor"
    return (
        f"the CUDA driver supports CUDA {_dotted(driver)}, but the runtime ({cudart.name}) is {_dotted(runtime)}. "
        f"Type: pip install 'cuda-bindings=={driver // 1000}.*'"
    )


def _facts(cudart: Cudart) -> Facts:
    def attribute(name: str) -> int:
        return int(cudart.call("cudaDeviceGetAttribute", cudart.constant(f"cudaDevAttr{name}"), 0))

    if not attribute("CanMapHostMemory"):
        raise BackendUnavailable(
            f"this GPU cannot map host memory, which the step needs. {other_backend_advice('onnxruntime')}"
        )
    return Facts(
        name=cudart.device_name(),
        compute_capability=f"{attribute('ComputeCapabilityMajor')}.{attribute('ComputeCapabilityMinor')}",
        multiprocessors=attribute("MultiProcessorCount"),
        integrated=bool(attribute("Integrated")),
        driver=_dotted(int(cudart.call("cudaDriverGetVersion"))),
        runtime=_dotted(int(cudart.call("cudaRuntimeGetVersion"))),
    )


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
