"""Columns of a table by the inputs of a model: one row has a sample of all of them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from ...arrays import Array
from ...bundle.manifest import Manifest

__all__ = ["InputColumns"]


class InputColumns:
    """Where the columns of a model's inputs lie in a row.

    Args:
        manifest: Of a model whose inputs are rows of named features, those apart that are given once per sequence.

    Attributes:
        names: The columns, in the order of inputs and features. Each is named like its feature; where two inputs have
            features of one name, like `input.feature`.

    Raises:
        ValueError: If an input is no row of named features, or samples come in batches.
    """

    def __init__(self, manifest: Manifest) -> None:
        streamed = manifest.streamed
        if manifest.batch != 1 or not all(t.features and len(t.features) == math.prod(t.shape) for t in streamed):
            raise ValueError(
                f"a table has rows of named features, and '{manifest.name}' takes "
                f"{', '.join(f'{t.name} {list(t.shape)}' for t in streamed)}. Use lnn_edge.load in Python"
            )
        counts = Counter(feature.name for tensor in streamed for feature in tensor.features)
        self.names = tuple(
            feature.name if counts[feature.name] == 1 else f"{tensor.name}.{feature.name}"
            for tensor in streamed
            for feature in tensor.features
        )
        self._parts: dict[str, slice] = {}
        first = 0
        for tensor in streamed:
            self._parts[tensor.name] = slice(first, first + len(tensor.features))
            first += len(tensor.features)

    def sample(self, values: Array) -> Any:
        """A row as `Stream.step` takes it: as it is, or of several inputs a dict of parts by input name.

        Args:
            values: Numbers in the order of `names`, (columns,); or of several rows, (rows, columns).
        """
        if len(self._parts) == 1:
            return values
        return {name: values[..., part] for name, part in self._parts.items()}
