"""Memory layout of a step: size and place of each tensor, from the manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from ...arrays import Array
from ...bundle.manifest import Manifest
from ...bundle.spec import Dtype

__all__ = ["ALIGNMENT", "Layout", "Slab", "layout_from_manifest", "slab"]

Shape = tuple[int, ...]

ALIGNMENT = 256  # bytes; TensorRT asks it of every tensor's address


class Slab(msgspec.Struct, frozen=True):
    """Tensors one after the other in one piece of memory.

    Args:
        shapes: By name, in order.
        dtypes: What each is made of.
        offsets: Where each starts, bytes, a multiple of the alignment.
        nbytes: Size of the whole, a multiple of the alignment.
    """

    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, Dtype]
    offsets: Mapping[str, int]
    nbytes: int

    def views(self, memory: Array) -> dict[str, Array]:
        """Tensors in `memory`, float32 of at least `nbytes`, by name."""
        raw = memory.view(np.uint8)
        return {name: self._view(raw, name) for name in self.shapes}

    def _view(self, raw: Array, name: str) -> Array:
        start, shape, dtype = self.offsets[name], self.shapes[name], np.dtype(self.dtypes[name])
        return raw[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


class Layout(msgspec.Struct, frozen=True):
    """The memory of a step: what goes in with each sample, the state, and what comes out with the next state behind it.

    Args:
        sample: Inputs, `dt` included.
        states: States, by the name of the graph input.
        results: Outputs, then next states by the name of the graph output, in the order of `states`.
        pairs: (graph input, graph output) of each state.
    """

    sample: Slab
    states: Slab
    results: Slab
    pairs: tuple[tuple[str, str], ...]

    @property
    def states_offset(self) -> int:
        """Where in `results` the next states start; from there they lie as in `states`."""
        return self.results.nbytes - self.states.nbytes

    @property
    def inputs(self) -> dict[str, Shape]:
        """Every input of the graph."""
        return {**self.sample.shapes, **self.states.shapes}


def layout_from_manifest(manifest: Manifest) -> Layout:
    """Lay out a model's tensors."""
    return Layout(
        sample=slab(manifest.sample_inputs(), ALIGNMENT, manifest.sample_dtypes()),
        states=slab({s.input: s.shape for s in manifest.states}, ALIGNMENT),
        results=slab(manifest.results(), ALIGNMENT),
        pairs=tuple((s.input, s.output) for s in manifest.states),
    )


def slab(shapes: Mapping[str, Shape], alignment: int, dtypes: Mapping[str, Dtype] | None = None) -> Slab:
    """Put tensors, float32 unless said, one after the other, each at a multiple of `alignment` bytes."""
    made = dtypes or dict.fromkeys(shapes, "float32")
    offsets, end = {}, 0
    for name, shape in shapes.items():
        offsets[name] = end
        end += -(-math.prod(shape) * np.dtype(made[name]).itemsize // alignment) * alignment
    return Slab(shapes, made, offsets, end)
