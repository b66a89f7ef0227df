"""`lnn-edge codegen`: files that compile anywhere and replay what the trained model gave."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from bundles import ROOT, copied
from compilations import assert_gone, counted

from lnn_edge.cli import cross_compile

BOARD = ROOT / "examples" / "microcontroller"
FILES = ["CMakeLists.txt", "golden.h", "lnn.c", "lnn.h", "main.c"]
EQUAL = re.compile(r"output 0: largest error (\S+), allowed \S+\n(.*\n)*equal: (\d+) calls replayed\n")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "c"


@pytest.fixture
def unmeasured(monkeypatch):
    """For what is not about sizes, which are measured by one more compilation."""
    monkeypatch.setattr(cross_compile, "_compiler", lambda _target: None)


def compiled(folder, compiler="gcc", *flags):
    with counted("main.c"):
        command = [compiler, "-O1", *flags, "main.c", *(p.name for p in folder.glob("*.c") if p.name != "main.c")]
        subprocess.run([*command, "-o", "replay", "-lm"], cwd=folder, check=True)
    return folder / "replay"


def printed(*command, code=0):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


WARNED = ("-std=c99", "-Wall", "-Wextra", "-Werror")


@pytest.mark.usefixtures("unmeasured")
def test_another_prefix_and_a_wide_target(call, folder, block_bundle):
    """The text is the same whenever it is asked for again."""
    arguments = ("codegen", block_bundle, "-o", folder, "--prefix", "gait2", "--target", "vector4", "--calls", "10")
    assert call(*arguments)[0] == 0
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == {name.replace("lnn", "gait2") for name in FILES}
    assert EQUAL.fullmatch(printed(compiled(folder)))[3] == "6"  # all blocks that there are
    (folder / "replay").unlink()
    assert call(*arguments, "--overwrite")[0] == 0
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("unmeasured")
def test_what_is_written_compiles_and_replays_and_tells_what_is_wrong(call, folder, ltc_bundle):
    """Tables are changed where they lie in the program."""
    assert call("codegen", ltc_bundle, "-o", folder, "--calls", "10")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    program = compiled(folder, "gcc", *WARNED)
    assert EQUAL.fullmatch(printed(program))[3] == "10"
    data, tables = program.read_bytes(), (folder / "golden.h").read_text()
    for table, value, code, said in (
        ("golden_out0", 9.0, 1, r"output 0: largest error [0-9.e+]+, allowed 1\.0e-05\n(.*\n)*NOT equal: 10 calls"),
        ("golden_in0", np.inf, 2, "call 0 was refused: the sample is not finite"),
    ):
        own = re.search(rf"{table}\[\d+\] = \{{([^}}]*)\}}", tables)[1].replace("f", "").split(",")
        was = np.array([float(number) for number in own if number.strip()], np.float32)
        assert data.count(was.tobytes()) == 1
        now = np.concatenate([[np.float32(value)], was[1:]])
        program.write_bytes(data.replace(was.tobytes(), now.tobytes()))
        assert re.match(said, printed(program, code=code))


@pytest.mark.needs("cmake")
def test_cmake_builds_it(call, folder, cfc_bundle, compiler):
    call("codegen", cfc_bundle, "-o", folder)
    with counted("cmake"):
        printed("cmake", "-S", folder, "-B", folder / "build")
        printed("cmake", "--build", folder / "build")
    assert EQUAL.fullmatch(printed(folder / "build" / "replay"))


@pytest.mark.needs("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm")
def test_on_a_cortex_m4f(call, folder, ltc_bundle):
    """Without an operating system, on a processor that QEMU imitates; what it takes there is told."""
    code, out, _ = call("codegen", ltc_bundle, "-o", folder, "--target", "cortex-m4f", "--calls", "10")
    assert code == 0
    sizes = re.match(r"flash ([\d,]+) bytes, RAM ([\d,]+) bytes, stack ([\d,]+) bytes\n", out).groups()
    flash, ram, stack = (int(size.replace(",", "")) for size in sizes)
    assert 0 < ram + stack < flash < 1 << 16
    flags = re.search(r"COMPILE.*|-mcpu=\S+ -mthumb \S+ \S+", (folder / "CMakeLists.txt").read_text())[0].rstrip(")")
    with counted("cortex-m4f"):
        command = ["arm-none-eabi-gcc", *flags.split(), "-O1", "-std=gnu99", "--specs=rdimon.specs"]
        board = ["-T", BOARD / "mps2-an386.ld", BOARD / "startup.c"]
        subprocess.run([*command, *board, "main.c", "lnn.c", "-o", "replay.elf", "-lm"], cwd=folder, check=True)
    machine = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-semihosting-config", "enable=on,target=native"]
    assert EQUAL.fullmatch(printed(*machine, "-kernel", folder / "replay.elf"))[3] == "10"


@pytest.mark.needs("qemu-user", "libc6-arm64-cross", "libc6-armhf-cross")
@pytest.mark.parametrize(
    ("triple", "emulator", "libraries"),
    [
        ("aarch64-linux-gnu.2.31", "qemu-aarch64", "/usr/aarch64-linux-gnu"),
        ("arm-linux-gnueabihf.2.31", "qemu-arm", "/usr/arm-linux-gnueabihf"),
    ],
)
@pytest.mark.usefixtures("unmeasured")
def test_compiled_for_another_processor(call, folder, cfc_bundle, triple, emulator, libraries):
    code, out, _ = call("codegen", cfc_bundle, "-o", folder, "--target", "vector4", "--compile", triple)
    assert code == 0
    assert out.endswith(f"saved {folder}: lnn.h, lnn.c, main.c, golden.h, CMakeLists.txt, replay-{triple}\n")
    program = folder / f"replay-{triple}"
    assert os.access(program, os.X_OK)
    assert EQUAL.fullmatch(printed(emulator, "-L", libraries, program))


@pytest.mark.usefixtures("unmeasured")
def test_an_object_for_a_microcontroller(call, folder, cfc_bundle):
    arguments = ("--target", "cortex-m4f", "--compile", "thumb-freestanding-eabihf")
    assert call("codegen", cfc_bundle, "-o", folder, *arguments)[0] == 0
    data = (folder / "lnn-thumb-freestanding-eabihf.o").read_bytes()
    assert (data[:4], data[18]) == (b"\x7fELF", 40)  # an object for ARM


@pytest.mark.skipif(platform.machine() != "x86_64", reason="registers of x86-64")
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("target", "register"), [("vector8", "ymm"), ("vector16", "zmm")])
def test_a_wide_target_is_compiled_for_its_registers(call, folder, cfc_bundle, target, register, monkeypatch):
    """By the project file, and by the compiler for other machines; neither has a word to say."""
    if target == "vector8":  # one whole program will do: for each processor zig makes a library first, which takes long
        monkeypatch.setattr(cross_compile, "_is_alone", lambda _triple: True)
        monkeypatch.setattr(cross_compile, "_MATH", "#include_next <math.h>\n")
    arguments = ("--target", target, "--compile", "x86_64-linux-gnu.2.31")
    assert call("codegen", cfc_bundle, "-o", folder, *arguments, "--calls", "10")[0] == 0
    program = folder / ("lnn-x86_64-linux-gnu.2.31.o" if target == "vector8" else "replay-x86_64-linux-gnu.2.31")
    assert register in subprocess.run(["objdump", "-d", program], capture_output=True, text=True, check=True).stdout
    flags = re.search(r"errno (-m.*)\)", (folder / "CMakeLists.txt").read_text())[1].split()
    with counted("gcc"):
        command = ["gcc", "-std=gnu99", "-O1", "-Wall", "-Wextra", "-Werror", *flags, "-c", "lnn.c"]
        assert subprocess.run(command, cwd=folder, capture_output=True, check=True).stderr == b""


def test_json(call, folder, cfc_bundle):
    code, out, _ = call("codegen", cfc_bundle, "-o", folder, "--json", "-")
    told = json.loads(out)
    assert (code, told["target"], sorted(told["files"])) == (0, "generic", FILES)
    assert set(told["sizes"]) == {"flash", "model", "stack", "why_not"}


def test_files_that_are_there_are_not_replaced(call, folder, cfc_bundle):
    folder.mkdir()
    (folder / "main.c").write_text("mine")
    code, _, err = call("codegen", cfc_bundle, "-o", folder)
    assert (code, [path.name for path in folder.iterdir()]) == (2, ["main.c"])
    assert err == f"lnn-edge: '{folder}' has main.c already. Another folder, or add: --overwrite\n"
    (folder / "lnn.c").symlink_to("mine.c")
    assert "has lnn.c, main.c already" in call("codegen", cfc_bundle, "-o", folder)[2]
    (folder / "lnn.c").unlink()
    assert call("codegen", cfc_bundle, "-o", folder, "--overwrite")[0] == 0
    assert (folder / "main.c").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--target", "cortex-m4"], 2, "unknown target 'cortex-m4'. Valid: generic, .* Did you mean 'cortex-m4f'?"),
        (["--prefix", "Gait"], 2, "the prefix 'Gait' cannot begin names in C, expected a small letter"),
        (
            ["--prefix", "main"],
            2,
            "the prefix 'main' is the name of another file or target",
        ),
        (["--prefix", "x;system"], 2, "the prefix 'x;system' cannot begin names in C"),
        (["--calls", "0"], 2, "--calls: expected a whole number from 1 to 65,536, got '0'"),
        (["--compile", "no-such-thing"], 2, "the compiler for 'no-such-thing' failed: "),
    ],
)
def test_wrong_arguments_leave_nothing(call, folder, cfc_bundle, arguments, code, said):
    got, _, err = call("codegen", cfc_bundle, "-o", folder, *arguments)
    assert got == code
    assert re.search(said, err), err
    assert not folder.exists()


def test_interrupted_while_it_measures(call, folder, cfc_bundle, tmp_path, monkeypatch):
    """Ctrl-C ends the compiler and what it started, which leaves no file behind."""
    program, temporary, child = tmp_path / "gcc", tmp_path / "t", tmp_path / "child"
    temporary.mkdir()
    program.write_text(
        f"#!/bin/sh\nmktemp > /dev/null\nsleep 100 & echo $! > {child}.new && mv {child}.new {child}; wait\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(cross_compile, "_compiler", lambda _target: [str(program)])
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)

    def interrupt():
        while not child.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, _, err = call("codegen", cfc_bundle, "-o", folder)
    thread.join()
    assert (code, err) == (130, "lnn-edge: interrupted; nothing half-written is left\n")
    assert list(temporary.iterdir()) == []
    assert not folder.exists()
    assert_gone(int(child.read_text()))


def test_wrong_places(call, folder, cfc_bundle, tmp_path):
    bundle = copied(cfc_bundle, tmp_path / "m.lnn")
    before = sorted(path.name for path in bundle.iterdir())
    for place, said in ((bundle, "lies in the bundle"), (bundle / "c", "would take the place of the bundle")):
        code, _, err = call("codegen", bundle, "-o", place)
        assert (code, said in err) == (2, True), err
    assert sorted(path.name for path in bundle.iterdir()) == before
    code, _, err = call("codegen", bundle, "-o", folder / "c")
    assert (code, err) == (2, f"lnn-edge: directory '{folder}' does not exist. Type: mkdir -p {folder}\n")
    assert not folder.exists()
    folder.write_text("a file")
    code, _, err = call("codegen", bundle, "-o", folder)
    assert (code, f"'{folder}' is a file, expected a folder" in err) == (2, True), err


def test_without_the_cross_compiler(call, folder, cfc_bundle, monkeypatch):
    monkeypatch.setattr("lnn_edge.cli.cross_compile.find_spec", lambda name: None)
    code, _, err = call("codegen", cfc_bundle, "-o", folder, "--compile", "aarch64-linux-gnu")
    assert (code, folder.exists()) == (5, False)
    assert err.endswith("Type: pip install 'lnn-edge[cross]'\n")
    code, out, _ = call("codegen", cfc_bundle, "-o", folder)
    assert code == 0
    assert out.startswith(
        "what it takes is measured with the package pyelftools. Type: pip install 'lnn-edge[cross]'\n"
    )


@pytest.mark.parametrize(
    ("target", "packages"), [("generic", "gcc"), ("cortex-m4f", "gcc-arm-none-eabi libnewlib-arm-none-eabi")]
)
def test_without_any_compiler(call, folder, cfc_bundle, monkeypatch, target, packages):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert shutil.which("gcc") is None
    code, out, _ = call("codegen", cfc_bundle, "-o", folder, "--target", target)
    assert (code, out.partition("\n")[0]) == (0, f"to measure what it takes there: sudo apt install {packages}")


def test_a_compiler_that_fails_costs_the_sizes_alone(call, folder, cfc_bundle, monkeypatch, tmp_path):
    """As one for another processor without the library of its language."""
    (tmp_path / "gcc").write_text('#!/bin/sh\necho "lnn.c:2: fatal error: math.h: No such file" >&2\nexit 1\n')
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    code, out, _ = call("codegen", cfc_bundle, "-o", folder)
    assert (code, sorted(path.name for path in folder.iterdir())) == (0, FILES)
    told = (
        "what it takes was not measured: the compiler for 'generic' failed: lnn.c:2: fatal error: math.h: No such file"
    )
    assert out.partition("\n")[0] == told


def test_what_was_compiled_is_not_replaced_either(call, folder, cfc_bundle):
    folder.mkdir()
    (folder / "replay-aarch64-linux-gnu").write_text("mine")
    code, _, err = call("codegen", cfc_bundle, "-o", folder, "--compile", "aarch64-linux-gnu")
    assert (code, [path.name for path in folder.iterdir()]) == (2, ["replay-aarch64-linux-gnu"])
    assert "has replay-aarch64-linux-gnu already" in err


def test_a_bundle_without_a_program(call, folder):
    old = ROOT / "tests" / "fixtures" / "bundles"
    name = next(path for path in sorted(Path(old).glob("*.lnn")) if not (path / "step.json").exists())
    code, _, err = call("codegen", name, "-o", folder)
    assert (code, folder.exists()) == (6, False)
    assert "holds no step program. Export it again" in err
