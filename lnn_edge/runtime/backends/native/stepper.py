"""The buffers of one stream on the `native` backend: samples, two places for results, scratch memory."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import partial

import numpy as np

from ....arrays import Array
from ....bundle.manifest import Manifest
from ....errors import BackendUnavailable
from ..layout import Slab, slab
from .library import DONE, Library

__all__ = ["ALIGNMENT", "NativeStepper", "zeros"]

_CACHE_LINE = 64
ALIGNMENT = 4  # of the members of the generated structs, which hold numbers of four bytes, or are rounded up to them


class NativeStepper:
    """See `Stepper` and `StepsInC` of `lnn_edge.backend_protocols`. A run writes one place and the scratch memory.

    Args:
        library: The compiled step.
        manifest: Of the bundle.
        briefly: Whether a run is so short that a caller may keep the interpreter's lock meanwhile.
    """

    def __init__(self, library: Library, manifest: Manifest, *, briefly: bool = False) -> None:
        self._states = [(s.input, s.output) for s in manifest.states]
        inputs = slab(manifest.sample_inputs(), ALIGNMENT, manifest.sample_dtypes())
        results = slab(manifest.results(), ALIGNMENT)
        facts = library.facts
        if (inputs.nbytes, results.nbytes) != (facts.input, facts.results):
            raise BackendUnavailable(
                f"the compiled step takes {facts.input} bytes and gives {facts.results}, expected {inputs.nbytes} and "
                f"{results.nbytes}"
            )
        self._work = zeros(facts.work)
        memory, self.sample = _arena(inputs)
        arenas = _arena(results), _arena(results)
        self.places: tuple[Mapping[str, Array], Mapping[str, Array]] = (arenas[0][1], arenas[1][1])
        fixed = partial(library.advance, self._work.ctypes.data, memory.ctypes.data)
        ends = arenas[0][0].ctypes.data, arenas[1][0].ctypes.data
        self._runs = partial(fixed, ends[0], ends[1]), partial(fixed, ends[1], ends[0])
        self.output_bytes = int(facts.output)
        function = ctypes.cast(library.advance, ctypes.c_void_p).value or 0
        self.addresses = (function, self._work.ctypes.data, memory.ctypes.data, *ends) if briefly else None
        self._memory = memory, *(arena for arena, _ in arenas)  # which the addresses above do not keep

    def run(self, source: int) -> bool:
        """See `lnn_edge.backend_protocols.Stepper.run`."""
        done: bool = self._runs[source]() == DONE
        return done

    def write_state(self, place: int, state: Mapping[str, Array]) -> None:
        """See `lnn_edge.backend_protocols.Stepper.write_state`."""
        arrays = self.places[place]
        for name, output in self._states:
            arrays[output][...] = state[name]


def _arena(places: Slab) -> tuple[Array, dict[str, Array]]:
    memory = zeros(places.nbytes)
    return memory, places.views(memory.view(np.float32))


def zeros(nbytes: int) -> Array:
    """Zeroed memory that begins on a cache line."""
    raw = np.zeros(nbytes + _CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    return raw[start : start + nbytes]
