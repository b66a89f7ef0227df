"""Two devices of a robot as sources of a loop: one on a serial line, one on a network. JSON lines, `{"x": [1.0, 2.0]}`.

A source is a class with `read(timeout_s)` and `close()`. `read` gives a `Sample`; `None`, or a socket's TimeoutError,
if nothing came in time; and any other error for what is no sample: the loop counts it, tells it once, and reads on.
"""

import json
import os
import select
import socket
import termios
import tty

import numpy as np

import lnn_edge

MOST_BYTES = 4096  # of one line; a line that never ends must not fill the memory


def sample_of(line):
    """A sample of a line of JSON; `t_s` is when it was measured, in seconds, where the device says it."""
    found = json.loads(line)
    return lnn_edge.Sample(np.array(found["x"], np.float64), found.get("t_s"))


class SerialSensor:
    """Lines on a serial port or a pseudo-terminal."""

    def __init__(self, path, speed=termios.B115200):
        self._port, self._text = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK), b""
        tty.setraw(self._port)
        settings = termios.tcgetattr(self._port)
        settings[4:6] = [speed, speed]
        termios.tcsetattr(self._port, termios.TCSANOW, settings)

    def read(self, timeout_s):
        if b"\n" not in self._text and select.select([self._port], [], [], timeout_s)[0]:
            more = os.read(self._port, MOST_BYTES)
            if not more:
                raise OSError("the serial port is gone")
            self._text = (self._text + more)[-MOST_BYTES:]
        line, end, rest = self._text.partition(b"\n")
        self._text = rest if end else line
        return sample_of(line) if end else None

    def close(self):
        os.close(self._port)


class UdpSensor:
    """Datagrams, one sample each."""

    def __init__(self, port, host="0.0.0.0"):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))

    def read(self, timeout_s):
        self._socket.settimeout(timeout_s)
        return sample_of(self._socket.recv(MOST_BYTES))

    def close(self):
        self._socket.close()
