"""The bundle's vocabulary: features, tensors, state pairs, time, cores and how a bundle was proven."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "DT_INPUT",
    "MAX_UNROLL",
    "PROGRAM_JSON",
    "PROGRAM_WEIGHTS",
    "Core",
    "Feature",
    "Frozen",
    "Graph",
    "Precision",
    "Provenance",
    "StatePair",
    "Tensor",
    "Time",
    "Verification",
    "output_of_state",
]

MAX_UNROLL = 1024  # samples per call; a graph grows with each


PROGRAM_JSON, PROGRAM_WEIGHTS = "step.json", "step.safetensors"  # the step program in a bundle


DT_INPUT = "dt"  # the graph input that holds the time since the previous sample, (batch, unroll) seconds


Precision = Literal["float32", "float16"]  # of weights and inner arithmetic; all inputs and results are float32


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: immutable, and a field that is not in the format is an error."""


class Feature(Frozen, frozen=True):
    """One column of an input or output.

    Args:
        name: Column name, as in the CSV file or the sensor driver.
        unit: Physical unit, for people; `None` when unknown.
        range: Lowest and highest value seen when the bundle was exported; information only.
        limits: Lowest and highest legal value; a sample outside is refused by the runtime. `None`: any finite value.
    """

    name: str
    unit: str | None = None
    range: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None


class Tensor(Frozen, frozen=True):
    """One float32 input or output of the step, with the meaning of its last axis when that is a feature vector."""

    name: str
    shape: tuple[int, ...]
    features: tuple[Feature, ...] = ()


class StatePair(Frozen, frozen=True):
    """A recurrent state: graph input, graph output that replaces it, and where it starts.

    `initial` is one value for every element, or one per unit, the same for every row. `bounds` holds, per unit, the
    lowest and the highest value seen during verification.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    initial: float | tuple[float, ...] = 0.0
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None


class Time(Frozen, frozen=True):
    """How the model sees time.

    Args:
        mode: "fixed" (the timespan is folded into the graph) or "measured" (`dt` is an input, in seconds).
        period_s: Nominal time between samples, seconds; `None` only with "fixed".
        timespan: What ncps was given for one period in training; 1.0 if it never was given any.
        dt_range_s: Lowest and highest legal dt, seconds; only with "measured".
    """

    mode: Literal["fixed", "measured"]
    period_s: float | None = None
    timespan: float = 1.0
    dt_range_s: tuple[float, float] | None = None


class Core(Frozen, frozen=True):
    """One core, liquid or torch's own recurrent layer: what it is and how its neurons lie in the state.

    `layout` lists (neuron type, count) in the order of the state vector. LTC orders it motor, command, inter; a wired
    CfC orders it inter, command, motor. The layers of a GRU, LSTM or RNN have a state each, in that order.
    """

    name: str
    kind: str
    mode: str
    inputs: int
    units: int
    outputs: int
    synapses: int
    sensory_synapses: int
    wiring: str
    layout: tuple[tuple[str, int], ...]
    mixed_memory: bool = False


class Graph(Frozen, frozen=True):
    """Facts about model.onnx that need no ONNX library to be read."""

    opset: int
    ir_version: int
    nodes: int
    parameters: int
    operators: dict[str, int]


class Verification(Frozen, frozen=True):
    """The proof in brief; report.json holds all of it.

    `max_abs_error` maps a comparison ("onnxruntime vs torch float32") to its largest error over all tensors.
    """

    status: Literal["passed", "pending"]
    steps: int
    tolerance: float
    tolerance_reason: str
    max_abs_error: dict[str, float]


class Provenance(Frozen, frozen=True):
    """Where the bundle comes from."""

    created: str
    command: str
    versions: dict[str, str]
    git_commit: str | None = None
    checkpoint_sha256: str | None = None


def output_of_state(name: str) -> str:
    """What the manifest calls the output that holds the next value of a state: `h_out` for `h_in`."""
    return f"{name.removesuffix('_in')}_out"
