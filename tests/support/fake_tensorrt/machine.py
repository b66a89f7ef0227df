"""A GPU that is not there: memory as real separate buffers, streams that run late, captures that forbid.

What a device would punish later, or silently, is punished here at once: `Misuse` for a wrong, freed, foreign or
unaligned address, for host memory that is not pinned, for the default stream, for anything used after it was freed.
Work runs only when somebody waits for it, so results read too early are old ones. Fresh memory holds NaN.
"""

from __future__ import annotations

import itertools
import mmap
import threading
import time
from dataclasses import dataclass, field

import numpy as np

OUT_OF_MEMORY, INVALID_VALUE, INSUFFICIENT_DRIVER, NO_DEVICE, INVALID_HANDLE = 2, 1, 35, 100, 400
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, NOT_READY, LAUNCH_FAILURE = 900, 901, 600, 719
H2D, D2H, D2D = 1, 2, 3
THREAD_LOCAL = 1
_NAN = np.frombuffer(np.float32("nan").tobytes(), np.uint8)
# Calls that may not be made by a thread that is capturing: they synchronise, or allocate.
UNSAFE = {
    "cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost", "cudaStreamSynchronize", "cudaStreamQuery",
    "cudaEventSynchronize", "cudaStreamDestroy", "cudaSetDeviceFlags",
}  # fmt: skip


class Misuse(AssertionError):
    """The program did what corrupts memory or results on a real device."""


class Segfault(BaseException):
    """The process would have died."""


@dataclass
class Memory:
    kind: str
    device_address: int
    host_address: int
    data: np.ndarray

    @property
    def key(self) -> int:
        """What the program frees it by."""
        return self.host_address or self.device_address


@dataclass
class Work:
    """Something queued on a stream."""

    what: str
    run: object


@dataclass
class StreamState:
    queue: list[Work] = field(default_factory=list)
    capture: list[Work] | None = None
    capture_thread: int = 0
    capture_mode: int = 0
    invalid: bool = False
    asked: bool = False


class Machine:
    """One GPU with its driver; `call` is the CUDA runtime API, with plain integers for pointers and handles."""

    def __init__(
        self, *, integrated=True, name="Orin", capability=(8, 7), multiprocessors=8, driver=12060, runtime=12060
    ):
        self.integrated, self.name, self.capability, self.multiprocessors = (
            integrated,
            name,
            capability,
            multiprocessors,
        )
        self.driver, self.runtime, self.count, self.limit = driver, runtime, 1, 1 << 30
        self.memory: dict[int, Memory] = {}
        self.graveyard: list[Memory] = []
        self._found: dict[tuple[str, int, int], tuple[Memory, np.ndarray]] = {}  # what was looked up before
        self.streams: dict[int, StreamState] = {}
        self.events: dict[int, dict] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.failing: dict[str, int] = {}
        self.calls: list[str] = []
        self.flags = 0
        self.stuck = False
        self.now = time.perf_counter  # for events
        self._lock = threading.RLock()
        self._handles = itertools.count(0x1000)
        self._next_device, self._next_mapped = 0x7_0000_0000, 0xA_0000_0000

    # ---- what the fakes of TensorRT ask -----------------------------------------------------------------------------

    @property
    def has_driver(self):
        return self.driver > 0 and self.count > 0

    def view(self, address: int, nbytes: int, who: str) -> np.ndarray:
        """Memory as the device sees it; the same array every time, as long as the memory is there."""
        found = self._find("device_address", address, nbytes)
        if found:
            return found[1]
        gone = any(0 <= address - m.device_address < len(m.data) for m in self.graveyard)
        raise Misuse(f"{who}: {'freed' if gone else 'no'} device memory for {nbytes} bytes at {address:#x}")

    def _find(self, side: str, address: int, nbytes: int) -> tuple[Memory, np.ndarray] | None:
        """The memory that holds these bytes by its addresses on one side, and the bytes."""
        found = self._found.get((side, address, nbytes))
        if found and self.memory.get(found[0].key) is found[0]:
            return found
        for memory in self.memory.values():
            start = address - getattr(memory, side)
            if start >= 0 and start + nbytes <= len(memory.data):
                found = memory, memory.data[start : start + nbytes]
                self._found[side, address, nbytes] = found
                return found
        return None

    def stream(self, handle: int) -> StreamState:
        if handle == 0:
            raise Misuse("work on the default stream")
        if handle not in self.streams:
            raise Misuse(f"stream {handle:#x} does not exist (any more)")
        return self.streams[handle]

    def queue(self, handle: int, work: Work) -> None:
        with self._lock:
            stream = self.stream(handle)
            (stream.queue if stream.capture is None else stream.capture).append(work)

    def invalidate(self, handle: int) -> None:
        self.stream(handle).invalid = True

    # ---- the CUDA runtime API ---------------------------------------------------------------------------------------

    def call(self, name: str, *arguments: int) -> tuple[int, int | float | None]:
        """Returns (error code, result)."""
        with self._lock:
            self.calls.append(name)
            if name in self.failing:
                if name == "cudaStreamEndCapture":  # a capture that fails has ended all the same
                    self.stream(arguments[0]).capture = None
                return self.failing[name], None
            if name not in ("cudaRuntimeGetVersion", "cudaDriverGetVersion", "cudaGetLastError"):
                if self.driver // 1000 < self.runtime // 1000:
                    return INSUFFICIENT_DRIVER, None
                if self.count < 1:
                    return NO_DEVICE, None
            if name in UNSAFE and self._forbidden():
                return CAPTURE_UNSUPPORTED, None
            result = getattr(self, f"_{name}")(*arguments)
            return result if isinstance(result, tuple) else (0, result)

    def _forbidden(self) -> bool:
        here = threading.get_ident()
        found = [
            s
            for s in self.streams.values()
            if s.capture is not None and (s.capture_thread == here or s.capture_mode != THREAD_LOCAL)
        ]
        for stream in found:
            stream.invalid = True
        return bool(found)

    def _cudaRuntimeGetVersion(self):
        return self.runtime

    def _cudaDriverGetVersion(self):
        return self.driver

    def _cudaGetLastError(self):
        return None

    def _cudaGetDeviceCount(self):
        return self.count

    def _cudaSetDevice(self, device):
        return None if device == 0 else (101, None)

    def _cudaGetDeviceFlags(self):
        return self.flags | 8  # mapping host memory is always on

    def _cudaSetDeviceFlags(self, flags):
        """Overwrites what was chosen before, for the whole process."""
        if flags & 8:
            return INVALID_VALUE, None
        self.flags = flags
        return None

    def _cudaDeviceGetAttribute(self, attribute, device):
        values = {
            16: self.multiprocessors,
            18: int(self.integrated),
            19: 1,
            75: self.capability[0],
            76: self.capability[1],
        }
        return values[attribute]

    def _cudaMalloc(self, nbytes):
        address, self._next_device = self._next_device, self._next_device + (nbytes // 512 + 4) * 512
        return self._allocate(Memory("device", address, 0, np.empty(nbytes, np.uint8)), address, nbytes)

    def _cudaHostAlloc(self, nbytes, flags):
        if flags & 2 == 0:
            raise Misuse("pinned memory that is not mapped")
        data = np.frombuffer(mmap.mmap(-1, max(nbytes, 1)), np.uint8)[:nbytes]
        address, self._next_mapped = self._next_mapped, self._next_mapped + (nbytes // 4096 + 2) * 4096
        return self._allocate(Memory("pinned", address, data.ctypes.data, data), data.ctypes.data, nbytes)

    def _allocate(self, memory, key, nbytes):
        if sum(len(m.data) for m in self.memory.values()) + nbytes > self.limit:
            return OUT_OF_MEMORY, None
        memory.data[...] = np.resize(_NAN, nbytes)
        self.memory[key] = memory
        return key

    def _cudaFree(self, address):
        return self._free(address, "device")

    def _cudaFreeHost(self, address):
        return self._free(address, "pinned")

    def _free(self, key, kind):
        memory = self.memory.pop(key, None)
        if memory is None or memory.kind != kind:
            raise Misuse(f"freeing {key:#x}, which is no {kind} memory")
        memory.data[...] = np.resize(_NAN, len(memory.data))
        self.graveyard.append(memory)  # a program that still reads it sees NaN instead of killing the tests

    def _cudaHostGetDevicePointer(self, pointer, flags):
        if pointer not in self.memory:
            raise Misuse(f"{pointer:#x} is no pinned memory")
        return self.memory[pointer].device_address

    def _pinned(self, address, nbytes, who):
        found = self._find("host_address", address, nbytes)
        if not found or found[0].kind != "pinned":
            raise Misuse(f"{who}: {address:#x} is not pinned host memory")
        return found[1]

    def _cudaMemcpyAsync(self, target, source, nbytes, kind, stream):
        def ends():
            to = self._pinned(target, nbytes, "copy") if kind == D2H else self._own(target, nbytes)
            come = self._pinned(source, nbytes, "copy") if kind == H2D else self._own(source, nbytes)
            return to, come

        def run():
            to, come = ends()
            to[...] = come

        ends()
        self.queue(stream, Work(f"copy {kind} of {nbytes}", run))

    def _own(self, address, nbytes):
        data = self.view(address, nbytes, "copy")
        if self._find("device_address", address, nbytes)[0].kind != "device":
            raise Misuse(f"{address:#x} is mapped host memory, but the copy says device")
        return data

    def _cudaStreamCreateWithFlags(self, flags):
        if flags != 1:
            raise Misuse("a stream that waits for the default stream")
        return self._handle(self.streams, StreamState())

    def _handle(self, table, value):
        handle = next(self._handles)
        table[handle] = value
        return handle

    def _cudaStreamDestroy(self, handle):
        if self.stream(handle).queue:
            raise Misuse("a stream destroyed with work in flight")
        del self.streams[handle]

    def _drain(self, handle):
        stream = self.stream(handle)
        if stream.capture is not None:
            raise Misuse("waiting for a stream that is capturing")
        work, stream.queue = stream.queue, []
        for one in work:
            one.run()

    def _cudaStreamSynchronize(self, handle):
        self._drain(handle)

    def _cudaStreamQuery(self, handle):
        """Busy on the first question, done on the second."""
        stream = self.stream(handle)
        if self.stuck or (stream.queue and not stream.asked):
            stream.asked = True
            return NOT_READY, None
        stream.asked = False
        self._drain(handle)
        return None

    def _cudaEventCreateWithFlags(self, flags):
        return self._handle(self.events, {"flags": flags, "stream": None, "time": None})

    def _cudaEventDestroy(self, handle):
        del self.events[handle]

    def _cudaEventRecord(self, handle, stream):
        if self.stream(stream).capture is None:
            self._record(handle, stream)
        else:
            self.events[handle].update(stream=None, time=None)  # it belongs to the capture, and no launch sets it

    def _cudaEventRecordWithFlags(self, handle, stream, flags):
        (self._record if flags == 1 else self._cudaEventRecord)(handle, stream)

    def _record(self, handle, stream):
        event = self.events[handle]
        event["stream"], event["time"] = stream, None
        self.queue(stream, Work("event", lambda: event.update(time=self.now())))

    def _cudaEventSynchronize(self, handle):
        event = self.events[handle]
        if event["stream"] is None:
            raise Misuse("waiting for an event that was never recorded")
        self._drain(event["stream"])

    def _cudaEventElapsedTime(self, start, end):
        events = [self.events[handle] for handle in (start, end)]
        if any(e["flags"] & 2 for e in events) or any(e["time"] is None for e in events):
            return INVALID_HANDLE, None
        return 1e3 * (events[1]["time"] - events[0]["time"])

    def _cudaStreamBeginCapture(self, handle, mode):
        stream = self.stream(handle)
        if stream.capture is not None or stream.queue:
            raise Misuse("capture of a stream that is not idle")
        stream.capture, stream.invalid = [], False
        stream.capture_thread, stream.capture_mode = threading.get_ident(), mode

    def _cudaStreamEndCapture(self, handle):
        stream = self.stream(handle)
        if stream.capture is None:
            raise Misuse("end of a capture that never began")
        work, stream.capture = stream.capture, None
        return (CAPTURE_INVALIDATED, None) if stream.invalid else self._handle(self.graphs, work)

    def _cudaGraphDestroy(self, handle):
        del self.graphs[handle]

    def _cudaGraphInstantiateWithFlags(self, graph, flags):
        return self._handle(self.executables, list(self.graphs[graph]))

    def _cudaGraphUpload(self, executable, stream):
        self.stream(stream)
        if executable not in self.executables:
            raise Misuse("upload of a graph that does not exist")

    def _cudaGraphLaunch(self, executable, stream):
        if executable not in self.executables:
            raise Misuse("launch of a graph that does not exist (any more)")
        self.stream(stream).queue.extend(self.executables[executable])

    def _cudaGraphExecDestroy(self, handle):
        if any(work in s.queue for s in self.streams.values() for work in self.executables[handle]):
            raise Misuse("a graph destroyed while it runs")
        del self.executables[handle]
