"""Columns as text, `name:unit:low:high`: one grammar, for the shell and for Python; and columns of a table, by input.

Unit and limits may be left out, `gap::0.001:0.5`, `ax:m/s`. A colon that belongs to the name has a backslash before
it. Names that come with data, those of a frame's columns say, are no such text: they stay as they are.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from ..arrays import Array
from .spec import Feature

if TYPE_CHECKING:
    from .manifest import Manifest

__all__ = ["COLUMN_FORM", "InputColumns", "escaped", "escaped_columns", "parse_column", "parse_columns"]

COLUMN_FORM = (
    r"name, name:unit or name:unit:low:high, as gap:s:0.001:0.5; a colon that belongs to the name is written \:"
)
_COLON = re.compile(r"(?<!\\):")


def parse_column(given: str | Feature) -> Feature:
    """A column of its text, or of a `Feature` whose name is such a text.

    Raises:
        ValueError: If the text has another number of parts, limits that are none, or says what the `Feature` says too.
    """
    if isinstance(given, Feature):
        return _merged(given, _parsed(given.name))
    return _parsed(given)


def parse_columns(what: str, given: Any) -> Any:
    """The columns of an input or output, or of each by its name; what is no list of texts comes back as it is.

    Args:
        what: "inputs" or "outputs", for messages.
        given: As the caller gave them.

    Raises:
        ValueError: As `parse_column`, or if colons made several names one.
    """
    if isinstance(given, Mapping):
        return {name: parse_columns(what, own) for name, own in given.items()}
    if isinstance(given, (str, bytes)) or not isinstance(given, (Sequence, np.ndarray)):
        return given
    columns = [parse_column(own) if isinstance(own, (str, Feature)) else own for own in given]
    names = [column.name for column in columns if isinstance(column, Feature)]
    texts = [own.name if isinstance(own, Feature) else str(own) for own in given if isinstance(own, (str, Feature))]
    if len(set(names)) < len(set(texts)) and any(_COLON.search(text) for text in texts):
        raise ValueError(
            f"`{what}` is {texts}, whose names before the colons are {names}, not all different. Expected {COLUMN_FORM}"
        )
    return columns


def escaped(column: Feature) -> Feature:
    """A column whose name is no text to be parsed, as `parse_column` takes it."""
    return replace(column, name=column.name.replace(":", r"\:"))


def escaped_columns(columns: Any) -> Any:
    """Columns that were parsed already, of one input or of each by its name, as `parse_columns` takes them."""
    if isinstance(columns, Mapping):
        return {name: escaped_columns(own) for name, own in columns.items()}
    return None if columns is None else [escaped(column) for column in columns]


def _parsed(text: str) -> Feature:
    name, *rest = _COLON.split(text)
    name, rest = name.replace(r"\:", ":"), [part.replace(r"\:", ":").strip() for part in rest]
    unit, *limits = rest or [""]
    try:
        if not any(limits) and len(limits) in (0, 2):
            return Feature(name.strip() if rest else name, unit or None)
        low, high = map(float, limits)
    except ValueError as error:
        raise ValueError(f"'{text.strip()}' is no column: expected {COLUMN_FORM}") from error
    return Feature(name.strip(), unit or None, limits=(low, high))


def _merged(given: Feature, parsed: Feature) -> Feature:
    for what in ("unit", "limits"):
        if getattr(given, what) is not None and getattr(parsed, what) is not None:
            raise ValueError(
                f"Feature('{given.name}', ...) has {what} behind a colon and beside it: leave one out, or write \\: "
                "for a colon that belongs to the name"
            )
    return replace(given, name=parsed.name, unit=given.unit or parsed.unit, limits=given.limits or parsed.limits)


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

    def values(self, sample: Any) -> Array:
        """A sample as `sample` gives it, back in one row, float64 (columns,)."""
        parts = sample if isinstance(sample, Mapping) else dict.fromkeys(self._parts, sample)
        return np.concatenate([np.asarray(parts[name], np.float64).reshape(-1) for name in self._parts])

    def sample(self, values: Array) -> Any:
        """A row as `Stream.step` takes it: as it is, or of several inputs a dict of parts by input name.

        Args:
            values: Numbers in the order of `names`, (columns,); or of several rows, (rows, columns).
        """
        if len(self._parts) == 1:
            return values
        return {name: values[..., part] for name, part in self._parts.items()}
