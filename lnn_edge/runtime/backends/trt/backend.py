"""The `tensorrt` backend: an engine built on this device, kept in the user's cache, run by `GpuStepper`."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Mapping

from ....backends import Prepared
from ....bundle.directory import Bundle
from ....errors import BackendError, BackendUnavailable
from ....machine.jetson import system_facts
from ....progress import Progress
from ...measure.durations import DeviceFigures
from ..build_cache import EngineCache, EngineRefused, cache_folder
from ..layout import Layout, layout_from_manifest
from .build_watch import Watch, watched
from .cudart import CudaError
from .device import Device, open_device, unavailable
from .device_figures import measure
from .engines import Built, Engine, TensorRT, open_tensorrt
from .options import Options, options_from_table
from .stepper import EnqueueRefused, GpuStepper

__all__ = ["TensorRTBackend", "why_not_ready"]

_LOGGER = logging.getLogger("lnn_edge.tensorrt")
_MODEL_FACTS = ("model.onnx", "precision", "optimization level", "TF32")  # the others are of the device


class TensorRTBackend:
    """One engine, shared by all streams; see `lnn_edge.backends.Backend`.

    Attributes:
        captured: How many streams run as one graph.
        fallbacks: How many could not be captured and queue their parts one by one.
    """

    def __init__(self, bundle: Bundle, threads: int, options: Mapping[str, str]) -> None:  # noqa: ARG002
        self._options = options_from_table(options)
        self._layout = layout_from_manifest(bundle.manifest)
        self.captured = self.fallbacks = 0
        self._counting = threading.Lock()
        self._device, trt = _open()
        self._engine, _ = _ready_engine(bundle, self._device, trt, self._options, _quietly, rebuild=False)
        self._spare = [self._make()]  # the first stream: whether a graph can be captured shows now, not in the loop
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
        device, trt = _open()
        return _ready_engine(bundle, device, trt, options_from_table(options), progress, rebuild=rebuild)[1]

    @classmethod
    def is_built(cls, bundle: Bundle, options: Mapping[str, str]) -> bool:
        """Whether the cache holds an engine for this device that TensorRT takes: one that it refuses is built again.

        Raises:
            BackendUnavailable: If the cache cannot be used.
        """
        device, trt = _open()
        cache = EngineCache(cache_folder())
        plan, _ = _cached(cache, _facts(bundle, device, trt, options_from_table(options)))
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
        return f"TensorRT {trt.version} on {where}, {how}, wait {wait}{extras}"


def why_not_ready() -> str | None:
    """Say why TensorRT cannot run here, or `None` if it can: driver, device and library, in this order."""
    try:
        _open()
    except BackendUnavailable as error:
        return str(error)
    return None


def _open() -> tuple[Device, TensorRT]:
    """The driver first: TensorRT without one crashes the process."""
    device = open_device()
    try:
        device.select()
    except CudaError as error:
        raise unavailable(error) from error
    return device, open_tensorrt()


def _ready_engine(
    bundle: Bundle, device: Device, trt: TensorRT, options: Options, progress: Progress, *, rebuild: bool
) -> tuple[Engine, Prepared]:
    """The engine, from the cache or new; one from the cache that TensorRT itself refuses is built again, once."""
    layout, remark = layout_from_manifest(bundle.manifest), ""
    while True:
        plan, prepared = _engine(bundle, device, trt, options, progress, rebuild=rebuild)
        try:
            engine = trt.load(plan)
            engine.check(layout)
        except BackendUnavailable as error:
            if prepared.built:
                raise
            rebuild, remark = True, str(error)
            _warn(bundle, remark)
            continue
        return engine, dataclasses.replace(prepared, remark=remark or prepared.remark)


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
    cache, facts, started = EngineCache(cache_folder()), _facts(bundle, device, trt, options), time.monotonic()
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
    try:
        timings = cache.read(device_facts) or b""
    except EngineRefused:  # it only makes builds quicker
        timings = b""
    _LOGGER.warning("building an engine for %s with TensorRT %s; kept for the next time", facts["device"], trt.version)

    def build(watch: Watch) -> Built:
        device.select()  # this is another thread
        return trt.build(
            bundle.files["model.onnx"],
            half=bundle.manifest.precision != "float32",
            tf32=options.tf32,
            optimization_level=options.optimization_level,
            timings=timings,
            watch=watch,
        )

    built = watched(build, progress)
    cache.write(device_facts, built.timings)
    cache.write(facts, built.plan)
    return built.plan


def _facts(bundle: Bundle, device: Device, trt: TensorRT, options: Options) -> dict[str, str]:
    """Everything an engine depends on. What else a bundle holds (names, golden values) does not change its engine."""
    facts = device.facts
    return {
        "model.onnx": bundle.manifest.files["model.onnx"].sha256,
        "precision": bundle.manifest.precision,
        "optimization level": str(options.optimization_level),
        "TF32": "on" if options.tf32 else "off",
        "TensorRT": trt.version,
        "CUDA runtime": facts.runtime,
        "CUDA driver": facts.driver,
        "compute capability": facts.compute_capability,
        "multiprocessors": str(facts.multiprocessors),
        "device": facts.name,
        **system_facts(),
    }


def _quietly(_phase: str, _done: int, _total: int) -> None:
    """`load` has said that it builds; a library does not draw."""
