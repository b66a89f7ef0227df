"""The backend `tensorrt-rtx`: engines built anywhere, for GPUs that are named, and compiled on the one at hand."""

from __future__ import annotations

import json
import os
import sys
from hashlib import sha256

import msgspec
import numpy as np
import pytest
import real_rtx
from bundles import copied
from fake_tensorrt import FOR_RTX, forget

import lnn_edge
from lnn_edge.backends import backend_checks, named_backend, why_not_ready
from lnn_edge.cli.program import main
from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.backends.trt import engines
from lnn_edge.runtime.backends.trt.plan_file import PlanHeader, is_plan, read_plan, write_plan

CARD = {"name": "RTX 4090", "capability": (8, 9), "integrated": False}
PC = {**CARD, "driver": 13000, "runtime": 13000}
GPUS = "sm_86,sm_89,sm_120"


@pytest.fixture
def rtx(gpu):
    """TensorRT for RTX on a PC with a card, or with what else is said."""
    return lambda **facts: gpu(FOR_RTX, **(PC | facts))


@pytest.fixture
def command(capfd):
    """Run a command here; returns exit code, standard output and standard error."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return (code, *capfd.readouterr())

    return run


def engine_for(bundle, path, command, gpus=GPUS):
    """Build a file where there is neither a driver nor a GPU."""
    code, out, err = command("build", bundle, "--backend", "tensorrt-rtx", "--for", gpus, "-o", path)
    assert code == 0, err
    return out


class TestOnTheDevice:
    def test_builds_for_its_own_gpu_and_keeps_what_it_compiled(self, rtx, cfc_bundle, tmp_path):
        fake = rtx()
        expected = lnn_edge.load(cfc_bundle, backend="onnxruntime").stream().step(np.ones(3, np.float32))
        model = lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")
        assert model.description.startswith("TensorRT for RTX 1.7.1.116 on RTX 4090 (compute 8.9")
        np.testing.assert_array_equal(model.stream().step(np.ones(3, np.float32)), expected)
        assert (fake.world["builds"], fake.world["compiled"]) == (1, 1)
        assert [aim.name for aim in fake.world["config"]._aims] == ["SM89"]
        assert [path.parent.name for path in tmp_path.rglob("*.kernel")] == ["tensorrt-rtx-kernels"]
        forget()
        lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")
        assert (fake.world["builds"], fake.world["compiled"]) == (1, 1)

    def test_the_module_of_nvidias_archive(self, rtx, cfc_bundle, monkeypatch):
        """It has another name than that of the wheel with the bindings alone."""
        fake = rtx()
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake.library)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
        assert lnn_edge.load(cfc_bundle, backend="tensorrt-rtx").backend == "tensorrt-rtx"
        assert backend_checks(named_backend("tensorrt-rtx"), None).software[0].status == "ready"
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        forget()
        assert why_not_ready(named_backend("tensorrt-rtx")).startswith(
            "no module tensorrt_rtx_bindings or tensorrt_rtx;"
        )

    def test_kernels_of_another_gpu_are_compiled_again(self, rtx, cfc_bundle):
        fake = rtx()
        lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")
        fake.machine.name = "RTX 4080"
        forget()
        lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")
        assert (fake.world["builds"], fake.world["compiled"]) == (2, 2)

    def test_a_gpu_that_it_does_not_know(self, rtx, cfc_bundle):
        rtx(name="H200", capability=(9, 0))
        with pytest.raises(BackendUnavailable, match=r"runs on sm_75, sm_80, .*, but H200 is sm_90\..*tensorrt"):
            lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")

    def test_a_target_that_it_refuses(self, rtx, cfc_bundle):
        rtx().world["no target"] = True
        with pytest.raises(BackendUnavailable, match="it does not build for 'sm_89' among sm_89"):
            lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")

    def test_has_no_option_that_does_nothing(self, rtx, cfc_bundle):
        rtx()
        with pytest.raises(ValueError, match="backend 'tensorrt-rtx' has no option 'optimization_level'"):
            lnn_edge.load(cfc_bundle, backend="tensorrt-rtx", options={"optimization_level": 5})

    @pytest.mark.parametrize("version", ["1.6.0", "2.0.1"])
    def test_wrong_version(self, version, rtx, cfc_bundle):
        rtx().library.__version__ = version
        with pytest.raises(BackendUnavailable, match=rf"TensorRT for RTX is {version}, but .* 1.7 to 1.x\. Type: pip"):
            lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")

    def test_without_a_driver_others_are_taken_without_a_word(self, rtx, cfc_bundle, caplog):
        """It may have been installed for its builder alone."""
        rtx(driver=0)
        assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
        assert not caplog.records
        with pytest.raises(BackendUnavailable, match="there is no CUDA driver on this machine"):
            lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")


class TestFiles:
    def test_built_without_a_gpu_and_taken_on_one(self, rtx, cfc_bundle, tmp_path, command):
        path = tmp_path / "gait.engine"
        rtx(driver=0)
        out = engine_for(cfc_bundle, path, command)
        assert f"saved {path}" in out
        assert "for sm_86, sm_89, sm_120, one fused node" in out
        header, _ = read_plan(path)
        assert (header.builder, header.targets) == ("1.7.1.116", ("sm_86", "sm_89", "sm_120"))
        fake = rtx()
        code, out, _ = command("build", cfc_bundle, "--backend", "tensorrt-rtx", "--from", path)
        assert code == 0
        assert f"taken from {path}" in out
        lnn_edge.load(cfc_bundle, backend="tensorrt-rtx")
        assert fake.world.get("builds") is None

    def test_inspect(self, rtx, cfc_bundle, tmp_path, command):
        path = tmp_path / "gait.engine"
        rtx(driver=0)
        engine_for(cfc_bundle, path, command)
        code, out, _ = command("inspect", path)
        assert code == 0
        assert "built by    version 1.7.1.116, which alone can load it" in out
        assert "for         sm_86, sm_89, sm_120" in out
        code, out, _ = command("inspect", path, "--json", "-")
        assert json.loads(out)["targets"] == GPUS.split(",")

    @pytest.mark.parametrize(
        ("here", "message"),
        [
            ({"name": "A100", "capability": (8, 0)}, "was built for sm_86, sm_89, sm_120, A100 is sm_80"),
            ({"driver": 0}, "there is no CUDA driver on this machine"),
            ({"version": "1.8.0.1"}, "was built for TensorRT for RTX 1.7.1.116, here it is 1.8.0.1"),
        ],
        ids=["another GPU", "no GPU", "another version"],
    )
    def test_refused_where_it_is_not_for(self, here, message, rtx, cfc_bundle, tmp_path, command):
        path = tmp_path / "gait.engine"
        rtx(driver=0)
        engine_for(cfc_bundle, path, command)
        version = here.pop("version", None)
        fake = rtx(**here)
        fake.library.__version__ = version or fake.library.__version__
        code, _, err = command("build", cfc_bundle, "--backend", "tensorrt-rtx", "--from", path)
        assert code == 5
        assert message in err

    def test_of_another_bundle(self, rtx, cfc_bundle, ltc_bundle, tmp_path, command):
        rtx()
        engine_for(cfc_bundle, tmp_path / "gait.engine", command)
        code, _, err = command("build", ltc_bundle, "--backend", "tensorrt-rtx", "--from", tmp_path / "gait.engine")
        assert code == 5
        assert "was built for model.onnx" in err

    @pytest.mark.parametrize(
        ("was", "now"),
        [(b'"sm_120"', b'"sm_121"'), (b',"sm_120"', b""), (b'"tf32":false', b'"tf32":true')],
        ids=["another GPU", "one less", "TF32"],
    )
    def test_what_it_says_of_itself_was_edited(self, was, now, rtx, cfc_bundle, tmp_path, command):
        path = tmp_path / "gait.engine"
        rtx()
        engine_for(cfc_bundle, path, command)
        data = path.read_bytes()
        assert data.count(was) == 1
        path.write_bytes(data.replace(was, now))
        build = ["build", cfc_bundle, "--backend", "tensorrt-rtx", "--from", path]
        for arguments in (["inspect", path], build):
            code, _, err = command(*arguments)
            assert (code, f"'{path}' was cut or changed since it was built: copy it again" in err) == (5, True)

    def test_one_of_the_first_version(self, tmp_path):
        """Whose checksum is of the engine alone."""
        sizes = {"version": 1, "sha256": sha256(b"x").hexdigest(), "size": 1}
        header = PlanHeader("1.7.1", ("sm_86",), "gait", "0" * 64, False, 1, **sizes)
        (tmp_path / "x").write_bytes(b"lnn-edge engine\n%s\nx" % msgspec.json.encode(header))
        assert read_plan(tmp_path / "x") == (header, b"x")

    @pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:-1] + b"?", lambda d: b"x" + d, lambda d: b""])
    def test_damaged(self, damage, rtx, cfc_bundle, tmp_path, command):
        path = tmp_path / "gait.engine"
        rtx()
        engine_for(cfc_bundle, path, command)
        path.write_bytes(damage(path.read_bytes()))
        code, _, err = command("build", cfc_bundle, "--backend", "tensorrt-rtx", "--from", path)
        assert code == 5
        assert "was cut or changed" in err or "is no engine" in err

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"bundle": "gait\x1b[31m"}, "control characters in `bundle`"),
            ({"builder": "1.7\n2"}, "control characters in `builder`"),
            ({"bundle": "g" * 300}, "length <= 255"),
            ({"targets": []}, "length >= 1"),
            ({"targets": ["sm_86\n"]}, r"matching regex"),
            ({"targets": ["sm_86"] * 65}, "length <= 64"),
            ({"backend": "native"}, "Invalid enum value 'native'"),
            ({"model": "short"}, "matching regex"),
            ({"nodes": -5}, "`int` >= 0"),
            ({"size": -1}, "`int` >= 0"),
            ({"version": 0}, "`int` >= 1"),
            ({"more": 1}, "unknown field `more`"),
        ],
        ids=str,
    )
    def test_forged_header(self, changes, message, rtx, cfc_bundle, tmp_path, command):
        """Its words go to a terminal, and are compared with what is here."""
        path = tmp_path / "gait.engine"
        rtx()
        engine_for(cfc_bundle, path, command)
        magic, line, plan = path.read_bytes().split(b"\n", 2)
        path.write_bytes(b"\n".join([magic, json.dumps(json.loads(line) | changes).encode(), plan]))
        for arguments in (["inspect", path], ["build", cfc_bundle, "--backend", "tensorrt-rtx", "--from", path]):
            code, out, err = command(*arguments)
            assert (code, out) == (5, "")
            assert f"'{path}' says of itself what no engine does: " in err
            assert message in err
            assert "\x1b" not in err

    def test_header_that_lies_about_its_gpus(self, rtx, cfc_bundle, tmp_path, command):
        path = tmp_path / "gait.engine"
        rtx(driver=0)
        engine_for(cfc_bundle, path, command, "sm_86")
        header, plan = read_plan(path)
        write_plan(path, msgspec.structs.replace(header, targets=("sm_89",)), plan)
        rtx()
        code, _, err = command("build", cfc_bundle, "--backend", "tensorrt-rtx", "--from", path)
        assert code == 5
        assert f"'{path}' cannot be loaded on RTX 4090 (sm_89): TensorRT for RTX" in err

    def test_a_pipe_is_no_engine(self, rtx, cfc_bundle, tmp_path, command):
        """It is not waited for."""
        rtx()
        os.mkfifo(tmp_path / "pipe")
        code, _, err = command("inspect", tmp_path / "pipe")
        assert code == 6
        code, _, err = command("build", cfc_bundle, "--backend", "tensorrt-rtx", "--from", tmp_path / "pipe")
        assert code == 2
        assert "is a pipe or a device, expected an engine" in err

    def test_a_file_that_may_not_be_read(self, rtx, cfc_bundle, open_path, command, unprivileged):
        path = open_path / "gait.engine"
        rtx()
        engine_for(cfc_bundle, path, command)
        command("inspect", path)  # what this user may not import any more is imported
        path.chmod(0)
        with unprivileged():
            code, _, err = command("inspect", path)
        assert code == 2
        assert f"'{path}': Permission denied" in err

    def test_a_folder_that_may_not_be_written_to(self, rtx, cfc_bundle, open_path, command, unprivileged):
        """Before anything is built."""
        fake = rtx()
        bundle = copied(cfc_bundle, open_path / "gait.lnn")
        for path in (bundle, *bundle.iterdir()):
            path.chmod(0o755)
        arguments = ["build", bundle, "--backend", "tensorrt-rtx", "--for", "sm_86", "-o", open_path / "x.engine"]
        assert command(*arguments)[0] == 0
        open_path.chmod(0o555)
        with unprivileged():
            code, _, err = command(*arguments)
        open_path.chmod(0o755)
        assert code == 2
        assert f"'{open_path / 'x.engine'}': Permission denied" in err
        assert fake.world["builds"] == 1

    def test_a_gpu_that_is_named_twice_is_one(self, rtx, cfc_bundle, tmp_path, command):
        rtx(driver=0)
        assert "for sm_86, sm_89, one" in engine_for(cfc_bundle, tmp_path / "x", command, "sm_86, sm_89,sm_86,")
        assert read_plan(tmp_path / "x")[0].targets == ("sm_86", "sm_89")

    def test_advice_is_for_who_typed_a_command(self, rtx, cfc_bundle, tmp_path, command):
        """The build is in another thread."""
        rtx().world["build"] = "no kernel"
        path = tmp_path / "x.engine"
        code, _, err = command("build", cfc_bundle, "--backend", "tensorrt-rtx", "--for", "sm_86", "-o", path)
        assert code == 5
        assert "could not be built for sm_86. It said: no kernel. Type: --backend onnxruntime meanwhile" in err
        assert not path.exists()

    @pytest.mark.parametrize(
        "error",
        [RuntimeError("half\ninstalled"), OSError("no such file"), SystemError(), ModuleNotFoundError("no libs")],
        ids=repr,
    )
    def test_a_library_that_cannot_be_imported(self, error, rtx, cfc_bundle, tmp_path, command, monkeypatch):
        def broken():
            raise error

        rtx(driver=0)
        monkeypatch.setitem(engines._IMPORTS, "tensorrt-rtx", broken)
        path = tmp_path / "x.engine"
        code, _, err = command("build", cfc_bundle, "--backend", "tensorrt-rtx", "--for", "sm_86", "-o", path)
        said = str(error).replace("\n", " ") or type(error).__name__
        how = "" if isinstance(error, ModuleNotFoundError) else "--force-reinstall "  # else pip is content
        assert code == 5
        assert f"TensorRT for RTX cannot be imported: {said}. Type: pip install {how}'lnn-edge[rtx]'" in err

    def test_header_of_something_else(self, tmp_path):
        path = tmp_path / "x.engine"
        path.write_bytes(b"lnn-edge engine\n{}\n")
        assert is_plan(path)
        with pytest.raises(BackendUnavailable, match="says of itself what no engine does"):
            read_plan(path)
        path.write_bytes(b'lnn-edge engine\n{"version": 9}\n')
        with pytest.raises(BackendUnavailable, match="has format version 9, but this lnn-edge reads up to 2"):
            read_plan(path)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--for", GPUS], "give both"),
            (["-o", "x.engine"], "give both"),
            (["--from", "x.engine", "--rebuild"], "give it without --for and --rebuild"),
            (["--for", "sm_98", "-o", "x.engine"], "builds for no GPU 'sm_98'"),
        ],
    )
    def test_usage(self, arguments, message, rtx, cfc_bundle, command, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        rtx()
        code, _, err = command("build", cfc_bundle, "--backend", "tensorrt-rtx", *arguments)
        assert code == 2
        assert message in err

    def test_other_backends_build_on_their_device(self, cfc_bundle, command, tmp_path):
        arguments = ["--for", "sm_87", "-o", tmp_path / "x"]
        code, _, err = command("build", cfc_bundle, "--backend", "native", *arguments)
        assert code == 2
        assert "backend 'native' builds on its device alone" in err


def test_the_real_builder_makes_a_file(cfc_bundle, tmp_path, command):
    """As on any PC with the extra, without a GPU: by NVIDIA's own library, through the command."""
    real_rtx.need_rtx()
    forget()
    path = tmp_path / "gait.engine"
    assert "for sm_86, sm_89, sm_120, one fused node" in engine_for(cfc_bundle, path, command)
    header, plan = read_plan(path)
    assert (header.builder, header.nodes) == ("1.7.1.116", 1)
    assert plan.startswith(b"vtrt")


class TestDoctor:
    def test_says_what_it_builds_for_without_a_gpu(self, rtx):
        rtx(driver=0)
        (found,) = backend_checks(named_backend("tensorrt-rtx"), None).software
        assert (found.what, found.status) == ("TensorRT for RTX", "ready")
        assert found.found.startswith("1.7.1.116: builds here, GPU or not, for sm_75, sm_80,")
