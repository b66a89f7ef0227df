"""A module `tensorrt` with exactly the surface of one version: classes, members, arguments and enumerations from JSON.

What a version lacks is an AttributeError, what it does not take a TypeError, as on the device. What it has and the
fake does not imitate is a NotImplementedError.
"""

from __future__ import annotations

import enum
import json
import re
import types
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

_RTX = "tensorrt_rtx_bindings.tensorrt_rtx."
API = Path(__file__).parent / "api"
VERSIONS = ("8.6", "10.3", "10.13", "10.16", "11.4")
FOR_RTX = "rtx-1.7"  # TensorRT for RTX, whose API is that of TensorRT 11 with some of its own
PLAIN = {
    "int": (int,), "typing.SupportsInt": (int,), "str": (str,), "bool": (bool,), "tuple": (tuple,), "list": (list,),
    "buffer": (bytes, bytearray, memoryview), "typing_extensions.Buffer": (bytes, bytearray, memoryview),
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str
    required: bool


@cache
def read(version: str) -> dict:
    """As it is in the file. Read-only."""
    return json.loads((API / f"{version}.json").read_text())


@cache
def overloads(signature: str) -> list[list[Parameter]]:
    """The parameter lists of a method, `self` left out. Read-only."""
    parts = [p for p in signature.split(" | ") if not re.search(r"\(\*args, \*\*kwargs\)", p)]
    return [[_parameter(text) for text in _split(_inside(p))][1:] for p in parts]


def _inside(text: str) -> str:
    start = text.index("(")
    depth = 0
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + 1 : end]
    raise ValueError(text)


def _split(text: str) -> list[str]:
    """At the commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "(": 1, "<": 1, "]": -1, ")": -1, ">": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _parameter(text: str) -> Parameter:
    declared, _, default = text.partition(" = ")
    name, _, kind = declared.partition(": ")
    return Parameter(name, kind.replace("tensorrt_bindings.tensorrt.", "").replace(_RTX, ""), not default)


def fits(value, parameter: Parameter, module) -> bool:
    if parameter.kind in PLAIN:
        return isinstance(value, PLAIN[parameter.kind]) or (value is None and not parameter.required)
    kind = getattr(module, parameter.kind.split(".")[0], None)
    return isinstance(value, kind) if isinstance(kind, type) else True


def bind(name: str, lists: list[list[Parameter]], arguments: tuple, keywords: dict, module) -> dict:
    """Arguments by name, or TypeError in pybind's manner."""
    for parameters in lists:
        names = [p.name for p in parameters]
        given = dict(zip(names, arguments, strict=False)) | keywords
        if len(arguments) > len(names) or set(keywords) & set(names[: len(arguments)]) or set(given) - set(names):
            continue
        if any(p.required and p.name not in given for p in parameters):
            continue
        if all(fits(given[p.name], p, module) for p in parameters if p.name in given):
            return given
    raise TypeError(f"{name}(): incompatible function arguments. The following argument types are supported: {lists}")


def build(version: str, behaviours: dict[str, type]) -> types.ModuleType:
    """Make the module; `behaviours` maps class names to classes whose `do_METHOD` imitate methods.

    Each of the hundreds of members is made when it is asked for: tests make many modules and use little of each.
    """
    surface = read(version)
    module = types.ModuleType("tensorrt")
    module.__version__, module.__spec__ = surface["version"], ModuleSpec("tensorrt", None)

    def made(name):
        setattr(module, name, _member(name, surface, behaviours, module))
        return getattr(module, name)

    module.__getattr__ = made
    return module


def _member(name, surface, behaviours, module):
    if name in surface["classes"]:
        return _class(name, surface["classes"][name], surface, behaviours.get(name, object), module)
    if name in surface["enums"] and "." not in name:
        return enum.IntEnum(name, surface["enums"][name])
    if name in surface["functions"]:
        return _missing(name)
    raise AttributeError(f"module 'tensorrt' has no attribute '{name}'")


def _class(name, members, surface, behaviour, module):
    space = {"__init__": _constructor(name, members["__init__"], behaviour, module)}
    settable = {member for member, kind in members.items() if kind == "property"}

    def assign(self, member, value):
        if not member.startswith("_") and member not in settable:
            raise AttributeError(f"'{name}' object has no attribute '{member}', or it cannot be set")
        object.__setattr__(self, member, value)

    space["__setattr__"] = assign
    for member, kind in members.items():
        if kind.startswith("property"):
            if hasattr(behaviour, f"get_{member}"):
                space[member] = property(getattr(behaviour, f"get_{member}"), getattr(behaviour, f"set_{member}", None))
        elif not member.startswith("__") and kind:
            space[member] = _method(name, member, kind, behaviour, module)
    for special in ("__getitem__", "__len__", "__bytes__"):
        if hasattr(behaviour, special):
            space[special] = getattr(behaviour, special)
    nested = surface["enums"].get(f"{name}.Severity")
    if nested:
        severity = enum.IntEnum("Severity", nested) if name == "ILogger" else module.ILogger.Severity
        space |= {"Severity": severity} | {member.name: member for member in severity}
    bases = (module.ILogger,) if name == "Logger" else ()
    return type(name, bases, space)


def _constructor(name, signature, behaviour, module):
    lists = overloads(signature) if signature else None

    def __init__(self, *arguments, **keywords):
        if lists is None:
            raise TypeError(f"tensorrt.{name}: No constructor defined!")
        given = bind(f"{name}.__init__", lists, arguments, keywords, module)
        object.__setattr__(self, "_made", True)
        if hasattr(behaviour, "begin"):
            behaviour.begin(self, **given)

    return __init__


def _method(owner, name, signature, behaviour, module):
    lists = overloads(signature)
    action = getattr(behaviour, f"do_{name}", None) or _missing(f"{owner}.{name}")

    def method(self, *arguments, **keywords):
        return action(self, **bind(f"{owner}.{name}", lists, arguments, keywords, module))

    return method


def _missing(name):
    def call(*_, **__):
        raise NotImplementedError(f"the fake does not imitate {name}")

    return call
