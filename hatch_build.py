"""The build of a wheel: the extension is compiled where a C compiler and Python's headers are, and else left out."""

from __future__ import annotations

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
        own = Path(self.root) / FOLDER
        self.folder = tempfile.mkdtemp()
        problem = "LNN_EDGE_EXTENSION is 'no'" if wish == "no" else compiled(own / "step.c", Path(self.folder, NAME))
        if problem and wish == "require":
            sys.exit(f"the extension of lnn-edge cannot be compiled: {problem}. {ADVICE}")
        if problem:
            self.app.display_warning(f"lnn-edge without its extension: {problem}. {ADVICE}")
        elif version == "editable":
            shutil.move(Path(self.folder, NAME), own / NAME)
        else:
            build_data["force_include"][f"{self.folder}/{NAME}"] = str(FOLDER / NAME)
        if not problem:
            platform = os.environ.get("_PYTHON_HOST_PLATFORM", sysconfig.get_platform())
            build_data |= {"pure_python": False, "tag": f"cp310-abi3-{platform.replace('-', '_').replace('.', '_')}"}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Take away what was compiled, which the wheel has now."""
        shutil.rmtree(self.folder)


def compiled(source: Path, target: Path) -> str:
    """Compile the extension; why that cannot be, or an empty text."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "free-threaded Python has no stable interface for it"
    import numpy as np

    includes = [f"-I{path}" for path in (sysconfig.get_paths()["include"], np.get_include())]
    command = [*shlex.split(os.environ.get("CC") or "cc"), *FLAGS.split(), *includes, str(source), "-o", str(target)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return next((line for line in said if "error" in line), said[0])
    return ""
