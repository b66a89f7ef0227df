"""The page of the API, `api.md`, from the docstrings of what `import lnn_edge` offers.

python docs/make_api.py            # writes docs/api.md
python docs/make_api.py --check    # says whether it is up to date
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import numpy as np

import lnn_edge

PAGE = Path(__file__).with_name("api.md")
ROOMS = {
    "Workstation": ["export_model", "ExportReport", "Feature", "Guard", "save_checkpoint", "load_checkpoint"],
    "Device": ["load", "Model", "Stream", "State"],
    "Robot": [
        *("Guarded", "Tick", "Status", "Loop", "Source", "Sample", "Realtime", "Watchdog", "Systemd"),
        *("save_snapshot", "load_snapshot", "resume", "Snapshot", "Recorder", "replay"),
    ],
    "Training": ["LiquidNeuralNetwork", "read_recordings", "LiquidNeuralRegressor", "LiquidNeuralClassifier"],
    "Errors": ["errors"],
}
HEAD = """# API

What `import lnn_edge` offers, written from its docstrings by `python docs/make_api.py`. Arrays are NumPy's, or whatever
makes one; axes are (time, features), and all times seconds.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, end with 1 if the page is out of date")
    arguments = parser.parse_args()
    if arguments.check:
        return 0 if PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


def page() -> str:
    """The whole page."""
    missing = set(lnn_edge.__all__) - {name for names in ROOMS.values() for name in names} - {"__version__"}
    if missing:
        raise SystemExit(f"make_api.py: no room for {', '.join(sorted(missing))}. Add it to ROOMS")
    parts = [HEAD]
    for room, names in ROOMS.items():
        parts += [f"## {room}\n", *(entry(name) for name in names)]
    return "\n".join(parts)


def entry(name: str) -> str:
    """One public name, with the methods of a class that are its own."""
    value = getattr(lnn_edge, name)
    if inspect.ismodule(value):
        return fenced(inspect.getdoc(value) or "")
    parts = [described(f"### `{name}`", name, value)]
    if inspect.isclass(value):
        parts += [member(name, own, value) for own in own_members(value)]
    return "\n".join(parts)


def own_members(kind: type) -> list[str]:
    """Public methods and properties that lnn-edge wrote for this class, in the order of their names."""
    shared = lnn_edge.LiquidNeuralNetwork  # whose methods the other estimators have too
    named = [name for name in dir(kind) if not name.startswith("_")]
    if kind is not shared:
        named = [name for name in named if getattr(shared, name, None) is not getattr(kind, name)]
    return [name for name in named if documented(inspect.getattr_static(kind, name))]


def documented(value: Any) -> bool:
    if isinstance(value, Enum):  # of which the class tells
        return False
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return getattr(function, "__module__", "").startswith("lnn_edge") and bool(inspect.getdoc(function))


def member(owner: str, name: str, kind: type) -> str:
    """One method or property of a class."""
    value = inspect.getattr_static(kind, name)
    if isinstance(value, property):
        return f"#### `{owner}.{name}`\n\n{listed(inspect.getdoc(value) or '')}"
    return described(f"#### `{owner}.{name}`", name, getattr(kind, name))


def described(heading: str, name: str, value: Any) -> str:
    text = listed(inspect.getdoc(value) or "")
    if inspect.isclass(value) and issubclass(value, Enum):  # nobody calls it, and Pythons differ in its signature
        return f"{heading}\n\n{text}"
    return f"{heading}\n\n{fenced(name + called(inspect.signature(value)))}\n{text}"


def called(signature: inspect.Signature) -> str:
    """Arguments with types and defaults, a line for each where they are many."""
    arguments, bare = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not bare:
            arguments.append("*")
        bare |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        if parameter.name != "self":
            arguments.append(argument(parameter))
    returned = "" if signature.return_annotation in (signature.empty, "None") else f" -> {signature.return_annotation}"
    short = f"({', '.join(arguments)}){returned}"
    return short if len(short) < 90 else "(\n" + "".join(f"    {own},\n" for own in arguments) + f"){returned}"


def argument(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    kind = "" if parameter.annotation is parameter.empty else f": {type_text(parameter.annotation)}"
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}{kind}{default}"


def type_text(annotation: Any) -> str:
    """A type as it stands in the source; signatures of structs have the types themselves."""
    if inspect.isclass(annotation) and not get_args(annotation):
        return "Array" if annotation is np.ndarray else annotation.__name__
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", str(annotation)).replace("numpy.ndarray", "Array")


def fenced(text: str) -> str:
    return f"```text\n{text}\n```\n"


def listed(docstring: str) -> str:
    """A docstring with each of its arguments, results and errors as an item."""
    lines = []
    for line in docstring.splitlines():
        if re.fullmatch(r"(Args|Attributes|Raises|Returns|Yields):", line):
            lines += [f"**{line[:-1]}**", ""]
        elif found := re.fullmatch(r"    (\w[\w, .*]*): (.*)", line):
            lines.append(f"- `{found[1]}`: {found[2]}")
        elif line.startswith("        "):
            lines.append(f"  {line.strip()}")
        elif line.startswith("    "):
            lines.append(line.strip())
        else:
            lines.append(line)
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
