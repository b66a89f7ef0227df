"""Step programs as C, compiled for this machine and stepped like the interpreter: for tests of the generator."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compilations import usual_compiler
from exports import locked

from lnn_edge.bundle.directory import Bundle, read_bundle
from lnn_edge.bundle.program import StepProgram
from lnn_edge.bundle.spec import DT_INPUT
from lnn_edge.codegen.c_math import scalar, vector
from lnn_edge.codegen.c_source import c_source
from lnn_edge.codegen.form import Form, Source, form_of
from lnn_edge.codegen.rows import _GENERIC, rows_source
from lnn_edge.codegen.targets import TARGETS, Target
from lnn_edge.machine.cpu import vector_lanes
from lnn_edge.runtime.backends.layout import slab
from lnn_edge.runtime.backends.native.compiler import compiled, find_compiler, flags_for
from lnn_edge.runtime.backends.native.library import Library

DIGEST = "0" * 64
LANES = (1, vector_lanes())  # without vectors, and as wide as this machine is


def source_of(step: StepProgram, lanes: int = 1, prefix: str = "lnn", **form) -> Source:
    return c_source(step, Form(DIGEST, **form), _target(lanes), prefix)


def _target(lanes: int) -> Target:
    return next(own for own in TARGETS if own.lanes == lanes)


def shared_library(name: str, source: Callable[[], Source], *more: str) -> Path:
    """A library in the folder of the run, compiled by whoever comes first, with these flags as well.

    Without any with the least optimisation that there is, in two thirds of the time: these tests ask what a text says.
    What the backend makes of it, it compiles as it does.
    """
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-')}.so"
    with locked(path.with_suffix(".lock")), usual_compiler():
        if not path.exists():
            flags = (*flags_for(platform.machine()), *(more or ("-Og",)))
            path.write_bytes(compiled(find_compiler(), source(), "lnn", flags, folder))
    return path


def rows_in_one(name: str, bundles: Mapping[str, Path]) -> tuple[bytes, dict[str, str]]:
    """A library that steps rows of any of these bundles, and the prefix of each bundle's names."""
    prefixes = {bundle: f"m{place}" for place, bundle in enumerate(bundles)}

    def source() -> Source:
        return _joined(
            {prefixes[own]: _rows_of(read_bundle(path), prefixes[own]) for own, path in bundles.items()}, _ROWS
        )

    return shared_library(name, source, "-std=gnu11").read_bytes(), prefixes


def rows_of_programs(name: str, programs: Mapping[str, Callable[[], StepProgram]]) -> tuple[Path, dict[str, str]]:
    """The same for programs, and where the library lies."""
    prefixes = {own: f"m{place}" for place, own in enumerate(programs)}

    def source() -> Source:
        form, target = Form(DIGEST), _target(LANES[-1])
        return _joined(
            {prefixes[own]: rows_source(make(), form, target, prefixes[own]) for own, make in programs.items()}, _ROWS
        )

    return shared_library(name, source, "-std=gnu11", "-Og"), prefixes


def _rows_of(bundle: Bundle, prefix: str) -> Source:
    form = form_of(bundle.manifest, bundle.program_digest())
    return rows_source(bundle.program(), form, _target(LANES[-1]), prefix)


def _joined(sources: Mapping[str, Source], shared: str) -> Source:
    """Several models as one, each with names of its own: what all begin with is there once."""
    again = "\n".join(re.findall(r"^#define anyv.*", shared, re.M))  # which the end of each takes away
    headers, bodies = [], []
    for prefix, source in sources.items():
        head = f'#include "{prefix}.h"\n{shared}'
        assert source.source.startswith(head), "sources no longer begin with what several could share"
        header, body = source.header, source.source[len(head) :]
        if len(sources) > 1:
            own = dict.fromkeys(_OF_A_FILE.findall(body))
            renamed = re.compile(rf"(?<![.>\w])({'|'.join(own)})\b")
            header, body = (renamed.sub(rf"{prefix}_\1", text) for text in (header, body))
        headers.append(header)
        bodies.append(f"{again}\n{body}")
    return Source("\n".join(headers), f'#include "lnn.h"\n{shared}' + "\n".join(bodies))


def _math(lanes: int) -> str:
    """What each text begins with, behind its header."""
    return f"#include <math.h>\n\n{scalar(lanes)}\n{vector(lanes)}\n"


_ROWS = _math(LANES[-1]) + _GENERIC
_OF_A_FILE = re.compile(r"^(?:static|INLINE\w*|CALLED)\b[^;{}=(]*?\b(\w+)\s*(?:\[[^=;]*=|\()", re.M)


@dataclass(frozen=True)
class Wanted:
    """A model to generate.

    Args:
        step: Its program.
        form: How it is called.
    """

    step: StepProgram
    form: Mapping[str, Any]


class Family:
    """Models that are compiled as one file: a compiler takes longer to start and to read than for most of them.

    Args:
        name: Of the family, of all the runs' families.
        lanes: Of all of them.
        members: Their names, and what makes each; only who compiles makes all of them.
    """

    def __init__(self, name: str, lanes: int, members: Mapping[str, Callable[[], Wanted]]) -> None:
        self._name, self._lanes, self._members = f"{name} {lanes}", lanes, members
        self._prefixes = {member: f"m{place}" for place, member in enumerate(members)}

    def __getitem__(self, member: str) -> Generated:
        own = self._members[member]()
        path = shared_library(self._name, self._source)
        return Generated(own.step, Library(ctypes.CDLL(str(path)), self._prefixes[member]), **own.form)

    def _source(self) -> Source:
        made = {self._prefixes[member]: make() for member, make in self._members.items()}
        sources = {p: source_of(own.step, self._lanes, p, **own.form) for p, own in made.items()}
        return _joined(sources, _math(self._lanes))


class Generated:
    """Stepped like `lnn_edge.reference.interpreter.Interpreter`, with as many rows and samples as it was made for."""

    def __init__(self, step: StepProgram, library: Library, *, batch: int = 1, unroll: int = 1, **_form) -> None:
        self.program, self.batch, self.unroll = step.program, batch, unroll
        self.tensors = step.tensors
        self.library = library
        inputs = {own.name: self._shape(own.shape) for own in step.program.inputs}
        dtypes = {own.name: own.dtype for own in step.program.inputs}
        if step.program.elapsed.dt:
            inputs, dtypes = inputs | {DT_INPUT: (batch, unroll)}, dtypes | {DT_INPUT: "float32"}
        outputs = {own.name: self._shape(own.shape) for own in step.program.outputs}
        self.states = {own.name: (batch, *own.shape) for own in step.program.states}
        facts, results = self.library.facts, slab(outputs | self.states, 4)
        self.x, self._sample = _memory(slab(inputs, 4, dtypes), facts.input)
        # A program without states has a number in the place of them.
        self._places = [_memory(results, max(facts.results, results.nbytes)) for _ in range(2)]
        self._work = np.zeros(facts.work, np.uint8)
        places = (self._work, self.x, *(place for place, _ in self._places))
        self._addresses = [array.ctypes.data for array in places]
        assert slab(inputs, 4, dtypes).nbytes == facts.input
        assert facts.results - results.nbytes == (0 if self.states else 4)

    def _shape(self, shape):
        return (self.batch, *shape) if self.unroll == 1 else (self.batch, self.unroll, *shape)

    def start(self) -> dict[str, np.ndarray]:
        initial = {own.name: own.initial for own in self.program.states}
        values = {name: np.zeros(shape, np.float32) for name, shape in self.states.items()}
        for name, tensor in initial.items():
            if tensor is not None:
                values[name][:] = self.tensors[tensor]
        return values

    def step(self, inputs: Mapping[str, np.ndarray], states: Mapping[str, np.ndarray], dt_s=None):
        """Outputs and next states, float32."""
        for name, value in inputs.items():
            self._sample[name][...] = value
        if dt_s is not None:
            self._sample[DT_INPUT][...] = dt_s
        (_, before), (_, after) = self._places
        for name, value in states.items():
            before[name][...] = value
        self.status = self.library.advance(*self._addresses)
        results = {name: value.copy() for name, value in after.items()}
        return {n: v for n, v in results.items() if n not in self.states}, {n: results[n] for n in self.states}

    def run(self, x):
        """Outputs of a recording, by the public functions of a model; one row, one input and one output."""
        memory, facts = np.zeros(self.library.facts.model, np.uint8), self.library.facts
        y = np.zeros((len(x), facts.output // 4), np.float32)
        assert x.dtype == np.float32
        assert x.nbytes == len(x) * facts.input
        self.call("init", memory)
        assert self.call("run", memory, len(x), np.ascontiguousarray(x), y) == len(x)
        return y

    def call(self, name, *arguments):
        """Call a function of the public interface that takes addresses and numbers."""
        own = [value.ctypes.data if isinstance(value, np.ndarray) else value for value in arguments]
        result = ctypes.c_size_t if name == "run" else ctypes.c_int
        return self.library.function(name, result, *[ctypes.c_size_t] * len(own))(*own)


def _memory(places, nbytes):
    raw = np.zeros(nbytes, np.uint8)
    return raw, places.views(raw.view(np.float32))
