"""The one table of backends. The loader, the command line, errors, tests and docs read it; there is no second list."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from .backend_protocols import BackendChecks, ChoosesBundles
from .errors import BackendUnavailable
from .wording import choices, typed

if TYPE_CHECKING:  # the command line reads this table for its help, and must not wait for NumPy
    from .backend_protocols import Backend
    from .bundle.directory import Bundle
    from .machine.jetson import Board

__all__ = [
    "ALL",
    "AUTO",
    "BACKENDS",
    "BackendEntry",
    "BackendOption",
    "backend_checks",
    "backend_class",
    "base_install",
    "checked_options",
    "missing_modules",
    "named_backend",
    "refuse_options",
    "unfinished",
    "why_not_bundle",
    "why_not_ready",
]

ALL = "all"  # for a proof, every backend that is ready; a stream runs on one
AUTO = "auto"  # the fastest for a bundle, which its steps tell


class BackendOption(NamedTuple):
    """Something that a user may choose about a backend.

    Args:
        name: As in `load(..., options={name: value})` and `--option name=value`.
        values: What may be chosen; the first is the default.
        meaning: What it is about, in a few words.
    """

    name: str
    values: tuple[str, ...]
    meaning: str


class BackendEntry(NamedTuple):
    """One row of the table.

    Args:
        name: What users type.
        runs: What it runs, in a few words.
        needs: What must be on the machine, in a few words.
        extra: The extra of the package that provides it; `None` for the base install.
        modules: Modules it imports; it is ready when all are there, of "a or b" one.
        target: "module:class", imported on demand.
        probe: "module:function" that returns why this machine cannot run it, or `None`; for backends that need more
            than modules.
        options: What can be chosen.
        library: Package of what it runs on, where the extra does not bring it.
        checks: "module:function" that takes the board, or `None`, and returns `BackendChecks`.
        unfinished: "module:function" that says whether something it began is still running and would hold up the end of
            the program.
        proof_options: What an export chooses for its proof: what is quick to make ready and computes the same.
        builds_elsewhere: Whether what it installs is of use without its device too, for builds: that the device is
            missing is then no news where nobody asked for this backend.
        steps_whole: Whether it runs on the CPU and a step only as a whole: a proof that takes a costly step apart, to
            come back to few samples, has no time for it.
        on_gpu: Whether steps run on a GPU, for which a loop has no rehearsals.
    """

    name: str
    runs: str
    needs: str
    extra: str | None
    modules: tuple[str, ...]
    target: str
    probe: str | None = None
    options: tuple[BackendOption, ...] = ()
    library: str | None = None
    checks: str | None = None
    unfinished: str | None = None
    proof_options: Mapping[str, str] = MappingProxyType({})
    steps_whole: bool = False
    builds_elsewhere: bool = False
    on_gpu: bool = False

    @property
    def install(self) -> str:
        """The command that provides what is missing."""
        return f"pip install 'lnn-edge[{self.extra}]'" if self.extra else "pip install lnn-edge"

    @property
    def install_all(self) -> str:
        """The command for a machine that has nothing of it yet."""
        return self.install.replace("install ", f"install {self.library} ", 1) if self.library else self.install


_WAIT = BackendOption("wait", ("spin", "block", "poll"), "how the CPU waits for the GPU")
_GRAPH = BackendOption("graph", ("auto", "on", "off"), "one CUDA graph per step; on: refuse to run without")
_FEEDBACK = BackendOption("feedback", ("copy", "pingpong"), "how the next state becomes the state")
_LEVEL = BackendOption("optimization_level", ("3", "0", "1", "2", "4", "5"), "how long to build: 0 quick, 5 long")
_TF32 = BackendOption("tf32", ("off", "on"), "products with 10 bits of mantissa instead of float32")

BACKENDS = (
    BackendEntry(
        name="tensorrt",
        runs="an engine built on this device, on its NVIDIA GPU",
        needs="TensorRT 8.6 to 11, an NVIDIA GPU",
        extra="tensorrt",
        modules=("tensorrt",),
        target="lnn_edge.runtime.backends.trt.backend:TensorRTBackend",
        probe="lnn_edge.runtime.backends.trt.backend:why_not_ready",
        options=(_WAIT, _GRAPH, _FEEDBACK, _LEVEL, _TF32),
        library="tensorrt",
        checks="lnn_edge.runtime.backends.trt.checks:checks",
        unfinished="lnn_edge.runtime.backends.trt.build_watch:unfinished",
        on_gpu=True,
    ),
    BackendEntry(
        name="tensorrt-rtx",
        runs="an engine built anywhere and compiled on this device, on its RTX GPU",
        needs="TensorRT for RTX 1.7, a GPU of a GeForce RTX 30 or newer or of a DGX Spark",
        extra="rtx",
        modules=("tensorrt_rtx_bindings or tensorrt_rtx",),
        target="lnn_edge.runtime.backends.trt.backend:RtxBackend",
        probe="lnn_edge.runtime.backends.trt.backend:why_not_ready_for_rtx",
        options=(_WAIT, _GRAPH, _FEEDBACK, _TF32),
        checks="lnn_edge.runtime.backends.trt.checks:checks_for_rtx",
        unfinished="lnn_edge.runtime.backends.trt.build_watch:unfinished",
        builds_elsewhere=True,
        on_gpu=True,
    ),
    BackendEntry(
        name="onnxruntime",
        runs="model.onnx on the CPU",
        needs="base install",
        extra=None,
        modules=("onnxruntime",),
        target="lnn_edge.runtime.backends.ort:CpuBackend",
    ),
    BackendEntry(
        name="native",
        runs="C generated from the step, compiled on this machine",
        needs="a C compiler",
        extra=None,
        modules=(),
        target="lnn_edge.runtime.backends.native.backend:NativeBackend",
        probe="lnn_edge.runtime.backends.native.compiler:why_not_ready",
        checks="lnn_edge.runtime.backends.native.checks:checks",
        options=(BackendOption("tune", ("on", "off"), "measure once which registers and flags are the fastest here"),),
        proof_options={"tune": "off"},
        steps_whole=True,
    ),
)


def named_backend(name: str, *, others: Sequence[str] = ()) -> BackendEntry:
    """Find a backend by name; `others`: what the caller takes besides, for the message.

    Raises:
        TypeError: If it is no name.
        ValueError: If there is no such backend.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"`backend` is {name!r}, expected a name. {choices(name, [*others, *(e.name for e in BACKENDS)])}"
        )
    for entry in BACKENDS:
        if entry.name == name:
            return entry
    raise ValueError(f"unknown backend '{name}'. {choices(name, [*others, *(e.name for e in BACKENDS)])}")


def base_install() -> str:
    """The command that provides the backend of the base install, which runs everywhere."""
    return next(entry.install for entry in BACKENDS if entry.extra is None)


def missing_modules(entry: BackendEntry) -> list[str]:
    """Name the modules a backend needs that are not installed; nothing is imported."""
    from importlib.util import find_spec

    return [names for names in entry.modules if all(find_spec(name) is None for name in names.split(" or "))]


def why_not_ready(entry: BackendEntry) -> str | None:
    """Say why this machine cannot run a backend, or `None` if it can."""
    missing = missing_modules(entry)
    if missing:
        return f"no module {', '.join(missing)}; needs {entry.needs}"
    if entry.probe is None:
        return None
    reason: str | None = _imported(entry, entry.probe)()
    return reason


def why_not_bundle(entry: BackendEntry, bundle: Bundle) -> str | None:
    """Say why a backend that is ready cannot run a bundle, or `None` if it can."""
    kind = backend_class(entry)
    return kind.why_not_bundle(bundle) if issubclass(kind, ChoosesBundles) else None


def backend_checks(entry: BackendEntry, board: Board | None) -> BackendChecks:
    """What a backend has to say about this machine; `board` is the Jetson that it is, if it is one."""
    if entry.checks is None:
        return BackendChecks()
    found: BackendChecks = _attribute(entry.checks)(board)
    return found


def unfinished(entry: BackendEntry) -> bool:
    """Whether something that a backend began is still running; one that was never used is not imported to be asked."""
    module, _, name = (entry.unfinished or "").partition(":")
    running = getattr(sys.modules.get(module), name, None)
    return running is not None and bool(running())


def checked_options(entry: BackendEntry, options: Mapping[str, Any] | None) -> dict[str, str]:
    """Fill in defaults for what a user did not choose.

    Raises:
        ValueError: If the backend has no such option, or the option no such value.
    """
    known = {option.name: option for option in entry.options}
    chosen = {name: option.values[0] for name, option in known.items()}
    for name, value in _options(options).items():
        if name not in known:
            valid = choices(str(name), known) if known else "It has none."
            raise ValueError(f"backend '{entry.name}' has no option '{name}'. {valid}")
        if str(value) not in known[name].values:
            raise ValueError(f"option '{name}' is '{value}'. {choices(str(value), known[name].values)}")
        chosen[name] = str(value)
    return chosen


def _options(options: Any) -> Mapping[str, Any]:
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"`options` is {options!r}, expected a dict of values by name")
    return options or {}


def refuse_options(options: Mapping[str, Any] | None) -> None:
    """Refuse options where no backend was named: what they are for must not depend on which one is the fastest.

    Raises:
        ValueError: If there are any, with the backends that have them.
    """
    options = _options(options)
    if not options:
        return
    known = dict.fromkeys(option.name for entry in BACKENDS for option in entry.options)
    for name in options:
        if name not in known:
            raise ValueError(f"no backend has an option '{name}'. {choices(str(name), known)}")
    chosen = ", ".join(f"'{name}'" for name in options)
    owners = [entry.name for entry in BACKENDS if set(options) <= {option.name for option in entry.options}]
    if not owners:
        raise ValueError(f"no backend has all of the options {chosen}: name one, with its own")
    names = " or ".join(typed(f"backend='{name}'", f"--backend {name}") for name in owners)
    raise ValueError(f"with the options {chosen} the backend must be named: {names}")


def backend_class(entry: BackendEntry) -> type[Backend]:
    """Import a backend's class.

    Raises:
        BackendUnavailable: If something it needs is not installed, with the command that installs it.
    """
    loaded: type[Backend] = _imported(entry, entry.target)
    return loaded


def _imported(entry: BackendEntry, target: str) -> Any:
    try:
        return _attribute(target)
    except ImportError as error:
        raise BackendUnavailable(
            f"backend '{entry.name}' cannot be loaded: {error}. It needs: {entry.needs}. Type: {entry.install}"
        ) from error


def _attribute(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
