"""A trial of NVIDIA's libraries in a process of its own: one that is broken ends that one, and not the user's.

A library that is half updated, or of another kernel module, crashes or hangs where it is loaded or begins to work, and
nothing catches that in the process that asked.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import cache
from pathlib import Path

__all__ = ["why_the_driver_fails", "why_the_import_fails"]

_DRIVER = "libcuda.so.1"
_LONGEST_S = 60.0  # many GPUs that nothing keeps awake take some ten seconds
_CACHE = Path("/etc/ld.so.cache")
_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
_BEGUN, _ALIVE = b"begun\n", b"alive\n"
_BEGIN = f"""
import ctypes, os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.write(1, {_BEGUN!r})
"""
_END = f"""
os.write(1, {_ALIVE!r})
os._exit(0)  # what it does when it is unloaded is of no interest
"""
# What cannot be loaded, or answers with an error, is no failure here: CUDA says what it is, in words.
_CALLS = f"""
try:
    driver = ctypes.CDLL("{_DRIVER}")
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuInit(0)
except (OSError, AttributeError):
    pass
"""


@cache  # a driver that hangs is asked once
def why_the_driver_fails() -> str:
    """Why CUDA must not be touched in this process, or "": the driver answers, or there is none that could crash."""
    how = _how_it_ends(_CALLS) if _may_be_here() else ""
    if not how:
        return ""
    if how == _silent():
        return f"the CUDA driver ({_DRIVER}) {how}"
    return f"the CUDA driver ({_DRIVER}) is broken: a process that called it {how}"


@cache
def why_the_import_fails(*names: str) -> str:
    """Why the first of these modules that is there must not be imported in this process, or "".

    What is imported already, or raises an error that can be caught, is no failure here.
    """
    if any(name in sys.modules for name in names):
        return ""
    imports = f"""
sys.path[:] = {sys.path!r}
for name in {names!r}:
    try:
        __import__(name)
        break
    except ModuleNotFoundError:
        continue
    except Exception:
        break
"""
    how = _how_it_ends(imports)
    return how and f"a process that imported it {how}"


def _silent() -> str:
    return f"did not answer within {_LONGEST_S:g} s"


def _how_it_ends(trial: str) -> str:
    """How a process ends that does this, or "": it goes on, or none can be started."""
    if not sys.executable or getattr(sys, "frozen", False):
        return ""
    import subprocess

    command = [sys.executable, "-I", "-S", "-c", _BEGIN + trial + _END]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired as error:
        return _silent() if (error.stdout or b"").startswith(_BEGUN) else ""
    except OSError:  # no process can be started: nothing is known
        return ""
    if not done.stdout.startswith(_BEGUN) or done.stdout.endswith(_ALIVE):  # inside another program no Python begins
        return ""
    if done.returncode < 0:
        return f"was ended by {signal.Signals(-done.returncode).name}"
    return f"was ended with status {done.returncode}"


def _may_be_here() -> bool:
    """Whether the loader may find a driver; most computers have none, and a trial costs some hundredths of a second."""
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    if any(os.path.exists(os.path.join(folder, _DRIVER)) for folder in (*folders, *_FOLDERS)):
        return True
    try:
        return _DRIVER.encode() in _CACHE.read_bytes()
    except OSError:
        return True
