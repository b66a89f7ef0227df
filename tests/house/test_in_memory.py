"""The folder that tests write in: memory that holds it all, else a disk."""

from __future__ import annotations

import os
from types import SimpleNamespace

import in_memory
import pytest

MANY = 8 << 30


@pytest.mark.parametrize(
    ("flags", "free", "serves"),
    [(0, MANY, True), (os.ST_NOEXEC, MANY, False), (os.ST_RDONLY, MANY, False), (0, 64 << 20, False)],
    ids=["large", "nothing runs from it", "nothing is written to it", "small"],
)
def test_memory_that_serves(flags, free, serves, monkeypatch, tmp_path):
    found = SimpleNamespace(f_flag=flags, f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _folder: found)
    assert in_memory.serves(tmp_path) == serves


def test_a_machine_without_it_has_its_disk(tmp_path):
    assert not in_memory.serves(tmp_path / "none")


def test_only_what_is_in_memory_is_removed(monkeypatch, tmp_path):
    on_disk, own = tmp_path / "disk" / "run", tmp_path / "memory" / "run"
    for folder in (on_disk, own):
        (folder / "m.lnn").mkdir(parents=True)
    monkeypatch.setattr(in_memory, "FOLDER", tmp_path / "memory")
    in_memory.forget(on_disk)
    in_memory.forget(own)
    assert (on_disk / "m.lnn").is_dir()
    assert not own.exists()
