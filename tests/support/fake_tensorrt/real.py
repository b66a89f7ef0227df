"""Surface of real bindings as JSON, `real.py MODULE`; their libraries must be where the loader looks."""

from __future__ import annotations

import inspect
import json
import re
import sys
from importlib import import_module

real = import_module(sys.argv[1])


def described(owner, name: str) -> str:
    """As in api/*.json: a method's signatures from its docstring, or whether a property can be set."""
    member = getattr(owner, name)
    declared = inspect.getattr_static(owner, name)
    if isinstance(declared, property):
        return "property" if declared.fset else "property, read-only"
    if not inspect.isroutine(member) or name not in (member.__doc__ or ""):
        return ""
    lines = member.__doc__.splitlines()
    overloads = [re.sub(r"^\d+\. ", "", line) for line in lines if re.match(rf"\d+\. {name}\(", line)]
    return " | ".join([lines[0], *overloads])


wanted = json.load(sys.stdin)
json.dump(
    {
        "version": real.__version__,
        "classes": {
            name: {member: described(getattr(real, name), member) for member in members}
            for name, members in wanted.items()
        },
    },
    sys.stdout,
)
