"""Writers that are killed at random moments, beside readers that never stop.

As a program, `killed_writers.py BUNDLE FOLDER COUNT SEED` kills so many, in each way of writing by turns, and prints
as JSON how often each thing happened: what readers saw, what kills left, and in `wrong` what must not be. Bundles take
the place of each other by exchange or by renames, and a file that is written whole that of another. The disk is not
waited for: a kill loses nothing that was written, and so more of them fall between two calls of the system.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bundles import copied, resign

from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.disk import writing
from lnn_edge.bundle.disk.writing import staged_directory
from lnn_edge.files.staging import moved
from lnn_edge.files.whole import whole_file

__all__ = ["WAYS", "kill_writers"]

NAMES = ("one", "other")
WAYS = ("exchange", "renames", "file")
_LINES = 20_000  # of the file: more than goes to the disk in one call of the system
_READERS = 2
_LONGEST_S = 0.008  # until a kill: some turns of a writer
_BETWEEN_S = 0.0003


def _content(name: str) -> bytes:
    return f"{name}\n".encode() * _LINES


def _replace_bundle(place: Path, name: str, linked: bool) -> None:
    """With copies, or with links to the files, which takes next to no time: kills then fall between the renames."""
    with staged_directory(place, overwrite=True) as stage:
        for path in (place.parent.parent / f"{name}.lnn").iterdir():
            (os.link if linked else shutil.copyfile)(path, stage / path.name)


def _replace_file(place: Path, name: str, linked: bool) -> None:
    with whole_file(place) as file:
        file.write(_content(name))


def _read_file(place: Path) -> str:
    data = place.read_bytes()
    found = [name for name in NAMES if data == _content(name)]
    return found[0] if found else f"half a file, of {len(data)} bytes"


def _read_bundle(place: Path) -> str:
    return read_bundle(place).manifest.name


def _forked(run: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    return child


def _write(place: Path, replace: Callable[[Path, str, bool], None], linked: bool) -> NoReturn:
    for name in itertools.cycle(NAMES):
        replace(place, name, linked)
    raise AssertionError


def _watch(place: Path, read: Callable[[Path], str], end: int, result: int) -> None:
    """Read until `end` is closed, then write into `result` what was seen."""
    seen: Counter[str] = Counter()
    while not select.select([end], [], [], 0)[0]:
        seen[_seen(place, read)] += 1
    os.write(result, json.dumps(seen).encode())


def _seen(place: Path, read: Callable[[Path], str]) -> str:
    try:
        return read(place)
    except Exception as error:
        return repr(error)


def kill_writers(
    folder: Path, way: str, count: int, rng: random.Random, progress: Callable[[], object] = lambda: None
) -> Counter[str]:
    """Kill so many; the folder above has the two bundles.

    Returns:
        How often each thing happened; each key that begins with "wrong" is a fault.
    """
    folder.mkdir()
    usual = writing.exchange, writing.moved, os.fsync
    os.fsync = lambda _descriptor: None
    if way == "renames":
        writing.exchange, writing.moved = (lambda _one, _other: False), _slowly_moved
    try:
        return _killed(folder / ("y.csv" if way == "file" else "gait.lnn"), way, count, rng, progress)
    finally:
        writing.exchange, writing.moved, os.fsync = usual


def _slowly_moved(path: Path, place: Path) -> bool:
    """Wait between the two renames, or hardly a kill would come there."""
    if not place.exists():
        time.sleep(_BETWEEN_S)
    return moved(path, place)


def _killed(place: Path, way: str, count: int, rng: random.Random, progress: Callable[[], object]) -> Counter[str]:
    replace, read = (_replace_file, _read_file) if way == "file" else (_replace_bundle, _read_bundle)
    replace(place, NAMES[0], False)
    happened: Counter[str] = Counter()
    end, ends = os.pipe()
    result, results = os.pipe()
    readers = [_forked(lambda: (os.close(ends), _watch(place, read, end, results))) for _ in range(_READERS)]
    try:
        for _ in range(count):
            linked = rng.random() < 0.5
            writer = _forked(lambda linked=linked: (os.close(ends), _write(place, replace, linked)))
            time.sleep(rng.uniform(0, _LONGEST_S))
            os.kill(writer, signal.SIGKILL)
            if os.WTERMSIG(os.waitpid(writer, 0)[1]) != signal.SIGKILL:
                happened["wrong: a writer that ended by itself"] += 1
            happened["kills"] += 1
            happened["kills that left something to sweep"] += len(os.listdir(place.parent)) > place.exists()
            happened["kills that left no bundle"] += not place.exists()
            _count(happened, _seen(place, read), "after a kill")
            progress()
    finally:
        os.close(ends)
        for reader in readers:
            os.waitpid(reader, 0)
    for _ in readers:
        for seen, times in _next_object(result).items():
            _count(happened, seen, "by a reader", times)
    replace(place, NAMES[1], False)
    if os.listdir(place.parent) != [place.name]:
        happened[f"wrong: {len(os.listdir(place.parent)) - 1} left when the last is done"] += 1
    for descriptor in (end, result, results):
        os.close(descriptor)
    return happened


def _next_object(descriptor: int) -> dict[str, int]:
    text = b""
    while not text.endswith(b"}"):
        text += os.read(descriptor, 1)
    found: dict[str, int] = json.loads(text)
    return found


def _count(happened: Counter[str], seen: str, when: str, times: int = 1) -> None:
    happened[f"reads {when}" if seen in NAMES else f"wrong: {when} {seen}"] += times


def main(source: str, folder: str, count: str, seed: str) -> None:
    """See the module's docstring."""
    rng, root = random.Random(int(seed)), Path(folder)
    for name in NAMES:
        resign(copied(Path(source), root / f"{name}.lnn"), name=name)
    done = [0]

    def progress() -> None:
        done[0] += 1
        if done[0] % 20 == 0:
            print(f"{done[0]} of {count} kills", file=sys.stderr, flush=True)

    happened: Counter[str] = Counter()
    for k, way in enumerate(WAYS):
        happened += kill_writers(root / way, way, (int(count) + k) // len(WAYS), rng, progress)
    print(json.dumps(happened))


if __name__ == "__main__":
    main(*sys.argv[1:])
