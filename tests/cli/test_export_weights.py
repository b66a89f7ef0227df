"""`lnn-edge export --weights`: checkpoints of training frameworks, pickles, and files that are neither."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
from pathlib import Path

import pytest
import torch
from bundles import manifest_of, small_cfc
from ncps.torch import LTC

from lnn_edge.export.checkpoint.source import load_trained


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model_state_dict", "model", "net"])
def test_export_loads_checkpoints_of_training_frameworks(call, work, wrap):
    """A bare state_dict, and nested as Lightning ("state_dict") and hand-written loops keep it beside other things.

    Under any other name it is the only mapping of names to tensors.
    """
    state = small_cfc().state_dict()
    torch.save(state if wrap == "plain" else {wrap: state, "epoch": 3, "optimizer": {"lr": 0.1}}, "c.pt")
    source = load_trained("train.py:make_model", weights="c.pt", trust_pickle=False)
    assert source.checkpoint_sha256
    assert all(torch.equal(value, state[name]) for name, value in source.module.state_dict().items())


def _weights(change):
    state = dict(small_cfc().state_dict())
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (_weights(lambda s: s.pop("rnn_cell.layer_0.ff1.bias")), "missing rnn_cell.layer_0.ff1.bias; unknown none"),
        (_weights(lambda s: s.update(extra=torch.ones(1))), "missing none; unknown extra"),
        (
            _weights(lambda s: s.update({"rnn_cell.layer_0.ff1.bias": torch.ones(2)})),
            "weight 'rnn_cell.layer_0.ff1.bias' in 'w.pt' has shape [2], but the model has [5]",
        ),
        (
            {"epoch": 3, "optimizer": {"lr": 0.1}},
            (
                "'w.pt' holds no state_dict, a mapping of names to tensors, but 'epoch' (int), 'optimizer' (dict). In "
                "the training script type: torch.save(model.state_dict(), 'weights.pt')"
            ),
        ),
        ({0: torch.ones(1)}, "'w.pt' holds no state_dict, a mapping of names to tensors, but 0 (Tensor). In the"),
        (_weights(lambda s: s.update(epoch=3)), "to tensors, but 'epoch' (int), 'rnn_cell.layer_0.sparsity_mask' (Ten"),
        (torch.ones(2), "'w.pt' holds no state_dict but Tensor. In the training script type: torch.save(model.state"),
        (
            {"net": _weights(lambda s: None), "ema": _weights(lambda s: None)},
            "'w.pt' holds several mappings of names to tensors, 'net' (dict), 'ema' (dict), and nothing says which",
        ),
    ],
    ids=["missing", "unknown", "shape", "no-tensors", "numbers", "epoch-among-them", "tensor", "two"],
)
def test_export_says_which_weight_does_not_fit(call, work, state, expected):
    torch.save(state, "w.pt")
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--weights", "w.pt")
    assert code == 2
    assert expected in err
    assert not Path("gait.lnn").exists()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        (
            "w.pt",
            b"hello, I am text",
            (
                "'w.pt' is not a torch checkpoint: it is a text file. "
                "In the training script type: torch.save(model.state_dict(), 'weights.pt')\n"
            ),
        ),
        ("w.pt", pickle.dumps({"w": [1.0]}), "'w.pt' is not a torch checkpoint: it is a pickle of Python's own"),
        ("w.pt", b"", "'w.pt' is not a torch checkpoint: it is empty. In the training script type: torch.save("),
        (
            "w.pt",
            b"PK\x03\x04 cut off",
            (
                "'w.pt' is not a torch checkpoint, or damaged: RuntimeError: PytorchStreamReader failed reading zip "
                "archive: not a ZIP archive. In the training script type: "
            ),
        ),
        ("w.pt", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 cut", "'w.pt' is not a torch checkpoint, or damaged: "),
        ("w.safetensors", b"hello, I am text", "'w.safetensors' is not a safetensors file"),
        ("w.safetensors", None, "no weights file 'w.safetensors'"),
    ],
)
def test_export_refuses_files_that_are_no_weights(call, work, name, data, expected):
    if data is not None:
        (work / name).write_bytes(data)
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--weights", name)
    assert code == 2
    assert expected in err


class Payload:
    """What unpickling it does: it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("how", ["source", "weights"])
def test_export_does_not_run_what_a_pickle_holds(call, work, how):
    torch.save(Payload(work / "ran"), "m.pt")
    source, weights = ("m.pt", []) if how == "source" else ("train.py:make_model", ["--weights", "m.pt"])
    code, _, err = call("export", source, "gait.lnn", *weights)
    assert code == 2
    assert not (work / "ran").exists()
    if how == "source":
        assert "would have to be unpickled as a whole module, which runs whatever code is in the file" in err
        assert "pass --trust-pickle if you made the file yourself" in err
    else:
        assert (
            "'m.pt' is damaged, or holds more than tensors, say a whole model, and loading it would run code from the "
            "file. In the training script type: torch.save(model.state_dict(), 'weights.pt'). Or add --trust-pickle if "
            "you made the file yourself\n"
        ) in err


def test_export_unpickles_a_module_when_told_to_trust_it(call, work, short_commands):
    torch.save(small_cfc(), "m.pt")
    code, out, _ = call("export", "m.pt", "gait.lnn", "--trust-pickle")
    assert code == 0
    assert out.splitlines()[-1].startswith("saved gait.lnn: equal to torch")
    assert manifest_of(Path("gait.lnn")).provenance.checkpoint_sha256


@pytest.mark.parametrize(
    ("make", "weights", "expected"),
    [
        (lambda path: torch.save([1], path), [], "'m.pt' holds list, expected a torch.nn.Module"),
        (lambda path: Path(path).write_bytes(b"text"), [], "'m.pt' cannot be unpickled: "),
        (
            lambda path: Path(path).write_bytes(pickle.dumps(0).replace(b"K\x00", b"cnot_here\nModule\n")),
            [],
            "'m.pt' cannot be unpickled: ",
        ),
        (lambda path: None, [], "no file 'm.pt'"),
        (lambda path: None, ["--weights", "w.pt"], "--weights has no place beside the pickled module 'm.pt'"),
    ],
)
def test_export_refuses_pickles_that_are_no_module(call, work, make, weights, expected):
    make("m.pt")
    code, _, err = call("export", "m.pt", "gait.lnn", "--trust-pickle", *weights)
    assert code == 2
    assert expected in err


@pytest.mark.parametrize("wrap", ["whole", "state_dict", "arguments"])
def test_export_unpickles_weights_when_told_to_trust_them(call, work, wrap):
    """A whole module, the same inside a checkpoint, and a state_dict beside objects, such as arguments of a script."""
    model = small_cfc()
    saved = {"whole": model, "state_dict": {"state_dict": model}, "arguments": {"net": model.state_dict(), "a": Path()}}
    torch.save(saved[wrap], "m.pt")
    code, _, err = call("export", "train.py:make_deep", "gait.lnn", "--weights", "m.pt")
    assert code == 2
    assert "add --trust-pickle" in err
    source = load_trained("train.py:make_model", weights="m.pt", trust_pickle=True)
    assert source.checkpoint_sha256
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in source.module.state_dict().items())


def test_export_finds_the_classes_of_the_script_that_saved_a_module(call, work, warm, short_commands):
    """In the file they are known as `__main__`, which is the training script no more."""
    (work / "gait.py").write_text(
        "import torch\nfrom ncps.torch import CfC\n\nclass Gait(CfC):\n    pass\n\ndef make_model():\n"
        "    return Gait(3, 4)\n\nif __name__ == '__main__':\n    torch.save(make_model(), 'm.pt')\n"
    )
    subprocess.run(["python", "gait.py"], env=warm, check=True)
    code, _, err = call("export", "m.pt", "gait.lnn", "--trust-pickle")
    assert code == 2
    assert "cannot be unpickled: AttributeError: " in err
    assert "Name the script that defines it: lnn-edge export train.py:make_model --weights m.pt ...\n" in err
    code, _, err = call("export", "gait.py:make_model", "gait.lnn", "--weights", "m.pt", "--trust-pickle")
    assert (code, err) == (0, "")


def test_export_holds_a_factory_to_the_cores_of_a_trusted_module(call, work):
    """A module says how its cores compute, which its state_dict does not."""
    (work / "slow.py").write_text("from ncps.torch import LTC\n\ndef make():\n    return LTC(3, 4, ode_unfolds=12)\n")
    torch.save(LTC(3, 4), "m.pt")
    code, _, err = call("export", "slow.py:make", "gait.lnn", "--weights", "m.pt", "--trust-pickle")
    assert code == 2
    assert "the core in the checkpoint 'm.pt' has `ode_unfolds` 6, but the model has 12" in err


def test_trust_does_not_run_a_file_that_is_no_torch_checkpoint(call, work):
    with open("m.pt", "wb") as file:
        pickle.dump(Payload(work / "ran"), file)
    code, _, err = call("export", "train.py:make_model", "gait.lnn", "--weights", "m.pt", "--trust-pickle")
    assert code == 2
    assert "'m.pt' is not a torch checkpoint: it is a pickle of Python's own" in err
    assert not (work / "ran").exists()


def test_help_says_what_a_trusted_pickle_may_be(call):
    _, out, _ = call("export", "--help")
    text = " ".join(out.split())
    assert "or with --trust-pickle a whole model (.pt)" in text
    assert (
        "unpickle a whole saved module, torch.save(model), given as --weights or as SOURCE; this RUNS WHATEVER" in text
    )


@pytest.mark.parametrize(
    ("source", "weights", "trusted"),
    [("train.py:make_model", "w.pt", False), ("train.py:make_model", "w.pt", True), ("w.pt", None, True)],
    ids=["state_dict", "module as weights", "module"],
)
def test_the_hash_is_of_what_was_loaded(work, monkeypatch, source, weights, trusted):
    """A training script writes its next checkpoint the moment after: the file is read once."""
    torch.save(small_cfc() if trusted else small_cfc().state_dict(), "w.pt")
    expected = hashlib.sha256(Path("w.pt").read_bytes()).hexdigest()
    usual = torch.load

    def load(file, **options):
        Path("w.pt").write_bytes(b"the next")
        return usual(file, **options)

    monkeypatch.setattr(torch, "load", load)
    assert load_trained(source, weights=weights, trust_pickle=trusted).checkpoint_sha256 == expected
