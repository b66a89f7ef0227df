"""One bundle in the place of another: what readers see meanwhile, what a kill leaves, and who may use what is new."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bundles import ROOT, copied, resign

from lnn_edge.bundle import directory
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.disk import exchange as exchanging
from lnn_edge.bundle.disk import reading, writing
from lnn_edge.bundle.disk.exchange import exchange
from lnn_edge.bundle.disk.writing import staged_directory
from lnn_edge.errors import BundleError
from lnn_edge.files.staging import OLD, PARTIAL, beside, lock

OTHER = "somewhere else"


@pytest.fixture
def other(cfc_bundle, tmp_path_factory) -> Path:
    """Another bundle than `cfc_bundle`, that can be told from it."""
    bundle = copied(cfc_bundle, tmp_path_factory.mktemp("other") / "other.lnn")
    return resign(bundle, name=OTHER)


@pytest.fixture
def no_exchange(monkeypatch) -> None:
    monkeypatch.setattr(writing, "exchange", lambda one, other: False)


def replace(target: Path, source: Path) -> None:
    with staged_directory(target, overwrite=True) as stage:
        for path in source.iterdir():
            shutil.copyfile(path, stage / path.name)


class Libc:
    """A C library whose `renameat2` fails."""

    def __init__(self, number):
        self._number = number

    def renameat2(self, *_arguments):
        ctypes.set_errno(self._number)
        return -1


@contextlib.contextmanager
def held(path: Path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert lock(descriptor)
        yield
    finally:
        os.close(descriptor)


# ---- exchange -------------------------------------------------------------------------------------------------------


def test_an_exchange_is_one_step(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "one", tmp_path / "other")
    assert (os.listdir(tmp_path / "one"), os.listdir(tmp_path / "other")) == (["other"], ["one"])


def test_an_exchange_with_nothing_is_none(tmp_path):
    (tmp_path / "one").mkdir()
    assert not exchange(tmp_path / "one", tmp_path / "other")
    assert os.listdir(tmp_path) == ["one"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, None])
def test_where_an_exchange_is_refused_bundles_are_renamed(cfc_copy, other, monkeypatch, number):
    library = object() if number is None else Libc(number)
    monkeypatch.setattr(exchanging.ctypes, "CDLL", lambda *_arguments, **_options: library)
    replace(cfc_copy, other)
    assert read_bundle(cfc_copy).manifest.name == OTHER
    assert os.listdir(cfc_copy.parent) == ["gait.lnn"]


def test_another_error_of_an_exchange_is_told(cfc_copy, other, monkeypatch):
    monkeypatch.setattr(exchanging.ctypes, "CDLL", lambda *_arguments, **_options: Libc(errno.EACCES))
    with pytest.raises(PermissionError) as caught:
        replace(cfc_copy, other)
    assert caught.value.filename == str(cfc_copy)
    assert read_bundle(cfc_copy).manifest.name == "gait"
    assert os.listdir(cfc_copy.parent) == ["gait.lnn"]


@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_readers_see_one_of_the_two_at_every_moment(cfc_copy, cfc_bundle, other, monkeypatch, way):
    """After each call of the system that the writer makes, one comes; where there is none it must wait."""
    readers = ThreadPoolExecutor(8)
    seen, writer = [], threading.current_thread()

    def looked_at(call):
        def looking(*arguments, **options):
            done = call(*arguments, **options)
            if threading.current_thread() is writer:
                there = cfc_copy.exists()
                assert there or way == "renames"
                seen.append(readers.submit(lambda: read_bundle(cfc_copy).manifest.name))
                if there:
                    seen[-1].result()
            return done

        return looking

    monkeypatch.setattr(writing, "exchange", looked_at(exchange) if way == "exchange" else lambda one, other: False)
    for name in ("rename", "mkdir", "fsync"):
        monkeypatch.setattr(os, name, looked_at(getattr(os, name)))
    with readers:
        for source in (other, cfc_bundle):
            replace(cfc_copy, source)
    assert {reader.result() for reader in seen} == {"gait", OTHER}
    assert len(seen) > 6


def test_two_writers_at_once_leave_one_whole_bundle(cfc_copy, other, no_exchange, monkeypatch):
    """The second comes while the first has the old bundle out of the way."""
    rename, turns = os.rename, []

    def crowded(path, target):
        rename(path, target)
        if target.name.endswith(OLD) and not turns:
            turns.append(target)
            replace(cfc_copy, other)

    monkeypatch.setattr(os, "rename", crowded)
    replace(cfc_copy, other)
    assert turns
    assert read_bundle(cfc_copy).manifest.name == OTHER
    assert os.listdir(cfc_copy.parent) == ["gait.lnn"]


def test_a_bundle_that_somebody_else_makes_meanwhile_is_left_alone(cfc_bundle, tmp_path):
    target = tmp_path / "gait.lnn"
    with pytest.raises(ValueError, match="was made by somebody else meanwhile"), staged_directory(target, False):
        copied(cfc_bundle, target)
    assert read_bundle(target).manifest.name == "gait"
    assert os.listdir(tmp_path) == ["gait.lnn"]


# ---- readers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 3])
def test_a_reader_whose_bundle_is_replaced_midway_has_all_of_one(cfc_copy, other, monkeypatch, after):
    """All files are open by then, so what it has is the old one."""
    turns, whole = [], directory._whole

    def meanwhile(file, most):
        turns.append(most)
        if len(turns) == after:
            replace(cfc_copy, other)
        return whole(file, most)

    monkeypatch.setattr(directory, "_whole", meanwhile)
    assert read_bundle(cfc_copy).manifest.name == "gait"
    assert read_bundle(cfc_copy).manifest.name == OTHER


def test_a_reader_that_loses_files_while_it_opens_them_opens_the_next(cfc_copy, other, monkeypatch):
    left, opened = [20], reading._opened_file

    def meanwhile(folder, name):
        if name == "model.onnx" and left[0]:
            left[0] -= 1
            replace(cfc_copy, other)
        return opened(folder, name)

    monkeypatch.setattr(reading, "_opened_file", meanwhile)
    assert read_bundle(cfc_copy).manifest.name == OTHER
    assert left == [0]


@pytest.mark.parametrize("changes", [3, 4])
def test_a_reader_that_meets_other_digests_starts_again_three_times(cfc_copy, cfc_bundle, monkeypatch, changes):
    """As where a program copies file by file into the folder of a bundle, one after the other."""
    left, whole = [changes], directory._whole

    def meanwhile(file, most):
        data = whole(file, most)
        if left[0] and data.startswith(b"{") and b"schema" in data[:30]:  # the manifest
            left[0] -= 1
            shutil.copyfile(cfc_bundle / "model.onnx", cfc_copy / ".new")
            (cfc_copy / ".new").rename(cfc_copy / "model.onnx")
            return data.replace(b"gait", b"Gait", 1)
        return data

    monkeypatch.setattr(directory, "_whole", meanwhile)
    if changes == 3:
        assert read_bundle(cfc_copy).manifest.name == "gait"
    else:
        with pytest.raises(BundleError, match="does not match its `digest`"):
            read_bundle(cfc_copy)
    assert left == [0]


def test_damage_is_told_at_once(cfc_copy, monkeypatch):
    starts, opened = [], reading.opened_bundle
    monkeypatch.setattr(directory, "opened_bundle", lambda root, names: starts.append(root) or opened(root, names))
    (cfc_copy / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx is missing"):
        read_bundle(cfc_copy)
    assert starts == [cfc_copy]


def test_a_load_waits_for_a_bundle_on_its_way(cfc_copy, monkeypatch):
    old = beside(cfc_copy, OLD)
    cfc_copy.rename(old)
    with held(old):
        turns = []
        monkeypatch.setattr(reading.time, "sleep", lambda _s: turns.append(1) or len(turns) < 3 or old.rename(cfc_copy))
        assert read_bundle(cfc_copy).manifest.name == "gait"
    assert len(turns) == 3


def test_a_load_waits_a_second_at_most(cfc_copy, monkeypatch):
    old = beside(cfc_copy, OLD)
    cfc_copy.rename(old)
    now = [0.0]
    monkeypatch.setattr(reading.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(reading.time, "sleep", lambda turn_s: now.__setitem__(0, now[0] + turn_s))
    with held(old), pytest.raises(BundleError, match="no bundle at"):
        read_bundle(cfc_copy)
    assert 1.0 < now[0] < 1.01


def test_a_load_does_not_wait_for_what_nobody_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(reading.time, "sleep", lambda _s: pytest.fail("waits"))
    for name in ("none.lnn", "none/none.lnn", "nul\0.lnn"):
        with pytest.raises(BundleError, match="no bundle at"):
            read_bundle(tmp_path / name)


@pytest.mark.parametrize("reader", ["load", "writer"])
def test_what_a_kill_between_two_renames_leaves_is_put_back(cfc_copy, reader):
    copied(cfc_copy, beside(cfc_copy, PARTIAL))
    cfc_copy.rename(beside(cfc_copy, OLD))
    if reader == "writer":
        with staged_directory(cfc_copy.with_name("walk.lnn"), False) as stage:
            (stage / "manifest.json").touch()
        assert sorted(os.listdir(cfc_copy.parent)) == ["gait.lnn", "walk.lnn"]
    assert read_bundle(cfc_copy).manifest.name == "gait"


def test_a_bundle_behind_a_link_is_put_back(cfc_copy):
    link = cfc_copy.with_name("current.lnn")
    link.symlink_to("gait.lnn")
    cfc_copy.rename(beside(cfc_copy, OLD))
    assert read_bundle(link).manifest.name == "gait"


def test_a_half_removed_bundle_is_never_put_back(cfc_copy, other, no_exchange, monkeypatch):
    """A kill while the old one is removed, and then somebody removes the new one."""
    monkeypatch.setattr("lnn_edge.files.staging._remove", lambda _path: None)
    replace(cfc_copy, other)
    monkeypatch.undo()
    assert len(os.listdir(cfc_copy.parent)) == 2
    shutil.rmtree(cfc_copy)
    with pytest.raises(BundleError, match="no bundle at"):
        read_bundle(cfc_copy)


# ---- links and rights -----------------------------------------------------------------------------------------------


def test_a_link_stays_a_link(cfc_copy, other):
    link = cfc_copy.with_name("current.lnn")
    link.symlink_to("gait.lnn")
    replace(link, other)
    assert link.is_symlink()
    assert read_bundle(cfc_copy).manifest.name == OTHER
    assert sorted(os.listdir(cfc_copy.parent)) == ["current.lnn", "gait.lnn"]


@pytest.fixture
def umask():
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775), (0, 0o777)])
def test_a_bundle_is_for_whom_the_umask_says(tmp_path, umask, mask, mode):
    umask(mask)
    with staged_directory(tmp_path / "gait.lnn", False) as stage:
        directory.write_synced(stage / "manifest.json", b"{}")
    assert (tmp_path / "gait.lnn").stat().st_mode & 0o777 == mode
    assert (tmp_path / "gait.lnn/manifest.json").stat().st_mode & 0o777 == mode & 0o666


@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_a_bundle_that_is_replaced_keeps_its_mode(cfc_copy, other, monkeypatch, umask, way):
    umask(0o022)
    if way == "renames":
        monkeypatch.setattr(writing, "exchange", lambda one, other: False)
    cfc_copy.chmod(0o2750)
    replace(cfc_copy, other)
    assert cfc_copy.stat().st_mode & 0o7777 == 0o2750


def test_a_bundle_that_nobody_may_write_to_can_be_replaced(cfc_bundle, open_path, unprivileged):
    """By who may write to the folder; nothing is left of it."""
    source = copied(cfc_bundle, open_path / "source.lnn")  # pytest's own folder is for one user only
    (open_path / "bundles").mkdir()
    (open_path / "bundles").chmod(0o777)
    with unprivileged():
        copied(source, open_path / "bundles/gait.lnn").chmod(0o555)
        for _ in range(2):
            replace(open_path / "bundles/gait.lnn", source)
        assert os.listdir(open_path / "bundles") == ["gait.lnn"]
    assert (open_path / "bundles/gait.lnn").stat().st_mode & 0o777 == 0o555


def test_reading_needs_no_right_to_list(cfc_bundle, open_path, unprivileged):
    bundle = copied(cfc_bundle, open_path / "gait.lnn")
    bundle.chmod(0o711)
    with unprivileged():
        assert read_bundle(bundle).manifest.name == "gait"


def test_reading_costs_no_time_where_nothing_is_replaced(cfc_bundle, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _s: pytest.fail("waits"))
    monkeypatch.setattr(reading, "leftovers", lambda _folder: pytest.fail("looks around"))
    read_bundle(cfc_bundle)


# ---- kills ----------------------------------------------------------------------------------------------------------


def test_fifty_kills_lose_nothing(cfc_bundle, tmp_path, python):
    """Beside readers that see one whole bundle or file at every moment; what is left is put back or swept."""
    done = python(ROOT / "tests/support/killed_writers.py", cfc_bundle, tmp_path, 50, 18)
    assert done.returncode == 0, done.stderr
    happened = json.loads(done.stdout)
    assert not [what for what in happened if what.startswith("wrong")], happened
    assert happened["kills"] == happened["reads after a kill"] == 50
    assert happened["reads by a reader"] > 100
    assert happened["kills that left something to sweep"] > 5
