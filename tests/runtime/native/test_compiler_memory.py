"""Answers of a compiler about itself: remembered for the next program, and asked again where they may be others."""

from __future__ import annotations

import os
import shutil

import pytest

from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.backends.build_cache import EngineCache, Kind
from lnn_edge.runtime.backends.native import compiler as compilers

KIND = Kind("native", "compiler", ".compiler")


@pytest.fixture
def asked(monkeypatch, compiler):
    """What was asked, with nothing remembered in this process."""
    found, whole = [], compilers._asked.__wrapped__
    monkeypatch.setattr(compilers, "_asked", lambda command, own: found.append(command) or whole(command, own))
    return found


@pytest.fixture
def find(tmp_path):
    return lambda: compilers.find_compiler(lambda: EngineCache(tmp_path / "cache", KIND))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A copy of this machine's compiler."""
    path = tmp_path / "own-cc"
    shutil.copy(shutil.which("cc"), path)
    monkeypatch.setenv("CC", str(path))
    return path


def test_it_is_asked_once(asked, find, own):
    first = find()
    assert find() == first
    assert first.command == (str(own),)
    assert first.identity
    assert len(asked) == 1
    os.utime(own, (1e9, 1e9))  # another version in its place
    find()
    assert len(asked) == 2


def test_other_arguments_are_another_compiler(asked, find, own, monkeypatch):
    find()
    monkeypatch.setenv("CC", f"{own} -O0")
    find()
    assert len(asked) == 2


def test_a_memory_that_is_spoilt_or_full_is_none(asked, find, own, tmp_path, monkeypatch):
    first = find()
    (kept,) = (tmp_path / "cache").glob("*.compiler")
    kept.write_bytes(b"another compiler")
    assert find() == first
    assert len(asked) == 2
    kept.unlink()

    def full(*_):
        raise BackendUnavailable("no space")

    monkeypatch.setattr(EngineCache, "write", full)
    assert find() == first
    assert len(asked) == 3


def test_a_script_is_asked_each_time(asked, find, own, tmp_path, monkeypatch):
    """As it may call another compiler tomorrow; and so is a command of which a part is one."""
    (tmp_path / "script").write_text(f'#!/bin/sh\nexec {own} "$@"\n')
    (tmp_path / "script").chmod(0o755)
    for command in (f"{tmp_path}/script", f"{own} {tmp_path}/script --version"):
        monkeypatch.setenv("CC", command)
        del asked[:]
        assert find() == find()
        assert len(asked) == 2
