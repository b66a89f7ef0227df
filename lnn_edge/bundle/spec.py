"""The bundle's vocabulary: features, tensors, state pairs, time, cores and how a bundle was proven."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import msgspec

from ..given_numbers import number_text

__all__ = [
    "DT_INPUT",
    "MAX_BATCH",
    "MAX_ENDS",
    "MAX_UNROLL",
    "MAX_WINDOW",
    "PROGRAM_JSON",
    "PROGRAM_WEIGHTS",
    "Core",
    "Dtype",
    "Feature",
    "Frozen",
    "Graph",
    "Guard",
    "Precision",
    "Provenance",
    "Readout",
    "Sensitive",
    "StatePair",
    "Tensor",
    "Time",
    "Verification",
    "Window",
    "output_of_state",
]

MAX_BATCH = 1 << 20  # rows per step
MAX_ENDS = 1024  # inputs, states or outputs of a step
MAX_UNROLL = 1024  # samples per call; a graph grows with each
_FLOAT32_MAX = (2 - 2**-23) * 2.0**127
MAX_WINDOW = 1 << 16  # samples of a window, which a stream keeps


PROGRAM_JSON, PROGRAM_WEIGHTS = "step.json", "step.safetensors"  # the step program in a bundle


DT_INPUT = "dt"  # the graph input that holds the time since the previous sample, (batch, unroll) seconds


Precision = Literal["float32", "float16"]  # of weights and inner arithmetic; all inputs and results are float32


Dtype = Literal["float32", "int32", "uint8"]  # of inputs


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: immutable, and a field that is not in the format is an error."""


class Feature(Frozen, frozen=True):
    """One column of an input or output.

    Args:
        name: Column name, as in the CSV file or the sensor driver. An export reads `name:unit:low:high` here as it does
            in a text; a colon that belongs to the name has a backslash before it.
        unit: Physical unit, for people; `None` when unknown.
        range: Lowest and highest value seen when the bundle was exported; information only.
        limits: Lowest and highest legal value; a sample outside is refused by the runtime. `None`: any finite value.
            By position two numbers stand for them: `Feature("hip", "rad", -1.5, 1.5)`.

    Raises:
        TypeError: If only one number is given.
        ValueError: If a range or limits are not two finite numbers, the lower one first.
    """

    name: str
    unit: str | None = None
    range: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"Feature({self.name!r}, ...) has a name that is no text")
        if not isinstance(self.unit, (str, type(None))):
            raise TypeError(f"Feature('{self.name}', {self.unit!r}, ...) has a unit that is no text")
        numbers = [_is_number(value) for value in (self.range, self.limits)]
        if any(numbers):
            if not all(numbers):
                raise TypeError(
                    f"Feature('{self.name}', ...) has one limit, expected Feature(name, unit, low, high), or "
                    "limits=(low, high)"
                )
            msgspec.structs.force_setattr(self, "limits", (self.range, self.limits))
            msgspec.structs.force_setattr(self, "range", None)
        for side in ("range", "limits"):
            pair = getattr(self, side)
            if pair is not None and not _is_range(pair):
                raise ValueError(f"`{side}` of '{self.name}' is {number_text(pair)}, expected (low, high), both finite")
            if pair is not None:  # NumPy's numbers as well, which no manifest can hold
                msgspec.structs.force_setattr(self, side, (float(pair[0]), float(pair[1])))


def _is_range(pair: Any) -> bool:
    """Whether it is two finite numbers, the lower one first."""
    if isinstance(pair, (str, bytes)) or not hasattr(pair, "__len__") or not hasattr(pair, "__getitem__"):
        return False
    if len(pair) != 2 or not all(map(_is_number, pair)):
        return False
    try:
        low, high = map(float, pair)
    except OverflowError:  # a whole number beyond what a float holds
        return False
    return math.isfinite(low) and math.isfinite(high) and low <= high


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


class Tensor(Frozen, frozen=True):
    """One input or output of the step, with the meaning of its last axis when that is a feature vector.

    Args:
        name: Its name.
        shape: Of one sample, (batch, ...).
        features: One per column of a (batch, columns); none for pictures and the like.
        constant: Whether it is an input that is given once per sequence, and not with each sample.
        dtype: What a sample is made of: "int32" for tokens, "uint8" for frames of a camera. Outputs are float32.
        center: What the runtime subtracts from the columns of a sample, in float64, before it becomes float32, which
            is too coarse for the values as they are; empty where it is fine enough.
    """

    name: str
    shape: tuple[int, ...]
    features: tuple[Feature, ...] = ()
    constant: bool = False
    dtype: Dtype = "float32"
    center: tuple[float, ...] = ()


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


class Window(Frozen, frozen=True):
    """What the model was trained and evaluated on: windows of samples, each stepped from the initial state.

    Args:
        length: Samples of a window.
        every: Samples from the beginning of one to that of the next.
        kept_state_changes: Per output, how far a state that is kept takes it from what a window ends in: the root mean
            square of the difference, in units of the output's standard deviation. `None` where it was not measured.
    """

    length: int
    every: int
    kept_state_changes: dict[str, float] | None = None


class Readout(Frozen, frozen=True):
    """How one result comes out of the outputs of a window, or of a sequence so far.

    Args:
        kind: The "last" output; the "mean" of outputs; or the "vote": for each column, the share of outputs in which it
            is the largest.
        over: Of how many last outputs; `None` for all of them.
    """

    kind: Literal["last", "mean", "vote"]
    over: int | None = None


class Guard(Frozen, frozen=True):
    """How a stream is guarded: what becomes of samples, times and states that it must not simply step with.

    Args:
        dt_from: Where the time between samples is from: the "sample", by its `t_s` or `dt_s`, and the monotonic clock
            where it has neither; the "clock" alone; or "nominal", always a period.
        first: With measured time, what the first sample after a reset does: count as one "period", or "wait", which
            steps nothing and only starts the clock.
        on_gap: What becomes of a sample after a gap: "refuse" it until somebody resets; "reset", begin anew with it;
            "clamp", step with the longest legal dt (and with the shortest, where a sample is too early); "split",
            step it as often as the gap has legal parts, at most 100 times; a longer gap resets.
        gap_s: What is a gap, seconds; `None` is beyond the legal dt with measured time, and nothing with fixed time.
        on_late: What becomes of a sample that is not after the one before: "refuse", which leaves it out (five in a
            row, each after the one before, are a clock that was set back: a gap), or "reset".
        on_bad: What becomes of a sample with values that are missing, NaN or infinite: "refuse"; "hold", the last good
            value of the column stands in; "predict", the line through the last two; inputs of whole numbers are held.
        hold_for_s: How old a value may be that stands in, seconds; `None` for ten periods.
        on_state: What becomes of a state outside its bounds: "refuse" keeps the state from before the sample; "reset";
            "raise" a `StateError`, which ends a loop.
        state_margin: How far a state may leave the bounds that it had in training and proof, in widths of its widest
            unit; `None` for any finite state.
        warm_up: Steps after a reset whose output must not be trusted yet.
        on_fault: What the robot gets where there is no output to trust: "hold", the last one, or "safe".
        safe: The safe output, by output name; a number for each column.
        slew_per_s: How fast an output may change, by output name; a number above 0 for each column, per second.
        pace: With fixed time, what the mean time between samples may be, in periods.
        pace_window: Over how many samples it is taken.

    Raises:
        TypeError, ValueError: If a value is none that it can have.
    """

    dt_from: Literal["sample", "clock", "nominal"] = "sample"
    first: Literal["period", "wait"] = "period"
    on_gap: Literal["refuse", "reset", "clamp", "split"] = "refuse"
    gap_s: float | None = None
    on_late: Literal["refuse", "reset"] = "refuse"
    on_bad: Literal["refuse", "hold", "predict"] = "refuse"
    hold_for_s: float | None = None
    on_state: Literal["refuse", "reset", "raise"] = "refuse"
    state_margin: float | None = 1.0
    warm_up: int = 0
    on_fault: Literal["hold", "safe"] = "hold"
    safe: dict[str, tuple[float, ...]] = {}
    slew_per_s: dict[str, tuple[float, ...]] = {}
    pace: tuple[float, float] = (0.8, 1.2)
    pace_window: int = 100

    def __post_init__(self) -> None:
        try:  # the types that are annotated, and not only what a decoder gives
            checked = msgspec.convert(msgspec.structs.asdict(self), dict[str, Any])
            for field in _fields(type(self)):
                value = msgspec.convert(_plain(checked[field.name]), field.type)
                msgspec.structs.force_setattr(self, field.name, value)
        except msgspec.ValidationError as error:
            raise TypeError(
                f"Guard({field.name}={checked[field.name]!r}): {_with_choices(_in_words(str(error)), field)}"
            ) from None
        problem = next(_guard_problems(self), None)
        if problem:
            raise ValueError(f"Guard(...): {problem}")


@cache  # msgspec evaluates the annotations anew each time, which takes ten times as long as all that is checked
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _plain(value: Any) -> Any:
    """A value with lists and NumPy's arrays and numbers as plain ones."""
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(own) for own in value] if isinstance(value, (list, tuple)) else value


_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "array": "a list",
    "object": "a dict",
    "bool": "True or False",
    "null": "None",
}


def _in_words(text: str) -> str:
    """What msgspec says of types, which are JSON's, in words of Python, and without the place in a value."""
    text = re.sub(r" - at `[^`]*`$", " in it", text)
    return re.sub(
        r"`([a-z]+(?: \| [a-z]+)*)`", lambda m: " or ".join(_WORDS.get(t, t) for t in m[1].split(" | ")), text
    )


def _with_choices(text: str, field: msgspec.structs.FieldInfo) -> str:
    known = getattr(field.type, "__args__", ())
    return f"{text}. Expected one of {', '.join(map(str, known))}" if text.startswith("Invalid enum") else text


def _guard_problems(guard: Guard) -> Iterator[str]:
    for name in ("gap_s", "hold_for_s", "state_margin"):
        value = getattr(guard, name)
        if value is not None and not 0 < value < math.inf:
            yield f"`{name}` is {value}, expected a finite number above 0, or None"
    low, high = guard.pace
    if not 0 < low <= 1 <= high < math.inf:
        yield f"`pace` is {guard.pace}, expected 0 < low <= 1 <= high, in periods"
    for name, most in (("warm_up", 1 << 31), ("pace_window", MAX_WINDOW)):
        if not (name == "pace_window") <= getattr(guard, name) <= most:
            yield f"`{name}` is {getattr(guard, name)}, expected {int(name == 'pace_window')} to {most}"
    for output, values in guard.safe.items():
        if not all(abs(value) <= _FLOAT32_MAX for value in values):
            yield f"`safe` of '{output}' is {values}, expected finite numbers of float32"
    for output, values in guard.slew_per_s.items():
        if not all(value > 0 for value in values):
            yield f"`slew_per_s` of '{output}' is {values}, expected numbers above 0"
    if guard.on_fault == "safe" and not guard.safe:
        yield "`on_fault` is 'safe', but there is no safe output: pass safe={'output': (0.0, ...)}"


_MOST_DOUBLINGS = 1000.0  # that a float holds


class Sensitive(Frozen, frozen=True):
    """A model that amplifies disturbances, so that float32 follows exact arithmetic for some steps only.

    Args:
        holds_steps: Closed-loop steps from a reset over which float32 stays so near to exact arithmetic that any order
            of its sums is within a thousandth.
        doubling_steps: Steps in which a disturbance of 1e-6 doubles, in float64.
    """

    holds_steps: int
    doubling_steps: float

    def __str__(self) -> str:
        return (
            f"sensitive: {self.growth} float32 follows exact arithmetic for {self.holds_steps} steps from a reset; "
            "after that only the kind of motion is the same, as in torch"
        )

    @property
    def growth(self) -> str:
        """How fast a disturbance grows, before the words "float32 follows"; beyond doubling a step it is a jump."""
        if self.doubling_steps >= 1:
            return f"a disturbance doubles in {self.doubling_steps:.2g} steps, so"
        times = 2.0 ** min(1 / self.doubling_steps, _MOST_DOUBLINGS)
        return (
            f"at some states one step makes a disturbance {times:.2g} times as large (huge weights, or a diverged "
            "training), and until it comes to one"
        )


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

    `max_abs_error` maps a comparison ("onnxruntime vs torch float32") to its largest error over all tensors. Where an
    encoder is costly, the steps are of so many `distinct_samples`, each encoded once, and over `whole_steps` of them
    the whole graph ran; else both are `None`, and all of it did.
    """

    status: Literal["passed", "pending"]
    steps: int
    tolerance: float
    tolerance_reason: str
    max_abs_error: dict[str, float]
    distinct_samples: int | None = None
    whole_steps: int | None = None


class Provenance(Frozen, frozen=True):
    """Where the bundle comes from.

    `weights` is "as built" where the program exported what a function of the user's built and no file of weights was
    named: they are trained only if that function loads them by itself. `None` where nothing is known about it.
    """

    created: str
    command: str
    versions: dict[str, str]
    git_commit: str | None = None
    checkpoint_sha256: str | None = None
    weights: Literal["as built"] | None = None


def output_of_state(name: str) -> str:
    """What the manifest calls the output that holds the next value of a state: `h_out` for `h_in`."""
    return f"{name.removesuffix('_in')}_out"
