"""Feed of a loop: what it steps at a tick, or why there is nothing to step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from ....given_numbers import nanoseconds
from ....wording import listed
from ...guard.status import Status
from ...model import Model
from ..rehearsal import Rehearsal
from ..source import Source, as_source
from ..timer import Timer
from .arrivals import Arrivals, next_sample
from .joined import Joined
from .newest import Newest

__all__ = ["FRESH_PERIODS", "SampleFeed", "Taken", "TickFeed", "make_feed", "sources_of"]

FRESH_PERIODS = 10  # that a sample is fresh, where nobody says how long

_REST_NS = 1_000_000  # after a failed read, twice as long after each further one
_LONGEST_REST_NS = 100_000_000
_new = tuple.__new__  # of a named tuple, whose own `__new__` takes twice as long
_LEAST_NS = 500_000  # that a read takes which gives nothing
_NO_MORE = "the source has no more samples"


class Taken(NamedTuple):
    """What there is for a tick.

    Args:
        x: The sample.
        t_s: Its time, `None` if it has none.
        status: Why it is not to be stepped, `None` if it is.
        error: The same in words.
    """

    x: Any
    t_s: Any = None
    status: Status | None = None
    error: Exception | None = None


def sources_of(given: Any, model: Model) -> dict[str, Source]:
    """Sources by name: several of a dict that holds some, else the one that `as_source` makes.

    Raises:
        TypeError, ValueError, OSError: As `as_source`; or if several are not named like the model's inputs.
    """
    if not isinstance(given, Mapping) or all(isinstance(own, (np.ndarray, list, tuple)) for own in given.values()):
        name = model.manifest.streamed[0].name if len(model.manifest.streamed) == 1 else "source"
        return {name: as_source(given, model)}
    names = [tensor.name for tensor in model.manifest.streamed]
    if set(given) != set(names):
        raise ValueError(f"the sources are named {listed(given)}, and the inputs of '{model.name}' {listed(names)}")
    return {name: as_source(own, model) for name, own in given.items()}


def make_feed(
    source: Any, model: Model, timer: Timer, period_ns: float | None, fresh_s: Any, on_late_input: Any
) -> TickFeed | SampleFeed:
    """The feed of a loop at a rate, or of one that samples pace, where `period_ns` is `None`.

    Raises:
        TypeError, ValueError, OSError: As `sources_of`; or if an age or a word is none.
    """
    sources = sources_of(source, model)
    on_late_input = _held_if_whole(on_late_input, sources, model)
    if period_ns is None:
        return SampleFeed(sources, timer, fresh_s, on_late_input)
    limit = FRESH_PERIODS * period_ns / 1e9
    if not isinstance(fresh_s, Mapping):
        return TickFeed(sources, timer, limit if fresh_s is None else fresh_s, on_late_input)
    return TickFeed(sources, timer, {**dict.fromkeys(sources, limit), **fresh_s}, on_late_input)


class TickFeed:
    """The newest samples at each tick of a timer. What waits for a device is read by threads.

    Args:
        sources: By input name.
        timer: The clock.
        fresh_s, on_late_input: As `Joined`.
    """

    def __init__(self, sources: Mapping[str, Source], timer: Timer, fresh_s: Any, on_late_input: Any) -> None:
        pulled = {name: getattr(source, "pulled", False) for name, source in sources.items()}
        self.readers = {name: Newest(own, timer, start=False) for name, own in sources.items()}
        self._joined = Joined(self.readers, timer, fresh_s, on_late_input, single=len(sources) == 1)
        self._pulled = [self.readers[name] for name in sources if pulled[name]]
        self._all_pulled = len(self._pulled) == len(sources)
        self._only = self._pulled[0] if self._all_pulled and len(sources) == 1 else None
        self.live = not self._all_pulled
        self.stored = _are_stored(sources)
        self.in_threads = {name: own for name, own in self.readers.items() if not pulled[name]}
        for reader in self.in_threads.values():  # when nothing can be refused any more
            reader.begin()

    @property
    def waits(self) -> bool:
        """Whether some source has not brought its first sample, and may bring it by itself."""
        return any(own.look()[0] is None and own not in self._pulled and not own.ended for own in self.readers.values())

    def take(self) -> Taken:
        """What there is now; never waits.

        Raises:
            EOFError: If a source is at its end.
        """
        only = self._only
        if only is None:
            return self._from_all()
        failed = only.failed
        sample = only.fetch()
        if sample is not None:
            self._joined.took(only)
            return _new(Taken, (sample.x, sample.t_s, None, None))
        if only.ended:
            raise EOFError(_NO_MORE)
        return self._newest() if only.failed == failed else Taken(None, None, Status.BAD_INPUT, only.error)

    def _from_all(self) -> Taken:
        if self._joined.ended:
            raise EOFError(_NO_MORE)
        bad: Exception | None = None
        for reader in self._pulled:
            failed = reader.failed
            reader.pump(0.0)
            if reader.ended:
                raise EOFError(_NO_MORE)
            if reader.failed > failed:
                bad = reader.error
        return self._newest() if bad is None else Taken(None, None, Status.BAD_INPUT, bad)

    def _newest(self) -> Taken:
        moment = self._joined.look()
        if moment.stale:
            return Taken(moment.x, None, Status.STALE, TimeoutError("; ".join(moment.stale)))
        return Taken(moment.x, moment.t_s if self._all_pulled else None)

    def close(self) -> None:
        """Close all sources."""
        self._joined.close()


class SampleFeed:
    """The samples of a source as they come; of several, the first one's with the newest of the others.

    Args:
        sources: By input name.
        timer: The clock.
        fresh_s: As `Joined`; of the first source, after how long without a sample there is a stale tick.
        on_late_input: As `Joined`, of the others.

    Attributes:
        stored: Whether all samples are there, and may be taken at any time.
    """

    def __init__(self, sources: Mapping[str, Source], timer: Timer, fresh_s: Any, on_late_input: Any) -> None:
        self.arrivals = Arrivals()
        self.rehearsal: Rehearsal | None = None
        self._timer = timer
        (self._name, self._source), *others = sources.items()
        self.live = not getattr(self._source, "pulled", False)
        self.stored = _are_stored(sources)
        self.readers = self.in_threads = {name: Newest(own, timer, start=False) for name, own in others}
        ages = fresh_s if isinstance(fresh_s, Mapping) else dict.fromkeys(sources, fresh_s)
        kinds = on_late_input if isinstance(on_late_input, Mapping) else dict.fromkeys(sources, on_late_input)
        all_readers = {self._name: Newest(self._source, timer, start=False), **self.readers}
        Joined(all_readers, timer, ages, kinds)  # refuses what is none
        self._joined = Joined(self.readers, timer, _without(ages, self._name), _without(kinds, self._name))
        limit = ages.get(self._name)
        self._silent_ns = None if limit is None else nanoseconds("fresh_s", limit)
        self._last_ns = timer.monotonic_ns()
        self._failed_in_a_row = self.failed = 0
        for reader in self.readers.values():
            reader.begin()

    def take(self, timeout_s: float) -> Taken | None:
        """The next sample, or `None` if nothing came in time.

        Raises:
            EOFError: If the source is at its end.
        """
        if self._failed_in_a_row:  # a device that is gone would keep a core busy
            rest_ns = min(_REST_NS << min(self._failed_in_a_row - 1, 10), _LONGEST_REST_NS)
            self._timer.sleep_until(self._timer.monotonic_ns() + rest_ns)
        began = self._timer.monotonic_ns()
        try:
            sample = next_sample(self._source, timeout_s, self._timer, self.arrivals, self.rehearsal)
        except EOFError:
            raise
        except Exception as error:
            self.failed += 1
            self._failed_in_a_row += 1
            return Taken(None, None, Status.BAD_INPUT, error)
        self._failed_in_a_row = 0
        now = self._timer.monotonic_ns()
        if sample is None:
            if now - began < _LEAST_NS:  # one that does not wait whatever it is asked, as a function does
                self._timer.sleep_until(now + _LEAST_NS)
            return self._silence(now)
        self._last_ns = now
        if not self.readers:
            return Taken(sample.x, sample.t_s)
        moment = self._joined.look()
        if moment.stale or moment.x is None:
            return Taken(None, None, Status.STALE, TimeoutError("; ".join(moment.stale)))
        return Taken({self._name: sample.x, **moment.x}, sample.t_s)

    def _silence(self, now: int) -> Taken | None:
        if self._silent_ns is None or now - self._last_ns < self._silent_ns:
            return None
        self._last_ns = now
        text = f"'{self._name}' has brought nothing for {self._silent_ns / 1e9:g} s"
        return Taken(None, None, Status.STALE, TimeoutError(text))

    def close(self) -> None:
        """Close all sources, each whatever the others raise."""
        with ExitStack() as stack:
            stack.callback(self._source.close)
            for own in self.readers.values():
                stack.callback(own.close)


def _are_stored(sources: Mapping[str, Source]) -> bool:
    """Whether all samples are there, and may be taken at any time, by another loop as well."""
    return all(getattr(source, "stored", False) for source in sources.values())


def _held_if_whole(on_late_input: Any, sources: Mapping[str, Source], model: Model) -> Any:
    """How late inputs stand in: those of whole numbers are held, as between two categories there is nothing."""
    whole = {tensor.name for tensor in model.manifest.streamed if tensor.dtype != "float32"}
    if not whole.intersection(sources):
        return on_late_input
    kinds = on_late_input if isinstance(on_late_input, Mapping) else dict.fromkeys(sources, on_late_input)
    return {name: "hold" if name in whole and kind == "predict" else kind for name, kind in kinds.items()}


def _without(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {own: value for own, value in given.items() if own != name}
