"""Test processes that are forked: each test runs once, and what fails or dies is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from bundles import ROOT
from forked_tests import Shares

CONFTEST = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests/support")!r})
from forked_tests import pytest_addoption, pytest_configure, pytest_runtestloop
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
SESSION = """
import os, pytest

def say(*words):
    with open("said", "a") as file:
        file.write(" ".join([str(os.getpid()), *words]) + "\\n")

@pytest.fixture(scope="session", autouse=True)
def whole():
    say("session", "made")
    yield say
    say("session", "down")
"""
MODULE = """
import os, time, pytest

@pytest.fixture(scope="module", autouse=True)
def own(whole):
    whole(__name__, "made")
    yield
    whole(__name__, "down")

@pytest.mark.parametrize("number", range(2))
def test_one(number, whole):
    name, end = __name__[-1] + str(number), time.monotonic() + 30
    open(name, "w").close()
    while time.monotonic() < end and not os.path.exists({"a0": "a1", "a1": "c1", "c0": "c1"}.get(name, name)):
        time.sleep(0.01)
    whole(__name__, "ran")
"""
OWN = ("-o", "cache_dir=cache", "--basetemp", "base")  # two that sweep one place of old folders warn of each other
PYTEST = ("-m", "pytest", "-c", "/dev/null", *OWN, "-p", "no:hypothesispytest", "--forks", "3")


@pytest.fixture
def run(python, tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)

    def ran(last: str, *options: str):
        (tmp_path / "test_small.py").write_text(TESTS.replace("LAST", last))
        return python(*PYTEST, "-rA", *options, tmp_path, cwd=tmp_path)

    return ran


def test_each_runs_once_in_one_of_the_processes(run, tmp_path):
    done = run("pass")
    assert (done.returncode, done.stderr) == (0, "")
    assert "41 passed" in done.stdout
    lines = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted(int(number) for number, _ in lines) == list(range(40))
    assert {folder for _, folder in lines} <= {f"worker-{number}" for number in range(3)}
    assert len({folder for _, folder in lines}) > 1


def test_a_process_holds_back_no_test_while_it_runs_another(tmp_path):
    with (tmp_path / "lock").open("w") as file:
        shares = Shares(2, 3, file)
        assert (shares.take(2), shares.following(2)) == (1, 0)
        assert (shares.take(0), shares.following(0)) == (0, None)
        assert [shares.take(own) for own in range(3)] == [None] * 3


def test_fixtures_are_taken_down_though_another_process_takes_what_was_to_follow(python, tmp_path):
    """The second runs a1, which was to follow a0 in the first; this runs c1, and before it takes down what a has."""
    (tmp_path / "conftest.py").write_text(CONFTEST + SESSION)
    for module in "abc":
        (tmp_path / f"test_{module}.py").write_text(MODULE)
    done = python(*PYTEST, tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    made = {}
    for line in (tmp_path / "said").read_text().splitlines():
        process, module, what = line.split()
        stack = made.setdefault(process, [])
        if what == "made":
            assert module not in stack
            stack.append(module)
        elif what == "down":
            assert stack.pop() == module
        else:
            assert stack == ["session", module]
    assert made
    assert not any(made.values())


def test_what_fails_in_a_teardown_behind_a_test_is_told(python, tmp_path):
    """As before: the third process ends with c0, whose module and session it then takes down."""
    (tmp_path / "conftest.py").write_text(CONFTEST + SESSION)
    for module in "abc":
        bad = MODULE.replace('whole(__name__, "down")', 'print("said behind"); warnings.warn("bad end")')
        (tmp_path / f"test_{module}.py").write_text("import warnings\n" + bad)
    done = python(*PYTEST, "-W", "error", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "6 passed, 5 errors" in done.stdout
    assert "ERROR test_c.py::test_one[0] - UserWarning: bad end" in done.stdout
    reported = re.search("= ERRORS =.*", done.stdout, re.DOTALL)
    assert reported
    assert done.stdout.count("said behind\n") == reported[0].count("said behind\n") == 5


def test_a_failure_is_told_with_what_was_printed(run):
    done = run("assert 1 == 2")
    assert done.returncode == 1
    for said in ("1 failed, 40 passed", "assert 1 == 2"):
        assert said in done.stdout
    assert done.stdout.count("said before ") >= 4000
    assert re.search(r"[.F]{41}", done.stdout)  # as they ended


@pytest.mark.parametrize(("how", "code"), [("os.kill(os.getpid(), 9)", -9), ("os._exit(0)", 0), ("os._exit(3)", 3)])
def test_a_process_that_ends_is_a_failure_that_names_its_test(how, code, run):
    done = run(how)
    assert done.returncode != 0
    assert f"a test process ended with {code} while it ran test_small.py::test_last" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("pytest.exit('enough')", 2, "Exit: enough"),
        ("pytest.exit('enough', 7)", 7, "Exit: enough"),
        ("raise KeyboardInterrupt", 2, "Exit: KeyboardInterrupt in test_small.py::test_last"),
    ],
)
def test_a_test_may_end_the_run(what, code, said, run):
    done = run(what)
    assert (done.returncode, done.stderr) == (code, "")
    assert said in done.stdout


OUTLIVED = """run, end = os.getppid(), time.monotonic() + 30
    if os.fork():
        os.kill(os.getpid(), 9)
    while open(f"/proc/{run}/stat").read().split()[2] != "Z":  # who started it still reads what they print
        time.sleep(0.01)
        if time.monotonic() > end:
            open("late", "w").close()
            os._exit(0)
    os._exit(0)
"""


def test_a_process_that_ends_is_missed_though_one_that_it_forked_runs_on(run, tmp_path):
    done = run(OUTLIVED)
    assert "a test process ended with -9 while it ran test_small.py::test_last" in done.stdout
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize(
    "how",
    ["('mine', type('Mine', (UserWarning,), {}))", "_explicit('mine', ResourceWarning, 'x.py', 3, source=open('ran'))"],
    ids=["of a class that is nowhere", "of a file"],
)
def test_a_warning_of_any_kind_is_told(how, run):
    done = run(f"__import__('warnings').warn{how}", "-W", "always")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"(Mine|x.py:3: ResourceWarning): mine\n", done.stdout)
    assert "1 warning" in done.stdout


def test_what_is_recorded_of_all_tests_is_in_the_report(run, tmp_path):
    (tmp_path / "test_recording.py").write_text("""
def test_one(record_testsuite_property):
    record_testsuite_property("board", "Orin")

def test_other(record_testsuite_property):
    record_testsuite_property("board", "Orin")
""")
    assert run("pass", "--junitxml", "report.xml").returncode == 0
    assert (tmp_path / "report.xml").read_text().count('<property name="board" value="Orin" />') == 1


def test_an_attribute_that_a_test_records_is_in_the_report(run, tmp_path):
    (tmp_path / "test_recording.py").write_text("""
import pytest

@pytest.fixture
def late(record_xml_attribute):
    yield
    record_xml_attribute("ended", "well")

def test_one(record_xml_attribute, late):
    record_xml_attribute("board", "Orin")
""")
    assert run("pass", "--junitxml", "report.xml", "-o", "junit_family=xunit1").returncode == 0
    named = re.findall('<testcase.* name="test_one".*?>', (tmp_path / "report.xml").read_text())
    assert [(' board="Orin"' in own, ' ended="well"' in own) for own in named] == [(True, True)]


@pytest.mark.parametrize("option", ["-x", "--maxfail=1", "--stepwise"])
def test_no_more_are_run_once_enough_have_failed(option, run, tmp_path):
    (tmp_path / "test_failing.py").write_text("def test_fails():\n    assert 0\n")
    done = run("time.sleep(60)", option, "-k", "fails or last")
    assert done.returncode in (1, 2)
    assert "= 1 failed, 40 deselected in" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--forks", "-1"], "'-1' is no number of processes: give 1 or more, or 0 for none but this"),
        (["--forks", "many"], "'many' is no number of processes: give 1 or more, or 0 for none but this"),
        (["-n", "2"], "--forks 3 does not go with -n: leave one of them out"),
        (["--pdb"], "--forks 3 does not go with --pdb: leave one of them out"),
        (["--setup-show"], "--forks 3 does not go with --setup-show: leave one of them out"),
        (["--setup-only"], "--forks 3 does not go with --setup-only: leave one of them out"),
        (["--setup-plan"], "--forks 3 does not go with --setup-plan: leave one of them out"),
    ],
)
def test_what_it_cannot_do_is_refused(options, said, run):
    done = run("pass", *options)
    assert done.returncode == 4
    assert said in done.stderr


LONG = """
import os, pathlib, pytest, time

HERE = pathlib.Path(__file__).parent

def waited_for(name):
    while not (HERE / name).exists():
        time.sleep(0.01)

@pytest.fixture(scope="session", autouse=True)
def made():
    path = HERE / f"made-{os.getpid()}"
    path.touch()
    yield
    (HERE / f"down-{os.getpid()}").touch()
    waited_for("down")
    path.unlink()

@pytest.mark.parametrize("number", range(9))
def test_long(number):
    (HERE / f"began-{number}").touch()
    waited_for("go")
"""


class TestAnEndFromOutside:
    """What fixtures made is torn down, no test is begun any more, and no process is left."""

    @pytest.fixture
    def started(self, tmp_path, environment):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "test_long.py").write_text(LONG)
        (tmp_path / "down").touch()
        command = [sys.executable, *PYTEST, tmp_path]
        options = {"cwd": tmp_path, "env": environment, "text": True, "start_new_session": True}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
            while len(list(tmp_path.glob("began-*"))) < 3:
                time.sleep(0.01)
            yield process
            (tmp_path / "go").touch()

    @pytest.mark.parametrize("send", [os.kill, os.killpg])
    def test_an_interruption(self, send, started, tmp_path):
        send(started.pid, signal.SIGINT)
        said, _ = started.communicate(timeout=60)
        assert started.returncode == 2
        assert "KeyboardInterrupt" in said
        assert "Traceback" not in said
        self.nothing_is_left(tmp_path)

    def test_an_interruption_does_not_end_a_teardown(self, started, tmp_path):
        (tmp_path / "down").unlink()
        os.killpg(started.pid, signal.SIGINT)
        while len(list(tmp_path.glob("down-*"))) < 3:
            time.sleep(0.01)
        for path in tmp_path.glob("down-*"):
            os.kill(int(path.name.removeprefix("down-")), signal.SIGINT)
        (tmp_path / "down").touch()
        said, _ = started.communicate(timeout=60)
        assert "Traceback" not in said
        self.nothing_is_left(tmp_path)

    def test_the_death_of_the_one_that_reports(self, started, tmp_path):
        started.kill()
        started.wait(60)
        (tmp_path / "go").touch()
        started.communicate(timeout=60)  # which ends with the last process that may write
        self.nothing_is_left(tmp_path)

    def nothing_is_left(self, folder):
        assert not list(folder.glob("made-*"))
        assert len(list(folder.glob("began-*"))) == 3
