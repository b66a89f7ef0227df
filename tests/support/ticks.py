"""Ticks as a guarded stream makes them, from a list of what happens in each, and recordings of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from old_files import FIXTURES

import lnn_edge
from lnn_edge.runtime.guard.status import Status, Tick
from lnn_edge.runtime.model import Model
from lnn_edge.runtime.record.reading import Reading, Start
from lnn_edge.runtime.record.recorder import Recorder

__all__ = ["KINDS", "Robot", "bundle", "model_of", "read_back", "record"]

KINDS = ("good", "refused", "reset", "split", "lost state", "stopped")
PERIOD_NS, WALL_NS = 20_000_000, 1_700_000_000_000_000_000


def bundle(name: str) -> Path:
    """A bundle that an older version wrote; nothing of the workstation is needed for it."""
    return FIXTURES / "bundles" / f"{name}.lnn"


@cache
def model_of(name: str) -> Model:
    """The same, made ready once."""
    return lnn_edge.load(bundle(name), backend="onnxruntime")


class Robot:
    """Makes ticks of a model, one after the other, whose samples are random.

    Attributes:
        ticks: All that it made.
        stream: The stream that it steps.
    """

    def __init__(self, model: Model, seed: int = 0, stream: Any = None) -> None:
        self.model, self.stream, self.ticks = model, stream or model.stream(), []
        self._rng = np.random.default_rng(seed)
        self._y: Any = None
        self._stopped = False

    def tick(self, kind: str = "good") -> Tick:
        """The next tick, of a kind of `KINDS`."""
        tick = self._tick(kind)
        self.ticks.append(tick)
        return tick

    def _tick(self, kind: str) -> Tick:
        x, dt_s = self.sample(), None
        if self.model.time.mode == "measured":
            dt_s = float(self._rng.uniform(*self.model.time.dt_range_s))
        if kind == "stopped":
            self._stopped = True
            return Tick(Status.STOPPED, self._y, None, 0, False, None, x, None, False)
        if self._stopped:
            self.stream.reset()
            self._stopped = False
        if kind == "refused":
            return Tick(Status.NOT_FINITE_INPUT, self._y, None, 0, False, None, "no sample", ValueError(), False)
        if kind == "lost state":
            self.stream.reset()
            return Tick(Status.STATE_OUT_OF_BOUNDS, self._y, None, 0, True, None, x, ValueError(), False)
        if kind == "reset":
            self.stream.reset()
        steps = 3 if kind == "split" else 1
        for _ in range(steps):
            raw = self.stream.step(x) if dt_s is None else self.stream.step(x, dt_s=dt_s)
        self._y = (
            {n: np.clip(v, -0.5, 0.5) for n, v in raw.items()} if isinstance(raw, dict) else np.clip(raw, -0.5, 0.5)
        )
        return Tick(Status.OK, self._y, raw, steps, kind == "reset", dt_s, x, None, True)

    def sample(self) -> Any:
        """A sample, float32; a dict of them if the model has several inputs."""
        blocks = () if self.model.manifest.unroll == 1 else (self.model.manifest.unroll,)
        found = {}
        for tensor in self.model.manifest.streamed:
            shape = (*tensor.shape[:1], *blocks, *tensor.shape[1:])
            values = self._rng.normal(size=shape[1:] if self.model.manifest.batch == 1 else shape)
            found[tensor.name] = values.astype(np.float32)
        return found if len(found) > 1 else next(iter(found.values()))


def put(recorder: Recorder, robot: Robot, tick: Tick, k: int) -> None:
    """Put a tick as a loop does."""
    state = robot.stream.snapshot() if recorder.wants_state else None
    recorder.put(tick, t_s=k * 0.02, mono_ns=k * PERIOD_NS, wall_ns=WALL_NS + k * PERIOD_NS, state=state)


def record(path: Any, model: Model, kinds: list[str] | tuple[str, ...], seed: int = 0, **options: Any) -> list[Tick]:
    """Record ticks of these kinds.

    Returns:
        The ticks.
    """
    robot = Robot(model, seed)
    with Recorder(path, model, **options) as recorder:
        for k, kind in enumerate(kinds):
            put(recorder, robot, robot.tick(kind), k)
    assert (recorder.written, recorder.dropped, recorder.error) == (len(kinds), 0, None)
    return robot.ticks


def read_back(path: Any, model: Model) -> tuple[np.ndarray, list[Start], bool]:
    """All ticks of a file, the states in it, and whether it is cut."""
    reading = Reading(path, model.manifest)
    parts = list(reading.parts())
    ticks = [part for part in parts if not isinstance(part, Start)]
    starts = [part for part in parts if isinstance(part, Start)]
    return np.concatenate(ticks) if ticks else np.zeros(0, [("tick", "<i8")]), starts, reading.cut
