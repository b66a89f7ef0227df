"""The schema of a recording: what its messages hold, in protobuf's own words, so that any program can read them."""

from __future__ import annotations

from typing import Any

from .layout import STATUSES, Layout, Part, identifier
from .library import protobuf_descriptors
from .messages import FIELDS, field_numbers

__all__ = ["PACKAGE", "message_name", "schema_bytes"]

PACKAGE = "lnn_edge"
_OWN = {"<i8": "TYPE_SFIXED64", "<f8": "TYPE_DOUBLE", "<u4": "TYPE_FIXED32", "<u1": "TYPE_BOOL"}
_TYPES = {"float32": "TYPE_FLOAT", "float64": "TYPE_DOUBLE", "int32": "TYPE_SFIXED32", "uint8": "TYPE_FIXED32"}


def message_name(model: str) -> str:
    """The full name of the message that a tick of a model is."""
    return f"{PACKAGE}.{identifier(model)}"


def schema_bytes(model: str, layout: Layout) -> bytes:
    """The set of file descriptors, serialised.

    Raises:
        ImportError: If protobuf is not installed, with what to type.
    """
    descriptors: Any = protobuf_descriptors()
    kind = descriptors.FieldDescriptorProto
    files = descriptors.FileDescriptorSet()
    file = files.file.add(name=f"{PACKAGE}/{identifier(model)}.proto", package=PACKAGE, syntax="proto3")
    message = file.message_type.add(name=identifier(model))
    status = message.enum_type.add(name="Status")
    for number, name in STATUSES.items():
        status.value.add(name=name, number=number)
    for number, (name, (dtype, _)) in enumerate(FIELDS.items(), 1):
        own = message.field.add(name=name, number=number, label=kind.LABEL_OPTIONAL, type=getattr(kind, _OWN[dtype]))
        if name == "status":
            own.type, own.type_name = kind.TYPE_ENUM, f".{message_name(model)}.Status"
    numbers = field_numbers(layout)
    for part in layout.parts:
        for name in part.fields:
            _add(message, kind, part, name, numbers[name])
    data: bytes = files.SerializeToString(deterministic=True)
    return data


def _add(message: Any, kind: Any, part: Part, name: str, number: int) -> None:
    single = bool(part.columns) and part.size == len(part.columns)
    own = message.field.add(name=name, number=number, label=kind.LABEL_OPTIONAL)
    if single:
        own.type = getattr(kind, _TYPES[part.dtype])
    elif part.dtype == "uint8":
        own.type = kind.TYPE_BYTES
    else:
        own.type, own.label = getattr(kind, _TYPES[part.dtype]), kind.LABEL_REPEATED
