"""Protocol of systemd's services: READY, WATCHDOG and STOPPING, sent to the socket that the unit names.

In the unit: `Type=notify`, `WatchdogSec=1`, `Restart=on-failure`. Nothing here needs systemd's library; without it
in the environment nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from ...given_numbers import number_text

__all__ = ["Systemd"]


class Systemd:
    """Tells systemd how a service does. One that is not started by systemd tells nobody, and no error.

    Args:
        environment: With NOTIFY_SOCKET, and perhaps WATCHDOG_USEC and WATCHDOG_PID; `None` for the process's own.

    Attributes:
        watchdog_ns: How long systemd waits for a word, nanoseconds, `None` for ever: send one twice as often.
        failed: Messages that could not be sent. A full socket must not stop a loop.

    Raises:
        TypeError: If the environment is no mapping.
        ValueError: If NOTIFY_SOCKET or WATCHDOG_USEC is not what systemd sets.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        given = os.environ if environment is None else environment
        if not isinstance(given, Mapping):
            raise TypeError(f"`environment` is {number_text(given)}, expected a dict of texts, or None")
        self.failed = 0
        self.watchdog_ns = _watchdog_ns(given)
        self._address = _address(given.get("NOTIFY_SOCKET", ""))
        self._socket = None
        self._next_ns = 0
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0))
            self._socket.setblocking(False)

    @property
    def listens(self) -> bool:
        """Whether anybody listens."""
        return self._socket is not None

    def send(self, *words: str) -> bool:
        """Send words such as "READY=1" in one message; return whether it went out. Never waits."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(words).encode(errors="replace"), self._address)
        except OSError:
            self.failed += 1
            return False
        return True

    def ready(self, status: str = "") -> bool:
        """The service is up."""
        return self.send("READY=1", *([f"STATUS={_line(status)}"] if status else []))

    def alive(self, now_ns: int) -> bool:
        """The service turns; sent only where a watchdog listens, and at most four times in its time.

        Args:
            now_ns: The monotonic clock, as it was when the service turned last: at the same time nothing is sent twice.
        """
        if self.watchdog_ns is None or now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + self.watchdog_ns // 4
        return self.send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """A line for `systemctl status`."""
        return self.send(f"STATUS={_line(text)}")

    def stopping(self) -> bool:
        """The service is on its way down."""
        return self.send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _line(text: str) -> str:
    return " ".join(text.split())


def _address(text: str) -> str:
    """The address of a socket: an absolute path, or a name without a file, which begins with @ and means a NUL."""
    if not text:
        return ""
    if text[0] not in "/@" or len(text) < 2:
        raise ValueError(f"NOTIFY_SOCKET is '{text}', expected an absolute path, or a name that begins with @")
    return "\0" + text[1:] if text[0] == "@" else text


def _watchdog_ns(given: Mapping[str, str]) -> int | None:
    text, process = given.get("WATCHDOG_USEC", ""), given.get("WATCHDOG_PID", "")
    if not text or (process and process != str(os.getpid())):  # it is for another process
        return None
    if not text.isdecimal() or not int(text):
        raise ValueError(f"WATCHDOG_USEC is '{text}', expected a number of microseconds above 0")
    return int(text) * 1000
