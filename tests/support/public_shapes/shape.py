"""The form of a row: a model as its author builds it, what it is made of, and how its author runs it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

__all__ = ["MEASURED", "PERIOD_S", "Shape", "batches", "looped", "node", "numbers", "sampled", "whole", "windowed"]

PERIOD_S = 0.1
MEASURED = {"time": "measured", "period_s": PERIOD_S}  # what `export_model` is told where the time is measured
Samples = dict[str, torch.Tensor]  # by input, (T, ...) each; one input is called "x"
Author = Callable[[nn.Module, Samples, "torch.Tensor | None"], "list[Any]"]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Shape:
    """One row of the table.

    Args:
        habit: What people do that it stands for, a sentence without its full stop.
        encoder, core, head, call, time: What it is made of, in a few words each.
        build: Makes the module.
        author: How its author runs it: from the module, samples (T, ...) and timespans (T,) or `None` to the outputs of
            each sample, as the author has them.
        samples: Draws recordings of one input from a seed, (recordings, T, ...), or several by name.
        options: What `export_model` is told besides the example.
        windows: Length of the windows in which its author runs it, and from one to the next.
        rows: Rows per step, where its author runs several at once.
        refused: What the refusal says, where it cannot be stepped: a regular expression.
    """

    habit: str
    encoder: str
    core: str
    head: str
    call: str
    time: str
    build: Callable[[], nn.Module]
    author: Author | None = None
    samples: Callable[[int], Any] = lambda seed: numbers(3, 24, 4, seed=seed)
    options: Mapping[str, Any] = field(default_factory=dict)
    windows: tuple[int, int] | None = None
    rows: int = 1
    refused: str | None = None

    @property
    def made_of(self) -> tuple[str, ...]:
        """What no more than three rows share."""
        return (self.encoder, self.core, self.head, self.call, self.time)

    @property
    def measured(self) -> bool:
        """Whether the device measures the time between samples."""
        return self.options.get("time") == "measured"


def outputs(result: Any) -> torch.Tensor:
    """The first thing that a forward returns, and not its state."""
    return result[0] if isinstance(result, tuple) else result


def whole(module: nn.Module, samples: Samples, spans: torch.Tensor | None) -> list[Any]:
    """One call on the whole sequence."""
    result = module(*(x[None] for x in samples.values()), **_named(spans))
    return per_sample(outputs(result), len(next(iter(samples.values()))))


def per_sample(result: Any, length: int) -> list[Any]:
    """Results of one row (1, T, ...), in any container, as one result for each sample."""
    return [pytree.tree_map(operator.itemgetter((0, t)), result) for t in range(length)]


def sampled(module: nn.Module, samples: Samples, spans: torch.Tensor | None) -> list[Any]:
    """One sample per call, (1, 1, ...), with the state handed on."""
    state, results = None, []
    for t in range(len(next(iter(samples.values())))):
        inputs = [x[None, t : t + 1] for x in samples.values()]
        y, state = module(*inputs, state, *([] if spans is None else [spans[None, t : t + 1]]))
        results += per_sample(y, 1)
    return results


def node(module: nn.Module, samples: Samples, _spans: torch.Tensor | None) -> list[Any]:
    """One sample per call; the module keeps its state."""
    results = []
    for t in range(len(next(iter(samples.values())))):
        results += per_sample(outputs(module(*(x[None, t : t + 1] for x in samples.values()))), 1)
    return results


def looped(module: Any, samples: Samples, spans: torch.Tensor | None) -> list[Any]:
    """`step`, the author's own turn of the loop, on one row (1, ...)."""
    state, results = None, []
    for t in range(len(next(iter(samples.values())))):
        inputs = [x[t : t + 1] for x in samples.values()]
        given = inputs[0] if len(inputs) == 1 else dict(zip(samples, inputs, strict=True))
        y, state = module.step(given, state, *([] if spans is None else [spans[t].reshape(1, 1)]))
        results.append(pytree.tree_map(lambda leaf: leaf[0], y))
    return results


def windowed(length: int, every: int) -> Author:
    """A call on each window, whose result stands until that of the next one."""

    def author(module: nn.Module, samples: Samples, _spans: torch.Tensor | None) -> list[Any]:
        (x,) = samples.values()
        results: list[Any] = []
        for t in range(1, len(x) + 1):
            if t >= length and (t - length) % every == 0:
                result = outputs(module(x[None, t - length : t]))[0]
                results.append(result)
            else:
                results.append(results[-1] if results else None)
        return [torch.full_like(results[-1], torch.nan) if y is None else y for y in results]

    return author


def batches(module: nn.Module, samples: Samples, _spans: torch.Tensor | None) -> list[Any]:
    """One call on all rows, (T, rows, ...)."""
    result = outputs(module(*(x.transpose(0, 1) for x in samples.values())))
    return list(result.transpose(0, 1))


def _named(spans: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {} if spans is None else {"timespans": spans[None]}
