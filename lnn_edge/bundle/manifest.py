"""The manifest: what a bundle says about itself, and the one place that knows its format.

Decoding is strict: unknown fields, wrong types and impossible values are refused, each with the path of the field.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import msgspec

from ..errors import BundleError
from ..format_version import newer_version
from ..wording import CONTROL
from .spec import (
    DT_INPUT,
    MAX_ENDS,
    MAX_UNROLL,
    MAX_WINDOW,
    PROGRAM_JSON,
    PROGRAM_WEIGHTS,
    Core,
    Dtype,
    Frozen,
    Graph,
    Guard,
    Precision,
    Provenance,
    Readout,
    Sensitive,
    StatePair,
    Tensor,
    Time,
    Verification,
    Window,
)

__all__ = [
    "FILES",
    "SCHEMA_VERSION",
    "FileEntry",
    "Manifest",
    "Schema",
    "control_characters",
    "decode_manifest",
    "encode_json",
    "guard_problems",
]

SCHEMA_VERSION = 2
# What a bundle of each version holds beside manifest.json.
FILES = {
    1: ("model.onnx", "golden.safetensors", "report.json"),
    2: ("model.onnx", "golden.safetensors", "report.json", PROGRAM_JSON, PROGRAM_WEIGHTS),
}

_FLOAT32_MAX = 3.4028234663852886e38
_MAX_ENTRIES = 1 << 21  # of all lists and objects: the ranges of a million units


class Schema(Frozen, frozen=True):
    """The format's name and version."""

    name: Literal["lnn-edge bundle"] = "lnn-edge bundle"
    version: int = SCHEMA_VERSION


class FileEntry(Frozen, frozen=True):
    """Size in bytes and SHA-256 (hex) of one file of the bundle."""

    sha256: str
    size: int


class Manifest(Frozen, frozen=True):
    """Everything in manifest.json. `digest` guards against damage, not against forgery.

    Shapes of inputs and outputs are those of one sample, (batch, ...). With `unroll` above 1 the graph takes and gives
    blocks of that many samples, (batch, unroll, ...); `sample_inputs` and `results` say what it really has.

    `sensitive` says for how many steps float32 follows a model that amplifies disturbances, `None` for any other.
    `window` is what the model was trained on, `None` for a state that is kept; `readout` makes one result of several
    outputs, `None` where each output is one; `labels` are the classes that the columns of the only output stand for.
    `guard` is how its streams are guarded where the caller says nothing else, `None` for a guard's own defaults.
    `probabilities` is the output whose logits the step turns into probabilities, `None` where it adds nothing.
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
    window: Window | None = None
    readout: Readout | None = None
    labels: tuple[str, ...] = ()
    probabilities: str | None = None
    sensitive: Sensitive | None = None
    guard: Guard | None = None

    def sample_inputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the graph's inputs, the states not among them; `dt` is the last."""
        shapes = {t.name: t.shape if t.constant else self._in_blocks(t.shape) for t in self.inputs}
        return shapes | ({DT_INPUT: (self.batch, self.unroll)} if self.time.mode == "measured" else {})

    def sample_dtypes(self) -> dict[str, Dtype]:
        """What these inputs are made of."""
        dtypes: dict[str, Dtype] = {t.name: t.dtype for t in self.inputs}
        return dtypes | ({DT_INPUT: "float32"} if self.time.mode == "measured" else {})

    @property
    def streamed(self) -> tuple[Tensor, ...]:
        """The inputs that come with each sample."""
        return tuple(t for t in self.inputs if not t.constant)

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """The inputs that are given once per sequence."""
        return tuple(t for t in self.inputs if t.constant)

    def results(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the graph's outputs, the states last."""
        return {t.name: self._in_blocks(t.shape) for t in self.outputs} | {s.output: s.shape for s in self.states}

    def _in_blocks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.unroll == 1 else (shape[0], self.unroll, *shape[1:])

    def signed(self) -> Manifest:
        """With `digest` set to the SHA-256 of everything else, so that no byte of a bundle can change unnoticed."""
        unsigned = encode_json(msgspec.structs.replace(self, digest=""))
        return msgspec.structs.replace(self, digest=_digest(unsigned, ""))


def _digest(encoded: bytes, digest: str) -> str:
    """SHA-256 of manifest.json with its `digest` left empty: of the bytes, so that white space counts as well."""
    return hashlib.sha256(encoded.replace(f'"digest": "{digest}"'.encode(), b'"digest": ""')).hexdigest()


def encode_json(value: object) -> bytes:
    """Encode a struct, dataclass or plain value as indented JSON with full-precision floats and a final newline.

    Of a file's name that is no UTF-8 the odd bytes are written as the terminal shows them.
    """
    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_in_utf8(msgspec.to_builtins(value)))
    return msgspec.json.format(data, indent=2) + b"\n"


def _in_utf8(value: object) -> object:
    """The same with strings that UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_in_utf8(key): _in_utf8(own) for key, own in value.items()}
    return [_in_utf8(own) for own in value] if isinstance(value, (list, tuple)) else value


def decode_manifest(data: bytes) -> Manifest:
    """Decode and check manifest.json.

    Raises:
        BundleError: If it is not JSON, of another or newer schema, or has a missing, unknown or impossible field.
    """
    if data.count(b",") > _MAX_ENTRIES:  # before anything is made of them
        raise BundleError(f"manifest.json has more than {_MAX_ENTRIES} entries in its lists and objects")
    try:
        newer = newer_version(data, SCHEMA_VERSION)
        if newer:
            raise BundleError(f"manifest.json {newer}")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"manifest.json is not a valid manifest: {error}") from error
    _check(manifest, data)
    return manifest


def control_characters(value: object, place: str = "") -> Iterator[str]:
    """Where the strings of plain values, as JSON has them, hold control characters: `inputs[0].name`."""
    if isinstance(value, str) and CONTROL.search(value):
        yield place
    elif isinstance(value, dict):
        for key, own in value.items():
            name = f"{place}.{key}" if place else key
            yield from [place] if CONTROL.search(key) else control_characters(own, name)
    elif isinstance(value, (list, tuple)):
        for k, own in enumerate(value):
            yield from control_characters(own, f"{place}[{k}]")


def _check(manifest: Manifest, data: bytes) -> None:
    problem = next(_problems(manifest, data), None)
    if problem:
        raise BundleError(f"manifest.json is inconsistent: {problem}")


def _problems(m: Manifest, data: bytes) -> Iterator[str]:
    if m.schema.version not in FILES:
        yield f"schema version {m.schema.version} is unknown; expected {' or '.join(map(str, FILES))}"
        return
    if m.digest != _digest(data, m.digest):
        yield "its content does not match its `digest`: a value was changed by hand or on the way"
    expected = FILES[m.schema.version]
    if not data.isascii() or b"\\" in data or b"\x7f" in data:  # else there are none, and nothing is walked
        found = control_characters(msgspec.to_builtins(m))
        yield from (f"`{place[:200]}` holds a control character" for place in found)
    if set(m.files) != set(expected):
        yield f"`files` lists {sorted(m.files)}, expected {sorted(expected)}"
    if not m.streamed or not m.outputs:
        yield "`inputs` and `outputs` must not be empty, and not all inputs constant"
    if any(t.constant or t.center or t.dtype != "float32" for t in m.outputs):
        yield "`outputs` must be float32, neither constant nor centred"
    for what, ends in (("inputs", m.inputs), ("outputs", m.outputs), ("states", m.states), ("cores", m.cores)):
        if len(ends) > MAX_ENDS:
            yield f"it has {len(ends)} `{what}`, more than the {MAX_ENDS} that a step may have"
    names = [t.name for t in (*m.inputs, *m.outputs)] + [n for s in m.states for n in (s.input, s.output)]
    repeated = sorted(n for n, count in Counter([*names, DT_INPUT]).items() if count > 1)
    if repeated:
        yield f"tensor names must be unique and not '{DT_INPUT}', got {repeated} more than once"
    yield from _shape_problems(m)
    yield from _number_problems(m)
    yield from _time_problems(m.time)
    yield from _result_problems(m)
    if m.guard is not None:
        yield from guard_problems(m.guard, m.outputs, m.time)


def guard_problems(guard: Guard, outputs: tuple[Tensor, ...], time: Time) -> Iterator[str]:
    """What of a guard does not fit a model."""
    shapes = {tensor.name: tensor.shape for tensor in outputs}
    for field in ("safe", "slew_per_s"):
        for name, values in getattr(guard, field).items():
            if name not in shapes:
                yield f"`{field}` names '{name}', which is no output: {', '.join(shapes)}"
            elif len(values) != math.prod(shapes[name][1:]):
                yield f"`{field}` of '{name}' has {len(values)} numbers, expected {math.prod(shapes[name][1:])}"
    if guard.safe and len(guard.safe) < len(shapes):
        yield f"`safe` lacks {', '.join(name for name in shapes if name not in guard.safe)}: name every output"
    if time.period_s is None and (guard.slew_per_s or (guard.on_bad != "refuse" and guard.hold_for_s is None)):
        yield "it counts in periods, and nothing says how long one is: export with `period_s`"
    longest_s = None if time.dt_range_s is None else time.dt_range_s[1]
    if guard.gap_s is not None and longest_s is not None and guard.gap_s > longest_s:
        yield f"`gap_s` is {guard.gap_s}, but the model was proven for at most {longest_s:g} s between samples"


def _result_problems(m: Manifest) -> Iterator[str]:
    if m.window is not None and not 1 <= m.window.every <= m.window.length <= MAX_WINDOW:
        yield f"`window` has length {m.window.length} every {m.window.every}, expected 1 <= every <= length"
    if m.sensitive is not None and not (m.sensitive.holds_steps >= 1 and m.sensitive.doubling_steps > 0):
        yield f"`sensitive` has {m.sensitive.holds_steps} steps doubling in {m.sensitive.doubling_steps}, expected > 0"
    over = None if m.readout is None else m.readout.over
    if over is not None and not 1 <= over <= MAX_WINDOW:
        yield f"`readout.over` is {over}, expected 1 to {MAX_WINDOW}"
    if m.labels and (len(m.outputs) > 1 or m.outputs[0].shape[1:] != (len(m.labels),)):
        shapes = [list(t.shape) for t in m.outputs]
        yield f"{len(m.labels)} `labels` for outputs {shapes}, expected one output with as many columns"
    if m.probabilities is not None and m.probabilities not in [tensor.name for tensor in m.outputs]:
        yield f"`probabilities` is '{m.probabilities}', which is no output"
    if len(set(m.labels)) != len(m.labels):
        yield f"`labels` are not unique: {list(m.labels)}"


def _shape_problems(m: Manifest) -> Iterator[str]:
    if not 1 <= m.unroll <= MAX_UNROLL:
        yield f"`unroll` is {m.unroll}, expected 1 to {MAX_UNROLL}"
    named = [(t.name, t.shape) for t in (*m.inputs, *m.outputs)] + [(s.input, s.shape) for s in m.states]
    for name, shape in named:
        if len(shape) < 2 or shape[0] != m.batch or min(shape) < 1 or math.prod(shape) > 1 << 26:
            yield f"'{name}' has shape {list(shape)}, expected [{m.batch}, ...] with positive sizes"
    for tensor in (*m.inputs, *m.outputs):
        if tensor.features and (len(tensor.features) != tensor.shape[-1] or len(tensor.shape) != 2):
            yield f"'{tensor.name}' has {len(tensor.features)} features for shape {list(tensor.shape)}"
        if tensor.center and (tensor.shape[1:] != (len(tensor.center),) or tensor.dtype != "float32"):
            yield f"'{tensor.name}' has {len(tensor.center)} numbers in `center` for shape {list(tensor.shape)}"
        labels = [f.name for f in tensor.features]
        if len(set(labels)) != len(labels):
            yield f"'{tensor.name}' has feature names that are not unique: {labels}"
    for state in m.states:
        if state.bounds and any(len(side) != math.prod(state.shape[1:]) for side in state.bounds):
            yield f"`bounds` of state '{state.input}' must have one entry per unit"


def _number_problems(m: Manifest) -> Iterator[str]:
    for state in m.states:
        values = state.initial if isinstance(state.initial, tuple) else (state.initial,)
        if any(abs(value) > _FLOAT32_MAX for value in values):
            yield f"`initial` of state '{state.input}' is {max(values, key=abs)}, more than a float32 can hold"
        if isinstance(state.initial, tuple) and len(values) != math.prod(state.shape[1:]):
            yield f"`initial` of state '{state.input}' must be one number or have one entry per unit"
    if not 0 < m.verification.tolerance < 1:
        yield f"`verification.tolerance` is {m.verification.tolerance}, expected a number in (0, 1)"


def _time_problems(time: Time) -> Iterator[str]:
    if time.period_s is not None and not time.period_s > 0:
        yield f"`time.period_s` is {time.period_s}, expected > 0 seconds"
    if not time.timespan > 0:
        yield f"`time.timespan` is {time.timespan}, expected > 0"
    if time.mode == "measured":
        if time.period_s is None or time.dt_range_s is None:
            yield "measured time needs `period_s` and `dt_range_s`"
        elif not 0 < time.dt_range_s[0] <= time.period_s <= time.dt_range_s[1]:
            yield f"`time.dt_range_s` is {list(time.dt_range_s)}, expected 0 < low <= {time.period_s} <= high"
