"""Bundles that nobody exported, one seeded mutation each, and what becomes of who loads them.

As a program, `hostile_bundles.py KIND FOLDER FIRST COUNT SEED BUNDLE...` loads so many in this process, with a limit of
memory, and prints a line for each: its number and what happened. Of a process that ends or does not go on, the last
line says where. What begins with "wrong" must not be. Kinds:

    unsigned  bytes of any file are changed, as by damage: none may be read
    signed    any file is changed, its bytes or what they mean, and the bundle signed again
    nodes     nodes of our own operators are added to the graph, and the bundle signed again
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import resource
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from bundles import ALL_FILES, CONTENT
from hostile_graphs import mutated, with_random_nodes

import lnn_edge
import lnn_edge.verify.comparison  # of results that are not equal: all is imported before anything is watched
from lnn_edge.bundle.directory import MANIFEST, file_entry, read_bundle
from lnn_edge.errors import BundleError, LnnEdgeError, ModelWarning

__all__ = ["KINDS", "OUTSIDE", "changed_json", "outcomes"]

OUTSIDE = "outside.bin"  # a file beside the bundles, which nothing may read
_MEMORY = 2 << 30  # more than this process has when it has loaded a bundle
_NUMBERS = (0, 1, -1, 2, 3, 0.5, -0.0, 1e-300, 1e300, 1 << 16, 1 << 31, 1 << 53, 1 << 63, 1 << 64, -(1 << 63))
_TEXTS = ("", "x", "x" * 10_000, "nan", "../outside.bin", "/etc/passwd", "h_in", "dt", "a\nb", "\u202e", "float64")
_OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [0] * 1000, {"x": 0})
# What Python reports of itself that no load has a reason for; native code shows in the time of the file outside.
_FORBIDDEN = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.rename", "os.remove", "os.mkdir",
    "os.symlink", "os.chmod", "socket.connect", "socket.bind", "ctypes.dlopen", "pickle.find_class", "marshal.loads",
)  # fmt: skip

Files = dict[str, bytes]


# ---- mutations ------------------------------------------------------------------------------------------------------


def unsigned(files: Files, rng: random.Random) -> Files:
    """One file with other bytes."""
    name = rng.choice(ALL_FILES)
    return files | {name: mutated(files[name], rng)}


def signed(files: Files, rng: random.Random) -> Files:
    """One file with other bytes or another meaning, and a manifest that says so."""
    name = rng.choice(("model.onnx", "step.json", "step.safetensors", "golden.safetensors", MANIFEST, MANIFEST))
    change = {
        "model.onnx": rng.choice((mutated, _outside)) if rng.random() < 0.1 else mutated,
        "step.json": rng.choice((mutated, changed_json, changed_json)),
        MANIFEST: changed_json,
    }.get(name, rng.choice((mutated, _header, _numbers)))
    return _sign(files | {name: change(files[name], rng)})


def nodes(files: Files, rng: random.Random) -> Files:
    """Nodes of our own operators behind the graph's."""
    return _sign(files | {"model.onnx": with_random_nodes(files["model.onnx"], rng)})


KINDS = {"unsigned": unsigned, "signed": signed, "nodes": nodes}


def _sign(files: Files) -> Files:
    """The manifest with the hash of every file and of itself, whatever else it holds."""
    plain = json.loads(files[MANIFEST])
    if isinstance(plain, dict):
        if isinstance(plain.get("files"), dict):
            plain["files"] |= {n: msgspec.to_builtins(file_entry(files[n])) for n in CONTENT if n in plain["files"]}
        plain["digest"] = ""
        plain["digest"] = hashlib.sha256(_encoded(plain)).hexdigest()
    return files | {MANIFEST: _encoded(plain)}


def _encoded(plain: Any) -> bytes:
    return json.dumps(plain, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def changed_json(data: bytes, rng: random.Random) -> bytes:
    """JSON with one to three other values, keys or lengths."""
    plain = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(plain))
        if not places:
            break
        _change(*rng.choice(places), rng, rng.choice(places))
    return _encoded(plain)


def _places(plain: Any) -> Iterator[tuple[Any, Any]]:
    """Each value within, by what holds it and its key there."""
    keys = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in keys:
        yield plain, key
        yield from _places(value)


def _change(holder: Any, key: Any, rng: random.Random, another: tuple[Any, Any]) -> None:
    value, kind = holder[key], rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), value)
    elif kind == 2:
        holder[key] = json.loads(json.dumps(another[0][another[1]]))
    elif kind == 3 and isinstance(holder, dict):
        holder[rng.choice(_TEXTS)] = holder.pop(key)
    elif isinstance(value, (int, float)) and kind < 5:
        holder[key] = rng.choice((-value, value + 1, value * 2, value / 2, *_NUMBERS))
    else:
        holder[key] = copy.deepcopy(rng.choice((*_NUMBERS, *_TEXTS, *_OTHERS)))  # a list may hold itself otherwise


def _header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file that describes its tensors otherwise, with the right length of what it says."""
    length = int.from_bytes(data[:8], "little")
    header = changed_json(data[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _numbers(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with other numbers of its own types in its tensors."""
    length = 8 + int.from_bytes(data[:8], "little")
    body = bytearray(data[length:])
    for _ in range(rng.choice((1, 3, 30))):
        kind = rng.choice((np.float32, np.float64))
        value = np.array(rng.choice((0.0, -1.0, 1e30, 1e-40, 1e300, np.nan, np.inf)))
        with np.errstate(over="ignore", under="ignore"):
            number = value.astype(kind).tobytes()
        place = rng.randrange(len(body) // len(number)) * len(number)
        body[place : place + len(number)] = number
    return data[:length] + bytes(body)


def _outside(data: bytes, rng: random.Random) -> bytes:
    """A graph whose weights are said to be in the file beside the bundle, or in the memory of the process."""
    model = onnx.load_from_string(data)
    tensor = rng.choice([t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT])
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    where = rng.choice((f"../{OUTSIDE}", OUTSIDE, "/etc/passwd", "*/_ORT_MEM_ADDR_/*"))
    for key, value in {"location": where, "offset": "0", "length": "64"}.items():
        tensor.external_data.add(key=key, value=value)
    return bytes(model.SerializeToString())


# ---- what happens ---------------------------------------------------------------------------------------------------


class _Watch:
    """Looks at what Python opens and starts while a bundle is loaded."""

    def __init__(self) -> None:
        self._allowed: set[str | bytes] = set()
        self.active = False
        self.found: list[str] = []

    def start(self, bundle: Path) -> None:
        """Look from here on; this bundle may be opened."""
        self._allowed = {*ALL_FILES, str(bundle), os.fsencode(bundle)}
        self.found.clear()
        self.active = True

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        foreign = event == "open" and not isinstance(arguments[0], int) and str(arguments[0]) not in self._allowed
        if foreign or event in _FORBIDDEN:
            self.found.append(f"wrong: {event} {arguments[0]}")


class _Written:
    """A bundle on the disk; only files that are others by now are written, as a disk is slow to write over one."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path
        self._files: dict[str, bytes] = {}

    def __call__(self, files: Files) -> None:
        for name, data in files.items():
            if self._files.get(name) != data:
                (self.path / name).write_bytes(data)
        self._files.update(files)


def _read(bundle: Path) -> str:
    """Of what nobody signed."""
    try:
        read_bundle(bundle)
    except BundleError:
        return "refused"
    return "wrong: read unsigned"


def _loaded(bundle: Path) -> str:
    """Of what was signed again: it is refused, fails its self-test, or runs."""
    try:
        model = lnn_edge.load(bundle, backend="onnxruntime")
    except BundleError as error:
        return "refused" if not _is_late(error) else "refused by onnxruntime alone"
    except LnnEdgeError as error:
        return {"VerificationError": "failed its self-test"}.get(type(error).__name__, f"wrong: {error!r}"[:300])
    _step(model)
    return "ran"


def _is_late(error: BundleError) -> bool:
    """The rules for graphs let it pass, and the library did not."""
    return error.__cause__ is not None and type(error.__cause__).__module__.startswith("onnxruntime")


def _step(model: Any) -> None:
    """A few samples of zeros, which the model may refuse."""
    constants = {t.name: np.zeros(t.shape[1:], t.dtype) for t in model.manifest.constants}
    try:
        stream = model.stream(constants=constants) if constants else model.stream()
        xs = {t.name: np.zeros((8, *t.shape[1:]), t.dtype) for t in model.manifest.streamed}
        times = {"dt_s": model.time.period_s} if model.time.mode == "measured" else {}
        stream.run(xs if len(xs) > 1 else next(iter(xs.values())), **times)
    except (ValueError, LnnEdgeError):
        pass


def _outcome(kind: str, bundle: Path) -> str:
    try:
        return _read(bundle) if kind == "unsigned" else _loaded(bundle)
    except BaseException as error:
        return f"wrong: {error!r}"[:300]


def outcomes(kind: str, folder: Path, numbers: range, seed: int, sources: list[Path]) -> Iterator[tuple[int, str]]:
    """What became of each mutation of those numbers; each depends on its number, its kind and the seed alone."""
    bundles = [_Written(folder / f"m{k}.lnn") for k in range(len(sources))]
    outside = folder / OUTSIDE
    outside.write_bytes(np.ones(1024, np.float32).tobytes())
    originals = [{name: (source / name).read_bytes() for name in ALL_FILES} for source in sources]
    watch = _Watch()
    sys.addaudithook(watch)
    for bundle, original in zip(bundles, originals, strict=True):  # all is imported before anything is looked at
        bundle(original)
        assert _loaded(bundle.path) == "ran"
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    for number in numbers:
        rng, which = random.Random(f"{seed} {kind} {number}"), number % len(originals)
        original, bundle = originals[which], bundles[which]
        changed = KINDS[kind](original, rng)
        if changed == original:
            yield number, "left as it was"
            continue
        bundle(changed)
        os.utime(outside, ns=(0, 10**9))
        watch.start(bundle.path)
        happened = _outcome(kind, bundle.path)
        watch.active = False
        if os.stat(outside).st_atime_ns:
            watch.found.append("wrong: the file outside was read")
        yield number, (watch.found or [happened])[0]


def main(kind: str, folder: str, first: str, count: str, seed: str, *sources: str) -> None:
    """See the module's docstring."""
    warnings.simplefilter("ignore", ModelWarning)
    numbers = range(int(first), int(first) + int(count))
    for number, happened in outcomes(kind, Path(folder), numbers, int(seed), [Path(source) for source in sources]):
        print(number, happened.replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
