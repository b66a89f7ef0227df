"""The GPU backends on a real GPU: memory, capture, replay, waits, the whole stepper, its latency, and real engines.

    python benchmarks/gpu.py [--launches 5000] [--bundle NAME.lnn]

Not part of `make test`; README.md beside it has the figures of an NVIDIA H200. It needs a CUDA driver and cuda-bindings
or libcudart (`pip install 'lnn-edge[tensorrt]'`). First a small kernel (`kernel_engine.py`) stands in the place of an
engine, so its figures are the floor under which no step can go. Then TensorRT and TensorRT for RTX, whichever is
installed and runs on this GPU (`engine_steps.py`), build the bundle, or one of this repository's, and step it; which
does not says why. The stepper is the one that runs engines: its results
are compared bit for bit over thousands of steps, with every way to wait, to feed the state back and to launch, and with
the kernel reading and writing mapped host memory as on a Jetson. What fails is said and does not end the run, which
exits with 1 then: a board is seldom at hand twice. With `--bundle` it also steps that bundle through onnxruntime's CUDA
provider, where onnxruntime-gpu is installed, on a state that stays on the GPU.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import engine_steps
import kernel_engine
import numpy as np
from kernel_engine import LAYOUT, SHAPE, KernelEngine, expected

from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.backends.trt.cudart import CudaError
from lnn_edge.runtime.backends.trt.device import Device, open_device
from lnn_edge.runtime.backends.trt.device_figures import measure
from lnn_edge.runtime.backends.trt.options import Options
from lnn_edge.runtime.backends.trt.stepper import GpuStepper
from lnn_edge.runtime.figures.durations import Distribution, distribution

NBYTES = 4096  # of what is copied to and fro
WAITS, FEEDBACKS, GRAPHS = ("spin", "block", "poll"), ("copy", "pingpong"), ("on", "off")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--launches", type=int, default=5000, help="steps per figure and per check (default 5000)")
    parser.add_argument("--bundle", help="the bundle of the engines, stepped through onnxruntime's CUDA provider too")
    arguments = parser.parse_args()
    try:
        device = open_device()
    except BackendUnavailable as error:
        sys.stderr.write(f"gpu.py: {error}\n")
        return 5
    print(f"{device.facts}\nthrough {device.cudart.name}")
    failures: list[str] = []
    for check in (check_memory, check_mapped, check_capture, check_refused_capture):
        held(failures, check.__doc__.splitlines()[0], lambda check=check: check(device))
    opened = device.memory(NBYTES)  # the driver's own calls need the device open in this thread
    engine, steps = KernelEngine(kernel_engine.load_kernel()), arguments.launches
    for place, options in kinds(device):
        name = f"{named(place, options)}: {steps} steps equal NumPy's bit for bit:"
        held(failures, name, lambda p=place, o=options: check_stepper(p, engine, o, steps))
    print(f"\n{steps} steps each, the GPU idle before every one; microseconds on the host's clock")
    print(f"{'':48}{'min':>9}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'max':>9}")
    for place, options in kinds(device):
        name = named(place, options)
        told(failures, name, lambda p=place, o=options, n=name: show(n, timed(steps_of(made(p, engine, o)), steps)))
    if arguments.bundle:
        name = "onnxruntime CUDA provider"
        told(failures, name, lambda: show(name, step_with_onnxruntime(arguments.bundle, steps)))
    told(failures, "the parts of a step", lambda: show_parts(device, engine, steps))
    print()
    told(
        failures,
        "engines",
        lambda: engine_steps.run_engines(
            arguments.bundle, steps, partial(held, failures), partial(told, failures), show
        ),
    )
    del opened
    print(f"\n{len(failures)} FAILED: {'; '.join(failures)}" if failures else "\nall checks passed")
    return 1 if failures else 0


def held(failures: list[str], name: str, check: Callable[[], None]) -> None:
    """Check something, and say whether it holds."""
    if told(failures, name, check):
        print(f"{name} yes")


def told(failures: list[str], name: str, act: Callable[[], None]) -> bool:
    """Do something; whatever goes wrong is said, kept, and does not end the run."""
    try:
        act()
    except Exception as error:  # of a GPU that nobody knows yet, anything may come
        print(f"{name} NO: {type(error).__name__}: {error}")
        failures.append(name.rstrip(":"))
        return False
    return True


def made(place: Device, engine: KernelEngine, options: Options) -> GpuStepper:
    return GpuStepper(place, engine, LAYOUT, options)


def steps_of(stepper: GpuStepper) -> Callable[[], object]:
    """A step of a stream: from one place into the other, and from there the next one."""
    places = itertools.cycle((0, 1))
    return lambda: stepper.run(next(places))


def kinds(device: Device) -> Iterator[tuple[Device, Options]]:
    """Every way to run a step; on a GPU with memory of its own also as if it shared the CPU's, which is slower."""
    shared = copy.copy(device)
    shared.facts = dataclasses.replace(device.facts, integrated=True)
    places = [device] if device.facts.integrated else [device, shared]
    for place, graph, feedback, wait in itertools.product(places, GRAPHS, FEEDBACKS, WAITS):
        yield place, Options(wait=wait, graph=graph, feedback=feedback, optimization_level=3, tf32=False)


def named(place: Device, options: Options) -> str:
    memory = "mapped" if place.facts.integrated else "copied"
    return f"{memory}, graph {options.graph}, {options.feedback}, {options.wait}"


def show(label: str, figures: Distribution) -> None:
    picks = [figures.min_us, *figures.percentiles_us.values(), figures.max_us]
    print(f"{label:48}" + "".join(f"{'-' if value is None else format(value, '.1f'):>9}" for value in picks))


def show_parts(device: Device, engine: KernelEngine, launches: int) -> None:
    """Where the time of a step goes, as `lnn-edge bench` shows it."""
    options = next(kinds(device))[1]
    stepper = made(device, engine, options)
    print(f"\n{named(device, options)}: the parts of a step")
    for figure in measure(stepper, launches, options, (1, 0)).figures:
        show(f"{figure.name} ({figure.includes.partition(';')[0]})", figure.durations)


def check_stepper(where: Device, engine: KernelEngine, options: Options, steps: int) -> None:
    """Outputs and states of a long stream, through a reset, a snapshot and a step that is refused."""
    stepper = made(where, engine, options)
    require(not stepper.refusal, f"{named(where, options)}: {stepper.refusal}")
    random, h = np.random.default_rng(1), np.zeros(SHAPE, np.float32)
    kept, place = {"h_in": h}, 0
    for k in range(steps):
        x = random.standard_normal(SHAPE).astype(np.float32)
        if k == steps // 2:
            kept = {"h_in": stepper.places[place]["h_out"].copy()}
        if k == steps * 3 // 4:
            stepper.write_state(place, kept)
            h = kept["h_in"]
        stepper.sample["input"][...] = x
        require(stepper.run(place), f"{named(where, options)}: step {k} is said to be not finite")
        y, h = expected(x, h)
        place = 1 - place
        results = stepper.places[place]
        same = np.array_equal(results["output"], y) and np.array_equal(results["h_out"], h)
        require(same, f"{named(where, options)}: step {k} gave other values than NumPy")
    check_all_or_nothing(stepper, place, h, named(where, options))


def check_all_or_nothing(stepper: GpuStepper, place: int, h: np.ndarray, name: str) -> None:
    """A result that is not finite leaves the state as it was, again and again."""
    for value in (np.float32("nan"), np.float32("inf")):
        stepper.sample["input"][...] = value
        require(not stepper.run(place), f"{name}: a step of {value} is said to be finite")
        require(np.array_equal(stepper.places[place]["h_out"], h), f"{name}: a refused step changed the state")
    stepper.sample["input"][...] = 1.0
    require(stepper.run(place), f"{name}: the step after a refused one is said to be not finite")
    y, _ = expected(np.ones(SHAPE, np.float32), h)
    require(np.array_equal(stepper.places[1 - place]["output"], y), f"{name}: the step after a refused one is wrong")


def check_memory(device: Device) -> None:
    """Device memory keeps what was copied into it:"""
    stream, host, memory = device.cuda_stream("spin"), device.host_memory(NBYTES), device.memory(NBYTES)
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
    stream, host, memory, back = places(device)
    host.array[...] = 3.5
    queue(stream, host, memory, back)()
    stream.wait()
    require(bool((back.array == 3.5).all()), "the copy from mapped memory came back changed")
    require(host.address != 0, "the mapped memory has no address on the GPU")


def check_capture(device: Device) -> None:
    """A graph replays its copies, and reads what is there at each launch:"""
    stream, host, memory, back = places(device)
    graph = stream.capture(queue(stream, host, memory, back))
    for k in range(3):
        host.array[...] = k
        stream.launch(graph)
        stream.wait()
        require(bool((back.array == k).all()), f"launch {k} gave {back.array[:4]}")
    stream.free_graph(graph)


def check_refused_capture(device: Device) -> None:
    """A call that is forbidden in a capture is refused, and the stream goes on working:"""
    stream, host, memory, back = places(device)
    try:
        stream.capture(stream.wait)
    except CudaError as error:
        require(error.code in (900, 901), f"expected CUDA error 900 or 901, got {error}")
    else:
        require(False, "a capture took a wait")
    host.array[...] = 7
    queue(stream, host, memory, back)()
    stream.wait()
    require(bool((back.array == 7).all()), "the stream does not work after a refused capture")


def places(device: Device):
    """A stream, pinned memory, device memory, and pinned memory to come back to."""
    return device.cuda_stream("spin"), device.host_memory(NBYTES), device.memory(NBYTES), device.host_memory(NBYTES)


def queue(stream, host, memory, back) -> Callable[[], None]:
    """Queue: to the device and back."""

    def run() -> None:
        stream.copy(memory.address, host.host_address, NBYTES, "h2d")
        stream.copy(back.host_address, memory.address, NBYTES, "d2h")

    return run


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

    from lnn_edge.bundle.directory import read_bundle

    bundle = read_bundle(path)
    session = ort.InferenceSession(bundle.files["model.onnx"], providers=["CUDAExecutionProvider"])
    if "CUDAExecutionProvider" not in session.get_providers():
        raise RuntimeError("onnxruntime has no CUDA provider here. Type: pip install onnxruntime-gpu")

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
        raise RuntimeError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
