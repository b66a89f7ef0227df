"""A Python that starts warm: programs run in forks of one process that has imported torch and its like already.

A program that exports spends 6 s on such imports, one that runs a bundle most of its time. Here it is started as typed,
by name, in its folder, with its own streams, environment, signals and exit code, and imports all of lnn_edge itself;
only what other people wrote is there before. Its proofs are short if `short_proofs.ASKED_FOR` is in its environment;
`hidden_packages.HIDDEN` there names packages that it does not find.

Run as a program, with the number of a socket that listens, the id of a process and names of modules, it is that
process; it ends with that other one.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import marshal
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from hidden_packages import HIDDEN, hide
from short_proofs import ASKED_FOR, ShortProofs
from unsynced import nothing_waits_for_the_disk

__all__ = ["DEVICE", "WORKSTATION", "warm_python"]

# What there is of it is imported; of the standard library, what takes longest.
_STANDARD = ("argparse", "csv", "hashlib", "ipaddress", "json", "logging", "subprocess", "tempfile")
_OTHERS = ("numpy", "numpy.typing", "onnxruntime", "msgspec", "safetensors.numpy", "rich.progress", "mcap.writer")
DEVICE = (*_STANDARD, *_OTHERS, "cuda.bindings.runtime")
_TRAINED_WITH = ("torch", "torch.export._trace", "ncps.torch", "sklearn.model_selection")
WORKSTATION = (*DEVICE, *_TRAINED_WITH, "onnx.reference", "matplotlib.pyplot")
_STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
# Of modules that are in the interpreter already: json and socket would take longer than all of it.
_CLIENT = """#!{python} -IS
import os, sys
from _signal import SIG_IGN, getsignal, signal
from _socket import AF_UNIX, SCM_RIGHTS, SOL_SOCKET, socket
from marshal import dumps
streams = [number for number in range(3) if os.path.exists(f"/proc/self/fd/{{number}}")]
ignored = [number for number in {stops} if getsignal(number) == SIG_IGN]
mask = os.umask(0o077)
folder = os.open({folder!r}, os.O_RDONLY)
server = socket(AF_UNIX)
server.connect(f"/proc/self/fd/{{folder}}/socket")
asked = dumps([{first!r} + sys.argv[1:], os.getcwd(), mask, dict(os.environ), streams, ignored])
rights = b"".join(number.to_bytes(4, sys.byteorder) for number in streams)
server.sendmsg([len(asked).to_bytes(8, "little")], [(SOL_SOCKET, SCM_RIGHTS, rights)])
server.sendall(asked)
program = int.from_bytes(server.recv(8), "little")
for number in set({stops}) - set(ignored):
    signal(number, lambda number, _: os.kill(program, number))
answer = server.recv(8)
sys.exit(int(answer) if answer else "the warm Python is gone")
"""


def warm_python(folder: Path, whose: int, imported: Iterable[str], environment: Mapping[str, str]) -> None:
    """Put programs into an empty folder, which may stand in front of `PATH`: `python`, and `lnn-edge` as installed.

    A signal to one of them comes to what it runs a moment later, behind an end of its input that was sent meanwhile.

    Args:
        folder: Where they are put, and the socket.
        whose: The id of the process that they are for; they work until it ends.
        imported: What there is when they start: `DEVICE` or `WORKSTATION`.
        environment: In which it is imported.
    """
    interpreter = os.path.realpath(sys.executable)  # a space in the name of its environment would end it
    stops = [int(number) for number in _STOPS]
    for name, first in (("python", []), ("lnn-edge", [str(Path(sys.executable).with_name("lnn-edge"))])):
        client = _CLIENT.format(python=interpreter, folder=str(folder), first=first, stops=stops)
        (folder / name).write_text(client)
        (folder / name).chmod(0o755)
    one_thread = {**environment, "OMP_NUM_THREADS": "1"}  # as the models are tiny, more of them only cost
    with socket.socket(socket.AF_UNIX) as listening, open(os.devnull, "r+") as nothing:
        place = os.open(folder, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{place}/socket")  # as its whole name may be too long for one
        os.close(place)
        listening.listen()  # so that programs wait for its imports, and who starts it does not
        number = listening.fileno()
        command = [sys.executable, __file__, str(number), str(whose), *imported]
        server = subprocess.Popen(command, stdin=nothing, stdout=nothing, env=one_thread, pass_fds=(number,))
    server.returncode = 0  # nobody waits for it: it outlives who started it


def main(number: int, whose: int, names: Iterable[str]) -> None:
    """Import, then fork for every connection until the process ends that all is for."""
    ended = os.pidfd_open(whose)  # which may end before all is imported
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime looks while it is imported, before lnn_edge sees to that
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each program's collector writes to all of it, and so copies it
    os.set_inheritable(number, False)
    with (
        socket.socket(fileno=number) as listening,
        selectors.DefaultSelector() as selector,
        nothing_waits_for_the_disk(),
    ):
        selector.register(listening, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
        while all(key.fileobj != ended for key, _ in selector.select()):
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _answer(connection)


def _answer(connection: socket.socket) -> NoReturn:
    """Run what is asked for in a process of its own, and send its exit code."""
    start, received, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as file:
        arguments, folder, mask, environment, streams, ignored = marshal.loads(
            file.read(int.from_bytes(start, "little"))
        )
    program = os.fork()
    if program == 0:
        connection.close()
        _take_over(dict(zip(streams, received, strict=True)), ignored)
        os.chdir(folder)
        os.umask(mask)
        late = [name for name, value in environment.items() if name[:6] == "PYTHON" and os.environ.get(name) != value]
        os.environ.clear()
        os.environ.update(environment)
        if os.environ.pop(ASKED_FOR, None):
            sys.meta_path.insert(0, ShortProofs())
        hide(os.environ.pop(HIDDEN, ""))
        os._exit(_exit_code(arguments, late))
    for stream in received:
        os.close(stream)
    connection.sendall(program.to_bytes(8, "little"))
    ended = os.pidfd_open(program)
    if ended not in select.select([ended, connection], [], [])[0]:  # who asked is gone
        os.kill(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _take_over(received: Mapping[int, int], ignored: Iterable[int]) -> None:
    """Standard streams, those that are closed as well, and signals, as the interpreter finds them when it starts."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        old, stream = getattr(sys, name), None
        if number in received:
            os.dup2(received[number], number)
            os.close(received[number])
            lines = 1 if number == 2 or os.isatty(number) else -1
            stream = open(number, mode, lines, old.encoding, old.errors, "\n", closefd=False)  # noqa: SIM115
        else:
            os.close(number)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    for stop in _STOPS:
        usual = signal.default_int_handler if stop == signal.SIGINT else signal.SIG_DFL
        signal.signal(stop, signal.SIG_IGN if stop in ignored else usual)


def _exit_code(arguments: list[str], late: list[str]) -> int:
    """Run it and end as the interpreter does, but for taking apart what was imported: that takes longer than a fork."""
    code: object = 1
    try:
        _run(arguments, late)
        code = 0
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads
    atexit._run_exitfuncs()
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            print(f"Exception ignored while flushing a standard stream: {error!r}", file=sys.stderr, flush=True)
        code = 120
    return code or 0


def _run(arguments: list[str], late: list[str]) -> None:
    """`python` with these arguments: `-W error`, then `-c`, `-m` or the name of a file."""
    if late:
        raise SystemExit(f"{late[0]} is too late for a warm Python: start a fresh one")
    if arguments[:2] == ["-W", "error"]:
        warnings.simplefilter("error")
        arguments = arguments[2:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-c", "-m")):
        raise SystemExit(f"a warm Python takes -W error, and then -c, -m or a file; start a fresh one for: {arguments}")
    if arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        sys.modules["__main__"] = types.ModuleType("__main__")  # with nothing of this one in it
        exec(compile(arguments[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
    elif arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
