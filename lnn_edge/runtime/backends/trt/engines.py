"""TensorRT, 8.6 to 11: the only code that touches `tensorrt`. Call nothing here before `open_device` has worked.

A TensorRT runtime without a driver does not fail, it crashes the process. Methods report failure by `None` or False
and a line in the log, so every result is checked and the log's last lines go into the error. Members of enumerations
are taken by name: their numbers change between versions.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ....errors import BackendUnavailable
from ....wording import other_backend_advice, plural
from ..layout import Layout
from .build_watch import Watch

__all__ = ["Built", "Engine", "TensorRT", "open_tensorrt"]

_OLDEST, _BEYOND = (8, 6), (12, 0)
_WORKSPACE_BYTES = 64 << 20  # the default is all memory, which on a Jetson is the computer's
_LOGGER = logging.getLogger("lnn_edge.tensorrt")
_INSTALL = (
    "On a Jetson type: sudo apt install nvidia-jetpack, and make the virtual environment with --system-site-packages. "
    "Elsewhere: pip install tensorrt"
)


@dataclass(frozen=True)
class Built:
    """What a build gives: the engine, and the timings that make the next build quick."""

    plan: bytes
    timings: bytes


class TensorRT:
    """The library, with a log that is remembered."""

    def __init__(self, library: Any) -> None:
        self._trt = library
        self.version: str = library.__version__
        self._major = int(self.version.split(".")[0])
        self._recent: deque[str] = deque(maxlen=20)
        self._log = self._make_log()

    def build(
        self, onnx: bytes, *, half: bool, tf32: bool, optimization_level: int, timings: bytes, watch: Watch
    ) -> Built:
        """Build an engine for this device.

        Args:
            onnx: The step, static shapes.
            half: Whether the graph computes in float16. Only 8.x needs to be told.
            tf32: Whether float32 products may be computed with 10 bits of mantissa.
            optimization_level: 0 to 5: how long to look for the fastest kernels.
            timings: Of an earlier build on this device, or b"".
            watch: Is told how far the build is, and may ask it to stop; 8.6 does neither.

        Raises:
            BackendUnavailable: With TensorRT's own words; also when the build was asked to stop.
        """
        self._recent.clear()
        builder = self._made(self._trt.Builder, "builder")
        network = self._checked(builder.create_network(self._network_flags()), "the network could not be made")
        self._parse(network, onnx)
        config = self._checked(builder.create_builder_config(), "the configuration could not be made")
        self._configure(config, half, tf32, optimization_level)
        attached = self._timing_cache(config, timings)  # must outlive the build
        if hasattr(config, "progress_monitor"):
            config.progress_monitor = self._make_monitor(watch)
        plan = self._checked(builder.build_serialized_network(network, config), "the engine could not be built")
        return Built(bytes(plan), bytes((config.get_timing_cache() or attached).serialize()))

    def load(self, plan: bytes) -> Engine:
        """Load an engine that was built here.

        Raises:
            BackendUnavailable: If TensorRT refuses it.
        """
        self._recent.clear()
        runtime = self._made(self._trt.Runtime, "runtime")
        runtime.engine_host_code_allowed = False  # the default; said because an engine may ask to run code
        engine = self._checked(runtime.deserialize_cuda_engine(plan), "the engine was refused", loading=True)
        return Engine(self, engine)

    def said(self) -> str:
        """What TensorRT logged since the last build or load, its last words last."""
        return " | ".join(list(self._recent)[-6:]) or "no message"

    def dtype(self, kind: Any) -> str:
        """What the manifest calls a data type; TensorRT's own name where the manifest has none."""
        name = str(getattr(kind, "name", kind))
        return {"FLOAT": "float32", "INT32": "int32", "UINT8": "uint8"}.get(name, name)

    def is_input(self, mode: Any) -> bool:
        """Whether a tensor's mode is input."""
        return bool(mode == self._trt.TensorIOMode.INPUT)

    def is_on_device(self, location: Any) -> bool:
        """Whether a tensor lives in device memory."""
        return bool(location == self._trt.TensorLocation.DEVICE)

    def _made(self, kind: Any, what: str) -> Any:
        try:
            return kind(self._log)
        except TypeError as error:  # pybind: "factory function returned nullptr"
            raise BackendUnavailable(self._message(f"the {what} could not be made")) from error

    def _checked(self, result: Any, problem: str, *, loading: bool = False) -> Any:
        if result is None:
            raise BackendUnavailable(self._message(problem, loading=loading))
        return result

    def _message(self, problem: str, *, loading: bool = False) -> str:
        return f"TensorRT {self.version}: {problem}. It said: {self.said()}. {_advice(self.said(), loading)}"

    def _network_flags(self) -> int:
        """Explicit batch where it is a choice (8.x), strong typing, so types from the graph, where it is one (10.x)."""
        flags = self._trt.NetworkDefinitionCreationFlag
        if self._major < 10:
            return 1 << int(flags.EXPLICIT_BATCH)
        return 1 << int(flags.STRONGLY_TYPED) if self._major == 10 else 0

    def _parse(self, network: Any, onnx: bytes) -> None:
        parser = self._trt.OnnxParser(network, self._log)
        if parser.parse(onnx):
            return
        errors = [_parser_error(parser.get_error(k)) for k in range(parser.num_errors)]
        raise BackendUnavailable(
            f"TensorRT {self.version} cannot take this graph, {plural(len(errors), 'error')}: {'; '.join(errors)}. "
            f"{other_backend_advice('onnxruntime')}, or export the model again with a newer lnn-edge"
        )

    def _configure(self, config: Any, half: bool, tf32: bool, optimization_level: int) -> None:
        flags = self._trt.BuilderFlag
        config.set_memory_pool_limit(self._trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
        # On by default, and then float32 is not: ten bits of mantissa feed back into the state.
        (config.set_flag if tf32 else config.clear_flag)(flags.TF32)
        if half and self._major < 10:
            config.set_flag(flags.FP16)
        config.builder_optimization_level = optimization_level
        config.max_aux_streams = 0  # a step is too small to be worth an event between two streams

    def _timing_cache(self, config: Any, timings: bytes) -> Any:
        cache = config.create_timing_cache(timings)
        if cache is None or not config.set_timing_cache(cache, False):
            cache = self._checked(config.create_timing_cache(b""), "no timing cache could be made")
            if not config.set_timing_cache(cache, False):
                raise BackendUnavailable(self._message("an empty timing cache was refused"))
        return cache

    def _make_log(self) -> Any:
        """A logger that remembers what went wrong; our errors carry it, so Python's logging has it as information."""
        recent, base = self._recent, self._trt.ILogger
        worth = (base.Severity.INTERNAL_ERROR, base.Severity.ERROR, base.Severity.WARNING)

        class Log(base):  # type: ignore[misc, valid-type]  # the library has no types
            def __init__(self) -> None:
                base.__init__(self)  # pybind wants exactly this

            def log(self, severity: Any, msg: str) -> None:
                if severity in worth:
                    recent.append(msg)
                    _LOGGER.info("%s", msg)

        return Log()

    def _make_monitor(self, watch: Watch) -> Any:
        base = self._trt.IProgressMonitor

        class Monitor(base):  # type: ignore[misc, valid-type]  # the library has no types
            def __init__(self) -> None:
                base.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                watch.start(phase_name, parent_phase, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return watch.step(phase_name, step + 1)  # steps are numbered from 0

            def phase_finish(self, phase_name: str) -> None:
                watch.finish(phase_name)

        return Monitor()


class Engine:
    """An engine; several contexts may run it, each on its own stream."""

    def __init__(self, trt: TensorRT, engine: Any) -> None:
        self._trt = trt
        self._engine = engine

    def check(self, layout: Layout) -> None:
        """Compare inputs and outputs with the manifest; anything else would bind wrong memory.

        Raises:
            BackendUnavailable: Naming what differs.
        """
        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        found = {name: self._described(name) for name in names}
        dtypes = layout.sample.dtypes
        wanted = {n: ("input", dtypes.get(n, "float32"), shape) for n, shape in layout.inputs.items()}
        wanted |= {n: ("output", "float32", shape) for n, shape in layout.results.shapes.items()}
        if found != wanted:
            different = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
            shown = "; ".join(
                f"'{n}' is {found.get(n, 'missing')}, expected {wanted.get(n, 'none')}" for n in different
            )
            raise BackendUnavailable(
                f"TensorRT {self._trt.version} made an engine that does not fit the manifest: {shown}. "
                f"Export the bundle again. {other_backend_advice('onnxruntime')}"
            )

    def context(self, addresses: Mapping[str, int]) -> Any:
        """Make a context with every tensor at its address; `execute_async_v3(stream)` runs it and gives a bool.

        Raises:
            BackendUnavailable: If there is no memory for it, or an address is refused.
        """
        context = self._engine.create_execution_context()
        if context is None:
            raise BackendUnavailable(
                f"TensorRT {self._trt.version} could not make an execution context: {self._trt.said()}. "
                "Free GPU memory: stop other programs or other streams"
            )
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise BackendUnavailable(f"TensorRT refused the address of '{name}': {self._trt.said()}")
        return context

    def said(self) -> str:
        """What TensorRT logged last."""
        return self._trt.said()

    def _described(self, name: str) -> tuple[str, str, tuple[int, ...]] | str:
        engine, trt = self._engine, self._trt
        if not trt.is_on_device(engine.get_tensor_location(name)) or engine.is_shape_inference_io(name):
            return "a shape tensor in host memory"
        kind = "input" if trt.is_input(engine.get_tensor_mode(name)) else "output"
        return kind, trt.dtype(engine.get_tensor_dtype(name)), tuple(engine.get_tensor_shape(name))


@lru_cache(maxsize=1)  # TensorRT keeps to the first logger it is given
def open_tensorrt() -> TensorRT:
    """Import the library and check its version.

    Raises:
        BackendUnavailable: If it is not installed, incomplete, or of a version this program was not written for.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise BackendUnavailable(f"TensorRT cannot be imported: {error}. {_INSTALL}") from error
    version = getattr(tensorrt, "__version__", "unknown")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not _OLDEST <= numbers < _BEYOND:
        raise BackendUnavailable(
            f"TensorRT is {version}, but lnn-edge runs with 8.6 to 11. Install a JetPack from 6.0 on. "
            f"{other_backend_advice('onnxruntime')}"
        )
    return TensorRT(tensorrt)


def _parser_error(error: Any) -> str:
    """One error with the node it is about; node names came with 10.x."""
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    node = f"node {error.node()}" + (f" '{name}'" if name else "") + (f" ({operator})" if operator else "")
    return f"{node}: {error.desc()}"


def _advice(said: str, loading: bool) -> str:
    """What to do about a message; the fragments have been the same in all versions that are known."""
    lowered = said.lower()
    if "out of memory" in lowered or "memory allocation" in lowered:
        return "Free GPU memory: stop other programs, then try again"
    if loading and any(part in lowered for part in ("rebuild", "magictag", "serializ", "incompatible", "plan file")):
        return "Type: lnn-edge build BUNDLE --backend tensorrt --rebuild"
    return f"{other_backend_advice('onnxruntime')} meanwhile"
