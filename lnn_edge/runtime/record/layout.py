"""The layout of a tick: which numbers it consists of, and the name of each in a recording.

Every number of a sample and of an output has a field of its own, by the name of its feature. What has no features, or
is no single number, is a list of numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, count

import numpy as np

from ...bundle.manifest import Manifest
from ...bundle.spec import Tensor
from ..guard.status import Status

__all__ = ["HEAD", "STATUSES", "Layout", "Part", "identifier", "layout_of"]

# What every tick has: the name of its field, and what holds it in memory.
HEAD = {
    "tick": "<i8",
    "t_s": "<f8",
    "mono_ns": "<i8",
    "wall_ns": "<i8",
    "dt_s": "<f8",
    "stepped": "<u4",
    "status": "<u1",
    "reset": "<u1",
    "limited": "<u1",
    "has_state": "<u1",
}
STATUSES = {status.value: f"STATUS_{status.name}" for status in Status}  # which protobuf has beside the fields
_DTYPES = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "uint8": "<u1"}
_ROLES = {"input": "in", "output": "out", "raw": "raw", "state": "state"}  # what tells equal names apart


@dataclass(frozen=True)
class Part:
    """One tensor of a tick.

    Args:
        role: "input", "output" (what the robot got), "raw" (what the model gave) or "state".
        tensor: Its name in the manifest.
        shape: As a stream takes or gives it.
        dtype: float32, float64, int32 or uint8.
        fields: The names of its fields: one for each feature, or a single one.
        columns: The names in the manifest that these stand for; none for a single field.
    """

    role: str
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    fields: tuple[str, ...]
    columns: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name in the memory of a tick."""
        return f"{self.role}.{self.tensor}"

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def memory(self) -> str:
        """The dtype of its numbers, as NumPy spells it."""
        return _DTYPES[self.dtype]


@dataclass(frozen=True)
class Layout:
    """All that a tick of a model consists of."""

    parts: tuple[Part, ...]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """A tick in memory: what is in `HEAD`, in its order and without gaps, and each part by its key."""
        parts = [(part.key, part.memory, part.shape) for part in self.parts]
        return np.dtype([*HEAD.items(), *parts], align=True)

    def of_role(self, role: str) -> tuple[Part, ...]:
        """The parts of one role, in the manifest's order."""
        return tuple(part for part in self.parts if part.role == role)


def layout_of(manifest: Manifest) -> Layout:
    """The layout of the ticks of a model."""
    names = _Names([*HEAD, "Status", *STATUSES.values()])
    whole = manifest.readout is not None  # a block of samples has one result
    unroll = manifest.unroll
    parts = [_part("input", t, _streamed(manifest, t.shape, unroll), names) for t in manifest.streamed]
    outputs = [(t, _streamed(manifest, t.shape, 1 if whole else unroll)) for t in manifest.outputs]
    parts += [_part("output", t, shape, names) for t, shape in outputs]
    for (_, shape), own in zip(outputs, parts[-len(outputs) :], strict=True):
        raw = tuple(names.new(f"{name}_raw", "raw") for name in own.fields)
        parts.append(Part("raw", own.tensor, shape, "float32", raw, own.columns))
    parts += [Part("state", s.input, s.shape, "float32", (names.new(s.input, "state"),)) for s in manifest.states]
    return Layout(tuple(parts))


def _part(role: str, tensor: Tensor, shape: tuple[int, ...], names: _Names) -> Part:
    dtype = "float64" if tensor.center else tensor.dtype
    columns = tuple(feature.name for feature in tensor.features)
    if not columns or shape[-1] != len(columns):
        return Part(role, tensor.name, shape, dtype, (names.new(tensor.name, role),))
    return Part(role, tensor.name, shape, dtype, tuple(names.new(name, role) for name in columns), columns)


def _streamed(manifest: Manifest, shape: tuple[int, ...], unroll: int) -> tuple[int, ...]:
    """The shape of what a stream takes or gives, by that of one sample, (batch, ...)."""
    blocks = shape if unroll == 1 else (shape[0], unroll, *shape[1:])
    return blocks[1:] if manifest.batch == 1 else blocks


class _Names:
    """Gives every field a name that no other has, nor one that differs in capitals or underscores alone.

    Some libraries of protobuf, and JSON, take `acc_x` and `accX` for one.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {_alike(name) for name in taken}

    def new(self, name: str, role: str) -> str:
        """The name of a field: as it is if that can be, else with its role behind it, else with a number."""
        own = identifier(name)
        tries = chain([own, f"{own}_{_ROLES[role]}"], (f"{own}_{_ROLES[role]}_{k}" for k in count(2)))
        found = next(one for one in tries if _alike(one) not in self._taken)
        self._taken.add(_alike(found))
        return found


def _alike(name: str) -> str:
    return name.replace("_", "").lower()


def identifier(name: str) -> str:
    """A name as protobuf takes it: ASCII letters, digits and underscores, a letter first."""
    found = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    return found if found[:1].isalpha() else f"f_{found}".rstrip("_")
