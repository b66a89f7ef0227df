"""The robot of the examples on pseudo-devices: its sensors fail, it is killed, goes on, and its recordings replay.

Nothing here is timed: a sensor does something until the robot's commands say that it was noticed.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import queue
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import msgspec
import pytest
from exports import proven
from pages import ROOT

import lnn_edge
from lnn_edge.runtime.record.replay import InThisProcess

pytest.importorskip("mcap", reason="needs the extra `record`. Type: pip install 'lnn-edge[record]'")

ROBOT = ROOT / "examples" / "robot"
PERIOD_S = 0.02
EVERY_S = 0.01  # that the devices send
PATIENCE_S = 60
TRUSTED = {"ok", "late"}


@pytest.fixture(scope="session")
def follow(tmp_path_factory):
    made = runpy.run_path(str(ROBOT / "follow.py"))
    return proven(
        tmp_path_factory,
        made["make_model"],
        "follow.lnn",
        short=True,
        example=made["walk"](),
        time="measured",
        period_s=PERIOD_S,
        dt_range_s=(0.005, 0.1),
        inputs={"imu": ["acc_x", "acc_y", "gyro_z"], "distance": ["ahead:m:0:5"]},
        outputs=["left::-1:1", "right::-1:1"],
        guard=msgspec.json.decode((ROBOT / "guard.json").read_bytes(), type=lnn_edge.Guard),
    )


def udp():
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("127.0.0.1", 0))
    return own, own.getsockname()[1]


def free_port():
    own, port = udp()
    own.close()
    return port


class Ear:
    """What came to a socket: read all the time, as one that is full loses what comes."""

    def __init__(self, own):
        self.socket, self.came = own, queue.SimpleQueue()
        own.settimeout(0.1)
        self.ended = False
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while True:
            try:
                self.came.put(self.socket.recv(4096))
            except TimeoutError:
                if self.ended:  # and all that had come is read
                    return

    def next(self):
        return self.came.get(timeout=PATIENCE_S)

    def forget(self):
        with contextlib.suppress(queue.Empty):
            while True:
                self.came.get_nowait()

    def close(self):
        self.ended = True
        self.thread.join()
        self.socket.close()


class Devices:
    """An IMU on a pseudo-terminal, a range finder that sends to a port, motors, and what systemd listens at."""

    def __init__(self, folder):
        self.imu, self.slave = os.openpty()
        os.set_blocking(self.imu, False)
        self.serial, self.port = os.ttyname(self.slave), free_port()
        motors, self.motors_port = udp()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(folder / "notify"))
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "2000000"}
        self.motors, self.notify = Ear(motors), Ear(notify)
        self.line = self.good
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.play, daemon=True)
        self.thread.start()

    def play(self):
        finder, _ = udp()
        while not self.ended.wait(EVERY_S):
            text = self.line()
            with contextlib.suppress(BlockingIOError):  # nobody reads
                os.write(self.imu, text.encode())
            finder.sendto(b'{"x": [2.5]}', ("127.0.0.1", self.port))
        finder.close()

    def good(self):
        return f'{{"x": [0.1, -0.2, 0.3], "t_s": {time.monotonic()}}}\n'

    def until(self, status):
        """What the robot got until a tick had this status."""
        got = []
        while not got or got[-1]["status"] != status:
            got.append(json.loads(self.motors.next()))
        return got

    def told(self, word):
        while word not in self.notify.next().decode().split("\n"):
            pass

    def close(self):
        self.ended.set()
        self.thread.join()
        self.motors.close()
        self.notify.close()
        for own in (self.imu, self.slave):
            os.close(own)


@pytest.fixture
def devices(short_tmp_path):
    own = Devices(short_tmp_path)
    yield own
    own.close()


@contextlib.contextmanager
def running(script, *arguments, folder, environment=None):
    command = [sys.executable, str(ROBOT / script), *map(str, arguments)]
    own, pipe = os.environ | (environment or {}), subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=own, stdout=pipe, stderr=pipe, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


def finished(program, number):
    """What a program printed and said that got a signal."""
    program.send_signal(number)
    return program.communicate(timeout=PATIENCE_S)


FAULTS = {
    "a value that is none": (lambda: '{"x": [NaN, 0.0, 0.0]}\n', "non-finite input"),
    "text that is no sample": (lambda: "IMU v1.2 ready\n", "stale"),
    "a sample of another device": (lambda: '{"x": [1.0, 2.0]}\n', "bad input"),
    "silence": (lambda: "", "stale"),
}


@pytest.mark.timeout(400)
def test_a_robot_through_faults_a_kill_and_an_end(follow, devices, tmp_path):
    typed = [follow, "--serial", devices.serial, "--udp", devices.port, "--motors", devices.motors_port]
    typed += ["--within", 10 * PATIENCE_S, "--backend", "onnxruntime"]
    got = []
    with running("robot.py", *typed, folder=tmp_path, environment=devices.environment) as robot:
        devices.told("READY=1")
        got += devices.until("ok")
        for line, status in FAULTS.values():
            devices.line = line
            got += devices.until(status)  # and with the safe output, as is looked at below
            devices.line = devices.good
            got += devices.until("ok")
        devices.line = lambda: '{"x": [0.1, -0.2, 0.3], "t_s": -1e9}\n'  # its clock was set back: none of ours
        for _ in range(5):
            got += devices.until("ok")
        devices.told("WATCHDOG=1")
        while not (tmp_path / "walk.snapshot").exists() or not recorded(follow, tmp_path / "walk.mcap"):
            got += devices.until("ok")
        _, said = finished(robot, signal.SIGKILL)
    assert "begins anew: no snapshot" in said
    assert "a read of 'imu' failed: JSONDecodeError" in said
    assert all(own["motors"] == [0.0, 0.0] for own in got if own["status"] not in TRUSTED)
    assert any(own["motors"] != [0.0, 0.0] for own in got)

    kept = lnn_edge.load_snapshot(tmp_path / "walk.snapshot", lnn_edge.load(follow, backend="onnxruntime"))
    assert kept.steps > 0
    devices.motors.forget()
    with running("robot.py", *typed, folder=tmp_path, environment=devices.environment) as robot:
        devices.told("READY=1")
        for _ in range(5):
            devices.until("ok")
        printed, said = finished(robot, signal.SIGTERM)
        devices.told("STOPPING=1")
    assert robot.returncode in (0, 4), said  # 4: this machine was too slow for some ticks, which are counted
    assert f"goes on behind {kept.steps} steps" in said
    assert "then: SIGTERM; " in printed
    assert devices.until("ended")[-1]["motors"] == [0.0, 0.0]

    report = lnn_edge.replay(follow, [tmp_path / "walk.mcap", tmp_path / "walk-0001.mcap"], executor=InThisProcess())
    killed, ended = report.verdicts
    assert report.same, str(report)
    assert (killed.found.cut, ended.found.cut) == (True, False)
    assert killed.found.skipped > 0  # what was refused then


def recorded(bundle, path):
    """Whether some of a recording is on the disk, complete."""
    try:
        return lnn_edge.replay(bundle, path, executor=InThisProcess()).same
    except (OSError, ValueError):
        return False


def test_the_short_program_is_short():
    text = (ROBOT / "short.py").read_text()
    docstring = ast.parse(text).body[0]
    code = [line for line in text.splitlines()[docstring.end_lineno :] if line.strip()]
    assert len(code) <= 20


X = {"imu": [0.1, -0.2, 0.3], "distance": [2.5]}
SENT = [
    *((X, 0.02 * k) for k in range(1, 6)),
    ({"imu": [0.1, float("nan"), 0.3], "distance": [2.5]}, 0.12),
    ({"imu": [0.1, -0.2, 0.3]}, 0.14),
    (X, 0.11),
    (X, 0.08),
    (X, 0.13),
    ({"imu": [0.1, -0.2, 0.3], "distance": [99.0]}, 0.15),
    *((X, 60.0 + 0.02 * k) for k in range(5)),
    *((X, 1.0 + 0.02 * k) for k in range(9)),  # the clock was set back
]


@pytest.mark.timeout(200)
def test_the_short_program_on_a_socket(follow, tmp_path):
    """Each sample is answered as a guard says; what is no sample as well, and silence."""
    guard = lnn_edge.Guard(on_gap="reset", warm_up=3, on_fault="safe", safe={"output": [0.0, 0.0]})
    guarded = lnn_edge.load(follow).guarded(guard)
    expected = [guarded.tick(x, t_s=t_s) for x, t_s in SENT]
    assert {tick.status.text for tick in expected} == {
        "ok", "warming up", "non-finite input", "bad input", "clock backward",
    }  # fmt: skip
    out, _ = udp()
    motors, motors_port = udp()
    port, answers = free_port(), Ear(motors)
    got = []

    def answered(text):
        """The answer to a datagram, sent until one comes: before the program is up nobody takes it."""
        while True:
            out.sendto(text.encode(), ("127.0.0.1", port))
            with contextlib.suppress(queue.Empty):
                return answer(timeout_s=0.2)

    def answer(ignored=("stale",), timeout_s=PATIENCE_S):
        while True:
            got.append(json.loads(answers.came.get(timeout=timeout_s)))
            if got[-1][0] not in ignored:
                return got[-1]

    with contextlib.closing(answers), out, running("short.py", follow, port, motors_port, folder=tmp_path) as robot:
        assert answered("IMU v1.2 ready") == ["bad input", [0.0, 0.0]]
        ignored = ("stale", "bad input")  # several of those words may have waited for the program
        for (x, t_s), tick in zip(SENT, expected, strict=True):
            out.sendto(json.dumps({"t_s": t_s, "x": x}).encode(), ("127.0.0.1", port))
            status, y = answer(ignored)
            assert (status, y) == (tick.status.text, tick.y.tolist())
            ignored = ("stale",)
        assert answer(ignored=()) == ["stale", [0.0, 0.0]]
        printed, said = finished(robot, signal.SIGTERM)
    got += [json.loads(answers.came.get()) for _ in range(answers.came.qsize())]
    assert robot.returncode == 0, said
    counts = re.split(", and |, | and ", printed.splitlines()[0].partition("then: SIGTERM; ")[2])
    counted = {words: int(count) for count, words in (own.split(" ", 1) for own in counts)}
    assert counted == Counter(status for status, _ in got)
