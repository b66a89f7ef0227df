"""Checks of this computer for `lnn-edge doctor`: the installed extras and the CPU's clock."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from .describe import package_version, scaling_governor

__all__ = ["EXTRAS", "HERE", "NOT_NEEDED", "Finding", "extra_check", "governor_check"]

HERE = "lnn-edge doctor"  # what errors advise; in its own report another line says more

NOT_NEEDED = "not needed"  # here, and nothing that would have to be mended

EXTRAS = {  # module and package of each; on a device all of these may be missing
    "export": (("torch", "torch"), ("ncps", "ncps"), ("onnx", "onnx")),
    "train": (("sklearn", "scikit-learn"), ("torch", "torch"), ("ncps", "ncps"), ("onnx", "onnx")),
    "plot": (("matplotlib", "matplotlib"),),
    "record": (("mcap", "mcap"),),  # which comes with protobuf here
    "cross": (("ziglang", "ziglang"), ("elftools", "pyelftools")),
}


@dataclass(frozen=True)
class Finding:
    """A line: what was looked at, "ready", "missing", "note" or "not needed", what was found, and what to type."""

    what: str
    status: str
    found: str
    fix: str = ""


def extra_check(name: str) -> Finding:
    """Whether the packages of an extra are installed."""
    missing = [package for module, package in EXTRAS[name] if find_spec(module) is None]
    if missing:
        fix = f"pip install 'lnn-edge[{name}]'"
        some = len(missing) < len(EXTRAS[name])
        status, where = ("missing", "") if some else (NOT_NEEDED, "; bundles run without")
        return Finding(name, status, f"no {', '.join(missing)}{where}", fix)
    return Finding(name, "ready", ", ".join(f"{package} {package_version(package)}" for _, package in EXTRAS[name]))


def governor_check() -> Finding:
    """Whether the CPU keeps its clock."""
    governor = scaling_governor()
    if governor == "performance":
        return Finding("CPU clock", "ready", governor)
    if not governor:
        return Finding("CPU clock", NOT_NEEDED, "no governor is visible, as in virtual machines: nothing to set here")
    fix = "sudo cpupower frequency-set -g performance"
    return Finding("CPU clock", "note", f"governor '{governor}' changes the clock, so latencies vary", fix)
