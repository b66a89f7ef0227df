"""Errors of the operating system in plain words: what failed with which file, and what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["STANDARD_INPUT", "STANDARD_OUTPUT", "is_of_the_machine", "os_error_text"]

STANDARD_INPUT, STANDARD_OUTPUT = "standard input", "standard output"

# What the machine cannot do whatever the user types.
_OF_THE_MACHINE = {
    errno.ENOSPC: "Free some space or write to another disk. Type: df -h {folder}",
    errno.EDQUOT: "Your quota is used up: free some space or write to another disk. Type: quota -s",
    errno.EFBIG: "Files may not be so large, in this shell or on this disk. Type: ulimit -f; df -T {folder}",
    errno.EROFS: "Write to another disk, or mount this one for writing. Type: findmnt -T {folder}",
    errno.EIO: "The disk or device does not answer: look what the system says about it. Type: dmesg | tail",
    errno.EMFILE: "This process may open no more files. Type: ulimit -n 4096, then the command again",
    errno.ENFILE: "All programs together have too many files open: end some of them",
    errno.ENOMEM: "The computer, or the limit of this shell or container, has no memory left. Type: free -h; ulimit -v",
    errno.EAGAIN: "It is in use or a limit of processes is reached. Try again. Type: ulimit -u",
    errno.EBUSY: "It is in use, or a disk is mounted there. Type: findmnt {name}; fuser -v {name}",
    errno.ETXTBSY: "A program runs from it. Type: fuser -v {name}",
    errno.ENOLCK: "The file system is out of locks: try again, or write to a disk of this machine",
    errno.ESTALE: "The disk on the network has changed behind this machine: mount it again. Type: findmnt -T {folder}",
    errno.ETIMEDOUT: "The disk on the network does not answer. Type: findmnt -T {folder}",
    errno.EHOSTDOWN: "The disk on the network does not answer. Type: findmnt -T {folder}",
    errno.ENOTCONN: "What was mounted there has gone: mount it again. Type: findmnt -T {folder}",
    errno.ENODEV: "There is no such device any more. Type: findmnt -T {folder}",
    errno.ENXIO: "Nobody is at the other end of this pipe, socket or device",
    errno.EMLINK: "The folder holds as many folders as its file system can. Choose another",
    errno.ENOSYS: "The system or its sandbox does not offer this. Write to another disk",
    errno.ENOTSUP: "This file system cannot do that. Write to another one. Type: findmnt -T {folder}",
}
# What the user can correct.
_OF_THE_NAME = {
    errno.EBADF: "It is closed: leave it open, or name a file with --output or --json",
    errno.ENOENT: "Check the name. Type: ls {folder}",
    errno.EISDIR: "Give the name of a file",
    errno.ENOTDIR: "A part of it is a file, and no directory. Type: namei {name}",
    errno.EEXIST: "Choose another name, or remove what is there",
    errno.ENOTEMPTY: "Choose another name, or remove what is there",
    errno.ENAMETOOLONG: "Choose a shorter name: of at most 228 bytes, in a path of at most 4,000",
    errno.ELOOP: "Its links lead in a circle. Type: namei {name}",
    errno.EXDEV: "Choose a name on the same disk",
    errno.EINVAL: "This file system takes no such name, or cannot do this: try a plain name on another disk",
    errno.EILSEQ: "This file system does not take letters of the name: choose plain ones",
    errno.EACCES: "Check who may use it. Type: ls -ld {folder} {name}",
    errno.EPERM: "The system forbids it, whatever its mode says. Type: ls -ld {folder}; lsattr -d {name}",
}
_NO_REASON = "The system says no more. Its number is {number}; look for it with: dmesg | tail"


def is_of_the_machine(error: OSError) -> bool:
    """Whether the machine is the cause, and not what was typed."""
    return error.errno in _OF_THE_MACHINE or (error.errno is not None and error.errno not in _OF_THE_NAME)


def os_error_text(error: OSError) -> str:
    """The error in one line. Errors that we raise ourselves have their own text and stay as they are."""
    if error.errno is None or error.strerror is None:
        return str(error)
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    hint = (_OF_THE_MACHINE | _OF_THE_NAME).get(error.errno, _NO_REASON)
    if name == STANDARD_INPUT and error.errno == errno.EBADF:
        return f"{name}: {error.strerror}. It is open for writing only. Name a file, --input FILE, or pipe the rows in"
    if not name and error.errno == errno.ENOENT and _is_nowhere():
        return f"the current folder: {error.strerror}. It was removed since. Type: cd to one that is there"
    if not name or name in (STANDARD_INPUT, STANDARD_OUTPUT):
        hint = hint.format(folder="", name="", number=error.errno).rstrip()
        return f"{name}{': ' if name else ''}{error.strerror}. {hint}"
    hint = hint.format(folder=Path(name).parent, name=name, number=error.errno)
    return f"'{name}': {error.strerror}. {hint}"


def _is_nowhere() -> bool:
    """Whether the folder that names without one begin at is gone."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
