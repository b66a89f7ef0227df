"""The folder that tests write in: memory that holds it all and is given back, else a disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import in_memory
import pytest
from bundles import ROOT
from compilations import assert_gone

SUPPORT = str(ROOT / "tests/support")
MANY = 8 << 30


@pytest.mark.parametrize(
    ("flags", "free", "available", "serves"),
    [
        (0, MANY, MANY, True),
        (os.ST_NOEXEC, MANY, MANY, False),
        (os.ST_RDONLY, MANY, MANY, False),
        (0, 64 << 20, MANY, False),
        (0, MANY, 64 << 20, False),
    ],
    ids=["large", "nothing runs from it", "nothing is written to it", "small", "taken by programs"],
)
def test_memory_that_serves(flags, free, available, serves, monkeypatch, tmp_path):
    (tmp_path / "machine").write_text(f"MemTotal: {MANY >> 9} kB\nMemAvailable:   {available >> 10} kB\n")
    found = SimpleNamespace(f_flag=flags, f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(in_memory, "_MACHINE", tmp_path / "machine")
    monkeypatch.setattr(os, "statvfs", lambda _folder: found)
    assert in_memory.serves(tmp_path) == serves


def test_a_machine_without_it_has_its_disk(tmp_path):
    assert not in_memory.serves(tmp_path / "none")


def test_of_what_ended_the_newest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(in_memory, "_locks", [])
    runs = [in_memory.claimed(tmp_path) for _ in range(4)]
    for number, path in enumerate(runs):
        (path / "bundle").mkdir()
        os.utime(path, (number, number))
    in_memory.claimed(tmp_path)
    assert all(path.exists() for path in runs)
    for lock in in_memory._locks[:3]:  # the fourth runs on
        os.close(lock)
    in_memory.claimed(tmp_path)
    assert [path.exists() for path in runs] == [False, False, True, True]
    for lock in in_memory._locks[3:]:
        os.close(lock)


KILLED = """
import os, sys, time
from pathlib import Path
import in_memory
path = in_memory.claimed(Path(sys.argv[1]))
if os.fork() == 0:
    print(path, os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
time.sleep(60)
"""


def test_a_killed_one_has_it_as_long_as_a_fork_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(in_memory, "_locks", [])
    command = [sys.executable, "-c", KILLED, tmp_path]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": SUPPORT}
    ) as run:
        assert run.stdin
        assert run.stdout
        path, fork = run.stdout.readline().split()
        os.utime(path, (0, 0))
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert in_memory._left(tmp_path) == []
        run.stdin.close()
        assert_gone(int(fork))
    assert in_memory._left(tmp_path) == [Path(path)]


def test_what_is_not_its_own_stays(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "lnn.link").symlink_to(other)
    (tmp_path / "lnn.file").touch()
    (tmp_path / "lnn.folder").mkdir()
    (tmp_path / "pytest-of-root").mkdir()
    assert in_memory._left(tmp_path) == [tmp_path / "lnn.folder"]
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert in_memory._left(tmp_path) == []


def test_what_may_not_be_changed_is_removed(open_path, unprivileged):
    """Bundles that tests share are read-only, which only root may ignore."""
    own, other = open_path / "own", open_path / "other"
    for folder in (own, other):
        folder.mkdir()
        folder.chmod(0o777)
    with unprivileged():
        bundle = own / "run" / "m.lnn"
        bundle.mkdir(parents=True)
        (bundle / "model.onnx").touch()
        (bundle / "link").symlink_to(other)
        (bundle / "closed").mkdir(mode=0)
        bundle.chmod(0o555)
        in_memory.forget(own / "run")
    assert not list(own.iterdir())
    assert other.stat().st_mode & 0o777 == 0o777


CONFTEST = f"""
import sys
sys.path.insert(0, {SUPPORT!r})
from pathlib import Path
import in_memory
from in_memory import pytest_sessionfinish, pytest_sessionstart
in_memory.FOLDER = Path(__file__).parent / "memory"
in_memory.serves = lambda folder: folder.is_dir()
"""
TEST = """
def test_one(tmp_path):
    (tmp_path / "bundle").mkdir()
    assert LAST
"""


@pytest.fixture
def run(python, tmp_path, environment):
    """Run a test with what it has in memory, and tell what that leaves there and elsewhere."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    places = [tmp_path / "memory", tmp_path / "disk"]
    for place in places:
        place.mkdir()
    usual = {name: value for name, value in environment.items() if name != "PYTEST_DEBUG_TEMPROOT"}

    def ran(last, *options, **more):
        (tmp_path / "test_small.py").write_text(TEST.replace("LAST", last))
        command = ("-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider", *options, tmp_path / "test_small.py")
        own = {"TMPDIR": str(tmp_path / "disk"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # they take most of the time
        done = python(*command, cwd=tmp_path, env=usual | own | more)
        assert done.returncode == (last != "True"), done.stdout + done.stderr
        return [sorted(f"{path.relative_to(place)}" for path in place.rglob("bundle")) for place in places]

    return ran


@pytest.mark.parametrize("options", [(), ("-p", "xdist.plugin", "-n", "1")], ids=["one process", "xdist"])
def test_a_run_gives_it_back_unless_it_failed(options, run, tmp_path):
    assert run("True", *options) == [[], []]
    assert not list((tmp_path / "memory").iterdir())
    [[_], []] = run("False", *options)


def test_where_it_is_short_what_failed_goes_as_well(run, tmp_path):
    full = CONFTEST.replace("folder.is_dir()", "not list(folder.rglob('bundle'))")
    (tmp_path / "conftest.py").write_text(full)
    [[_], []] = run("False")
    [[_], []] = run("False")


@pytest.mark.parametrize("how", ["PYTEST_DEBUG_TEMPROOT", "--basetemp", "no memory"])
def test_another_folder(how, run, tmp_path):
    disk = str(tmp_path / "disk" / "own")
    if how == "no memory":
        (tmp_path / "memory").rmdir()
    (tmp_path / "disk" / "own").mkdir()
    options = [how, disk] if how == "--basetemp" else []
    more = {how: disk} if how == "PYTEST_DEBUG_TEMPROOT" else {}
    memory, on_disk = run("True", *options, **more)
    assert memory == []
    assert len(on_disk) == 1
    assert on_disk[0].startswith("own/") == (how != "no memory")
