"""Estimators and checkpoints that nobody saved: one seeded mutation each, signed again, and who loads and uses them.

As a program, `hostile_estimators.py KIND FOLDER FIRST COUNT SEED FILE...` prints a line for each, as
`hostile_bundles.py` does. The only kind is "estimators": files in the safetensors format of which the description or a
tensor was changed. What is refused is a ValueError that names the file in a sentence; nothing else may come of it.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
from hostile_bundles import changed_json
from safetensors.numpy import load, save

import lnn_edge
from lnn_edge import tensor_file
from lnn_edge.export.checkpoint.file import DESCRIPTION_ENTRY
from lnn_edge.tensor_file import content_digest, header_metadata
from lnn_edge.train.fit.checkpoint import load_progress

__all__ = ["outcomes"]

_MEMORY = 2 << 30  # more than this process has when it has loaded one
_LONGEST = 1500  # of a sentence
_VALUES = (0.0, -1.0, 1e30, 1e-40, np.nan, np.inf)

Arrays = dict[str, np.ndarray]


def _mutated(text: str, arrays: Arrays, rng: random.Random) -> tuple[str, Arrays]:
    """Another description three times of four, else other tensors."""
    if rng.random() < 0.75:
        return changed_json(text.encode(), rng).decode("utf-8", "replace").strip(), arrays
    name, arrays = rng.choice(sorted(arrays)), dict(arrays)
    value, change = arrays[name], rng.randrange(7)
    if change == 0:
        del arrays[name]
    elif change == 1:
        arrays[rng.choice(("x", f"{name}x", "network.y_mean", "example.7", "../x"))] = arrays.pop(name)
    elif change == 2:
        arrays[name] = np.asarray(value.astype(rng.choice((np.float64, np.int64, np.float16, np.bool_, np.uint8))))
    elif change == 3:
        arrays[name] = np.ascontiguousarray(rng.choice((value[None], value[:0], value.ravel(), value.T)))
    elif change == 4:
        arrays[name] = arrays[rng.choice(sorted(arrays))]
    elif value.size:
        arrays[name] = value.copy()
        with np.errstate(invalid="ignore"):
            arrays[name].reshape(-1)[rng.randrange(value.size)] = rng.choice(_VALUES)
    return text, arrays


def _signed(metadata: dict[str, str], entry: str, text: str, arrays: Arrays) -> bytes:
    """The file with the digest of what it holds now."""
    if entry == DESCRIPTION_ENTRY:  # whose digest stands in the description
        try:
            plain = json.loads(text)
            unsigned = msgspec.json.encode(plain | {"digest": ""})
        except (TypeError, ValueError):
            unsigned, plain = b"", None
        parts = [(n, f"torch.{v.dtype}", list(v.shape), v.tobytes()) for n, v in sorted(arrays.items())]
        if plain is not None:
            text = msgspec.json.encode(plain | {"digest": content_digest(unsigned, parts)}).decode()
        return save(arrays, metadata | {entry: text})
    return save(arrays, metadata | {entry: text, "lnn_edge.digest": tensor_file._digest(text.encode(), arrays)})


def _entry(metadata: dict[str, str]) -> str:
    return next(name for name in metadata if name.startswith("lnn_edge.") and not name.endswith("digest"))


def _used(path: Path) -> None:
    """Load it and do what a program would do with it."""
    entry = _entry(header_metadata(path.read_bytes()))
    if entry == DESCRIPTION_ENTRY:
        lnn_edge.load_checkpoint(path)(torch.zeros(1, 4, 3))
    elif entry == "lnn_edge.training":
        load_progress(path, json.loads(header_metadata(path.read_bytes())[entry]).get("fingerprint"))
    else:
        _use_estimator(path)


def _use_estimator(path: Path) -> None:
    name = json.loads(header_metadata(path.read_bytes())["lnn_edge.estimator"]).get("estimator")
    kind = getattr(lnn_edge, name, None) if name in lnn_edge.__all__ else None
    model = (kind or lnn_edge.LiquidNeuralRegressor).load(path)
    repr(model)
    X = np.zeros((2, 5, model.n_features_in_), np.float32)
    spans = {} if model.time_unit_ is None else {"timespans": np.full((2, 5), model.time_unit_)}
    model.predict(X, **spans)
    model.predict_step(X[0, 0], None, *[model.time_unit_ for _ in spans])
    model.save(path.with_name("again.safetensors"))


def _outcome(path: Path) -> str:
    try:
        _used(path)
    except ValueError as error:
        if type(error) is not ValueError:
            return f"wrong: {error!r}"[:300]
        text = str(error)
        return "refused" if len(text) < _LONGEST and "\n" not in text else f"wrong: no sentence: {text[:200]!r}"
    except BaseException as error:
        return f"wrong: {error!r}"[:300]
    return "ran"


def outcomes(folder: Path, numbers: range, seed: int, sources: list[Path]) -> Iterator[tuple[int, str]]:
    """What became of each mutation of those numbers; each depends on its number and the seed alone."""
    path, originals = folder / "e.safetensors", [source.read_bytes() for source in sources]
    for data in originals:  # so that everything is imported before the memory is limited
        path.write_bytes(data)
        _used(path)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    for number in numbers:
        rng, data = random.Random(f"{seed} estimators {number}"), originals[number % len(originals)]
        metadata, arrays = header_metadata(data), load(data)
        entry = _entry(metadata)
        text, changed = _mutated(metadata[entry], arrays, rng)
        path.write_bytes(_signed(metadata, entry, text, changed))
        yield number, _outcome(path)


def main(_kind: str, folder: str, first: str, count: str, seed: str, *sources: str) -> None:
    """See the module's docstring."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    numbers = range(int(first), int(first) + int(count))
    for number, happened in outcomes(Path(folder), numbers, int(seed), [Path(source) for source in sources]):
        print(number, happened.replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
