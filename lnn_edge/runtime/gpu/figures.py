"""Where the time of a step goes on the GPU, in trtexec's words, each figure with what it includes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..latency import Distribution, distribution
from .options import Options
from .stepper import SETUP, GpuStepper, Program
from .streams import Stream

__all__ = ["DeviceFigure", "DeviceFigures", "measure"]

_WARMUP = 100


@dataclass(frozen=True)
class DeviceFigure:
    """One duration.

    Args:
        name: trtexec's name for it.
        includes: Whether graph and transfers are in, and which clock measured it.
        durations: The figures, microseconds.
    """

    name: str
    includes: str
    durations: Distribution


@dataclass(frozen=True)
class DeviceFigures:
    """All of them.

    Args:
        wait: How the host waited.
        graph: Whether steps run as one CUDA graph.
        captured: Streams of this model that run as one graph.
        fallbacks: Streams of this model whose capture was refused.
        figures: In the order in which things happen.
    """

    wait: str
    graph: bool
    captured: int
    fallbacks: int
    figures: tuple[DeviceFigure, ...]


def measure(stepper: GpuStepper, steps: int, options: Options, counts: tuple[int, int]) -> DeviceFigures:
    """Time the parts of a step.

    Every figure is of one step alone, with the GPU idle before it: a robot's case. trtexec keeps two in flight, so its
    throughput is not comparable; its enqueue and compute times are.

    Args:
        stepper: A stream for nothing else.
        steps: Number of measurements of each figure, >= 1.
        options: How the backend runs.
        counts: Streams captured and fallen back.
    """
    stream, program = stepper.profile()
    graph = options.graph != "off" and not stepper.refusal
    transfers = "state copies only, host memory is mapped" if program.mapped else "transfers in"
    mode = f"graph {'on' if graph else 'off'}, wait {options.wait}"
    whole = f"{mode}, {transfers}"
    enqueue, total = _timed(stream, program.launch, steps)
    figures = [
        DeviceFigure("Enqueue Time", f"host clock; {whole}", enqueue),
        DeviceFigure("GPU time of a step", f"GPU events; {whole}", total),
    ]
    compute = _alone(stream, program, steps) if graph else _timed(stream, program.compute, steps)[1]
    figures.append(DeviceFigure("GPU Compute Time", f"GPU events; {mode}, transfers out", compute))
    alone = f"GPU events; one copy alone, no graph, wait {options.wait}"
    if not program.mapped:
        figures.append(
            DeviceFigure(
                "H2D Latency",
                alone,
                _timed(stream, program.fetch, steps)[1],
            )
        )
    figures.append(
        DeviceFigure(
            "D2H Latency",
            alone,
            _timed(stream, program.show, steps)[1],
        )
    )
    return DeviceFigures(options.wait, graph, *counts, tuple(figures))


def _alone(stream: Stream, program: Program, steps: int) -> Distribution:
    """GPU time of the engine in a graph of its own, without copies."""
    with SETUP:
        graph = stream.capture(program.compute)
    try:
        return _timed(stream, lambda: stream.launch(graph), steps)[1]
    finally:
        stream.free_graph(graph)


def _timed(stream: Stream, queue: Callable[[], None], steps: int) -> tuple[Distribution, Distribution]:
    """Host time to queue something, and GPU time until it is done."""
    start, end = stream.event(), stream.event()
    for _ in range(_WARMUP):
        queue()
        stream.wait()
    host, gpu = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
    for k in range(steps):
        stream.record(start)
        host[k] = _duration(queue)
        stream.record(end)
        stream.wait()
        gpu[k] = round(stream.elapsed_us(start, end) * 1e3)
    return distribution(host), distribution(gpu)


def _duration(call: Callable[[], Any]) -> int:
    begin = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - begin
