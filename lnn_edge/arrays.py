"""The type of arrays in signatures; shapes and dtypes are in the docstrings."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

__all__ = ["Array"]

Array = npt.NDArray[Any]
