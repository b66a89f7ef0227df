"""The two kinds of TensorRT that one adapter speaks to: what they are called, which versions, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FOR_RTX", "TENSORRT", "Dialect"]


@dataclass(frozen=True)
class Dialect:
    """One kind.

    Args:
        product: What NVIDIA calls it.
        backend: The backend that runs it.
        oldest, beyond: The versions that this program was written for: from, and below.
        versions: The same in words.
        api: The version of TensorRT whose Python API it has; `None` where that is its own.
        install: What to do where it is missing.
        mend: What to do where it is there and cannot be imported; an installer is content with it.
        newer: What to do where it is of another version.
        compiles_late: Whether an engine is made without a GPU, for those that are named, and compiled for the one
            that is there when it is loaded. Nothing is timed while it is built, so no timings are kept.
    """

    product: str
    backend: str
    oldest: tuple[int, int]
    beyond: tuple[int, int]
    versions: str
    api: int | None
    install: str
    mend: str
    newer: str
    compiles_late: bool


_TENSORRT_IS_INSTALLED_BY = (
    "On a Jetson type: sudo apt install nvidia-jetpack, and make the virtual environment with "
    "--system-site-packages. Elsewhere: pip install tensorrt"
)
TENSORRT = Dialect(
    product="TensorRT",
    backend="tensorrt",
    oldest=(8, 6),
    beyond=(12, 0),
    versions="8.6 to 11",
    api=None,
    install=_TENSORRT_IS_INSTALLED_BY,
    mend=_TENSORRT_IS_INSTALLED_BY,
    newer="Install a JetPack from 6.0 on",
    compiles_late=False,
)
FOR_RTX = Dialect(
    product="TensorRT for RTX",
    backend="tensorrt-rtx",
    oldest=(1, 7),
    beyond=(2, 0),
    versions="1.7 to 1.x",
    api=11,
    install="Type: pip install 'lnn-edge[rtx]'",
    mend="Type: pip install --force-reinstall 'lnn-edge[rtx]'",
    newer="Type: pip install --upgrade 'lnn-edge[rtx]'",
    compiles_late=True,
)
