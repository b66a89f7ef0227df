"""Golden sequences: recorded samples with the outputs and states that the trained model gave for them.

All steps lie one after the other; `reset[k]` is 1 where the state goes back to its initial value before step k. Names
in the file: `input/NAME`, `dt`, `reset`, and for outputs and states `float32/NAME` (torch) and `float64/NAME` (the
reference). States are named by the graph output that holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ..arrays import Array
from ..errors import BundleError
from .manifest import Manifest
from .spec import DT_INPUT

if TYPE_CHECKING:
    from .directory import Bundle

__all__ = ["Golden", "decode_golden", "encode_golden", "golden_from_bundle"]


class Golden(msgspec.Struct, frozen=True):
    """Golden sequences in memory.

    Args:
        inputs: Per graph input, `dt` included, (steps, *shape) of its dtype, float64 where the runtime centres
            it; a constant is repeated with each step.
        reset: uint8 of shape (steps,); the first is 1.
        float32: Per graph output and state output, torch float32 results, (steps, *shape).
        float64: The same from the float64 reference.
    """

    inputs: dict[str, Array]
    reset: Array
    float32: dict[str, Array]
    float64: dict[str, Array]

    @property
    def steps(self) -> int:
        """Number of recorded steps."""
        return len(self.reset)


def encode_golden(golden: Golden) -> bytes:
    """Serialise as safetensors."""
    from safetensors.numpy import save

    tensors = {"reset": golden.reset}
    tensors |= {_input_key(name): value for name, value in golden.inputs.items()}
    tensors |= {f"float32/{name}": value for name, value in golden.float32.items()}
    tensors |= {f"float64/{name}": value for name, value in golden.float64.items()}
    return bytes(save({key: np.ascontiguousarray(value) for key, value in tensors.items()}))


def golden_from_bundle(bundle: Bundle) -> Golden:
    """Read a bundle's golden sequences.

    Raises:
        BundleError: As `decode_golden`, with the bundle's path.
    """
    try:
        return decode_golden(bundle.files["golden.safetensors"], bundle.manifest)
    except BundleError as error:
        raise BundleError(f"bundle '{bundle.path}': {error}") from error.__cause__


def decode_golden(data: bytes, manifest: Manifest) -> Golden:
    """Read golden.safetensors and check every tensor against the manifest.

    Raises:
        BundleError: If it is no safetensors file, or a tensor is missing, unknown, or has the wrong shape or dtype.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"golden.safetensors is no safetensors file that NumPy can read: {error}") from error
    expected = _expected(manifest)
    if set(tensors) != set(expected):
        raise BundleError(
            f"golden.safetensors holds {sorted(tensors)}, but the manifest's tensors are {sorted(expected)}"
        )
    steps = len(tensors["reset"]) if tensors["reset"].ndim == 1 else 0
    if steps < 1:
        raise BundleError("golden.safetensors holds no step, or `reset` is not of shape (steps,)")
    for key, (shape, dtype) in expected.items():
        value = tensors[key]
        if value.shape != (steps, *shape) or value.dtype != dtype:
            raise BundleError(
                f"golden.safetensors: '{key}' is {value.dtype} {list(value.shape)}, expected {dtype} {[steps, *shape]}"
            )
    if tensors["reset"][0] != 1:
        raise BundleError("golden.safetensors: `reset` must start with 1")
    if steps % manifest.unroll or np.any(np.flatnonzero(tensors["reset"]) % manifest.unroll):
        raise BundleError(f"golden.safetensors: its sequences are no whole blocks of {manifest.unroll} samples")
    return _assemble(tensors)


def _assemble(tensors: dict[str, Array]) -> Golden:
    def part(prefix: str) -> dict[str, Array]:
        return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}

    inputs = part("input/")
    if DT_INPUT in tensors:
        inputs[DT_INPUT] = tensors[DT_INPUT]
    return Golden(inputs, tensors["reset"], part("float32/"), part("float64/"))


def _input_key(name: str) -> str:
    return name if name == DT_INPUT else f"input/{name}"


def _expected(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], str]]:
    expected: dict[str, tuple[tuple[int, ...], str]] = {"reset": ((), "uint8")}
    for tensor in manifest.inputs:
        expected[_input_key(tensor.name)] = (tensor.shape, "float64" if tensor.center else tensor.dtype)
    if manifest.time.mode == "measured":
        expected[DT_INPUT] = ((manifest.batch, 1), "float32")
    results = [(t.name, t.shape) for t in manifest.outputs] + [(s.output, s.shape) for s in manifest.states]
    for name, shape in results:
        expected[f"float32/{name}"] = (shape, "float32")
        expected[f"float64/{name}"] = (shape, "float64")
    return expected
