"""Errors of the operating system in plain words: what failed with which file, and what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["STANDARD_OUTPUT", "is_of_the_machine", "os_error_text"]

STANDARD_OUTPUT = "standard output"

# What the machine cannot do whatever the user types. Everything else is a name that the user can correct.
_OF_THE_MACHINE = {
    errno.ENOSPC: "Free some space or write to another disk. Type: df -h {folder}",
    errno.EDQUOT: "Your quota is used up: free some space or write to another disk. Type: quota -s",
    errno.EROFS: "Write to another disk, or mount this one for writing. Type: findmnt -T {folder}",
    errno.EIO: "The disk or device does not answer: look what the system says about it. Type: dmesg | tail",
    errno.EMFILE: "This process may open no more files. Type: ulimit -n 4096, then the command again",
    errno.ENFILE: "All programs together have too many files open: end some of them",
}
_OF_THE_NAME = {
    errno.EBADF: "It is closed: leave it open, or name a file with --output or --json",
    errno.ENOENT: "Check the name. Type: ls {folder}",
    errno.EISDIR: "Give the name of a file",
    errno.EACCES: "Check who may use it. Type: ls -ld {folder} {name}",
}


def is_of_the_machine(error: OSError) -> bool:
    """Whether the machine is the cause, and not what was typed."""
    return error.errno in _OF_THE_MACHINE


def os_error_text(error: OSError) -> str:
    """The error in one line. Errors that we raise ourselves have their own text and stay as they are."""
    if error.errno is None or error.strerror is None:
        return str(error)
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    hint = (_OF_THE_MACHINE | _OF_THE_NAME).get(error.errno, "Check the name and who may use it")
    if not name or name == STANDARD_OUTPUT:
        return f"{name}{': ' if name else ''}{error.strerror}. {hint.format(folder='', name='').rstrip()}"
    return f"'{name}': {error.strerror}. {hint.format(folder=Path(name).parent, name=name)}"
