"""The `native` backend: the step program as C, compiled on this machine and kept in the user's cache."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ....backend_protocols import Prepared
from ....bundle.directory import Bundle
from ....bundle.encoder import step_multiplications
from ....bundle.golden import golden_from_bundle
from ....codegen.form import ABI, GENERATOR, ROWS_ABI, Form, form_of
from ....errors import BackendUnavailable, BundleError, ModelWarning
from ....machine.cpu import cpu_extensions, vector_lanes
from ....progress import Progress
from ....remarks import warn_caller
from ....wording import other_backend_advice
from ...compiled.extension import why_no_extension
from ..build_cache import EngineCache, EngineRefused, Kind, cache_folder
from ..forks import Turns
from .compiler import CompileFailed, compiled, find_compiler, flags_for
from .library import Library, load_library
from .rows import NativeRows
from .stepper import NativeStepper
from .tuning import Way, fastest, synapses, ways

if TYPE_CHECKING:  # here and below: a start that finds all it needs has nothing to say
    import logging

    from ....codegen.form import Source
    from ....codegen.targets import Target

__all__ = ["LIBRARIES", "NativeBackend"]

LIBRARIES = Kind("native", "library", ".so")
_CHOICES = Kind("native", "choice", ".choice")
_COMPILERS = Kind("native", "library", ".compiler")
_FAILURES = Kind("native", "failure", ".failed")
_REMEMBERED_S = 5.0  # how long a compiler took that failed: what fails sooner is tried again, as its cause may be gone
_PREFIX = "lnn"
_ROWS_FLAGS = ("-std=gnu11",)  # for `_Generic`
_BRIEF = 1 << 20  # multiplications, some 50 us: what other threads may wait for an interpreter's lock


class NativeBackend:
    """One library, shared by all streams; see `lnn_edge.backend_protocols.Backend`.

    Attributes:
        build: Its name, which snapshots carry: another build of the same step gives other last bits.
    """

    def __init__(self, bundle: Bundle, threads: int, options: Mapping[str, str]) -> None:  # noqa: ARG002
        made = self._made = _Making(bundle, options)
        self._manifest = bundle.manifest
        self._rows: NativeRows | None = None
        self._rows_known, self._compiling = False, Turns()
        self._begun: object = None  # the lock under which rows are being made
        self._library, _ = made.ready(rebuild=False)
        self.build = self._library.build
        turns = bundle.manifest.batch * bundle.manifest.unroll
        self._briefly = turns * step_multiplications(bundle.program()) <= _BRIEF
        lanes = self._library.facts.lanes
        self.description = f"C compiled by {made.compiler.identity}, {lanes} lanes, build {self.build}, 1 thread"
        problem = why_no_extension()
        if problem:
            self.description += f", called through ctypes without the extension ({problem})"

    def stepper(self) -> NativeStepper:
        """Make the buffers for one stream."""
        return NativeStepper(self._library, self._manifest, briefly=self._briefly)

    def rows(self) -> NativeRows | None:
        """See `lnn_edge.backend_protocols.StepsRows`: compiled at the first call, as few programs need it.

        Warns:
            ModelWarning: Once, if it cannot be compiled: then streams go one by one.
        """
        if not self._rows_known:
            lock = self._compiling.lock
            with lock:
                if self._begun is lock:  # by this thread: a signal's handler has interrupted it, and waits for nobody
                    return None
                self._begun = lock
                try:
                    self._make_rows()
                finally:
                    self._begun = None
        return self._rows

    def _make_rows(self) -> None:
        """Look for it once: a second try would take as long, and rows would change their last bits on the way."""
        if self._rows_known or self._made.why_no_rows() is not None:
            self._rows_known = True
            return
        try:
            self._rows = NativeRows(self._made.rows(), _PREFIX, self._made.digest, self._manifest)
        except BackendUnavailable as error:
            name = self._manifest.name
            warn_caller(f"many streams of model '{name}' are stepped one by one, which is slow: {error}", ModelWarning)
        self._rows_known = True

    @classmethod
    def prepare(cls, bundle: Bundle, options: Mapping[str, str], progress: Progress, *, rebuild: bool) -> Prepared:  # noqa: ARG003
        """Compile the step, or find it in the cache.

        Raises:
            BackendUnavailable: If it cannot be compiled here.
        """
        return _Making(bundle, options).ready(rebuild=rebuild)[1]

    @classmethod
    def why_not_bundle(cls, bundle: Bundle) -> str | None:
        """Why there is no C of a bundle, or `None`."""
        from ....codegen.c_source import why_not

        try:
            return why_not(bundle.program(), bundle.manifest.batch * bundle.manifest.unroll)
        except BundleError as error:
            return str(error)


class _Making:
    """A bundle's library on its way from the program to the process."""

    def __init__(self, bundle: Bundle, options: Mapping[str, str]) -> None:
        self._bundle, self.compiler = bundle, find_compiler(lambda: EngineCache(cache_folder(_COMPILERS), _COMPILERS))
        self._flags = flags_for(platform.machine())
        try:
            self._form = form_of(bundle.manifest, bundle.program_digest())
        except BundleError:  # of an older schema
            self._refuse()
            raise
        self._ways = ways(self.compiler, vector_lanes(), platform.machine(), synapses(bundle.program()))
        if options["tune"] == "off":
            self._ways = self._ways[:1]
        self._cache = EngineCache(cache_folder(LIBRARIES), LIBRARIES)
        self._choices = EngineCache(cache_folder(_CHOICES), _CHOICES)
        self._failures = EngineCache(cache_folder(_FAILURES), _FAILURES)
        self._remark = ""
        self._sources: dict[Target, Source] = {}  # while ways are tried: writing one takes a third of compiling it

    def ready(self, *, rebuild: bool) -> tuple[Library, Prepared]:
        """The library and where it lies. What is there already is read without waiting for others that compile."""
        started = time.monotonic()
        way, data = (None, None) if rebuild else self._kept()
        how, built = "", False
        if way is None or data is None:
            self._refuse()
            with self._cache.building():
                way, data = (None, None) if rebuild else self._kept()
                if way is None or data is None:
                    self._say()
                    way, data, how = (
                        self._choose(fresh=rebuild) if way is None else (way, self._build(way, fresh=rebuild), "")
                    )
                    built = True
                    self._sources.clear()
        library = load_library(data, _PREFIX, self._form.digest)
        seconds = time.monotonic() - started
        path = str(self._cache.path(self._facts(way)))
        return library, Prepared(path, built, seconds, len(data), self._remark, how or str(way))

    def _refuse(self) -> None:
        """Refuse a bundle of which there is no C; asked where nothing was compiled before, as the writers take long."""
        problem = NativeBackend.why_not_bundle(self._bundle)
        if problem:
            raise BackendUnavailable(
                f"backend 'native' cannot run bundle '{self._bundle.path}': {problem}. "
                f"{other_backend_advice('onnxruntime')}"
            )

    @property
    def digest(self) -> str:
        """What a library says that it was made from."""
        return self._form.digest

    def why_no_rows(self) -> str | None:
        """Why streams go one by one, or `None`."""
        if any(tensor.center for tensor in self._bundle.manifest.inputs):
            return "inputs are centred in float64"
        if self._ways[0].target.lanes == 1:
            return "registers hold one number"
        from ....codegen.rows import why_no_rows

        return why_no_rows(self._bundle.program(), self._form)

    def rows(self) -> bytes:
        """The library that steps many streams, compiled or found."""
        target, flags = self._ways[0].target, (*self._flags, *_ROWS_FLAGS)
        facts = self._common() | {"lanes": str(target.lanes), "rows": f"{ROWS_ABI} {' '.join(_ROWS_FLAGS)}"}
        with self._cache.building():
            found = None
            with suppress(EngineRefused):  # it is only a copy: another one is compiled
                found = self._cache.read(facts)
            if found is None:
                name = self._bundle.manifest.name
                _logger().info(
                    "compiling '%s' for many streams with %s; kept for the next time", name, self.compiler.identity
                )
                from ....codegen.rows import rows_source

                source = rows_source(self._bundle.program(), self._form, target, _PREFIX)
                found = compiled(self.compiler, source, _PREFIX, flags, self._cache.folder)
                self._cache.write(facts, found)
        return found

    def _kept(self) -> tuple[Way | None, bytes | None]:
        """What is there: the choice that was made before, and its library."""
        way = self._chosen()
        return way, None if way is None else self._cached(way)

    # ---------------------------------------------------------------- the choice

    def _chosen(self) -> Way | None:
        """The way that was chosen before, or the only one there is."""
        if len(self._ways) == 1:
            return self._ways[0]
        with suppress(EngineRefused):  # it is only a choice: another one is made
            name = (self._choices.read(self._common() | {"choice": "way"}) or b"").decode()
            return next((way for way in self._ways if str(way) == name), None)
        return None

    def _choose(self, *, fresh: bool) -> tuple[Way, bytes, str]:
        """Choose a way and keep the choice, and what was compiled for it; `fresh`: compile all of them again."""
        made: dict[Way, bytes] = {}

        def build(way: Way) -> Library:
            made[way] = (None if fresh else self._cached(way)) or self._build(way, fresh=fresh)
            return load_library(made[way], _PREFIX, self._form.digest)

        way, measured = fastest(self._ways, build, self._bundle.manifest, golden_from_bundle(self._bundle))
        if len(self._ways) > 1:
            self._choices.write(self._common() | {"choice": "way"}, str(way).encode())
        taken = "; ".join(f"{own}: {us:.2f} us a step" for own, us in measured.items())
        return way, made[way], f"{way} (measured: {taken})" if taken else str(way)

    # ---------------------------------------------------------------- a build

    def _say(self) -> None:
        """Once, however many ways are tried."""
        name = self._bundle.manifest.name
        if self._remark:
            _logger().warning("the cached library for '%s' is not used and built again: %s", name, self._remark)
        _logger().info("compiling '%s' with %s; kept for the next time", name, self.compiler.identity)

    def _build(self, way: Way, *, fresh: bool) -> bytes:
        """Compile it; what failed before, after a long time, fails at once, unless all is to be made afresh."""
        failure = self._facts(way) | {"failure": "compiler"}
        if not fresh:
            self._refuse_what_failed(failure)
        source, started = self._source(way.target), time.monotonic()
        try:
            data = compiled(self.compiler, source, _PREFIX, (*self._flags, *way.flags), self._cache.folder)
        except CompileFailed as error:
            if time.monotonic() - started > _REMEMBERED_S:
                self._failures.write(failure, str(error).encode())
            raise
        self._cache.write(self._facts(way), data)
        self._failures.forget(failure)
        return data

    def _source(self, target: Target) -> Source:
        from ....codegen.c_source import c_source

        if target not in self._sources:
            self._sources[target] = c_source(self._bundle.program(), self._form, target, _PREFIX)
        return self._sources[target]

    def _refuse_what_failed(self, failure: Mapping[str, str]) -> None:
        with suppress(EngineRefused):  # it is only a memory: without one it is tried again
            said = self._failures.read(failure)
            if said is not None:
                raise BackendUnavailable(
                    f"not tried again: the last time {said.decode().rstrip('.')}. "
                    f"Type: lnn-edge build {self._bundle.path} --backend native --rebuild"
                )

    def _cached(self, way: Way) -> bytes | None:
        """The library that is there; why one that is there cannot be used goes into the remark."""
        try:
            return self._cache.read(self._facts(way))
        except EngineRefused as error:
            self._remark = str(error)
            return None

    def _facts(self, way: Way) -> dict[str, str]:
        """Everything a library depends on. What else a bundle holds does not change it."""
        return self._common() | {"lanes": str(way.target.lanes), "more flags": " ".join(way.flags)}

    def _common(self) -> dict[str, str]:
        """What all ways have in common."""
        return {
            "program": self._form.digest,
            "form": _form_text(self._form),
            "generator": f"{GENERATOR}.{ABI}",
            "compiler": f"{' '.join(self.compiler.command)}: {self.compiler.identity}",
            "flags": " ".join(self._flags),
            "processor": platform.machine(),
            "extensions": hashlib.sha256(" ".join(sorted(cpu_extensions())).encode()).hexdigest()[:16],
        }


def _logger() -> logging.Logger:
    import logging

    return logging.getLogger("lnn_edge.native")


def _form_text(form: Form) -> str:
    constants = (
        hashlib.sha256("\0".join(sorted(form.constants)).encode()).hexdigest()[:16] if form.constants else "none"
    )
    return f"batch {form.batch}, unroll {form.unroll}, {form.precision}, constants {constants}"
