"""Borders of imports. The linter holds them too; here they are read from the source, functions included."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from bundles import ROOT
from sources import parsed, text_of

PACKAGE = ROOT / "lnn_edge"
MODULES = sorted(PACKAGE.rglob("*.py"))
WORKSTATION = {"torch", "onnx", "ncps", "sklearn", "lnn_edge.export", "lnn_edge.train"}
LAZY_TABLE = "lnn_edge/__init__.py"  # its imports under TYPE_CHECKING are what its table imports when it is asked to


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def half(path: Path) -> str:
    """ "export", "train", "cli", or "device" for the runtime and the shared vocabulary."""
    top = path.relative_to(PACKAGE).parts[0]
    return top if top in ("export", "train", "cli") else "command" if top == "__main__.py" else "device"


@cache  # each rule looks at all modules
def imports(path: Path, *, inside_functions: bool = True, for_checkers: bool = False) -> tuple[str, ...]:
    """Absolute names of everything that a module imports, and if asked what type checkers alone import."""

    def walk(node: ast.AST) -> Iterator[str]:
        if not for_checkers and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef) and not inside_functions:
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
                base = ".".join([*package, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        if isinstance(node, (ast.mod, ast.stmt, ast.ExceptHandler, ast.match_case)):  # no expression holds a statement
            for child in ast.iter_child_nodes(node):
                yield from walk(child)

    return tuple(walk(parsed(path)))


def crossing(found: Iterable[str], forbidden: set[str]) -> list[str]:
    return [name for name in found if any(f"{name}.".startswith(f"{barred}.") for barred in forbidden)]


def of_half(*halves: str) -> list[Path]:
    return [path for path in MODULES if half(path) in halves]


@pytest.mark.parametrize("path", of_half("device"), ids=name_of)
def test_device_half_imports_nothing_of_the_workstation(path):
    assert not crossing(imports(path), WORKSTATION | {"lnn_edge.cli"})


@pytest.mark.parametrize("path", of_half("export"), ids=name_of)
def test_export_imports_neither_the_command_line_nor_the_estimator(path):
    assert not crossing(imports(path), {"lnn_edge.cli", "lnn_edge.train", "sklearn"})


@pytest.mark.parametrize("path", of_half("train"), ids=name_of)
def test_the_estimator_imports_neither_the_command_line_nor_onnx(path):
    assert not crossing(imports(path), {"lnn_edge.cli"})
    assert path.name == "__init__.py" or not crossing(imports(path), {"onnx", "onnxruntime"})


def test_nothing_imports_the_estimator_but_the_lazy_table():
    importing = [path for path in MODULES if half(path) != "train" and crossing(imports(path), {"lnn_edge.train"})]
    assert not importing


@pytest.mark.parametrize("path", of_half("cli"), ids=name_of)
def test_commands_import_what_is_heavy_inside_functions(path):
    heavy = WORKSTATION | {"lnn_edge.runtime", "numpy", "onnxruntime", "rich", "safetensors", "lnn_edge.bundle.golden"}
    assert not crossing(imports(path, inside_functions=False), heavy)


def test_shared_vocabulary_needs_numpy_and_small_packages_only():
    shared = [p for p in of_half("device") if "runtime" not in p.parts and name_of(p) != "lnn_edge/verify/plot.py"]
    tops = {name.partition(".")[0] for path in shared for name in imports(path)}
    assert tops - set(sys.stdlib_module_names) == {"lnn_edge", "msgspec", "numpy", "safetensors"}


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent == PACKAGE / "reference"], ids=name_of)
def test_reference_needs_numpy_alone(path):
    assert not crossing(imports(path), {"msgspec", "safetensors", "onnxruntime", "lnn_edge.runtime"})


LIBRARIES = {"tensorrt": "engines.py", "tensorrt_rtx": "engines.py", "tensorrt_rtx_bindings": "engines.py"}


@pytest.mark.parametrize(("library", "adapter"), [*LIBRARIES.items(), ("cuda", "cudart.py")])
def test_one_module_touches_each_library_of_the_gpu(library, adapter):
    touching = [path for path in MODULES if crossing(imports(path), {library})]
    assert touching == [PACKAGE / "runtime" / "backends" / "trt" / adapter]


def test_generated_c_needs_the_shared_vocabulary_alone_and_one_backend_and_one_command_generate_it():
    room = PACKAGE / "codegen"
    inside = {name for path in MODULES if room in path.parents for name in imports(path)}
    assert not crossing(inside, {"lnn_edge.runtime", "lnn_edge.cli", *WORKSTATION})
    others = [path for path in MODULES if room not in path.parents]
    using = {path for path in others if crossing(imports(path), {"lnn_edge.codegen"})}
    command = {PACKAGE / "cli" / "commands" / "codegen.py", PACKAGE / "cli" / "cross_compile.py"}
    assert {path.parent for path in using - command} == {PACKAGE / "runtime" / "backends" / "native"}


# Who may use whom: a room, what it may import of its neighbourhood, and the neighbourhood. What is not in the
# neighbourhood is the business of the rules above.
ROOMS = [
    ("runtime/backends", ["backends", "clock", "compiled", "figures", "input_port", "sequence", "state"], "runtime"),
    ("runtime/compiled", ["call_token", "compiled", "input_port", "modes", "seen_ranges", "stream"], "runtime"),
    ("runtime/transport", ["transport"], "runtime"),
    (
        "runtime/guard",
        ["guard", "stream", "state", "model", "input_port", "clock", "call_token", "modes", "compiled"],
        "runtime",
    ),
    (
        "runtime/record",
        ["record", "guard", "compiled", "stream", "state", "model", "input_port", "constants", "loading"],
        "runtime",
    ),
    ("runtime/figures", ["figures"], "runtime"),
    (
        "runtime/loop",
        ["loop", "figures", "guard", "record", "stream", "state", "model", "input_port", "transport"],
        "runtime",
    ),
    ("export/cores", ["cores"], "export"),
    ("export/graph", ["graph"], "export"),
    ("export/lowering", ["lowering", "graph"], "export"),
    ("export/trace", ["trace", "cores"], "export"),
    ("export/forward", ["forward", "trace", "cores"], "export"),
    ("export/trained", ["trained", "forward", "trace", "cores", "torch_settings"], "export"),
    ("export/proof", ["proof", "graph", "forward", "trained", "torch_settings"], "export"),
    ("export/checkpoint", ["checkpoint", "cores", "provenance", "torch_settings"], "export"),
    ("train/unrolled", ["unrolled", "settings"], "train"),
    ("train/data", ["data", "settings"], "train"),
]


@pytest.mark.parametrize(("room", "may", "around"), ROOMS, ids=[room for room, _, _ in ROOMS])
def test_rooms_use_only_what_lies_below_them(room, may, around):
    own = [path for path in MODULES if (PACKAGE / room) in path.parents]
    near = f"lnn_edge.{around}."
    used = {name for path in own for name in imports(path) if f"{name}.".startswith(near)}
    assert own
    assert not [name for name in used if name.removeprefix(near).partition(".")[0] not in may]


def test_the_machine_is_looked_at_with_the_standard_library_alone():
    found = {name for path in MODULES if path.parent == PACKAGE / "machine" for name in imports(path)}
    foreign = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - {"lnn_edge"}
    assert not foreign


# A method that makes something, or draws it, whose type knows the object that has the method.
OF_ITS_MAKER = {
    ("lnn_edge.runtime.guard.guarded", "lnn_edge.runtime.model"),
    ("lnn_edge.verify.plot", "lnn_edge.verify.report"),
}


def test_no_import_circle():
    """Imports within functions and for type checkers count as well: a circle there is one in the minds of readers."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in MODULES}
    used = {name: _used(name, path, names) for name, path in names.items()}
    assert all(maker in used[made] for made, maker in OF_ITS_MAKER)
    TopologicalSorter(
        {name: {own for own in found if (name, own) not in OF_ITS_MAKER} for name, found in used.items()}
    ).prepare()  # a CycleError names the circle


def _used(name: str, path: Path, names: dict[str, Path]) -> set[str]:
    lazily = name_of(path) == LAZY_TABLE
    return {_module(found, names) for found in imports(path, for_checkers=not lazily)} - {name}


def _module(imported: str, names: dict[str, Path]) -> str:
    """The module of ours that an imported name comes from; foreign ones stay what they are."""
    return imported if imported in names else imported.rpartition(".")[0]


def test_no_folder_holds_more_than_one_can_see_at_a_glance():
    folders = Counter(path.parent for path in MODULES)
    assert max(folders.values()) <= 16, folders.most_common(3)


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name_of)
def test_a_folder_tells_what_is_in_it_and_imports_nothing(path):
    """But for the faces of the package, which hand on the public names, and the table of translated operations."""
    faces = ("lnn_edge", "export", "runtime", "train", "reference", "ops")
    text = path.read_text()
    if path.parent.name not in faces:
        assert set(imports(path)) <= {"lnn_edge.former_names.serve_former_names"}  # for pickles of earlier versions
    there = {other.stem for other in path.parent.glob("*.py")} - {"__init__", "__main__"}
    there |= {other.parent.name for other in path.parent.glob("*/__init__.py")}
    assert set(re.findall(r"^ *(\w+) {2,}\S", text, re.M)) == there


@pytest.mark.parametrize("path", of_half("cli"), ids=name_of)
def test_exit_codes_are_numbers_in_one_place(path):
    """A command returns a name; what is 128 and a signal's number is no number of ours."""
    tree = parsed(path)
    returned = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value is not None]
    numbers = [n for value in returned for n in ast.walk(value) if isinstance(n, ast.Constant) and type(n.value) is int]
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in ("run", "main", "_guarded")]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    assert not [ast.unparse(number) for number in numbers if id(number) in inside]


@pytest.mark.parametrize("folder", ["lnn_edge", "tests", "examples", "benchmarks"])
def test_nothing_imports_the_top_level_links(folder):
    named = re.compile(
        r"^\s*(from\s+|import\s+(.*,\s*)?)(export|runtime)\b", re.M
    )  # which few files do, and only these are parsed
    for path in sorted((ROOT / folder).rglob("*.py")):
        if named.search(text_of(path)):
            assert not crossing(imports(path), {"export", "runtime"}), path


def test_type_checkers_see_what_the_lazy_table_imports():
    """`lnn_edge.load` for people and `lnn_edge.load` for mypy are the same thing."""
    import lnn_edge

    tree = ast.parse((ROOT / LAZY_TABLE).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == lnn_edge._HOMES


@pytest.mark.parametrize("name", ["export", "runtime"])
def test_top_level_links_are_committed_as_links(name):
    listed = subprocess.run(["git", "ls-files", "-s", name], cwd=ROOT, capture_output=True, text=True, check=True)
    assert listed.stdout.startswith("120000 ")
    assert (ROOT / name).readlink() == Path("lnn_edge") / name


BROKEN = [
    ("runtime/extra_1.py", "import torch", "Only lnn_edge/export and lnn_edge/train may import torch"),
    ("runtime/extra_2.py", "from onnx import helper", "Only lnn_edge/export may import onnx"),
    ("extra_3.py", "import ncps.torch", "Only lnn_edge/export and lnn_edge/train may import ncps"),
    ("runtime/extra_4.py", "from lnn_edge.export import export_model", "device half never imports the workstation"),
    ("runtime/extra_5.py", "from ..export import export_model", "device half never imports the workstation half"),
    ("extra_6.py", "from .export.graph.builder import Value", "The device half never imports the workstation half"),
    ("extra_7.py", "from .train import LiquidNeuralNetwork", "The estimator sits on top of export and runtime"),
    ("runtime/extra_8.py", "from sklearn.base import clone", "Only lnn_edge/train may import scikit-learn"),
    ("extra_9.py", "from .cli import main", "The command line sits on top: nothing imports it"),
    (
        "runtime/backends/trt/stepper.py",
        "import tensorrt",
        "Only runtime/backends/trt/engines.py touches TensorRT",
    ),
    (
        "runtime/backends/ort.py",
        "from cuda.bindings import runtime",
        "Only runtime/backends/trt/cudart.py touches CUDA",
    ),
    ("extra_10.py", "import runtime", "The top-level link is for people. Import lnn_edge.runtime"),
    ("extra_11.py", "from export import export_model", "The top-level link is for people. Import lnn_edge.export"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What the linter says about a tree with all of these, line by line."""
    tree = tmp_path_factory.mktemp("broken")
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copytree(PACKAGE, tree / "lnn_edge", ignore=shutil.ignore_patterns("__pycache__"))
    for place, line, _ in BROKEN:
        (tree / "lnn_edge" / place).write_text(f'"""A module."""\n\n{line}\n')
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", "--output-format", "concise"]
    done = subprocess.run([*command, "."], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.count("TID251") == len(BROKEN)
    return done.stdout.splitlines()


@pytest.mark.parametrize(("place", "line", "message"), BROKEN)
def test_linter_refuses_a_broken_border(refusals, place, line, message):
    (found,) = (said for said in refusals if f"lnn_edge/{place}:" in said)
    assert message in found
