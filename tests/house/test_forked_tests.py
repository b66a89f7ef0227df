"""Test processes that are forked: each test runs once, and what fails or dies is told."""

from __future__ import annotations

import re

import pytest
from bundles import ROOT

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests/support")!r})
from forked_tests import run_forked

def pytest_runtestloop(session):
    run_forked(session, 3)
    return True
"""
TESTS = """
import os, time, pytest

@pytest.mark.parametrize("number", range(40))
def test_runs(number, tmp_path_factory):
    time.sleep(0.02 * (number < 5))
    with open("ran", "a") as file:
        file.write(f"{number} {tmp_path_factory.getbasetemp().name}\\n")

def test_last():
    print("said before " * 4000)  # more than a buffer
    LAST
"""


@pytest.fixture
def run(python, tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)

    def ran(last: str):
        (tmp_path / "test_small.py").write_text(TESTS.replace("LAST", last))
        return python("-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider", "-rA", tmp_path, cwd=tmp_path)

    return ran


def test_each_runs_once_in_one_of_the_processes(run, tmp_path):
    done = run("pass")
    assert (done.returncode, done.stderr) == (0, "")
    assert "41 passed" in done.stdout
    lines = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted(int(number) for number, _ in lines) == list(range(40))
    assert {folder for _, folder in lines} <= {f"worker-{number}" for number in range(3)}
    assert len({folder for _, folder in lines}) > 1


def test_a_failure_is_told_with_what_was_printed(run):
    done = run("assert 1 == 2")
    assert done.returncode == 1
    for said in ("1 failed, 40 passed", "assert 1 == 2"):
        assert said in done.stdout
    assert done.stdout.count("said before ") >= 4000
    assert re.search(r"[.F]{41}", done.stdout)  # as they ended


def test_a_process_that_dies_is_a_failure_that_names_its_test(run):
    done = run("os.kill(os.getpid(), 9)")
    assert done.returncode != 0
    assert "a test process ended with -9 while it ran test_small.py::test_last" in done.stdout + done.stderr
