"""One stream on the GPU: fixed buffers, one graph launch and one wait per sample, no TensorRT call in between.

What a launch does, in order, with the GPU's own copies inside:

    feed the last state back      a device copy results.states -> states        ("copy")
    fetch the sample              host -> device, only on GPUs with memory of their own
    compute                       TensorRT reads sample and states, writes results
    show the results              device -> host: next states, and the outputs where they are not mapped already

The state output is never the state input's memory: TensorRT may read one after it began to write the other.

All or nothing: the host keeps what the last complete steps gave (`results` shows it anyway), in two places. The GPU
has the state of one of them, or of none while a step runs; a step from another place sends that one's first. So neither
a result that is not finite, nor a part that is refused, nor Ctrl-C in the middle moves the state, and it outlives a GPU
that fails. With "pingpong" there are two programs, each with a context of its own, that read each other's results;
nothing is copied, and a step that fails does not switch.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any
from weakref import finalize

from numpy import copyto

from ....arrays import Array, finite_check
from ....errors import BackendError, BackendUnavailable
from ..layout import Layout
from .cuda_stream import CudaStream
from .cudart import NOT_READY, CudaError
from .device import Device, DeviceMemory
from .engines import Engine
from .options import Options

__all__ = ["RUNNING", "SETUP", "Buffers", "EnqueueRefused", "GpuStepper", "Program"]

_LOGGER = logging.getLogger("lnn_edge.tensorrt")
_CAPTURES = 3  # attempts: one is spoilt when another thread, torch's for instance, waits for the whole GPU meanwhile
SETUP = threading.Lock()  # making contexts and capturing: one thread at a time, so that no call lands in a capture


class EnqueueRefused(RuntimeError):
    """TensorRT would not queue its work."""


class Buffers:
    """The memory of one stream that all its programs share.

    Attributes:
        sample: What goes in, written by the host.
        shown: Outputs and next states, as the host sees them.
        places: What the last complete steps gave; see `lnn_edge.backend_protocols.Stepper`.
        fetched: The sample on a GPU with memory of its own, else `None`.
    """

    def __init__(self, device: Device, layout: Layout) -> None:
        self.layout = layout
        self.mapped = device.facts.integrated
        self.sample = device.host_memory(layout.sample.nbytes)
        self.shown = device.host_memory(layout.results.nbytes)
        self.places = device.host_memory(layout.results.nbytes), device.host_memory(layout.results.nbytes)
        self.fetched = None if self.mapped else device.memory(layout.sample.nbytes)

    def sample_address(self) -> int:
        """Where the GPU reads the sample."""
        return self.sample.address if self.fetched is None else self.fetched.address

    def outputs_address(self, results: int) -> int:
        """Where the GPU writes outputs: mapped host memory, or the device memory at `results`."""
        return self.shown.address if self.mapped else results


class Program:
    """One context at fixed addresses, and the copies around it."""

    def __init__(
        self, engine: Engine, stream: CudaStream, buffers: Buffers, states: int, results: int, fed: int
    ) -> None:
        layout = buffers.layout
        self.states, self.next_states = states, results + layout.states_offset
        self._engine, self._stream, self._buffers, self._results, self._fed = engine, stream, buffers, results, fed
        outputs = buffers.outputs_address(results)
        next_names = {output for _, output in layout.pairs}
        self._context = engine.context(
            {n: buffers.sample_address() + offset for n, offset in layout.sample.offsets.items()}
            | {n: states + offset for n, offset in layout.states.offsets.items()}
            | {n: (results if n in next_names else outputs) + o for n, o in layout.results.offsets.items()}
        )
        self._enqueue, self._handle = self._context.execute_async_v3, int(stream.handle)
        self._graph: Any = None
        self.launch: Callable[[], None] = self.issue

    def issue(self) -> None:
        """Queue everything, piece by piece."""
        if self._fed:
            self._stream.copy(self.states, self._fed, self._buffers.layout.states.nbytes, "d2d")
        self.fetch()
        self.compute()
        self.show()

    @property
    def mapped(self) -> bool:
        """Whether CPU and GPU share the sample's memory, so that it need not be copied."""
        return self._buffers.mapped

    def fetch(self) -> None:
        """Queue the copy of the sample, if this GPU needs one."""
        if self._buffers.fetched is not None:
            sample = self._buffers.sample
            self._stream.copy(self._buffers.fetched.address, sample.host_address, sample.array.nbytes, "h2d")

    def compute(self) -> None:
        """Queue the engine.

        Raises:
            EnqueueRefused: If TensorRT refuses.
        """
        if not self._enqueue(self._handle):
            raise EnqueueRefused(self._engine.said())

    def show(self) -> None:
        """Queue the copy of results that the CPU does not see yet."""
        start = self._buffers.layout.states_offset if self._buffers.mapped else 0
        shown = self._buffers.shown
        self._stream.copy(shown.host_address + start, self._results + start, shown.array.nbytes - start, "d2h")

    def capture(self) -> None:
        """From now on launch everything as one graph. `issue` must have run once, as TensorRT finishes setting up then.

        Raises:
            CudaError, EnqueueRefused: If that is not possible; `launch` is then `issue`, as before.
        """
        graph = self._graph = self._stream.capture(self.issue)
        launch = self._stream.launch
        self.launch = lambda: launch(graph)

    def close(self) -> None:
        """Free the graph, then the context; nothing may be running."""
        if self._graph is not None:
            self._stream.free_graph(self._graph)
        del self.launch, self._graph, self._enqueue, self._context  # `launch` is a cycle, and the context must go now


class GpuStepper:
    """See the module's text and `lnn_edge.backend_protocols.Stepper`."""

    def __init__(self, device: Device, engine: Engine, layout: Layout, options: Options) -> None:
        self._layout = layout
        self._lost = ""
        self._turn = 0
        self._fed: int | None = None  # the place whose state the GPU has
        with SETUP, ExitStack() as stack:
            device.select()
            self._allocate(device, engine, options, stack)
            self.refusal = self._start(options.graph)
            finalize(self, stack.pop_all().close).atexit = False
        self.sample: Mapping[str, Array] = self._buffers.sample.views(layout.sample)
        one, two = (memory.views(layout.results) for memory in self._buffers.places)
        self.places: tuple[Mapping[str, Array], Mapping[str, Array]] = (one, two)
        self._shown = self._buffers.shown.array
        self._is_finite = finite_check(self._shown)
        self._feed(0)

    def _allocate(self, device: Device, engine: Engine, options: Options, stack: ExitStack) -> None:
        stream, layout = device.cuda_stream(options.wait), self._layout
        buffers, two = Buffers(device, layout), options.feedback == "pingpong"
        results = [device.memory(layout.results.nbytes) for _ in range(2 if two else 1)]
        for memory in results:  # padding between tensors is shown too, and must be finite
            stream.copy(memory.address, buffers.shown.host_address, memory.nbytes, "h2d")
        stream.wait()
        ends = [memory.address + layout.states_offset for memory in results]
        memories = [*results]
        if two:
            places = [(ends[1], results[0].address, 0), (ends[0], results[1].address, 0)]
        else:
            memories.append(device.memory(layout.states.nbytes))
            places = [(memories[-1].address, results[0].address, ends[0])]
        self._stream, self._buffers, self._programs = stream, buffers, list[Program]()
        self._feeds_back = not two
        stack.callback(_release, stream, self._programs, memories, buffers)
        for place in places:
            self._programs.append(Program(engine, stream, buffers, *place))

    def _start(self, graph: str) -> str:
        """Run every program once, then capture it; why it could not be captured, or ""."""
        try:
            for program in self._programs:
                program.issue()
                self._stream.wait()
        except EnqueueRefused as error:
            raise BackendUnavailable(
                f"TensorRT would not run the engine: {error}. Type: lnn-edge build BUNDLE --backend tensorrt --rebuild"
            ) from error
        return "" if graph == "off" else self._capture(required=graph == "on")

    def _capture(self, required: bool) -> str:
        try:
            for program in self._programs:
                _captured(program)
        except (CudaError, EnqueueRefused) as error:
            if required:
                raise BackendUnavailable(
                    f"the step cannot be captured as a CUDA graph: {error}. Use the option graph=auto, which then "
                    "queues its parts one by one"
                ) from error
            for program in self._programs:
                program.launch = program.issue
            return str(error)
        return ""

    def run(self, source: int) -> bool:
        """See `lnn_edge.backend_protocols.Stepper.run`."""
        if self._fed != source:
            self._feed(source)
        self._fed = None
        try:
            self._programs[self._turn].launch()
        except (CudaError, EnqueueRefused) as error:
            self._finish()
            raise BackendError(f"the GPU refused the step, the state is untouched: {error}") from error
        self._finish()
        copyto(self._buffers.places[1 - source].array, self._shown)
        if not self._is_finite():
            return False
        self._turn = (self._turn + 1) % len(self._programs)
        self._fed = 1 - source
        return True

    def write_state(self, place: int, state: Mapping[str, Array]) -> None:
        """See `lnn_edge.backend_protocols.Stepper.write_state`."""
        self._fed = None
        for name, output in self._layout.pairs:
            self.places[place][output][...] = state[name]
        self._feed(place)

    def profile(self) -> tuple[CudaStream, Program]:
        """The stream and the program of the next step, for measuring; nothing else may use them meanwhile."""
        return self._stream, self._programs[self._turn]

    def _feed(self, place: int) -> None:
        """Send the state in a place to where the next step reads it."""
        if self._lost:
            raise BackendError(self._lost)
        self._finish()  # a step that was interrupted may still be running
        program = self._programs[self._turn]
        kept = program.next_states if self._feeds_back else program.states
        address = self._buffers.places[place].host_address + self._layout.states_offset
        try:
            self._stream.copy(kept, address, self._layout.states.nbytes, "h2d")
        except CudaError as error:
            raise BackendError(f"the GPU refused to copy the state: {error}") from error
        self._finish()
        self._fed = place

    def _finish(self) -> None:
        """Wait. A GPU that fails here has lost this process's memory on it."""
        try:
            self._stream.wait()
        except CudaError as error:
            self._lost = (
                f"the GPU failed and this stream is lost: {error}. Load the model again in a new process; `snapshot` "
                "still gives the state before this step"
            )
            raise BackendError(self._lost) from error


def _captured(program: Program, attempts: int = _CAPTURES) -> None:
    try:
        program.capture()
    except (CudaError, EnqueueRefused):
        if attempts == 1:
            raise
        _captured(program, attempts - 1)


RUNNING: list[Any] = []  # what a GPU that does not answer may still use; freeing it would hang, or spoil its memory


def _release(stream: CudaStream, programs: list[Program], memories: list[DeviceMemory], buffers: Buffers) -> None:
    """Free what a stepper had, once nothing of it runs any more."""
    try:
        stream.wait()
    except CudaError as error:
        if error.code == NOT_READY:
            RUNNING.append((stream, [*programs], [*memories], buffers))
            _LOGGER.warning("a GPU that does not answer keeps the memory of a stream until this process ends")
            return  # a GPU that has failed, on the other hand, has nothing in flight
    for program in programs:
        program.close()
    memories.clear()
