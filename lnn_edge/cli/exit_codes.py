"""The exit codes of the command line; a signal's is 128 and its number."""

from __future__ import annotations

__all__ = ["BAD_BUNDLE", "FAILED", "INTERRUPTED", "MISSED", "NOT_EQUAL", "NOT_READY", "OK", "USAGE"]

OK = 0
FAILED = 1  # an unexpected error, or one of the machine
USAGE = 2
NOT_EQUAL = 3
MISSED = 4
NOT_READY = 5
BAD_BUNDLE = 6
INTERRUPTED = 130
