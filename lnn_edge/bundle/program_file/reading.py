"""The files of a step program, read and checked: a forged one is refused before it costs time or memory."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ...errors import BundleError
from ...format_version import newer_version
from ..operations import OPERATIONS, Node, Operation
from ..program import PROGRAM_VERSION, Elapsed, Input, Output, Program, ProgramSchema, State, StepProgram
from ..spec import MAX_ENDS, PROGRAM_JSON, Frozen
from ..step_cores import CORES
from .checks import MAX_NODES, check_program, refuse_above
from .weights import read_weights

__all__ = ["MAX_TEXT_BYTES", "decode_program"]

MAX_TEXT_BYTES = 1 << 20
_MAX_ENTRIES = 40 * MAX_NODES  # of all lists and objects in the text; an LTC has as many, most nodes a tenth of it
_LONGEST_REASON = 500  # characters; what is quoted comes from the file
_SOME = msgspec.Meta(max_length=MAX_ENDS)


class _Text(Frozen, frozen=True, kw_only=True):
    """step.json with its nodes still unread: what type a node has depends on its operation."""

    schema: ProgramSchema
    inputs: Annotated[tuple[Input, ...], _SOME]
    elapsed: Elapsed
    states: Annotated[tuple[State, ...], _SOME]
    nodes: list[msgspec.Raw]
    outputs: Annotated[tuple[Output, ...], _SOME]


class _Head(msgspec.Struct):
    op: str


def decode_program(text: bytes, weights: bytes) -> StepProgram:
    """Read and check the two files.

    Raises:
        BundleError: If they are no program, or hold anything that a program must not: an operation that is not known, a
            name that is not declared or declared twice, a shape that does not follow, a number that is not finite.
    """
    try:
        program = _decoded(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _invalid(error) from error
    step = StepProgram(program, read_weights(weights))
    try:
        check_program(step)
    except ValueError as error:
        raise _invalid(error) from error
    return step


def _invalid(error: Exception) -> BundleError:
    reason = str(error)
    short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
    return BundleError(f"{PROGRAM_JSON} is not a valid step program: {short}")


def _decoded(text: bytes) -> Program:
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"it has {len(text)} bytes, more than the {MAX_TEXT_BYTES} that a program may have")
    if text.count(b",") > _MAX_ENTRIES:  # before anything is made of them
        raise ValueError(f"it has more than {_MAX_ENTRIES} entries in its lists and objects")
    newer = newer_version(text, PROGRAM_VERSION)
    if newer:
        raise ValueError(f"it {newer}")
    found = msgspec.json.decode(text, type=_Text)
    if found.schema.version < 1:
        raise ValueError(f"it has schema version {found.schema.version}, expected 1 to {PROGRAM_VERSION}")
    refuse_above(MAX_NODES, len(found.nodes), "nodes")
    nodes = tuple(_node(k, raw) for k, raw in enumerate(found.nodes))
    return Program(found.inputs, found.elapsed, found.states, nodes, found.outputs)


def _node(place: int, raw: msgspec.Raw) -> Node:
    operation = msgspec.json.decode(raw, type=_Head).op
    if operation not in CORES and operation not in OPERATIONS:
        raise ValueError(f"node {place} is the operation '{operation[:80]}', which a program does not have")
    try:
        return msgspec.json.decode(raw, type=CORES.get(operation, Operation))
    except msgspec.MsgspecError as error:
        raise ValueError(f"node {place} ({operation}): {error}") from error
