"""The user's example as recordings by input name, checked, in the shape that a step takes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np

from ..arrays import Array, plain_array, shape_of
from ..bundle.spec import Tensor
from ..errors import ExportWarning
from ..remarks import warn_caller
from ..verify.spacing import FINE, coarse_columns, spacing_remark
from ..wording import choices, listed, typed
from .forward.arguments import TIME_NAMES
from .forward.example import Example
from .forward.scaling import Scale, Scaling, by_tensor
from .trained.open import OpenedModule

__all__ = ["examples", "warn_of_coarse_outputs", "warn_of_spacing"]

_MOST_WAYS = 64  # of reading an example, which are tried one after the other
_COLOURS = (1, 3, 4)  # channels of a picture
_TIME = (
    f"If one of them is the time between samples, call it one of {listed(f'`{name}`' for name in TIME_NAMES)} in the "
    "forward: export then passes it, and the example leaves it out"
)


@dataclass(frozen=True)
class _Reading:
    """One input in one way of reading it: an array for each recording, (T, *shape), or one (*shape) for a constant.

    `batched` says whether it came with an axis, or a list, of recordings.
    """

    rows: list[Array]
    scalar: bool = False
    batched: bool = True


def examples(
    opened: OpenedModule,
    batch: int,
    example: Any,
    constants: Sequence[str] | None = None,
    scale_inputs: Scale = None,
    scale_outputs: Scale = None,
) -> list[Example] | list[None]:
    """The user's example in all ways in which it can be read, the likeliest first.

    Whole numbers may be numbers like any other, or tokens; an array (a, b) may be a samples of b features, or a
    recordings of b samples that have no axis for features. The model's own code tells: what it takes is right.

    Args:
        opened: The module, which knows its inputs.
        batch: Rows per step.
        example: Array or tensor of shape (T, features), a batch of recordings as the module takes it, or a list of
            recordings of any lengths or of such batches; a dict of these if there are several inputs; `None` for none.
        constants: Names of the inputs that are given once per sequence, (features,) or one for each recording; what
            can be nothing else is found by itself.
        scale_inputs: How the model's inputs are scaled; the example is not.
        scale_outputs: How its outputs are.

    Raises:
        TypeError: If it holds no real numbers.
        ValueError: If its shape does not fit, it is empty, or it holds NaN or infinity.
    """
    if example is None:
        if constants is not None:
            raise ValueError(f"`constants` is {constants!r}, which needs an `example` that holds them")
        if scale_inputs is not None or scale_outputs is not None:
            raise ValueError("scaling needs `example`, recorded samples in raw units")
        return [None]
    values = _by_name(opened, example)
    once = _constants(opened, values, constants)
    streamed = {name: value for name, value in values.items() if name not in once}
    if not streamed:
        raise ValueError(f"all inputs, {listed(values)}, are constants: expected one that comes with each sample")
    several = len(values) > 1
    ways = [
        list(_readings(f"example['{name}']" if several else "example", opened, value))
        for name, value in streamed.items()
    ]
    found = [dict(zip(streamed, way, strict=True)) for way in islice(product(*ways), _MOST_WAYS)]
    fitting = [way for way in found if len({tuple(map(len, reading.rows)) for reading in way.values()}) == 1]
    if not fitting:
        lengths = {name: [len(row) for row in reading.rows] for name, reading in found[0].items()}
        named = typed("constants=['...']", "--constants NAME")
        raise ValueError(
            f"`example` has recordings of different lengths per input: {lengths}, expected (batch, time, ...) each. "
            f"{_TIME}. If one is given once per recording, name it: {named}"
        )
    first, *others = _all_with_constants(fitting, {name: values[name] for name in once}, batch)
    whole = [_scaled(first, batch, scale_inputs)]  # raises what the likeliest way has to say
    for other in others:
        with contextlib.suppress(ValueError):
            whole.append(_scaled(other, batch, scale_inputs))
    return [dataclasses.replace(way, outputs=scale_outputs) for way in whole]


def _scaled(read: Example, batch: int, scale: Scale) -> Example:
    """With the scaling of the inputs; columns that float32 cannot hold finely enough are centred by the runtime."""
    scalings = by_tensor("scale_inputs", scale, read.tensors(batch))
    centers = {name: center for name, own in scalings.items() if (center := _center(own, read.rows[name]))}
    with np.errstate(over="ignore"):
        rows = {
            name: own if own[0].dtype != np.float64 or name in centers else [row.astype(np.float32) for row in own]
            for name, own in read.rows.items()
        }
    centred = {n: [row.astype(np.float64) for row in own] if n in centers else own for n, own in rows.items()}
    return dataclasses.replace(read, rows=centred, scalings=scalings, centers=centers)


def _center(scaling: Scaling, rows: Sequence[Array]) -> tuple[float, ...]:
    """What the runtime subtracts from each column; empty if that is nothing."""
    if rows[0].ndim != 3 or rows[0].dtype.kind != "f":
        return ()
    chosen = coarse_columns(np.concatenate(rows)) if scaling.centred is None else scaling.centred
    center = np.where(chosen, scaling.mean, 0.0)
    return tuple(center.tolist()) if center.any() else ()


def _by_name(opened: OpenedModule, example: Any) -> dict[str, Any]:
    if len(opened.names) == 1:
        only = next(iter(example.values())) if isinstance(example, Mapping) and len(example) == 1 else example
        return {opened.names[0]: only}
    if not isinstance(example, Mapping) or set(example) != set(opened.names):
        got = sorted(example) if isinstance(example, Mapping) else type(example).__name__
        raise ValueError(
            f"`example` is {got}, but the model takes the inputs {list(opened.names)}: pass "
            f"{typed('a dict of arrays', '--example FILE.npz, made with np.savez')}. {_TIME}. If one is "
            "a state that calls hand on, give it a default: hx=None"
        )
    return {name: example[name] for name in opened.names}


def _constants(opened: OpenedModule, values: Mapping[str, Any], asked: Sequence[str] | None) -> list[str]:
    """The inputs that are given once per recording: those that the user names, and those without an axis of time.

    So are pictures, (recordings, channels, height, width), beside samples that are none and more or fewer.
    """
    if isinstance(asked, str) or not isinstance(asked, (Sequence, np.ndarray, type(None))):
        shown = asked if isinstance(asked, str) else "NAME"
        raise TypeError(f"`constants` is {asked!r}, expected a list of names: constants=['{shown}']")
    for name in asked or ():
        if name not in values:
            raise ValueError(f"`constants` names '{name}', which is no input. {choices(str(name), values)}")
    shapes = {
        name: _shape(f"example['{name}']" if len(values) > 1 else "example", value)
        for name, value in values.items()
        if name not in (asked or ())
    }
    time = 1 if opened.batch_first else 0
    batches = sorted((shape for shape in shapes.values() if shape is not None and len(shape) >= 3), key=len)
    found = []
    for name, shape in shapes.items():
        if shape is None or len(shapes) == 1:
            continue
        alone = len(shape) == 0 or (len(shape) == 1 and any(other and len(other) >= 2 for other in shapes.values()))
        count, length = (batches[0][1 - time], batches[0][time]) if batches else (0, 0)
        # (recordings, time) is a number with each sample
        per_recording = len(shape) == 2 and shape[0] == count and shape[1] != length and (count > 1 or length > 1)
        picture = len(shape) == 4 and len(batches[0]) == 3 and shape[0] == count > 1 and length != shape[1] in _COLOURS
        if alone or per_recording or picture:
            found.append(name)
    return [name for name in values if name in (asked or ()) or name in found]


def _shape(name: str, value: Any) -> tuple[int, ...] | None:
    """The shape of an array; `None` for a list of recordings, which may differ."""
    if _is_list(name, value, 1):
        return None
    return shape_of(name, value)


def _is_list(name: str, value: Any, axes: int) -> bool:
    """Whether it is a list of arrays of at least so many axes."""
    return isinstance(value, (list, tuple)) and len(shape_of(f"{name}[0]", value[0] if value else 0)) >= axes


def _readings(name: str, opened: OpenedModule, example: Any) -> Iterator[_Reading]:
    """One input that comes with each sample."""
    features = opened.features
    if _is_list(name, example, 2):
        for rows in _listed(name, opened, example):
            yield from _dtypes(_Reading(rows), features)
        return
    array = _recording(name, example, features)
    if array.ndim >= 3:
        rows = list(array if opened.batch_first else np.swapaxes(array, 0, 1))
        yield from _dtypes(_Reading(rows), features)
        return
    if array.ndim == 2:
        yield from _dtypes(_Reading([array], batched=False), features)
    if features is None:
        rows = list(np.atleast_2d(array if opened.batch_first or array.ndim == 1 else array.T))
        yield from _dtypes(_Reading([row[:, None] for row in rows], scalar=True, batched=array.ndim == 2), features)


def _listed(name: str, opened: OpenedModule, example: Sequence[Any]) -> Iterator[list[Array]]:
    """A list of recordings, or of batches of them: of a loader, or what the forward is called with, `(x,)`."""
    rows = [_recording(f"{name}[{k}]", row, opened.features) for k, row in enumerate(example)]
    dtype = rows[0].dtype if len({row.dtype for row in rows}) == 1 else np.float64
    rows = [row.astype(dtype, copy=False) for row in rows]
    batches = rows[0].ndim > 2 and _are_alike(rows, 2)
    recordings = _are_alike(rows, 1) and not (batches and opened.features)  # of a layer a recording has two axes
    if not recordings and not batches:
        raise ValueError(
            f"`{name}` is a list of arrays of shapes {listed(dict.fromkeys(str(row.shape) for row in rows))}, expected "
            "recordings that differ in their length alone. What the forward takes besides goes by its name, in a dict "
            "of arrays; a state and the time between samples are left out"
        )
    if recordings:
        yield rows
    if batches:
        yield [row for batch in rows for row in (batch if opened.batch_first else np.swapaxes(batch, 0, 1))]


def _are_alike(rows: Sequence[Array], axis: int) -> bool:
    """Whether their shapes are the same from an axis on."""
    return len({(row.ndim, row.shape[axis:]) for row in rows}) == 1


def _dtypes(reading: _Reading, features: int | None = None) -> Iterator[_Reading]:
    """As numbers like any other, and as whole ones: frames of a camera first, as nothing else is made of uint8."""
    kind = str(reading.rows[0].dtype)
    wanted = {"uint8": ["uint8", "float32"], "int32": ["float32", "int32"]}.get(kind, [kind])
    for dtype in wanted if features is None else [kind if kind == "float64" else "float32"]:
        yield _Reading([row.astype(dtype, copy=False) for row in reading.rows], reading.scalar, reading.batched)


def _all_with_constants(
    ways: Sequence[Mapping[str, _Reading]], constants: Mapping[str, Any], batch: int
) -> list[Example]:
    """Every way with every way of reading the constants; a way that they do not fit is none, if there is another."""
    read: list[Example] = []
    failed: list[ValueError] = []
    for way in ways:
        try:
            read += _with_constants(way, constants, batch)
        except ValueError as error:
            failed.append(error)
    if not read:
        raise failed[0]
    return read


def _with_constants(way: Mapping[str, _Reading], constants: Mapping[str, Any], batch: int) -> Iterator[Example]:
    """A way of reading what comes with each sample, with every way of reading the constants."""
    first = next(iter(way.values()))
    lengths = [len(row) for row in first.rows]
    own = [list(_dtypes(_constant(name, value, first))) for name, value in constants.items()]
    for readings in islice(product(*own), _MOST_WAYS):
        held = dict(zip(constants, readings, strict=True))
        repeated = {
            name: [np.broadcast_to(row, (n, *row.shape)) for row, n in zip(r.rows, lengths, strict=True)]
            for name, r in held.items()
        }
        rows = {name: reading.rows for name, reading in way.items()} | repeated
        scalars = frozenset(name for name, reading in {**way, **held}.items() if reading.scalar)
        yield Example({name: _in_batches(own, batch) for name, own in rows.items()}, frozenset(constants), scalars)


def _constant(name: str, value: Any, beside: _Reading) -> _Reading:
    """One input that is given once per recording, (*shape) each."""
    count = len(beside.rows)
    array = _once_per_recording(name, _numbers(f"example['{name}']", value), beside)
    if array.ndim == 0:
        rows = [array] * count
    elif beside.batched:
        if len(array) != count and array.ndim > 1:
            raise ValueError(
                f"constant `example['{name}']` has shape {array.shape} for {count} recordings, expected one for each: "
                f"({count}, ...)"
            )
        rows = list(array) if len(array) == count else [array] * count  # the same for all of them
    else:
        rows = [array[0] if array.ndim > 1 and len(array) == 1 else array]
    scalar = rows[0].ndim == 0
    return _Reading([np.atleast_1d(row) for row in rows], scalar)


def _once_per_recording(name: str, array: Array, beside: _Reading) -> Array:
    """A constant that was recorded with each sample, (recordings, T, ...), without that axis."""
    lengths = {len(row) for row in beside.rows}
    axis = 1 if beside.batched else 0
    repeated = (
        array.ndim > axis + 1 and lengths == {array.shape[axis]} and (axis == 0 or len(array) == len(beside.rows))
    )
    if not repeated:
        return array
    first = array.take([0], axis)
    if (array != first).any():
        raise ValueError(
            f"constant `example['{name}']` has shape {array.shape} and changes within a recording, from sample to "
            "sample, so it is none: pass one for each recording, or leave it out of `constants`"
        )
    return first[:, 0] if axis else first[0]


def _in_batches(rows: Sequence[Array], batch: int) -> list[Array]:
    """Recordings as (T, batch, ...)."""
    if batch == 1:
        return [row[:, None] for row in rows]
    # A model with a batch sees the same recordings in every row, each row starting at another recording.
    shortest = min(len(row) for row in rows)
    turns = [[rows[(k + b) % len(rows)][:shortest] for b in range(batch)] for k in range(len(rows))]
    return [np.stack(turn, axis=1) for turn in turns]


def _recording(name: str, value: Any, features: int | None) -> Array:
    """One array of samples, checked; `features` is known for a single layer."""
    if isinstance(value, Mapping):
        raise ValueError(f"`{name}` is a dict of {sorted(value)}, but the model takes one input: pass its array alone")
    takes = "samples" if features is None else f"{features} features"
    wanted = "(batch, time, ...)" if features is None else f"(time, {features}) or a batch of such recordings"
    wrong = f"`{name}` has shape {{}}, but the model takes {takes}: expected {wanted}"
    axes = shape_of(name, value)
    if features is not None and axes and (len(axes) > 3 or axes[-1] != features):
        raise ValueError(wrong.format(axes))  # before what may be large is converted
    array = _numbers(name, value)
    tokens = array.ndim == 1 and array.dtype.kind != "f" and features is None
    if array.ndim < 2 and not tokens:
        raise ValueError(wrong.format(axes))
    return array


def _numbers(name: str, value: Any) -> Array:
    """An array of float64, float32, int32 or uint8, none of them NaN or infinite."""
    array = plain_array(name, value)
    if array.dtype.kind not in "fiu":
        advice = (
            f": as 0.0 and 1.0, {name}.astype('float32'), and .bool() in the forward" if array.dtype.kind == "b" else ""
        )
        raise TypeError(f"`{name}` has dtype {array.dtype}, expected real numbers{advice}")
    if array.size == 0:
        raise ValueError(f"`{name}` has shape {array.shape}: it holds no sample")
    if not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` holds NaN or infinity, first at {np.argwhere(~np.isfinite(array))[0].tolist()}: a stream takes "
            "finite samples. Fill gaps as the training did, and give where they were as an input of its own"
        )
    if array.dtype == np.uint8:
        return array
    held = np.iinfo(np.int32)
    if array.dtype.kind != "f" and array.min() >= held.min and array.max() <= held.max:
        return array.astype(np.int32)
    return array.astype(np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64)


def warn_of_spacing(inputs: Sequence[Tensor], recorded: Mapping[str, Sequence[Array]] | None, example: Any) -> None:
    """Say where float32 is too coarse for a column: in the model, or already in the example.

    Warns:
        ExportWarning: For the first such column of each input.
    """
    for tensor in inputs:
        if recorded is None or tensor.dtype != "float32" or not tensor.features:
            continue
        remark = spacing_remark([f.name for f in tensor.features], np.concatenate(recorded[tensor.name]))
        own = example[tensor.name] if isinstance(example, Mapping) and tensor.name in example else example
        if remark is None or (tensor.center and not _is_single(own)):
            continue
        scaled = typed("scale_inputs=(mean, std)", "--scale-inputs FILE")
        advice = f"so the model sees steps. Train on (x - mean) / std, and pass {scaled}"
        if tensor.center:
            advice = "which has lost what lies between: pass the example, and samples, as float64"
        warn_caller(f"{remark}, {advice}", ExportWarning)


def warn_of_coarse_outputs(scaling: Scale, outputs: Sequence[Tensor]) -> None:
    """Say where float32 is too coarse for outputs in raw units.

    Warns:
        ExportWarning: For each such output.
    """
    for name, own in by_tensor("scale_outputs", scaling, outputs).items():
        apart = np.spacing(np.abs(own.mean).astype(np.float32))
        coarse = np.flatnonzero(apart * FINE > own.std if own.centred is None else own.centred)
        if not len(coarse):
            continue
        mean = float(np.broadcast_to(own.mean, np.broadcast_shapes(own.mean.shape, own.std.shape)).flat[coarse[0]])
        column = f", column {coarse[0]}," if own.mean.ndim else ""
        advice = "Leave `scale_outputs` out, and add the mean on the device in float64"
        if own.centred is not None:  # by an estimator, which has no such argument
            advice = f"Fit it to y - {mean:.6g} there, and add that on the device in float64"
        warn_caller(
            f"output '{name}'{column} lies around {mean:.3g} in raw units, where float32 numbers are "
            f"{np.spacing(np.float32(abs(mean))):.2g} apart: too coarse for it. {advice}",
            ExportWarning,
        )


def _is_single(value: Any) -> bool:
    """Whether an example comes in float32."""
    first = value[0] if isinstance(value, (list, tuple)) and len(value) else value
    return str(getattr(first, "dtype", "")).rpartition(".")[2] in ("float32", "float16", "bfloat16")
