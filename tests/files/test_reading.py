"""Reading of files: whole, once and bounded; what is no such file is told by what it is."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from bundles import manifest_of
from exports import quick_export
from ncps.torch import CfC
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save
from safetensors.torch import save_file

import lnn_edge
from lnn_edge import LiquidNeuralRegressor, load_checkpoint, tensor_file
from lnn_edge.bundle import directory
from lnn_edge.export.checkpoint.source import load_trained

FACTORY = "from ncps.torch import CfC\n\n\ndef make():\n    return CfC(3, 4)\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FACTORY)
    return "net.py:make"


def as_safetensors(path):
    save_file(CfC(3, 4).state_dict(), path)


KINDS = {
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "text": (lambda path: path.write_text("weights follow\n" * 9), "it is a text file"),
    "zip": (
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)),
        "zip archive|not a torch checkpoint",
    ),
    "pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_that_are_something_else(source, tmp_path, kind, suffix):
    write, expected = KINDS[kind]
    write(tmp_path / f"w{suffix}")
    with pytest.raises(ValueError, match=expected):
        load_trained(source, weights=f"w{suffix}", trust_pickle=False)


def test_weights_with_the_other_suffix(source, tmp_path):
    as_safetensors(tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"it is a safetensors file. Name it .safetensors"):
        load_trained(source, weights="w.pt", trust_pickle=False)
    torch.save(CfC(3, 4).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"a zip archive, as torch.save and np.savez write. Name it .pt"):
        load_trained(source, weights="w.safetensors", trust_pickle=False)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_directory_as_weights(source, tmp_path, suffix):
    (tmp_path / f"w{suffix}").mkdir()
    with pytest.raises(IsADirectoryError, match="is a directory, expected a file of weights"):
        load_trained(source, weights=f"w{suffix}", trust_pickle=False)


def test_files_that_would_fill_the_memory_are_not_read(tmp_path):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    for load in (load_checkpoint, LiquidNeuralRegressor.load):
        with pytest.raises(ValueError, match=r"has 1,099,511,627,776 bytes, expected a file .* of at most"):
            load(path)


def test_an_estimator_file_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch):
    from lnn_edge.files import whole

    path = tmp_path / "e.safetensors"
    path.write_bytes(bytes(100))
    usual = whole.os.fstat

    def longer(descriptor):
        found = usual(descriptor)
        path.write_bytes(bytes(10))
        return found

    monkeypatch.setattr(whole.os, "fstat", longer)
    with pytest.raises(ValueError, match="changed while it was read"):
        LiquidNeuralRegressor.load(path)


def test_the_provenance_holds_no_command_of_another_program(tmp_path, warm_and_short):
    code = "import sys, torch, lnn_edge; from ncps.torch import CfC; lnn_edge.export_model(CfC(3, 4), sys.argv[1])"
    command = ["python", "-c", code, tmp_path / "m.lnn", "--token", "hf_secret"]
    subprocess.run(command, env=warm_and_short, check=True)
    assert manifest_of(tmp_path / "m.lnn").provenance.command == ""
    assert all(b"hf_secret" not in file.read_bytes() for file in (tmp_path / "m.lnn").iterdir())


@pytest.mark.parametrize("command", [("verify",), ("bench", "--steps", "9", "--warmup", "0", "--seconds", "0")])
def test_a_command_reads_a_bundle_once(cfc_bundle, monkeypatch, command):
    from lnn_edge.cli.program import main

    reads, usual = [], directory._read_bundle
    monkeypatch.setattr(directory, "_read_bundle", lambda opened: reads.append(1) or usual(opened))
    assert main([command[0], str(cfc_bundle), *command[1:]]) == 0
    assert len(reads) == 1


@pytest.mark.parametrize("arguments", [("--help",), ("export", "--help"), ("--version",)])
def test_help_on_a_full_disk_is_no_success(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lnn_edge", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("lnn-edge: standard output: No space left on device")


class Large:
    """An array of a wrong shape that fails when it is converted."""

    def __init__(self, *shape):
        self.shape = shape

    def __array__(self, *_args, **_keywords):
        raise MemoryError


def test_the_shape_is_looked_at_before_anything_is_converted(cfc_bundle, ltc_bundle):
    stream = lnn_edge.load(cfc_bundle).stream()
    with pytest.raises(ValueError, match="has shape"):
        stream.step(Large(10_000, 10_000))
    with pytest.raises(ValueError, match="has shape"):
        stream.run(Large(10_000, 10_000))


@pytest.mark.parametrize("tensor", [torch.ones(3, requires_grad=True), torch.ones(3, dtype=torch.bfloat16)])
def test_tensors_of_torch_are_samples(tmp_path, tensor):
    quick_export(CfC(3, 4), tmp_path / "m.lnn")
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert (model.stream().step(tensor) == model.stream().step(np.ones(3, np.float32))).all()
    with pytest.raises(TypeError, match=r"`input` is a sparse tensor, expected a plain one. Type: input.to_dense\(\)"):
        model.stream().step(torch.ones(3).to_sparse())


def signed_again(path, change):
    """The estimator's file with another description, and the digest that fits it."""
    tensors, metadata = load_tensors(path.read_bytes()), tensor_file.header_metadata(path.read_bytes())
    described = json.loads(metadata["lnn_edge.estimator"])
    change(described)
    text = json.dumps(described).encode()
    digest = tensor_file._digest(text, tensors)
    path.write_bytes(save(tensors, {"lnn_edge.estimator": text.decode(), "lnn_edge.digest": digest}))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["params"].update(no_parameter=3),
        lambda d: d["branches"][0]["cores"][0]["cell"]["wiring"]["synapses"][3].__setitem__(2, 2**62),
        lambda d: d["branches"][0]["cores"][0]["cell"]["wiring"]["sensory_synapses"][3].__setitem__(2, 2**62),
    ],
)
def test_an_estimator_that_was_signed_again_is_refused_in_words(tmp_path, change):
    rows = np.random.default_rng(0).normal(size=(30, 2))
    LiquidNeuralRegressor(epochs=1).fit(rows, rows[:, 0]).save(tmp_path / "e.safetensors")
    signed_again(tmp_path / "e.safetensors", change)
    with pytest.raises(ValueError, match=r"is damaged: it (contradicts itself|describes)"):
        LiquidNeuralRegressor.load(tmp_path / "e.safetensors")
