"""Memory layout of a step: size and place of each tensor, from the manifest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...bundle.manifest import Manifest

__all__ = ["ALIGNMENT", "Layout", "Slab", "layout_from_manifest", "slab"]

Shape = tuple[int, ...]
FloatArray = npt.NDArray[np.float32]

ALIGNMENT = 256  # bytes; TensorRT asks it of every tensor's address
_ITEM = 4  # bytes of a float32; inputs, outputs and states are never anything else


@dataclass(frozen=True)
class Slab:
    """Tensors one after the other in one piece of memory.

    Args:
        shapes: By name, in order.
        offsets: Where each starts, bytes, a multiple of the alignment.
        nbytes: Size of the whole, a multiple of the alignment.
    """

    shapes: Mapping[str, Shape]
    offsets: Mapping[str, int]
    nbytes: int

    def views(self, memory: FloatArray) -> dict[str, FloatArray]:
        """Tensors in `memory`, float32 of at least `nbytes`, by name."""
        starts = {name: offset // _ITEM for name, offset in self.offsets.items()}
        ends = {name: starts[name] + math.prod(shape) for name, shape in self.shapes.items()}
        return {name: memory[starts[name] : ends[name]].reshape(shape) for name, shape in self.shapes.items()}


@dataclass(frozen=True)
class Layout:
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
        sample=slab(manifest.sample_inputs().items(), ALIGNMENT),
        states=slab(((s.input, s.shape) for s in manifest.states), ALIGNMENT),
        results=slab(manifest.results().items(), ALIGNMENT),
        pairs=tuple((s.input, s.output) for s in manifest.states),
    )


def slab(tensors: Iterable[tuple[str, Shape]], alignment: int) -> Slab:
    """Put float32 tensors one after the other, each at a multiple of `alignment` bytes."""
    shapes = dict(tensors)
    offsets, end = {}, 0
    for name, shape in shapes.items():
        offsets[name] = end
        end += -(-math.prod(shape) * _ITEM // alignment) * alignment
    return Slab(shapes, offsets, end)
