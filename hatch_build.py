"""The build of a wheel: the extension is compiled where a C compiler and Python's headers are, and else left out."""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "_step.abi3.so"
FOLDER = Path("lnn_edge", "runtime", "compiled")
TIMEOUT_S = 120
FLAGS = "-std=c11 -O3 -fPIC -shared -fvisibility=hidden -Wall -Wextra -Wno-missing-field-initializers"
ADVICE = (
    "To have it, install a C compiler and Python's headers (Debian: apt-get install gcc python3-dev) and build again"
)


class ExtensionHook(BuildHookInterface):
    """Compiles `step.c`. LNN_EDGE_EXTENSION is `require` (it is an error without it), `no`, or empty: if it can be."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile it, and name the wheel after Python's stable interface and the platform."""
        wish = os.environ.get("LNN_EDGE_EXTENSION", "")
        if wish not in ("", "no", "require"):
            sys.exit(f"LNN_EDGE_EXTENSION is '{wish}', expected 'require', 'no' or nothing")
        own, folder = Path(self.root) / FOLDER, tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # until then the builder reads what is there
        problem = "LNN_EDGE_EXTENSION is 'no'" if wish == "no" else compiled(own / "step.c", Path(folder, NAME))
        if problem and wish == "require":
            sys.exit(f"the extension of lnn-edge cannot be compiled: {problem}. {ADVICE}")
        if problem:
            self.app.display_warning(f"lnn-edge without its extension: {problem}. {ADVICE}")
        if version == "editable":
            replaced(own / NAME, None if problem else Path(folder, NAME))
        elif not problem:
            build_data["force_include"][f"{folder}/{NAME}"] = str(FOLDER / NAME)
        if not problem:
            platform = os.environ.get("_PYTHON_HOST_PLATFORM", sysconfig.get_platform())
            build_data |= {"pure_python": False, "tag": f"cp310-abi3-{platform.replace('-', '_').replace('.', '_')}"}


def replaced(target: Path, source: Path | None) -> None:
    """Put a file in place of another one, or nothing: whole, as programs may run with the one that is there."""
    if source is None:
        target.unlink(missing_ok=True)
        return
    new = target.with_name(f".{os.getpid()}.so")
    shutil.copyfile(source, new)
    os.replace(new, target)


def compiled(source: Path, target: Path) -> str:
    """Compile the extension; why that cannot be, or an empty text."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "free-threaded Python has no stable interface for it"
    import numpy as np

    includes = [f"-I{path}" for path in (sysconfig.get_paths()["include"], np.get_include())]
    compiler = os.environ.get("CC", "").strip() or "cc"
    try:
        command = [*shlex.split(compiler), *FLAGS.split(), *includes, str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"'{compiler}' took more than {TIMEOUT_S} seconds"
    except (OSError, ValueError) as error:  # there is none, or CC is no command
        return f"'{compiler}': {error}"
    said = done.stderr.splitlines()
    first = next((line for line in said if "error" in line), f"'{compiler}' ended with status {done.returncode}")
    return first if done.returncode else ""
