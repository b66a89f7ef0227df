"""Constant inputs: what is given once per sequence, a goal or the number of a device, checked and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from ..bundle.manifest import Manifest
from ..wording import choices, listed
from .input_port import describe_shape, input_port

__all__ = ["CONSTANT", "ConstantInputs"]

CONSTANT = "constant."  # before their names in what a `State` keeps


class ConstantInputs:
    """The constant inputs of one stream, in the backend's buffers, which a step only reads."""

    def __init__(self, manifest: Manifest, buffers: Mapping[str, Array]) -> None:
        self._ports = {t.name: input_port(t, buffers[t.name], manifest.name) for t in manifest.constants}
        self._model = manifest.name
        self._given = not self._ports

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._ports)

    def put(self, given: Mapping[str, Any] | None, rows: Sequence[int] | None = None) -> None:
        """Take the constants of the sequence that begins, all of them or none.

        Args:
            given: Values by name, shaped as one sample; `None` keeps those of the last sequence.
            rows: Of a batch, the rows that they are for, (rows, ...) each; the others keep theirs.

        Raises:
            TypeError, ValueError, NonFiniteError: If one is missing, unknown, or does not fit. All keep their values.
        """
        if given is None:
            self._refuse_missing()
            return
        self._refuse_names(given)
        before = {name: port.read() for name, port in self._ports.items()}
        try:
            for name, port in self._ports.items():
                port.put(given[name] if rows is None else _merged(name, before[name], given[name], rows))
        except BaseException:
            for name, value in before.items():
                self._ports[name].write(value)
            raise
        self._given = True

    def read(self) -> dict[str, Array]:
        """A copy, by the names under which a `State` keeps them."""
        return {CONSTANT + name: port.read() for name, port in self._ports.items()} if self._given else {}

    def _refuse_missing(self) -> None:
        if not self._given:
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
