"""The user's example with its named columns in the order of the inputs' names, before it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..bundle.columns import escaped
from ..bundle.spec import Feature, Tensor
from ..named import column_names, matched

__all__ = ["columns_of", "example_by_names"]


def example_by_names(example: Any, inputs: Any, constants: Sequence[str] | None = None) -> tuple[Any, Any]:
    """The example in the order of `inputs`; and `inputs`, where they were not given the names that the example has.

    Args:
        example: As for `export_model`.
        inputs: Likewise.
        constants: Likewise.

    Raises:
        TypeError, ValueError, NonFiniteError: If a column is missing or none of the inputs, or values are masked.
    """
    if not isinstance(example, Mapping):
        return _in_order("example", example, inputs)
    values, names = {}, {}
    inputs = _by_input(example, inputs, constants or ())
    for name, value in example.items():
        own = inputs.get(name) if isinstance(inputs, Mapping) else None if name in (constants or ()) else inputs
        values[name], names[name] = _in_order(f"example['{name}']", value, own)
    if inputs is not None and not isinstance(inputs, Mapping):
        return values, inputs
    return values, {**(inputs or {}), **{name: own for name, own in names.items() if own is not None}} or None


def _by_input(example: Mapping[str, Any], inputs: Any, constants: Sequence[str]) -> Any:
    """The names of all inputs in a row as those of each, where the example says which belong to which."""
    streamed = {name: _names_of(value) for name, value in example.items() if name not in constants}
    row = isinstance(inputs, (list, tuple)) and not any(isinstance(own, Mapping) for own in inputs)
    if not row or len(streamed) < 2 or None in streamed.values():
        return inputs
    return {name: [n for n in inputs if _text(n) in (own or ())] for name, own in streamed.items()}


def _text(name: Any) -> str:
    return name.name if isinstance(name, Feature) else str(name)


def _names_of(value: Any) -> list[Any] | None:
    """The names of the columns of an example, or of the first of its recordings."""
    first = value[0] if isinstance(value, (list, tuple)) and not hasattr(value, "_fields") and len(value) else value
    return None if isinstance(first, Mapping) or first is None else column_names(first)


def _check_colons(what: str, own: Sequence[Any], wanted: Sequence[str]) -> None:
    """Say how a colon is written that belongs to a column's name."""
    for name in wanted:
        whole = next((str(column) for column in own if str(column).startswith(f"{name}:")), None)
        if name not in own and whole is not None:
            raise ValueError(
                f"`{what}` has no column '{name}', but '{whole}'. In `inputs` a colon ends a name; one that belongs to "
                f"it has a backslash before it: r'{escaped(Feature(whole)).name}'"
            )


def _in_order(what: str, value: Any, names: Any) -> tuple[Any, Any]:
    first = value[0] if isinstance(value, (list, tuple)) and not hasattr(value, "_fields") and len(value) else value
    own = _names_of(value)
    named = isinstance(names, Iterable)  # what are no names is refused by whoever reads them as such
    wanted = list(map(_text, names)) if named else own
    if own is None or isinstance(names, str):
        return matched(value, [], what), names
    _check_colons(what, own, wanted or ())
    if isinstance(value, (list, tuple)) and first is not value:  # recordings of their own lengths
        return [matched(part, wanted or (), f"{what}[{k}]") for k, part in enumerate(value)], names or own
    return matched(value, wanted or (), what), names or own


def columns_of(tensors: Sequence[Tensor]) -> dict[str, list[str]] | list[str] | None:
    """What `inputs` or `outputs` of an export would say of the tensors of a bundle."""
    named = {t.name: [feature.name for feature in t.features] for t in tensors if t.features}
    return named if len(tensors) > 1 else next(iter(named.values()), None)
