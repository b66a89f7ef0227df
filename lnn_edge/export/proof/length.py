"""Length of a proof: closed-loop steps through the runtime, through ONNX's own evaluator, and before the long work."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL_PROOF", "ProofLength"]


@dataclass(frozen=True)
class ProofLength:
    """How long a proof is. Users get the default; tests of something else than proofs may take a shorter one.

    Args:
        least: Fewest closed-loop steps of the recorded and of the random samples.
        evaluated: Steps in ONNX's own evaluator, which computes in half what onnxruntime's CPU kernels do not.
        causal: First samples on which torch itself is stepped and called whole, before anything else is done.
    """

    least: int = 1000
    evaluated: int = 1024
    causal: int = 24


FULL_PROOF = ProofLength()
