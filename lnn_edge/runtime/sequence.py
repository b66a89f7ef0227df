"""Recordings: samples one after the other, (steps, batch, ...), or in unroll blocks, (calls, batch, unroll, ...)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array, plain_array, shape_of
from ..bundle.manifest import Manifest
from ..named import column_names, is_permuted, row_labels
from ..times import are_stamps, span_seconds, stamp_array
from .input_port import by_name, named_values

__all__ = [
    "check_lengths",
    "check_recording",
    "check_time_shapes",
    "named_recording",
    "recording_in_unroll_blocks",
    "samples_from_unroll_blocks",
    "times_as_arrays",
    "unroll_blocks_from_samples",
]


def unroll_blocks_from_samples(samples: Array, unroll: int) -> Array:
    """Group samples, (steps, batch, ...) a whole number of unroll blocks, into (calls, batch, unroll, ...)."""
    return np.swapaxes(samples.reshape(-1, unroll, *samples.shape[1:]), 1, 2)


def samples_from_unroll_blocks(blocks: Array) -> Array:
    """The way back."""
    return np.swapaxes(blocks, 1, 2).reshape(-1, blocks.shape[1], *blocks.shape[3:])


def named_recording(manifest: Manifest, xs: Any) -> Any:
    """A recording with its named columns in the order of the features: what can be counted by `[k]`, or a dict of it.

    Raises:
        TypeError, ValueError, NonFiniteError: If a name is missing or unknown, or there are masked values.
    """
    tensors = {tensor.name: tensor for tensor in manifest.streamed}
    inputs = {tensor.name for tensor in manifest.inputs}
    if isinstance(xs, Mapping) and (len(tensors) > 1 or inputs.intersection(xs)):
        own = {name: named_values(x, tensors[name]) if name in tensors else x for name, x in xs.items()}
        return own[next(iter(tensors))] if list(own) == list(tensors) and len(own) == 1 else own
    if len(tensors) > 1:
        return xs if column_names(xs) is None else by_name(xs, tensors)
    return named_values(xs, next(iter(tensors.values())))


def times_as_arrays(xs: Any, dt_s: Any, t_s: Any) -> tuple[Any, Any]:
    """`dt_s` and `t_s` of a recording as arrays by place, datetimes and spans of any library in NumPy's.

    Raises:
        TypeError, ValueError: If they hold no times, or their index says that they belong to samples in another order.
    """
    for name, times in (("dt_s", dt_s), ("t_s", t_s)):
        _check_same_rows(name, times, xs)
    spans = dt_s if np.ndim(dt_s) == 0 else np.asarray(span_seconds(dt_s, "dt_s"))
    return spans, None if t_s is None else stamp_array(t_s, "t_s")


def _check_same_rows(name: str, times: Any, xs: Any) -> None:
    for x in xs.values() if isinstance(xs, Mapping) else (xs,):
        one, other = row_labels(times), row_labels(x)
        if one is not None and other is not None and is_permuted(one, other):
            raise ValueError(
                f"the index of `{name}` holds the labels of the samples in another order. Type: {name}.loc[x.index]"
            )


def check_recording(manifest: Manifest, xs: Any) -> None:
    """Refuse what is no recording as a whole: its first row alone would tell of a shape that nobody has passed.

    Raises:
        ValueError: If an input has not one axis, the samples', in front of the shape of a sample.
    """
    if isinstance(xs, dict):
        given = {f"xs['{t.name}']": (xs[t.name], t.shape) for t in manifest.streamed if t.name in xs}
    elif len(manifest.streamed) == 1:
        given = {"xs": (xs, manifest.streamed[0].shape)}
    else:
        return  # no input has a name; a step says so
    for name, (value, shape) in given.items():
        _check_recording(name, value, shape[1:] if manifest.batch == 1 else shape, manifest)


def _check_recording(name: str, value: Any, sample: tuple[int, ...], manifest: Manifest) -> None:
    wanted = f"model '{manifest.name}' takes a recording of shape ({', '.join(['T', *map(str, sample)])})"
    try:
        shape = shape_of(name, value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{error}. But {wanted}") from error
    if shape in ((), (0,)) or shape[1:] == sample:  # a single value, which is refused by its length, or an empty list
        return
    if (*shape[1:], 1) == sample:  # a number for each sample and row
        return
    advice = ""
    if manifest.unroll > 1:
        advice = f" `run` makes blocks of {manifest.unroll} of them itself"
    elif shape == sample:
        advice = " For a single sample type: stream.step(x)"
    elif shape[2:] == sample:
        advice = " For several recordings type: [model.stream().run(x) for x in xs]"
    raise ValueError(f"`{name}` has shape {tuple(shape)}, but {wanted}, T samples one after the other.{advice}")


def check_time_shapes(batch: int, dt_s: Any, t_s: Any) -> None:
    """Refuse times of a recording by their shape, before what may be large is converted.

    Raises:
        ValueError: If they are more than one for each sample, and are not one for each sample and row either.
    """
    for name, times, rows in (("dt_s", dt_s, (batch, 1)), ("t_s", t_s, None)):
        shape = shape_of(name, times)
        if len(shape) > 1 and shape[1:] != rows:
            also = "" if rows is None else f" or (T, {batch}, 1)"
            raise ValueError(f"`{name}` has shape {shape}, expected one for each of the T samples, shape (T,){also}")


def check_lengths(xs: Any, **times: Any) -> int:
    """The number of samples in a recording, an array or a dict of arrays by input.

    Raises:
        ValueError: If inputs, `dt_s` or `t_s` have different numbers of entries, there are no samples to count, or
            `dt_s` is what `t_s` should be.
        TypeError: If `dt_s` or `t_s` hold no times.
    """
    if isinstance(xs, dict):
        lengths = {name: len(value) for name, value in xs.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"inputs have different numbers of samples: {lengths}")
        count = next(iter(lengths.values()), 0)
    elif hasattr(xs, "__next__"):
        raise TypeError(
            f"`xs` is a {type(xs).__name__}, which gives its samples one by one. Type stream.run(list(xs)), or step "
            "each: for x in xs: stream.step(x)"
        )
    elif not shape_of("xs", xs):
        raise ValueError(f"`xs` is a single value, expected samples of shape (T, features). Got {xs!r}")
    else:
        count = len(xs)
    for name, value in times.items():
        if shape_of(name, value) and len(value) != count:
            raise ValueError(f"`{name}` has {len(value)} entries for {count} samples")
    if times["t_s"] is not None and np.ndim(times["t_s"]) == 0:
        raise ValueError(f"`t_s` is {times['t_s']!r}, expected one time for each of the {count} samples")
    _check_times(**times)
    return count


def _check_times(dt_s: Any, t_s: Any) -> None:
    """Refuse what is no time as a whole, and times where the time between samples is expected."""
    if t_s is not None:
        stamp_array(t_s, "t_s")
    if dt_s is None:
        return
    spans = np.asarray(span_seconds(dt_s, "dt_s"))
    if spans.ndim == 1 and are_stamps([spans]):
        raise ValueError(
            f"`dt_s` grows from {spans[0]:g} to {spans[-1]:g}, as the times of samples do, expected the seconds since "
            "the sample before. Pass times as `t_s`"
        )


def recording_in_unroll_blocks(manifest: Manifest, xs: Any, dt_s: Any, t_s: Any) -> tuple[Any, Any, Any]:
    """A recording as the calls of a model with `unroll`: samples, `dt_s` and `t_s`, the first axis counts the calls.

    Raises:
        ValueError: If the number of samples is no whole number of unroll blocks.
    """
    count, unroll, batch = check_lengths(xs, dt_s=dt_s, t_s=t_s), manifest.unroll, manifest.batch
    if count % unroll:
        raise ValueError(
            f"`xs` has {count} samples, but model '{manifest.name}' takes whole blocks of {unroll}. Keep the last "
            f"{count % unroll} for the next call: xs[:{count - count % unroll}]"
        )

    dt_s = None if dt_s is None else span_seconds(dt_s, "dt_s")
    t_s = None if t_s is None else stamp_array(t_s, "t_s")

    def grouped(values: Any) -> Array:
        array = plain_array("xs", values)
        rows = array.reshape(-1, unroll, *array.shape[1:])
        return rows if batch == 1 or rows.ndim < 3 else np.swapaxes(rows, 1, 2)

    calls = {name: grouped(value) for name, value in xs.items()} if isinstance(xs, dict) else grouped(xs)
    if np.ndim(dt_s) == 1:  # the same for every row
        dt_s = np.repeat(grouped(dt_s)[:, None], batch, axis=1)
    elif np.ndim(dt_s) > 1:
        dt_s = unroll_blocks_from_samples(np.asarray(dt_s), unroll)[..., 0]
    return calls, dt_s, None if t_s is None else grouped(t_s)
