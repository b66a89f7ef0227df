"""The start of the program `lnn-edge`, which `python -m lnn_edge` is too."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command that was typed; also a Ctrl-C while the program is still being imported ends with one line."""
    try:
        from .cli.program import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("lnn-edge: interrupted; nothing half-written is left\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
