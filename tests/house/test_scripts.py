"""The Makefile and the scripts around it: what they say of wrong arguments, and what they leave that did not end well.

Programs that take long are stood in for by scripts in front of `PATH`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time

import pytest
from bundles import ROOT
from compilations import assert_gone

BUILT_OF = ("constraints.txt", "hatch_build.py", "lnn_edge/runtime/compiled/step.c", "pyproject.toml")
TOUCHES_OUTPUT = 'while [ "$1" != -o ]; do shift; done; touch "$2"'
STAND_INS = dict.fromkeys(("dpkg", "grub-mkrescue", "mformat", "xorriso"), "true") | {
    "cpio": "cat > /dev/null",
    "gcc": TOUCHES_OUTPUT,
    "lnn-edge": 'mkdir -p "$4"; touch "$4/step.c"',
}


@pytest.fixture
def stand_ins(tmp_path):
    """Put scripts in front of `PATH`: the environment."""

    def put(scripts):
        folder = tmp_path / "stand-ins"
        folder.mkdir(exist_ok=True)
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/bash\n{script}\n")
            (folder / name).chmod(0o755)
        return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}

    return put


def interrupted(command, until, **options):
    """Interrupt all of a command as a terminal does, once a file is there: its exit code."""
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        while process.poll() is None and not until.exists():
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        return process.wait(60)


@pytest.mark.parametrize("script", ["avx512.sh", "aarch64.sh"])
@pytest.mark.parametrize("arguments", [[], ["build"]])
def test_arguments_that_are_missing(script, arguments):
    command = [ROOT / "tests/support" / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {command[0]} FOLDER ")


@pytest.fixture
def emulated(tmp_path, stand_ins):
    """What runs C on an emulated processor, with a script for Bochs: the command, and its options."""
    for path in ("system/bin/busybox", "system/boot/vmlinuz-1"):
        (tmp_path / "avx512" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "avx512" / path).touch()

    def made(bochs):
        command = [ROOT / "tests/support/avx512.sh", tmp_path / "avx512", "lnn-edge", "gait.lnn"]
        return command, {"env": stand_ins(STAND_INS | {"bochs": bochs}), "cwd": tmp_path}

    return made


@pytest.mark.parametrize(
    ("bochs", "code", "said"),
    [
        ("printf 'equal: 1e-7\\nequal: 1e-7\\n' > avx512/said.txt", 0, ""),
        ("printf 'equal: 1e-7\\ndiffers\\n' > avx512/said.txt", 1, "of 2 programs not all are equal"),
        ("exit 1", 1, "of 2 programs not all are equal; what Bochs says: "),
    ],
    ids=["equal", "different", "no start"],
)
def test_an_emulator(bochs, code, said, emulated):
    command, options = emulated(bochs)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)


def test_an_emulator_ends_when_it_is_interrupted(emulated, tmp_path):
    command, options = emulated("echo $$ > new; mv new started; exec sleep 60")
    assert interrupted(command, tmp_path / "started", **options) == -signal.SIGINT
    assert_gone(int((tmp_path / "started").read_text()))


def test_what_runs_behind_the_rest_ends_with_it(tmp_path, stand_ins):
    for path in (".ci/run", "tests/support/system_packages.py", "tests/support/system-packages.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    make = 'case "$1" in .venv/ready) ;; demo) : > demo; exec sleep 60 ;; *) echo "$*" >> behind; exec sleep 10 ;; esac'
    environment = stand_ins({"make": f"while [ ! -s behind -a $1 = demo ]; do sleep 0.01; done; {make}", "apt-get": ""})
    command = ["bash", ".ci/run"]
    code = interrupted(command, tmp_path / "demo", cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    assert code == -signal.SIGINT
    assert (tmp_path / "behind").read_text() == ".venv/ready-dev\n"


@pytest.fixture
def checkout(tmp_path):
    """A folder with a space in its name and what the Makefile looks at: `make` in there."""
    folder = tmp_path / "my projects"
    for path in BUILT_OF:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()

    def make(*arguments):
        command = ["make", "-f", ROOT / "Makefile", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)

    make.folder = folder
    return make


def test_a_space_in_the_name_of_the_checkout(checkout):
    done = checkout("-n", "device-lowest")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "LNN_EDGE_TEST_BUNDLES" in line]
    assert f"LNN_EDGE_TEST_BUNDLES={checkout.folder}/build/bundles" in shlex.split(line)


def test_a_folder_that_was_not_filled_is_filled_again(checkout):
    """`make bench-peers` needs one, and a folder is there once a file is."""
    python = checkout.folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    while_it_installs = 'while [ "$1" != --target ]; do shift; done; mkdir -p "$2"; echo installs; exit 1'
    python.write_text(f"#!/bin/bash\n{while_it_installs}\n")
    python.chmod(0o755)
    for name in ("ready", "ready-dev"):
        (checkout.folder / ".venv" / name).touch()
    for _ in range(2):
        done = checkout("build/peers")
        assert (done.returncode, "installs\n" in done.stdout) == (2, True), done.stderr
