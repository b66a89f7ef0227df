"""A robot's loop: two sensors at rates of their own, a safe output, recorded, watched, and going on where it was."""

import argparse
import json
import socket
import sys

from devices import SerialSensor, UdpSensor

import lnn_edge
from lnn_edge.errors import BackendUnavailable, BundleError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="with two inputs, imu and distance, as that of follow.py")
parser.add_argument("--serial", required=True, metavar="PATH", help="serial port of the IMU, as in /dev/ttyUSB0")
parser.add_argument("--udp", required=True, type=int, metavar="PORT", help="where the range finder sends to")
parser.add_argument("--motors", required=True, type=int, metavar="PORT", help="where commands go to, on this machine")
parser.add_argument("--record", default="walk.mcap", metavar="FILE", help="recording of every tick")
parser.add_argument("--snapshot", default="walk.snapshot", metavar="FILE", help="state on disk, to go on from")
parser.add_argument("--within", type=float, default=10.0, metavar="SECONDS", help="how old a state may be to go on")
parser.add_argument("--backend", default="auto")
parser.add_argument("--realtime", action="store_true", help="real-time priority, locked memory")


def main(given):
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def move(y, status):
        line.sendto(json.dumps({"motors": y, "status": status}).encode(), ("127.0.0.1", given.motors))

    guarded = lnn_edge.load(given.bundle, backend=given.backend).guarded()  # with the guard of the bundle
    sensors = {"imu": SerialSensor(given.serial), "distance": UdpSensor(given.udp)}
    kept, why = None, "no snapshot"
    try:
        kept = lnn_edge.resume(guarded, given.snapshot, within_s=given.within)
    except ValueError as error:  # a damaged one, one that is too old, or one of another bundle
        why = error
    steps = kept.steps if kept else 0
    print(f"goes on behind {steps} steps" if kept else f"begins anew: {why}", file=sys.stderr)
    recorder = lnn_edge.Recorder(given.record, guarded.model, start=guarded.snapshot(), rotate_bytes=64 << 20)
    loop = lnn_edge.Loop(
        guarded, sensors, rate_hz=50, wait="rehearse", fresh_s={"imu": 0.1, "distance": 0.5},
        after=lambda tick: move(tick.y.tolist(), tick.status.text),
        recorder=recorder, snapshot=given.snapshot, steps=steps, systemd=lnn_edge.Systemd(),
        watchdog=lnn_edge.Watchdog(0.5, lambda _: move([0.0, 0.0], "stands")),
        realtime=lnn_edge.Realtime(priority=50, lock_memory=True) if given.realtime else None,
    )  # fmt: skip
    summary = loop.run()
    move([0.0, 0.0], "ended")
    print(summary)
    return 1 if summary.error else 0 if summary.complete else 4


# The exit codes of lnn-edge. A restart makes the last of these better at most: see lnn-edge-robot.service.
CODES = {BundleError: 6, BackendUnavailable: 5, ImportError: 5, ValueError: 2, OSError: 1}

if __name__ == "__main__":
    try:
        sys.exit(main(parser.parse_args()))
    except tuple(CODES) as error:
        print(error, file=sys.stderr)
        sys.exit(next(code for kind, code in CODES.items() if isinstance(error, kind)))
