"""Commands on a machine that fails: full disks, files that cannot be made, and what is kept."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys

import pytest
from command_line import csv_text, samples
from properties import some

from lnn_edge.cli.os_errors import _OF_THE_MACHINE, _OF_THE_NAME, is_of_the_machine, os_error_text
from lnn_edge.files.lines import Lines

FULL = "No space left on device. Free some space or write to another disk. Type: df -h {}\n"


def full_disk(*_arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_run_on_a_disk_that_fills_up_keeps_whole_lines(call, cfc_bundle, tmp_path, monkeypatch):
    """A disk takes what it can of the last line."""
    room, write = [100], os.write

    def limited(descriptor, data):
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(tmp_path)):
            return write(descriptor, data)
        if not room[0]:
            full_disk()
        written = write(descriptor, bytes(data)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("lnn_edge.files.whole.os.write", limited)
    target = tmp_path / "y.csv"
    code, _, err = call("run", cfc_bundle, "--output", target, stdin=csv_text(samples(20)))
    lines = target.read_text().splitlines(keepends=True)
    assert (code, lines[0]) == (1, "walk,run\n")
    assert all(re.fullmatch(r"[-\d.e]+,[-\d.e]+\n", line) for line in lines[1:])
    assert 1 < len(lines) < 20
    assert err == (
        f"stopped after {len(lines) - 1} samples in 1 recording, saved {target}\n"
        f"lnn-edge: '{target}': {FULL.format(tmp_path)}"
    )
    assert os.listdir(tmp_path) == ["y.csv"]


def test_run_whose_file_cannot_be_completed_says_so(call, cfc_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    code, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text(samples(2)))
    assert code == 1
    assert err == (
        f"stopped after 2 samples in 1 recording; {tmp_path}/y.csv is not written\n"
        f"lnn-edge: '{tmp_path}/y.csv': {FULL.format(tmp_path)}"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", some(["standard output", "--output"]))
def test_run_into_a_full_device(environment, cfc_bundle, place):
    """One message, none of Python's own at its end."""
    command = [sys.executable, "-m", "lnn_edge", "run", str(cfc_bundle)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--output", "/dev/full"] if place == "--output" else command,
            env=environment, input=csv_text(samples(2)), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    named, folder = ("'/dev/full'", " /dev") if place == "--output" else ("standard output", "")
    assert done.stderr == f"lnn-edge: {named}: {FULL.format('')[:-2]}{folder}\n"


@pytest.mark.workstation
@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["export", "train.py:ready", "m.lnn", "--steps", 1000], "m.lnn"),
        (["verify", "BUNDLE", "--plot", "e.png"], "e.png"),
        (["verify", "BUNDLE", "--json", "v.json"], "v.json"),
        (["bench", "BUNDLE", "--steps", 50, "--seconds", 0, "--json", "b.json"], "b.json"),
    ],
    ids=["export", "verify --plot", "verify --json", "bench --json"],
)
def test_a_full_disk_is_told_with_the_name_that_was_typed(call, work, cfc_bundle, monkeypatch, command, file):
    monkeypatch.setattr("lnn_edge.verify.plot.rendered", lambda *_: b"a picture")  # to draw one takes a second
    monkeypatch.setattr(os, "fsync", full_disk)
    before = sorted(os.listdir(work))
    code, out, err = call(*(cfc_bundle if part == "BUNDLE" else part for part in command))
    assert code == 1
    assert err.endswith(f"lnn-edge: '{file}': {FULL.format('.')}")
    assert ".partial" not in err
    assert sorted(name for name in os.listdir(work) if name != "__pycache__") == before
    shown = {"bench": "back to back: service", "verify": "equal: outputs and states within", "export": ""}
    assert shown[command[0]] in out  # what took long is not lost with the file


@pytest.mark.parametrize(
    ("number", "code", "expected"),
    [
        (errno.EROFS, 1, "Read-only file system. Write to another disk, or mount this one for writing. Type: findmnt"),
        (errno.EDQUOT, 1, "Disk quota exceeded. Your quota is used up: free some space"),
        (errno.EIO, 1, "Input/output error. The disk or device does not answer"),
        (errno.EMFILE, 1, "Too many open files. This process may open no more files. Type: ulimit -n"),
        (errno.EACCES, 2, "Permission denied. Check who may use it. Type: ls -ld {} {}/y.csv"),
        (errno.ENAMETOOLONG, 2, "File name too long. Choose a shorter name: of at most 228 bytes"),
        (errno.EFBIG, 1, "File too large. Files may not be so large, in this shell or on this disk. Type: ulimit -f"),
        (errno.EPERM, 2, "Operation not permitted. The system forbids it, whatever its mode says. Type: ls -ld {};"),
        (errno.EBUSY, 1, "Device or resource busy. It is in use, or a disk is mounted there. Type: findmnt {}/y.csv"),
        (errno.EBADE, 1, "Invalid exchange. The system says no more. Its number is 52; look for it with: dmesg"),
    ],
)
def test_an_output_that_cannot_be_made(call, cfc_bundle, tmp_path, monkeypatch, number, code, expected):
    def refuse(path, _place):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("lnn_edge.files.whole._make_file", refuse)
    got, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text(samples(2)))
    assert got == code
    assert err.startswith(f"lnn-edge: '{tmp_path}/y.csv': {expected.format(tmp_path, tmp_path)}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_has_an_advice_that_fits(number):
    """One that has none of its own gives its number; it is blamed on no name, and on nobody's rights."""
    text = os_error_text(OSError(number, "failed", "/data/y.csv"))
    own = number in _OF_THE_MACHINE or number in _OF_THE_NAME
    assert text.startswith("'/data/y.csv': failed. ")
    assert own == (f"Its number is {number}" not in text)
    assert is_of_the_machine(OSError(number, "failed")) == (number not in _OF_THE_NAME)
    assert "{" not in text


def test_a_full_limit_of_file_sizes_is_told(environment, cfc_bundle, tmp_path):
    """`ulimit -f`, as batch systems set it."""
    done = subprocess.run(
        [sys.executable, "-m", "lnn_edge", "run", str(cfc_bundle), "--output", "y.csv"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        cwd=tmp_path, env=environment, input=csv_text(samples(20)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "lnn-edge: 'y.csv': File too large. Files may not be so large, in this shell or on this disk" in done.stderr
    assert os.listdir(tmp_path) == ["y.csv"]


@pytest.mark.parametrize("name", ["{}/gait.lnn", "{}/gait.lnn/manifest.json"])
def test_a_bundle_that_the_machine_cannot_open_now_is_no_bad_bundle(call, cfc_copy, monkeypatch, name):
    """With 6, "the bundle is damaged", no service starts again."""
    opened, named = os.open, name.format(cfc_copy.parent)

    def crowded(path, *arguments, **options):
        if str(path) in (named, "manifest.json" if named.endswith(".json") else ""):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", crowded)
        code, out, err = call("inspect", cfc_copy)
    assert (code, out) == (1, "")
    assert err.startswith(
        f"lnn-edge: '{named}': Too many open files. This process may open no more files. Type: ulimit"
    )
    assert call("inspect", cfc_copy)[0] == 0


def test_a_disk_that_does_not_answer_is_told_with_the_bundle_s_file(call, cfc_copy, monkeypatch):
    def unread(file, most):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("lnn_edge.bundle.directory._whole", unread)
    code, _, err = call("inspect", cfc_copy)
    assert (code, err.partition(". ")[0]) == (1, f"lnn-edge: '{cfc_copy}/manifest.json': Input/output error")


def test_a_recording_that_cannot_begin_is_told_by_its_name(environment, cfc_bundle, tmp_path):
    """A file without a name until it can be read, of which the system has none to tell."""
    pytest.importorskip("mcap")
    done = subprocess.run(
        [sys.executable, "-m", "lnn_edge", "run", str(cfc_bundle), "--record", "walk.mcap", "--backend", "onnxruntime"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        cwd=tmp_path, env=environment, input=csv_text(samples(2)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, os.listdir(tmp_path)) == (1, "", [])
    assert done.stderr.startswith("lnn-edge: 'walk.mcap': File too large. Files may not be so large")


@pytest.mark.parametrize("file", [["--output", "y.csv"], ["--json", "y.json"], ["--resume", "y.snapshot"]])
def test_a_folder_that_was_removed_under_a_command_is_told(call, cfc_bundle, tmp_path, monkeypatch, file):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, out, err = call("run", cfc_bundle, *file, stdin=csv_text(samples(2)))
    assert (code, out) == (2, "")
    assert err == (
        "lnn-edge: the current folder: No such file or directory. It was removed since. Type: cd to one that is there\n"
    )


# ---- what was computed is not lost with where it should go ----------------------------------------------------------


def test_results_whose_place_cannot_be_taken_stay_beside_it(call, cfc_bundle, tmp_path, monkeypatch):
    """A file that a container has mounted by itself is replaced by nothing."""
    (tmp_path / "y.csv").write_text("old")

    def busy(source, target):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(source), None, str(target))

    monkeypatch.setattr("lnn_edge.files.whole.os.replace", busy)
    code, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", stdin=csv_text(samples(3)))
    (kept,) = tmp_path.glob("y.kept-*.csv")
    assert (code, len(kept.read_text().splitlines()), (tmp_path / "y.csv").read_text()) == (1, 4, "old")
    assert err.startswith(
        f"stopped after 3 samples in 1 recording; they are in {kept}, as nothing may take the place of "
        f"{tmp_path}/y.csv\nlnn-edge: '{tmp_path}/y.csv': Device or resource busy."
    )
    assert sorted(os.listdir(tmp_path)) == sorted(["y.csv", kept.name])


@pytest.mark.parametrize("bad", [False, True])
def test_a_summary_that_cannot_be_saved_hides_nothing(call, cfc_bundle, tmp_path, bad):
    text = csv_text(samples(3)) + ("bad\n" if bad else "")
    code, _, err = call("run", cfc_bundle, "--output", tmp_path / "y.csv", "--json", "/dev/full", stdin=text)
    full = "'/dev/full': No space left on device"
    if bad:
        assert err.startswith(f"stopped after 3 samples in 1 recording, saved {tmp_path}/y.csv\nwarning: {full}")
        assert (code, "\nlnn-edge: standard input, line 5: 1 cells" in err) == (2, True)
    else:
        assert code == 1
        assert "3 samples in 1 recording through gait on onnxruntime" in err
        assert f", saved {tmp_path}/y.csv\nlnn-edge: {full}" in err


@pytest.mark.parametrize("loop", ["", "--on-fault hold"])
def test_a_reader_that_goes_leaves_the_summary(warm_device, cfc_bundle, tmp_path, loop):
    (tmp_path / "s.csv").write_text(csv_text(samples(8000)))
    command = f"python -m lnn_edge run {cfc_bundle} --input s.csv --json j.json {loop} | head -1"
    done = subprocess.run(
        command, shell=True, env=warm_device, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    found = json.loads((tmp_path / "j.json").read_text())
    taken = found["sink"]["written"] if loop else found["results"]
    header = "walk,run,status\n" if loop else "walk,run\n"
    assert (done.stdout, found["ended"], taken < 8000) == (header, "reader gone", True)


@pytest.mark.parametrize("resume", [[], ["--resume", "s.snapshot"]], ids=["", "resume"])
@pytest.mark.parametrize("loop", [[], ["--on-fault", "hold"]], ids=["rows", "loop"])
def test_results_that_somebody_removes_are_not_said_to_be_saved(call, cfc_bundle, work, monkeypatch, loop, resume):
    (work / "s.csv").write_text(csv_text(samples(3)))
    written = []

    def write(self, line, **options):
        lines_write(self, line, **options)
        written.append(line)
        if len(written) == 3:
            for own in [*work.glob("y.csv"), *work.glob(".y.csv.*")]:
                own.unlink()

    lines_write = Lines.write
    monkeypatch.setattr(Lines, "write", write)
    code, _, err = call("run", cfc_bundle, "--input", "s.csv", "--output", "y.csv", "--json", "j.json", *loop, *resume)
    assert (code, written[0], (work / "y.csv").exists()) == (2, f"walk,run{',status' * bool(loop)}\n", False)
    assert err.endswith("lnn-edge: 'y.csv': The file was removed while it was written. Check the name. Type: ls .\n")
    assert "saved y.csv" not in err
    assert "3 ticks in" in err if loop else "stopped after 3 samples in 1 recording; y.csv is not written" in err
    assert loop or json.loads((work / "j.json").read_text())["results"] == 3
    assert not loop or json.loads((work / "j.json").read_text())["ticks"] == 3


@pytest.mark.parametrize("option", ["--output", "--json"])
@pytest.mark.parametrize(("sticky", "expected"), [(False, "Permission denied"), (True, "belongs to another user")])
def test_a_place_of_others_is_refused_before_anything_runs(
    call, cfc_bundle, tmp_path, monkeypatch, option, sticky, expected
):
    (tmp_path / "y.csv").write_text("old")
    if sticky:
        tmp_path.chmod(0o1777)
        other = os.stat(tmp_path).st_uid + 1
        monkeypatch.setattr("lnn_edge.files.whole.os.geteuid", lambda: other)
    else:
        monkeypatch.setattr("lnn_edge.files.whole.os.access", lambda *_a, **_k: False)
    code, out, err = call("run", cfc_bundle, option, tmp_path / "y.csv", stdin=csv_text(samples(3)))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"lnn-edge: '{tmp_path}/y.csv': {expected}")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
