"""The `native` backend: the step program as C, compiled on this machine and kept in the user's cache."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from collections.abc import Mapping

from ....backends import Prepared
from ....bundle.directory import Bundle
from ....bundle.spec import PROGRAM_JSON, PROGRAM_WEIGHTS
from ....codegen.c_source import ABI, GENERATOR, Form, c_source, form_of, why_not
from ....codegen.targets import TARGETS, Target
from ....errors import BackendUnavailable, BundleError
from ....machine.cpu import cpu_extensions, vector_lanes
from ....progress import Progress
from ..build_cache import EngineCache, EngineRefused, Kind, cache_folder
from .compiler import compiled, find_compiler, flags_for
from .library import Library, load_library
from .stepper import NativeStepper

__all__ = ["LIBRARIES", "NativeBackend"]

LIBRARIES = Kind("native", "library", ".so")
_LOGGER = logging.getLogger("lnn_edge.native")
_PREFIX = "lnn"


class NativeBackend:
    """One library, shared by all streams; see `lnn_edge.backends.Backend`."""

    def __init__(self, bundle: Bundle, threads: int, options: Mapping[str, str]) -> None:  # noqa: ARG002
        made = _Making(bundle)
        self._manifest = bundle.manifest
        self._library, prepared = made.ready(rebuild=False)
        name = os.path.basename(prepared.path).partition(".")[0][:8]
        lanes = self._library.facts.lanes
        self.description = f"C compiled by {made.compiler.identity}, {lanes} lanes, build {name}, 1 thread"

    def stepper(self) -> NativeStepper:
        """Make the buffers for one stream."""
        return NativeStepper(self._library, self._manifest)

    @classmethod
    def prepare(cls, bundle: Bundle, options: Mapping[str, str], progress: Progress, *, rebuild: bool) -> Prepared:  # noqa: ARG003
        """Compile the step, or find it in the cache.

        Raises:
            BackendUnavailable: If it cannot be compiled here.
        """
        return _Making(bundle).ready(rebuild=rebuild)[1]

    @classmethod
    def why_not_bundle(cls, bundle: Bundle) -> str | None:
        """Why there is no C of a bundle, or `None`."""
        try:
            return why_not(bundle.program())
        except BundleError as error:
            return str(error)


class _Making:
    """A bundle's library on its way from the program to the process."""

    def __init__(self, bundle: Bundle) -> None:
        problem = NativeBackend.why_not_bundle(bundle)
        if problem:
            raise BackendUnavailable(
                f"backend 'native' cannot run bundle '{bundle.path}': {problem}. Type: --backend onnxruntime"
            )
        self._bundle, self.compiler = bundle, find_compiler()
        self._target: Target = next(t for t in TARGETS if t.lanes == vector_lanes())
        self._flags = flags_for(platform.machine())
        self._form = form_of(bundle.manifest, _digest(bundle))

    def ready(self, *, rebuild: bool) -> tuple[Library, Prepared]:
        """The library and where it lies. What is there already is read without waiting for others that compile."""
        cache, started = EngineCache(cache_folder(LIBRARIES), LIBRARIES), time.monotonic()
        facts, built, remark = self._facts(), False, ""
        data = None if rebuild else _cached(cache, facts)[0]
        if data is None:
            with cache.building():
                if not rebuild:
                    data, remark = _cached(cache, facts)
                if data is None:
                    data, built = self._build(cache, facts, remark), True
        library = load_library(data, _PREFIX, self._form.digest)
        seconds = time.monotonic() - started
        return library, Prepared(str(cache.path(facts)), built, seconds, len(data), remark)

    def _build(self, cache: EngineCache, facts: dict[str, str], remark: str) -> bytes:
        name = self._bundle.manifest.name
        if remark:
            _LOGGER.warning("the cached library for '%s' is not used and built again: %s", name, remark)
        _LOGGER.info("compiling '%s' with %s; kept for the next time", name, self.compiler.identity)
        source = c_source(self._bundle.program(), self._form, self._target, _PREFIX)
        data = compiled(self.compiler, source, _PREFIX, self._flags, cache.folder)
        cache.write(facts, data)
        return data

    def _facts(self) -> dict[str, str]:
        """Everything a library depends on. What else a bundle holds does not change it."""
        return {
            "program": self._form.digest,
            "form": _form_text(self._form),
            "generator": f"{GENERATOR}.{ABI}",
            "lanes": str(self._target.lanes),
            "compiler": f"{' '.join(self.compiler.command)}: {self.compiler.identity}",
            "flags": " ".join(self._flags),
            "processor": platform.machine(),
            "extensions": hashlib.sha256(" ".join(sorted(cpu_extensions())).encode()).hexdigest()[:16],
        }


def _digest(bundle: Bundle) -> str:
    """Of the program and its weights, and of nothing else in the bundle."""
    parts = [hashlib.sha256(bundle.files[name]).digest() for name in (PROGRAM_JSON, PROGRAM_WEIGHTS)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _form_text(form: Form) -> str:
    constants = (
        hashlib.sha256("\0".join(sorted(form.constants)).encode()).hexdigest()[:16] if form.constants else "none"
    )
    return f"batch {form.batch}, unroll {form.unroll}, {form.precision}, constants {constants}"


def _cached(cache: EngineCache, facts: dict[str, str]) -> tuple[bytes | None, str]:
    """The library that is there, or why one that is there cannot be used."""
    try:
        return cache.read(facts), ""
    except EngineRefused as error:
        return None, str(error)
