"""The extension `_step`, which an installation may lack: a wheel that was built without a C compiler has none."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...arrays import Array

__all__ = ["core_with", "limited", "packer", "side_by_side", "why_no_extension", "within"]


@cache
def why_no_extension() -> str | None:
    """Why the extension cannot be imported, or `None`."""
    try:
        import_module(f"{__package__}._step")
    except ModuleNotFoundError:
        return "this installation was built without it"
    except ImportError as error:
        return str(error)
    return None


def core_with(text: str) -> type:
    """The extension's type, of which a stream is made that is stepped in C.

    Args:
        text: What help tells about its `step`.

    Raises:
        ImportError: If there is no extension.
    """
    from ._step import make_core

    return make_core(f"step($self, /, x, *, dt_s=None, t_s=None)\n--\n\n{text}")


def within() -> Callable[[Array, Array, Array], bool] | None:
    """What tells whether all of a float32 array lies between two others, in a tenth of NumPy's time; `None` without."""
    return _function("within")


def limited() -> Callable[[Any, Any, float, Array | None, Array | None, Array | None], Array | None] | None:
    """What keeps an output within its limits, in a tenth of NumPy's time; `None` without.

    Called as `limited(raw, sent, dt_s, low, high, slew_per_s)`; it gives `None` where NumPy must look at it.
    """
    return _function("limited")


def packer() -> Callable[..., bool] | None:
    """What writes a usual tick into the memory of a recorder's ring, in a quarter of Python's time; `None` without.

    It is called as `Ring.put` says, and gives False where Python must do it. Memory is little-endian, as the machine.
    """
    return _function("pack") if sys.byteorder == "little" else None


def side_by_side() -> Callable[..., tuple[Array, ...]] | None:
    """What calls the C of many streams, in half of the time of ctypes, as `NativeRows.step` does; `None` without."""
    return _function("side_by_side")


def _function(name: str) -> Any | None:
    if why_no_extension() is not None:
        return None
    from . import _step

    return getattr(_step, name, None)
