"""The recurrent state as a value: what `initial_state`, `step` and `snapshot` give and take."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import force_setattr

from ..arrays import Array
from ..bundle.manifest import Manifest
from ..bundle.spec import StatePair
from ..errors import NonFiniteError
from ..given_numbers import number_text
from ..times import Stamp
from ..wording import listed

__all__ = ["State", "check_build", "check_state", "initial_state", "initial_value", "of_build", "plain_time"]

_USUAL = (dict, MappingProxyType)


class State(msgspec.Struct, frozen=True):
    """A recurrent state, read-only. It can be copied and pickled, to go on after a restart.

    It does not know the weights that it comes from: `restore` refuses other names, shapes and dtypes than the model's,
    but not the state of another model that has the same ones. Keep it beside its bundle. Unpickling runs what a file
    says, so unpickle only files of your own.

    Args:
        tensors: Per state input name (`h_in`, `c_in`, ...), float32 of shape (batch, units).
        t_s: Time of the last sample in seconds if the stream was stepped with `t_s=`, else `None`.
        kept: What a stream of windows or readouts keeps beside it: samples of windows that are not complete yet, and
            outputs that a readout is made of.
        build: Name of the build that gave it, where a backend builds the step for the device, else "". Another build
            of the same step gives other last bits, so its model refuses the state.

    Raises:
        TypeError: If tensors or what is kept are no dict of NumPy arrays by name, or the build is no text.
    """

    tensors: Mapping[str, Array]
    t_s: float | None = None
    kept: Mapping[str, Array] = msgspec.field(default_factory=dict)
    build: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.build, str):
            raise TypeError(
                f"the state's `build` is {number_text(self.build)}, expected a text as `snapshot()` gives it"
            )
        tensors, kept = _by_name("tensors", self.tensors), _by_name("kept", self.kept)
        for arrays in (tensors, kept):
            for array in arrays.values():
                array.setflags(write=False)
        force_setattr(self, "tensors", MappingProxyType(tensors))
        force_setattr(self, "kept", MappingProxyType(kept))

    def __reduce__(self) -> tuple[type[State], tuple[Any, ...]]:
        """For `pickle` and `copy`, which cannot take the read-only mapping; the constructor freezes again."""
        more = (dict(self.kept), self.build) if self.build else (dict(self.kept),) if self.kept else ()
        return State, (dict(self.tensors), self.t_s, *more)


def of_build(state: State, build: str) -> State:
    """The state with the name of the build that gave it."""
    return State(state.tensors, state.t_s, state.kept, build) if build else state


def initial_state(manifest: Manifest) -> State:
    """The state in which every stream starts."""
    return State({s.input: initial_value(s) for s in manifest.states})


def initial_value(pair: StatePair) -> Array:
    """What a state starts from, float32 (batch, units)."""
    values = np.asarray(pair.initial, np.float32)
    row = values.reshape(pair.shape[1:]) if values.ndim else values
    whole: Array = np.broadcast_to(row, pair.shape).copy()
    return whole


def _by_name(own: str, given: Any) -> dict[str, Array]:
    if type(given) not in _USUAL and not isinstance(given, Mapping):  # which takes as long as all else here
        raise TypeError(
            f"the state's `{own}` is {number_text(given)}, expected a dict of NumPy arrays by name, as `snapshot()` or "
            "`initial_state()` gives it"
        )
    arrays = dict(given)
    for name, array in arrays.items():
        if type(name) is not str or type(array) is not np.ndarray:
            _check_array(name, array)
    return arrays


def _check_array(name: Any, array: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the state holds an array by the name {number_text(name)}, expected a text: 'h_in'")
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"state '{name}' is a {type(array).__name__}, expected a NumPy array of float32")


def check_build(state: State, build: str) -> None:
    """Refuse a state of another build; one of a backend that builds nothing goes everywhere.

    Raises:
        ValueError: With what to type.
    """
    theirs = getattr(state, "build", "")  # what is no state is refused later, in its own words
    if theirs and build and theirs != build:
        raise ValueError(
            f"the state comes from build {theirs} of the step, but this model runs build {build}, whose results differ "
            "in the last bits. To go on with its values all the same, take its build away: "
            "State(state.tensors, state.t_s, state.kept)"
        )


def check_state(state: State, manifest: Manifest) -> None:
    """Refuse a state that does not fit the model.

    Raises:
        TypeError: If it is no `State`, a tensor is not of float32, or its time no number.
        ValueError: If a tensor is missing, unknown or has the wrong shape.
        NonFiniteError: If it or its time holds NaN or infinity.
    """
    if not isinstance(state, State):
        raise TypeError(f"expected a State from `initial_state()`, `step` or `snapshot()`, got {type(state).__name__}")
    expected = {s.input: s.shape for s in manifest.states}
    if set(state.tensors) != set(expected):
        raise ValueError(
            f"the state holds {listed(state.tensors)}, but model '{manifest.name}' has {listed(expected)}. "
            "It comes from another model"
        )
    for name, array in state.tensors.items():
        if array.dtype != np.float32:
            raise TypeError(f"state '{name}' has dtype {array.dtype}, expected float32 as `snapshot()` gives it")
        if array.shape != expected[name]:
            one = expected[name][1:] if manifest.batch == 1 else expected[name]
            advice = ". It is a state of many rows, which model.step_many takes" if array.shape[1:] == one else ""
            raise ValueError(f"state '{name}' has shape {array.shape}, but the model takes {expected[name]}{advice}")
        if not np.isfinite(array).all():
            raise NonFiniteError(f"state '{name}' holds NaN or infinity; the stream keeps the state it had")
    _check_time(state.t_s)


def plain_time(t_s: float | None) -> float | None:
    """The time of a state that was checked as a float, which C steps with: not NumPy's, nor a whole number."""
    return t_s if t_s is None or isinstance(t_s, Stamp) else float(t_s)


def _check_time(t_s: Any) -> None:
    if t_s is None:
        return
    if isinstance(t_s, bool) or not isinstance(t_s, numbers.Real):
        raise TypeError(f"the state's `t_s` is {t_s!r}, expected seconds or None")
    if not math.isfinite(t_s):
        raise NonFiniteError(f"the state's `t_s` is {t_s}; the stream keeps the state it had")
