"""TensorRT, 8.6 to 11 and for RTX: the only code that touches either. `tensorrt`: not before `open_device` has worked.

A TensorRT runtime without a driver does not fail, it crashes the process; only the builder of TensorRT for RTX needs
none. Methods report failure by `None` or False and a line in the log, so every result is checked and the log's last
lines go into the error. Members of enumerations are taken by name: their numbers change between versions.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ....bundle.onnx_graph import check_graph
from ....bundle.onnx_wire import node_text
from ....errors import BackendUnavailable
from ....wording import choices, chosen, one_line, other_backend_advice, plural
from ..layout import Layout
from .build_watch import Watch
from .dialects import FOR_RTX, TENSORRT, Dialect
from .driver_trial import why_the_import_fails

__all__ = ["Built", "Engine", "TensorRT", "open_tensorrt"]

_MOST_AXES = 8
_WORKSPACE_BYTES = 64 << 20  # the default is all memory, which on a Jetson is the computer's
_LOGGER = logging.getLogger("lnn_edge.tensorrt")
_LAYERS = re.compile(r"After reformat layers: (\d+) layers")  # the builder's last count


@dataclass(frozen=True)
class Built:
    """What a build gives.

    Args:
        plan: The engine.
        timings: What makes the next build quick; b"" where nothing is timed.
        nodes: How many nodes the step became, each with work of its own for the GPU; 0 where the builder does not say.
    """

    plan: bytes
    timings: bytes
    nodes: int


class TensorRT:
    """The library, with a log that is remembered."""

    def __init__(self, library: Any, dialect: Dialect = TENSORRT) -> None:
        self._trt, self.dialect = library, dialect
        self.version: str = library.__version__
        self.name = f"{dialect.product} {self.version}"
        self._major = dialect.api or int(self.version.split(".")[0])
        self._recent: deque[str] = deque(maxlen=20)
        self._nodes = 0
        self._log = self._make_log()

    def build(
        self,
        onnx: bytes,
        *,
        half: bool,
        tf32: bool,
        optimization_level: int,
        timings: bytes,
        watch: Watch,
        targets: Sequence[str] = (),
    ) -> Built:
        """Build an engine, for this device where no other is named.

        Args:
            onnx: The step, static shapes.
            half: Whether the graph computes in float16. Only 8.x needs to be told.
            tf32: Whether float32 products may be computed with 10 bits of mantissa.
            optimization_level: 0 to 5: how long to look for the fastest kernels.
            timings: Of an earlier build on this device, or b"".
            watch: Is told how far the build is, and may ask it to stop; 8.6 does neither.
            targets: GPUs to build for, "sm_86" and the like; only TensorRT for RTX can.

        Raises:
            BundleError: If the graph is none that this project's exporter writes; no parser sees it then.
            BackendUnavailable: With TensorRT's own words, or ours where a value has more axes than it takes; also when
                the build was asked to stop.
            ValueError: If there is no such target.
        """
        _guard(onnx)
        self._recent.clear()
        self._nodes = 0
        builder = self._made(self._trt.Builder, "builder")
        network = self._checked(builder.create_network(self._network_flags()), "the network could not be made")
        self._parse(network, onnx)
        config = self._checked(builder.create_builder_config(), "the configuration could not be made")
        self._configure(config, half, tf32, optimization_level)
        self._aim(config, targets)
        attached = None if self.dialect.compiles_late else self._timing_cache(config, timings)  # must outlive the build
        if hasattr(config, "progress_monitor"):
            config.progress_monitor = self._make_monitor(watch)
        aims = f" for {', '.join(targets)}" if targets else ""
        plan = self._checked(builder.build_serialized_network(network, config), f"the engine could not be built{aims}")
        kept = b"" if attached is None else bytes((config.get_timing_cache() or attached).serialize())
        return Built(bytes(plan), kept, self._nodes)

    def targets(self) -> tuple[str, ...]:
        """The GPUs that engines can be built for without one, "sm_86" and the like."""
        members = getattr(getattr(self._trt, "ComputeCapability", None), "__members__", {})
        return tuple(f"sm_{name[2:]}" for name in members if re.fullmatch(r"SM\d+", name))

    def load(self, plan: bytes, kernels: bytes = b"") -> Engine:
        """Load an engine that was built here.

        Args:
            plan: The engine.
            kernels: What TensorRT for RTX compiled of it for this GPU before, or b"".

        Raises:
            BackendUnavailable: If TensorRT refuses it.
        """
        self._recent.clear()
        runtime = self._made(self._trt.Runtime, "runtime")
        runtime.engine_host_code_allowed = False  # the default; said because an engine may ask to run code
        engine = self._checked(runtime.deserialize_cuda_engine(plan), "the engine was refused", loading=True)
        return Engine(self, engine, kernels)

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
        advice = _advice(self.said(), loading, self.dialect.backend)
        return f"{self.name}: {problem}. It said: {self.said()}. {advice}"

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
            f"{self.name} cannot take this graph, {plural(len(errors), 'error')}: {'; '.join(errors)}. "
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

    def _aim(self, config: Any, targets: Sequence[str]) -> None:
        """Name the GPUs to build for."""
        if not targets:
            return
        for target in targets:
            if target not in self.targets():
                raise ValueError(f"{self.name} builds for no GPU '{target}'. {choices(target, self.targets())}")
        config.num_compute_capabilities = len(targets)
        for place, target in enumerate(targets):
            member = getattr(self._trt.ComputeCapability, target.replace("sm_", "SM"))
            if not config.set_compute_capability(member, place):
                raise BackendUnavailable(self._message(f"it does not build for '{target}' among {', '.join(targets)}"))

    def _timing_cache(self, config: Any, timings: bytes) -> Any:
        cache = config.create_timing_cache(timings)
        if cache is None or not config.set_timing_cache(cache, False):
            cache = self._checked(config.create_timing_cache(b""), "no timing cache could be made")
            if not config.set_timing_cache(cache, False):
                raise BackendUnavailable(self._message("an empty timing cache was refused"))
        return cache

    def _make_log(self) -> Any:
        """A logger that remembers what went wrong; our errors carry it, so Python's logging has it as information."""
        recent, base, count = self._recent, self._trt.ILogger, self._count
        worth = (base.Severity.INTERNAL_ERROR, base.Severity.ERROR, base.Severity.WARNING)

        class Log(base):  # type: ignore[misc, valid-type]  # the library has no types
            def __init__(self) -> None:
                base.__init__(self)  # pybind wants exactly this

            def log(self, severity: Any, msg: str) -> None:
                if severity in worth:
                    recent.append(msg)
                    _LOGGER.info("%s", msg)
                elif counted := _LAYERS.match(msg):
                    count(int(counted[1]))

        return Log()

    def _count(self, nodes: int) -> None:
        self._nodes = nodes

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

    def __init__(self, trt: TensorRT, engine: Any, kernels: bytes = b"") -> None:
        self._trt = trt
        self._engine = engine
        self._config = self._cache = None
        if trt.dialect.compiles_late:
            self._config = engine.create_runtime_config()
            self._cache = self._config.create_runtime_cache()
            if kernels:  # of another version or GPU they are refused, and compiled again
                self._cache.deserialize(kernels)
            self._config.set_runtime_cache(self._cache)

    def kernels(self) -> bytes:
        """What has been compiled for this GPU; b"" where nothing is compiled that late."""
        return b"" if self._cache is None else bytes(self._cache.serialize())

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
                f"{self._trt.name} made an engine that does not fit the manifest: {shown}. "
                f"Export the bundle again. {other_backend_advice('onnxruntime')}"
            )

    def context(self, addresses: Mapping[str, int]) -> Any:
        """Make a context with every tensor at its address; `execute_async_v3(stream)` runs it and gives a bool.

        Raises:
            BackendUnavailable: If there is no memory for it, or an address is refused.
        """
        if self._config is None:
            context = self._engine.create_execution_context()
        else:
            context = self._engine.create_execution_context(runtime_config=self._config)
        if context is None:
            raise BackendUnavailable(
                f"{self._trt.name} could not make an execution context: {self._trt.said()}. "
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


@lru_cache(maxsize=2)  # TensorRT keeps to the first logger it is given
def open_tensorrt(dialect: Dialect = TENSORRT) -> TensorRT:
    """Import the library and check its version.

    Raises:
        BackendUnavailable: If it is not installed, incomplete, or of a version this program was not written for.
    """
    try:
        library = _IMPORTS[dialect.backend]()
    except Exception as error:  # a library that is half installed fails in ways of its own
        said = one_line(error) or type(error).__name__
        advice = dialect.install if isinstance(error, ModuleNotFoundError) else dialect.mend
        raise BackendUnavailable(f"{dialect.product} cannot be imported: {said}. {advice}") from error
    version = getattr(library, "__version__", "unknown")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not dialect.oldest <= numbers < dialect.beyond:
        raise BackendUnavailable(
            f"{dialect.product} is {version}, but lnn-edge runs with {dialect.versions}. {dialect.newer}. "
            f"{other_backend_advice('onnxruntime')}"
        )
    return TensorRT(library, dialect)


def _import_tensorrt() -> Any:
    import tensorrt

    return tensorrt


def _import_for_rtx() -> Any:
    """By the name of the meta package and of NVIDIA's archive, or by that of the wheel with the bindings alone."""
    broken = why_the_import_fails("tensorrt_rtx", "tensorrt_rtx_bindings")  # where no driver was tried before
    if broken:
        raise ImportError(broken)
    try:
        import tensorrt_rtx
    except ModuleNotFoundError:
        import tensorrt_rtx_bindings  # which loads the libraries of the wheel beside it

        return tensorrt_rtx_bindings
    return tensorrt_rtx


_IMPORTS = {TENSORRT.backend: _import_tensorrt, FOR_RTX.backend: _import_for_rtx}


def _guard(onnx: bytes) -> None:
    """Let no graph pass that this project's exporter does not write, nor one that no TensorRT can hold."""
    graph = check_graph(onnx)
    for place, node in enumerate(graph.nodes):
        wide = [name for name in (*node.outputs, *node.inputs) if len(graph.shapes[name]) > _MOST_AXES]
        if wide:
            raise BackendUnavailable(
                f"TensorRT takes values of at most {_MOST_AXES} axes, but {node_text(place, node)} has '{wide[0]}' of "
                f"{len(graph.shapes[wide[0]])}. {other_backend_advice('onnxruntime')}"
            )


def _parser_error(error: Any) -> str:
    """One error with the node it is about; node names came with 10.x."""
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    place = f"node {error.node()}" if error.node() >= 0 else "a node that it does not name"
    node = place + (f" '{name}'" if name else "") + (f" ({operator})" if operator else "")
    return f"{node}: {' '.join(error.desc().split())}"


def _advice(said: str, loading: bool, backend: str) -> str:
    """What to do about a message; the fragments have been the same in all versions that are known."""
    lowered = said.lower()
    if "out of memory" in lowered or "memory allocation" in lowered:
        return "Free GPU memory: stop other programs, then try again"
    if "turing" in lowered:  # the RTX builder's word for sm_75, which multiplies no float32
        half = chosen("precision", "float16")
        return f"Leave sm_75 out of the GPUs to build for, or export the model again with {half}"
    if loading and any(part in lowered for part in ("rebuild", "magictag", "serializ", "incompatible", "plan file")):
        return f"Type: lnn-edge build BUNDLE --backend {backend} --rebuild"
    return f"{other_backend_advice('onnxruntime')} meanwhile"
