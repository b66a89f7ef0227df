"""A Python that starts warm: programs run in forks of one process that has imported torch and its like already.

A program that exports spends 6 s on such imports. Here it is started as typed, by name, in its folder, with its own
streams, environment and exit code, and imports all of lnn_edge itself; only what other people wrote is there before.
Its proofs are short if `short_proofs.ASKED_FOR` is in its environment; `hidden_packages.HIDDEN` there names packages
that it does not find.

Run as a program, with the path of a socket and the id of a process, it is that process; it ends with that other one.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

from hidden_packages import HIDDEN, hide
from short_proofs import ASKED_FOR, ShortProofs

__all__ = ["warm_python"]

# Not onnxruntime: it looks at the environment when it is imported, and lnn_edge sees to that.
_IMPORTED = ("torch", "torch.export._trace", "ncps.torch", "onnx.reference", "rich.progress", "sklearn.model_selection")
_SERVERS: list[subprocess.Popen[bytes]] = []  # nobody waits for them: they outlive who started them
_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    asked = json.dumps([{first!r} + sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(asked).to_bytes(8, "little")], [0, 1, 2])
    server.sendall(asked)
    answer = server.recv(8)
sys.exit(int(answer) if answer else "the warm Python is gone")
"""


def warm_python(folder: Path, whose: int) -> None:
    """Put programs into an empty folder, which may stand in front of `PATH`: `python`, and `lnn-edge` as installed.

    Args:
        folder: Where they are put, and the socket.
        whose: The id of the process that they are for; they work until it ends.
    """
    path = folder / "socket"
    for name, first in (("python", []), ("lnn-edge", [str(Path(sys.executable).with_name("lnn-edge"))])):
        (folder / name).write_text(_CLIENT.format(python=sys.executable, path=str(path), first=first))
        (folder / name).chmod(0o755)
    command = [sys.executable, __file__, str(path), str(whose)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as the models are tiny, more of them only cost
    with open(os.devnull) as nothing:
        server = subprocess.Popen(command, stdin=nothing, stdout=subprocess.PIPE, env=one_thread)
    _SERVERS.append(server)
    assert server.stdout
    with server.stdout as told:
        assert told.readline(), "the warm Python did not start"


def main(path: str, whose: int) -> None:
    """Import, then fork for every connection until the process ends that all is for."""
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each program's collector writes to all of it, and so copies it
    ended = os.pidfd_open(whose)
    with socket.socket(socket.AF_UNIX) as listening, selectors.DefaultSelector() as selector:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
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
    start, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as file:
        arguments, folder, environment = json.loads(file.read(int.from_bytes(start, "little")))
    program = os.fork()
    if program == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        if os.environ.pop(ASKED_FOR, None):
            sys.meta_path.insert(0, ShortProofs())
        hide(os.environ.pop(HIDDEN, ""))
        os._exit(_exit_code(arguments))
    ended = os.pidfd_open(program)
    if ended not in select.select([ended, connection], [], [])[0]:  # who asked is gone
        os.kill(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    code = os.waitstatus_to_exitcode(status)
    connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _exit_code(arguments: list[str]) -> int:
    """Run it and end as the interpreter does, but for taking apart what was imported: that takes longer than a fork."""
    code: object = 1
    try:
        _run(arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


def _run(arguments: list[str]) -> None:
    """`python` with these arguments: `-W error`, then `-c`, `-m` or the name of a file."""
    if arguments[:2] == ["-W", "error"]:
        warnings.simplefilter("error")
        arguments = arguments[2:]
    if arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        exec(compile(arguments[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
    elif arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
