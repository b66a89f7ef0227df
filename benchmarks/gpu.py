"""The CUDA adapter on a real GPU: memory, copies, capture, replay, waits, and the latency of launch-and-wait.

    python benchmarks/gpu.py [--launches 5000] [--bundle NAME.lnn]

Not part of `make test`, and **not yet run on hardware**: no GPU was at hand when it was written. It needs a CUDA
driver and cuda-bindings or libcudart (`pip install 'lnn-edge[tensorrt]'`), and no TensorRT: a chain of small device
copies stands in its place inside the graph, so the figures are the floor under which no step can go. No kernel runs;
that a kernel reads mapped host memory, as the step does on integrated GPUs, is not shown here. With `--bundle` it also
steps that bundle through onnxruntime's CUDA provider, where onnxruntime-gpu is installed, on a state that stays on the
GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.gpu.cudart import CudaError
from lnn_edge.runtime.gpu.device import Device, open_device
from lnn_edge.runtime.gpu.streams import Stream
from lnn_edge.runtime.latency import Distribution, distribution

NBYTES = 4096  # as the state of a thousand neurons
KERNELS = 8  # device copies in the chain, in the place of an engine's kernels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--launches", type=int, default=5000, help="launches per figure (default 5000)")
    parser.add_argument("--bundle", help="also step this bundle through onnxruntime's CUDA provider")
    arguments = parser.parse_args()
    try:
        device = open_device()
    except BackendUnavailable as error:
        sys.stderr.write(f"gpu.py: {error}\n")
        return 5
    print(f"{device.facts}\nthrough {device.cudart.name}")
    for check in (check_memory, check_mapped, check_capture, check_refused_capture):
        check(device)
        print(f"{check.__doc__.splitlines()[0]} yes")
    print(f"\n{arguments.launches} launches each, the GPU idle before every one; microseconds")
    print(f"{'':34}{'min':>9}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'max':>9}")
    for wait in ("spin", "block", "poll"):
        for graph in (True, False):
            label = f"{'graph' if graph else 'plain'}, {KERNELS} copies, {wait}"
            show(label, launch_and_wait(device, wait, graph, arguments.launches))
    if arguments.bundle:
        show("onnxruntime CUDA provider", step_with_onnxruntime(arguments.bundle, arguments.launches))
    return 0


def show(label: str, figures: Distribution) -> None:
    picks = [figures.min_us, *figures.percentiles_us.values(), figures.max_us]
    print(f"{label:34}" + "".join(f"{'-' if value is None else format(value, '.1f'):>9}" for value in picks))


def check_memory(device: Device) -> None:
    """Device memory keeps what was copied into it:"""
    stream, host, memory = device.stream("spin"), device.host_memory(NBYTES), device.memory(NBYTES)
    values = np.random.default_rng(1).standard_normal(NBYTES // 4).astype(np.float32)
    host.array[...] = values
    stream.copy(memory.address, host.host_address, NBYTES, "h2d")
    stream.wait()
    host.array[...] = 0
    stream.copy(host.host_address, memory.address, NBYTES, "d2h")
    stream.wait()
    require(np.array_equal(host.array, values), "the copy came back changed")
    require(memory.address % 256 == 0 and host.address % 256 == 0, "memory is not aligned to 256 bytes")


def check_mapped(device: Device) -> None:
    """Mapped host memory has an address on the GPU that copies take:"""
    stream, host, memory, back = chain(device, "spin")
    host.array[...] = 3.5
    stream.copy(memory[0].address, host.host_address, NBYTES, "h2d")
    stream.copy(back.host_address, memory[0].address, NBYTES, "d2h")
    stream.wait()
    require(bool((back.array == 3.5).all()), "the copy from mapped memory came back changed")
    require(host.address != 0, "the mapped memory has no address on the GPU")


def check_capture(device: Device) -> None:
    """A graph replays its copies, and reads what is there at each launch:"""
    stream, host, memory, back = chain(device, "spin")
    graph = stream.capture(issue(stream, host, memory, back))
    for k in range(3):
        host.array[...] = k
        stream.launch(graph)
        stream.wait()
        require(bool((back.array == k).all()), f"launch {k} gave {back.array[:4]}")
    stream.free_graph(graph)


def check_refused_capture(device: Device) -> None:
    """A call that is forbidden in a capture is refused, and the stream goes on working:"""
    stream, host, memory, back = chain(device, "spin")
    try:
        stream.capture(stream.wait)
    except CudaError as error:
        require(error.code in (900, 901), f"expected CUDA error 900 or 901, got {error}")
    else:
        require(False, "a capture took a wait")
    host.array[...] = 7
    issue(stream, host, memory, back)()
    stream.wait()
    require(bool((back.array == 7).all()), "the stream does not work after a refused capture")


def chain(device: Device, wait: str):
    return (
        device.stream(wait),
        device.host_memory(NBYTES),
        [device.memory(NBYTES) for _ in range(KERNELS)],
        device.host_memory(NBYTES),
    )


def issue(stream: Stream, host, memory, back) -> Callable[[], None]:
    """Queue: in, along the chain, out."""

    def run() -> None:
        stream.copy(memory[0].address, host.host_address, NBYTES, "h2d")
        for source, target in pairwise(memory):
            stream.copy(target.address, source.address, NBYTES, "d2d")
        stream.copy(back.host_address, memory[-1].address, NBYTES, "d2h")

    return run


def launch_and_wait(device: Device, wait: str, graph: bool, launches: int) -> Distribution:
    stream, host, memory, back = chain(device, wait)
    queue = issue(stream, host, memory, back)
    captured = stream.capture(queue) if graph else None

    def step() -> None:
        stream.launch(captured) if graph else queue()
        stream.wait()

    figures = timed(step, launches)
    if graph:
        stream.free_graph(captured)
    return figures


def timed(step: Callable[[], object], count: int) -> Distribution:
    for _ in range(100):
        step()
    durations = np.zeros(count, np.int64)
    for k in range(count):
        start = time.perf_counter_ns()
        step()
        durations[k] = time.perf_counter_ns() - start
    return distribution(durations)


def step_with_onnxruntime(path: str, count: int) -> Distribution:
    """One step with everything bound on the GPU, two bindings that alternate as the state does."""
    import onnxruntime as ort

    from lnn_edge.bundle import read_bundle

    bundle = read_bundle(path)
    session = ort.InferenceSession(bundle.files["model.onnx"], providers=["CUDAExecutionProvider"])
    if "CUDAExecutionProvider" not in session.get_providers():
        raise SystemExit("gpu.py: onnxruntime has no CUDA provider here. Type: pip install onnxruntime-gpu")

    def place(tensor):
        return ort.OrtValue.ortvalue_from_numpy(np.ones(tensor.shape, np.float32), "cuda", 0)

    pairs = {s.input: s.output for s in bundle.manifest.states}
    inputs = {t.name: place(t) for t in session.get_inputs()}
    outputs = [{t.name: place(t) for t in session.get_outputs()} for _ in range(2)]
    bindings = []
    for k in range(2):
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, outputs[1 - k][pairs[name]] if name in pairs else value)
        for name, value in outputs[k].items():
            binding.bind_ortvalue_output(name, value)
        bindings.append(binding)
    turn = iter(range(sys.maxsize))

    def step() -> None:
        binding = bindings[next(turn) % 2]
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return timed(step, count)


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"gpu.py: FAILED: {otherwise}")


if __name__ == "__main__":
    sys.exit(main())
