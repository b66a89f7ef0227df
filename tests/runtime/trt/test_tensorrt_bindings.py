"""The fake's surface against NVIDIA's real Python bindings, which need no TensorRT and no GPU to be imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
import real_rtx
from bundles import ROOT
from fake_tensorrt.surface import FOR_RTX, VERSIONS, read

FOLDER = ROOT / "tests" / "support" / "fake_tensorrt"
# What this project calls; `fake_tensorrt.library` imitates the same.
CLASSES = (
    "Builder", "Dims", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILogger",
    "INetworkDefinition", "IProgressMonitor", "ITimingCache", "OnnxParser", "ParserError", "Runtime",
)  # fmt: skip


def installed() -> str | None:
    for package in ("tensorrt-cu13-bindings", "tensorrt-cu12-bindings"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libraries")
    major = (installed() or "").split(".")[0]
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = f"lib{name}.so.{major}"
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", folder / library, FOLDER / "stub.c"]
        subprocess.run(command, check=True)
    return folder


@pytest.mark.skipif(installed() is None, reason="NVIDIA's bindings are not installed; `make test` installs them")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_surface_is_that_of_the_real_bindings(libraries):
    ours = next(surface for surface in map(read, VERSIONS) if surface["version"] == installed())
    wanted = {name: ours["classes"][name] for name in CLASSES}
    check_surface("tensorrt_bindings", ours, wanted, LD_LIBRARY_PATH=str(libraries))


def check_surface(module, ours, wanted, **environment):
    """Compare what was recorded with what the bindings have, in a process of its own."""
    done = subprocess.run(
        [sys.executable, FOLDER / "real.py", module],
        input=json.dumps({name: list(members) for name, members in wanted.items()}),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    real = json.loads(done.stdout)
    assert real["version"] == ours["version"]
    for name, members in wanted.items():
        assert real["classes"][name] == members, name


def test_surface_of_tensorrt_for_rtx_is_that_of_the_real_bindings():
    """With their own libraries."""
    real_rtx.need_rtx()
    ours = read(FOR_RTX)
    wanted = {name: ours["classes"][name] for name in (*CLASSES, "IRuntimeCache", "IRuntimeConfig")}
    check_surface("tensorrt_rtx_bindings", ours, wanted)
