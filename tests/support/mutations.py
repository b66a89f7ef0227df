"""A runner of the mutations: every fault of the table goes into a copy of the tree, where its test must fail.

    python tests/support/mutations.py [--root DIR] [--only NAME ...] [--jobs N] [--json FILE]

The tests run with the interpreter that runs this, which needs all that `make unit` needs. A test that fails without
the fault as well proves nothing, so all of them run once on the source as it is. What survives is a missing test.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from mutation_table import BY_NAME, MUTATIONS, Mutation, NotFound, node_of, place_of

__all__ = ["Result", "main", "program"]


R = TypeVar("R")
KILLED, SURVIVED, ABSENT, UNTESTED = "killed", "SURVIVED", "does not apply", "no such test"
FAILS_ANYWAY, BROKEN, ENDLESS = "test fails without it too", "pytest itself failed", "test did not end"
_LEFT_OUT = (".git", ".venv", "build", "dist", "__pycache__", ".hypothesis", "*.egg-info", "*_cache", "*.lnn")
_TIMEOUT_S = 600.0  # for one mutation, whose test takes seconds; a machine under load may take minutes
_running: list[subprocess.Popen[str]] = []  # of pytest, each in a session of its own


@dataclass(frozen=True)
class Result:
    """What became of one mutation.

    Args:
        name, kind: Of the mutation.
        test: The pytest node that was to fail, or its name where there is none.
        verdict: One of the constants above.
        seconds: How long the test took.
        detail: Why, where it is not plain.
    """

    name: str
    kind: str
    test: str
    verdict: str
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class Tree:
    """A copy of the tree that may be changed."""

    root: Path

    def pytest(self, nodes: Sequence[str], timeout_s: float, *options: str) -> tuple[int | None, str]:
        """Run tests; the exit code is `None` if they took too long, and then they are stopped with all they started."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *nodes]
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        _running.append(process)
        try:
            output = process.communicate(timeout=timeout_s)[0]
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]
        finally:
            _running.remove(process)

    def environment(self) -> dict[str, str]:
        """In which this copy is what `import lnn_edge` finds, and no stale bytecode hides a change."""
        return os.environ | {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}

    def check_import(self) -> None:
        """An installed package must not win over the copy, or every mutation would seem to survive."""
        command = [sys.executable, "-c", "import lnn_edge; print(lnn_edge.__file__)"]
        done = subprocess.run(
            command, cwd=self.root.parent, env=self.environment(), capture_output=True, text=True, check=True
        )
        if Path(done.stdout.strip()).resolve().parent != (self.root / "lnn_edge").resolve():
            raise SystemExit(f"tests would run on {done.stdout.strip()}, not on the copy in {self.root}")

    @contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[Path]:
        """With the fault in its file within, as before afterwards."""
        path, before, after = place_of(mutation, self.root)
        path.write_text(after)
        try:
            yield path
        finally:
            path.write_text(before)


def copied(root: Path, target: Path) -> Tree:
    """Copy the tree without what is made from it."""
    shutil.copytree(root, target, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    return Tree(target)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the mutations; 1 if any of them was not killed."""
    arguments = _arguments(argv)
    chosen = [BY_NAME[name] for name in arguments.only] if arguments.only else list(MUTATIONS)
    with tempfile.TemporaryDirectory(prefix="mutations.") as folder:
        trees = [copied(arguments.root, Path(folder) / f"tree{k}") for k in range(arguments.jobs)]
        trees[0].check_import()
        results = _run_all(chosen, trees)
    print(_report(results))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    return int(any(result.verdict != KILLED for result in results))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--root", type=Path, default=here, help="the tree; it is not changed (default: this one)")
    parser.add_argument("--only", nargs="+", metavar="NAME", type=_known, help="only these mutations")
    parser.add_argument("--jobs", type=int, metavar="N", default=1, help="how many at a time (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    arguments = parser.parse_args(argv)
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: give 1 or more")
    if not (arguments.root / "lnn_edge").is_dir():
        parser.error(f"--root {arguments.root} holds no lnn_edge: name the root of a checkout")
    if arguments.json and not arguments.json.parent.is_dir():
        parser.error(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
    return arguments


def _known(name: str) -> str:
    if name not in BY_NAME:
        near = ", ".join(get_close_matches(name, BY_NAME)) or "none; `mutation_table.py` has them all"
        raise argparse.ArgumentTypeError(f"there is no mutation {name!r}; nearest: {near}")
    return name


def _run_all(chosen: Sequence[Mutation], trees: list[Tree]) -> list[Result]:
    """First the tests on the source as it is, then each mutation with its test, one at a time in each tree."""
    nodes = _nodes(chosen, trees[0].root)
    passing = _passing(sorted(set(nodes.values())), trees)
    free, done, lock = list(trees), Counter[str](), threading.Lock()

    def run(mutation: Mutation) -> Result:
        tree = free.pop()
        try:
            result = _judged(mutation, nodes.get(mutation.name), passing, tree)
        finally:
            free.append(tree)
        with lock:
            done[result.verdict] += 1
            count = f"{done.total():3} of {len(chosen)}"
            print(f"{count}  {result.verdict:9} {result.seconds:5.0f} s  {mutation.name}  {result.detail}", flush=True)
        return result

    return _at_once(len(trees), run, chosen)


def _nodes(chosen: Sequence[Mutation], root: Path) -> dict[str, str]:
    """By mutation the node of its test, where there is one."""
    found = {}
    for mutation in chosen:
        try:
            found[mutation.name] = node_of(mutation.killed_by, root)
        except NotFound:  # told with the mutation's own result
            continue
    return found


def _passing(nodes: Sequence[str], trees: Sequence[Tree]) -> set[str]:
    """The nodes that pass on the source as it is, with all their parameters."""
    print(f"{len(nodes)} tests on the source as it is", flush=True)
    shares = [nodes[k :: len(trees)] for k in range(len(trees))]

    def run(tree: Tree, share: Sequence[str]) -> set[str]:
        if not share:
            return set()
        _, output = tree.pytest(share, _TIMEOUT_S * len(share), "-rpfEs")
        absent = {line.partition(f"not found: {tree.root}/")[2] for line in output.splitlines()}
        missing = {node for node in share if {node, node.partition("[")[0]} & absent}
        if missing:  # then pytest ran nothing; of an absent parameter it names the function alone
            return run(tree, [node for node in share if node not in missing])
        told = [line.split(" ", 1) for line in output.splitlines() if line.startswith(("PASSED ", "FAILED ", "ERROR "))]
        return {node for node in share if _verdicts(node, told) == {"PASSED"}}

    return set[str]().union(*_at_once(len(trees), run, trees, shares))


def _at_once(many: int, do: Callable[..., R], *arguments: Sequence[Any]) -> list[R]:
    """Do so many at a time; none is begun and none goes on once this is interrupted."""
    with ThreadPoolExecutor(many) as pool:
        try:
            return list(pool.map(do, *arguments))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in _running.copy():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            raise


def _verdicts(node: str, told: Sequence[Sequence[str]]) -> set[str]:
    """What pytest's summary says about a node and about all that its parameters make of it."""
    ends = ("", " ") if node.endswith("]") else ("", " ", "[")
    return {verdict for verdict, text in told if text == node or text.startswith(tuple(node + end for end in ends[1:]))}


def _judged(mutation: Mutation, node: str | None, passing: set[str], tree: Tree) -> Result:
    """Put the fault in and run its test."""

    def result(verdict: str, since: float | None = None, detail: str = "") -> Result:
        seconds = 0.0 if since is None else time.monotonic() - since
        return Result(mutation.name, mutation.kind, node or mutation.killed_by, verdict, round(seconds, 1), detail)

    try:
        node_of(mutation.killed_by, tree.root)
    except NotFound as error:
        return result(UNTESTED, detail=str(error))
    if node is None or node not in passing:
        return result(FAILS_ANYWAY)
    started = time.monotonic()
    try:
        with tree.mutated(mutation):
            code, output = tree.pytest([node], _TIMEOUT_S, "-x")
    except NotFound as error:
        return result(ABSENT, detail=str(error))
    verdict = {0: SURVIVED, 1: KILLED, None: ENDLESS}.get(code, BROKEN)
    return result(verdict, started, "" if verdict != BROKEN else output[-300:])


def _report(results: Sequence[Result]) -> str:
    """A line for each mutation, and how many there are of each verdict."""
    width, kinds = max(len(r.name) for r in results), max(len(r.kind) for r in results)
    rows = [f"{r.name:{width}}  {r.kind:{kinds}}  {r.verdict:9}  {r.test.rpartition('/')[2]}" for r in results]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(r.verdict for r in results).most_common())
    return "\n".join(["", *rows, "", f"{len(results)} mutations: {counts}"])


def program() -> NoReturn:
    """Run the mutations and end; by a signal as well, with nothing left that it started or copied."""
    for stop in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda number, _: sys.exit(128 + number))
    sys.exit(main())


if __name__ == "__main__":
    program()
