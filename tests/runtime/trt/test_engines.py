"""Building and loading engines: what each version is asked for, and what a user reads when it cannot be done."""

from __future__ import annotations

import sys

import onnx
import pytest
from bundles import resign
from fake_tensorrt import VERSIONS, Misuse, Segfault
from onnx import helper
from second_backend import Second, Slow, row

import lnn_edge
from lnn_edge.backends import BACKENDS, backend_class, checked_options, named_backend
from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.backends.trt.backend import why_not_ready
from lnn_edge.runtime.backends.trt.build_watch import Watch
from lnn_edge.runtime.backends.trt.device import open_device
from lnn_edge.runtime.backends.trt.engines import open_tensorrt


@pytest.fixture
def load(cfc_bundle):
    return lambda **options: lnn_edge.load(cfc_bundle, backend="tensorrt", options=options)


class TestBuild:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_flags(self, version, gpu, load):
        """Explicit batch on 8.x, strong typing on 10.x, nothing on 11, and no number written down anywhere."""
        fake = gpu(version)
        load()
        flags = fake.library.NetworkDefinitionCreationFlag
        name = {"8": "EXPLICIT_BATCH", "10": "STRONGLY_TYPED"}.get(version.split(".")[0])
        assert fake.world["network flags"] == (1 << int(flags[name]) if name else 0)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_configuration(self, version, gpu, load):
        fake = gpu(version)
        load()
        config, library = fake.world["config"], fake.library
        assert config._flags == set()  # TF32 was on
        assert config._pools == {library.MemoryPoolType.WORKSPACE: 64 << 20}
        assert config.builder_optimization_level == 3
        assert config.max_aux_streams == 0

    @pytest.mark.parametrize("version", VERSIONS)
    def test_options(self, version, gpu, cfc_bundle):
        fake = gpu(version)
        lnn_edge.load(cfc_bundle, backend="tensorrt", self_test=False, options={"tf32": "on", "optimization_level": 5})
        assert fake.world["config"]._flags == {fake.library.BuilderFlag.TF32}
        assert fake.world["config"].builder_optimization_level == 5

    @pytest.mark.parametrize(("version", "told"), [("8.6", True), ("10.3", False), ("11.4", False)])
    def test_half_comes_from_the_graph_but_8_must_be_told(self, version, told, gpu, cfc_bundle):
        fake = gpu(version)
        open_device()
        onnx_bytes = (cfc_bundle / "model.onnx").read_bytes()
        open_tensorrt().build(onnx_bytes, half=True, tf32=False, optimization_level=3, timings=b"", watch=Watch())
        assert ("FP16" in {flag.name for flag in fake.world["config"]._flags}) == told

    def test_timings_of_another_device_are_left_alone(self, gpu, cfc_bundle):
        fake = gpu("10.3")
        open_device()
        built = open_tensorrt().build(
            (cfc_bundle / "model.onnx").read_bytes(),
            half=False,
            tf32=False,
            optimization_level=3,
            timings=b"foreign",
            watch=Watch(),
        )
        assert fake.world["timings"] == b""
        assert built.timings.startswith(b"fake timings")

    def test_tf32_is_noticed_by_the_self_test(self, gpu, load):
        gpu("10.3")
        with pytest.raises(lnn_edge.errors.VerificationError, match=r"failed its self-test on TensorRT .*, TF32"):
            load(tf32="on")


class TestFailures:
    """Each ends in BackendUnavailable (exit code 5) with what is wrong and what to do, and never in a crash."""

    @pytest.mark.parametrize("facts", [{}, {"ctypes_path": True}], ids=["bindings", "libcudart"])
    def test_no_driver(self, facts, gpu, load):
        gpu("11.4", driver=0, **facts)
        with pytest.raises(BackendUnavailable, match=r"there is no CUDA driver on .*Type: lnn-edge doctor"):
            load()

    def test_the_driver_is_asked_before_tensorrt(self, gpu):
        """The fake dies as the real library does, so it matters who comes first."""
        gpu("11.4", driver=0)
        with pytest.raises(Segfault):
            open_tensorrt().load(b"")

    def test_old_bindings_without_a_driver(self, gpu, load, monkeypatch):
        """Before 12.9 they raise instead of returning an error."""
        from lnn_edge.runtime.backends.trt import cudart

        gpu("10.3", driver=0)

        def missing(*_):
            raise RuntimeError("Failed to dlopen libcuda.so.1")

        library = cudart.open_cudart()
        for name in ("cudaDriverGetVersion", "cudaGetDeviceCount"):
            monkeypatch.setitem(library.functions, name, missing)
        with pytest.raises(BackendUnavailable, match="there is no CUDA driver on this machine"):
            load()

    def test_old_libcudart_without_a_driver(self, gpu, load):
        """That of 11.8 does not even tell its own version then."""
        machine = gpu("8.6", driver=0, runtime=11080, ctypes_path=True).machine
        machine.failing |= {"cudaRuntimeGetVersion": 35}
        with pytest.raises(BackendUnavailable, match="there is no CUDA driver on this machine"):
            load()

    def test_driver_too_old_for_the_bindings(self, gpu, load):
        gpu("10.3", driver=12060, runtime=13050)
        message = (
            r"the CUDA driver supports CUDA 12.6, but the runtime \(cuda-bindings\) is 13.5. .*cuda-bindings==12\.\*"
        )
        with pytest.raises(BackendUnavailable, match=message):
            load()

    def test_runtime_too_old(self, gpu, load):
        gpu("8.6", driver=11040, runtime=11040)
        with pytest.raises(BackendUnavailable, match=r"is 11.4, expected 11.8 or newer"):
            load()

    def test_no_device(self, gpu, load):
        gpu("10.3").machine.count = 0
        with pytest.raises(BackendUnavailable, match="no CUDA GPU is visible"):
            load()

    def test_device_that_cannot_be_opened(self, gpu, load):
        gpu("10.3").machine.failing["cudaGetDeviceCount"] = 999
        with pytest.raises(
            BackendUnavailable, match=r"the GPU cannot be used: cudaGetDeviceCount failed with CUDA error 999"
        ):
            load()

    def test_device_that_cannot_map_memory(self, gpu, load, monkeypatch):
        machine = gpu("10.3").machine
        whole = machine._cudaDeviceGetAttribute
        monkeypatch.setattr(machine, "_cudaDeviceGetAttribute", lambda a, d: 0 if a == 19 else whole(a, d))
        with pytest.raises(BackendUnavailable, match="this GPU cannot map host memory"):
            load()

    def test_no_cuda_library(self, gpu, load, monkeypatch):
        import ctypes

        gpu("10.3", ctypes_path=True)

        def missing(path):
            raise OSError(path)

        monkeypatch.setattr(ctypes, "CDLL", missing)
        with pytest.raises(BackendUnavailable, match=r"neither the Python package cuda-bindings nor libcudart is here"):
            load()

    def test_no_tensorrt(self, gpu, load, monkeypatch):
        gpu("10.3")
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(BackendUnavailable, match=r"TensorRT cannot be imported: .*sudo apt install nvidia-jetpack"):
            load()

    @pytest.mark.parametrize("version", ["8.5.2", "12.0.1", "unknown"])
    def test_wrong_version(self, version, gpu, load):
        gpu("10.3").library.__version__ = version
        with pytest.raises(BackendUnavailable, match=rf"TensorRT is {version}, but lnn-edge runs with 8.6 to 11"):
            load()

    def test_builder_that_cannot_be_made(self, gpu, load):
        gpu("10.3").world["no builder"] = True
        with pytest.raises(
            BackendUnavailable, match=r"TensorRT 10.3.0: the builder could not be made. It said: no message"
        ):
            load()

    def test_out_of_memory_while_building(self, gpu, load):
        gpu("10.3").world["build"] = "[virtualMemoryBuffer.cpp] Cuda Runtime (out of memory)"
        with pytest.raises(BackendUnavailable, match=r"could not be built. It said: .*out of memory.*Free GPU memory"):
            load()

    def test_out_of_memory_for_the_buffers(self, gpu, load):
        gpu("10.3").machine.limit = 1000
        with pytest.raises(BackendUnavailable, match=r"CUDA error 2: .*The GPU's memory is full: stop what uses it"):
            load()

    def test_out_of_memory_for_the_context(self, gpu, load):
        gpu("10.3").world["no context"] = True
        with pytest.raises(BackendUnavailable, match=r"could not make an execution context: .*Free GPU memory"):
            load()

    def test_out_of_memory_for_the_next_stream(self, gpu, load):
        fake = gpu("10.3")
        model = load()
        fake.machine.limit = 0
        with pytest.raises(BackendUnavailable, match="The GPU's memory is full"):
            model.stream()

    def test_operator_that_is_not_supported(self, gpu, cfc_copy, load, monkeypatch):
        """All errors of the parser, each with its node, by number where the version knows no names."""
        for guard in ("bundle.directory.check_graph", "runtime.backends.trt.engines._guard"):
            monkeypatch.setattr(f"lnn_edge.{guard}", lambda _data: None)  # or they refuse such a graph themselves
        monkeypatch.setattr("lnn_edge.bundle.directory._PASSED", set())
        graph = onnx.load(cfc_copy / "model.onnx")
        value = graph.graph.node[-1].output[0]
        graph.graph.node.append(helper.make_node("Bernoulli", [value], ["spare"], name="strange"))
        (cfc_copy / "model.onnx").write_bytes(graph.SerializeToString())
        resign(cfc_copy)
        for version, node in (("8.6", r"node \d+: "), ("10.3", r"node \d+ 'strange' \(Bernoulli\): ")):
            gpu(version)
            with pytest.raises(BackendUnavailable, match=rf"cannot take this graph, .*{node}.*backend='onnxruntime'"):
                lnn_edge.load(cfc_copy, backend="tensorrt")

    def test_engine_that_tensorrt_refuses(self, gpu):
        gpu("10.3")
        open_device()
        with pytest.raises(
            BackendUnavailable, match=r"the engine was refused. It said: .*magicTag.*lnn-edge build BUNDLE"
        ):
            open_tensorrt().load(b"something else")

    def test_engine_that_does_not_fit_the_manifest(self, gpu, load):
        fake = gpu("10.3")
        fake.world["dtypes"] = {"input": "HALF"}
        with pytest.raises(BackendUnavailable, match=r"does not fit the manifest: 'input' is .*HALF"):
            load()
        fake.world.clear()
        fake.world["host"] = ("h_in",)
        with pytest.raises(BackendUnavailable, match="'h_in' is a shape tensor in host memory"):
            load()

    def test_address_that_is_refused(self, gpu, load):
        gpu("10.3").world["refuses"] = "h_in"
        with pytest.raises(BackendUnavailable, match="TensorRT refused the address of 'h_in'"):
            load()

    def test_engine_that_does_not_run(self, gpu, load):
        gpu("10.3").world["enqueue"] = "engine is broken"
        with pytest.raises(BackendUnavailable, match=r"would not run the engine: .*engine is broken.*--rebuild"):
            load()


class TestAdvice:
    @pytest.mark.parametrize(
        "said",
        [
            "[builder.cpp::buildSerializedNetwork::751] Error Code 2: Internal Error (Assertion engine failed)",
            "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation)",
        ],
    )
    def test_build_that_fails_is_not_told_to_build_again(self, said, gpu, load):
        """Real messages of 8.5 and 10.12; the name of the function is in both."""
        gpu("10.3").world["build"] = said
        with pytest.raises(BackendUnavailable, match=r"could not be built.*Type: backend='onnxruntime' meanwhile$"):
            load()


class TestAuto:
    def test_takes_tensorrt_when_it_is_faster(self, gpu, cfc_bundle, load, monkeypatch):
        gpu("10.3")
        load()
        monkeypatch.setattr("lnn_edge.runtime.loading.BACKENDS", (row(Slow), named_backend("tensorrt")))
        model = lnn_edge.load(cfc_bundle)
        assert model.backend == "tensorrt"
        assert model.description.startswith(
            "TensorRT 10.3.0 on Orin (compute 8.7, CUDA 12.6, driver 12.6), one CUDA graph"
        )

    @pytest.mark.parametrize(("kind", "level"), [(Slow, "WARNING"), (Second, "INFO")])
    def test_never_begins_a_build_and_says_where_one_may_pay(self, kind, level, gpu, cfc_bundle, caplog, monkeypatch):
        """A GPU takes tens of microseconds for a call, so a step that is quicker has nothing to gain."""
        caplog.set_level("INFO")
        fake = gpu("10.3")
        monkeypatch.setattr("lnn_edge.runtime.loading.BACKENDS", (row(kind), named_backend("tensorrt")))
        monkeypatch.setattr("lnn_edge.runtime.loading.step_medians_us", lambda steps: [900.0 if kind is Slow else 9.0])
        assert lnn_edge.load(cfc_bundle).backend == kind.__name__.lower()
        (record,) = caplog.records
        assert (record.levelname, "nothing is built for 'gait' yet" in record.message) == (level, True)
        assert record.message.endswith(f"Type: lnn-edge build {cfc_bundle} --backend tensorrt")
        assert ("it may be faster" in record.message) == (kind is Slow)
        assert not fake.world.get("builds")

    def test_says_what_to_type_where_nothing_else_is_ready(self, gpu, cfc_bundle, monkeypatch):
        gpu("10.3")
        monkeypatch.setattr("lnn_edge.runtime.loading.BACKENDS", (named_backend("tensorrt"),))
        with pytest.raises(BackendUnavailable, match=r"tensorrt: nothing is built yet\. Type: lnn-edge build "):
            lnn_edge.load(cfc_bundle)

    @pytest.mark.parametrize("facts", [{"driver": 0}, {"driver": 11040}])
    def test_says_why_it_does_not(self, facts, gpu, cfc_bundle, caplog):
        gpu("10.3", **facts)
        assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
        assert "backend 'tensorrt' is installed but not ready, it is left out: " in caplog.text
        assert why_not_ready() in caplog.text

    def test_says_nothing_where_it_is_not_installed(self, cfc_bundle, caplog):
        assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
        assert "tensorrt" not in caplog.text


class TestOptions:
    entry = named_backend("tensorrt")

    def test_defaults_are_the_first_values(self):
        assert checked_options(self.entry, None) == {o.name: o.values[0] for o in self.entry.options}

    def test_numbers_are_as_good_as_text(self):
        assert checked_options(self.entry, {"optimization_level": 5})["optimization_level"] == "5"

    def test_unknown_option(self):
        with pytest.raises(ValueError, match=r"backend 'tensorrt' has no option 'wiat'. .*Did you mean 'wait'"):
            checked_options(self.entry, {"wiat": "spin"})

    def test_unknown_value(self):
        with pytest.raises(
            ValueError, match=r"option 'wait' is 'blok'. Valid: spin, block, poll. Did you mean 'block'"
        ):
            checked_options(self.entry, {"wait": "blok"})

    def test_backend_without_options(self, cfc_bundle):
        with pytest.raises(ValueError, match=r"backend 'onnxruntime' has no option 'wait'. It has none"):
            lnn_edge.load(cfc_bundle, backend="onnxruntime", options={"wait": "spin"})


def test_every_backend_of_the_table_can_be_imported():
    for entry in BACKENDS:
        assert backend_class(entry)


class TestTheFakesRefuse:
    """What a version lacks, and what no version forgives."""

    def test_members_that_came_or_went(self, gpu):
        assert not hasattr(gpu("8.6").library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
        assert not hasattr(gpu("11.4").library.BuilderFlag, "FP16")
        assert not hasattr(gpu("8.6").library.ParserError, "node_name")
        assert hasattr(gpu("10.16").library.Builder, "platform_has_fast_fp16") is False  # properties are not imitated
        assert gpu("8.6").library.BuilderFlag.TF32 != gpu("11.4").library.BuilderFlag.TF32

    def test_arguments(self, gpu):
        library = gpu("8.6").library
        with pytest.raises(TypeError, match="incompatible function arguments"):
            library.Builder()
        with pytest.raises(TypeError, match="No constructor defined"):
            library.ICudaEngine()

    def test_attributes_that_do_not_exist(self, gpu):
        open_trt = gpu("10.3").library

        class Log(open_trt.ILogger):
            def __init__(self):
                open_trt.ILogger.__init__(self)

            def log(self, severity, msg):
                pass

        builder = open_trt.Builder(Log())
        config = builder.create_builder_config()
        with pytest.raises(AttributeError, match="max_workspace_size"):
            config.max_workspace_size = 1
        with pytest.raises(TypeError, match="incompatible function arguments"):
            config.set_flag("TF32")
        with pytest.raises(Misuse, match="optimisation level 9"):
            config.builder_optimization_level = 9
        with pytest.raises(NotImplementedError, match="does not imitate"):
            builder.reset()
