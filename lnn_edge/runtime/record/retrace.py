"""One recording stepped again: what was refused, reset and split then is so again, and results are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...arrays import Array
from ...errors import LnnEdgeError
from ...wording import one_line
from ..constants import CONSTANT
from ..guard.status import Status
from ..state import State
from .layout import Part, layout_of
from .reading import Reading, Start

if TYPE_CHECKING:
    from ..model import Model
    from ..stream import Stream

__all__ = ["Difference", "Retraced", "retrace"]

_Result = dict[str, Array] | Exception  # of a tick: its outputs, or why it is refused

_MOST_STEPS = 1 << 20  # of one sample; a gap that is split has some dozens
_HOLE = "ticks before them were dropped, and no state came behind"
_NO_START = "the recording does not hold the state that it begins from"


@dataclass(frozen=True)
class Difference:
    """Where a replay left its recording. Prints as what follows "first ...".

    Args:
        tick: Number of the tick.
        name: The output or state, and which of its numbers.
        recorded: What it was.
        replayed: What it is.
        refusal: Why the sample is refused now; then there is no number.
    """

    tick: int
    name: str
    recorded: float
    replayed: float
    refusal: str = ""

    def __str__(self) -> str:
        if self.refusal:
            return f"at tick {self.tick:,}, whose sample is refused now: {self.refusal}"
        return f"at tick {self.tick:,}: {self.name} was {self.recorded:.9g}, and is {self.replayed:.9g}"


@dataclass
class Retraced:
    """What a replay found.

    Args:
        compared: Ticks that were stepped and compared.
        skipped: Ticks whose sample was refused then.
        unknown: Ticks that could not be compared.
        why_unknown: Why.
        different: Ticks with a difference.
        largest: The largest difference.
        first: The first one.
        cut: Whether the recording ends early.
        size: Bytes of the recording.
    """

    compared: int = 0
    skipped: int = 0
    unknown: int = 0
    why_unknown: str = ""
    different: int = 0
    largest: float = 0.0
    first: Difference | None = None
    cut: bool = False
    size: int = 0


def retrace(model: Model, recording: str, tolerance: float) -> Retraced:
    """Step a recording again.

    Args:
        model: The bundle that it was recorded with.
        recording: Its path.
        tolerance: Relative to max(1, the largest value recorded until there); 0.0: bit for bit.

    Raises:
        OSError, ValueError: If it cannot be read.
    """
    return _Retrace(model, tolerance).run(Reading(recording, model.manifest))


class _Retrace:
    """See `retrace`."""

    def __init__(self, model: Model, tolerance: float) -> None:
        manifest = model.manifest
        layout = layout_of(manifest)
        self._x, self._raw = layout.of_role("input"), layout.of_role("raw")
        self._states = layout.of_role("state")
        self._simple = manifest.readout is None and not manifest.constants  # tensors are all of a state
        self._tolerance = tolerance
        self._measured = manifest.time.mode == "measured"
        self._model = model
        # A model with constants has no stream before they are known, which the first state tells.
        self._stream = None if manifest.constants else model.stream()
        self._starts: dict[int, Start] = {}
        self._sizes: dict[str, float] = {}
        self._known = self._stream is not None  # whether the state is the one that was
        self._next = 0
        self._stopped = False
        self.found = Retraced()

    def run(self, reading: Reading) -> Retraced:
        """Step all of it, or up to a sample that is refused now."""
        for part in reading.parts():
            if isinstance(part, Start):
                self._starts[part.tick] = part
            elif not self._take(part):
                break
        self.found.cut, self.found.size = reading.cut, reading.size
        if self.found.unknown and not self.found.why_unknown:
            self.found.why_unknown = _HOLE
        return self.found

    def _take(self, ticks: Array) -> bool:
        """Step ticks, and compare them; whether to go on."""
        rows, results, states = [], [], []
        going_on = True
        for row, result in self._stepped(ticks):
            if isinstance(result, Exception):
                self._refused(ticks[row], result)
                going_on = False
                break
            rows.append(row)
            results.append(result)
            if ticks["has_state"][row]:
                states.append((row, self._arrays()))
        self.found.compared += len(rows)
        firsts = [*self._differences(ticks, rows, results), *self._state_differences(ticks, states)]
        if firsts:
            earliest = min(firsts, key=lambda one: one.tick)
            if self.found.first is None or earliest.tick < self.found.first.tick:
                self.found.first = earliest
        return going_on

    def _stepped(self, ticks: Array) -> Iterator[tuple[int, _Result]]:
        """The rows that are stepped, each with its result, or with why it is refused."""
        columns = [ticks[name].tolist() for name in ("tick", "stepped", "reset", "status", "dt_s")]
        for row, (number, steps, reset, status, dt_s) in enumerate(zip(*columns, strict=True)):
            self._go_to(number)
            stopped, self._stopped = self._stopped, status == Status.STOPPED
            if reset or (stopped and not self._stopped):  # what was stopped begins anew when it is enabled
                self._reset()
            if steps > _MOST_STEPS:
                raise ValueError(f"recording is damaged: tick {number:,} has {steps:,} steps")
            if not steps:
                self.found.skipped += 1
            elif not self._known or self._stream is None:
                self.found.unknown += 1
                self._recover(ticks[row])
            else:
                yield row, self._step(ticks[row], steps, dt_s)

    def _go_to(self, number: int) -> None:
        """Stand before a tick."""
        start = self._starts.pop(number, None)
        if start is not None:
            self._stream = self._stream or self._model.stream(constants=_constants(start.state))
            self._stream.restore(start.state)
            self._known, self._stopped = True, self._stopped and not start.given
        elif number != self._next:
            self._known = self._stopped = False  # whether it was enabled meanwhile, nobody knows
            self.found.why_unknown = self.found.why_unknown or (_HOLE if self._next else _NO_START)
        elif not self._known:
            self.found.why_unknown = self.found.why_unknown or _NO_START
        self._next = number + 1

    def _reset(self) -> None:
        if self._stream is not None:
            self._stream.reset()
            self._known = True

    def _recover(self, tick: np.void) -> None:
        """Go on from the state after a tick that could not be compared, if it is there."""
        if tick["has_state"] and self._simple and self._stream is not None:
            self._stream.restore(State({part.tensor: tick[part.key].copy() for part in self._states}))
            self._known = True

    def _step(self, tick: np.void, steps: int, dt_s: float) -> _Result:
        x = {part.tensor: tick[part.key] for part in self._x}
        sample = x if len(x) > 1 else next(iter(x.values()))
        stream = self._going
        try:
            for _ in range(steps):
                result = stream.step(sample, dt_s=dt_s) if self._measured else stream.step(sample)
        except (LnnEdgeError, TypeError, ValueError) as error:
            return error
        return result if len(self._raw) > 1 else {self._raw[0].tensor: result}

    @property
    def _going(self) -> Stream:
        """The stream, where it is known that there is one."""
        if self._stream is None:
            raise RuntimeError("nothing is stepped before there is a stream")
        return self._stream

    def _arrays(self) -> dict[str, Array]:
        return self._going.state_arrays()

    def _refused(self, tick: np.void, error: Exception) -> None:
        self.found.different += 1
        self.found.first = self.found.first or Difference(int(tick["tick"]), "", 0.0, 0.0, one_line(error))

    def _differences(self, ticks: Array, rows: list[int], results: list[dict[str, Array]]) -> list[Difference]:
        if not rows:
            return []
        found, own = [], ticks[rows]
        bad = np.zeros(len(rows), bool)
        for part in self._raw:
            got = np.stack([result[part.tensor] for result in results])
            found += self._compare(part, own["tick"], own[part.key], got, bad)
        self.found.different += int(bad.sum())
        return found

    def _state_differences(self, ticks: Array, states: list[tuple[int, dict[str, Array]]]) -> list[Difference]:
        found: list[Difference] = []
        if states:
            own = ticks[[row for row, _ in states]]
            bad = np.zeros(len(states), bool)
            for part in self._states:
                got = np.stack([arrays[part.tensor] for _, arrays in states])
                found += self._compare(part, own["tick"], own[part.key], got, bad)
        return found

    def _compare(self, part: Part, numbers: Array, recorded: Array, got: Array, bad: Array) -> list[Difference]:
        """The first difference of one tensor; `bad` is set where there is any."""
        recorded, got = recorded.reshape(len(numbers), -1), np.ascontiguousarray(got).reshape(len(numbers), -1)
        with np.errstate(all="ignore"):
            error = np.abs(recorded.astype(np.float64) - got.astype(np.float64))
        alike = recorded.view(np.uint32) == got.view(np.uint32)
        error[alike] = 0.0
        error[np.isnan(error)] = np.inf
        self.found.largest = max(self.found.largest, float(error.max()))
        over = ~alike if not self._tolerance else error > self._limits(part, recorded)
        bad |= over.any(axis=1)
        if not over.any():
            return []
        row, column = (int(k) for k in np.argwhere(over)[0])
        return [
            Difference(int(numbers[row]), _name(part, column), float(recorded[row, column]), float(got[row, column]))
        ]

    def _limits(self, part: Part, recorded: Array) -> Array:
        """What each row may be off: by the largest value that was recorded until there."""
        sizes = np.nan_to_num(np.abs(recorded.astype(np.float64)), posinf=0.0).max(axis=1)
        sizes[0] = max(sizes[0], self._sizes.get(part.key, 1.0))
        sizes = np.maximum.accumulate(sizes)
        self._sizes[part.key] = float(sizes[-1])
        return (self._tolerance * np.maximum(1.0, sizes))[:, None]


def _constants(state: State) -> dict[str, Array]:
    """The constants in a state, by the name of their input."""
    return {name.removeprefix(CONSTANT): value for name, value in state.kept.items() if name.startswith(CONSTANT)}


def _name(part: Part, column: int) -> str:
    """An output's number by its feature, a state's by its place."""
    if part.columns:
        return f"'{part.columns[column % len(part.columns)]}'"
    return f"'{part.tensor}' at {column}"
