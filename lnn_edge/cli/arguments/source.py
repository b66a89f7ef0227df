"""Arguments about a trained model and its weights, and what was chosen with them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msgspec import Struct

from ..console import prints_aside, remarks

if TYPE_CHECKING:
    from ...export.checkpoint.source import Source

__all__ = ["SourceChoice", "add_source_arguments", "load_source"]


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what it takes to rebuild a trained model."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="the trained weights: .safetensors, or a state_dict that torch.save wrote, alone or in a checkpoint (.pt)",
    )
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="unpickle a whole saved module, torch.save(model), given as --weights or as SOURCE; this RUNS WHATEVER "
        "CODE IS IN THE FILE, so only for files you made",
    )
    parser.add_argument(
        "--step",
        metavar="NAME",
        help="for a model that loops cells by itself: the function in the SOURCE file, or the method of the model, "
        "that is one turn of that loop, step(model, x, state[, timespan]) -> (output, new state); state is None first",
    )
    parser.add_argument(
        "--initial-state",
        metavar="NAME",
        help="the function or method, initial_state(model), that makes what --step starts from, if that is not None",
    )


# A struct, not a dataclass: all are defined for every `--help`, and a frozen dataclass takes a millisecond.
class SourceChoice(Struct, frozen=True):
    """What it takes to rebuild a trained model, beside its SOURCE.

    Args:
        weights: What `--weights` names, or `None`.
        trust_pickle: Whether a file may be unpickled.
        step, initial_state: Names of functions or methods, or `None`.
    """

    weights: str | None
    trust_pickle: bool
    step: str | None
    initial_state: str | None


def load_source(source: str, choice: SourceChoice) -> Source:
    """What `source` and the options beside it name."""
    from ...export.checkpoint.source import load_trained

    with remarks(), prints_aside():
        return load_trained(
            source,
            weights=choice.weights,
            trust_pickle=choice.trust_pickle,
            step=choice.step,
            initial_state=choice.initial_state,
        )
