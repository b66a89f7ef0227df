"""Programs that start warm: as those that a fresh interpreter runs, or refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from warm_python import warm_python

NAMES = "print(__name__, sorted(name for name in globals() if not name.startswith('__')))"


@pytest.fixture(scope="module")
def python(tmp_path_factory, environment):
    folder = tmp_path_factory.mktemp("warm") / ("far away" * 15)  # farther than the name of a socket may be
    folder.mkdir()
    warm_python(folder, os.getpid(), ("json",), environment)
    return folder / "python"


@pytest.fixture(scope="module")
def both(python, environment):
    """What the same program does in a fresh Python and in a warm one."""

    def run(*arguments, **options):
        options = {"env": environment, "capture_output": True, "text": True, "timeout": 60} | options
        return [subprocess.run([own, *arguments], check=False, **options) for own in (sys.executable, python)]

    return run


@pytest.mark.parametrize(
    "program",
    ["import sys; sys.exit('why')", "import sys; sys.exit(300)", "import os; os._exit(9)", "exit", "import json; pass"],
)
def test_it_ends_alike(program, both):
    fresh, warm = both("-c", program)
    assert (warm.returncode, warm.stdout, warm.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)


@pytest.mark.parametrize("way", ["signal 15", "signal 9", "KeyboardInterrupt"])
def test_it_ends_by_a_signal_as_in_a_shell(way, both):
    number = 2 if way == "KeyboardInterrupt" else int(way.split()[1])
    fresh, warm = both("-c", f"raise {way}" if number == 2 else f"import os; os.kill(os.getpid(), {number})")
    assert (fresh.returncode, warm.returncode) == (-number, 128 + number)


def test_it_finds_no_names_but_its_own(both):
    fresh, warm = both("-c", NAMES)
    assert warm.stdout == fresh.stdout == "__main__ []\n"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_it_writes_for_whom_the_umask_says(mask, both):
    fresh, warm = both("-c", "import os; print(oct(os.umask(0)))", umask=mask)
    assert warm.stdout == fresh.stdout == f"{oct(mask)}\n"


def test_its_folder_environment_and_signals(both, tmp_path, environment):
    program = "import os, signal; print(os.getcwd(), os.environ.get('MINE'), signal.getsignal(signal.SIGTERM))"
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)}
    fresh, warm = both("-c", program, cwd=tmp_path, env=environment | {"MINE": "1"}, **ignoring)
    assert warm.stdout == fresh.stdout == f"{tmp_path} 1 1\n"


@pytest.mark.parametrize("arguments", [[], ["-"], ["-I", "-c", "pass"], ["-X", "dev", "-c", "pass"]])
def test_what_it_does_not_take_is_refused(arguments, both):
    _, warm = both(*arguments, input="")
    assert warm.returncode == 1
    assert warm.stderr.startswith("a warm Python takes -W error, and then -c, -m or a file; start a fresh one for: ")


def test_settings_that_come_too_late_are_refused(both, environment):
    _, warm = both("-c", "pass", env=environment | {"PYTHONWARNINGS": "error"})
    assert (warm.returncode, warm.stderr) == (1, "PYTHONWARNINGS is too late for a warm Python: start a fresh one\n")


def test_it_dies_with_who_started_it(python):
    with subprocess.Popen([python, "-c", "while 1: print(1)"], stdout=subprocess.PIPE) as asked:
        assert asked.stdout
        asked.stdout.readline()
        asked.kill()
        while asked.stdout.read(1 << 16):  # until nobody may write any more
            pass


def test_none_waits_once_its_owner_has_ended(tmp_path, environment):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        warm_python(tmp_path, owner.pid, ("json",), environment)
        command = [tmp_path / "python", "-c", ""]
        assert subprocess.run(command, env=environment, check=False).returncode == 0
        owner.kill()
    end, code = time.monotonic() + 60, 0
    while code == 0 and time.monotonic() < end:
        code = subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False).returncode
    assert code == 1
