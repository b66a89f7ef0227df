"""Constant inputs: what is given once per sequence, a goal or the number of a device, checked and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from ..bundle.manifest import Manifest
from ..wording import choices, listed
from .input_port import describe_shape, input_port

__all__ = ["CONSTANT", "ConstantInputs", "Constants", "kept_constants"]

CONSTANT = "constant."  # before their names in what a `State` keeps

Constants = Mapping[str, tuple[Array, Array]]  # by name: as the caller passed it, and as the graph takes it


class ConstantInputs:
    """Checks the constant inputs of one stream. What it gives is a value: the stream keeps it and puts it in place."""

    def __init__(self, manifest: Manifest) -> None:
        self._buffers = {t.name: np.zeros(t.shape, t.dtype) for t in manifest.constants}
        self._ports = {t.name: input_port(t, self._buffers[t.name], manifest.name) for t in manifest.constants}
        self._model = manifest.name

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._ports)

    def checked(
        self, given: Mapping[str, Any] | None, before: Constants | None = None, rows: Sequence[int] | None = None
    ) -> Constants | None:
        """The constants of the sequence that begins, all of them; `None` if the model has none.

        Args:
            given: Values by name, shaped as one sample; `None` keeps those of the last sequence.
            before: Those of the last sequence, if there was one.
            rows: Of a batch, the rows that they are for, (rows, ...) each; the others keep theirs.

        Raises:
            TypeError, ValueError, NonFiniteError: If one is missing, unknown, or does not fit.
        """
        if given is None:
            if before is None:
                self._refuse_missing()
            return before
        self._refuse_names(given)
        return {name: self._one(name, given[name], before, rows) for name in self._ports} or None

    def restored(self, kept: Mapping[str, Array], before: Constants | None) -> Constants | None:
        """Those that a `State` keeps; `before` where it keeps none.

        Raises:
            TypeError, ValueError, NonFiniteError: As `checked`.
        """
        given = {name.removeprefix(CONSTANT): value for name, value in kept.items() if name.startswith(CONSTANT)}
        return self.checked(given) if given else before

    def _one(self, name: str, value: Any, before: Constants | None, rows: Sequence[int] | None) -> tuple[Array, Array]:
        port = self._ports[name]
        if rows is not None and before is not None:
            value = _merged(name, before[name][0], port.by_place(value), rows)
        port.put(value)
        return port.read(), self._buffers[name].copy()

    def _refuse_missing(self) -> None:
        if self._ports:
            shapes = listed(f"{name}, {describe_shape(port.shape)}" for name, port in self._ports.items())
            example = ", ".join(f"'{name}': ..." for name in self._ports)
            raise ValueError(
                f"model '{self._model}' has constant inputs, which each sequence needs: {shapes}. Type: "
                f"model.stream(constants={{{example}}})"
            )

    def _refuse_names(self, given: Any) -> None:
        if not isinstance(given, Mapping):
            raise TypeError(f"`constants` is {type(given).__name__}, expected a dict of values by name")
        for name in given:
            if name not in self._ports:
                hint = choices(str(name), self._ports) if self._ports else "It takes all its inputs with each sample"
                raise ValueError(f"model '{self._model}' has no constant input '{name}'. {hint}")
        missing = [name for name in self._ports if name not in given]
        if missing:
            raise ValueError(f"constant {listed(missing)} is missing; pass all of them when a sequence begins")


def kept_constants(constants: Constants | None) -> dict[str, Array]:
    """A copy of what was passed, by the names under which a `State` keeps it."""
    return {CONSTANT + name: given.copy() for name, (given, _) in (constants or {}).items()}


def _merged(name: str, whole: Array, value: Any, rows: Sequence[int]) -> Array:
    """The constants of all rows, some of them new."""
    array = np.asarray(value)
    if (*array.shape, 1) == (len(rows), *whole.shape[1:]):  # a number for each row
        array = array[..., np.newaxis]
    if array.shape != (len(rows), *whole.shape[1:]):
        raise ValueError(
            f"constant `{name}` has shape {array.shape} for {len(rows)} rows, expected {(len(rows), *whole.shape[1:])}"
        )
    merged = whole.astype(np.result_type(whole, array))
    merged[list(rows)] = array
    return merged
