"""The caller's arguments of `export_model`, checked and turned into specs before any long work."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import msgspec
import numpy as np

from ..arrays import Array
from ..backends import named_backend
from ..bundle.manifest import control_characters, guard_problems
from ..bundle.spec import MAX_BATCH, MAX_UNROLL, Feature, Guard, Precision, Readout, Tensor, Time
from ..given_numbers import is_whole, number_text, real_number, whole_number
from ..progress import Progress
from ..runtime.modes.windows import check_window
from ..runtime.readouts import parse_readout, readout_text
from ..times import span_seconds
from ..wording import choices, listed, plural, typed

__all__ = [
    "check_backends",
    "check_batch",
    "check_guard",
    "check_guard_fits",
    "check_hash",
    "check_labels",
    "check_one_line",
    "check_precision",
    "check_progress",
    "check_readout",
    "check_unroll",
    "check_windows",
    "make_time",
    "name_features",
    "named_tensors",
    "with_ranges",
]

_Names = Sequence[str | Feature] | None

_DT_SPAN = 20.0  # default legal dt: from the period divided by this to the period times this


def check_backends(backends: Any) -> tuple[str, ...] | None:
    """Check the names of the backends that must run the proof.

    Raises:
        TypeError: If they are no list of names.
        ValueError: If there is none, or one is unknown or comes twice.
    """
    if backends is None:
        return None
    if isinstance(backends, str) or not isinstance(backends, Sequence):
        raise TypeError(f"`backends` is {number_text(backends)}, expected a list of names: backends=['onnxruntime']")
    for name in backends:
        try:
            named_backend(name)
        except (TypeError, ValueError) as error:
            raise type(error)(f"`backends` holds {number_text(name)}: {error}") from error
    if not backends or len(set(backends)) < len(backends):
        raise ValueError(f"`backends` is {backends!r}, expected at least one name, and each once")
    return tuple(backends)


def check_batch(batch: Any) -> int:
    """Check the batch size.

    Raises:
        ValueError: If it is no whole number, below 1, or more than a step should hold.
    """
    if not is_whole(batch) or batch < 1:
        raise ValueError(f"`batch` is {number_text(batch)}, expected a whole number of at least 1")
    return whole_number("batch", batch, 1, MAX_BATCH)


def check_guard(guard: object) -> Guard | None:
    """Check that it is one.

    Raises:
        TypeError: If it is none.
    """
    if guard is not None and not isinstance(guard, Guard):
        raise TypeError(f"`guard` is {number_text(guard)}, expected lnn_edge.Guard(on_gap='reset', ...)")
    return guard


def check_guard_fits(guard: Guard | None, outputs: tuple[Tensor, ...], time: Time, unroll: int) -> None:
    """Refuse a guard that speaks of what the model has not.

    Raises:
        ValueError: If it does not fit.
    """
    if guard is not None and unroll > 1:
        raise ValueError(f"`guard` looks at each sample, but the step takes blocks of {unroll}: leave one of them out")
    problem = None if guard is None else next(guard_problems(guard, outputs, time), None)
    if problem:
        raise ValueError(f"`guard` does not fit the model: {problem}")


def check_precision(precision: object) -> Precision:
    """Check the precision.

    Raises:
        ValueError: If it is not one that bundles can have.
    """
    known = get_args(Precision)
    if precision not in known:
        raise ValueError(f"`precision` is {precision!r}. {choices(str(precision), known)}")
    return cast(Precision, precision)


def check_hash(sha256: object) -> None:
    """Check the hash of a checkpoint.

    Raises:
        TypeError: If it is no text.
        ValueError: If it is no SHA-256.
    """
    wanted = f"`checkpoint_sha256` is {number_text(sha256)}, expected a text of 64 digits and letters a to f"
    if sha256 is not None and not isinstance(sha256, str):
        raise TypeError(wanted)
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(wanted)


def check_progress(progress: Progress | None) -> Progress | None:
    """Check what is called with the progress.

    Raises:
        TypeError: If it cannot be called.
    """
    if progress is not None and not callable(progress):
        raise TypeError(f"`progress` is {number_text(progress)}, expected a function of (phase, done, total)")
    return progress


def check_unroll(unroll: Any) -> int:
    """Check the number of samples per call.

    Raises:
        ValueError: If it is no whole number, below 1, or more than a graph should hold.
    """
    if not is_whole(unroll) or not 1 <= unroll <= MAX_UNROLL:
        raise ValueError(f"`unroll` is {number_text(unroll)}, expected a whole number from 1 to {MAX_UNROLL}")
    return int(unroll)


def check_windows(window: object, every: object, unroll: int) -> tuple[int, int] | None:
    """Length of the windows of training, and from one to the next; `None` without.

    Raises:
        TypeError, ValueError: If they are no such numbers, or no whole number of calls.
    """
    if window is None and every is None:
        return None
    length, step = check_window(window, every)
    if length % unroll or step % unroll:
        raise ValueError(f"`window` is {length} and `every` {step}, expected multiples of `unroll`, {unroll}")
    return length, step


def check_readout(given: object, own: Readout | None, windows: tuple[int, int] | None) -> Readout | None:
    """The readout: what the user says, or what the forward does by itself; `None` for the last output.

    Raises:
        ValueError: If it is none, the forward has another one, or a window has not so many outputs.
    """
    asked = None if given is None else parse_readout(given)
    if own is not None and asked not in (None, own):
        raise ValueError(
            f"`readout` is {given!r}, but the forward itself returns the {readout_text(own)}: leave it out"
        )
    found = own or asked
    if found is not None and windows is not None and (found.over or 1) > windows[0]:
        raise ValueError(f"the readout is the {readout_text(found)}, but a window has {windows[0]} samples: `window`")
    return None if found is None or found.kind == "last" else found


def check_one_line(named: Mapping[str, object]) -> None:
    """Refuse names that a manifest must not hold: control characters in what a device prints later.

    Raises:
        ValueError: Naming the place, as `inputs[0].features[2].unit`.
    """
    for place in control_characters(msgspec.to_builtins(named)):
        raise ValueError(f"`{place}` holds a control character, such as a line break or a tab. Write it without")


def check_labels(labels: object, outputs: Sequence[Tensor]) -> tuple[str, ...]:
    """The names of the classes, as text.

    Raises:
        TypeError: If they are no list.
        ValueError: If there is more than one output, or not one name for each of its columns.
    """
    if labels is None:
        return ()
    if isinstance(labels, str) or not isinstance(labels, (Sequence, np.ndarray)):
        raise TypeError(f"`labels` is {labels!r}, expected a list of names, one per column of the output")
    names = tuple(str(label) for label in labels)
    shapes = {tensor.name: list(tensor.shape[1:]) for tensor in outputs}
    if list(shapes.values()) != [[len(names)]]:
        raise ValueError(f"`labels` names {len(names)} classes, expected one for each column of the outputs {shapes}")
    if len(set(names)) != len(names) or "" in names:
        raise ValueError(f"`labels` are {list(names)}, expected different names")
    return names


def make_time(mode: object, period_s: Any, timespan: Any, dt_range_s: object) -> Time:
    """Check the time arguments.

    Raises:
        TypeError: If a number is none by its type.
        ValueError: If the mode is unknown, or a number is missing, not finite or out of range.
    """
    if mode not in ("fixed", "measured"):
        raise ValueError(f"`time` is {number_text(mode)}. {choices(mode, ['fixed', 'measured'])}")
    if period_s is not None:
        period_s = _seconds("period_s", period_s)
    timespan = real_number("timespan", timespan, above=0.0)
    if mode == "fixed":
        if dt_range_s is not None:
            raise ValueError("`dt_range_s` has a meaning only with time='measured'")
        return Time("fixed", period_s, timespan)
    if period_s is None:
        raise ValueError("time='measured' needs `period_s`, the nominal time between samples in seconds")
    low, high = _dt_range(dt_range_s) or (period_s / _DT_SPAN, period_s * _DT_SPAN)
    if not (0 < low <= period_s <= high and math.isfinite(high)):
        raise ValueError(f"`dt_range_s` is {(low, high)}, expected 0 < low <= period_s ({period_s:g}) <= high")
    return Time("measured", period_s, timespan, (low, high))


def _dt_range(given: object) -> tuple[float, float] | None:
    if given is None:
        return None
    if not isinstance(given, (tuple, list, np.ndarray)) or len(given) != 2:
        raise TypeError(
            f"`dt_range_s` is {number_text(given)}, expected (low, high) in seconds: dt_range_s=(0.01, 0.1)"
        )
    low, high = (_seconds(f"dt_range_s[{k}]", side) for k, side in enumerate(given))
    return low, high


def _seconds(name: str, value: Any) -> float:
    """Seconds as a float, of a number or of a span of time."""
    if isinstance(value, (datetime.timedelta, np.timedelta64)):
        value = span_seconds(value, name)
    return real_number(name, value, above=0.0, unit=", in seconds")


def name_features(what: str, tensor: Tensor, names: _Names, values: Array | None = None) -> Tensor:
    """Give the columns of an input or output their names, and the range of the values seen.

    Args:
        what: "inputs" or "outputs", for messages.
        tensor: The tensor, (batch, features).
        names: One name or `Feature` per column; `None` for numbered names.
        values: Values seen, (..., features).

    Raises:
        ValueError: If the number of names is wrong or one repeats.
        TypeError: If one is neither a string nor a `Feature`.
    """
    if len(tensor.shape) != 2:  # images and the like have no columns to name
        return tensor
    count = tensor.shape[-1]
    listable = names is None or isinstance(names, (Sequence, np.ndarray))
    given = [f"{tensor.name}_{k}" for k in range(count)] if names is None else list(names) if listable else []
    if not listable or isinstance(names, (str, bytes)) or not all(isinstance(n, (str, Feature)) for n in given):
        raise TypeError(f"`{what}` is {names!r}, expected a list of names or lnn_edge.Feature")
    features = [n if isinstance(n, Feature) else Feature(n) for n in given]
    labels = [f.name for f in features]
    if len(features) != count or len(set(labels)) != count:
        raise ValueError(
            f"`{what}` names {labels}, expected {count} different names, one per column of '{tensor.name}'"
        )
    for feature in features:
        _check_feature(what, feature)
    named = msgspec.structs.replace(tensor, features=tuple(features))
    if values is None:
        return named
    _check_limits(named, values)
    return with_ranges(named, values)


def named_tensors(
    what: str, tensors: Sequence[Tensor], names: object, recorded: Mapping[str, Sequence[Array]] | None = None
) -> tuple[Tensor, ...]:
    """Name the columns of all inputs or outputs, and give them the ranges of the recordings.

    Args:
        what: "inputs" or "outputs", for messages.
        tensors: The tensors.
        names: As the caller gave them: one list for one tensor; for several a dict of lists by tensor name, or all
            names in a row; or `None`.
        recorded: Recordings by tensor name, (T, *shape) each.

    Raises:
        TypeError, ValueError: As `name_features`, or if the names are not one list per tensor.
    """
    return tuple(
        name_features(what, tensor, own, None if recorded is None else np.concatenate(recorded[tensor.name]))
        for tensor, own in zip(tensors, _names_for(what, tensors, names), strict=True)
    )


def _names_for(what: str, tensors: Sequence[Tensor], names: object) -> list[_Names]:
    """The column names of each tensor: one list for one tensor; for several a dict of lists, or all names in a row.

    Raises:
        TypeError: If there are several tensors and no names of this kind.
        ValueError: If the dict has a name that no tensor has, or the row is no name for each column.
    """
    if names is None:
        return [None] * len(tensors)
    known = [tensor.name for tensor in tensors]
    if isinstance(names, Mapping):
        for name in names:
            if name not in known:
                raise ValueError(f"`{what}` names '{name}'. {choices(str(name), known)}")
        return [cast(_Names, names.get(name)) for name in known]
    streamed = [tensor for tensor in tensors if not tensor.constant]
    if len(streamed) > 1:
        names = _in_parts(what, streamed, names)
        return [None if tensor.constant else names[tensor.name] for tensor in tensors]
    # `name_features` looks at it
    return [None if tensor.constant else cast(_Names, names) for tensor in tensors]


def _in_parts(what: str, tensors: Sequence[Tensor], names: object) -> dict[str, _Names | None]:
    """Names of all columns in a row, as a list for each tensor that has some.

    Raises:
        TypeError: If they are no list.
        ValueError: If they are not as many as the tensors have columns.
    """
    columns = {tensor.name: tensor.shape[-1] if len(tensor.shape) == 2 else 0 for tensor in tensors}
    held = listed(f"{name} ({plural(count, 'column') if count else 'no columns'})" for name, count in columns.items())
    form = {name: [f"{name}_{k}" for k in range(count)] for name, count in columns.items() if count}
    flags = " ".join(f"--{what} {name}={','.join(own)}" for name, own in form.items())
    advice = f"name the columns of each: {typed(f'{what}={form}', flags)}"
    if isinstance(names, (str, bytes)) or not isinstance(names, (Sequence, np.ndarray)):
        raise TypeError(f"the model has the {what} {held}: pass `{what}` as a dict of lists of names, or {advice}")
    if len(names) != sum(columns.values()):
        raise ValueError(
            f"`{what}` has {plural(len(names), 'name')} for {held}: name all of them in a row, or {advice}"
        )
    stops = np.cumsum([0, *columns.values()])
    return {name: list(names[stops[k] : stops[k + 1]]) or None for k, name in enumerate(columns)}


def _check_limits(tensor: Tensor, values: Array) -> None:
    for k, feature in enumerate(tensor.features):
        low, high = feature.limits or (-np.inf, np.inf)
        seen = values[..., k]
        if seen.min() < low or seen.max() > high:
            raise ValueError(
                f"the example has values from {seen.min():g} to {seen.max():g} in '{feature.name}', outside its limits "
                f"{[low, high]}: the robot would refuse these samples. Widen the limits or leave the samples out"
            )


def with_ranges(tensor: Tensor, values: Array) -> Tensor:
    """Give the columns that have no range yet the lowest and highest of the values seen, (..., features)."""
    if not tensor.features:
        return tensor
    seen = values.reshape(-1, tensor.shape[-1])
    ranges = zip(seen.min(axis=0).tolist(), seen.max(axis=0).tolist(), strict=True)
    features = (
        f if f.range else msgspec.structs.replace(f, range=r) for f, r in zip(tensor.features, ranges, strict=True)
    )
    return msgspec.structs.replace(tensor, features=tuple(features))


def _check_feature(what: str, feature: Feature) -> None:
    if not feature.name or feature.name != feature.name.strip():
        raise ValueError(f"`{what}` has the name {feature.name!r}, expected a name without spaces around it")
