"""Staged names: what is swept, and what is not."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from lnn_edge.files import staging
from lnn_edge.files.staging import OLD, PARTIAL, beside, claimed, leftovers, lock, staged, sweep


def opened(path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)


@pytest.mark.parametrize(
    "name",
    [
        ".y.csv.partial",
        ".y.csv.0123abcd.partial",
        ".y.csv.0123abcz.lnn-edge.partial",
        "y.csv.0123abcd.lnn-edge.partial",
        ".y.csv.0123abcd.lnn-edge.partial~",
    ],
)
def test_names_of_others_are_left_alone(tmp_path, name):
    (tmp_path / name).touch()
    sweep(tmp_path)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["y.csv", "gait.lnn", " \n", "gr\u00f6\u00dfe", os.fsdecode(b"\xff")])
def test_leftovers_tell_what_they_are_for(tmp_path, name):
    for kind in (PARTIAL, OLD):
        left = beside(tmp_path / name, kind)
        left.touch()
        assert list(leftovers(tmp_path)) == [(left, tmp_path / name, kind)]
        left.unlink()


def test_a_folder_that_cannot_be_listed_has_none(tmp_path):
    assert list(leftovers(tmp_path / "none")) == []


@pytest.mark.parametrize("make", ["file", "directory", "link"])
def test_leftovers_are_removed_but_for_links(tmp_path, make):
    left = beside(tmp_path / "y", PARTIAL)
    {"file": left.touch, "directory": left.mkdir, "link": lambda: left.symlink_to("y")}[make]()
    sweep(tmp_path)
    assert os.path.lexists(left) == (make == "link")


def test_where_there_are_no_locks_nothing_is_swept(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(staging.fcntl, "flock", refuse)
    beside(tmp_path / "y", PARTIAL).touch()
    with staged(tmp_path / "y", opened):
        pass
    assert len(os.listdir(tmp_path)) == 1


def test_what_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    turns = []

    def slow(path):
        descriptor = opened(path)
        turns.append(path)
        if len(turns) < 3:
            sweep(tmp_path)
            assert os.listdir(tmp_path) == []
        return descriptor

    with staged(tmp_path / "y", slow) as (name, _):
        sweep(tmp_path)
        assert [tmp_path / entry for entry in os.listdir(tmp_path)] == [name]
    assert len(turns) == 3
    assert os.listdir(tmp_path) == []


def test_what_took_its_place_is_not_swept(tmp_path):
    """A sweeper had it open before it was locked, and comes to the lock when it is no leftover any more."""
    left, entered = beside(tmp_path / "y", PARTIAL), threading.Event()
    left.write_text("mine")
    descriptor, open_ = os.open(left, os.O_RDONLY), os.open
    assert lock(descriptor)

    def opening(path, *arguments, **options):
        found = open_(path, *arguments, **options)
        os.rename(left, tmp_path / "y")
        left.write_text("another's")
        os.close(descriptor)
        entered.set()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", opening)
        sweep(tmp_path)
    assert entered.is_set()
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine", "another's"}


@pytest.mark.parametrize("failure", [KeyboardInterrupt, TimeoutError])
def test_a_signal_while_it_is_removed_leaves_nothing(tmp_path, monkeypatch, failure):
    remove, left = staging._remove, [failure]

    def interrupted(path):
        if left:
            raise left.pop()
        remove(path)

    monkeypatch.setattr(staging, "_remove", interrupted)
    with pytest.raises(failure), staged(tmp_path / "y", opened):
        pass
    assert os.listdir(tmp_path) == []


class TestClaims:
    def test_one_at_a_time(self, tmp_path):
        with claimed(tmp_path / "s") as ours, claimed(tmp_path / "t") as another:
            sweep(tmp_path)  # which leaves them alone
            with claimed(tmp_path / "s") as theirs:
                assert (ours, another, theirs) == (True, True, False)
            assert len(os.listdir(tmp_path)) == 2
        with claimed(tmp_path / "s") as ours:
            assert ours
        assert os.listdir(tmp_path) == []

    def test_what_a_kill_left_is_claimed_and_swept(self, tmp_path):
        def left():
            with claimed(tmp_path / "s"):
                (name,) = os.listdir(tmp_path)
            (tmp_path / name).touch()

        left()
        with claimed(tmp_path / "s") as ours:
            assert ours
        assert os.listdir(tmp_path) == []
        left()
        sweep(tmp_path)
        assert os.listdir(tmp_path) == []

    def test_what_is_swept_before_it_is_locked_is_claimed_again(self, tmp_path, monkeypatch):
        lock_, tries = staging.fcntl.flock, []

        def slow(descriptor, how):
            tries.append(how)
            if len(tries) == 1:
                os.unlink(tmp_path / os.listdir(tmp_path)[0])
            if len(tries) == 2:  # a sweeper has it
                raise BlockingIOError
            lock_(descriptor, how)

        monkeypatch.setattr(staging, "_CLAIM_REST_S", 0.0)
        monkeypatch.setattr(staging.fcntl, "flock", slow)
        with claimed(tmp_path / "s") as ours:
            assert ours
        assert (len(tries), os.listdir(tmp_path)) == (3, [])

    def test_where_there_are_no_locks_everybody_may(self, tmp_path, monkeypatch):
        def refuse(*_arguments):
            raise OSError(errno.ENOLCK, "no locks")

        monkeypatch.setattr(staging.fcntl, "flock", refuse)
        with claimed(tmp_path / "s") as one, claimed(tmp_path / "s") as other:
            assert (one, other, os.listdir(tmp_path)) == (True, True, [])
