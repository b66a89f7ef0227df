"""Boards that are not there: `doctor` and the machine's facts, read from files under a root folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys

import pytest
from bundles import ROOT, copied

import lnn_edge
from lnn_edge.backends import backend_checks, named_backend
from lnn_edge.cli.program import main
from lnn_edge.machine import jetson
from lnn_edge.machine.describe import machine
from lnn_edge.machine.jetson import JETPACKS, read_board
from lnn_edge.machine.jetson_checks import clock_checks, release_check
from lnn_edge.runtime.backends.trt.cudart import CudaError

ORIN = "NVIDIA Jetson Orin Nano Developer Kit\0"
MINE = f"{sys.version_info.major}.{sys.version_info.minor}"
RELEASE = "# R{major} (release), REVISION: {revision}, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8\n"
PACKAGE = "Package: {name}\nStatus: install ok installed\nArchitecture: arm64\nVersion: {version}\n"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def board_files(**changes):
    """A JetPack 6.2 Orin Nano where everything is installed and the clocks are free."""
    gpu = "sys/class/devfreq/17000000.ga10b"
    files = {
        "proc/device-tree/model": ORIN,
        "etc/nv_tegra_release": RELEASE.format(major=36, revision="4.3"),
        "var/lib/dpkg/status": "\n".join(
            [
                PACKAGE.format(name="nvidia-l4t-core", version="36.4.3-20250107174145"),
                PACKAGE.format(name="tensorrt", version="10.3.0.30-1+cuda12.5"),
                "Package: removed\nStatus: deinstall ok config-files\nVersion: 1\n",
            ]
        ),
        f"usr/lib/python{MINE}/dist-packages/tensorrt/tensorrt.so": "",
        "usr/local/cuda/version.json": json.dumps({"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}),
        f"{gpu}/cur_freq": "306000000\n",
        f"{gpu}/min_freq": "306000000\n",
        f"{gpu}/max_freq": "1020000000\n",
        f"{gpu}/governor": "nvhost_podgov\n",
        "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    }
    files |= {"proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0"}
    files |= changes
    return {name: text for name, text in files.items() if text is not None}


@pytest.fixture
def board(tmp_path):
    return lambda **changes: read_board(write(tmp_path / "root", board_files(**changes)))


def board_findings(board):
    """Everything that `doctor` says about a board, whatever runs on it."""
    return [
        release_check(board),
        *backend_checks(named_backend("tensorrt"), board).software,
        *clock_checks(board),
    ]


def row(board, what):
    return next(f for f in board_findings(board) if f.what == what)


def test_whole_board(board):
    found = board()
    assert (found.model, found.l4t, found.jetpack) == (ORIN.rstrip("\0"), "36.4.3", "6.2")
    assert (found.tensorrt, found.expected_tensorrt) == ("10.3.0.30-1+cuda12.5", "10.3")
    assert (found.cuda, found.power_mode, found.system_python) == ("12.6.68", "2 (MAXN_SUPER)", MINE)
    assert (found.gpu_clock.current_mhz, found.gpu_clock.highest_mhz) == (306.0, 1020.0)
    assert not found.gpu_clock.fixed


def test_container(tmp_path):
    """It sees the host's kernel, and neither the host's device tree nor its packages."""
    found = read_board(write(tmp_path, {"proc/sys/kernel/osrelease": "5.15.148-tegra\n"}))
    assert row(found, "JetPack").found == "no L4T release found in a container that hides the board: not in our table"
    assert read_board(write(tmp_path, {"proc/sys/kernel/osrelease": "6.8.0-1018-aws\n"})) is None


def test_governor_that_holds_the_clock(board):
    """JetPack 7 has no lock but the governor."""
    found = board(**{"sys/class/devfreq/17000000.ga10b/governor": "performance\n"})
    assert row(found, "GPU clock").status == "ready"


class TestClosedDevices:
    """A service's user is seldom in the group `video`; CUDA then speaks of an unknown error, or sees no GPU."""

    @pytest.fixture
    def closed(self, tmp_path, monkeypatch):
        """Files under /dev, by the group that may open them; "" is this user's own."""

        def make(**groups):
            root = tmp_path / "root"
            write(root, {f"dev/{name.replace('__', '/')}": "" for name in groups})
            shut = {str(root / "dev" / name.replace("__", "/")): group for name, group in groups.items() if group}
            monkeypatch.setattr(jetson, "ROOT", root)
            monkeypatch.setattr(jetson.os, "access", lambda path, mode: mode == os.F_OK or str(path) not in shut)
            monkeypatch.setattr(jetson, "_group", lambda path: shut[str(path)])
            return root

        return make

    def test_all_open(self, closed):
        closed(nvmap="", nvgpu__igpu0__ctrl="")
        assert jetson.closed_devices() == ()

    @pytest.mark.parametrize("code", [999, 100, 801])
    def test_group_is_named(self, code, closed, gpu, call):
        root = closed(nvmap="video", nvgpu__igpu0__ctrl="video", nvidiactl="render", null="root")
        gpu("10.3").machine.failing["cudaGetDeviceCount"] = code
        findings = {f["what"]: f for f in json.loads(call("doctor", "--json", "-")[1])["findings"]}
        assert f"This user may not open {root}/dev/nvmap" in findings["backend tensorrt"]["found"]
        assert findings["backend tensorrt"]["fix"] == "sudo usermod -aG render,video $USER"

    def test_root_alone(self, closed, gpu, cfc_bundle, call):
        root = closed(nvidia0="root")
        gpu("10.3").machine.count = 0
        code, _, err = call("build", cfc_bundle, "--backend", "tensorrt")
        assert code == 5
        assert f"no CUDA GPU is visible. This user may not open {root}/dev/nvidia0. Type: ls -l" in err

    def test_real_files(self, tmp_path, monkeypatch):
        path = write(tmp_path, {"dev/nvmap": ""}) / "dev" / "nvmap"
        path.chmod(0)
        found = jetson.closed_devices(tmp_path)
        mine = (jetson.ClosedDevice(str(path), path.group()),)
        assert found == (() if os.geteuid() == 0 else mine)  # nothing is closed to root


def test_no_jetson(tmp_path):
    assert read_board(tmp_path) is None
    assert read_board(write(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5"})) is None


@pytest.mark.parametrize(
    ("line", "l4t", "jetpack"),
    [
        (RELEASE.format(major=36, revision="5.0"), "36.5.0", "6.2.2"),
        (RELEASE.format(major=38, revision="4.0"), "38.4.0", "7.1"),
        (RELEASE.format(major=39, revision="2.0"), "39.2.0", "7.2"),
        (RELEASE.format(major=36, revision="5"), "36.5.0", "6.2.2"),
        (RELEASE.format(major=77, revision="1.0"), "77.1.0", ""),  # by the table, never by arithmetic
        ("nonsense", "36.4.3", "6.2"),  # from the package
        (None, "36.4.3", "6.2"),
    ],
)
def test_release(line, l4t, jetpack, board):
    found = board(**{"etc/nv_tegra_release": line})
    assert (found.l4t, found.jetpack) == (l4t, jetpack)


def test_empty_board(tmp_path):
    """Nothing but the name: every line still says something."""
    found = read_board(write(tmp_path, {"proc/device-tree/model": ORIN}))
    lines = board_findings(found)
    assert [f.status for f in lines] == ["note", "missing", "missing", "missing", "note", "note"]
    assert "not in our table" in lines[0].found
    assert lines[1].fix == "sudo apt update && sudo apt install nvidia-jetpack"


@pytest.mark.parametrize("name", ["17000000.gv11b", "57000000.gpu", "gpu-gpc-0"])
def test_gpu_clock_of_other_boards(name, tmp_path):
    values = {"cur_freq": "1000000000", "min_freq": "1000000000", "max_freq": "1000000000", "governor": "performance"}
    files = {f"sys/class/devfreq/{name}/{key}": value for key, value in values.items()}
    found = read_board(write(tmp_path, {"proc/device-tree/model": ORIN} | files))
    assert found.gpu_clock.fixed
    assert row(found, "GPU clock").found == "fixed at 1000 MHz, governor performance"


def test_broken_files(board):
    gpu = "sys/class/devfreq/17000000.ga10b"
    found = board(
        **{
            "usr/local/cuda/version.json": "{",
            f"{gpu}/cur_freq": "x",
            "var/lib/nvpmodel/status": "",
            "etc/nvpmodel.conf": "",
        }
    )
    assert (found.cuda, found.gpu_clock, found.power_mode) == ("", None, "")


def test_free_clock_is_a_note_with_a_command(board):
    line = row(board(), "GPU clock")
    assert line.status == "note"
    assert line.found == ("306 MHz, governor nvhost_podgov; may change between 306 and 1020 MHz, so latencies vary")
    assert line.fix == "sudo jetson_clocks"


def test_power_mode_without_a_name(board):
    assert board(**{"etc/nvpmodel.conf": None}).power_mode == "2"


def test_old_tensorrt(board):
    old = PACKAGE.format(name="tensorrt", version="8.5.2-1+cuda11.4")
    line = row(board(**{"var/lib/dpkg/status": old}), "TensorRT")
    assert (line.status, line.found) == ("missing", "8.5.2-1+cuda11.4 is too old: 8.6 is needed, from JetPack 6.0 on")


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("10.3.0.30-1+cuda12.5", "package 10.3.0.30-1+cuda12.5"),
        ("10.13.3.9-1+cuda13.0", "package 10.13.3.9-1+cuda13.0; this JetPack is known to bring 10.3"),
    ],
)
def test_tensorrt_of_the_release(version, found, board):
    line = row(board(**{"var/lib/dpkg/status": PACKAGE.format(name="tensorrt", version=version)}), "TensorRT")
    assert (line.status, line.found) == ("ready", found)


class TestModule:
    """The module is in the system's Python; the robot's virtual environment must see it."""

    def test_environment_does_not_see_it(self, board):
        line = row(board(), "TensorRT in Python")
        assert line.status == "missing"
        assert line.fix == f"python{MINE} -m venv --system-site-packages .venv"

    def test_other_python(self, board):
        place = f"usr/lib/python{MINE}/dist-packages/tensorrt/tensorrt.so"
        found = board(**{place: None, "usr/lib/python3.9/dist-packages/tensorrt/tensorrt.so": ""})
        line = row(found, "TensorRT in Python")
        assert line.found == f"installed for Python 3.9, this is {MINE}"

    def test_shared_dist_packages(self, board):
        place = f"usr/lib/python{MINE}/dist-packages/tensorrt/tensorrt.so"
        shared = "usr/lib/python3/dist-packages/tensorrt/tensorrt.so"
        found = board(**{place: None, shared: "", "usr/bin/python3.12": "", "usr/bin/python3.13": ""})
        assert found.system_python == "3.12"

    def test_bindings_named_for_their_python(self, board):
        place = f"usr/lib/python{MINE}/dist-packages/tensorrt/tensorrt.so"
        named = "usr/lib/python3/dist-packages/tensorrt_bindings/tensorrt.cpython-310-aarch64-linux-gnu.so"
        assert board(**{place: None, named: ""}).system_python == "3.10"

    def test_not_installed(self, board):
        place = f"usr/lib/python{MINE}/dist-packages/tensorrt/tensorrt.so"
        line = row(board(**{place: None}), "TensorRT in Python")
        assert (line.found, line.fix) == ("the module is not installed", "sudo apt install python3-libnvinfer")

    def test_visible(self, board, gpu):
        gpu("10.3")
        assert row(board(), "TensorRT in Python").status == "ready"


def test_table_names_a_tensorrt_for_every_release():
    for release, (jetpack, tensorrt) in JETPACKS.items():
        assert release.count(".") == 2
        assert jetpack
        assert float(tensorrt) > 8


@pytest.fixture
def on_board(tmp_path, monkeypatch):
    monkeypatch.setattr(jetson, "ROOT", write(tmp_path / "root", board_files()))


@pytest.fixture
def call(capfd):
    def run(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_machine_facts(on_board):
    facts = machine()
    assert facts["jetpack"] == "6.2 (L4T 36.4.3)"
    assert facts["power mode"] == "2 (MAXN_SUPER)"
    assert facts["gpu clock"] == "306 MHz"


def test_doctor_on_a_ready_board(on_board, gpu, call):
    gpu("10.3")
    code, out, _ = call("doctor", "--json", "-")
    findings = {f["what"]: f for f in json.loads(out)["findings"]}
    assert code == 0
    assert findings["backend tensorrt"]["status"] == "ready"
    assert findings["JetPack"]["found"].startswith("6.2 (L4T 36.4.3) on NVIDIA Jetson Orin Nano")
    assert findings["GPU"]["found"] == (
        "Orin, compute 8.7, 8 multiprocessors, memory shared with the CPU; "
        "CUDA driver 12.6, runtime 12.6 (cuda-bindings)"
    )


def test_doctor_on_a_board_without_a_driver(on_board, gpu, call):
    gpu("10.3", driver=0)
    code, out, _ = call("doctor", "--json", "-")
    findings = {f["what"]: f for f in json.loads(out)["findings"]}
    assert code == 0  # onnxruntime still runs
    assert findings["backend tensorrt"]["status"] == findings["GPU"]["status"] == "missing"
    assert "there is no CUDA driver" in findings["GPU"]["found"]
    assert findings["GPU"]["fix"] == "sudo apt update && sudo apt install nvidia-jetpack"
    assert findings["backend tensorrt"]["fix"] == "see below"


def test_doctor_where_the_bindings_are_too_new(on_board, gpu, call):
    gpu("10.3", runtime=13050)
    _, out, _ = call("doctor", "--json", "-")
    findings = {f["what"]: f for f in json.loads(out)["findings"]}
    assert findings["GPU"]["fix"] == findings["backend tensorrt"]["fix"] == "pip install 'cuda-bindings==12.*'"


def test_doctor_shows_what_builds_left_behind(on_board, gpu, call, cfc_bundle, tmp_path):
    gpu("10.3")

    def engines():
        found = {f["what"]: f for f in json.loads(call("doctor", "--json", "-")[1])["findings"]}
        return found["engines"]

    folder = tmp_path / "cache" / "lnn-edge" / "tensorrt"
    assert (engines()["status"], engines()["fix"]) == ("note", "lnn-edge build BUNDLE --backend tensorrt")
    assert not folder.exists()  # looking makes nothing
    call("build", cfc_bundle, "--backend", "tensorrt")
    size = sum(path.stat().st_size for path in folder.glob("*.engine")) / 2**20
    assert engines()["status"] == "ready"
    assert engines()["found"] == f"2 engine and timing files, {size:.1f} MiB; to empty the cache: rm -r {folder}"
    folder.chmod(0o755)
    assert (engines()["status"], engines()["fix"]) == ("missing", f"chmod 700 {folder}")
    assert "must be a folder that only you can enter" in engines()["found"]


def test_doctor_without_a_visible_gpu(on_board, gpu, call):
    gpu("10.3").machine.count = 0
    findings = {f["what"]: f for f in json.loads(call("doctor", "--json", "-")[1])["findings"]}
    assert findings["GPU"]["found"] == "no CUDA GPU is visible."
    assert findings["GPU"]["fix"] == "nvidia-smi; echo $CUDA_VISIBLE_DEVICES"


def test_doctor_with_a_module_from_elsewhere(board, gpu):
    """TensorRT 11.4.1 comes to a Jetson as a wheel, not as a package of its JetPack."""
    gpu("11.4")
    findings = {f.what: f for f in board_findings(board(**{"var/lib/dpkg/status": ""}))}
    assert (findings["TensorRT"].status, findings["TensorRT"].fix) == ("ready", "")
    assert "the Python module is here, though not from a package" in findings["TensorRT"].found


def test_doctor_has_a_command_for_whatever_is_not_ready(call, monkeypatch, tmp_path):
    """As the guide says; on the emptiest of boards there is most to do."""
    (tmp_path / "empty" / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "empty" / "proc" / "device-tree" / "model").write_text(ORIN)
    old = write(
        tmp_path / "old",
        board_files(**{"var/lib/dpkg/status": PACKAGE.format(name="tensorrt", version="8.5.2.2-1")}),
    )
    for root in (tmp_path / "empty", old):
        monkeypatch.setattr(jetson, "ROOT", root)
        findings = json.loads(call("doctor", "--json", "-")[1])["findings"]
        fine = ("ready", "not needed")
        assert [f["what"] for f in findings if f["status"] not in fine and not f["fix"]] == []


def test_doctor_where_the_cache_cannot_be_looked_into(on_board, gpu, call, monkeypatch):
    gpu("10.3")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lnn_edge.runtime.backends.build_cache._check_private", refuse)
    code, out, _ = call("doctor", "--json", "-")
    findings = {f["what"]: f for f in json.loads(out)["findings"]}
    assert code == 0
    assert findings["engines"]["status"] == "missing"
    assert "cannot be looked into: Permission denied. It must lie in" in findings["engines"]["found"]
    assert findings["engines"]["fix"] == "export XDG_CACHE_HOME=FOLDER"


def test_doctor_without_the_module(on_board, call):
    _, out, _ = call("doctor", "--json", "-")
    findings = {f["what"]: f for f in json.loads(out)["findings"]}
    assert findings["backend tensorrt"]["fix"] == "see below"
    assert findings["TensorRT in Python"]["fix"].startswith("python3")


class TestCommands:
    """`build`, `verify`, `bench` and `run` on the GPU, as typed."""

    def test_build(self, gpu, cfc_bundle, call, tmp_path):
        gpu("10.3")
        code, out, _ = call("build", cfc_bundle, "--backend", "tensorrt", "--json", tmp_path / "b.json")
        assert code == 0
        assert out.startswith(f"{cfc_bundle}: built in ")
        result = json.loads((tmp_path / "b.json").read_text())
        assert result["built"]
        assert result["path"].startswith(str(tmp_path / "cache" / "lnn-edge" / "tensorrt"))
        code, out, _ = call("build", cfc_bundle, "--backend", "tensorrt")
        assert (code, "already built for this device" in out) == (0, True)

    def test_build_again_says_why(self, gpu, cfc_bundle, call, tmp_path):
        gpu("10.3")
        call("build", cfc_bundle, "--backend", "tensorrt")
        for path in (tmp_path / "cache" / "lnn-edge" / "tensorrt").glob("*.engine"):
            path.write_bytes(b"x")
        _, out, _ = call("build", cfc_bundle, "--backend", "tensorrt")
        assert "(the one in the cache was refused: its bytes were changed), saved " in out

    def test_nothing_to_build(self, cfc_bundle, call):
        code, _, err = call("build", cfc_bundle, "--backend", "onnxruntime")
        assert code == 2
        assert "backend 'onnxruntime' runs the bundle as it is: there is nothing to build" in err

    def test_verify(self, gpu, ltc_bundle, call):
        gpu("11.4", integrated=False)
        code, out, _ = call("verify", ltc_bundle, "--backend", "tensorrt", "--option", "feedback=pingpong")
        assert code == 0
        assert "closed-loop steps on TensorRT 11.4.0.106 on Orin" in out

    def test_run(self, gpu, cfc_bundle, call, tmp_path):
        gpu("8.6")
        (tmp_path / "x.csv").write_text("acc_x,acc_y,gyro_z\n0.1,0.2,0.3\n0.3,0.2,0.1\n")
        texts = []
        for backend in ("tensorrt", "onnxruntime"):
            code, out, _ = call("run", cfc_bundle, "--input", tmp_path / "x.csv", "--backend", backend)
            assert code == 0
            texts.append(out)
        assert texts[0] == texts[1]

    def test_bench(self, gpu, cfc_bundle, call):
        gpu("10.3", integrated=False)
        code, out, _ = call(
            "bench", cfc_bundle, "--backend", "tensorrt", "--steps", "50", "--warmup", "5", "--seconds", "0.1"
        )
        assert code == 0
        for text in (
            "Enqueue Time",
            "GPU Compute Time",
            "H2D Latency",
            "D2H Latency",
            "graph on, wait spin, transfers in",
        ):
            assert text in out
        assert "streams captured as one CUDA graph 2, fallen back to plain enqueue 0" in out

    @pytest.mark.parametrize(
        ("error", "code", "said"),
        [
            (CudaError("cudaEventRecord", 719, "no more"), 1, "the GPU failed while it was measured: cudaEventRecord"),
            (KeyboardInterrupt(), 130, "interrupted: the figures are of the part that ran"),
        ],
        ids=["failure", "ctrl-c"],
    )
    def test_bench_keeps_what_was_measured_before(
        self, error, code, said, gpu, cfc_bundle, call, tmp_path, monkeypatch
    ):
        gpu("10.3")

        def fail(*_):
            raise error

        monkeypatch.setattr("lnn_edge.runtime.backends.trt.backend.measure", fail)
        few = ("--steps", "50", "--warmup", "0", "--seconds", "0", "--json", tmp_path / "bench.json")
        found, out, err = call("bench", cfc_bundle, "--backend", "tensorrt", *few)
        assert found == code
        assert said in out + err
        assert "back to back: service" in out
        record = json.loads((tmp_path / "bench.json").read_text())
        assert (record["back_to_back"]["samples"], record["device"]) == (50, None)

    def test_bench_json(self, gpu, cfc_bundle, call):
        gpu("10.3")
        arguments = ["--steps", "20", "--warmup", "0", "--seconds", "0", "--json", "-", "--option", "wait=block"]
        _, out, _ = call("bench", cfc_bundle, "--backend", "tensorrt", *arguments)
        device = json.loads(out)["device"]
        assert (device["wait"], device["graph"], device["fallbacks"]) == ("block", True, 0)
        assert device["figures"][0]["durations"]["samples"] == 20

    @pytest.mark.parametrize("command", ["build", "verify", "bench", "run"])
    def test_not_ready_is_exit_code_5(self, command, gpu, cfc_bundle, call):
        gpu("10.3", driver=0)
        code, _, err = call(command, cfc_bundle, "--backend", "tensorrt")
        assert code == 5
        assert err == (
            "lnn-edge: there is no CUDA driver on this machine (libcuda.so.1 is missing or too old). "
            "Type: lnn-edge doctor\n"
        )

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("wait", "expected NAME=VALUE, got 'wait'"),
            ("wait=now", "option 'wait' is 'now'. Valid: spin, block, poll"),
            ("wiat=spin", "has no option 'wiat'"),
        ],
    )
    def test_wrong_options(self, option, message, cfc_bundle, capfd):
        try:
            code = main(["bench", str(cfc_bundle), "--backend", "tensorrt", "--option", option])
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        assert message in capfd.readouterr().err

    def test_help_lists_the_options(self, capfd):
        with pytest.raises(SystemExit):
            main(["bench", "--help"])
        text = " ".join(capfd.readouterr().out.split())
        assert "tensorrt: wait=spin|block|poll (how the CPU waits for the GPU)" in text


def test_engine_is_not_in_the_bundle(gpu, cfc_bundle, tmp_path):
    bundle = copied(cfc_bundle, tmp_path / "gait.lnn")
    gpu("10.3")
    lnn_edge.load(bundle, backend="tensorrt")
    assert sorted(path.name for path in bundle.iterdir()) == sorted(path.name for path in cfc_bundle.iterdir())


README = (ROOT / "examples" / "jetson" / "README.md").read_text()


def typed():
    """The commands of the guide that are ours, from "Build, prove, measure, run" on."""
    blocks = re.findall(r"```bash\n(.*?)```", README[README.index("## Build, prove") :], flags=re.S)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("lnn-edge ")]


def test_guide_runs_as_typed(gpu, cfc_bundle, tmp_path, monkeypatch, capfd):
    gpu("10.3")
    monkeypatch.chdir(tmp_path)
    copied(cfc_bundle, tmp_path / "gait.lnn")
    (tmp_path / "walk.csv").write_text("acc_x,acc_y,gyro_z\n0.1,0.2,0.3\n")
    assert len(typed()) == 6
    for line in typed():
        quick = ["--steps", "50", "--seconds", "0.2"] if " bench " in line else []
        assert main([*shlex.split(line)[1:], *quick]) == 0, capfd.readouterr().err
    assert (tmp_path / "gait.csv").read_text().count("\n") == 2


def test_guide_lists_the_options_of_the_table():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", README, flags=re.M)
    options = named_backend("tensorrt").options
    assert [name for name, _ in rows] == [option.name for option in options]
    for (_, values), option in zip(rows, options, strict=True):
        shown = re.findall(r"`(\w+)`", values)
        assert shown[0] == option.values[0]
        assert set(shown) <= set(option.values)


def test_guide_shows_real_messages():
    sources = "".join(path.read_text() for path in sorted((ROOT / "lnn_edge" / "runtime" / "backends").rglob("*.py")))
    for part in (
        "TensorRT cannot be imported: ",
        "the CUDA driver supports CUDA ",
        "neither the Python package cuda-bindings nor libcudart is here",
        "the step runs without a CUDA graph",
        "must be a folder that only you can enter",
    ):
        assert part in README
        assert part.removeprefix("TensorRT") in sources  # which of the two it is, a table says
