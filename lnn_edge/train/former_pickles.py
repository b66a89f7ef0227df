"""Former layout of pickled estimators, brought to today's.

Until metadata became one struct and arrays by name, an estimator held both in one object of the class
`lnn_edge.train.learnt.Learnt`. A pickle of that time makes a `FormerMetadata` for it.
"""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from .data.metadata import Metadata, numbered

__all__ = ["FormerMetadata", "todays_state"]


class FormerMetadata:
    """The fields of `Metadata`, but with arrays where that has their numbers; unpickling sets them."""

    classes: Array | None
    x_range: Array
    y_range: Array
    example: tuple[Array, ...]
    tail: tuple[Array, ...]


def todays_state(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an unpickled estimator as it has them today."""
    rest = dict(state)
    former = rest.pop("_learnt", None)
    if former is None:
        return rest
    return {**rest, "_metadata": _metadata(former), "_arrays": _arrays(former)}


def _metadata(former: FormerMetadata) -> Metadata:
    classes = former.classes
    counted = {
        "classes": None if classes is None else classes.tolist(),
        "classes_dtype": None if classes is None else classes.dtype.str,
        "examples": len(former.example),
        "tails": len(former.tail),
    }
    known = {name: value for name, value in vars(former).items() if name in Metadata.__struct_fields__}
    return Metadata(**{**known, **counted})


def _arrays(former: FormerMetadata) -> dict[str, Array]:
    ranges = {"x_range": former.x_range, "y_range": former.y_range}
    return ranges | numbered("example", former.example) | numbered("tail", former.tail)
