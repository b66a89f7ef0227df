"""The CUDA runtime library: the only code that touches CUDA, 11.8 to 13.

Functions come from `cuda.bindings.runtime` where that package is installed, else straight from libcudart. Both ways
look the same from here: C names, results after the error code, constants by name.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ....errors import BackendUnavailable

__all__ = ["CONSTANTS", "FLAGS", "NOT_READY", "SIGNATURES", "CudaError", "Cudart", "gpu_free", "open_cudart"]

Function = Callable[..., tuple[Any, ...]]

# Type letters of every C function used here: p pointer or handle, i int, u unsigned, s size_t, l unsigned long long,
# f float; a capital letter is a result that C writes through a pointer.
SIGNATURES = {
    "cudaDeviceGetAttribute": "Iii",
    "cudaDriverGetVersion": "I",
    "cudaEventCreateWithFlags": "Pu",
    "cudaEventDestroy": "p",
    "cudaEventElapsedTime": "Fpp",
    "cudaEventRecord": "pp",
    "cudaEventRecordWithFlags": "ppu",
    "cudaEventSynchronize": "p",
    "cudaFree": "p",
    "cudaFreeHost": "p",
    "cudaGetDeviceCount": "I",
    "cudaGetDeviceFlags": "I",
    "cudaGetLastError": "",
    "cudaGraphDestroy": "p",
    "cudaGraphExecDestroy": "p",
    "cudaGraphInstantiateWithFlags": "Ppl",
    "cudaGraphLaunch": "pp",
    "cudaGraphUpload": "pp",
    "cudaHostAlloc": "Psu",
    "cudaHostGetDevicePointer": "Ppu",
    "cudaMalloc": "Ps",
    "cudaMemcpyAsync": "ppsip",
    "cudaRuntimeGetVersion": "I",
    "cudaSetDevice": "i",
    "cudaSetDeviceFlags": "u",
    "cudaStreamBeginCapture": "pi",
    "cudaStreamCreateWithFlags": "Pu",
    "cudaStreamDestroy": "p",
    "cudaStreamEndCapture": "pP",
    "cudaStreamQuery": "p",
    "cudaStreamSynchronize": "p",
}
# Enumerations that functions take, by C name; `cuda.bindings` wants its own types for them.
CONSTANTS = {
    "cudaDevAttrCanMapHostMemory": ("cudaDeviceAttr", 19),
    "cudaDevAttrComputeCapabilityMajor": ("cudaDeviceAttr", 75),
    "cudaDevAttrComputeCapabilityMinor": ("cudaDeviceAttr", 76),
    "cudaDevAttrIntegrated": ("cudaDeviceAttr", 18),
    "cudaDevAttrMultiProcessorCount": ("cudaDeviceAttr", 16),
    "cudaMemcpyDeviceToDevice": ("cudaMemcpyKind", 3),
    "cudaMemcpyDeviceToHost": ("cudaMemcpyKind", 2),
    "cudaMemcpyHostToDevice": ("cudaMemcpyKind", 1),
    "cudaStreamCaptureModeThreadLocal": ("cudaStreamCaptureMode", 1),
}
# Flags are plain numbers everywhere.
FLAGS = {
    "cudaDeviceMapHost": 8,
    "cudaDeviceScheduleMask": 7,
    "cudaDeviceScheduleSpin": 1,
    "cudaEventBlockingSync": 1,
    "cudaEventDefault": 0,
    "cudaEventDisableTiming": 2,
    "cudaEventRecordExternal": 1,
    "cudaHostAllocMapped": 2,
    "cudaStreamNonBlocking": 1,
}
NOT_READY = 600  # cudaErrorNotReady: work is still in flight, which is no failure

_LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
_FOLDERS = ("", "/usr/local/cuda/lib64/")
_CTYPES = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int,
    "u": ctypes.c_uint,
    "s": ctypes.c_size_t,
    "l": ctypes.c_ulonglong,
    "f": ctypes.c_float,
}
_NAME_BYTES, _PROPERTIES_BYTES = 256, 1 << 14  # cudaDeviceProp starts with char name[256] in every version


class CudaError(RuntimeError):
    """A CUDA call failed; `code` is its cudaError_t."""

    def __init__(self, function: str, code: int, text: str) -> None:
        super().__init__(f"{function} failed with CUDA error {code}: {text}")
        self.code = code


class Cudart:
    """The library's functions, by C name.

    Args:
        name: What was opened, with its version, for people.
        functions: Each returns a tuple: the error code, then the results.
        constant: Gives the value of a name in `CONSTANTS`.
        text: Describes an error code.
        device_name: Gives the name of device 0.
    """

    def __init__(
        self,
        name: str,
        functions: dict[str, Function],
        constant: Callable[[str], Any],
        text: Callable[[Any], str],
        device_name: Callable[[], str],
    ) -> None:
        self.name, self.functions, self.constant = name, functions, constant
        self.text, self.device_name = text, device_name

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function.

        Returns:
            Its result, `None` if it has none.

        Raises:
            CudaError: If it fails.
        """
        error, *results = self.functions[name](*arguments)
        self.check(name, error)
        return results[0] if results else None

    def check(self, name: str, error: Any) -> None:
        """Raise for an error code that is not 0.

        Raises:
            CudaError: Naming the function that gave the code.
        """
        if error:
            self.functions["cudaGetLastError"]()  # what is reported here must not surface again in another call
            raise CudaError(name, int(error), self.text(error))


@lru_cache(maxsize=1)
def open_cudart() -> Cudart:
    """Open the library, by `cuda.bindings` or by libcudart; no device is touched.

    Raises:
        BackendUnavailable: If there is neither.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        return _from_libcudart()
    except RuntimeError as error:  # old versions look for the driver while they are imported
        raise BackendUnavailable(f"the CUDA driver cannot be used: {error}. Type: lnn-edge doctor") from error
    return _from_bindings(runtime)


def gpu_free(owner: object, cudart: Cudart, function: str, handle: Any) -> None:
    """Free `handle` when `owner` goes; a process that ends gives everything back by itself."""
    weakref.finalize(owner, cudart.functions[function], handle).atexit = False


def _from_bindings(runtime: Any) -> Cudart:
    def constant(name: str) -> Any:
        return getattr(getattr(runtime, CONSTANTS[name][0]), name)

    def text(error: Any) -> str:
        described = runtime.cudaGetErrorString(error)[1]
        return described.decode() if described else "unknown error"

    def device_name() -> str:
        error, properties = runtime.cudaGetDeviceProperties(0)
        if error:
            raise CudaError("cudaGetDeviceProperties", int(error), text(error))
        return bytes(properties.name).split(b"\0")[0].decode()

    functions = {name: getattr(runtime, name) for name in SIGNATURES}
    return Cudart("cuda-bindings", functions, constant, text, device_name)


def _from_libcudart() -> Cudart:
    library, name = _load()
    missing = [function for function in SIGNATURES if not hasattr(library, function)]
    if missing:
        raise BackendUnavailable(
            f"the CUDA runtime '{name}' has no {missing[0]}: it is older than 11.8. Install a JetPack from 6.0 on, or "
            "type: pip install 'lnn-edge[tensorrt]'"
        )
    library.cudaGetErrorString.restype = ctypes.c_char_p
    library.cudaGetErrorString.argtypes = [ctypes.c_int]
    library.cudaGetDeviceProperties.argtypes = [ctypes.c_void_p, ctypes.c_int]

    def text(error: int) -> str:
        described: bytes = library.cudaGetErrorString(error)
        return described.decode()

    def device_name() -> str:
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        error = library.cudaGetDeviceProperties(properties, 0)
        if error:
            raise CudaError("cudaGetDeviceProperties", error, text(error))
        return properties.raw[:_NAME_BYTES].split(b"\0")[0].decode()

    functions = {function: _wrapped(library, function, letters) for function, letters in SIGNATURES.items()}
    return Cudart(name, functions, lambda constant: CONSTANTS[constant][1], text, device_name)


def _load() -> tuple[ctypes.CDLL, str]:
    for path in (folder + name for name in _LIBRARIES for folder in _FOLDERS):
        try:
            return ctypes.CDLL(path), path
        except OSError:
            continue
    raise BackendUnavailable(
        "the CUDA runtime was not found: neither the Python package cuda-bindings nor libcudart is here. "
        "Type: pip install 'lnn-edge[tensorrt]'"
    )


def _wrapped(library: ctypes.CDLL, name: str, letters: str) -> Function:
    """A C function that takes its inputs and returns (error, *results)."""
    function = getattr(library, name)
    kinds: list[Any] = [_CTYPES[letter.lower()] for letter in letters]
    function.restype = ctypes.c_int
    function.argtypes = [
        ctypes.POINTER(kind) if letter.isupper() else kind for letter, kind in zip(letters, kinds, strict=True)
    ]
    if not any(letter.isupper() for letter in letters):
        return lambda *inputs: (function(*inputs),)

    def call(*inputs: Any) -> tuple[Any, ...]:
        remaining, results = iter(inputs), [kind() for kind in kinds]
        arguments = [
            ctypes.byref(result) if letter.isupper() else next(remaining)
            for letter, result in zip(letters, results, strict=True)
        ]
        error = function(*arguments)
        return (error, *(r.value for letter, r in zip(letters, results, strict=True) if letter.isupper()))

    return call
