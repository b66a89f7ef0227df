"""Arguments of a user's forward: which are inputs, states and time by their names, and how inputs go into them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

__all__ = ["STATE_NAMES", "TIME_NAMES", "needed_arguments", "only_needed", "packing", "takes_one_dict"]

STATE_NAMES = (
    *("hx", "h", "hidden", "hidden_state", "hidden_states", "state", "states", "h0", "hc", "hxs", "rnn_state"),
    *("rnn_states", "rnn_hx", "rnn_hxs", "prev_state", "prev_hidden", "h_prev", "h_in", "core_state", "carry"),
)
TIME_NAMES = ("timespans", "timespan", "dt", "dts", "delta_t", "elapsed", "elapsed_time", "ts")

_Packing = Callable[[Mapping[str, Any]], tuple[tuple[Any, ...], Mapping[str, Any]]]


def packing(names: Sequence[str], parameters: Mapping[str, inspect.Parameter], states: Iterable[str]) -> _Packing:
    """How inputs of these names go into a forward: by place, by name, or all of them as one dict."""
    single = list(names) == ["input"]
    if not single and not takes_one_dict(names, parameters):
        return lambda given: ((), given)
    needed = [name for name in _needed(parameters.values()) if name not in states]
    places = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    by_name = bool(needed) and places[:1] != needed[:1]  # by keyword alone, or behind a state

    def packed(given: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        value = given["input"] if single else dict(given)
        return ((), {needed[0]: value}) if by_name else ((value,), {})

    return packed


def takes_one_dict(names: Iterable[str], parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether inputs of these names are the content of one argument, as the observations of a gym are."""
    kinds = {p.kind for p in parameters.values()}
    return inspect.Parameter.VAR_KEYWORD not in kinds and not any(name in parameters for name in names)


def needed_arguments(module: nn.Module) -> list[str]:
    """Arguments that the forward cannot be called without, time aside."""
    return _needed(inspect.signature(module.forward).parameters.values())


def _needed(parameters: Iterable[inspect.Parameter]) -> list[str]:
    every = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in every and p.name not in TIME_NAMES]


def only_needed(parameters: Iterable[inspect.Parameter]) -> set[str]:
    """The only argument that a forward needs: its input, whatever it is called."""
    needed = _needed(parameters)
    return set(needed) if len(needed) == 1 else set()
