"""Recorders that are killed at random moments, and what they leave.

As a program, `killed_recorders.py FOLDER COUNT SEED` kills so many and prints as JSON how often each thing happened;
what begins with "wrong" must not be. A recording opens up to its last complete chunk and replays bit for bit, whatever
the moment; and no tick is missing that was written before it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from ticks import Robot, model_of, read_back

from lnn_edge.runtime.record import writer
from lnn_edge.runtime.record.recorder import Recorder
from lnn_edge.runtime.record.retrace import retrace

__all__ = ["kill_recorders"]

_LONGEST_S = 0.03  # until a kill: a dozen chunks
_POLL_S = 0.002


def kill_recorders(folder: Path, count: int, rng: random.Random) -> Counter[str]:
    """Kill so many, whose chunks follow each other so quickly that many kills fall into one."""
    happened: Counter[str] = Counter()
    model = model_of("fixed_2")  # before the forks, for all of them
    robot = Robot(model)
    ticks = [(robot.tick(), robot.stream.snapshot()) for _ in range(3000)]
    for k in range(count):
        path = folder / f"{k}.mcap"
        told, tells = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                _record(path, model, ticks, tells)
            finally:
                os._exit(1)
        os.close(tells)
        os.read(told, 1)  # the recorder is there
        time.sleep(rng.uniform(0, _LONGEST_S))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        happened[_left(path, model, _last(told))] += 1
        os.close(told)
        for one in folder.iterdir():
            one.unlink()
    return happened


def _record(path: Path, model: object, ticks: list, tells: int) -> None:
    """Record for ever, and tell how many ticks are in files."""
    writer._POLL_S, writer._CHUNK_S = _POLL_S, 0.0
    recorder = Recorder(path, model, rotate_bytes=60_000)
    told = -1
    for k in itertools.count():
        if k < len(ticks):
            tick, state = ticks[k]
            recorder.put(tick, mono_ns=k, wall_ns=k, state=state if recorder.wants_state else None)
        if recorder.written != told:
            told = recorder.written
            os.write(tells, told.to_bytes(4, "little"))
        if k % 10 == 0:
            time.sleep(0.0002)


def _last(told: int) -> int:
    """The last number that came whole; its first byte was read before."""
    data = b"\0"
    while part := os.read(told, 1 << 16):
        data += part
    return int.from_bytes(data[len(data) // 4 * 4 - 4 :][:4], "little") if len(data) >= 4 else 0


def _left(path: Path, model: object, written: int) -> str:
    files = sorted(path.parent.iterdir(), key=lambda one: (len(one.name), one.name))
    numbers, cuts = [], 0
    if not files:
        return "wrong: no file"
    for file in files:
        try:
            ticks, _, cut = read_back(file, model)
        except ValueError as error:
            return f"wrong: {error}"
        numbers += ticks["tick"].tolist()
        cuts += cut
    if numbers != list(range(len(numbers))) or len(numbers) < written:
        return f"wrong: {len(numbers)} ticks of {written}"
    for file in files:
        found = retrace(model, str(file), 0.0)
        if found.first is not None or found.unknown:
            return f"wrong: {file.name}: {found}"
    return "cut" if cuts else "complete"


def main() -> int:
    """See the module's docstring."""
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(kill_recorders(folder, count, random.Random(seed))))
    return 0


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())
