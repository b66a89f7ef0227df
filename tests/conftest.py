"""Two small bundles, exported once per run, and what tests need to run programs of their own."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import real_rtx
from bundles import ROOT, copied
from compilations import NO_COMPILER, compiling_once, counting, summary
from forked_tests import pytest_addoption, pytest_configure, pytest_runtestloop  # noqa: F401 - hooks
from hypothesis.configuration import set_hypothesis_home_dir
from in_memory import pytest_sessionfinish, pytest_sessionstart  # noqa: F401 - hooks
from shared_bundles import shared_bundle
from system_packages import require
from unsynced import nothing_waits_for_the_disk

import lnn_edge

if TYPE_CHECKING:
    import fake_tensorrt

    from lnn_edge.runtime.model import Model

WORKSTATION = find_spec("torch") is not None  # else the device half is tested alone
if WORKSTATION:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads of torch that wait leave the processors to others
    import torch

    torch.set_num_threads(1)  # the models are tiny, and several test processes share the machine
    # pytest adds its handlers to each logger that does not pass on what it is told, six times a test: torch has forty.
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.propagate = True


# Nothing that is imported or collected is garbage, and the collector would look at all of it again and again.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Let what programs start warm with be imported beside the collection, which keeps one core busy."""
    if WORKSTATION and session.config.option.forks and not session.config.option.collectonly:
        factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        started_warm(factory, "WORKSTATION", dict(os.environ))
        started_warm(factory, "DEVICE", environment_of_programs())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse names that differ between processes, which then cannot share the tests.

    Where the device half is tested alone, leave out what exports, and the simulated GPU, which reads ONNX graphs.
    """
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(
                f"{item.nodeid} has an address in its name, and each process another: give it `ids`"
            )
    if WORKSTATION:
        return
    left = [i for i in items if i.get_closest_marker("workstation") or {"gpu", "short_commands"} & set(i.fixturenames)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for what a test needs of the system."""
    for marker in item.iter_markers("needs"):
        require(*marker.args)


def pytest_collection_finish() -> None:
    """What was imported stays; else each of the many collections that the simulated GPU asks for looks at all of it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_cache_of_libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests compile is kept for the run and for all its workers, and compiled in half the time: none is timed.

    Only tests that ask for `compiler` find one.
    """
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        if (
            "ZIG_GLOBAL_CACHE_DIR" not in os.environ
        ):  # zig's own place: what it makes of a C library takes 8 s each time
            patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(usual / "zig"))
        if "MPLCONFIGDIR" not in os.environ:  # matplotlib's list of this machine's fonts takes it 2 s
            patch.setenv("MPLCONFIGDIR", str(usual / "matplotlib"))
        if "HYPOTHESIS_STORAGE_DIRECTORY" not in os.environ:  # its tables of Unicode take each process 2 s
            set_hypothesis_home_dir(usual / "hypothesis")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("CC", NO_COMPILER)
        patch.setattr("lnn_edge.runtime.backends.native.compiler.OPTIMIZATION", "-O1")
        patch.setattr("lnn_edge.runtime.backends.native.backend._ROWS_FLAGS", ("-std=gnu11",))
        patch.setattr("lnn_edge.runtime.backends.native.tuning.BUDGET_S", 0.0)
        counting(patch, folder)
        compiling_once(patch, folder)
        real_rtx.count_into(folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def disk() -> Iterator[None]:
    with nothing_waits_for_the_disk():
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Compilers cost a run more than most of what it tests."""
    factory = getattr(config, "_tmp_path_factory", None)  # of the process that gathers what workers report
    for said in (factory and summary(factory.getbasetemp()), factory and real_rtx.summary(factory.getbasetemp())):
        if said:
            terminalreporter.write_line(said)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own compiler: with it, loads and exports compile."""
    monkeypatch.delenv("CC", raising=False)


@pytest.fixture(scope="session")
def cfc_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CfC with fixed time and a period; `gyro_z` has limits. Read-only: copy it before you change it."""
    return shared_bundle(tmp_path_factory, "gait.lnn")


@pytest.fixture(scope="session")
def ltc_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LTC with measured time. Read-only: copy it before you change it."""
    return shared_bundle(tmp_path_factory, "drift.lnn")


@pytest.fixture
def cfc_copy(cfc_bundle: Path, tmp_path: Path) -> Path:
    return copied(cfc_bundle, tmp_path / "gait.lnn")


@pytest.fixture
def ltc_copy(ltc_bundle: Path, tmp_path: Path) -> Path:
    return copied(ltc_bundle, tmp_path / "drift.lnn")


@pytest.fixture
def short_commands(monkeypatch) -> None:
    """`lnn-edge export` and `verify --against` in this process with short proofs, for what is not about proofs."""
    from exports import short_proofs, short_verifications  # which need torch

    short_proofs(monkeypatch, "lnn_edge.export.export_model")
    short_verifications(monkeypatch)


@pytest.fixture
def gpu(monkeypatch, tmp_path) -> Iterator[Callable[..., fake_tensorrt.Fake]]:
    """Install TensorRT and a GPU that are not there: `gpu("10.3", integrated=False)`; see `fake_tensorrt.install`."""
    import fake_tensorrt  # it needs onnx

    yield lambda version="10.3", **facts: fake_tensorrt.install(monkeypatch, version, tmp_path, **facts)
    fake_tensorrt.forget()


@pytest.fixture(scope="session")
def loaded() -> Callable[[Path, str], Model]:
    """A model on a backend, loaded once in a run, as it is immutable; `native` by this machine's own compiler."""

    @cache
    def load(bundle: Path, backend: str) -> Model:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("CC", raising=False)
            return lnn_edge.load(bundle, backend=backend)

    return load


@pytest.fixture
def short_tmp_path(tmp_path: Path) -> Iterator[Path]:
    """`tmp_path` by a name that fits into a socket's address of 108 bytes, in other processes as well."""
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield Path(f"/proc/{os.getpid()}/fd/{folder}")
    os.close(folder)


def environment_of_programs() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of a process that finds these sources, installed or not; on one thread, as the models are tiny."""
    return environment_of_programs()


@pytest.fixture(scope="session")
def python(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a fresh interpreter; standard output and error come back as text."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        options = {"env": environment, "capture_output": True, "text": True, "timeout": 60} | options
        return subprocess.run(command, check=False, **options)  # type: ignore[call-overload, no-any-return]

    return run


def started_warm(factory: pytest.TempPathFactory, name: str, environment: dict[str, str]) -> dict[str, str]:
    """An environment whose `python` and `lnn-edge` start with what is there under this name; see `warm_python`.

    One process imports it for all workers of a run; where the device half is tested alone there is one.
    """
    import warm_python

    imported = getattr(warm_python, name)
    if not WORKSTATION:
        folder = factory.mktemp(name)
        warm_python.warm_python(folder, os.getpid(), imported, environment)
    else:
        from exports import locked, shared_folder  # which need torch

        folder = shared_folder(factory) / name
        with locked(folder.with_suffix(".lock")):
            if not folder.exists():
                folder.mkdir()
                whose = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
                warm_python.warm_python(folder, whose, imported, environment)
    return environment | {"PATH": f"{folder}{os.pathsep}{environment['PATH']}"}


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose `python` and `lnn-edge` start with torch imported, for whole programs."""
    return started_warm(tmp_path_factory, "WORKSTATION", dict(os.environ))


@pytest.fixture(scope="session")
def warm_device(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose `python` starts with what a device has imported, without torch.

    For what a program does. What is about its start, its death, or limits that it inherits takes a fresh one.
    """
    return started_warm(tmp_path_factory, "DEVICE", environment)


@pytest.fixture(scope="session")
def warm_and_short(warm: dict[str, str]) -> dict[str, str]:
    """`warm`, in which programs export with short proofs, for what is not about proofs."""
    from short_proofs import ASKED_FOR

    return warm | {ASKED_FOR: "1"}


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that any user may enter; pytest's own are for one user only."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def unprivileged() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A block in which even root may not read what its owner forbade."""

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return block
