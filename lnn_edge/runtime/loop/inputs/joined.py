"""Several sources by input name, each at a rate of its own: the newest of each, held or predicted while one is late."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal, NamedTuple

import numpy as np

from ....given_numbers import nanoseconds
from ....wording import choices, listed
from ..timer import Timer
from .newest import Arrived, Newest

__all__ = ["Joined", "Moment", "OnLateInput"]

OnLateInput = Literal["hold", "predict"]
_KINDS = ("hold", "predict")


class Moment(NamedTuple):
    """What there is at a tick.

    Args:
        x: The sample, a dict by input name if there are several; `None` where one has never come.
        t_s: Of a single source what its sample says; `None` of several, whose times differ.
        stale: Names of the inputs without a sample that is fresh enough, with what is wrong; none is usable then.
        held: Names of those that nothing new came for since the tick before.
    """

    x: Any
    t_s: Any
    stale: tuple[str, ...]
    held: tuple[str, ...]


class Joined:
    """Puts a sample together from the newest of each source.

    Args:
        readers: By input name; a single one may have any name.
        timer: The clock.
        fresh_s: How old a sample may be, seconds: one number, or by name; `None` for any age. A late input is held or
            predicted until then, and after it the whole sample is stale.
        on_late_input: "hold" lets the newest sample stand in, "predict" the line through the last two, of what is true
            or false the newest as well: one word, or by name.
        single: Whether `x` is the only source's own sample, and no dict.

    Raises:
        TypeError, ValueError: If a name is unknown, or a limit or word is none.
    """

    def __init__(
        self,
        readers: Mapping[str, Newest],
        timer: Timer,
        fresh_s: float | Mapping[str, float | None] | None = None,
        on_late_input: OnLateInput | Mapping[str, OnLateInput] = "hold",
        *,
        single: bool = False,
    ) -> None:
        self.readers = dict(readers)
        self._timer, self._single = timer, single
        ages = _by_name("fresh_s", fresh_s, self.readers)
        self._fresh_ns = {name: None if own is None else nanoseconds("fresh_s", own) for name, own in ages.items()}
        self._on_late_input = _by_name("on_late_input", on_late_input, self.readers)
        for own in self._on_late_input.values():
            if not isinstance(own, str) or own not in _KINDS:
                raise ValueError(f"`on_late_input` is {own!r}. {choices(own, _KINDS)}")
        self._taken = dict.fromkeys(self.readers, 0)

    @property
    def ended(self) -> bool:
        """Whether a source is at its end, and its last sample was taken."""
        return any(own.ended and self._taken[name] == _number(own) for name, own in self.readers.items())

    def took(self, reader: Newest) -> None:
        """Say that the newest sample of the only reader was taken from it, and `look` was not needed."""
        (name,) = self._taken
        self._taken[name] = _number(reader)

    def look(self) -> Moment:
        """What there is now; never waits."""
        now_ns = self._timer.monotonic_ns()
        found: dict[str, Any] = {}
        stale, held, t_s = [], [], None
        for name, reader in self.readers.items():
            newest, before = reader.look()
            if newest is None:
                stale.append(f"'{name}' has never come")
                continue
            limit, age = self._fresh_ns[name], now_ns - newest.at_ns
            if limit is not None and age > limit:
                stale.append(f"'{name}' is {age / 1e9:.3g} s old, fresh for {limit / 1e9:g} s")
            if newest.number == self._taken[name]:
                held.append(name)
            self._taken[name] = newest.number
            late = name in held and self._on_late_input[name] == "predict"
            found[name] = _predicted(newest, before, now_ns) if late else newest.sample.x
            t_s = newest.sample.t_s
        if self._single:
            return Moment(next(iter(found.values()), None), None if held else t_s, tuple(stale), tuple(held))
        return Moment(found if len(found) == len(self.readers) else None, None, tuple(stale), tuple(held))

    def close(self) -> None:
        """Close all sources, each whatever the others raise."""
        with ExitStack() as stack:
            for own in self.readers.values():
                stack.callback(own.close)


def _number(reader: Newest) -> int:
    newest, _ = reader.look()
    return 0 if newest is None else newest.number


def _by_name(what: str, given: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    unknown = next((name for name in given if name not in names), None)
    if unknown is not None:
        raise ValueError(f"`{what}` has '{unknown}', but the sources are {listed(f'{n!r}' for n in names)}")
    default = None if what == "fresh_s" else "hold"
    return {name: given.get(name, default) for name in names}


def _predicted(newest: Arrived, before: Arrived | None, now_ns: int) -> Any:
    """The line through two samples, at a time after both; the newest where there is no such line."""
    if before is None or newest.at_ns <= before.at_ns:
        return newest.sample.x
    try:
        if np.asarray(newest.sample.x).dtype.kind == "b":
            return newest.sample.x
        last, first = np.asarray(newest.sample.x, np.float64), np.asarray(before.sample.x, np.float64)
        if last.shape != first.shape:
            return newest.sample.x
        predicted = last + (last - first) * ((now_ns - newest.at_ns) / (newest.at_ns - before.at_ns))
    except (TypeError, ValueError):
        return newest.sample.x
    return predicted
