"""Files around the robot of the examples: exit codes, systemd's unit, the image, and a node of ROS 2 on a stub."""

from __future__ import annotations

import configparser
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from exports import proven
from fake_rclpy import SENSOR_DATA, FakeRos, Imu, imu_at
from ncps.torch import CfC
from pages import ROOT, run_page

import lnn_edge
from lnn_edge.cli import exit_codes

ROBOT = ROOT / "examples" / "robot"
UNIT = ROBOT / "lnn-edge-robot.service"


def unit():
    found = configparser.ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
    found.optionxform = str
    found.read_string(UNIT.read_text())
    return found


def test_the_unit_restarts_what_a_restart_makes_better():
    service = unit()["Service"]
    never = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert never == {exit_codes.USAGE, exit_codes.NOT_EQUAL, exit_codes.NOT_READY, exit_codes.BAD_BUNDLE}
    good = {int(code) for code in service["SuccessExitStatus"].split()}
    assert good == {exit_codes.MISSED, 128 + signal.SIGTERM}
    assert (service["Type"], service["Restart"]) == ("notify", "on-failure")
    assert {"WatchdogSec", "LimitRTPRIO", "LimitMEMLOCK", "CPUAffinity", "TimeoutStopSec"} <= set(service)


def test_systemd_takes_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, of Debian's package systemd")
    path = tmp_path / UNIT.name  # where python is, and for a user who is here
    path.write_text(UNIT.read_text().replace("/opt/robot/venv/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if UNIT.name in line]  # and not of other units of this machine
    assert own == []


@pytest.mark.parametrize("arguments", [[], ["follow.lnn"], ["follow.lnn", "--serial", "/dev/null", "--udp", "x"]])
def test_wrong_usage_is_no_reason_for_a_restart(warm_device, arguments, tmp_path):
    assert ended(warm_device, arguments, tmp_path) == exit_codes.USAGE


def test_a_bundle_that_is_none_is_no_reason_for_a_restart(warm_device, tmp_path):
    """Typed as in the unit, where there is no such bundle."""
    program, script, *arguments = shlex.split(unit()["Service"]["ExecStart"])
    assert (program, script) == ("/opt/robot/venv/bin/python", "/opt/robot/robot.py")
    assert ended(warm_device, arguments, tmp_path) == exit_codes.BAD_BUNDLE


def test_a_device_that_is_not_there_is_one_and_leaves_nothing_behind(warm_device, ros_bundle, tmp_path):
    """Restarts go on until it is plugged in, so none may fill the disk."""
    typed = [str(ros_bundle), "--serial", str(tmp_path / "ttyUSB0"), "--udp", "0", "--motors", "9"]
    assert ended(warm_device, [*typed, "--backend", "onnxruntime"], tmp_path) == exit_codes.FAILED
    assert list(tmp_path.iterdir()) == []


def ended(warm_device, arguments, folder):
    command = ["python", str(ROBOT / "robot.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=warm_device, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode


def test_the_image_is_built_of_what_there_is_and_runs_as_nobody_of_note():
    text = (ROBOT / "Dockerfile").read_text()
    steps = [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith(("#", " "))]
    words = [word for word, _ in steps]
    assert {word for word, _ in steps} <= {
        "FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "VOLUME", "STOPSIGNAL", "ENTRYPOINT",
    }  # fmt: skip
    copied = [source for word, rest in steps if word == "COPY" for source in rest.split()[:-1] if source[0] != "-"]
    assert [source for source in copied if source != "/venv" and not (ROOT / source).exists()] == []
    last = words[len(words) - words[::-1].index("FROM") :]
    assert last.index("USER") < last.index("ENTRYPOINT")
    final = text.rpartition("FROM")[2]
    assert re.findall(r"^USER (.*)$", final, re.M) == ["robot"]
    assert not re.search(r"pip|apt|curl|wget", final)  # nothing is fetched but in the stage that builds
    assert "/source[record]'" in text
    assert "--cap-add SYS_NICE" in text
    assert ":/bundle.lnn:ro" in text
    assert '"/bundle.lnn"]' in final


def test_the_readme_exports_the_bundle(tmp_path, warm_and_short):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run_page(ROBOT / "README.md", tmp_path, warm_and_short)
    model = lnn_edge.load(tmp_path / "follow.lnn", backend="onnxruntime")
    assert [tensor.name for tensor in model.inputs] == ["imu", "distance"]
    assert model.manifest.guard is not None


def make_six():
    return CfC(6, 8, proj_size=2)


@pytest.fixture
def ros_bundle(tmp_path_factory):
    guard = lnn_edge.Guard(on_gap="reset", on_fault="safe", warm_up=1, safe={"output": (0.0, 0.0)})
    options = {"time": "measured", "period_s": 0.01, "dt_range_s": (0.002, 0.1), "guard": guard}
    return proven(tmp_path_factory, make_six, "six.lnn", short=True, **options)


@pytest.fixture
def sigterm():
    usual = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, usual)


def test_the_node_steps_each_message_by_its_stamp(ros_bundle, monkeypatch, capsys, sigterm):
    begin = 1_700_000_000 * 10**9
    stamps = [begin + k * 12_345_678 for k in range(6)]
    values = np.random.default_rng(0).uniform(-1, 1, (6, 6)).tolist()
    values[3][5] = float("nan")
    events = [imu_at(t_ns, row[:3], row[3:]) for t_ns, row in zip(stamps, values, strict=True)]
    events[5:5] = [events[0], "timer", "timer"]  # one that comes late, and then nothing for a while
    parameters = {"bundle": str(ros_bundle), "imu": "/imu/data", "command": "/motors"}
    ros = FakeRos(monkeypatch, parameters, events)
    runpy.run_path(str(ROBOT / "ros2_node.py"), run_name="__main__")
    assert (ros.kind, ros.topic, ros.qos, ros.up) == (Imu, "/imu/data", SENSOR_DATA, False)

    guarded = lnn_edge.load(ros_bundle).guarded()
    ticks = [
        guarded.tick(row, t_s=t_ns // 10**9 + t_ns % 10**9 * 1e-9) for t_ns, row in zip(stamps, values, strict=True)
    ]
    safe = [0.0, 0.0]
    expected = [ticks[k].y.tolist() for k in range(5)]
    assert expected[3] == safe
    assert len({tuple(y) for y in expected}) > 3
    # the late one, the silence behind it, the first sample of a new sequence, and the end
    assert ros.published == {"/motors": [*expected, safe, safe, safe, safe]}
    assert [line.partition(":")[0] for line in ros.warned] == [
        "warming up", "non-finite input", "clock backward", "stopped",
    ]  # fmt: skip
    assert "1 non-finite input" in capsys.readouterr().out


def test_the_node_says_that_it_has_not_run_on_ros():
    assert "has not run on ROS" in (ROBOT / "ros2_node.py").read_text().split('"""')[1]
