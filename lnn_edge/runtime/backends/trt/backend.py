"""The backends `tensorrt` and `tensorrt-rtx`: an engine, kept in the user's cache, run by `GpuStepper`.

TensorRT builds it on the device. TensorRT for RTX builds it anywhere and compiles it on the device when it is loaded;
what it compiled is kept too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from ....backend_protocols import Prepared
from ....bundle.directory import Bundle
from ....errors import BackendError, BackendUnavailable
from ....machine.jetson import system_facts
from ....progress import Progress
from ....wording import other_backend_advice
from ...figures.durations import DeviceFigures
from ..build_cache import EngineCache, EngineRefused, Kind, cache_folder
from ..layout import Layout, layout_from_manifest
from .build_watch import Watch, watched
from .cudart import CudaError
from .device import Device, open_device, unavailable
from .device_figures import measure
from .dialects import FOR_RTX, TENSORRT, Dialect
from .engines import Built, Engine, TensorRT, open_tensorrt
from .options import Options, options_from_table
from .plan_file import PlanHeader, read_plan, write_plan
from .stepper import EnqueueRefused, GpuStepper

__all__ = ["RtxBackend", "TensorRTBackend", "why_not_ready", "why_not_ready_for_rtx"]

_LOGGER = logging.getLogger("lnn_edge.tensorrt")
_ALL = "sm_86,sm_89,sm_120"  # what most PCs have
_MODEL_FACTS = ("model.onnx", "precision", "optimization level", "TF32")  # the others are of the device


class TensorRTBackend:
    """One engine, shared by all streams; see `lnn_edge.backend_protocols.Backend`.

    Attributes:
        captured: How many streams run as one graph.
        fallbacks: How many could not be captured and queue their parts one by one.
    """

    dialect: ClassVar[Dialect] = TENSORRT

    def __init__(self, bundle: Bundle, threads: int, options: Mapping[str, str]) -> None:  # noqa: ARG002
        self._options = options_from_table(options)
        self._layout = layout_from_manifest(bundle.manifest)
        self.captured = self.fallbacks = 0
        self._counting = threading.Lock()
        self._device, trt = _open(self.dialect)
        self._engine, _ = _ready_engine(bundle, self._device, trt, self._options, _quietly, rebuild=False)
        self._spare = [self._make()]  # the first stream: whether a graph can be captured shows now, not in the loop
        _keep_kernels(bundle, self._device, trt, self._options, self._engine)
        self.description = self._describe(trt)

    def stepper(self) -> GpuStepper:
        """Make the buffers for one stream."""
        try:
            return self._spare.pop()
        except IndexError:
            return self._make()

    def device_figures(self, steps: int) -> DeviceFigures:
        """Measure where the time of a step goes on the GPU; see `lnn_edge.runtime.backends.trt.device_figures`."""
        counts = self.captured, self.fallbacks  # without the stream that is measured
        try:
            return measure(self._make(), steps, self._options, counts)
        except (CudaError, EnqueueRefused) as error:
            raise BackendError(f"the GPU failed while it was measured: {error}") from error

    @classmethod
    def prepare(
        cls, bundle: Bundle, options: Mapping[str, str], progress: Progress, *, rebuild: bool = False
    ) -> Prepared:
        """Build the engine, or find it in the cache.

        Args:
            bundle: The checked bundle.
            options: As for the constructor.
            progress: Called some times a second with (phase, done, total) of the build; total 0: it is not known.
            rebuild: Whether to build even if an engine is there.

        Raises:
            BackendUnavailable: If it cannot be built here.
        """
        device, trt = _open(cls.dialect)
        return _ready_engine(bundle, device, trt, options_from_table(options), progress, rebuild=rebuild)[1]

    @classmethod
    def is_built(cls, bundle: Bundle, options: Mapping[str, str]) -> bool:
        """Whether the cache holds an engine for this device that TensorRT takes: one that it refuses is built again.

        Raises:
            BackendUnavailable: If the cache cannot be used.
        """
        device, trt = _open(cls.dialect)
        plan, _ = _cached(_cache(trt.dialect), _facts(bundle, device, trt, options_from_table(options)))
        return plan is not None and _is_taken(plan, trt, layout_from_manifest(bundle.manifest))

    def _make(self) -> GpuStepper:
        try:
            stepper = GpuStepper(self._device, self._engine, self._layout, self._options)
        except CudaError as error:
            raise unavailable(error) from error
        except BackendError as error:
            raise BackendUnavailable(f"{error}. Type: lnn-edge doctor") from error
        with self._counting:
            if stepper.refusal:
                self.fallbacks += 1
                if self.fallbacks == 1:
                    _LOGGER.warning(
                        "the step runs without a CUDA graph, its parts queued one by one, which is slower: %s",
                        stepper.refusal,
                    )
            elif self._options.graph != "off":
                self.captured += 1
        return stepper

    def _describe(self, trt: TensorRT) -> str:
        facts, options = self._device.facts, self._options
        how = "one CUDA graph per step" if self.captured else "no CUDA graph"
        if self.fallbacks:
            how += " (capture was refused)"
        extras = ", TF32" if options.tf32 else ""
        where = f"{facts.name} (compute {facts.compute_capability}, CUDA {facts.runtime}, driver {facts.driver})"
        wait = options.wait
        if wait == "spin" and not self._device.spins():
            wait = "as another library chose"
        return f"{trt.name} on {where}, {how}, wait {wait}{extras}"


class RtxBackend(TensorRTBackend):
    """The same with TensorRT for RTX: engines built anywhere, see `lnn_edge.backend_protocols.BuildsAhead`."""

    dialect = FOR_RTX

    @classmethod
    def build_ahead(
        cls, bundle: Bundle, options: Mapping[str, str], progress: Progress, targets: Sequence[str], path: Path
    ) -> Prepared:
        """Build an engine for GPUs that need not be here, into a file.

        Raises:
            BackendUnavailable: If it cannot be built, or there is no TensorRT for RTX.
            ValueError: If there is no such GPU.
        """
        trt, chosen, started = open_tensorrt(cls.dialect), options_from_table(options), time.monotonic()
        built = watched(lambda watch: _built(bundle, trt, chosen, targets, b"", watch), progress)
        header = PlanHeader(
            builder=trt.version,
            targets=tuple(targets),
            bundle=bundle.manifest.name,
            model=bundle.manifest.files["model.onnx"].sha256,
            tf32=chosen.tf32,
            nodes=built.nodes,
        )
        write_plan(path, header, built.plan)
        how = f"for {', '.join(targets)}, {_parts(built.nodes)}"
        return Prepared(str(path), True, time.monotonic() - started, len(built.plan), "", how)

    @classmethod
    def take(cls, bundle: Bundle, options: Mapping[str, str], path: Path) -> Prepared:
        """Load an engine from a file that `build_ahead` made, and keep it in the cache of this device.

        It is native code, as every engine: a file from a stranger is a stranger's program.

        Raises:
            BackendUnavailable: If it is for another model, version or GPU, or there is none here.
        """
        started = time.monotonic()
        header, plan = read_plan(path)
        device, trt = _open(cls.dialect)
        chosen = options_from_table(options)
        wanted = {
            "model.onnx": (header.model, bundle.manifest.files["model.onnx"].sha256),
            cls.dialect.product: (header.builder, trt.version),
            "TF32": (_switch(header.tf32), _switch(chosen.tf32)),
        }
        for what, (built, here) in wanted.items():
            if built != here:
                raise BackendUnavailable(f"'{path}' was built for {what} {built}, here it is {here}. {_again(path)}")
        if _sm(device) not in header.targets:
            here = f"{', '.join(header.targets)}, {device.facts.name} is {_sm(device)}"
            raise BackendUnavailable(f"'{path}' was built for {here}. {_again(path)}")
        try:
            trt.load(plan).check(layout_from_manifest(bundle.manifest))
        except BackendUnavailable as error:
            where = f"on {device.facts.name} ({_sm(device)})"
            raise BackendUnavailable(f"'{path}' cannot be loaded {where}: {error}") from error
        cache, facts = _cache(trt.dialect), _facts(bundle, device, trt, chosen)
        cache.write(facts, plan)
        taken = f"taken from {path}, {_parts(header.nodes)}"
        return Prepared(str(cache.path(facts)), True, time.monotonic() - started, len(plan), "", taken)


def why_not_ready() -> str | None:
    """Say why TensorRT cannot run here, or `None` if it can: driver, device and library, in this order."""
    return _why_not(TENSORRT)


def why_not_ready_for_rtx() -> str | None:
    """The same of TensorRT for RTX."""
    return _why_not(FOR_RTX)


def _why_not(dialect: Dialect) -> str | None:
    try:
        _open(dialect)
    except BackendUnavailable as error:
        return str(error)
    return None


def _open(dialect: Dialect) -> tuple[Device, TensorRT]:
    """The driver first: TensorRT without one crashes the process."""
    device = open_device()
    try:
        device.select()
    except CudaError as error:
        raise unavailable(error) from error
    trt = open_tensorrt(dialect)
    if dialect.compiles_late and _sm(device) not in trt.targets():
        raise BackendUnavailable(
            f"{trt.name} runs on {', '.join(trt.targets())}, but {device.facts.name} is {_sm(device)}. "
            f"{other_backend_advice('tensorrt')}"
        )
    return device, trt


def _sm(device: Device) -> str:
    """The GPU by the name that engines are built for."""
    return f"sm_{device.facts.compute_capability.replace('.', '')}"


def _again(path: Path) -> str:
    return f"Type: lnn-edge build BUNDLE --backend {FOR_RTX.backend} --for {_ALL} -o {path.name}"


def _switch(chosen: bool) -> str:
    return "on" if chosen else "off"


def _parts(nodes: int) -> str:
    """How many pieces of work a step is for the GPU, where that is known."""
    return "one fused node" if nodes == 1 else f"in {nodes} nodes" if nodes else "nodes unknown"


def _cache(dialect: Dialect, what: str = "engine") -> EngineCache:
    folder = dialect.backend if what == "engine" else f"{dialect.backend}-{what}s"
    kind = Kind(folder, what, f".{what}")
    return EngineCache(cache_folder(kind), kind)


def _keep_kernels(bundle: Bundle, device: Device, trt: TensorRT, options: Options, engine: Engine) -> None:
    """What was compiled for this GPU while the engine was loaded, for the next time."""
    if not trt.dialect.compiles_late:
        return
    cache, facts = _cache(trt.dialect, "kernel"), _facts(bundle, device, trt, options)
    kernels = engine.kernels()
    if kernels and kernels != _kept(cache, facts):
        cache.write(facts, kernels)


def _kept(cache: EngineCache, facts: dict[str, str]) -> bytes:
    """What only makes a build or a load quicker; b"" where it cannot be used."""
    try:
        return cache.read(facts) or b""
    except EngineRefused:
        return b""


def _ready_engine(
    bundle: Bundle, device: Device, trt: TensorRT, options: Options, progress: Progress, *, rebuild: bool
) -> tuple[Engine, Prepared]:
    """The engine, from the cache or new; one from the cache that TensorRT itself refuses is built again, once."""
    layout, remark, facts = layout_from_manifest(bundle.manifest), "", _facts(bundle, device, trt, options)
    while True:
        plan, prepared = _engine(bundle, device, trt, options, progress, rebuild=rebuild)
        try:
            kernels = _kept(_cache(trt.dialect, "kernel"), facts) if trt.dialect.compiles_late else b""
            engine = trt.load(plan, kernels)
            engine.check(layout)
        except BackendUnavailable as error:
            if prepared.built:
                raise
            rebuild, remark = True, str(error)
            _warn(bundle, remark)
            continue
        return engine, msgspec.structs.replace(prepared, remark=remark or prepared.remark)


def _is_taken(plan: bytes, trt: TensorRT, layout: Layout) -> bool:
    try:
        trt.load(plan).check(layout)
    except BackendUnavailable as error:
        _LOGGER.info("the cached engine is refused: %s", error)
        return False
    return True


def _engine(
    bundle: Bundle, device: Device, trt: TensorRT, options: Options, progress: Progress, *, rebuild: bool
) -> tuple[bytes, Prepared]:
    """The engine's bytes. What is there already is read without waiting for others that build."""
    cache, facts, started = _cache(trt.dialect), _facts(bundle, device, trt, options), time.monotonic()
    built, remark = False, ""
    plan = None if rebuild else _cached(cache, facts)[0]
    if plan is None:
        with cache.building():
            if not rebuild:
                plan, remark = _cached(cache, facts)
            if remark:
                _warn(bundle, remark)
            if plan is None:
                plan, built = _build(bundle, device, trt, options, cache, facts, progress), True
    seconds = time.monotonic() - started
    return plan, Prepared(str(cache.path(facts)), built, seconds, len(plan), remark)


def _cached(cache: EngineCache, facts: dict[str, str]) -> tuple[bytes | None, str]:
    """The engine that is there, or why one that is there cannot be used."""
    try:
        plan = cache.read(facts)
    except EngineRefused as error:
        return None, str(error)
    return plan, "" if plan is not None else cache.why_not_another(facts, _MODEL_FACTS)


def _warn(bundle: Bundle, remark: str) -> None:
    _LOGGER.warning("the cached engine for '%s' is not used and built again: %s", bundle.manifest.name, remark)


def _build(
    bundle: Bundle,
    device: Device,
    trt: TensorRT,
    options: Options,
    cache: EngineCache,
    facts: dict[str, str],
    progress: Progress,
) -> bytes:
    device_facts = {name: value for name, value in facts.items() if name not in _MODEL_FACTS}
    late = trt.dialect.compiles_late
    timings = b"" if late else _kept(cache, device_facts)
    _LOGGER.warning("building an engine for %s with %s; kept for the next time", facts["device"], trt.name)

    def build(watch: Watch) -> Built:
        device.select()  # this is another thread
        return _built(bundle, trt, options, (_sm(device),) if late else (), timings, watch)

    built = watched(build, progress)
    if not late:
        cache.write(device_facts, built.timings)
    cache.write(facts, built.plan)
    return built.plan


def _built(
    bundle: Bundle, trt: TensorRT, options: Options, targets: Sequence[str], timings: bytes, watch: Watch
) -> Built:
    return trt.build(
        bundle.files["model.onnx"],
        half=bundle.manifest.precision != "float32",
        tf32=options.tf32,
        optimization_level=options.optimization_level,
        timings=timings,
        watch=watch,
        targets=targets,
    )


def _facts(bundle: Bundle, device: Device, trt: TensorRT, options: Options) -> dict[str, str]:
    """Everything an engine depends on. What else a bundle holds (names, golden values) does not change its engine."""
    facts = device.facts
    return {
        "model.onnx": bundle.manifest.files["model.onnx"].sha256,
        "precision": bundle.manifest.precision,
        "optimization level": str(options.optimization_level),
        "TF32": _switch(options.tf32),
        trt.dialect.product: trt.version,
        "CUDA runtime": facts.runtime,
        "CUDA driver": facts.driver,
        "compute capability": facts.compute_capability,
        "multiprocessors": str(facts.multiprocessors),
        "device": facts.name,
        **system_facts(),
    }


def _quietly(_phase: str, _done: int, _total: int) -> None:
    """`load` has said that it builds; a library does not draw."""
