"""Many streams in one call, a row each, with the state as a value: their samples, their state, and their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ...arrays import Array, plain_array
from ...bundle.manifest import Manifest
from ...bundle.spec import Tensor
from ...errors import NonFiniteError
from ...times import span_seconds
from ...wording import listed
from ..clock import missing_time, no_time
from ..constants import CONSTANT
from ..input_port import by_name, named_values
from ..state import State, initial_state
from .mode import as_result
from .row_values import usable_rows, usable_values, without_masks

__all__ = ["Rows", "RowsPort", "initial_rows", "step_each"]

_FLOAT32 = np.dtype(np.float32)  # NumPy keeps one object per native dtype

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


class RowsPort:
    """Looks at what a call gives for all rows of a model, and finds what no row of it can be stepped with."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        shapes = manifest.sample_inputs()
        self._inputs = {t.name: (t, _alone(manifest, shapes[t.name])) for t in manifest.streamed}
        self._only = next(iter(self._inputs.items())) if len(self._inputs) == 1 else None
        self._states = {s.input: _alone(manifest, s.shape) for s in manifest.states}
        self._constants = {CONSTANT + t.name: _alone(manifest, t.shape) for t in manifest.constants}

    def samples(self, x: Any) -> tuple[int, dict[str, Array]]:
        """How many rows there are, and the samples of each input, (rows, ...), of any dtype that a sample may have.

        Raises:
            TypeError, ValueError: If the samples of an input are none of its shape, or inputs have other numbers of
                rows.
        """
        if self._only is not None and type(x) is np.ndarray and x.dtype.kind == "f":  # it has no names to look for
            name, (_, shape) = self._only
            if x.ndim and x.shape[1:] == shape:
                return len(x), {name: x}
            given: Mapping[str, Any] = {name: x}
        else:
            given = self._by_input(x)
        arrays = {name: _samples(*own, given[name]) for name, own in self._inputs.items()}
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"inputs have different numbers of rows: {counts}")
        return next(iter(counts.values())), arrays

    def _by_input(self, x: Any) -> Mapping[str, Any]:
        inputs = {tensor.name for tensor in self._manifest.inputs}
        if self._only is not None and not (isinstance(x, Mapping) and inputs.intersection(x)):
            return {self._only[0]: x}
        return by_name(x, self._inputs, [t.name for t in self._manifest.constants])

    def spans(self, dt_s: Any, rows: int) -> Array | None:
        """The seconds before the sample of each row, (rows,), or `None` with fixed time.

        Raises:
            TypeError: If it is no span of time.
            ValueError: If it is missing, or nothing that this model takes, or has another shape.
        """
        time = self._manifest.time
        if time.mode == "fixed":
            if dt_s is not None:
                raise ValueError(no_time(self._manifest.name))
            return None
        if dt_s is None:
            raise ValueError(missing_time(self._manifest.name, time.period_s or 0.0))
        spans = _spans(dt_s)
        if spans.shape not in ((), (rows,)):
            raise ValueError(
                f"`dt_s` has shape {spans.shape}, expected one number or shape ({rows},), one for each row"
            )
        return np.broadcast_to(spans, (rows,))

    def check_state(self, state: State, rows: int) -> None:
        """Refuse a state of other rows.

        Raises:
            TypeError: If it is no state, or not of float32, or a constant of no real numbers.
            ValueError: If a tensor is missing, unknown or of another shape.
        """
        if not isinstance(state, State):
            raise TypeError(f"expected a State of `initial_state(rows=...)` or `step_many`, got {type(state).__name__}")
        if state.tensors.keys() != self._states.keys():
            model = f"model '{self._manifest.name}' has {listed(self._states)}"
            raise ValueError(f"the state holds {listed(state.tensors)}, but {model}")
        advice = f"Begin with model.initial_state(rows={rows})"
        for name, array in state.tensors.items():
            if array.dtype is not _FLOAT32 and array.dtype != np.float32:
                raise TypeError(f"state '{name}' has dtype {array.dtype}, expected float32 as `step_many` gives it")
            expected = (rows, *self._states[name])
            if array.shape != expected:
                raise ValueError(
                    f"state '{name}' has shape {array.shape}, expected {expected} for {rows} rows. {advice}"
                )
        if state.kept or self._constants:
            self._check_constants(state, rows, advice)

    def _check_constants(self, state: State, rows: int, advice: str) -> None:
        if state.kept.keys() - self._constants.keys():
            raise ValueError(
                f"the state comes from a stream of windows or readouts, and holds what there is no place for here. "
                f"{advice}"
            )
        for kept, shape in self._constants.items():
            value = state.kept.get(kept)
            name = kept.removeprefix(CONSTANT)
            if value is None or value.shape != (rows, *shape):
                raise ValueError(f"the state has no constant '{name}' for {rows} rows. {advice[:-1]}, constants=...)")
            if value.dtype.kind not in "fiu":
                raise TypeError(f"the state's constant '{name}' has dtype {value.dtype}, expected real numbers")


def _samples(tensor: Tensor, shape: tuple[int, ...], value: Any) -> Array:
    """The samples of an input, with NaN in rows that hold none, where other rows do."""
    value = without_masks(value[tensor.name] if isinstance(value, Mapping) and list(value) == [tensor.name] else value)
    names = [f.name for f in tensor.features]
    return _read(lambda: _all_samples(tensor, shape, value), lambda: usable_rows(value, shape, names, tensor.name))


def _all_samples(tensor: Tensor, shape: tuple[int, ...], value: Any) -> Array:
    """Raises TypeError or ValueError if not all rows are samples."""
    array = plain_array(tensor.name, named_values(value, tensor))
    if array.ndim and (*array.shape[1:], 1) == shape:  # of the only feature, whose axis may be left out
        array = array[..., np.newaxis]
    if not array.ndim or array.shape[1:] != shape:
        wanted = ", ".join(["rows", *map(str, shape)])
        raise ValueError(f"`{tensor.name}` has shape {array.shape}, expected ({wanted}): a sample for each row")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`{tensor.name}` has dtype {array.dtype}, expected real numbers ({tensor.dtype} best)")
    return array


def _spans(dt_s: Any) -> Array:
    """Seconds, NaN where there is no time, where other rows have one."""
    value = without_masks(dt_s)
    return _read(
        lambda: np.asarray(span_seconds(value, "dt_s"), np.float64),
        lambda: usable_values(value, (), lambda item: span_seconds(item, "dt_s")),
    )


def _read(together: Callable[[], Array], each: Callable[[], Array | None]) -> Array:
    """Values as they are read together, or where that fails each by itself, with NaN for those that cannot be read.

    Raises:
        TypeError, ValueError: If it is no matter of some of them.
        Exception: Whatever else was raised meanwhile, where none of them can be read, or all can.
    """
    try:
        return together()
    except Exception as error:
        found = each()
        if found is None or not (isinstance(error, (TypeError, ValueError)) or np.isnan(found).any()):
            raise
        return found


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


def _pairs(result: Any, y: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    return iter((result if isinstance(result, dict) else dict.fromkeys(y, result)).items())


def _row(manifest: Manifest, state: State, k: int) -> State:
    """The state of one row, as a step takes it."""
    own = slice(k, k + 1) if manifest.batch == 1 else k
    tensors = {name: array[own].copy() for name, array in state.tensors.items()}
    return State(tensors, None, {name: array[k].copy() for name, array in state.kept.items()}, state.build)
