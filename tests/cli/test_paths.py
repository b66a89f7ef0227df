"""Outputs that would take the place of an input, of another output, or of a bundle's file: refused before anything."""

from __future__ import annotations

import argparse
import os
import subprocess

import pytest
from bundles import ALL_FILES, INPUTS
from command_line import csv_text, samples

from lnn_edge.cli.paths import READS, WRITES
from lnn_edge.cli.program import COMMANDS, main

RUN = ["run", "gait.lnn"]
EXPORT = ["export", "train.py:make_model", "new.lnn"]
VERIFY = ["verify", "gait.lnn"]


@pytest.fixture
def place(work, cfc_copy):
    """A directory with all that commands read, by several names."""
    if not (work / "gait.lnn").exists():
        cfc_copy.rename(work / "gait.lnn")
    (work / "s.csv").write_text(csv_text(samples(5)))
    (work / "link.csv").symlink_to("s.csv")
    os.link(work / "s.csv", work / "hard.csv")
    (work / "folder").symlink_to(".")
    (work / "again.lnn").symlink_to("gait.lnn")
    os.link(work / "gait.lnn/model.onnx", work / "graph")
    (work / "w.pt").write_bytes(b"weights")
    (work / "scale.json").write_text('{"mean": 0, "std": 1}')
    return work


def contents(folder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


REFUSED = {
    "the recording": ([*RUN, "--input", "s.csv", "--output", "s.csv"], "--output 's.csv' would take the place of --in"),
    "dotted": ([*RUN, "--input", "s.csv", "--output", "./folder/.//s.csv"], "would take the place of --input 's.csv'"),
    "through a link": ([*RUN, "--input", "s.csv", "--output", "link.csv"], "would take the place of --input 's.csv'"),
    "from a link": ([*RUN, "--input", "link.csv", "--output", "s.csv"], "would take the place of --input 'link.csv'"),
    "hard link": ([*RUN, "--input", "s.csv", "--output", "hard.csv"], "would take the place of --input 's.csv'"),
    "linked folder": ([*RUN, "--input", "s.csv", "--output", "folder/s.csv"], "would take the place of --input"),
    "bundle's file": ([*RUN, "--output", "gait.lnn/model.onnx"], "would take the place of the bundle 'gait.lnn'"),
    "into the bundle": ([*RUN, "--output", "gait.lnn/y.csv"], "would take the place of the bundle 'gait.lnn'"),
    "into it by a link": ([*RUN, "--output", "again.lnn/y.csv"], "would take the place of the bundle 'gait.lnn'"),
    "out of its link": (["run", "again.lnn", "--output", "gait.lnn/y.csv"], "would take the place of the bundle"),
    "linked file of it": ([*RUN, "--output", "graph"], "would take the place of the bundle 'gait.lnn'"),
    "another bundle": (["doctor", "--json", "gait.lnn/d.json"], "--json 'gait.lnn/d.json' lies in the bundle"),
    "bench": (["bench", "gait.lnn", "--json", "gait.lnn/manifest.json"], "--json 'gait.lnn/manifest.json' would take"),
    "inspect": (["inspect", "gait.lnn", "--json", "gait.lnn/report.json"], "--json 'gait.lnn/report.json' would take"),
    "build": (["build", "gait.lnn", "--backend", "onnxruntime", "--json", "graph"], "--json 'graph' would take the pl"),
    "verify": ([*VERIFY, "--plot", "gait.lnn/e.svg"], "--plot 'gait.lnn/e.svg' would take the place of the bundle"),
    "against": ([*VERIFY, "--against", "train.py:ready", "--json", "train.py"], "the place of --against 'train.py:rea"),
    "source": ([*EXPORT, "--json", "train.py"], "--json 'train.py' would take the place of SOURCE 'train.py:make_mo"),
    "module": (["export", "train:ready", "new.lnn", "--json", "train.py"], "would take the place of SOURCE 'train:re"),
    "checkpoint": (["export", "w.pt", "new.lnn", "--json", "w.pt"], "would take the place of SOURCE 'w.pt'"),
    "weights": ([*EXPORT, "--weights", "w.pt", "--json", "w.pt"], "would take the place of --weights 'w.pt'"),
    "example": ([*EXPORT, "--example", "s.csv", "--json", "hard.csv"], "would take the place of --example 's.csv'"),
    "scaling": ([*EXPORT, "--scale-inputs", "scale.json", "--json", "scale.json"], "the place of --scale-inputs 'sca"),
    "targets": ([*EXPORT, "--scale-outputs", "scale.json", "--json", "scale.json"], "the place of --scale-outputs 's"),
    "two outputs": ([*EXPORT, "--plot", "e.svg", "--json", "folder/e.svg"], "are one place: give --plot another name"),
    "into the new one": ([*EXPORT, "--json", "new.lnn/e.json"], "--json 'new.lnn/e.json' and the new bundle 'new.l"),
    "read out of it": (
        ["export", "train.py:ready", "gait.lnn", "--overwrite", "--weights", "gait.lnn/step.safetensors"],
        "the new bundle 'gait.lnn' would take the place of --weights 'gait.lnn/step.safetensors'",
    ),
    "as its own weights": (["export", "gait.lnn", "again.lnn", "--overwrite"], "would take the place of SOURCE 'gait."),
    "within another": (["export", "train.py:ready", "gait.lnn/new.lnn"], "'gait.lnn/new.lnn' lies in the bundle"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "expected"), REFUSED.values(), ids=REFUSED)
def test_no_output_takes_the_place_of_an_input(call, place, command, expected):
    before = contents(place)
    code, out, err = call(*command)
    assert (code, out) == (2, "")
    assert expected in err
    assert contents(place) == before


def shell(warm_device, place, line):
    command, pipe = line.replace("lnn-edge", "python -m lnn_edge"), subprocess.PIPE
    return subprocess.run(
        command, shell=True, env=warm_device, cwd=place, stdout=pipe, stderr=pipe, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lnn-edge run gait.lnn --output s.csv < s.csv", "--output 's.csv' would take the place of standard input"),
        ("lnn-edge run gait.lnn --input s.csv >> s.csv", "standard output goes to --input 's.csv', which is read"),
        ("lnn-edge run gait.lnn < s.csv >> hard.csv", "standard output goes to standard input, which is read"),
        ("lnn-edge inspect gait.lnn >> graph", "standard output goes to the bundle 'gait.lnn', which is read"),
        ("lnn-edge inspect gait.lnn --json i.txt > i.txt", "--json 'i.txt' and standard output are one place"),
    ],
)
def test_redirections_are_paths_as_well(warm_device, place, line, expected):
    before = contents(place)
    done = shell(warm_device, place, line)
    assert done.returncode == 2
    assert expected in done.stderr
    assert {name: data for name, data in contents(place).items() if not name.endswith("i.txt")} == before


def test_standard_output_by_its_device_is_standard_output(warm_device, place):
    """Were it replaced as the file it goes to, what is printed beside the result would be lost."""
    expected = shell(warm_device, place, "lnn-edge run gait.lnn --input s.csv").stdout
    for line in ("--input s.csv --output /dev/stdout > y.csv", "--input /dev/stdin --output /dev/fd/1 < s.csv > y.csv"):
        assert shell(warm_device, place, f"lnn-edge run gait.lnn {line}").returncode == 0
        assert (place / "y.csv").read_text() == expected
    assert shell(warm_device, place, "lnn-edge inspect gait.lnn --json /dev/stdout | tail -c 2").stdout == "}\n"


def test_one_device_may_be_read_and_written(call, place):
    code, _, err = call(*RUN, "--input", "/dev/null", "--output", "/dev/null")
    assert code == 2
    assert "is empty; expected a header row" in err


def test_an_output_may_lie_beside_its_input(call, place):
    assert call(*RUN, "--input", "s.csv", "--output", "s.csv.out")[0] == 0
    (place / "old").write_text("old")
    assert call(*RUN, "--input", "s.csv", "--output", "old")[0] == 0
    assert (place / "s.csv").read_text() == csv_text(samples(5), INPUTS)
    assert {path.name for path in (place / "gait.lnn").iterdir()} == set(ALL_FILES)


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.NAME)
def test_every_path_of_a_command_is_known(module):
    """An option that names a file is compared only if it stands in one of the two tables."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    named = {a.dest for a in parser._actions if a.metavar in ("FILE", "SOURCE", "bundle") or a.dest == "bundle"}
    assert named <= READS.keys() | WRITES.keys()


def test_a_name_that_is_none_is_left_to_who_opens_it(capfd, place):
    assert main(["inspect", "no\0name.lnn"]) != 0
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([*RUN, "--input", "s.csv", "--output", ""], "--output is empty, expected the name of a file"),
        ([*RUN, "--input", ""], "--input is empty, expected the name of a file"),
        (["inspect", ""], "the bundle is empty, expected the name of a file"),
        ([*RUN, "--input", "s.csv", "--output", "new/"], "--output 'new/' is the name of a folder, expected "),
        (
            [*RUN, "--input", "s.csv", "--output", "loop"],
            "'loop': Too many levels of symbolic links. Its links lead in",
        ),
        (["doctor", "--json", "loop"], "'loop': Too many levels of symbolic links. Its links lead in a circle"),
    ],
)
def test_what_names_no_file_is_refused_in_words(call, place, command, expected):
    if not (place / "loop").is_symlink():
        (place / "loop").symlink_to("loop")
    code, _, err = call(*command)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err
    assert not (place / "new").exists()


@pytest.mark.parametrize("command", [["inspect", "loop.lnn"], ["verify", "loop.lnn"], ["run", "loop.lnn"]])
def test_a_bundle_whose_links_lead_in_a_circle(call, place, command):
    if not (place / "loop.lnn").is_symlink():
        (place / "loop.lnn").symlink_to("loop.lnn")
    code, _, err = call(*command)
    assert code == 6
    assert "Too many levels of symbolic links" in err
    assert "Traceback" not in err
