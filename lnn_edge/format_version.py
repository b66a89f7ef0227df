"""Format versions in JSON descriptions: one look at them for bundles, checkpoints and estimators."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["newer_version"]


class _Head(msgspec.Struct):
    """Where files hold their version; whatever else a description has is not looked at."""

    version: Any = None
    format: dict[str, Any] = {}
    schema: dict[str, Any] = {}


def newer_version(description: bytes | str, newest: int) -> str | None:
    """What is wrong with a description that a newer lnn-edge wrote; `None` if nothing is.

    To be called before the description is decoded: a newer one may have other fields too, and "unknown field" would
    not tell the user to upgrade.

    Args:
        description: JSON with `version`, or with an object `format` or `schema` that has one.
        newest: The newest version that can be read.

    Raises:
        msgspec.MsgspecError, UnicodeError, RecursionError: If it is no JSON object.
    """
    head = msgspec.json.decode(description, type=_Head)
    noun, found = "format", head.version
    if found is None:
        noun, found = ("schema", head.schema.get("version")) if head.schema else ("format", head.format.get("version"))
    if not isinstance(found, int) or found <= newest:
        return None
    return f"has {noun} version {found}, but this lnn-edge reads up to {newest}. Type: pip install --upgrade lnn-edge"
