"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["check_output", "whole_file"]


def check_output(target: Path) -> None:
    """Refuse a file name that cannot be written to, before any long work.

    Raises:
        OSError: If the directory is missing, or the name is that of a directory.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(f"directory '{target.parent}' does not exist. Type: mkdir -p {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"'{target}' is a directory, expected a file name")


@contextmanager
def whole_file(target: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file that takes its place, on disk and complete, when the block ends without an error.

    A link stays a link: the file that it names is replaced.

    Args:
        target: The file.
        mode: As for `open`.
        options: As for `open`.
    """
    check_output(target)
    target = target.resolve()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(descriptor, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
