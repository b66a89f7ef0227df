"""The step program of a bundle: one step apart from any runtime, as step.json and step.safetensors hold it.

What becomes of one sample: inputs, states and the time since the last sample go through nodes, in order, to outputs
and next states. Weights are float64; the rows of a batch, the samples of a call and the precision are a lowering's
business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from ..arrays import Array
from .operations import Few, Node
from .spec import PROGRAM_JSON, PROGRAM_WEIGHTS, Dtype, Frozen

__all__ = [
    "PROGRAM_VERSION",
    "Elapsed",
    "Input",
    "Output",
    "Program",
    "ProgramSchema",
    "State",
    "StepProgram",
]

PROGRAM_VERSION = 1


class ProgramSchema(Frozen, frozen=True):
    """The format's name and version."""

    name: Literal["lnn-edge step"] = "lnn-edge step"
    version: int = PROGRAM_VERSION


class Input(Frozen, frozen=True):
    """One input, for one row; `center` is a tensor that is subtracted in float64 before anything else."""

    name: str
    shape: Few
    dtype: Dtype = "float32"
    center: str | None = None


class Elapsed(Frozen, frozen=True, omit_defaults=True):
    """The timespan since the last sample in the unit of training, a value of shape [1].

    Either a `value` that never changes, or the input `dt` in seconds times `timespan_per_s`.
    """

    name: str
    value: float | None = None
    dt: str | None = None
    timespan_per_s: float | None = None


class State(Frozen, frozen=True, omit_defaults=True):
    """A state, for one row: what a sequence starts from (a tensor; `None` for zeros), and the value that replaces it.

    It is called as the manifest calls the input that holds it, `h_in`; an input of the model may be called `h`.
    """

    name: str
    shape: Few
    next: str
    initial: str | None = None


class Output(Frozen, frozen=True):
    """One output, for one row: its name, and the value that it is."""

    name: str
    value: str
    shape: Few


class Program(msgspec.Struct, frozen=True):
    """What step.json holds."""

    inputs: tuple[Input, ...]
    elapsed: Elapsed
    states: tuple[State, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]

    def encode(self) -> bytes:
        """As JSON, a line for each node."""
        head = {"schema": ProgramSchema(), "inputs": self.inputs, "elapsed": self.elapsed, "states": self.states}
        lines = [f'"{name}": {msgspec.json.encode(value).decode()},' for name, value in head.items()]
        nodes = ",\n  ".join(msgspec.json.encode(node).decode() for node in self.nodes)
        outputs = msgspec.json.encode(self.outputs).decode()
        return "\n".join(
            ["{" + lines[0], *lines[1:], f'"nodes": [\n  {nodes}],', f'"outputs": {outputs}}}', ""]
        ).encode()


class StepProgram(msgspec.Struct, frozen=True):
    """A program and its tensors: float64 weights, int32 numbers of neurons and elements. Checked; not to be changed.

    Attributes:
        program: Inputs, states, nodes, outputs.
        tensors: By name.
    """

    program: Program
    tensors: Mapping[str, Array]

    def encode(self) -> dict[str, bytes]:
        """The files of a bundle that hold it."""
        from safetensors.numpy import save

        arrays = {name: np.asarray(value, order="C") for name, value in self.tensors.items()}
        return {PROGRAM_JSON: self.program.encode(), PROGRAM_WEIGHTS: bytes(save(arrays))}
