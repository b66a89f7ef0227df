"""The installed package: the wheel holds exactly it, runs away from its sources, imports no more than it needs."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundles import ROOT
from exports import locked, shared_folder
from sources import parsed

import lnn_edge

MODULES = sorted((ROOT / "lnn_edge").rglob("*.py"))


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """The tracked files and nothing else, as a clean clone has them."""
    target = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    return target


EXTENSION = "lnn_edge/runtime/compiled/_step.abi3.so"


def built(sources, target, **environment):
    """Build a wheel by the hook that every front end calls; what was said."""
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    own = {name: value for name, value in os.environ.items() if name not in ("CC", "LNN_EDGE_EXTENSION")}
    command = [sys.executable, "-c", code, str(target)]
    done = subprocess.run(command, cwd=sources, env=own | environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheel(sources, tmp_path_factory) -> Path:
    """With the extension; made once for all test processes of a run."""
    target = shared_folder(tmp_path_factory) / "wheel"
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            target.mkdir()
            code, said = built(sources, target, LNN_EDGE_EXTENSION="require")
            assert code == 0, said
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    target = shared_folder(tmp_path_factory) / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target"]
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            subprocess.run([*command, str(target), str(wheel)], check=True, capture_output=True)
    return target


def test_wheel_holds_exactly_the_package(wheel, sources):
    tree = {str(p.relative_to(sources)) for p in (sources / "lnn_edge").rglob("*") if p.is_file()}
    assert all(name.endswith((".py", ".pyi", ".c")) or name == "lnn_edge/py.typed" for name in tree)
    assert wheel.name.removeprefix(f"lnn_edge-{lnn_edge.__version__}-").startswith("cp310-abi3-linux_")
    info = f"lnn_edge-{lnn_edge.__version__}.dist-info"
    extra = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert set(zipfile.ZipFile(wheel).namelist()) == tree | extra | {EXTENSION}


def test_wheel_without_a_compiler_has_no_extension(sources, tmp_path):
    code, said = built(sources, tmp_path, CC="no-compiler-for-this-test")
    assert code == 0, said
    (line,) = [line for line in said.splitlines() if "without its extension" in line]
    assert "no-compiler-for-this-test" in line
    assert "apt-get install gcc python3-dev" in line
    (path,) = tmp_path.iterdir()
    assert path.name == f"lnn_edge-{lnn_edge.__version__}-py3-none-any.whl"
    assert EXTENSION not in zipfile.ZipFile(path).namelist()


@pytest.mark.parametrize(
    ("wish", "expected"),
    [("require", "cannot be compiled: "), ("yes", "LNN_EDGE_EXTENSION is 'yes', expected 'require', 'no' or nothing")],
)
def test_a_wheel_that_must_have_the_extension(sources, tmp_path, wish, expected):
    code, said = built(sources, tmp_path, LNN_EDGE_EXTENSION=wish, CC="no-compiler-for-this-test")
    assert code != 0
    assert expected in said
    assert not list(tmp_path.iterdir())


class TestExtension:
    """What `hatch_build` says where nothing can be compiled, and where it puts what was."""

    @pytest.fixture
    def hook(self, monkeypatch):
        monkeypatch.syspath_prepend(ROOT)
        own = importlib.import_module("hatch_build")
        for name in ("CC", "LNN_EDGE_EXTENSION"):
            monkeypatch.delenv(name, raising=False)
        return own

    @pytest.mark.parametrize(
        ("compiler", "problem"),
        [
            ("false", "'false' ended with status 1"),
            ("no-compiler-for-this-test", r".*No such file or directory: 'no-compiler-for-this-test'"),
            ("gcc 'unfinished", "'gcc 'unfinished': No closing quotation"),
            ("sh -c 'echo so far >&2; exec sleep 60'", "'sh .*' took more than 1 seconds"),
            ("sh -c 'echo Python.h: error: none >&2; exit 1'", "Python.h: error: none"),
        ],
    )
    def test_problems_in_one_line(self, hook, monkeypatch, tmp_path, compiler, problem):
        monkeypatch.setenv("CC", compiler)
        monkeypatch.setattr(hook, "TIMEOUT_S", 1)
        assert re.fullmatch(problem, hook.compiled(tmp_path / "step.c", tmp_path / "step.so"))

    def test_names_with_spaces(self, hook, monkeypatch, tmp_path):
        monkeypatch.setattr(hook, "FLAGS", hook.FLAGS.replace("-O3", "-O0"))  # in a third of the time
        folder = tmp_path / "a folder"
        folder.mkdir()
        shutil.copy(ROOT / "lnn_edge" / "runtime" / "compiled" / "step.c", folder)
        assert hook.compiled(folder / "step.c", folder / "step.so") == ""
        assert (folder / "step.so").exists()

    @pytest.mark.parametrize("works", [True, False])
    def test_in_place_of_one_that_is_in_use(self, hook, monkeypatch, tmp_path, works):
        """An editable installation: a program that runs keeps the file that it has; none stays of older sources."""
        own = tmp_path / hook.FOLDER / hook.NAME
        own.parent.mkdir(parents=True)
        own.write_bytes(b"old")
        monkeypatch.setattr(hook, "compiled", lambda _, target: target.write_bytes(b"new") and "" if works else "none")
        app = SimpleNamespace(display_warning=lambda _: None)
        data = {"force_include": {}}
        with own.open("rb") as in_use:
            hook.ExtensionHook(str(tmp_path), {}, None, None, "", "wheel", app).initialize("editable", data)
            assert in_use.read() == b"old"
        assert not data["force_include"]
        assert [path.read_bytes() for path in own.parent.iterdir()] == ([b"new"] if works else [])


def test_source_distribution_holds_the_package_without_its_tests(sources, tmp_path):
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(sources)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = archive.getnames()
        places = {Path(name).parts[1] for name in names}
    assert not any(name.endswith(".so") for name in names)  # another machine compiles its own
    own = {"lnn_edge", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"}
    assert places == own | {"PKG-INFO", ".gitignore"}  # which hatchling adds


def test_wheel_says_what_it_needs(wheel):
    metadata = zipfile.ZipFile(wheel).read(f"lnn_edge-{lnn_edge.__version__}.dist-info/METADATA").decode()
    base = {
        line.split()[1] for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line
    }
    assert {name.partition(">")[0] for name in base} == {"msgspec", "numpy", "onnxruntime", "rich", "safetensors"}
    assert "License-Expression: Apache-2.0" in metadata


@pytest.mark.parametrize("command", [["bin/lnn-edge"], ["-m", "lnn_edge"]], ids=["script", "module"])
def test_installed_wheel_runs_away_from_the_sources(installed, tmp_path, command):
    program = [str(installed / command[0])] if len(command) == 1 else [sys.executable, *command]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [*program, "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"lnn-edge {lnn_edge.__version__}\n"


def test_installed_wheel_is_what_is_imported(installed, tmp_path, cfc_bundle, python):
    code = f"import lnn_edge; print(lnn_edge.__file__, lnn_edge.load({str(cfc_bundle)!r}).name)"
    done = python("-c", code, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)})
    assert done.stdout == f"{installed}/lnn_edge/__init__.py gait\n", done.stderr


def public_names(path: Path) -> tuple[set[str], set[str]]:
    """Names without underscore that a module defines, and apart from them aliases that shorten annotations."""
    names, aliases = set(), set()
    for node in parsed(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
            (aliases if isinstance(node.value, ast.Subscript) else names).update(found)
        elif isinstance(node, ast.If):  # an alias that is another one for type checkers
            targets = [own.targets[0] for own in node.body if isinstance(own, ast.Assign)]
            aliases |= {own.id for own in targets if isinstance(own, ast.Name)}
    return {name for name in names if not name.startswith("_")} - {"TYPE_CHECKING"}, aliases


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.name != "__main__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_all_equals_the_public_names(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])  # a folder's __init__ has none
    assert len(set(listed)) == len(listed)
    assert all(hasattr(module, entry) for entry in listed)
    defined, aliases = public_names(path)
    assert defined <= set(listed)
    if path.name != "__init__.py":  # which also passes on what its modules define
        assert set(listed) <= defined | aliases


def test_dir_lists_the_public_names():
    assert dir(lnn_edge) == sorted(lnn_edge.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lnn_edge' has no attribute 'lod'"):
        _ = lnn_edge.lod


def isolated(python, code: str) -> str:
    done = python("-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_device_needs_no_torch(python, cfc_bundle, ltc_bundle):
    """Import, load, step and run in a fresh process; then look at what came along."""
    code = f"""
import lnn_edge
for bundle, times in (({str(cfc_bundle)!r}, {{}}), ({str(ltc_bundle)!r}, {{"dt_s": 0.1}})):
    stream = lnn_edge.load(bundle).stream()
    stream.step([0.1, 0.2, 0.3], **times)
    stream.run([[0.1, 0.2, 0.3]] * 3, **times)
print(sorted({{name.partition('.')[0] for name in sys.modules}} & {{'torch', 'onnx', 'ncps', 'rich', 'scipy'}}))
"""
    assert isolated(python, code) == "[]\n"


@pytest.mark.parametrize("choice", [None, "0"], ids=["unasked", "the user's choice"])
def test_onnxruntime_reports_to_nobody(choice, python, environment, cfc_bundle, tmp_path):
    """From 1.29 on it sends facts about models to its makers, unless told not to; it is told, unless the user chose."""
    program = (
        "import os, sys, lnn_edge; lnn_edge.load(sys.argv[1]).stream();"
        "links = [os.readlink(entry.path) for entry in os.scandir('/proc/self/fd') if os.path.islink(entry.path)];"
        "print([link for link in links if 'onnxruntime' in link], os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    # Runs of CI and of its own tests it does not report either.
    own = {name: value for name, value in environment.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    own |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    own |= {} if choice is None else {"ORT_DISABLE_TELEMETRY": choice}
    done = python("-c", program, cfc_bundle, env=own)
    if choice is None:
        assert done.stdout == "[] 1\n", done.stderr
        assert list(tmp_path.rglob("*")) == []
    else:
        assert done.stdout.endswith(f" {choice}\n"), done.stderr


def test_importing_the_package_imports_next_to_nothing(python):
    """How long it takes is a figure of benchmarks/start_up.py."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import lnn_edge; print(*sys.modules)"
    there = python("-I", "-S", "-c", code).stdout.split()  # without `site`, whose paths may import anything
    assert {n for n in there if n.partition(".")[0] in ("lnn_edge", "numpy", "typing")} == {
        "lnn_edge",
        "lnn_edge.errors",
    }


@pytest.mark.parametrize("locked", [False, True])
def test_free_threaded_python_is_refused_by_name(locked, python):
    """And not with its lock switched on."""
    done = python("-c", f"import sys; sys._is_gil_enabled = lambda: {locked}; import lnn_edge; print('there')")
    if locked:
        assert (done.returncode, done.stdout) == (0, "there\n"), done.stderr
    else:
        last = done.stderr.splitlines()[-1]
        assert last.startswith("ImportError: lnn-edge does not run on free-threaded Python")
        assert "python3.13, not python3.13t" in last
        assert "export PYTHON_GIL=1" in last


def test_help_imports_no_numpy(python):
    code = "from lnn_edge.cli.program import main\ntry: main(['--help'])\nfinally: print('numpy' in sys.modules)"
    done = python("-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}")
    assert done.stdout.endswith("\nFalse\n")


def test_no_file_holds_both_sides_of_a_merge():
    found = subprocess.run(
        ["git", "grep", "-lE", "^(<{7}|>{7}) "], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, "")
