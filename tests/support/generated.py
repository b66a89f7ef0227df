"""A step program as C, compiled for this machine and stepped like the interpreter: for tests of the generator."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lnn_edge.bundle.program import StepProgram
from lnn_edge.bundle.spec import DT_INPUT
from lnn_edge.codegen.c_source import Form, Source, c_source
from lnn_edge.codegen.targets import TARGETS
from lnn_edge.machine.cpu import vector_lanes
from lnn_edge.runtime.backends.layout import slab
from lnn_edge.runtime.backends.native.compiler import compiled, find_compiler, flags_for
from lnn_edge.runtime.backends.native.library import Library, load_library

DIGEST = "0" * 64
LANES = (1, vector_lanes())  # without vectors, and as wide as this machine is


def source_of(step: StepProgram, lanes: int = 1, **form) -> Source:
    return c_source(step, Form(DIGEST, **form), next(own for own in TARGETS if own.lanes == lanes))


def built(source: Source, prefix: str = "lnn", digest: str = DIGEST) -> Library:
    """A library, compiled in half the time: nothing here is timed."""
    with TemporaryDirectory() as folder:
        return load_library(
            compiled(find_compiler(), source, prefix, flags_for(platform.machine()), Path(folder)), prefix, digest
        )


class Generated:
    """Stepped like `lnn_edge.reference.interpreter.Interpreter`, with as many rows and samples as it was made for."""

    def __init__(self, step: StepProgram, lanes: int = 1, *, batch: int = 1, unroll: int = 1, **form) -> None:
        self.program, self.batch, self.unroll = step.program, batch, unroll
        self.tensors = step.tensors
        self.library = built(source_of(step, lanes, batch=batch, unroll=unroll, **form))
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
        (source, before), (target, after) = self._places
        for name, value in states.items():
            before[name][...] = value
        self.status = self.library.advance(
            self._work.ctypes.data, self.x.ctypes.data, source.ctypes.data, target.ctypes.data
        )
        results = {name: value.copy() for name, value in after.items()}
        return {n: v for n, v in results.items() if n not in self.states}, {n: results[n] for n in self.states}


def _memory(places, nbytes):
    raw = np.zeros(nbytes, np.uint8)
    return raw, places.views(raw.view(np.float32))


def function_of(library: Library, name: str):
    """A function of the public interface that takes addresses."""
    found = getattr(library.whole, name)
    found.restype = ctypes.c_size_t if name.endswith("run") else ctypes.c_int
    return found
