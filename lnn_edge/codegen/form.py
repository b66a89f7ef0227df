"""Request and result of the generator, apart from how it writes: enough to find an earlier build."""

from __future__ import annotations

import msgspec

from ..bundle.manifest import Manifest
from ..bundle.spec import Precision

__all__ = [
    "ABI",
    "GENERATOR",
    "MAX_MULTIPLICATIONS",
    "MAX_NUMBERS",
    "MAX_SCRATCH",
    "ROWS_ABI",
    "Form",
    "Source",
    "form_of",
]

ABI = 1  # of what the source exports
ROWS_ABI = 4  # of what the source of many streams exports, and of its text alone
GENERATOR = 14  # of the text: a change of it is a change of every library that was built
MAX_NUMBERS = 1 << 21  # in tables; a compiler takes some hundred bytes of memory and a microsecond for each
# In a call: some seconds, in which no signal is heard. Forged cores that share their weights would take hours.
MAX_MULTIPLICATIONS = 1 << 32
MAX_SCRATCH = 1 << 24  # numbers of scratch memory, 64 MB


class Form(msgspec.Struct, frozen=True):
    """The form in which a program is called.

    Args:
        digest: SHA-256, hexadecimal, by which a library says what it was made from.
        batch: Rows of a call.
        unroll: Samples of a call.
        precision: Of the weights; arithmetic is float32.
        constants: Names of the inputs that are given once per call, and not with each sample.
    """

    digest: str
    batch: int = 1
    unroll: int = 1
    precision: Precision = "float32"
    constants: frozenset[str] = frozenset()


class Source(msgspec.Struct, frozen=True):
    """Two files.

    Args:
        header: Text of the header.
        source: Text of the source, which includes the header by its name, `<prefix>.h`.
    """

    header: str
    source: str


def form_of(manifest: Manifest, digest: str) -> Form:
    """The form in which a bundle's step is called."""
    constants = frozenset(tensor.name for tensor in manifest.constants)
    return Form(digest, manifest.batch, manifest.unroll, manifest.precision, constants)
