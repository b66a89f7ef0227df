"""Many streams in one call, a row each, with the state as a value: their samples, their state, and their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...arrays import Array, plain_array
from ...bundle.manifest import Manifest
from ...bundle.spec import Tensor
from ...errors import NonFiniteError
from ...times import span_seconds
from ...wording import listed
from ..clock import missing_time, no_time
from ..constants import CONSTANT
from ..input_port import by_name
from ..sequence import named_recording
from ..state import State, initial_state
from .mode import as_result

if TYPE_CHECKING:
    from ...backends import RowsStepper

__all__ = ["Rows", "Together", "check_rows", "given_rows", "given_spans", "initial_rows", "step_each"]

Rows = tuple[dict[str, Array], dict[str, Array], Array]  # outputs and next states by name, and which rows were done


def initial_rows(manifest: Manifest, rows: int, constants: Mapping[str, Array]) -> State:
    """The state in which every row starts."""
    if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or rows < 0:
        raise ValueError(f"`rows` is {rows!r}, expected how many streams there are, 0 or more")
    tensors = {name: _repeated(manifest, value, rows) for name, value in initial_state(manifest).tensors.items()}
    return State(tensors, None, {name: np.repeat(value[None], rows, axis=0) for name, value in constants.items()})


def _repeated(manifest: Manifest, value: Array, rows: int) -> Array:
    return np.repeat(value if manifest.batch == 1 else value[None], rows, axis=0)


def _alone(manifest: Manifest, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor in one row: with batch 1 the batch's axis is that of the rows."""
    return shape[1:] if manifest.batch == 1 else shape


def given_rows(manifest: Manifest, x: Any) -> tuple[int, dict[str, Array]]:
    """How many rows there are, and the samples of each input, (rows, ...), of any dtype that a sample may have.

    Raises:
        TypeError, ValueError: If the samples of an input are none of its shape, or inputs have other numbers of rows.
    """
    tensors = {t.name: t for t in manifest.streamed}
    plain = type(x) is np.ndarray and x.dtype.kind == "f"  # it has no names to look for
    given = x if plain else named_recording(manifest, x)
    if len(tensors) > 1 or isinstance(given, Mapping):
        given = by_name(given, tensors, [t.name for t in manifest.constants])
    else:
        given = dict.fromkeys(tensors, given)
    shapes = manifest.sample_inputs()
    arrays = {name: _samples(own, _alone(manifest, shapes[name]), given[name]) for name, own in tensors.items()}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"inputs have different numbers of rows: {counts}")
    return next(iter(counts.values())), arrays


def _samples(tensor: Tensor, shape: tuple[int, ...], value: Any) -> Array:
    array = value if type(value) is np.ndarray else plain_array(tensor.name, value)
    if array.ndim and (*array.shape[1:], 1) == shape:  # of the only feature, whose axis may be left out
        array = array[..., np.newaxis]
    if not array.ndim or array.shape[1:] != shape:
        wanted = ", ".join(["rows", *map(str, shape)])
        raise ValueError(f"`{tensor.name}` has shape {array.shape}, expected ({wanted}): a sample for each row")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`{tensor.name}` has dtype {array.dtype}, expected real numbers ({tensor.dtype} best)")
    return array


def given_spans(manifest: Manifest, dt_s: Any, rows: int) -> Array | None:
    """The seconds before the sample of each row, (rows,), or `None` with fixed time.

    Raises:
        TypeError: If it is no span of time.
        ValueError: If it is missing, or nothing that this model takes, or has another shape.
    """
    if manifest.time.mode == "fixed":
        if dt_s is not None:
            raise ValueError(no_time(manifest.name))
        return None
    if dt_s is None:
        raise ValueError(missing_time(manifest.name, manifest.time.period_s or 0.0))
    spans = np.asarray(span_seconds(dt_s, "dt_s"), np.float64)
    if spans.shape not in ((), (rows,)):
        raise ValueError(f"`dt_s` has shape {spans.shape}, expected one number or shape ({rows},), one for each row")
    return np.broadcast_to(spans, (rows,))


def check_rows(manifest: Manifest, state: State, rows: int) -> None:
    """Refuse a state of other rows.

    Raises:
        TypeError: If it is no state, or not of float32.
        ValueError: If a tensor is missing, unknown or of another shape.
    """
    if not isinstance(state, State):
        raise TypeError(f"expected a State of `initial_state(rows=...)` or `step_many`, got {type(state).__name__}")
    expected = {s.input: (rows, *_alone(manifest, s.shape)) for s in manifest.states}
    if state.tensors.keys() != expected.keys():
        raise ValueError(f"the state holds {listed(state.tensors)}, but model '{manifest.name}' has {listed(expected)}")
    advice = f"Begin with model.initial_state(rows={rows})"
    for name, array in state.tensors.items():
        if array.dtype != np.float32:
            raise TypeError(f"state '{name}' has dtype {array.dtype}, expected float32 as `step_many` gives it")
        if array.shape != expected[name]:
            raise ValueError(
                f"state '{name}' has shape {array.shape}, expected {expected[name]} for {rows} rows. {advice}"
            )
    constants = {CONSTANT + t.name: t for t in manifest.constants}
    if state.kept.keys() - constants.keys():
        raise ValueError(
            f"the state comes from a stream of windows or readouts, and holds what there is no place for here. {advice}"
        )
    for kept, tensor in constants.items():
        value = state.kept.get(kept)
        if value is None or value.shape != (rows, *_alone(manifest, tensor.shape)):
            raise ValueError(
                f"the state has no constant '{tensor.name}' for {rows} rows. {advice[:-1]}, constants=...)"
            )


def step_each(
    manifest: Manifest, step: Callable[..., tuple[Any, State]], x: Mapping[str, Array], state: State, dt_s: Array | None
) -> Rows:
    """Step one row after the other: for a backend that computes one stream at a time.

    Args:
        manifest: Of the model.
        step: `Model.step`.
        x: Samples by input, (rows, ...).
        state: Of all rows.
        dt_s: (rows,), or `None` with fixed time.
    """
    count, results = len(next(iter(x.values()))), manifest.results()
    shapes = {t.name: _alone(manifest, results[t.name]) for t in manifest.outputs}
    y = {name: np.full((count, *shape), np.nan, np.float32) for name, shape in shapes.items()}
    after = {name: array.copy() for name, array in state.tensors.items()}
    ok = np.zeros(count, np.bool_)
    for k in range(count):
        given = as_result({name: array[k] for name, array in x.items()})
        times = {} if dt_s is None else {"dt_s": float(dt_s[k])}
        try:
            result, then = step(given, _row(manifest, state, k), **times)
        except (NonFiniteError, ValueError):  # of this row's numbers: what is said of all rows was looked at before
            continue
        ok[k] = True
        for name, value in _pairs(result, y):
            y[name][k] = value
        for name, value in then.tensors.items():
            after[name][k] = value[0] if manifest.batch == 1 else value
    return y, after, ok


class Together:
    """Steps all rows at once, and sees which of them `Model.step` would refuse."""

    def __init__(self, manifest: Manifest, stepper: RowsStepper) -> None:
        self._stepper = stepper
        self._range = manifest.time.dt_range_s or (0.0, 0.0)
        self._limits = {t.name: _limits(t) for t in manifest.streamed if any(f.limits for f in t.features)}

    def step(self, x: Mapping[str, Array], state: State, dt_s: Array | None) -> Rows:
        """Step them; see `step_each`."""
        y, after, ok = self._stepper.step(x, state.tensors, dt_s)
        for name, (low, high) in self._limits.items():
            with np.errstate(over="ignore"):
                values = x[name].astype(np.float32)
            ok &= _of_rows((values >= low) & (values <= high))
        if dt_s is not None:
            ok &= (dt_s >= self._range[0]) & (dt_s <= self._range[1])
        for value in state.tensors.values():
            ok &= _of_rows(np.isfinite(value))
        if not ok.all():
            for value in y.values():
                value[~ok] = np.nan
            for name, value in after.items():
                value[~ok] = state.tensors[name][~ok]
        return y, after, ok


def _limits(tensor: Tensor) -> tuple[Array, Array]:
    """The lowest and the highest legal value of each column."""
    limits = [feature.limits or (-np.inf, np.inf) for feature in tensor.features]
    with np.errstate(over="ignore"):  # a limit beyond what the dtype holds is none
        low, high = (np.array(side).astype(np.float32) for side in zip(*limits, strict=True))
    return low, high


def _of_rows(flags: Array) -> Array:
    """Which rows have all their flags."""
    return np.asarray(flags.all(axis=tuple(range(1, flags.ndim))))


def _pairs(result: Any, y: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    return iter((result if isinstance(result, dict) else dict.fromkeys(y, result)).items())


def _row(manifest: Manifest, state: State, k: int) -> State:
    """The state of one row, as a step takes it."""
    own = slice(k, k + 1) if manifest.batch == 1 else k
    tensors = {name: array[own].copy() for name, array in state.tensors.items()}
    return State(tensors, None, {name: array[k].copy() for name, array in state.kept.items()}, state.build)
