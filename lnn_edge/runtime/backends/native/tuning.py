"""The choice of a build: which width of registers and which flags make a step the fastest here, measured once.

What is fastest is no matter of rules: of two models of one size one is best in registers of 8 numbers instead of 16,
because its layers then fill them, and what a compiler gains by ordering instructions anew it loses again where it runs
out of registers, or where this processor's own order is the better one. Each way is compiled and steps the golden
samples, taking turns with the others.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from ....arrays import Array
from ....bundle.golden import Golden
from ....bundle.manifest import Manifest
from ....bundle.program import StepProgram
from ....bundle.step_cores import Ltc
from ....codegen.targets import TARGETS, Target
from ....errors import BackendUnavailable
from ..layout import slab
from .compiler import Compiler
from .library import Library
from .stepper import ALIGNMENT, zeros

__all__ = ["BUDGET_S", "Way", "fastest", "step_us", "synapses", "ways"]

BUDGET_S = 4.0  # of compiling, after which no other way is tried: a first use waits for all of it
_GAIN = 0.98  # of the usual way's time: what is nearer than that, another run would tell otherwise
_SERIES_NS = 2_000_000
_MOST_CALLS, _ROUNDS = 256, 15
_MOST_NS = 500_000_000  # of all rounds: where a call takes long, few tell which way is the shorter
_MOST_BYTES = 16 << 20  # of samples and results
# Of GCC: better with 32 registers. With 16 it must count them; of forty models twenty-nine are then faster, by up to
# 16 %, and seven slower, by 5 to 44 %.
_SCHEDULED = ("-fschedule-insns",)
_COUNTED = ("-fsched-pressure",)
# This processor's instructions, ordered for any. GCC: of seven LTC of more than 10,000 synapses six are faster, by 1 to
# 5 %, as their loop over permuted rows is, and one slower, by 2 %; smaller ones gain less than counts, and CfC nothing.
# Clang: small CfC gain 5 to 11 %, others nothing. aarch64 knows it too, where nobody has measured it.
_GENERIC = ("-mtune=generic",)
_MANY = 10_000  # synapses of a step


class Way(msgspec.Struct, frozen=True):
    """One way to compile a step.

    Args:
        target: Whose registers.
        flags: Besides the usual ones.
    """

    target: Target
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join([f"{self.target.lanes} lanes", *self.flags])


def synapses(step: StepProgram) -> int:
    """How many synapses of LTC a step computes: those from inputs, and in each unfold those between neurons."""
    return sum(
        len(step.tensors[node.sensory.w]) + node.unfolds * len(step.tensors[node.synapses.w])
        for node in step.program.nodes
        if isinstance(node, Ltc)
    )


def ways(compiler: Compiler, lanes: int, machine: str, synapses: int) -> tuple[Way, ...]:
    """The ways worth a try on a processor, the usual one first, then those that are likely to gain.

    Args:
        compiler: What compiles.
        lanes: How many numbers its widest registers hold.
        machine: As `platform.machine()` says it.
        synapses: Of a step, as `synapses` counts them.
    """
    by_lanes = {target.lanes: target for target in TARGETS if target.gcc is None}  # the kinds of registers
    clang = "clang" in compiler.identity.lower()
    found = [Way(by_lanes[lanes])]
    if machine == "x86_64" and lanes >= 8 and (clang or synapses >= _MANY):
        found.append(Way(by_lanes[lanes], _GENERIC))
    if not clang:
        found += [Way(by_lanes[lanes], flags) for flags in _orders(lanes, machine)]
    if lanes == 16:  # registers of 4 numbers instead of 8 are 1.2 to 2.9 times as slow
        found.append(Way(by_lanes[lanes // 2]))
    return tuple(found)


def _orders(lanes: int, machine: str) -> Iterator[tuple[str, ...]]:
    """Flags with which GCC orders instructions before it hands out registers."""
    if lanes == 16 or (lanes > 1 and machine in ("aarch64", "arm64")):
        yield _SCHEDULED
    elif lanes == 8:
        yield (*_SCHEDULED, *_COUNTED)


def fastest(
    candidates: Sequence[Way], build: Callable[[Way], Library], manifest: Manifest, golden: Golden
) -> tuple[Way, Mapping[Way, float]]:
    """Compile each way, as long as there is time, and step it.

    Args:
        candidates: The usual one first, which must compile.
        build: Compiles one; it may raise for others than the first.
        manifest: The model.
        golden: Samples of it.

    Returns:
        The way, and microseconds of a step of each that was measured.
    """
    libraries: dict[Way, Library] = {}
    started, last = time.monotonic(), 0.0
    for way in candidates:
        begun = time.monotonic()
        if libraries and begun - started + last > BUDGET_S:
            break
        try:
            libraries[way] = build(way)
        except BackendUnavailable:
            if not libraries:
                raise
        last = time.monotonic() - begun
    usual, *others = libraries
    if not others:
        return usual, {}
    measured = dict(zip(libraries, step_us(list(libraries.values()), manifest, golden), strict=True))
    best = min(others, key=lambda way: measured[way])
    return (best if measured[best] < _GAIN * measured[usual] else usual), measured


def step_us(libraries: Sequence[Library], manifest: Manifest, golden: Golden) -> list[float]:
    """The shortest step of each library that a series of calls shows, microseconds."""
    facts = libraries[0].facts
    samples = _samples(manifest, golden, min(_MOST_CALLS, max(1, _MOST_BYTES // (facts.input + facts.output))))
    runs = [_run(library, samples) for library in libraries]
    calls = [min(len(samples), max(1, _SERIES_NS // max(_timed(run, 1), 1))) for run in runs]  # the first is warm now
    found, taken, rounds = [float("inf")] * len(runs), 0, 0
    while rounds < _ROUNDS and taken < _MOST_NS:
        for k, run in enumerate(runs):
            own = _timed(run, calls[k])
            found[k], taken = min(found[k], own / calls[k] / 1e3), taken + own
        rounds += 1
    return found


def _timed(run: Callable[[int], None], calls: int) -> int:
    started = time.perf_counter_ns()
    run(calls)
    return time.perf_counter_ns() - started


def _run(library: Library, samples: Array) -> Callable[[int], None]:
    """A function that runs the first samples, one after the other, from the state that the last call left."""
    facts = library.facts
    model, outputs = zeros(facts.model), zeros(facts.output * len(samples))
    places = [ctypes.c_void_p(own.ctypes.data) for own in (model, samples, outputs)]
    library.function("init", None, ctypes.c_void_p)(places[0])
    recording = library.function("run", ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_void_p] * 2)

    def run(calls: int, _keep: tuple[Array, ...] = (model, samples, outputs)) -> None:
        recording(places[0], calls, places[1], places[2])

    return run


def _samples(manifest: Manifest, golden: Golden, calls: int) -> Array:
    """Golden samples as the library takes them, uint8 (calls, bytes)."""
    inputs = slab(manifest.sample_inputs(), ALIGNMENT, manifest.sample_dtypes())
    memory = zeros(calls * inputs.nbytes).reshape(calls, inputs.nbytes)
    for k, row in enumerate(memory):
        for name, view in inputs.views(row.view(np.float32)).items():
            view[...] = np.resize(golden.inputs[name][k % golden.steps], view.shape)
    return memory
