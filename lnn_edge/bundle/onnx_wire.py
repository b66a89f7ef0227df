"""A reader of ONNX's wire format that knows what lnn-edge writes, and refuses whatever else a file may hold.

Whoever changes a bundle can sign it again, and the libraries that run graphs believe what a graph says: of memory, of
files beside it, of loops. Here every message is a list of the fields that this project's exporter writes, each with how
often it may come. What is not in a list has no way past: graphs within nodes, functions, sparse, quantised and
external tensors, types that are no tensors, other domains. Nothing nests deeper than these lists do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

__all__ = [
    "BOOL",
    "FLOAT",
    "FLOAT16",
    "INT32",
    "INT64",
    "MAX_GRAPH_NODES",
    "UINT8",
    "Attribute",
    "WireGraph",
    "WireNode",
    "WireTensor",
    "WireValue",
    "node_text",
    "read_graph",
    "taker_text",
]

FLOAT, UINT8, INT32, INT64, BOOL, FLOAT16 = 1, 2, 6, 7, 9, 10  # TensorProto.DataType

MAX_GRAPH_NODES = 20_000
_MAX_FIELDS = 24 * MAX_GRAPH_NODES  # of all messages together; a node and its share of constants have some 15
_MAX_ENDS = 1024  # operands, results, inputs, outputs: an unroll block has as many samples
_MAX_AXES = 16
_VARINT, _BYTES, _FIXED32 = 0, 2, 5  # wire types

_Fields = dict[int, tuple[str, int]]  # by tag: the field's name, and how often it may come
_Span = tuple[int, int]
_Part = TypeVar("_Part")

Attribute = int | float | tuple[int, ...]


class WireTensor(NamedTuple):
    """A constant: its type, its shape, and its numbers as they lie in the file, little-endian."""

    name: str
    kind: int
    shape: tuple[int, ...]
    data: memoryview


class WireValue(NamedTuple):
    """An input or output of the graph."""

    name: str
    kind: int
    shape: tuple[int, ...]


class WireNode(NamedTuple):
    """A node, in the empty domain."""

    name: str
    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute]


class WireGraph(NamedTuple):
    """What a file holds, and the versions that it asks for; none of it is checked to fit together."""

    ir_version: int
    opset: int
    inputs: list[WireValue]
    outputs: list[WireValue]
    constants: list[WireTensor]
    nodes: list[WireNode]


def _fields(*rows: tuple[int, int, str, int]) -> _Fields:
    return {number << 3 | wire: (name, most) for number, wire, name, most in rows}


_MODEL = _fields(
    (1, _VARINT, "ir_version", 1),
    (2, _BYTES, "producer_name", 1),
    (3, _BYTES, "producer_version", 1),
    (6, _BYTES, "doc_string", 1),  # words for people, which nothing reads
    (7, _BYTES, "graph", 1),
    (8, _BYTES, "opset_import", 64),  # a node of another domain is refused by name
    (14, _BYTES, "metadata_props", 64),  # likewise
)
_OPSET = _fields((1, _BYTES, "domain", 1), (2, _VARINT, "version", 1))
_METADATA = _fields((1, _BYTES, "key", 1), (2, _BYTES, "value", 1))
_GRAPH = _fields(
    (1, _BYTES, "node", MAX_GRAPH_NODES),
    (2, _BYTES, "name", 1),
    (5, _BYTES, "initializer", 2 * MAX_GRAPH_NODES),
    (11, _BYTES, "input", 3 * _MAX_ENDS),
    (12, _BYTES, "output", 3 * _MAX_ENDS),
)
_NODE_TEXTS = (1 << 3 | _BYTES, 2 << 3 | _BYTES, 3 << 3 | _BYTES, 4 << 3 | _BYTES)  # input, output, name, op_type
_NODE_ATTRIBUTE = 5 << 3 | _BYTES
_ATTRIBUTE = _fields(
    (1, _BYTES, "name", 1),
    (2, _FIXED32, "f", 1),
    (3, _VARINT, "i", 1),
    (8, _VARINT, "ints", 64),
    (20, _VARINT, "type", 1),
)
_ATTRIBUTE_FIELDS = {1: "f", 2: "i", 7: "ints"}  # AttributeProto.AttributeType
_TENSOR = _fields(
    (1, _VARINT, "dims", _MAX_AXES), (2, _VARINT, "data_type", 1), (8, _BYTES, "name", 1), (9, _BYTES, "raw_data", 1)
)
_VALUE = _fields((1, _BYTES, "name", 1), (2, _BYTES, "type", 1), (3, _BYTES, "doc_string", 1))
_TYPE = _fields((1, _BYTES, "tensor_type", 1))
_TENSOR_TYPE = _fields((1, _VARINT, "elem_type", 1), (2, _BYTES, "shape", 1))
_SHAPE = _fields((1, _BYTES, "dim", _MAX_AXES))
_DIM = _fields((1, _VARINT, "dim_value", 1))
_OTHERS = {
    ("a size", 2): "a name in place of a number",
    ("a node", 7): "a domain",
    ("an attribute", 4): "a text",
    ("an attribute", 5): "a tensor",
    ("an attribute", 6): "a graph",
}


def node_text(place: int, node: WireNode) -> str:
    """A node by number, name and operator, as messages have it."""
    return f"node {place} {node.name[:80]!r} ({node.operator[:80]})"


def taker_text(value: str, nodes: Sequence[WireNode]) -> str:
    """Which node takes a value first, as part of a sentence; "" if none does."""
    takers = (node_text(place, node) for place, node in enumerate(nodes) if value in node.inputs)
    found = next(takers, None)
    return f", which {found} takes" if found else ""


def read_graph(data: bytes) -> WireGraph:
    """Read model.onnx. Constants stay where they lie, so memory and time depend on the number of fields alone.

    Raises:
        ValueError: If it is truncated, or holds a field, or a number of them, that this project does not write.
    """
    try:
        return _Reader(data).model()
    except (IndexError, struct.error):
        raise ValueError("it ends in the middle of a field") from None
    except UnicodeDecodeError:
        raise ValueError("it holds a name that is no UTF-8") from None


class _Reader:
    """The messages of one file; each is its fields by name, as lists of whole numbers, floats or spans of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._view = data, memoryview(data)
        self._left = _MAX_FIELDS

    def model(self) -> WireGraph:
        found = self._message((0, len(self._data)), _MODEL, "the model")
        for span in found.get("metadata_props", ()):
            self._message(span, _METADATA, "a metadata entry")
        opset = self._message(_one(found, "opset_import"), _OPSET, "an opset")
        if any(stop > start for start, stop in opset.get("domain", ())):
            raise ValueError("it asks for operators of a domain of their own")
        graph = self._message(_one(found, "graph"), _GRAPH, "the graph")
        nodes = self._all(graph, "node", self._node)  # first, as what is wrong elsewhere is told with a node's name
        if len(found["opset_import"]) > 1:
            raise ValueError("it asks for operators of a domain of their own")
        return WireGraph(
            _one(found, "ir_version"),
            _one(opset, "version"),
            self._all(graph, "input", lambda span: self._value(span, nodes)),
            self._all(graph, "output", lambda span: self._value(span, nodes)),
            self._all(graph, "initializer", self._tensor),
            nodes,
        )

    def _all(self, found: dict[str, list[Any]], name: str, read: Callable[[_Span], _Part]) -> list[_Part]:
        return [read(span) for span in found.get(name, ())]

    def _node(self, span: _Span) -> WireNode:
        """As `_message`, with a loop of its own: most of a file is nodes, and all of a node is text and attributes."""
        data, (place, end) = self._data, span
        found: tuple[list[str], ...] = ([], [], [], [])
        attributes: dict[str, Attribute] = {}
        while place < end:
            tag, stop = data[place], data[place + 1]
            if stop < 128:
                place += 2
            else:
                stop, place = self._varint(place + 1)
            stop += place
            if tag in _NODE_TEXTS:
                found[(tag >> 3) - 1].append(data[place:stop].decode())
            elif tag == _NODE_ATTRIBUTE:
                try:
                    name, value = self._attribute((place, stop))
                except ValueError as error:
                    raise ValueError(f"{_unfinished_text(found)}: {error}") from error
                if name in attributes:
                    raise ValueError(f"{_unfinished_text(found)} has an attribute twice")
                attributes[name] = value
            else:
                raise ValueError(f"{_unfinished_text(found)} holds {_field_text('a node', tag)}")
            place = stop
        operands, results, names, operators = found
        if place > end or len(names) > 1 or len(operators) != 1:
            raise ValueError("a node has no operator or name, several, or a field that ends beyond it")
        self._count(len(operands) + len(results) + 2)
        return WireNode(names[0] if names else "", operators[0], operands, results, attributes)

    def _attribute(self, span: _Span) -> tuple[str, Attribute]:
        found = self._message(span, _ATTRIBUTE, "an attribute")
        name, kind = self._text(_one(found, "name")), _one(found, "type")
        own = _ATTRIBUTE_FIELDS.get(kind)
        if own is None or set(found) != {"name", "type", own}:
            raise ValueError(f"attribute {name[:80]!r} is not one number or a list of whole ones")
        return name, tuple(found[own]) if own == "ints" else found[own][0]

    def _tensor(self, span: _Span) -> WireTensor:
        found = self._message(span, _TENSOR, "a tensor")
        start, stop = _one(found, "raw_data")
        shape = tuple(found.get("dims", ()))
        return WireTensor(self._text(_one(found, "name")), _one(found, "data_type"), shape, self._view[start:stop])

    def _value(self, span: _Span, nodes: Sequence[WireNode]) -> WireValue:
        found = self._message(span, _VALUE, "an input or output")
        name = self._text(_one(found, "name"))
        try:
            kind = self._message(_one(found, "type"), _TYPE, "a type")
            tensor = self._message(_one(kind, "tensor_type"), _TENSOR_TYPE, "the type of a tensor")
            shape = self._message(_one(tensor, "shape"), _SHAPE, "a shape")
            sizes = [_one(self._message(dim, _DIM, "a size"), "dim_value") for dim in shape.get("dim", ())]
        except ValueError as error:
            raise ValueError(f"input or output {name[:80]!r}{taker_text(name, nodes)}: {error}") from error
        return WireValue(name, _one(tensor, "elem_type"), tuple(sizes))

    def _text(self, span: _Span) -> str:
        return self._data[span[0] : span[1]].decode()

    def _message(self, span: _Span, known: _Fields, what: str) -> dict[str, list[Any]]:
        """The fields of one message. A length that lies ends beyond the message, and is seen there."""
        data, (place, end) = self._data, span
        found: dict[str, list[Any]] = {}
        value: Any
        while place < end:
            tag, value = data[place], data[place + 1]
            if (
                tag < 128 and value < 128 and tag & 7 != _FIXED32
            ):  # as nearly all are; a call for each would double the time
                place += 2
            else:
                tag, place = self._varint(place)
                value, place = (0, place) if tag & 7 == _FIXED32 else self._varint(place)
            if tag not in known:
                raise ValueError(f"{what} holds {_field_text(what, tag)}")
            wire = tag & 7
            if wire == _BYTES:
                value = (place, place := place + value)
            elif wire == _FIXED32:
                value, place = struct.unpack_from("<f", data, place)[0], place + 4
            elif value >= 1 << 63:  # whole numbers are signed
                value -= 1 << 64
            name, most = known[tag]
            values = found.get(name)
            if values is None:
                found[name] = [value]
            elif len(values) < most:
                values.append(value)
            else:
                raise ValueError(f"{what} has more than {most} of `{name}`")
        if place > end:
            raise ValueError(f"{what} holds a field that ends beyond it")
        self._count(sum(map(len, found.values())))
        return found

    def _count(self, fields: int) -> None:
        self._left -= fields
        if self._left < 0:
            raise ValueError(f"it has more than {_MAX_FIELDS} fields")

    def _varint(self, place: int) -> tuple[int, int]:
        """A number in groups of seven bits, and where the next field begins."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self._data[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                if value >> 64:
                    break
                return value, place
        raise ValueError("it holds a number of more than 64 bits")


def _field_text(what: str, tag: int) -> str:
    """A field that does not belong into a message; by name where graphs of other programs have it often."""
    name = _OTHERS.get((what, tag >> 3))
    own = f", {name}" if name else ""
    return f"field {tag >> 3} (wire type {tag & 7}){own}, which lnn-edge does not write"


def _unfinished_text(found: tuple[list[str], ...]) -> str:
    """A node of which this much is read; writers put its name and operator before its attributes."""
    _, _, names, operators = found
    name = f" {names[0][:80]!r}" if names else ""
    return f"a node{name}" + (f" ({operators[0][:80]})" if operators else "")


def _one(found: dict[str, list[Any]], name: str) -> Any:
    if name not in found:
        raise ValueError(f"`{name}` is missing")
    return found[name][0]
