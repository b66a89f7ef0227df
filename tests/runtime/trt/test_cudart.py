"""The CUDA adapter against the real libraries: cuda-bindings and libcudart are here, only the driver is not."""

from __future__ import annotations

import ctypes
import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import nvidia
import pytest
from bundles import ROOT
from cuda.bindings import runtime
from fake_tensorrt import cuda, forget
from fake_tensorrt.machine import Machine, Misuse, Work

from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.backends.trt import cudart
from lnn_edge.runtime.backends.trt.device import open_device


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


without_driver = pytest.mark.skipif(has_driver(), reason="there is a driver here, so nothing is missing")


@pytest.fixture
def fresh():
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def libcudart_path():
    (path,) = (p for folder in nvidia.__path__ for p in Path(folder).rglob("libcudart.so.*"))
    return path


@pytest.fixture
def libcudart(monkeypatch, fresh, libcudart_path):
    """The real library through ctypes, as where no wheel of cuda-bindings exists."""
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(cudart, "_LIBRARIES", (str(libcudart_path),))
    return cudart.open_cudart()


@pytest.mark.parametrize("name", cudart.SIGNATURES)
def test_signature_is_that_of_the_installed_package(name):
    letters = cudart.SIGNATURES[name]
    inputs = [letter for letter in letters if letter.islower()]
    parameters = cuda.parameters(name)
    assert len(inputs) == len(parameters)
    for letter, (_, kind) in zip(inputs, parameters, strict=True):
        if kind is None:
            assert letter == "p"  # an address or a handle
        else:
            assert letter in "iusl"
    assert any(letter.isupper() for letter in letters) == (name in cuda.RESULTS)


@pytest.mark.parametrize("name", cudart.CONSTANTS)
def test_constant_is_that_of_the_installed_package(name):
    enum, value = cudart.CONSTANTS[name]
    assert int(getattr(getattr(runtime, enum), name)) == value


@pytest.mark.parametrize("name", cudart.FLAGS)
def test_flag_is_that_of_the_installed_package(name):
    assert int(getattr(runtime, name)) == cudart.FLAGS[name]


def test_codes_are_those_of_the_installed_package():
    errors = runtime.cudaError_t
    assert int(errors.cudaErrorNotReady) == cudart.NOT_READY
    from lnn_edge.runtime.backends.trt import device

    codes = {
        "_NO_DEVICE": errors.cudaErrorNoDevice,
        "_INSUFFICIENT_DRIVER": errors.cudaErrorInsufficientDriver,
        "_OUT_OF_MEMORY": errors.cudaErrorMemoryAllocation,
    }
    for name, value in codes.items():
        assert getattr(device, name) == int(value)


def test_package_is_preferred(fresh):
    assert cudart.open_cudart().name == "cuda-bindings"


@without_driver
def test_the_package_answers(fresh):
    library = cudart.open_cudart()
    assert library.call("cudaRuntimeGetVersion") >= 13000
    with pytest.raises(cudart.CudaError, match="cudaMalloc failed with CUDA error 35: CUDA driver version"):
        library.call("cudaMalloc", 256)
    assert library.device_name.__name__ == "device_name"
    with pytest.raises(cudart.CudaError, match="cudaGetDeviceProperties failed with CUDA error 35"):
        library.device_name()


@without_driver
def test_libcudart_answers(libcudart):
    assert libcudart.name.endswith(".so.13")
    assert libcudart.call("cudaRuntimeGetVersion") >= 13000
    assert libcudart.call("cudaDriverGetVersion") == 0
    with pytest.raises(cudart.CudaError, match="cudaMalloc failed with CUDA error 35: CUDA driver version"):
        libcudart.call("cudaMalloc", 256)
    with pytest.raises(cudart.CudaError, match="cudaGetDeviceProperties failed with CUDA error 35"):
        libcudart.device_name()


@pytest.mark.parametrize("name", cudart.SIGNATURES)
def test_libcudart_has_every_function(name, libcudart):
    assert callable(libcudart.functions[name])


@without_driver
def test_no_driver_here(libcudart):
    with pytest.raises(BackendUnavailable, match="there is no CUDA driver on this machine"):
        open_device()


@without_driver
def test_no_driver_through_the_package(fresh):
    with pytest.raises(BackendUnavailable, match="there is no CUDA driver on this machine"):
        open_device()


def test_package_that_looks_for_the_driver_while_imported(monkeypatch, fresh):
    """cuda-bindings up to 12.6."""

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "cuda.bindings.runtime":
                raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.delitem(sys.modules, "cuda.bindings.runtime")
    monkeypatch.delattr(sys.modules["cuda.bindings"], "runtime")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(BackendUnavailable, match=r"the CUDA driver cannot be used: Failed to dlopen libcuda.so.1"):
        cudart.open_cudart()


@pytest.fixture(params=["bindings", "libcudart"])
def device(request, monkeypatch, fresh):
    """The adapter on a machine that is not there, by both ways."""
    machine = Machine(integrated=False)
    if request.param == "bindings":
        monkeypatch.setattr(sys.modules["cuda.bindings"], "runtime", cuda.bindings(machine, cudart.SIGNATURES))
    else:
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        monkeypatch.setattr(ctypes, "CDLL", lambda path: cuda.Library(machine))
    opened = open_device()
    opened.machine = machine
    return opened


def test_facts(device):
    facts = device.facts
    assert (facts.name, facts.compute_capability, facts.multiprocessors) == ("Orin", "8.7", 8)
    assert (facts.integrated, facts.driver, facts.runtime) == (False, "12.6", "12.6")


@pytest.mark.parametrize("wait", ["spin", "block", "poll"])
def test_there_and_back(wait, device):
    stream, host, memory = device.cuda_stream(wait), device.host_memory(512), device.memory(512)
    assert not host.array.any()
    host.array[...] = np.arange(128)
    stream.copy(memory.address, host.host_address, 512, "h2d")
    stream.wait()
    host.array[...] = 0
    stream.copy(host.host_address, memory.address, 512, "d2h")
    assert not host.array.any()  # nothing happens before somebody waits
    stream.wait()
    np.testing.assert_array_equal(host.array, np.arange(128))


def test_capture_launch_and_time(device):
    stream, host, memory = device.cuda_stream("spin"), device.host_memory(256), device.memory(256)
    graph = stream.capture(lambda: stream.copy(memory.address, host.host_address, 256, "h2d"))
    start, end = stream.event(), stream.event()
    stream.record(start)
    stream.launch(graph)
    stream.record(end)
    stream.wait()
    assert stream.elapsed_us(start, end) > 0
    stream.free_graph(graph)
    with pytest.raises(Misuse, match="does not exist"):
        stream.launch(graph)


def test_forbidden_call_in_a_capture(device):
    stream = device.cuda_stream("spin")
    with pytest.raises(cudart.CudaError, match="cudaMalloc failed with CUDA error 900"):
        stream.capture(lambda: device.memory(256))
    with pytest.raises(cudart.CudaError, match="cudaStreamEndCapture failed with CUDA error 901"):
        stream.capture(lambda: device.machine.call("cudaMalloc", 256))
    stream.wait()


def test_memory_frees_itself(device):
    def use():
        device.memory(256), device.host_memory(256), device.cuda_stream("spin")

    use()
    assert not device.machine.memory
    assert not device.machine.streams


def test_full_memory(device):
    device.machine.limit = 1024
    with pytest.raises(cudart.CudaError, match="cudaMalloc failed with CUDA error 2: out of memory"):
        device.memory(4096)


def test_errors_do_not_surface_twice(device):
    """A reported error is also taken from CUDA's memory of the last one."""
    device.machine.failing["cudaMalloc"] = 2
    with pytest.raises(cudart.CudaError):
        device.memory(256)
    assert device.machine.calls[-1] == "cudaGetLastError"


@without_driver
def test_benchmark_without_a_gpu(python):
    done = python(ROOT / "benchmarks" / "gpu.py")
    assert done.returncode == 5
    assert done.stderr.startswith("gpu.py: there is no CUDA driver on this machine")


def test_libcudart_that_lacks_a_function(monkeypatch, fresh):
    class Old:
        def __getattr__(self, name):
            if name == "cudaGraphInstantiateWithFlags":
                raise AttributeError(name)
            return ctypes.CDLL(None).printf

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(ctypes, "CDLL", lambda path, whole=ctypes.CDLL: Old() if path else whole(path))
    with pytest.raises(BackendUnavailable, match=r"has no cudaGraphInstantiateWithFlags: it is older than 11.8"):
        cudart.open_cudart()


class TestBenchmark:
    """Its checks and its loop, with the kernel computed by NumPy; the figures are the fake's and mean nothing."""

    @pytest.fixture
    def run(self, device, monkeypatch, capsys):
        monkeypatch.syspath_prepend(ROOT / "benchmarks")
        monkeypatch.delitem(sys.modules, "kernel_engine", raising=False)
        kernel_engine = importlib.import_module("kernel_engine")

        def at(address):
            return device.machine.view(address, 4 * kernel_engine.UNITS, "kernel").view(np.float32)

        def launch(stream, x, h, y, after):
            def compute():
                at(y)[...], at(after)[...] = kernel_engine.expected(at(x).copy(), at(h).copy())

            device.machine.queue(stream, Work("kernel", compute))
            return 0

        def benchmark(code=0, **changes):
            for name, value in ({"load_kernel": lambda: launch} | changes).items():
                monkeypatch.setattr(kernel_engine, name, value)
            monkeypatch.setattr(sys, "argv", ["gpu.py", "--launches", "20"])
            assert runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"))["main"]() == code
            return capsys.readouterr().out

        yield benchmark
        sys.modules.pop("kernel_engine", None)

    def test_every_way_to_run_a_step(self, run, device):
        out = run()
        ways = 12 if device.facts.integrated else 24
        assert out.count("bit for bit: yes") == ways
        assert out.count(": yes") == 4 + ways
        rows = [
            line for line in out.splitlines() if re.match(r"(mapped|copied), graph .* +\d", line) and "yes" not in line
        ]
        assert len(rows) == ways
        assert re.search(r"^GPU Compute Time \(GPU events in the graph\) +\d", out, flags=re.M)
        assert re.search(r"^tensorrt: no engine is run here: .+", out, flags=re.M)
        assert re.search(r"^tensorrt-rtx: no engine is run here: .+", out, flags=re.M)
        assert out.endswith("\nall checks passed\n")

    def test_wrong_steps_are_told(self, run):
        out = run(1, load_kernel=lambda: lambda *_: 0)  # a kernel that computes nothing
        assert re.search(r"graph on, copy, spin: 20 .* NO: RuntimeError: .*: step 0 gave other values", out)
        assert "bit for bit: yes" not in out
        assert re.search(r"^24 FAILED: ", out, flags=re.M)

    def test_kernel_that_is_refused_is_told(self, run):
        out = run(1, load_kernel=lambda: lambda *_: 201)
        assert "the parts of a step NO: BackendUnavailable: " in out
        assert "cuLaunchKernel failed with CUDA error 201" in out

    def test_one_thing_that_fails_hides_nothing_else(self, run, device):
        device.machine.failing["cudaEventRecordWithFlags"] = 1
        out = run(1)
        assert out.count("bit for bit: yes") == 24
        assert out.endswith("\n1 FAILED: the parts of a step\n")


@pytest.mark.parametrize("architecture", ["sm_75", "sm_87", "sm_90", "sm_110"])
def test_kernel_assembles(architecture, tmp_path, monkeypatch):
    """By NVIDIA's own assembler, for Jetsons and workstations of today."""
    (ptxas,) = (path for folder in nvidia.__path__ for path in Path(folder).rglob("bin/ptxas"))
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    source = tmp_path / "step.ptx"
    source.write_text(importlib.import_module("kernel_engine").PTX)
    command = [ptxas, f"-arch={architecture}", source, "-o", tmp_path / "step.cubin"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
