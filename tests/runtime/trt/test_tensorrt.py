"""The `tensorrt` backend on machines that are not there: five versions of the real API, one GPU of each kind.

What runs is the real backend; TensorRT and CUDA are those of tests/support/fake_tensorrt, which compute through
onnxruntime.
"""

from __future__ import annotations

import gc
import logging

import numpy as np
import pytest
import torch
from called_bundles import Bundles
from cases import BY_NAME, INPUTS
from checks import CHECKS, sample, timing
from exports import quick_export
from fake_tensorrt import VERSIONS, Misuse
from offline import LIMIT, PERIOD_S, TIMESPAN, whole_sequence

import lnn_edge
from lnn_edge.backends import named_backend, why_not_ready
from lnn_edge.bundle.manifest import decode_manifest
from lnn_edge.errors import BackendError, BackendUnavailable, NonFiniteError
from lnn_edge.runtime.backends.layout import ALIGNMENT, layout_from_manifest
from lnn_edge.runtime.backends.trt.backend import TensorRTBackend
from lnn_edge.runtime.backends.trt.stepper import RUNNING, EnqueueRefused, GpuStepper, Program, _release
from lnn_edge.verify.tolerance import HALF_TOLERANCE

# Every version, both kinds of GPU, both ways to CUDA, every option, without taking all combinations.
SETUPS = {
    "8.6": ("8.6", {}, {}),
    "10.3": ("10.3", {}, {}),
    "10.13": ("10.13", {"name": "Thor", "capability": (11, 0), "driver": 13000, "runtime": 13000}, {}),
    "10.16": ("10.16", {}, {}),
    "11.4": ("11.4", {}, {}),
    "discrete": ("10.16", {"integrated": False}, {}),
    "libcudart": ("10.3", {"ctypes_path": True}, {}),
    "discrete-libcudart-block": ("11.4", {"integrated": False, "ctypes_path": True}, {"wait": "block"}),
    "poll": ("8.6", {}, {"wait": "poll"}),
    "pingpong": ("10.3", {}, {"feedback": "pingpong"}),
    "discrete-pingpong": ("11.4", {"integrated": False}, {"feedback": "pingpong"}),
    "no-graph": ("10.13", {"integrated": False}, {"graph": "off"}),
    "no-graph-pingpong": ("8.6", {}, {"graph": "off", "feedback": "pingpong"}),
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    return Bundles(tmp_path_factory)


@pytest.fixture
def ready(gpu, bundles):
    """Load one of the bundles in one of the setups."""

    def load(setup="10.3", bundle="fixed", **options):
        version, facts, chosen = SETUPS[setup]
        load.fake = gpu(version, **facts)
        return lnn_edge.load(bundles[bundle], backend="tensorrt", options=chosen | options)

    return load


def backend_of(model) -> TensorRTBackend:
    return model._backend


KINDS = ("fixed", "measured", "batch", "half", "timed-blocks", "batch-blocks-half")
# The newest version with every kind, each other one and a GPU with memory of its own with two that hold measured time,
# blocks, a batch and half precision between them. Fixed time alone meets them all in the tests of what is computed; the
# other setups differ in what happens around the engine, whatever the model.
KINDS_OF = dict.fromkeys(SETUPS, ("measured",)) | dict.fromkeys(
    (*VERSIONS, "discrete"), ("timed-blocks", "batch-blocks-half")
)
KINDS_OF[VERSIONS[-1]] = KINDS


@pytest.fixture(scope="module")
def loaded():
    """Models by setup and bundle: a model is immutable, so one serves every check, and building it is most of the time.

    It holds all it needs of the fakes, which are gone from `sys.modules` after the test that loaded it.
    """
    models = {}
    yield models
    models.clear()


@pytest.mark.parametrize(("setup", "bundle"), [(setup, kind) for setup, own in KINDS_OF.items() for kind in own])
@pytest.mark.parametrize("check", CHECKS)
def test_conformance(check, bundle, setup, loaded, request):
    if (setup, bundle) not in loaded:
        loaded[setup, bundle] = request.getfixturevalue("ready")(setup, bundle)
    CHECKS[check](loaded[setup, bundle])


# Steps: the simulated engine computes with onnxruntime, which other tests follow over longer sequences; what may go
# wrong here, a buffer, a pair of states, a reset, does so in the first of them.
SIMULATED = 120
EQUAL = ["ltc-units-large", "ltc-own-wiring", "ltc-mixed", "ltc-no-maps",
         "cfc-units", "cfc-pure-autoncp", "cfc-proj-autoncp", "cfc-gelu", "cfc-mixed-autoncp"]  # fmt: skip
# The graph is the same for every version, so each model runs with the newest and with one of the others: an LTC on one
# kind of GPU and a CfC on the other kind with each of these.
OLDER = VERSIONS[:-1]
IN_TURN = [(name, OLDER[place % len(OLDER)], place // len(OLDER) % 2 == 0) for place, name in enumerate(EQUAL)]


@pytest.mark.parametrize(("name", "older", "integrated"), IN_TURN)
def test_streaming_equals_offline(name, older, integrated, gpu, tmp_path, tmp_path_factory):
    """Every version and both kinds of GPU, with a reset in between."""
    quick_export(BY_NAME[name].build(), tmp_path / "m.lnn")
    x, _, expected = whole_sequence(tmp_path_factory, name, steps=SIMULATED)
    for version, shared in ((older, integrated), (VERSIONS[-1], not integrated)):
        gpu(version, integrated=shared)
        stream = lnn_edge.load(tmp_path / "m.lnn", backend="tensorrt").stream()
        stream.run(x[:20])
        stream.reset()
        np.testing.assert_allclose(stream.run(x), expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-mixed", "cfc-no-gate"])
def test_streaming_equals_offline_with_measured_time(name, gpu, tmp_path, tmp_path_factory):
    quick_export(BY_NAME[name].build(), tmp_path / "m.lnn", time="measured", period_s=PERIOD_S, timespan=TIMESPAN)
    x, dt_s, expected = whole_sequence(tmp_path_factory, name, measured=True, steps=SIMULATED)
    for k, version in enumerate(VERSIONS):
        gpu(version, integrated=k % 2 == 1)
        got = lnn_edge.load(tmp_path / "m.lnn", backend="tensorrt").stream().run(x, dt_s=dt_s)
        np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize(
    ("name", "options", "limit"),
    [
        ("cfc-autoncp", {"precision": "float16"}, HALF_TOLERANCE),
        ("ltc-autoncp", {"unroll": 4}, LIMIT),
        ("cfc-mixed", {"unroll": 4, "precision": "float16"}, HALF_TOLERANCE),
    ],
    ids=["half", "blocks", "half blocks"],
)
def test_streaming_equals_offline_in_half_and_in_blocks(name, options, limit, gpu, tmp_path, tmp_path_factory):
    """Every version builds it and runs it: 8.x is told that the graph is in half, the others read it there."""
    quick_export(BY_NAME[name].build(), tmp_path / "m.lnn", **options)
    x, _, expected = whole_sequence(tmp_path_factory, name, steps=SIMULATED)
    for k, version in enumerate(VERSIONS):
        fake = gpu(version, integrated=k % 2 == 0)
        got = lnn_edge.load(tmp_path / "m.lnn", backend="tensorrt").stream().run(x)
        np.testing.assert_allclose(got, expected, rtol=0, atol=limit)
        told = {flag.name for flag in fake.world["config"]._flags}
        assert told == ({"FP16"} if version == "8.6" and "precision" in options else set())


@pytest.mark.parametrize("setup", ["10.3", "discrete", "poll", "discrete-pingpong"])
def test_the_loop_is_one_launch_and_one_wait(setup, ready):
    model = ready(setup)
    stream, calls = model.stream(), ready.fake.machine.calls
    stream.step(sample(model))
    calls.clear()
    stream.step(sample(model))
    assert calls[0] == "cudaGraphLaunch"
    waits = {"cudaStreamQuery"} if setup == "poll" else {"cudaStreamSynchronize"}
    assert set(calls[1:]) == waits


def test_blocking_wait_goes_through_an_event(ready):
    model = ready("10.3", wait="block")
    stream, machine = model.stream(), ready.fake.machine
    stream.step(sample(model))  # which sends the initial state first
    machine.calls.clear()
    stream.step(sample(model))
    assert machine.calls == ["cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"]
    assert [event["flags"] for event in machine.events.values()] == [3] * len(machine.events)


BLOCKING, LOCAL_MEMORY = 4, 16  # flags that another library may have set


def test_spinning_replaces_how_the_process_waited_and_nothing_else(gpu, bundles):
    fake = gpu("10.3")
    fake.machine.flags = BLOCKING | LOCAL_MEMORY
    model = lnn_edge.load(bundles["fixed"], backend="tensorrt")
    assert fake.machine.flags == 1 | LOCAL_MEMORY
    assert model.description.endswith(", wait spin")


@pytest.mark.parametrize("wait", ["block", "poll"])
def test_other_waits_leave_the_choice_of_another_library(wait, gpu, bundles):
    fake = gpu("10.3")
    fake.machine.flags = BLOCKING
    model = lnn_edge.load(bundles["fixed"], backend="tensorrt", options={"wait": wait})
    model.stream().step(sample(model))
    assert fake.machine.flags == BLOCKING
    assert model.description.endswith(f", wait {wait}")


def test_looking_changes_nothing(gpu):
    """`doctor` looks, and so does whatever asks which backends are ready."""
    fake = gpu("10.3")
    fake.machine.flags = BLOCKING
    assert why_not_ready(named_backend("tensorrt")) is None
    assert (fake.machine.flags, fake.machine.memory) == (BLOCKING, {})


def test_a_flag_that_is_not_taken_is_told(gpu, bundles, monkeypatch):
    fake = gpu("10.3")
    fake.machine.flags = BLOCKING
    monkeypatch.setattr(fake.machine, "_cudaSetDeviceFlags", lambda flags: None)
    model = lnn_edge.load(bundles["fixed"], backend="tensorrt")
    assert model.description.endswith(", wait as another library chose")


def test_nothing_is_left_on_the_gpu(ready):
    """Streams, memory, graphs, events and contexts go with the model; results that the caller keeps do not."""
    model = ready("discrete", feedback="pingpong")
    streams = [model.stream(reuse=True) for _ in range(5)]
    kept = streams[0].step(sample(model))
    copy = kept.copy()
    machine = ready.fake.machine
    del model, streams  # without the collector
    np.testing.assert_array_equal(kept, copy)
    assert [m.kind for m in machine.memory.values()] == ["pinned"]
    assert not any((machine.streams, machine.events, machine.graphs, machine.executables))
    del kept
    gc.collect()
    assert not machine.memory


def twins(model):
    """Two streams in the same state: one to harm, one to compare with."""
    streams = model.stream(), model.stream()
    for stream in streams:
        stream.step(sample(model, 0))
    return streams


class TestAllOrNothing:
    """A step that fails leaves the state, whichever way the state is fed back."""

    def overflowing(self, tmp_path):
        module = BY_NAME["cfc-relu"].build()
        with torch.no_grad():
            module.rnn_cell.backbone[0].weight[:, :INPUTS].mul_(8.0)
        quick_export(module, tmp_path / "m.lnn")
        return tmp_path / "m.lnn"

    @pytest.mark.parametrize("feedback", ["copy", "pingpong"])
    @pytest.mark.parametrize("facts", [{}, {"integrated": False}], ids=["integrated", "discrete"])
    def test_result_that_is_not_finite(self, feedback, facts, gpu, tmp_path):
        gpu("10.3", **facts)
        model = lnn_edge.load(self.overflowing(tmp_path), backend="tensorrt", options={"feedback": feedback})
        stream, untouched = model.stream(), model.stream()
        for k in range(3):
            stream.step(sample(model, k))
            untouched.step(sample(model, k))
            with pytest.raises(NonFiniteError, match=r"the step gave nan in '\w+' at .*; the state is unchanged"):
                stream.step(np.full(INPUTS, 3e38))
            for name, array in untouched.snapshot().tensors.items():
                np.testing.assert_array_equal(stream.snapshot().tensors[name], array)
        np.testing.assert_array_equal(stream.step(np.ones(INPUTS)), untouched.step(np.ones(INPUTS)))

    @pytest.mark.parametrize("feedback", ["copy", "pingpong"])
    @pytest.mark.parametrize("graph", ["on", "off"])
    def test_launch_that_is_refused(self, feedback, graph, ready):
        model = ready(feedback=feedback, graph=graph)
        (stream, untouched), fake = twins(model), ready.fake
        fake.machine.failing["cudaGraphLaunch"] = 1
        fake.world["enqueue"] = "no more"
        with pytest.raises(BackendError, match="the GPU refused the step, the state is untouched: "):
            stream.step(sample(model, 1))
        fake.machine.failing.clear()
        del fake.world["enqueue"]
        np.testing.assert_array_equal(stream.step(sample(model, 2)), untouched.step(sample(model, 2)))

    @pytest.mark.parametrize("setup", ["10.3", "discrete", "pingpong", "no-graph", "no-graph-pingpong"])
    @pytest.mark.parametrize("place", ["before", "after", "while it waits"])
    def test_ctrl_c(self, setup, place, ready, monkeypatch):
        """Wherever it comes, the step has not happened: before the launch, after it, or in the wait."""
        model = ready(setup)
        stream, untouched = twins(model)
        stepper = stream._mode.stepper
        program, gpu = stepper._programs[stepper._turn], stepper._stream
        whole = program.launch, gpu.wait

        def launch():
            if place == "before":
                raise KeyboardInterrupt
            whole[0]()
            if place == "after":
                raise KeyboardInterrupt

        def wait():
            whole[1]()
            if place == "while it waits":
                raise KeyboardInterrupt

        program.launch, gpu.wait = launch, wait
        with pytest.raises(KeyboardInterrupt):
            stream.step(sample(model, 1))
        program.launch, gpu.wait = whole
        assert stream.steps == 1
        for name, array in untouched.snapshot().tensors.items():
            np.testing.assert_array_equal(stream.snapshot().tensors[name], array)
        for k in range(2, 5):
            np.testing.assert_array_equal(stream.step(sample(model, k)), untouched.step(sample(model, k)))

    @pytest.mark.parametrize("setup", ["no-graph", "no-graph-pingpong"])
    @pytest.mark.parametrize("part", ["fetch", "compute", "show"])
    def test_part_that_is_refused(self, setup, part, ready, monkeypatch):
        """Without a graph some of a step is queued already when the rest is refused."""
        model = ready(setup)
        stream, untouched = twins(model)
        whole = getattr(Program, part)

        def refused(program):
            whole(program)
            raise EnqueueRefused("no more")

        with monkeypatch.context() as patch:
            patch.setattr(Program, part, refused)
            with pytest.raises(BackendError, match="the GPU refused the step, the state is untouched: no more"):
                stream.step(sample(model, 1))
        for k in range(2, 5):
            np.testing.assert_array_equal(stream.step(sample(model, k)), untouched.step(sample(model, k)))

    @pytest.mark.parametrize("setup", ["10.3", "discrete", "pingpong"])
    def test_gpu_that_fails_is_lost_and_the_state_is_not(self, setup, ready, bundles):
        model = ready(setup)
        stream, elsewhere = model.stream(), lnn_edge.load(bundles["fixed"], backend="onnxruntime").stream()
        for k in range(3):
            stream.step(sample(model, k))
            elsewhere.step(sample(model, k))
        ready.fake.machine.failing["cudaStreamSynchronize"] = 719
        with pytest.raises(BackendError, match=r"the GPU failed and this stream is lost: .*719.* in a new process"):
            stream.step(sample(model))
        ready.fake.machine.failing.clear()
        with pytest.raises(BackendError, match="this stream is lost"):
            stream.step(sample(model))
        for name, array in elsewhere.snapshot().tensors.items():
            np.testing.assert_array_equal(stream.snapshot().tensors[name], array)

    def test_silent_gpu_ends_the_poll(self, ready, monkeypatch, caplog):
        """What it may still use is not freed: on a device that would hang, or spoil what came next."""
        model = ready("poll")
        stream = model.stream()
        monkeypatch.setattr("lnn_edge.runtime.backends.trt.cuda_stream._POLL_TIMEOUT_S", 0.05)
        machine = ready.fake.machine
        machine.stuck = True
        with pytest.raises(BackendError, match=r"the GPU did not finish within 0\.05 s"):
            stream.step(sample(model))
        before = len(machine.memory), len(machine.executables), len(machine.streams)
        del stream
        gc.collect()
        assert (len(machine.memory), len(machine.executables), len(machine.streams)) == before
        assert "a GPU that does not answer keeps the memory of a stream" in caplog.text
        machine.stuck = False
        kept = RUNNING.pop()
        _release(*kept)
        del kept
        gc.collect()
        assert len(machine.memory) < before[0]

    def test_copy_that_is_refused(self, ready):
        model = ready()
        stream = model.stream()
        y = stream.step(sample(model, 0))
        stream.reset()  # which the next step sends
        ready.fake.machine.failing["cudaMemcpyAsync"] = 1
        with pytest.raises(BackendError, match="the GPU refused to copy the state"):
            stream.step(sample(model, 1))
        for name, array in model.initial_state().tensors.items():
            np.testing.assert_array_equal(stream.snapshot().tensors[name], array)
        ready.fake.machine.failing.clear()
        np.testing.assert_array_equal(stream.step(sample(model, 0)), y)


class TestCapture:
    def test_refused_capture_falls_back_and_says_so_once(self, gpu, bundles, caplog):
        fake = gpu("11.4")
        fake.world["capture"] = "The CUDA stream is in capturing mode, but this TRT engine is not stream capturable."
        caplog.set_level(logging.WARNING)
        model = lnn_edge.load(bundles["fixed"], backend="tensorrt")
        streams = [model.stream() for _ in range(3)]
        warnings = [r.message for r in caplog.records if "without a CUDA graph" in r.message]
        assert len(warnings) == 1
        assert "not stream capturable" in warnings[0]
        assert (backend_of(model).captured, backend_of(model).fallbacks) == (0, 4)  # one for the self-test
        assert "no CUDA graph (capture was refused)" in model.description
        expected = lnn_edge.load(bundles["fixed"], backend="onnxruntime").stream()
        for k in range(20):
            np.testing.assert_array_equal(streams[0].step(sample(model, k)), expected.step(sample(model, k)))
        assert "cudaGraphLaunch" not in fake.machine.calls

    @pytest.mark.parametrize(
        "function",
        ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiateWithFlags", "cudaGraphUpload"],
    )
    def test_every_way_to_fail_falls_back(self, function, gpu, bundles):
        fake = gpu("10.3")
        fake.machine.failing[function] = 900
        model = lnn_edge.load(bundles["fixed"], backend="tensorrt")
        assert backend_of(model).fallbacks == 1
        CHECKS["check_reset_starts_over"](model)
        assert not fake.machine.graphs
        assert not fake.machine.executables

    @pytest.mark.parametrize("spoilt", [1, 2])
    def test_spoilt_by_another_thread_is_tried_again(self, spoilt, gpu, bundles, caplog):
        """One that waits for the whole GPU, as `torch.cuda.synchronize` does, ends whatever is being captured."""
        fake = gpu("10.3")
        left, end = [spoilt], fake.machine._cudaStreamEndCapture

        def ended(stream):
            if left[0]:
                left[0] -= 1
                fake.machine.invalidate(stream)
            return end(stream)

        fake.machine._cudaStreamEndCapture = ended
        model = lnn_edge.load(bundles["fixed"], backend="tensorrt")
        assert (backend_of(model).captured, backend_of(model).fallbacks) == (1, 0)
        assert "without a CUDA graph" not in caplog.text
        CHECKS["check_reset_starts_over"](model)

    def test_capture_that_must_work(self, gpu, bundles):
        gpu("10.3").world["capture"] = "not capturable"
        with pytest.raises(
            BackendUnavailable, match=r"cannot be captured as a CUDA graph: .*not capturable.*graph=auto"
        ):
            lnn_edge.load(bundles["fixed"], backend="tensorrt", options={"graph": "on"})

    def test_graph_on_and_off(self, ready):
        assert "one CUDA graph per step" in ready(graph="on").description
        assert "no CUDA graph, wait spin" in ready(graph="off").description

    def test_garbage_is_not_collected_meanwhile(self, ready, monkeypatch):
        seen = []
        issue = Program.issue
        monkeypatch.setattr(Program, "issue", lambda self: (seen.append(gc.isenabled()), issue(self))[1])
        ready()
        assert seen[:2] == [True, False]  # warming up, capturing
        assert gc.isenabled()


def test_many_streams_in_threads_are_made_one_by_one(ready):
    """Contexts and captures of several threads: a call that lands in another thread's capture would spoil it."""
    CHECKS["check_streams_in_threads"](ready("discrete"))
    assert not ready.fake.machine.failing


@pytest.mark.parametrize("bundle", KINDS)
def test_layout(bundle, bundles):
    manifest = decode_manifest((bundles[bundle] / "manifest.json").read_bytes())
    layout = layout_from_manifest(manifest)
    for slab in (layout.sample, layout.states, layout.results):
        assert slab.nbytes % ALIGNMENT == 0
        assert all(offset % ALIGNMENT == 0 for offset in slab.offsets.values())
        ends = [slab.offsets[n] + 4 * int(np.prod(shape)) for n, shape in slab.shapes.items()]
        starts = [*list(slab.offsets.values())[1:], slab.nbytes]
        assert all(end <= start for end, start in zip(ends, starts, strict=True))
    for state, output in layout.pairs:
        assert layout.results.offsets[output] == layout.states_offset + layout.states.offsets[state]


def test_device_figures(ready):
    model = ready("discrete")
    figures = model.device_figures(50)
    names = [f.name for f in figures.figures]
    assert names == ["Enqueue Time", "GPU time of a step", "GPU Compute Time", "H2D Latency", "D2H Latency"]
    assert all(f.durations.samples == 50 for f in figures.figures)
    for f in figures.figures:
        assert "graph on" in f.includes
        assert "wait spin" in f.includes
        assert f.includes.startswith("host clock" if f.name == "Enqueue Time" else "GPU events in the graph")
    assert (figures.graph, figures.fallbacks) == (True, 0)
    assert "H2D Latency" not in [f.name for f in ready("10.3").device_figures(5).figures]


def test_device_figures_without_a_graph_say_that_the_host_is_in(ready):
    figures = ready("discrete", graph="off").device_figures(5)
    assert not figures.graph
    for f in figures.figures[1:]:
        assert f.includes.startswith("GPU events, the host's queueing is between them; graph off")


@pytest.mark.parametrize("graph", ["on", "off"])
def test_whether_the_host_is_in_the_gpus_time(graph, ready, monkeypatch):
    """An idle GPU sets an event the moment it is queued; here only the host takes time, a second before each launch."""
    model = ready("discrete", graph=graph)
    machine, clock = ready.fake.machine, [0.0]
    monkeypatch.setattr(machine, "now", lambda: clock[0])

    def dawdling(call):
        def slow(*arguments):
            machine._drain(arguments[-1])
            clock[0] += 1.0
            return call(*arguments)

        return slow

    slow = "_cudaGraphLaunch" if graph == "on" else "_cudaMemcpyAsync"
    monkeypatch.setattr(machine, slow, dawdling(getattr(machine, slow)))
    figures = {f.name: f.durations.max_us for f in model.device_figures(3).figures}
    assert figures["GPU time of a step"] == figures["D2H Latency"] * 3 == (0 if graph == "on" else 3e6)


def test_figures_of_the_cpu_have_no_device(bundles):
    assert lnn_edge.load(bundles["fixed"], backend="onnxruntime").device_figures(5) is None


class TestMistakesAreCaught:
    """The fakes are worth what they catch: break the stepper on purpose, and a step or the self-test must fail."""

    def broken(self, ready, monkeypatch, setup="10.3", **patches):
        for name, value in patches.items():
            monkeypatch.setattr(Program, name, value)
        return ready(setup)

    def test_sample_not_copied(self, ready, monkeypatch):
        with pytest.raises(lnn_edge.errors.LnnEdgeError):
            self.broken(ready, monkeypatch, "discrete", fetch=lambda self: None)

    def test_results_not_copied(self, ready, monkeypatch):
        with pytest.raises(lnn_edge.errors.LnnEdgeError):
            self.broken(ready, monkeypatch, "discrete", show=lambda self: None)

    def test_state_not_fed_back(self, ready, monkeypatch):
        def issue(self):
            self.fetch(), self.compute(), self.show()

        with pytest.raises(lnn_edge.errors.LnnEdgeError):
            self.broken(ready, monkeypatch, issue=issue)

    def test_state_in_its_own_memory(self, ready, monkeypatch):
        whole = GpuStepper._allocate
        made = Program.__init__

        def aliased(self, engine, stream, buffers, states, results, fed):
            made(self, engine, stream, buffers, results + buffers.layout.states_offset, results, 0)

        monkeypatch.setattr(GpuStepper, "_allocate", whole)
        with pytest.raises(Misuse, match="is written into the memory of"):
            self.broken(ready, monkeypatch, __init__=aliased)

    def test_no_wait(self, ready, monkeypatch):
        monkeypatch.setattr(GpuStepper, "_finish", lambda self: None)
        with pytest.raises((lnn_edge.errors.LnnEdgeError, Misuse)):
            ready("discrete")

    def test_no_run_before_the_capture(self, ready, monkeypatch, caplog):
        monkeypatch.setattr(GpuStepper, "_start", lambda self, graph: self._capture(required=True))
        with pytest.raises(BackendUnavailable, match="operation not permitted when stream is capturing"):
            ready()

    def test_unaligned(self, ready, monkeypatch):
        monkeypatch.setattr("lnn_edge.runtime.backends.layout.ALIGNMENT", 64)
        with pytest.raises(BackendUnavailable, match=r"refused the address of .*must be aligned"):
            ready("discrete")

    def test_host_pointer_on_the_device(self, ready, monkeypatch):
        from lnn_edge.runtime.backends.trt.stepper import Buffers

        monkeypatch.setattr(Buffers, "sample_address", lambda self: self.sample.host_address)
        with pytest.raises(Misuse, match="no device memory"):
            ready()

    def test_memory_freed_too_early(self, ready, monkeypatch):
        model = ready()
        stepper = model.stream()._mode.stepper
        machine = ready.fake.machine
        address = stepper._programs[0].states
        memory = machine.memory.pop(address)
        machine.graveyard.append(memory)
        with pytest.raises(Misuse, match="freed device memory"):
            stepper.run(0)
        machine.memory[address] = memory  # for the stepper to free

    def test_state_not_sent_again(self, gpu, tmp_path, monkeypatch):
        gpu("10.3")
        model = lnn_edge.load(TestAllOrNothing().overflowing(tmp_path), backend="tensorrt")
        stream, untouched = model.stream(), model.stream()
        monkeypatch.setattr(GpuStepper, "_feed", lambda self, place: None)
        for one in (stream, untouched):
            one.step(sample(model))
        with pytest.raises(NonFiniteError):
            stream.step(np.full(INPUTS, 3e38))
        with pytest.raises(NonFiniteError):  # the state of the step that failed
            stream.step(sample(model))
        untouched.step(sample(model))

    def test_a_sample_written_while_the_gpu_reads(self, ready):
        """Work runs when somebody waits: what is written in between is what the GPU sees."""
        model = ready()
        stepper = model.stream()._mode.stepper
        stepper.sample["input"][...] = 1.0
        stepper._programs[0].launch()
        stepper.sample["input"][...] = np.nan
        stepper._stream.wait()
        assert np.isnan(stepper._buffers.shown.array).any()


def test_timing_of_the_helper(ready):
    assert timing(ready("10.3", "measured")) == {"dt_s": PERIOD_S}
