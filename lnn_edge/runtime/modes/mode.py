"""The modes of a stream: what each must give, and the moment at which a stream stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ...arrays import Array
from ..constants import Constants
from ..seen_ranges import Sample, Tally
from ..state import State

__all__ = ["Mode", "Moment", "Outputs", "as_result", "copied"]

# What a stream stands at, which a step replaces as a whole: what its mode keeps of the samples, the time of the last
# one, how many there were, the constants, whether the last one has a result, and what was counted in them, which modes
# pass on. A tuple, as each step makes one.
Moment = tuple[Any, float | None, int, Constants | None, bool, Tally | None]

Outputs = Mapping[str, Array]


class Mode(Protocol):
    """Makes moments out of moments. No call changes what an earlier moment stands for, also where it is interrupted.

    But only the last one: `advance` may write where moments before `now` had what they keep, and `restored` wherever
    it likes. `parked` gives a moment that outlives both.

    Attributes:
        one_per_call: Whether a block of samples has one result, and not one for each sample.
        new_results: Whether each result is a new array, and not in a buffer that the next step overwrites.
    """

    one_per_call: bool
    new_results: bool

    def start(self, constants: Mapping[str, Any] | None) -> Moment:
        """The moment before the first sample.

        Raises:
            TypeError, ValueError, NonFiniteError: If a constant is missing, unknown or does not fit.
        """

    def advance(self, now: Moment, x: Any, dt_s: Any, t_s: Any) -> Moment:
        """The moment after one call's samples; see `Stream.step` for arguments and errors."""

    def result(self, now: Moment) -> Any:
        """What the call that led to this moment gives."""

    def newest(self, now: Moment) -> Any:
        """The newest result of the sequence at any moment, `None` where there is none yet."""

    def parked(self, now: Moment) -> Moment:
        """The same moment, with all that it stands for in memory of its own."""

    def begun(self, now: Moment, rows: Sequence[int] | None, constants: Mapping[str, Any] | None) -> Moment:
        """The moment before a new sequence; see `Stream.reset` for arguments and errors."""

    def state(self, now: Moment) -> State:
        """This moment as a value."""

    def arrays(self, now: Moment) -> dict[str, Array]:
        """A copy of the state's tensors alone, by the name of the state's input."""

    def restored(self, now: Moment, state: State) -> Moment:
        """The moment at which a stream of this mode gave `state`; `now` is parked. See `Stream.restore` for errors."""

    def checked(self, x: Any) -> Any:
        """A copy of a call's samples as `advance` takes them, checked."""

    @property
    def sample(self) -> Callable[[], Sample]:
        """What gives the samples of the last `advance`."""


def as_result(outputs: Outputs) -> Any:
    """Outputs as `step` gives them: a dict only where there are several."""
    return outputs if len(outputs) > 1 else next(iter(outputs.values()))


def copied(result: Any) -> Any:
    """A result in new arrays."""
    return {name: array.copy() for name, array in result.items()} if isinstance(result, dict) else result.copy()
