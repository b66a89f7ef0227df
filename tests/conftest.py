"""Two small bundles, exported once per run, and what tests need to run programs of their own."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_tensorrt
import pytest
import torch
from bundles import INPUTS, ROOT, copied, small_cfc, small_ltc
from exports import proven, short_proofs

from lnn_edge import Feature

# What was imported stays; else each of the many collections that the simulated GPU asks for looks at all of it.
gc.freeze()
torch.set_num_threads(1)  # the models are tiny, and several test processes share the machine


@pytest.fixture(scope="session")
def cfc_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CfC with fixed time and a period; `gyro_z` has limits. Read-only: copy it before you change it."""
    inputs = [Feature("acc_x", "m/s2"), Feature("acc_y", "m/s2"), Feature("gyro_z", "rad/s", limits=(-8, 8))]
    options = {"period_s": 0.02, "inputs": inputs, "outputs": ["walk", "run"]}
    return proven(tmp_path_factory, small_cfc, "gait.lnn", **options)


@pytest.fixture(scope="session")
def ltc_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LTC with measured time. Read-only: copy it before you change it."""
    options = {"period_s": 0.1, "time": "measured", "inputs": INPUTS, "outputs": ["left", "right"]}
    return proven(tmp_path_factory, small_ltc, "drift.lnn", **options)


@pytest.fixture
def cfc_copy(cfc_bundle: Path, tmp_path: Path) -> Path:
    return copied(cfc_bundle, tmp_path / "gait.lnn")


@pytest.fixture
def ltc_copy(ltc_bundle: Path, tmp_path: Path) -> Path:
    return copied(ltc_bundle, tmp_path / "drift.lnn")


@pytest.fixture
def short_commands(monkeypatch) -> None:
    """`lnn-edge export` in this process with a short proof, whatever its `--steps`: for what is not about proofs."""
    short_proofs(monkeypatch, "lnn_edge.export.export_model")


@pytest.fixture
def gpu(monkeypatch, tmp_path) -> Iterator[Callable[..., fake_tensorrt.Fake]]:
    """Install TensorRT and a GPU that are not there: `gpu("10.3", integrated=False)`; see `fake_tensorrt.install`."""
    yield lambda version="10.3", **facts: fake_tensorrt.install(monkeypatch, version, tmp_path, **facts)
    fake_tensorrt.forget()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of a process that finds these sources, whether the package is installed or not."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def python(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a fresh interpreter; standard output and error come back as text."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        options = {"env": environment, "capture_output": True, "text": True, "timeout": 60} | options
        return subprocess.run(command, check=False, **options)  # type: ignore[call-overload, no-any-return]

    return run


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
