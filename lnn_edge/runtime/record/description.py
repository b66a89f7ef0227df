"""Description of a recording: the bundle, what stepped it, and what its fields are."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ...machine.cpu import cpu_extensions
from ...machine.describe import machine
from .layout import Layout, Part

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["VERSION", "Origin", "describe", "origin_from", "origin_of"]

VERSION = 1  # of the messages' layout and of these texts
_MOST = 200  # characters of a text that is shown


class Origin(Struct, frozen=True):
    """Where results come from: what must be the same for all bits to be.

    Args:
        bundle: The manifest's digest.
        model: Its name.
        backend: The backend's name.
        build: Of the step, where the backend builds it; it names compiler, flags and processor.
        library: The backend with its version, where it builds nothing.
        processor: Its kind and extensions, in a few letters.
    """

    bundle: str
    model: str
    backend: str
    build: str
    library: str
    processor: str

    def computes_like(self, other: Origin) -> bool:
        """Whether both give the same bits."""
        if self.backend != other.backend or self.build != other.build:
            return False
        return bool(self.build) or (self.library, self.processor) == (other.library, other.processor)


def origin_of(model: Model) -> Origin:
    """That of a loaded model."""
    library = model.description.partition(";")[0]  # behind it stands how fast it was
    extensions = hashlib.sha256(" ".join(sorted(cpu_extensions())).encode()).hexdigest()[:12]
    processor = f"{platform.machine()} {extensions}"
    return Origin(model.manifest.digest, model.name, model.backend, model.build, library, processor)


def describe(model: Model, layout: Layout) -> dict[str, str]:
    """The texts of a recording, by key."""
    from ... import __version__

    origin = origin_of(model)
    texts = {key: str(getattr(origin, key)) for key in origin.__struct_fields__}
    fields = [field for part in layout.parts for field in _fields(part, model)]
    period_s = model.time.period_s
    return texts | {
        "version": str(VERSION),
        "lnn_edge": __version__,
        "machine": json.dumps(machine()),
        "period_s": "" if period_s is None else repr(period_s),
        "fields": json.dumps(fields),
    }


def origin_from(texts: Mapping[str, str]) -> Origin:
    """That of a recording.

    Raises:
        ValueError: If it is newer, or does not say where it comes from.
    """
    version = texts.get("version", "")
    if version.isdecimal() and len(version) < 10 and int(version) > VERSION:
        raise ValueError(f"it is of version {version}, and this program reads up to {VERSION}. Update lnn-edge")
    missing = [key for key in ("version", *Origin.__struct_fields__) if key not in texts]
    if missing or not version.isdecimal():
        raise ValueError(f"it does not say its {(missing or ['version'])[0]}")
    return Origin(**{key: texts[key][:_MOST] for key in Origin.__struct_fields__})


def _fields(part: Part, model: Model) -> list[dict[str, Any]]:
    tensors = model.inputs if part.role == "input" else model.outputs
    units = {f.name: f.unit for t in tensors if t.name == part.tensor for f in t.features}
    columns = part.columns or ("",) * len(part.fields)
    found = []
    for name, column in zip(part.fields, columns, strict=True):
        own: dict[str, Any] = {"field": name, "is": part.role, "tensor": part.tensor}
        if column:
            own |= {"feature": column, "unit": units.get(column)}
        else:
            own |= {"shape": part.shape}
        found.append(own)
    return found
