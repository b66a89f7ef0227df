"""`--guard FILE`: the policies of a guard as a small JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ..bundle.spec import Guard

__all__ = ["GUARD_HELP", "read_guard"]

GUARD_HELP = (
    "JSON file with the policies on bad, late and gapped samples, on the state and on outputs, with the names of "
    'lnn_edge.Guard: {"on_gap": "reset", "warm_up": 10, "safe": {"output": [0.0, 0.0]}}'
)
_MOST_BYTES = 1 << 20


def read_guard(name: str | None) -> Guard | None:
    """The guard in a file, `None` where no file is named.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds no guard; it names the field.
    """
    if name is None:
        return None
    from ..bundle.spec import Guard
    from ..files.whole import read_whole

    data = read_whole(Path(name), "a JSON file with a guard", _MOST_BYTES)
    try:
        return msgspec.json.decode(data, type=Guard)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        fields = ", ".join(Guard.__struct_fields__)
        raise ValueError(f"--guard {name}: {error}. Expected a JSON object with some of {fields}") from error
