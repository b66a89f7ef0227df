"""Length of a proof: closed-loop steps through the runtime, and through ONNX's own evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ...bundle.spec import Precision

__all__ = ["FULL_PROOF", "ProofLength"]

# onnx.reference takes 0.3 to 0.7 ms per step of the graphs that we write, so 0.1 to 0.2 s. In half precision it alone
# computes in half, where onnxruntime's CPU kernels compute in float32 between their casts; so it steps for longer.
_EVALUATED: Mapping[Precision, int] = MappingProxyType({"float32": 256, "float16": 1024})


@dataclass(frozen=True)
class ProofLength:
    """How long a proof is. Users get the default; tests of something else than proofs may take a shorter one.

    Args:
        least: Fewest closed-loop steps of the recorded and of the random samples.
        evaluated: Steps in ONNX's own evaluator, by precision.
    """

    least: int = 1000
    evaluated: Mapping[Precision, int] = field(default_factory=lambda: _EVALUATED)


FULL_PROOF = ProofLength()
