"""The health of a state: within the bounds that it had in training and proof, with a margin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...arrays import Array
from ...bundle.spec import StatePair
from ..compiled.extension import within

__all__ = ["StateHealth"]


_STILL = 1e-3  # of its size: as wide as a state is taken for that stood still in its proof


class _Bounds(NamedTuple):
    """Of one state: its names, and its bounds, shaped as it is."""

    input: str
    output: str
    low: Array
    high: Array


class StateHealth:
    """Looks at states, which are finite: a step that is not gives no state.

    Args:
        states: Those of the model.
        margin: How far a unit may leave the bounds it had, in widths of the widest unit of its state; a unit that was
            quiet in the proof may do what others did. `None`: anywhere.
    """

    def __init__(self, states: Sequence[StatePair], margin: float | None) -> None:
        found = (None if margin is None else _bounds(pair, margin) for pair in states)
        self._bounds = tuple(own for own in found if own is not None)

    def problem(self, arrays: Mapping[str, Array]) -> str | None:
        """What is wrong with a state, tensors by the name of the state's input; `None` for nothing."""
        for own in self._bounds:
            found = _problem(own, arrays[own.input])
            if found:
                return found
        return None

    def in_place(self, places: Sequence[Mapping[str, Array]]) -> Callable[[int], str | None]:
        """As `problem`, of states where a backend keeps them, by the number of the place; for every step of a loop.

        Args:
            places: Per place the state's tensors by the name of the state's output.
        """
        is_within = within() or _is_within
        rows = [
            [(_flat(p[own.output]), own.low.ravel(), own.high.ravel(), own) for own in self._bounds] for p in places
        ]

        def problem(place: int) -> str | None:
            for value, low, high, own in rows[place]:
                if not is_within(value, low, high):
                    return _problem(own, value)
            return None

        return problem

    def rows(self, places: Sequence[Mapping[str, Array]]) -> tuple[tuple[Array, Array, Array, Array], ...]:
        """For who looks in C: each state where a backend keeps it, in the first place and the second, low and high."""
        first, second = places
        return tuple((first[own.output], second[own.output], own.low, own.high) for own in self._bounds)


def _is_within(value: Array, low: Array, high: Array) -> bool:
    return bool(((value >= low) & (value <= high)).all())


def _flat(value: Array) -> Array:
    """The same memory with one axis."""
    flat: Array = value.view()
    flat.shape = (value.size,)  # which refuses to copy, as a copy would never change
    return flat


def _bounds(pair: StatePair, margin: float) -> _Bounds | None:
    if pair.bounds is None:
        return None
    low, high = (np.asarray(side, np.float64) for side in pair.bounds)
    width, size = float((high - low).max(initial=0.0)), float(np.abs([low, high]).max(initial=0.0))
    slack = margin * max(width, _STILL * size, _STILL)
    start = np.broadcast_to(np.asarray(pair.initial, np.float64), low.shape)  # a state that has moved nowhere yet
    sides = np.minimum(low, start) - slack, np.maximum(high, start) + slack
    with np.errstate(over="ignore"):  # beyond what float32 can hold there is no bound
        low, high = (np.broadcast_to(s.astype(np.float32).reshape(pair.shape[1:]), pair.shape).copy() for s in sides)
    return _Bounds(pair.input, pair.output, low, high)


def _problem(own: _Bounds, value: Array) -> str | None:
    value = value.reshape(own.low.shape)
    outside = (value < own.low) | (value > own.high)
    if not outside.any():
        return None
    index = tuple(int(k) for k in np.argwhere(outside)[0])
    return (
        f"state '{own.input}' is {value[index]:.6g} at unit {index[-1]}, outside the {own.low[index]:.6g} to "
        f"{own.high[index]:.6g} that its proof allows with the guard's margin"
    )
