"""Small models, and what tests do to a bundle: copy it, change it, sign it again so that only the change is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from safetensors.numpy import load, save

from lnn_edge.bundle.directory import MANIFEST, file_entry, write_manifest
from lnn_edge.bundle.manifest import FILES, SCHEMA_VERSION, Manifest

if TYPE_CHECKING:
    from ncps.torch import LTC, CfC

ROOT = Path(__file__).parents[2]
CONTENT = FILES[SCHEMA_VERSION]
ALL_FILES = (MANIFEST, *CONTENT)
INPUTS = ["acc_x", "acc_y", "gyro_z"]


def small_cfc() -> CfC:
    import torch  # here: tests of the device half alone have none
    from ncps.torch import CfC
    from ncps.wirings import AutoNCP

    torch.manual_seed(11)
    return CfC(3, AutoNCP(10, 2))


def small_ltc() -> LTC:
    import torch
    from ncps.torch import LTC
    from ncps.wirings import AutoNCP

    torch.manual_seed(12)
    return LTC(3, AutoNCP(8, 2))


def chaotic_cfc() -> CfC:
    """A model that float32 cannot compute: its weights amplify every rounding error."""
    import torch
    from ncps.torch import CfC

    torch.manual_seed(0)
    module = CfC(3, 16)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(10.0)
    return module


def copied(bundle: Path, target: Path) -> Path:
    """A copy that may be changed, even of a bundle that is read-only."""
    shutil.copytree(bundle, target, copy_function=shutil.copyfile)
    target.chmod(0o755)
    return target


def manifest_of(bundle: Path) -> Manifest:
    return msgspec.json.decode((bundle / MANIFEST).read_bytes(), type=Manifest)


def resign(bundle: Path, **changes: Any) -> Path:
    """Write the manifest again with some fields changed, and with the right hash of every file and of itself."""
    files = {name: file_entry((bundle / name).read_bytes()) for name in manifest_of(bundle).files}
    write_manifest(bundle, msgspec.structs.replace(manifest_of(bundle), **({"files": files} | changes)))
    return bundle


def edit_json(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the manifest as plain JSON, where no type holds us back; its digest no longer matches."""
    plain = msgspec.json.decode((bundle / MANIFEST).read_bytes())
    change(plain)
    (bundle / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=2))
    return bundle


def edit_golden(bundle: Path, change: Callable[[dict[str, np.ndarray]], object]) -> Path:
    """Change the golden tensors and sign the bundle again."""
    path = bundle / "golden.safetensors"
    tensors = {name: value.copy() for name, value in load(path.read_bytes()).items()}
    change(tensors)
    path.write_bytes(save(tensors))
    return resign(bundle)
