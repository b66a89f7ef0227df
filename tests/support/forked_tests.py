"""Test processes that are forked from the one that collected: what is imported and collected costs a run once.

xdist starts processes anew, each of which imports torch and collects ten thousand tests by itself, and sends three
messages for each test. Here each process takes the next test of its share, and half of the largest share when its own
is empty, so that most fixtures of a file are made in one process; for each test it sends one message.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import mmap
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO, Any, NoReturn

import numpy as np
import pytest
from _pytest.junitxml import xml_key
from _pytest.warnings import catch_warnings_for_item

__all__ = ["pytest_addoption", "pytest_configure", "pytest_runtestloop"]

_REFUSED = {  # options, by the names that pytest gives them
    "tx": "-n", "usepdb": "--pdb", "trace": "--trace",
    "setupplan": "--setup-plan", "setuponly": "--setup-only", "setupshow": "--setup-show",  # each sets those behind it
}  # fmt: skip
_FINISH_S = 2.0  # for a test that runs when the run is to end
_TEAR_DOWN_S = 10.0  # for its fixtures, once it is interrupted


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forks", type=_count, default=0, metavar="N", help="run tests in N processes; see forked_tests")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: give 1 or more, or 0 for none but this")
    return int(text)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse what forked processes cannot do."""
    for option, name in _REFUSED.items():
        if config.option.forks and getattr(config.option, option, None):
            raise pytest.UsageError(f"--forks {config.option.forks} does not go with {name}: leave one of them out")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    option = session.config.option
    if not option.forks or option.collectonly or (session.testsfailed and not option.continue_on_collection_errors):
        return None
    _run_forked(session, option.forks)
    return True


class Shares:
    """Of tests, one for each process: where the next one is, where the share ends, and which one runs."""

    def __init__(self, tests: int, processes: int, file: IO[bytes]) -> None:
        self._file = file
        memory = np.frombuffer(mmap.mmap(-1, 24 * processes + 8), dtype=np.int64)
        self._shares, self._stopped = memory[:-1].reshape(processes, 3), memory[-1:]
        bounds = [tests * number // processes for number in range(processes + 1)]
        self._shares[:, :2] = list(pairwise(bounds))

    def take(self, own: int) -> int | None:
        """The number of the next test of a process, or None if there are no more."""
        with self._locked():
            if self._left()[own] == 0:
                longest = int(self._left().argmax())
                begins, ends = self._shares[longest, :2]
                middle = (begins + ends) // 2
                self._shares[longest, 1] = middle
                self._shares[own, :2] = middle, ends
            if self._left()[own] == 0:
                return None
            self._shares[own, 0] += 1
            return int(self._shares[own, 0]) - 1

    def following(self, own: int) -> int | None:
        """The number of a test that a process may take next, unless another one does; None if there are no more."""
        with self._locked():
            for share in (own, int(self._left().argmax())):
                if self._left()[share]:
                    return int(self._shares[share, 0])
        return None

    def runs(self, own: int, test: int) -> None:
        self._shares[own, 2] = test

    def running(self, own: int) -> int:
        """The number of the test that a process runs, or ran last."""
        return int(self._shares[own, 2])

    def stop(self) -> None:
        """Let each process end after the test that it runs."""
        self._stopped[:] = 1

    @property
    def stopped(self) -> bool:
        return bool(self._stopped[0])

    def _left(self) -> np.ndarray:
        return self._shares[:, 1] - self._shares[:, 0]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)  # the system unlocks what a process holds that is killed
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def _run_forked(session: pytest.Session, processes: int) -> None:
    """Run what was collected in so many processes, and report here what they report."""
    capture: Any = session.config.pluginmanager.getplugin("capturemanager")
    base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    capture.stop_global_capturing()  # into files whose positions forks would share
    sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        shares = Shares(len(session.items), processes, file)
        running: dict[Connection, tuple[int, int]] = {}
        try:
            for number in range(processes):
                here, there = Pipe(duplex=False)
                process = os.fork()
                if process == 0:
                    for connection in (here, *running):
                        connection.close()  # or nobody learns that who reads them is gone
                    _Worker(session, number, there, shares).run(base / f"worker-{number}")
                there.close()
                running[here] = number, process
            capture.start_global_capturing()
            capture.suspend_global_capture()  # as it is between tests, or nobody sees what is reported
            _gather(session, running, shares)
        finally:
            shares.stop()
            for connection in running:
                connection.close()
            _end([process for _, process in running.values()])


def _end(running: list[int]) -> None:
    """Wait for processes: a test that takes long is interrupted, fixtures that take long are killed."""
    try:
        if _ended(running, _FINISH_S):
            return
        for process in running:
            os.kill(process, signal.SIGINT)
        _ended(running, _TEAR_DOWN_S)
    finally:
        for process in running:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _ended(running: list[int], limit_s: float) -> bool:
    """Take out processes that end, until all have or it is too late."""
    end = time.monotonic() + limit_s
    while running and time.monotonic() < end:
        running[:] = [process for process in running if os.waitpid(process, os.WNOHANG) == (0, 0)]
        time.sleep(0.01)
    return not running


def _gather(session: pytest.Session, running: dict[Connection, tuple[int, int]], shares: Shares) -> None:
    """Report what processes send, until each has ended."""
    ran = 0
    while running:
        for connection in wait(list(running)):
            assert isinstance(connection, Connection)
            try:
                test, said, error = connection.recv()
            except EOFError:
                _died(session, shares, *running.pop(connection))
            if error:
                raise error
            if test is None:
                os.waitpid(running.pop(connection)[1], 0)
            else:
                ran += 1
            _report(session, test, said)
    if ran != len(session.items):
        _fail(session, f"{len(session.items) - ran} tests were not run")


def _died(session: pytest.Session, shares: Shares, number: int, process: int) -> NoReturn:
    code, test = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), session.items[shares.running(number)]
    _fail(session, f"a test process ended with {code} while it ran {test.nodeid}")


def _fail(session: pytest.Session, why: str) -> NoReturn:
    session.shouldfail = why  # which is printed at the end
    raise session.Failed(why)


def _report(session: pytest.Session, test: int | None, said: list[tuple[str, Any]]) -> None:
    """Say what a process says of the test with that number, or of what it does when there are no more."""
    hook, of = session.config.hook, {}
    if test is not None:
        of = {"nodeid": session.items[test].nodeid, "location": session.items[test].location}
        hook.pytest_runtest_logstart(**of)
    for name, what in said:
        if name == "report":
            report = hook.pytest_report_from_serializable(config=session.config, data=what)
            hook.pytest_runtest_logreport(report=report)
        elif name == "warning":
            text, category, *place = what.pop("warning_message")
            message = warnings.WarningMessage(text, type(category, (Warning,), {}), *place)
            hook.pytest_warning_recorded.call_historic(kwargs=what | {"warning_message": message})
        elif name == "attributes":
            session.config.stash[xml_key].node_reporter(what[0]).attrs.update(what[1])
        elif what not in (found := session.config.stash[xml_key].global_properties):  # that processes say alike
            found.append(what)
    if test is not None:
        hook.pytest_runtest_logfinish(**of)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


class _Worker:
    """A process of tests, seen from within: a plugin that gathers what pytest reports of a test."""

    def __init__(self, session: pytest.Session, number: int, connection: Connection, shares: Shares) -> None:
        self._session = session
        self._number = number
        self._connection = connection
        self._shares = shares
        self._said: list[tuple[str, Any]] = []

    def run(self, folder: Any) -> NoReturn:
        code = 1
        try:
            self._begin(folder)
            ended = self._ended(self._run_all)
            signal.signal(signal.SIGINT, lambda *_: None)  # from now on only the one that gathers has no patience
            ended = self._ended(self._tear_down) or ended
            self._send(None, ended)
            code = 0
        except BaseException:
            self._capture().stop_global_capturing()
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _begin(self, folder: Any) -> None:
        config = self._session.config
        os.register_at_fork(after_in_child=self._connection.close)  # or nobody learns that this one has ended
        os.environ["PYTEST_XDIST_WORKER"] = f"gw{self._number}"  # as programs know it
        folder.mkdir()
        config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(self)
        self._capture().start_global_capturing()

    def _capture(self) -> Any:
        return self._session.config.pluginmanager.getplugin("capturemanager")

    def _ended(self, do: Callable[[], None]) -> BaseException | None:
        """What ends the whole run, if that is what is done."""
        try:
            do()
        except pytest.exit.Exception as error:
            return error
        except KeyboardInterrupt:
            return pytest.exit.Exception(f"KeyboardInterrupt in {self._last.nodeid}", int(pytest.ExitCode.INTERRUPTED))
        return None

    def _run_all(self) -> None:
        items, listening = self._session.items, True
        while listening and not self._shares.stopped and (number := self._shares.take(self._number)) is not None:
            then = self._shares.following(self._number)
            self._tear_down(items[number])  # as another process may have taken what was to follow
            self._shares.runs(self._number, number)
            hook = self._last.config.hook
            hook.pytest_runtest_protocol(item=self._last, nextitem=None if then is None else items[then])
            listening = self._send(number)

    @property
    def _last(self) -> pytest.Item:
        """The test that it runs, or ran last."""
        return self._session.items[self._shares.running(self._number)]

    def _tear_down(self, then: pytest.Item | None = None) -> None:
        """Tear down what the last test had and the next one has not; what goes wrong is reported as the last one's."""
        state, config = self._session._setupstate, self._session.config
        if not state.stack:
            return
        item = self._last

        def down() -> None:
            noticed = catch_warnings_for_item(config, item.ihook, "runtest", item)
            with self._capture().item_capture("teardown", item), noticed:
                state.teardown_exact(then)

        call = pytest.CallInfo.from_call(down, "teardown", (pytest.exit.Exception, KeyboardInterrupt))
        if call.excinfo:
            report = item.ihook.pytest_runtest_makereport(item=item, call=call)
            item.ihook.pytest_runtest_logreport(report=report)

    def _send(self, test: int | None, ended: BaseException | None = None) -> bool:
        """Whether there is one who reads what is said of a test, or at the end."""
        said, self._said = self._said, []
        if xml := self._session.config.stash.get(xml_key, None):
            said += [("property", found) for found in xml.global_properties]
            xml.global_properties.clear()
        try:
            self._connection.send((test, said, ended))
        except BrokenPipeError:
            return False
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if xml := self._session.config.stash.get(xml_key, None):
            self._said.append(("attributes", (report.nodeid, dict(xml.node_reporter(report.nodeid).attrs))))
        data = self._session.config.hook.pytest_report_to_serializable(config=self._session.config, report=report)
        self._said.append(("report", data))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        told = warning_message  # of which no more is told: a class or a source may be one that cannot be sent
        parts = (str(told.message), told.category.__name__, told.filename, told.lineno, None, told.line)
        what = {"warning_message": parts, "when": when, "nodeid": nodeid, "location": location}
        self._said.append(("warning", what))
