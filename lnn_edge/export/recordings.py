"""The user's example as recordings by input name, checked, in the shape that a step takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array
from ..wording import listed
from .forward.forward import TIME_NAMES
from .trained.open import OpenedModule

__all__ = ["recordings"]

_TIME = (
    f"If one of them is the time between samples, call it one of {listed(f'`{name}`' for name in TIME_NAMES)} in the "
    "forward: export then passes it, and the example leaves it out"
)


def recordings(opened: OpenedModule, batch: int, example: Any) -> dict[str, list[Array]] | None:
    """The user's example as recordings by input name, (T, batch, ...) each.

    Args:
        opened: The module, which knows its inputs.
        batch: Rows per step.
        example: Array or tensor of shape (T, features), a batch of recordings as the module takes it, or a list of
            recordings of any lengths; a dict of these if there are several inputs; `None` for none.

    Raises:
        TypeError: If it holds no real numbers.
        ValueError: If its shape does not fit, it is empty, or it holds NaN or infinity.
    """
    if example is None:
        return None
    if len(opened.names) == 1:
        only = next(iter(example.values())) if isinstance(example, Mapping) and len(example) == 1 else example
        return {opened.names[0]: _rows("example", opened, batch, only)}
    if not isinstance(example, Mapping) or set(example) != set(opened.names):
        got = sorted(example) if isinstance(example, Mapping) else type(example).__name__
        raise ValueError(
            f"`example` is {got}, but the model takes the inputs {list(opened.names)}: pass a dict of arrays to "
            f"lnn_edge.export_model in Python. {_TIME}"
        )
    found = {name: _rows(f"example['{name}']", opened, batch, example[name]) for name in opened.names}
    lengths = {name: [len(row) for row in rows] for name, rows in found.items()}
    if len({tuple(value) for value in lengths.values()}) > 1:
        raise ValueError(
            f"`example` has recordings of different lengths per input: {lengths}, expected (batch, time, ...) each. "
            f"{_TIME}"
        )
    return found


def _rows(name: str, opened: OpenedModule, batch: int, example: Any) -> list[Array]:
    """Recordings of one input, (T, batch, ...) each."""
    if isinstance(example, (list, tuple)) and np.ndim(example[0] if example else 0) >= 2:
        rows = [_recording(f"{name}[{k}]", row, opened.features) for k, row in enumerate(example)]
    else:
        array = _recording(name, example, opened.features)
        if array.ndim == 2:
            rows = [array]
        else:
            rows = list(array if opened.batch_first else np.swapaxes(array, 0, 1))
    if batch == 1:
        return [row[:, None] for row in rows]
    # A model with a batch sees the same recordings in every row, each row starting at another recording.
    shortest = min(len(row) for row in rows)
    turns = [[rows[(k + b) % len(rows)][:shortest] for b in range(batch)] for k in range(len(rows))]
    return [np.stack(turn, axis=1) for turn in turns]


def _recording(name: str, value: Any, features: int | None) -> Array:
    """One array of samples, checked, as float32; `features` is known for a single layer."""
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if isinstance(value, Mapping):
        raise ValueError(f"`{name}` is a dict of {sorted(value)}, but the model takes one input: pass its array alone")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`{name}` has dtype {array.dtype}, expected real numbers")
    if array.ndim < 2 or (features is not None and (array.ndim > 3 or array.shape[-1] != features)):
        takes = "samples" if features is None else f"{features} features"
        wanted = "(batch, time, ...)" if features is None else f"(time, {features}) or a batch of such recordings"
        raise ValueError(f"`{name}` has shape {array.shape}, but the model takes {takes}: expected {wanted}")
    if array.size == 0:
        raise ValueError(f"`{name}` has shape {array.shape}: it holds no sample")
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` holds NaN or infinity, first at {np.argwhere(~np.isfinite(array))[0].tolist()}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
