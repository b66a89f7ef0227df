"""The manifest: what a bundle says about itself, and the one place that knows its format.

Decoding is strict: unknown fields, wrong types and impossible values are refused, each with the path of the field.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Literal

import msgspec

from ..errors import BundleError

__all__ = [
    "DT_INPUT",
    "FILES",
    "MAX_UNROLL",
    "SCHEMA_VERSION",
    "Core",
    "Feature",
    "FileEntry",
    "Graph",
    "Manifest",
    "Precision",
    "Provenance",
    "Schema",
    "StatePair",
    "Tensor",
    "Time",
    "Verification",
    "decode_manifest",
    "encode_json",
]

SCHEMA_VERSION = 1
FILES = ("model.onnx", "golden.safetensors", "report.json")  # what a bundle holds beside manifest.json
MAX_UNROLL = 1024  # samples per call; a graph grows with each
DT_INPUT = "dt"  # the graph input that holds the time since the previous sample, (batch, unroll) seconds

_FLOAT32_MAX = 3.4028234663852886e38


Precision = Literal["float32", "float16"]  # of weights and inner arithmetic; all inputs and results are float32


class _Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: immutable, and a field that is not in the format is an error."""


class Schema(_Frozen, frozen=True):
    """The format's name and version."""

    name: Literal["lnn-edge bundle"] = "lnn-edge bundle"
    version: int = SCHEMA_VERSION


class FileEntry(_Frozen, frozen=True):
    """Size in bytes and SHA-256 (hex) of one file of the bundle."""

    sha256: str
    size: int


class Feature(_Frozen, frozen=True):
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


class Tensor(_Frozen, frozen=True):
    """One float32 input or output of the step, with the meaning of its last axis when that is a feature vector."""

    name: str
    shape: tuple[int, ...]
    features: tuple[Feature, ...] = ()


class StatePair(_Frozen, frozen=True):
    """A recurrent state: graph input, graph output that replaces it, and where it starts.

    `initial` is one value for every element, or one per unit, the same for every row. `bounds` holds, per unit, the
    lowest and the highest value seen during verification.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    initial: float | tuple[float, ...] = 0.0
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None


class Time(_Frozen, frozen=True):
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


class Core(_Frozen, frozen=True):
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


class Graph(_Frozen, frozen=True):
    """Facts about model.onnx that need no ONNX library to be read."""

    opset: int
    ir_version: int
    nodes: int
    parameters: int
    operators: dict[str, int]


class Verification(_Frozen, frozen=True):
    """The proof in brief; report.json holds all of it.

    `max_abs_error` maps a comparison ("onnxruntime vs torch float32") to its largest error over all tensors.
    """

    status: Literal["passed", "pending"]
    steps: int
    tolerance: float
    tolerance_reason: str
    max_abs_error: dict[str, float]


class Provenance(_Frozen, frozen=True):
    """Where the bundle comes from."""

    created: str
    command: str
    versions: dict[str, str]
    git_commit: str | None = None
    checkpoint_sha256: str | None = None


class Manifest(_Frozen, frozen=True):
    """Everything in manifest.json. `digest` guards against damage, not against forgery.

    Shapes of inputs and outputs are those of one sample, (batch, ...). With `unroll` above 1 the graph takes and gives
    blocks of that many samples, (batch, unroll, ...); `sample_inputs` and `results` say what it really has.
    """

    schema: Schema
    name: str
    precision: Precision
    batch: int
    unroll: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[StatePair, ...]
    time: Time
    cores: tuple[Core, ...]
    graph: Graph
    verification: Verification
    provenance: Provenance
    files: dict[str, FileEntry]
    digest: str = ""

    def sample_inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the graph's inputs, the states not among them; `dt` is the last."""
        shapes = {t.name: self._in_blocks(t.shape) for t in self.inputs}
        return shapes | ({DT_INPUT: (self.batch, self.unroll)} if self.time.mode == "measured" else {})

    def results(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the graph's outputs, the states last."""
        return {t.name: self._in_blocks(t.shape) for t in self.outputs} | {s.output: s.shape for s in self.states}

    def _in_blocks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.unroll == 1 else (shape[0], self.unroll, *shape[1:])

    def signed(self) -> Manifest:
        """With `digest` set to the SHA-256 of everything else, so that no byte of a bundle can change unnoticed."""
        unsigned = encode_json(msgspec.structs.replace(self, digest=""))
        return msgspec.structs.replace(self, digest=_digest(unsigned, ""))


class _SchemaOnly(msgspec.Struct):
    schema: dict[str, Any]


def _digest(encoded: bytes, digest: str) -> str:
    """SHA-256 of manifest.json with its `digest` left empty: of the bytes, so that white space counts as well."""
    return hashlib.sha256(encoded.replace(f'"digest": "{digest}"'.encode(), b'"digest": ""')).hexdigest()


def encode_json(value: Any) -> bytes:
    """Encode a struct, dataclass or plain value as indented JSON with full-precision floats and a final newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Decode and check manifest.json.

    Raises:
        BundleError: If it is not JSON, of another or newer schema, or has a missing, unknown or impossible field.
    """
    try:
        version = msgspec.json.decode(data, type=_SchemaOnly).schema.get("version")
        if isinstance(version, int) and version > SCHEMA_VERSION:  # before anything else: other fields may be new too
            raise BundleError(
                f"manifest.json has schema version {version}, but this lnn-edge reads up to {SCHEMA_VERSION}. "
                "Type: pip install --upgrade lnn-edge"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"manifest.json is not a valid manifest: {error}") from error
    _check(manifest, data)
    return manifest


def _check(manifest: Manifest, data: bytes) -> None:
    problem = next(_problems(manifest, data), None)
    if problem:
        raise BundleError(f"manifest.json is inconsistent: {problem}")


def _problems(m: Manifest, data: bytes) -> Any:
    if m.schema.version != SCHEMA_VERSION:
        yield f"schema version {m.schema.version} is unknown; expected {SCHEMA_VERSION}"
    if m.digest != _digest(data, m.digest):
        yield "its content does not match its `digest`: a value was changed by hand or on the way"
    if set(m.files) != set(FILES):
        yield f"`files` lists {sorted(m.files)}, expected {sorted(FILES)}"
    if not m.inputs or not m.outputs:
        yield "`inputs` and `outputs` must not be empty"
    names = [t.name for t in (*m.inputs, *m.outputs)] + [n for s in m.states for n in (s.input, s.output)]
    repeated = sorted({n for n in [*names, DT_INPUT] if [*names, DT_INPUT].count(n) > 1})
    if repeated:
        yield f"tensor names must be unique and not '{DT_INPUT}', got {repeated} more than once"
    yield from _shape_problems(m)
    yield from _number_problems(m)
    yield from _time_problems(m.time)


def _shape_problems(m: Manifest) -> Any:
    if not 1 <= m.unroll <= MAX_UNROLL:
        yield f"`unroll` is {m.unroll}, expected 1 to {MAX_UNROLL}"
    named = [(t.name, t.shape) for t in (*m.inputs, *m.outputs)] + [(s.input, s.shape) for s in m.states]
    for name, shape in named:
        if len(shape) < 2 or shape[0] != m.batch or min(shape) < 1 or math.prod(shape) > 1 << 26:
            yield f"'{name}' has shape {list(shape)}, expected [{m.batch}, ...] with positive sizes"
    for tensor in (*m.inputs, *m.outputs):
        if tensor.features and (len(tensor.features) != tensor.shape[-1] or len(tensor.shape) != 2):
            yield f"'{tensor.name}' has {len(tensor.features)} features for shape {list(tensor.shape)}"
        labels = [f.name for f in tensor.features]
        if len(set(labels)) != len(labels):
            yield f"'{tensor.name}' has feature names that are not unique: {labels}"
    for state in m.states:
        if state.bounds and any(len(side) != math.prod(state.shape[1:]) for side in state.bounds):
            yield f"`bounds` of state '{state.input}' must have one entry per unit"


def _number_problems(m: Manifest) -> Any:
    for tensor in (*m.inputs, *m.outputs):
        for feature in tensor.features:
            for what, pair in (("range", feature.range), ("limits", feature.limits)):
                if pair is not None and not pair[0] <= pair[1]:
                    yield f"`{what}` of '{feature.name}' is {list(pair)}, expected [low, high]"
    for state in m.states:
        values = state.initial if isinstance(state.initial, tuple) else (state.initial,)
        if any(abs(value) > _FLOAT32_MAX for value in values):
            yield f"`initial` of state '{state.input}' is {max(values, key=abs)}, more than a float32 can hold"
        if isinstance(state.initial, tuple) and len(values) != math.prod(state.shape[1:]):
            yield f"`initial` of state '{state.input}' must be one number or have one entry per unit"
    if not 0 < m.verification.tolerance < 1:
        yield f"`verification.tolerance` is {m.verification.tolerance}, expected a number in (0, 1)"


def _time_problems(time: Time) -> Any:
    if time.period_s is not None and not time.period_s > 0:
        yield f"`time.period_s` is {time.period_s}, expected > 0 seconds"
    if not time.timespan > 0:
        yield f"`time.timespan` is {time.timespan}, expected > 0"
    if time.mode == "measured":
        if time.period_s is None or time.dt_range_s is None:
            yield "measured time needs `period_s` and `dt_range_s`"
        elif not 0 < time.dt_range_s[0] <= time.period_s <= time.dt_range_s[1]:
            yield f"`time.dt_range_s` is {list(time.dt_range_s)}, expected 0 < low <= {time.period_s} <= high"
