"""A robot program in 20 lines: bad, late and gapped samples are handled and counted, and any signal ends it cleanly.

    python short.py follow.lnn 9000 9001

Samples come to the first port, one a datagram, {"t_s": 0.1, "x": {"imu": [0.1, 0.2, 9.8], "distance": [1.5]}}; commands
go to the second.
"""

import json
import socket
import sys

import lnn_edge

bundle, port, motors = sys.argv[1:]
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.bind(("127.0.0.1", int(port)))
line.settimeout(0.1)


def sample():
    return lnn_edge.Sample(**json.loads(line.recv(4096)))


def move(tick):
    line.sendto(json.dumps([tick.status.text, tick.y.tolist()]).encode(), ("127.0.0.1", int(motors)))


guard = lnn_edge.Guard(on_gap="reset", warm_up=3, on_fault="safe", safe={"output": [0.0, 0.0]})
loop = lnn_edge.Loop(lnn_edge.load(bundle).guarded(guard), sample, after=move, fresh_s=1.0)
print(loop.run())
