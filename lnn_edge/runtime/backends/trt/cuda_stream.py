"""A CUDA stream: copies, graphs, events, and three ways to wait."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from .cudart import FLAGS, NOT_READY, CudaError, Cudart, gpu_free

__all__ = ["CudaStream"]

_POLL_TIMEOUT_S = 5.0  # a step takes microseconds; a GPU silent for this long will not answer


class CudaStream:
    """Work in order, apart from all other streams.

    Args:
        wait: "spin" returns soonest and keeps a CPU core busy, "block" sleeps until the GPU interrupts, "poll" asks
            again and again, gives other Python threads a turn in between, and gives up on a GPU that is silent.
    """

    def __init__(self, cudart: Cudart, wait: str = "spin") -> None:
        self._cudart = cudart
        self.handle = cudart.call("cudaStreamCreateWithFlags", FLAGS["cudaStreamNonBlocking"])
        gpu_free(self, cudart, "cudaStreamDestroy", self.handle)
        self.wait = self._waiter(wait)
        kinds = {"h2d": "HostToDevice", "d2h": "DeviceToHost", "d2d": "DeviceToDevice"}
        self._kinds = {short: cudart.constant(f"cudaMemcpy{name}") for short, name in kinds.items()}
        self._launch = cudart.functions["cudaGraphLaunch"]

    def _waiter(self, wait: str) -> Callable[[], None]:
        if wait == "block":
            event = self.event(FLAGS["cudaEventBlockingSync"] | FLAGS["cudaEventDisableTiming"])
            return _blocking(self._cudart, self.handle, event)
        return _polling(self._cudart, self.handle) if wait == "poll" else _spinning(self._cudart, self.handle)

    def copy(self, target: int, source: int, nbytes: int, kind: str) -> None:
        """Queue a copy; `kind` is "h2d", "d2h" or "d2d". Host memory must be pinned."""
        self._cudart.call("cudaMemcpyAsync", target, source, nbytes, self._kinds[kind], self.handle)

    def capture(self, issue: Callable[[], None]) -> Any:
        """Record what `issue` queues, instead of running it.

        Returns:
            A graph for `launch`; give it to `free_graph` when it is done with.

        Raises:
            CudaError: If something in it cannot be captured. The stream is then as before.
        """
        call = self._cudart.call
        collecting = gc.isenabled()
        gc.disable()  # an object that frees GPU memory in the middle would spoil the capture
        try:
            # Thread-local: another thread may allocate meanwhile. In the global mode its cudaMalloc would fail.
            call("cudaStreamBeginCapture", self.handle, self._cudart.constant("cudaStreamCaptureModeThreadLocal"))
            try:
                issue()
            except BaseException:
                self._abandon_capture()
                raise
            graph = call("cudaStreamEndCapture", self.handle)
        finally:
            if collecting:
                gc.enable()
        try:
            executable = call("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._cudart.functions["cudaGraphDestroy"](graph)
        try:
            call("cudaGraphUpload", executable, self.handle)
        except CudaError:
            self.free_graph(executable)
            raise
        return executable

    def _abandon_capture(self) -> None:
        error, graph = self._cudart.functions["cudaStreamEndCapture"](self.handle)
        if not error and graph:
            self._cudart.functions["cudaGraphDestroy"](graph)
        self._cudart.functions["cudaGetLastError"]()

    def launch(self, graph: Any) -> None:
        """Queue a graph."""
        (error,) = self._launch(graph, self.handle)
        if error:
            self._cudart.check("cudaGraphLaunch", error)

    def free_graph(self, graph: Any) -> None:
        """Free a graph that is not running."""
        self._cudart.functions["cudaGraphExecDestroy"](graph)

    def event(self, flags: int = FLAGS["cudaEventDefault"]) -> Any:
        """Make a point in time that `record` sets; freed with the stream."""
        event = self._cudart.call("cudaEventCreateWithFlags", flags)
        gpu_free(self, self._cudart, "cudaEventDestroy", event)
        return event

    def record(self, event: Any) -> None:
        """Set a point in time after everything queued so far."""
        self._cudart.call("cudaEventRecord", event, self.handle)

    def record_in_graph(self, event: Any) -> None:
        """As `record`, inside a capture: every launch of the graph sets it, on the GPU."""
        self._cudart.call("cudaEventRecordWithFlags", event, self.handle, FLAGS["cudaEventRecordExternal"])

    def elapsed_us(self, start: Any, end: Any) -> float:
        """Device time between two recorded points, microseconds, in steps of about 0.5; after `wait`."""
        return float(self._cudart.call("cudaEventElapsedTime", start, end)) * 1e3


# The waits are closures rather than methods, which would tie the stream into a cycle that only the collector frees.


def _spinning(cudart: Cudart, stream: Any) -> Callable[[], None]:
    synchronize = cudart.functions["cudaStreamSynchronize"]

    def wait() -> None:
        (error,) = synchronize(stream)
        if error:
            cudart.check("cudaStreamSynchronize", error)

    return wait


def _blocking(cudart: Cudart, stream: Any, event: Any) -> Callable[[], None]:
    def wait() -> None:
        cudart.call("cudaEventRecord", event, stream)
        cudart.call("cudaEventSynchronize", event)

    return wait


def _polling(cudart: Cudart, stream: Any) -> Callable[[], None]:
    query = cudart.functions["cudaStreamQuery"]

    def wait() -> None:
        give_up = time.monotonic() + _POLL_TIMEOUT_S
        while True:
            (error,) = query(stream)
            if error != NOT_READY:
                return cudart.check("cudaStreamQuery", error)
            if time.monotonic() > give_up:
                raise CudaError("cudaStreamQuery", NOT_READY, f"the GPU did not finish within {_POLL_TIMEOUT_S:g} s")

    return wait
