"""Check of a cache for `lnn-edge doctor`: what builds have left behind, and what would refuse the next one."""

from __future__ import annotations

import shlex

from ...errors import BackendUnavailable
from ...machine.checks import Finding
from ...wording import plural
from .build_cache import Kind, cache_contents, cache_folder

__all__ = ["cache_check"]


def cache_check(what: str, kind: Kind, noun: str, none: str, build: str) -> Finding:
    """What lies in a cache.

    Args:
        what: What the line is about.
        kind: Of the cache.
        noun: What one of its files is called.
        none: What to say where there are none.
        build: The command that makes one.
    """
    try:
        folder = cache_folder(kind)
        contents = cache_contents(folder, kind)
    except BackendUnavailable as error:
        found, _, fix = str(error).partition(" Type: ")
        return Finding(what, "missing", found, fix)
    if not contents.files:
        return Finding(what, "note", none, build)
    held = f"{plural(contents.files, noun)}, {contents.nbytes / 2**20:.1f} MiB"
    return Finding(what, "ready", f"{held}; to empty the cache: rm -r {shlex.quote(str(folder))}")
