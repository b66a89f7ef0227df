"""Debian packages that tests need, `system-packages.txt`, and what becomes of a test where one is missing.

As a program: prints their names, for `apt-get install -y --no-install-recommends`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["PACKAGES", "require"]

_LINES = (Path(__file__).parent / "system-packages.txt").read_text().splitlines()
PACKAGES = dict(line.split() for line in _LINES if line and not line.startswith("#"))


def require(*packages: str) -> None:
    """Skip the test where a package is missing, and fail it in CI.

    Raises:
        KeyError: If one is in no list.
    """
    import pytest

    missing = [name for name in packages if not _is_there(PACKAGES[name])]
    if missing:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say(f"sudo apt-get install -y --no-install-recommends {' '.join(missing)}")


def _is_there(what: str) -> bool:
    return os.path.exists(what) if what.startswith("/") else shutil.which(what) is not None


if __name__ == "__main__":
    print(*PACKAGES)
