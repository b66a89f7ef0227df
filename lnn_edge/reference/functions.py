"""Functions of each element, safe for large arguments."""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array

__all__ = ["gelu", "sigmoid", "silu", "softplus"]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written with tanh, which does not overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)). torch switches to x above 20, where the difference is below 2.1e-9."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def gelu(x: Array) -> Array:
    """x * Phi(x) with the exact Gaussian distribution function, torch's default."""
    normal: Array = 1.0 + np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2.0)), x.dtype)
    return 0.5 * x * normal
