"""The modes whose results are readouts: of a sequence so far, or of windows that each begin from the initial state.

A model that was trained on windows gives, with a state that is kept for ever, what nobody evaluated. Here each window
gets what its author's call gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...arrays import Array
from ...bundle.manifest import Manifest
from ...bundle.spec import Readout
from ..clock import make_clock
from ..constants import CONSTANT, ConstantInputs, Constants, kept_constants
from ..readouts import RecentOutputs
from ..seen_ranges import Sample, Tally
from ..state import State, check_state, plain_time
from .mode import Moment, as_result
from .plain import Plain

__all__ = ["FROM_ANOTHER", "ReadoutMode", "Row", "RowMoment", "Sequences"]

FROM_ANOTHER = (
    "the state comes from another stream: it holds {}. Restore it into a stream that is made in the same way: "
    "model.stream(window=...)"
)

RowMoment = tuple[Moment, RecentOutputs]


class Row:
    """One sequence from its beginning, and its outputs."""

    def __init__(self, manifest: Manifest, plain: Plain, readout: Readout) -> None:
        self.plain, self._none = plain, RecentOutputs(readout)
        self._names = [t.name for t in manifest.outputs]
        self._unroll, self._time_axis = manifest.unroll, 0 if manifest.batch == 1 else 1

    def beginning(self, constants: Constants | None) -> RowMoment:
        """The moment before the first sample."""
        return self.plain.beginning(constants), self._none

    def advance(self, now: RowMoment, x: Any, dt: Array | None) -> RowMoment:
        """The moment after one call's samples; see `Mode.advance`."""
        moment = self.plain.advance(now[0], x, dt, None)
        return moment, self._counted(now[1], self.plain.result(moment))

    def parked(self, now: RowMoment) -> RowMoment:
        """See `Mode.parked`."""
        return self.plain.parked(now[0]), now[1]

    def restored(self, state: State, recent: Mapping[str, Array], constants: Constants | None) -> RowMoment:
        """The moment that a state and `RecentOutputs.read` gave."""
        return self.plain.restored(self.plain.beginning(constants), state), self._none.restored(recent)

    def _counted(self, recent: RecentOutputs, result: Any) -> RecentOutputs:
        """Take the result of a call, sample by sample."""
        outputs = result if isinstance(result, dict) else {self._names[0]: result}
        if self._unroll == 1:
            return recent.with_output(outputs)
        for k in range(self._unroll):
            recent = recent.with_output({name: y.take(k, self._time_axis) for name, y in outputs.items()})
        return recent


class Sequences(Protocol):
    """How samples become readouts. What it keeps is a value, of which `Mode` says what holds."""

    def beginning(self, constants: Constants | None) -> Any:
        """What is kept before the first sample."""

    def take(self, kept: Any, x: Any, dt: Array | None) -> tuple[Any, dict[str, Array] | None]:
        """Take one call's samples: what is kept then, and the readout if one is complete."""

    def parked(self, kept: Any) -> Any:
        """See `Mode.parked`."""

    def read(self, kept: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """State tensors, and what else a snapshot needs."""

    def restored(self, tensors: Mapping[str, Array], own: Mapping[str, Array], constants: Constants | None) -> Any:
        """What `read` gave; everything that was kept is parked."""

    def checked(self, x: Any) -> Any:
        """A copy of a sample, checked."""

    @property
    def sample(self) -> Callable[[], Sample]:
        """See `Mode.sample`."""


class ReadoutMode:
    """See the module's text and `Mode`. A moment keeps what its `Sequences` keep, and the newest readout."""

    one_per_call = True
    new_results = True

    def __init__(self, manifest: Manifest, sequences: Sequences) -> None:
        self._manifest, self._sequences = manifest, sequences
        self.sample = sequences.sample
        measured = manifest.time.mode == "measured"
        self._dt = np.zeros((manifest.batch, manifest.unroll), np.float32) if measured else None
        self._clock = make_clock(manifest, self._dt)
        self._constants = ConstantInputs(manifest)
        self._shapes = {t.name: t.shape[manifest.batch == 1 :] for t in manifest.outputs}

    def start(self, constants: Mapping[str, Any] | None) -> Moment:
        """See `Mode.start`."""
        return self._beginning(0, self._constants.checked(constants))

    def advance(self, now: Moment, x: Any, dt_s: Any, t_s: Any) -> Moment:
        """See `Mode.advance`."""
        (kept, newest), last_s, steps, constants, _, tally = now
        last_s = self._clock.put(dt_s, t_s, last_s)
        kept, done = self._sequences.take(kept, x, self._dt)
        return (kept, done or newest), last_s, steps + self._manifest.unroll, constants, done is not None, tally

    def result(self, now: Moment) -> Any:
        """The readout of the newest complete window, NaN before the first; a new array."""
        newest = now[0][1]
        return as_result(
            {
                name: np.full(shape, np.nan, np.float32) if newest is None else newest[name].copy()
                for name, shape in self._shapes.items()
            }
        )

    def newest(self, now: Moment) -> Any:
        """See `Mode.newest`."""
        return None if now[0][1] is None else self.result(now)

    def parked(self, now: Moment) -> Moment:
        """See `Mode.parked`."""
        kept, newest = now[0]
        return (self._sequences.parked(kept), newest), *now[1:]

    def begun(self, now: Moment, rows: Sequence[int] | None, constants: Mapping[str, Any] | None) -> Moment:
        """See `Mode.begun`.

        Raises:
            ValueError: Also if only some rows are to begin anew: all rows are in the same windows.
        """
        if rows is not None:
            raise ValueError(
                "windows and readouts are of all rows together, so single rows cannot begin anew. Leave `rows` out, "
                "or give each row a stream of its own, of a bundle with batch=1"
            )
        return self._beginning(now[2], self._constants.checked(constants, now[3]), now[5])

    def state(self, now: Moment) -> State:
        """The state, the samples of windows that are not complete, and the newest result."""
        (kept, newest), last_s, _, constants, _, _ = now
        tensors, own = self._sequences.read(kept)
        results = {f"newest.{name}": value.copy() for name, value in (newest or {}).items()}
        return State(tensors, last_s, own | kept_constants(constants) | results)

    def arrays(self, now: Moment) -> dict[str, Array]:
        """See `Mode.arrays`."""
        return self._sequences.read(now[0][0])[0]

    def restored(self, now: Moment, state: State) -> Moment:
        """See `Mode.restored`. A state of a plain stream begins anew, at that state's time."""
        check_state(state, self._manifest)
        newest = {n.removeprefix("newest."): v for n, v in state.kept.items() if n.startswith("newest.")}
        for name, value in newest.items():
            if value.shape != self._shapes.get(name) or not np.isfinite(value).all():
                raise ValueError(
                    f"the state's newest result '{name}' is none of this model: expected shape {self._shapes}"
                )
        constants = self._constants.restored(state.kept, now[3])
        own = {name: value for name, value in state.kept.items() if not name.startswith((CONSTANT, "newest."))}
        kept = self._sequences.restored(state.tensors, own, constants)
        return (kept, newest or None), plain_time(state.t_s), now[2], constants, False, now[5]

    def checked(self, x: Any) -> Any:
        """See `Mode.checked`."""
        return self._sequences.checked(x)

    def _beginning(self, steps: int, constants: Constants | None, tally: Tally | None = None) -> Moment:
        return (self._sequences.beginning(constants), None), None, steps, constants, False, tally
