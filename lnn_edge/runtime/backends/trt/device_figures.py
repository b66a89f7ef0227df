"""Figures of the GPU: where the time of a step goes, in trtexec's words, each with what it includes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ...figures.durations import DeviceFigure, DeviceFigures, Distribution, distribution
from .cuda_stream import CudaStream
from .options import Options
from .stepper import SETUP, GpuStepper, Program

__all__ = ["measure"]

_WARMUP = 100


def measure(stepper: GpuStepper, steps: int, options: Options, counts: tuple[int, int]) -> DeviceFigures:
    """Time the parts of a step.

    Every figure is of one step alone, with the GPU idle before it: a robot's case. trtexec keeps two in flight, so its
    throughput is not comparable; its enqueue and compute times are.

    An idle GPU sets an event the moment it is queued, so two events around a launch would time the host's queueing as
    well. Where steps run as a graph, both events are therefore inside one, and nothing of the host is between them.

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
    clock = "GPU events in the graph" if graph else "GPU events, the host's queueing is between them"
    parts = {
        "GPU time of a step": (program.issue, transfers),
        "GPU Compute Time": (program.compute, "transfers out"),
        "H2D Latency": (program.fetch, "the sample's copy alone"),
        "D2H Latency": (program.show, "the results' copy alone"),
    }
    if program.mapped:
        del parts["H2D Latency"]
    gpu_time = _inside_a_graph if graph else _around
    figures = [DeviceFigure("Enqueue Time", f"host clock; {mode}, {transfers}", _on_the_host(stream, program, steps))]
    for name, (part, includes) in parts.items():
        figures.append(DeviceFigure(name, f"{clock}; {mode}, {includes}", gpu_time(stream, part, steps)))
    return DeviceFigures(options.wait, graph, *counts, tuple(figures))


def _on_the_host(stream: CudaStream, program: Program, steps: int) -> Distribution:
    """Host time to queue a step."""
    durations = np.zeros(steps, np.int64)
    for k in range(-_WARMUP, steps):  # what is below 0 is overwritten
        begin = time.perf_counter_ns()
        program.launch()
        durations[max(k, 0)] = time.perf_counter_ns() - begin
        stream.wait()
    return distribution(durations)


def _inside_a_graph(stream: CudaStream, part: Callable[[], None], steps: int) -> Distribution:
    """GPU time of what `part` queues, from event to event of one graph."""
    start, end = stream.event(), stream.event()

    def queue() -> None:
        stream.record_in_graph(start)
        part()
        stream.record_in_graph(end)

    with SETUP:
        graph = stream.capture(queue)
    try:
        return _between(stream, start, end, lambda: stream.launch(graph), steps)
    finally:
        stream.free_graph(graph)


def _around(stream: CudaStream, part: Callable[[], None], steps: int) -> Distribution:
    """Time from before the first piece of `part` to after its last, while the host queues them."""
    start, end = stream.event(), stream.event()

    def queue() -> None:
        stream.record(start)
        part()
        stream.record(end)

    return _between(stream, start, end, queue, steps)


def _between(stream: CudaStream, start: Any, end: Any, queue: Callable[[], None], steps: int) -> Distribution:
    durations = np.zeros(steps, np.int64)
    for k in range(-_WARMUP, steps):  # what is below 0 is overwritten
        queue()
        stream.wait()
        durations[max(k, 0)] = round(stream.elapsed_us(start, end) * 1e3)
    return distribution(durations)
