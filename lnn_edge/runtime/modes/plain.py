"""The plain mode: the output of each sample, with a state that is kept from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...bundle.manifest import Manifest
from ...bundle.spec import DT_INPUT
from ...errors import NonFiniteError
from ..clock import make_clock
from ..constants import CONSTANT, ConstantInputs, Constants, kept_constants
from ..input_port import by_name, feature_label, input_port
from ..seen_ranges import Sample
from ..state import State, check_state, initial_state, plain_time
from .mode import Moment, Outputs, as_result, copied

if TYPE_CHECKING:
    from ...backend_protocols import Stepper

__all__ = ["Plain"]


class _Parked(NamedTuple):
    """A state that is in no place of the backend; the next step puts it there. And the result that came with it."""

    state: Mapping[str, Array]
    result: Any = None


class Plain:
    """See the module's text and `Mode`. A moment keeps the number of the backend's place with the state, or `_Parked`.

    Attributes:
        stepper: The backend's buffers, whose places keep the state.
        ports: The inputs that come with each sample, by name.
        results: What a step gives whose results are in the first place, and in the second.
        constants: Checks the constant inputs.
        sample: See `Mode.sample`.
    """

    one_per_call = False
    new_results = False

    def __init__(self, manifest: Manifest, stepper: Stepper) -> None:
        self._manifest = manifest
        self.stepper = stepper
        self.ports = {t.name: input_port(t, stepper.sample[t.name], manifest.name) for t in manifest.streamed}
        self.constants = ConstantInputs(manifest)
        self._unroll = manifest.unroll
        only = next(iter(self.ports.values())) if len(self.ports) == 1 else None
        self._put: Callable[[Any], None] = only.put if only and not self.constants.names else self._put_named
        self.sample: Callable[[], Sample] = only.sample.tobytes if only else self._samples
        self._clock = make_clock(manifest, stepper.sample.get(DT_INPUT))
        self.results = tuple(self._shown(place) for place in stepper.places)
        self._initial = _Parked(initial_state(manifest).tensors)
        self._in_place: Constants | None = None  # the constants that the backend's buffers hold

    def start(self, constants: Mapping[str, Any] | None) -> Moment:
        """See `Mode.start`."""
        return self.beginning(self.constants.checked(constants))

    def beginning(self, constants: Constants | None) -> Moment:
        """The moment before the first sample with constants that are checked; `None` where they come with a state."""
        return self._initial, None, 0, constants, False, None

    def advance(self, now: Moment, x: Any, dt_s: Any, t_s: Any) -> Moment:
        """See `Mode.advance`."""
        place, last_s, steps, constants, _, tally = now
        self._put(x)
        last_s = self._clock.put(dt_s, t_s, last_s)
        if constants is not self._in_place:
            self._put_constants(constants)
        if place.__class__ is _Parked:
            self.stepper.write_state(0, place.state)
            place = 0
        if not self.stepper.run(place):
            error = NonFiniteError(self._not_finite_message(self.stepper.places[1 - place]))
            error.result = True
            raise error
        return 1 - place, last_s, steps + self._unroll, constants, True, tally

    def put_in_place(self, parked: Moment) -> None:
        """Put the constants and the state of a parked moment where the backend reads them, the state in place 0."""
        if parked[3] is not self._in_place:
            self._put_constants(parked[3])
        self.stepper.write_state(0, parked[0].state)

    def result(self, now: Moment) -> Any:
        """See `Mode.result`."""
        return self.results[now[0]]

    def newest(self, now: Moment) -> Any:
        """See `Mode.newest`."""
        return now[0].result if isinstance(now[0], _Parked) else self.results[now[0]]

    def parked(self, now: Moment) -> Moment:
        """See `Mode.parked`."""
        if isinstance(now[0], _Parked):
            return now
        return _Parked(self.arrays(now), copied(self.results[now[0]])), *now[1:]

    def begun(self, now: Moment, rows: Sequence[int] | None, constants: Mapping[str, Any] | None) -> Moment:
        """See `Mode.begun`."""
        index = None if rows is None else _checked_rows(rows, self._manifest.batch)
        _, last_s, steps, before, _, tally = now
        kept = self.constants.checked(constants, before, index if self._manifest.batch > 1 else None)
        if index is None:
            return self._initial, None, steps, kept, False, tally
        arrays = self.arrays(now)
        for name, value in self._initial.state.items():
            arrays[name][index] = value[index]
        return _Parked(arrays), last_s, steps, kept, False, tally

    def state(self, now: Moment) -> State:
        """See `Mode.state`."""
        return State(self.arrays(now), now[1], kept_constants(now[3]))

    def restored(self, now: Moment, state: State) -> Moment:
        """See `Mode.restored`."""
        check_state(state, self._manifest)
        others = [name for name in state.kept if not name.startswith(CONSTANT)]
        if others:
            raise ValueError(
                "the state comes from a stream of windows or readouts, and holds what this one has no place for. "
                "Restore it into a stream that is made in the same way: model.stream(window=...)"
            )
        constants = self.constants.restored(state.kept, now[3])
        arrays = {name: array.copy() for name, array in state.tensors.items()}
        return _Parked(arrays), plain_time(state.t_s), now[2], constants, False, now[5]

    def checked(self, x: Any) -> Any:
        """See `Mode.checked`."""
        self._put(x)
        return as_result({name: port.read() for name, port in self.ports.items()})

    def _samples(self) -> Sample:
        return tuple(port.sample.tobytes() for port in self.ports.values())

    def _put_named(self, x: Any) -> None:
        if len(self.ports) == 1 and (not isinstance(x, Mapping) or not self._is_by_input(x)):
            x = dict.fromkeys(self.ports, x)
        for name, value in by_name(x, self.ports, self.constants.names).items():
            self.ports[name].put(value)

    def _is_by_input(self, x: Mapping[str, Any]) -> bool:
        """Whether a dict is one of inputs, and not of the columns of the only one."""
        return any(name in self.ports or name in self.constants.names for name in x)

    def _put_constants(self, constants: Constants | None) -> None:
        self._in_place = None
        for name, (_, value) in (constants or {}).items():
            self.stepper.sample[name][...] = value
        self._in_place = constants

    def _shown(self, place: Outputs) -> Any:
        """A place's outputs as `step` gives them."""
        one = self._manifest.batch == 1
        return as_result({t.name: place[t.name][0] if one else place[t.name] for t in self._manifest.outputs})

    def arrays(self, now: Moment) -> dict[str, Array]:
        """See `Mode.arrays`."""
        if isinstance(now[0], _Parked):
            return {name: array.copy() for name, array in now[0].state.items()}
        place = self.stepper.places[now[0]]
        return {pair.input: place[pair.output].copy() for pair in self._manifest.states}

    def _not_finite_message(self, results: Outputs) -> str:
        tensors = {t.name: t for t in self._manifest.outputs}
        for name, array in results.items():
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                index = tuple(int(i) for i in bad[0])
                where = feature_label(tensors[name], index) if name in tensors else f"index {list(index)}"
                return (
                    f"the step gave {array[index]} in '{name}' at {where}; the state is unchanged. The sample is "
                    "finite but far outside what the model can compute: check its unit and scale"
                )
        return "the step gave a result that is not finite; the state is unchanged"


def _checked_rows(rows: Sequence[int], batch: int) -> list[int]:
    """Numbers of rows of a batch.

    Raises:
        TypeError: If one is no whole number.
        ValueError: If there is no such row.
    """
    if isinstance(rows, (str, bytes)) or not isinstance(rows, (Sequence, np.ndarray)):
        raise TypeError(f"`rows` is {rows!r}, expected a list of numbers of rows")
    for row in rows:
        if isinstance(row, bool) or not isinstance(row, (int, np.integer)):
            raise TypeError(f"`rows` holds {row!r}, expected whole numbers")
        if not 0 <= row < batch:
            raise ValueError(f"`rows` holds {row}, but the model has the rows 0 to {batch - 1}")
    return [int(row) for row in rows]
