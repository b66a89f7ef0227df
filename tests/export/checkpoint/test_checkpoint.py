"""Checkpoints: what comes back is bit for bit what was saved, and no other model is ever taken for it."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
from pathlib import Path

import msgspec
import pytest
import torch
from bundles import manifest_of
from cases import BY_NAME, CASES, INPUTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ncps.torch import LTC, CfC, CfCCell, LTCCell, WiredCfCCell
from ncps.wirings import AutoNCP, FullyConnected, Random, Wiring
from safetensors.torch import load_file, save_file
from torch import nn

import lnn_edge
from lnn_edge.cli.program import main
from lnn_edge.export.checkpoint.file import DESCRIPTION_ENTRY, Description, read_weights
from lnn_edge.export.cores.rebuild import config_from_core


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Network(nn.Module):
    """Encoder, core, head; the head's weight is the encoder's too, so it is tied."""

    def __init__(self, core):
        super().__init__()
        self.encoder = nn.Linear(INPUTS, INPUTS)
        self.rnn = core
        self.head = nn.Linear(INPUTS, INPUTS)
        self.head.weight = self.encoder.weight

    def forward(self, x, hx=None):
        y, hx = self.rnn(self.encoder(x), hx)
        return self.head(nn.functional.pad(y, (0, INPUTS - y.shape[-1]))), hx


def seeded(make):
    torch.manual_seed(5)
    return make()


def flat(result):
    y, state = result
    return [y, *(state if isinstance(state, tuple) else [state])]


def outputs(module, seed=0):
    """What a layer gives for three sequences, with a state to start from."""
    dtype, units = next(module.parameters()).dtype, module.state_size
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 7, INPUTS, generator=generator).to(dtype)
    x = x if module.batch_first else x.transpose(0, 1)
    state = torch.randn(3, units, generator=generator).to(dtype)
    with torch.no_grad():
        return flat(module(x, (state, state) if module.use_mixed else state))


def assert_same(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer_comes_back_bit_for_bit(case, tmp_path):
    module = case.build().eval()
    lnn_edge.save_checkpoint(module, tmp_path / "m.safetensors")
    loaded = lnn_edge.load_checkpoint(tmp_path / "m.safetensors")
    assert type(loaded) is type(module)
    assert not loaded.training
    assert_same(outputs(loaded), outputs(module))
    assert config_from_core("", loaded) == config_from_core("", module)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LTCCell(AutoNCP(10, 2), INPUTS, ode_unfolds=3, epsilon=1e-4),
        lambda: LTCCell(Random(9, 2, 0.5), INPUTS, implicit_param_constraints=True),
        lambda: CfCCell(INPUTS, 6, backbone_activation="gelu", backbone_units=8, backbone_layers=2),
        lambda: WiredCfCCell(INPUTS, AutoNCP(10, 2), "pure"),
        lambda: WiredCfCCell(INPUTS, FullyConnected(6, 2)),
    ],
    ids=["LTCCell", "LTCCell-implicit", "CfCCell", "WiredCfCCell", "WiredCfCCell-one-layer"],
)
def test_cell_comes_back_bit_for_bit(make, tmp_path):
    cell = seeded(make)
    lnn_edge.save_checkpoint(cell, tmp_path / "m.safetensors")
    loaded = lnn_edge.load_checkpoint(tmp_path / "m.safetensors")
    units = cell.hidden_size if isinstance(cell, CfCCell) else cell.state_size
    x, h = torch.randn(3, INPUTS), torch.randn(3, units)
    with torch.no_grad():
        assert_same(loaded(x, h, 0.7), cell(x, h, 0.7))


def test_wiring_comes_back_as_it_was_drawn(tmp_path):
    """Building an NCP draws synapses, and building it again draws more: what is loaded must not draw."""
    wiring = AutoNCP(12, 2, seed=3)
    LTC(INPUTS, wiring)
    module = LTC(INPUTS, wiring)
    lnn_edge.save_checkpoint(module, tmp_path / "m.safetensors")
    loaded = lnn_edge.load_checkpoint(tmp_path / "m.safetensors")
    found = loaded.rnn_cell._wiring
    assert (found.adjacency_matrix == wiring.adjacency_matrix).all()
    assert (found.sensory_adjacency_matrix == wiring.sensory_adjacency_matrix).all()
    assert [found.get_type_of_neuron(k) for k in range(12)] == [wiring.get_type_of_neuron(k) for k in range(12)]
    assert loaded.synapse_count == module.synapse_count
    lnn_edge.save_checkpoint(loaded, tmp_path / "again.safetensors")
    again = [read_weights(tmp_path / name).description.cores for name in ("m.safetensors", "again.safetensors")]
    assert again[0] == again[1]


def test_masks_among_the_weights_rule(tmp_path):
    """After load_state_dict of another seed the wiring object is wrong, and nothing is computed from it."""
    module, other = LTC(INPUTS, AutoNCP(12, 2, seed=1)), LTC(INPUTS, AutoNCP(12, 2, seed=2))
    module.load_state_dict(other.state_dict())
    lnn_edge.save_checkpoint(module, tmp_path / "m.safetensors")
    assert_same(outputs(lnn_edge.load_checkpoint(tmp_path / "m.safetensors")), outputs(other))


def test_wiring_of_ones_own(tmp_path):
    """Polarities of any size, and no motor neuron named, as nothing keeps people from writing."""
    wiring = Wiring(4)
    wiring.build(INPUTS)
    wiring.adjacency_matrix = wiring.adjacency_matrix + 0.5
    wiring.sensory_adjacency_matrix = wiring.sensory_adjacency_matrix - 0.25
    cell = WiredCfCCell(INPUTS, wiring)
    lnn_edge.save_checkpoint(cell, tmp_path / "m.safetensors")
    loaded = lnn_edge.load_checkpoint(tmp_path / "m.safetensors")
    assert (loaded._wiring.adjacency_matrix == 0.5).all()
    assert (loaded._wiring.sensory_adjacency_matrix == -0.25).all()
    assert config_from_core("", loaded) == config_from_core("", cell)


def test_loading_leaves_the_random_numbers_alone(tmp_path):
    lnn_edge.save_checkpoint(BY_NAME["ltc-autoncp"].build(), tmp_path / "m.safetensors")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    lnn_edge.load_checkpoint(tmp_path / "m.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_loaded_layer_can_be_trained_on(tmp_path):
    """LTCCell computes with a dict beside its parameters: both must be the same tensors after loading."""
    lnn_edge.save_checkpoint(BY_NAME["ltc-autoncp"].build().double(), tmp_path / "m.safetensors")
    loaded = lnn_edge.load_checkpoint(tmp_path / "m.safetensors").train()
    before = outputs(loaded)[0]
    loaded(torch.ones(1, 3, INPUTS).double(), torch.zeros(1, 16).double())[0].sum().backward()
    torch.optim.SGD(loaded.parameters(), lr=0.1).step()
    assert loaded.rnn_cell.w.dtype == torch.float64
    assert not torch.equal(outputs(loaded)[0], before)
    assert not loaded.rnn_cell.sparsity_mask.requires_grad


def test_any_reader_finds_the_state_dict(tmp_path):
    module = seeded(lambda: Network(CfC(INPUTS, AutoNCP(10, 2))))
    digest = lnn_edge.save_checkpoint(module, str(tmp_path / "m.safetensors"))
    assert digest == hashlib.sha256((tmp_path / "m.safetensors").read_bytes()).hexdigest()
    state = load_file(tmp_path / "m.safetensors")
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert read_weights(tmp_path / "m.safetensors").description.versions.keys() >= {"lnn-edge", "torch", "ncps"}


def test_tied_weights_stay_tied(tmp_path):
    module = seeded(lambda: Network(CfC(INPUTS, AutoNCP(10, 2))))
    lnn_edge.save_checkpoint(module, tmp_path / "m.safetensors")
    other = Network(CfC(INPUTS, AutoNCP(10, 2)))
    assert lnn_edge.load_checkpoint(tmp_path / "m.safetensors", into=other) is other
    assert other.head.weight is other.encoder.weight
    x = torch.randn(1, 5, INPUTS)
    assert_same(flat(other(x)), flat(module(x)))


# ---- writing --------------------------------------------------------------------------------------------------------


class Stateful(nn.Linear):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


def foreign_head():
    layer = CfC(INPUTS, 6, proj_size=2, backbone_units=8)
    layer.fc = nn.Linear(6, 2, bias=False)
    return layer


def stale():
    layer = LTC(INPUTS, 4)
    layer.rnn_cell.w = nn.Parameter(layer.rnn_cell.w.detach() * 2)
    return layer


def with_buffer(value):
    module = Network(CfC(INPUTS, 4, backbone_units=8))
    module.register_buffer("extra", value)
    return module


@pytest.mark.parametrize(
    ("make", "name", "error", "match"),
    [
        (
            lambda: LTC(INPUTS, 4),
            "m.pt",
            ValueError,
            r"a checkpoint's name ends in '.safetensors', got '.*m.pt'. Type: m",
        ),
        (lambda: {"w": torch.ones(1)}, "m.safetensors", TypeError, "expected a torch.nn.Module, got dict"),
        (lambda: LTC(INPUTS, 4), "no/m.safetensors", FileNotFoundError, "does not exist. Type: mkdir -p"),
        (lambda: LTC(INPUTS, 4), "d.safetensors", IsADirectoryError, "is a directory, expected a file name"),
        (
            lambda: Stateful(2, 2),
            "m.safetensors",
            TypeError,
            "'_extra_state' in the state_dict is dict, expected a den",
        ),
        (
            lambda: with_buffer(torch.eye(3).to_sparse()),
            "m.safetensors",
            TypeError,
            "'extra' .* is a torch.sparse_coo ten",
        ),
        (lambda: with_buffer(torch.ones(2, device="meta")), "m.safetensors", TypeError, "'extra' .* is without data"),
        (stale, "m.safetensors", ValueError, "LTCCell computes with a stale copy of 'w'"),
        (
            foreign_head,
            "m.safetensors",
            ValueError,
            "not what ncps builds from its own arguments: tensor 'fc.bias' is mi",
        ),
    ],
    ids=["suffix", "dict", "no-directory", "directory", "extra-state", "sparse", "meta", "stale", "foreign-head"],
)
def test_refused_to_save(make, name, error, match, tmp_path):
    (tmp_path / "d.safetensors").mkdir()
    (tmp_path / "m.safetensors").write_text("the old one")
    with pytest.raises(error, match=match):
        lnn_edge.save_checkpoint(make(), tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["d.safetensors", "m.safetensors"]
    assert (tmp_path / "m.safetensors").read_text() == "the old one"


def test_disk_that_is_full_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_text("the old one")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        lnn_edge.save_checkpoint(LTC(INPUTS, 4), path)
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert path.read_text() == "the old one"


def test_link_stays_a_link(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "last.safetensors").symlink_to("runs/7.safetensors")
    lnn_edge.save_checkpoint(LTC(INPUTS, 4), tmp_path / "last.safetensors")
    assert (tmp_path / "last.safetensors").is_symlink()
    lnn_edge.load_checkpoint(tmp_path / "runs/7.safetensors")


def test_saving_does_not_change_the_model(tmp_path):
    module = BY_NAME["ltc-autoncp"].build().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    lnn_edge.save_checkpoint(module, tmp_path / "m.safetensors")
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


# ---- the command line -----------------------------------------------------------------------------------------------

TRAIN = f"""
from ncps.torch import CfC
from ncps.wirings import AutoNCP
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.rnn = nn.Linear({INPUTS}, 4), CfC(4, AutoNCP(8, 2))

    def forward(self, x):
        return self.rnn(self.encoder(x).relu())[0]

def make_model():
    return Net()
"""


def train_module(work):
    (work / "train.py").write_text(TRAIN)
    names = {}
    exec(TRAIN, names)
    return seeded(names["Net"])


def test_export_straight_from_a_checkpoint(work, capsys, short_commands):
    module = BY_NAME["ltc-unfolds"].build()
    digest = lnn_edge.save_checkpoint(module, "gait.safetensors")
    assert main(["export", "gait.safetensors", "gait.lnn"]) == 0
    out, err = capsys.readouterr()
    assert "\nsaved gait.lnn: equal to torch within " in out
    assert err == ""
    manifest = manifest_of(Path("gait.lnn"))
    assert manifest.provenance.checkpoint_sha256 == digest
    assert manifest.cores[0].wiring == "AutoNCP"
    assert [kind for kind, _ in manifest.cores[0].layout] == ["motor", "command", "inter"]
    x = torch.randn(20, INPUTS)
    with torch.no_grad():
        expected, _ = module(x)
    got = torch.from_numpy(lnn_edge.load("gait.lnn").stream().run(x.numpy()))
    assert torch.allclose(got, expected, rtol=0, atol=1e-5)


def test_export_of_a_network_with_its_checkpoint(work, capsys, short_commands):
    digest = lnn_edge.save_checkpoint(train_module(work), "net.safetensors")
    torch.save(torch.zeros(1), "unused.pt")
    (work / "walk.csv").write_text("a,b,c,d,e\n" + "0.1,0.2,0.3,0.4,0.5\n-0.1,0,0.2,0,0\n" * 10)
    recorded = ["--example", "walk.csv", "--inputs", "a,b,c,d,e"]
    assert main(["export", "train.py:make_model", "net.lnn", "--weights", "net.safetensors", *recorded]) == 0
    assert manifest_of(Path("net.lnn")).provenance.checkpoint_sha256 == digest
    assert capsys.readouterr().err == ""


def refused(capsys, *arguments):
    assert main(["export", *arguments, "x.lnn"]) == 2
    assert not os.path.exists("x.lnn")
    return capsys.readouterr().err


def test_network_is_not_exported_without_its_code(work, capsys):
    lnn_edge.save_checkpoint(train_module(work), "net.safetensors")
    err = refused(capsys, "net.safetensors")
    assert "is of a network around the cores rnn, whose forward is code" in err
    assert "lnn-edge export train.py:make_model net.lnn --weights net.safetensors" in err


def test_checkpoint_without_a_core(work, capsys):
    lnn_edge.save_checkpoint(nn.Linear(2, 2), "m.safetensors")
    assert "is of a network without a liquid core" in refused(capsys, "m.safetensors")


def test_plain_weights_do_not_say_how_they_compute(work, capsys):
    save_file({"w": torch.ones(1)}, "w.safetensors")
    err = refused(capsys, "w.safetensors")
    assert "'w.safetensors' holds weights only" in err
    assert "type: lnn_edge.save_checkpoint(model, 'w.safetensors')" in err


def test_weights_have_no_place_beside_a_checkpoint(work, capsys):
    lnn_edge.save_checkpoint(LTC(INPUTS, 4), "m.safetensors")
    err = refused(capsys, "m.safetensors", "--weights", "m.safetensors")
    assert "--weights has no place beside the checkpoint 'm.safetensors'" in err


def test_missing_checkpoint(work, capsys):
    assert "no file 'none.safetensors'" in refused(capsys, "none.safetensors")


# ---- another model is never taken for the saved one -----------------------------------------------------------------

PAIRS = {  # saved, built, what the message says; load_state_dict takes the first for the second without a word
    "ode_unfolds": (
        lambda: LTC(INPUTS, 6),
        lambda: LTC(INPUTS, 6, ode_unfolds=4),
        "`ode_unfolds` 6, but the model has 4",
    ),
    "epsilon": (lambda: LTC(INPUTS, 6), lambda: LTC(INPUTS, 6, epsilon=0.1), "`epsilon` 1e-08, but the model has 0.1"),
    "implicit": (
        lambda: LTC(INPUTS, 6),
        lambda: LTC(INPUTS, 6, implicit_param_constraints=False),
        "`implicit_param_constraints` True, but the model has False",
    ),
    "output_dim": (
        lambda: LTC(INPUTS, AutoNCP(9, 2), output_mapping=None),
        lambda: LTC(INPUTS, AutoNCP(9, 3), output_mapping=None),
        r"`output_dim` 2, but the model has 3; `layer sizes` \[5, 2, 2\], but",
    ),
    "mode": (
        lambda: CfC(INPUTS, 6),
        lambda: CfC(INPUTS, 6, mode="no_gate"),
        "`mode` 'default', but the model has 'no_g",
    ),
    "activation": (
        lambda: CfC(INPUTS, 6),
        lambda: CfC(INPUTS, 6, activation="relu"),
        "`activation` 'lecun_tanh', but the model has 'relu'",
    ),
    "batch_first": (
        lambda: CfC(INPUTS, 6),
        lambda: CfC(INPUTS, 6, batch_first=False),
        "`batch_first` True, but the model has False",
    ),
    "return_sequences": (
        lambda: CfC(INPUTS, AutoNCP(8, 2)),
        lambda: CfC(INPUTS, AutoNCP(8, 2), return_sequences=False),
        "`return_sequences` True, but the model has False",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_core_built_in_another_way(name, tmp_path):
    saved, built, match = PAIRS[name]
    module, other = Network(saved()), Network(built())
    copy.deepcopy(other).load_state_dict(module.state_dict())  # fits by name and shape: this is the trap
    lnn_edge.save_checkpoint(module, tmp_path / "m.safetensors")
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=f"core 'rnn' in the checkpoint '.*m.safetensors' has {match}.*factory must"):
        lnn_edge.load_checkpoint(tmp_path / "m.safetensors", into=other)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


@pytest.mark.parametrize(
    ("saved", "built", "match"),
    [
        (
            lambda: LTC(INPUTS, 6),
            lambda: CfC(INPUTS, 6),
            "has `kind` 'LTC with LTCCell', but the model has 'CfC with CfCCe",
        ),
        (
            lambda: CfC(INPUTS, 6),
            lambda: CfC(INPUTS, AutoNCP(6, 1)),
            "'CfC with CfCCell', but .* 'CfC with WiredCfCCell'",
        ),
        (
            lambda: CfC(INPUTS, 6),
            lambda: nn.GRU(INPUTS, 6),
            r"the cores in .* are 'rnn' \(CfC with CfCCell\), but .* none",
        ),
        (lambda: CfC(INPUTS, 6), lambda: CfC(INPUTS, 7), "`units` 6, but the model has 7"),
        (lambda: CfC(INPUTS, 6), lambda: CfC(INPUTS, 6, mode="pure"), "`mode` 'default', but the model has 'pure'"),
    ],
    ids=["other-class", "wired", "no-core", "units", "pure"],
)
def test_another_core(saved, built, match, tmp_path):
    """Here load_state_dict would complain about names; what is said is what to change."""
    lnn_edge.save_checkpoint(Network(saved()), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=match):
        lnn_edge.load_checkpoint(tmp_path / "m.safetensors", into=Network(built()))


def test_what_changes_no_result_may_differ(tmp_path):
    """Dropout does nothing when a model runs, and the masks among the weights replace those of another seed."""
    first = nn.ModuleList([CfC(INPUTS, 6, backbone_layers=2, backbone_dropout=0.5), LTC(INPUTS, AutoNCP(9, 2, seed=1))])
    other = nn.ModuleList([CfC(INPUTS, 6, backbone_layers=2, backbone_dropout=0.1), LTC(INPUTS, AutoNCP(9, 2, seed=2))])
    lnn_edge.save_checkpoint(first, tmp_path / "m.safetensors")
    lnn_edge.load_checkpoint(tmp_path / "m.safetensors", into=other)
    for mine, theirs in zip(first.eval(), other.eval(), strict=True):
        assert_same(outputs(theirs), outputs(mine))


def test_plain_weights_cannot_be_checked(tmp_path):
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"holds weights only.*save_checkpoint\(model, 'w.safetensors'\)"):
        lnn_edge.load_checkpoint(tmp_path / "w.safetensors", into=nn.Linear(1, 1))


# ---- files that cannot be trusted -----------------------------------------------------------------------------------


def rewrite(path, change=lambda plain: None, tensors=lambda state: None):
    """Change the description as plain JSON, or the tensors; sign again if what comes out has the right types."""
    state = load_file(path)
    tensors(state)
    plain = msgspec.json.decode(msgspec.json.encode(read_weights(path).description))
    change(plain)
    text = msgspec.json.encode(plain)
    with contextlib.suppress(msgspec.ValidationError):
        text = msgspec.json.encode(msgspec.convert(plain, Description).signed(state))
    save_file(state, path, {DESCRIPTION_ENTRY: text.decode()})


@pytest.fixture(scope="module")
def ltc_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "ltc.safetensors"
    lnn_edge.save_checkpoint(BY_NAME["ltc-own-wiring"].build(), path)
    return path


@pytest.fixture(scope="module")
def cfc_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "cfc.safetensors"
    lnn_edge.save_checkpoint(BY_NAME["cfc-units"].build(), path)
    return path


def cell(**changes):
    return lambda plain: plain["cores"][0]["cell"].update(changes)


def wiring(**changes):
    return lambda plain: plain["cores"][0]["cell"]["wiring"].update(changes)


@pytest.mark.parametrize(
    ("which", "change", "match"),
    [
        (
            "ltc",
            lambda p: p["format"].update(version=2),
            "has format version 2, but this lnn-edge reads up to 1. Type: pip",
        ),
        ("ltc", lambda p: p["format"].update(version=2, more=1) or p.pop("cores"), "has format version 2, but"),
        ("ltc", lambda p: p["format"].update(version=0), "format version 0 was never written, expected 1"),
        ("ltc", lambda p: p["format"].update(name="other"), "description is not valid: Invalid enum value 'other'"),
        ("ltc", lambda p: p.update(extra=1), "contains unknown field `extra`"),
        ("ltc", lambda p: p.pop("cores"), "missing required field `cores`"),
        ("ltc", cell(kind="GRUCell"), "Invalid value 'GRUCell'"),
        ("ltc", cell(ode_unfolds=0), "Expected `int` >= 1"),
        ("ltc", cell(ode_unfolds="6"), "Expected `int`, got `str`"),
        ("ltc", cell(ode_unfolds=10**9), "1000000000 `ode_unfolds`, more than the 1000 that a step can be made of"),
        ("ltc", cell(input_mapping="cubic"), "Invalid enum value 'cubic'"),
        ("ltc", lambda p: p["cores"][0]["layer"].update(kind="CfC"), "describes an? CfC with LTCCell"),
        ("ltc", lambda p: p["cores"][0]["layer"].update(proj_size=2), "describes an LTC with `proj_size`"),
        (
            "ltc",
            lambda p: p["cores"].append(p["cores"][0]),
            r"describes the cores \['', ''\], expected different names",
        ),
        ("ltc", wiring(units=10**9), "types for 1000000000 neurons"),
        ("ltc", wiring(inputs=10**9), "sizes that need more weights than the file holds"),
        ("ltc", wiring(outputs=10), "10 motors among 9 neurons"),
        ("ltc", wiring(layers=[[9]]), "layers do not divide its 9 neurons"),
        ("ltc", wiring(layers=[]), "layers do not divide its 9 neurons"),
        ("ltc", wiring(synapses=[[0, 9, 1.0]]), "a synapse between neurons that it does not have"),
        ("ltc", wiring(sensory_synapses=[[INPUTS, 0, 1.0]]), "a synapse between neurons that it does not have"),
        ("ltc", wiring(synapses=[[-1, 0, 1.0]]), "Expected `int` >= 0"),
        ("ltc", wiring(inputs=INPUTS + 1), "contradicts itself: it describes LTC with LTCCell, but tensor 'rnn_cell."),
        ("cfc", cell(units=10**9), "sizes that need more weights than the file holds"),
        ("cfc", cell(backbone_layers=10**9), "sizes that need more weights than the file holds"),
        ("cfc", lambda p: p["cores"][0]["layer"].update(proj_size=10**9), "sizes that need more weights than the file"),
        ("cfc", cell(backbone_layers=0), "a backbone whose layers, units and activation do not belong together"),
        ("cfc", cell(backbone_layers=2), "tensor 'rnn_cell.backbone.2.weight' is missing"),
        ("cfc", cell(mode="pure"), "but tensor 'rnn_cell.w_tau' is missing"),
        ("cfc", cell(backbone_dropout=1.5), "Expected `float` <= 1.0"),
        ("cfc", cell(activation="sigmoid"), "Invalid enum value 'sigmoid'"),
    ],
)
def test_impossible_description(which, change, match, tmp_path, request):
    path = tmp_path / "m.safetensors"
    path.write_bytes(request.getfixturevalue(f"{which}_file").read_bytes())
    rewrite(path, change)
    with pytest.raises(ValueError, match=match):
        lnn_edge.load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("rnn_cell.w"), "but tensor 'rnn_cell.w' is missing"),
        (lambda s: s.update(more=torch.ones(1)), "but tensor 'more' is unknown"),
        (
            lambda s: s.update({"rnn_cell.cm": torch.ones(4)}),
            r"'rnn_cell.cm' is torch.float32 \[4\], expected floating point \[9\]",
        ),
        (
            lambda s: s.update({"rnn_cell.cm": torch.ones(9).int()}),
            r"'rnn_cell.cm' is torch.int32 \[9\], expected float",
        ),
    ],
    ids=["missing", "unknown", "shape", "dtype"],
)
def test_tensors_that_are_not_those_of_the_core(change, match, ltc_file, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(ltc_file.read_bytes())
    rewrite(path, tensors=change)
    with pytest.raises(ValueError, match=match):
        lnn_edge.load_checkpoint(path)


def test_infinite_epsilon(ltc_file, tmp_path):
    """JSON as msgspec writes it has no infinity, but a number too large for a float is one."""
    path = tmp_path / "m.safetensors"
    text = msgspec.json.encode(read_weights(ltc_file).description).decode()
    assert '"epsilon":1e-8' in text
    save_file(load_file(ltc_file), path, {DESCRIPTION_ENTRY: text.replace('"epsilon":1e-8', '"epsilon":1e999')})
    with pytest.raises(ValueError, match="is damaged"):
        lnn_edge.load_checkpoint(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(data, ltc_file, tmp_path):
    whole = bytearray(ltc_file.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "m.safetensors"
    path.write_bytes(whole)
    try:
        loaded = lnn_edge.load_checkpoint(path)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - both outcomes are right
        return
    assert_same(outputs(loaded), outputs(BY_NAME["ltc-own-wiring"].build()))


def test_a_changed_weight_does_not_match_the_digest(ltc_file, tmp_path):
    """The last bit of the last one: no other check sees it."""
    whole = bytearray(ltc_file.read_bytes())
    whole[-4] ^= 1
    path = tmp_path / "m.safetensors"
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="is damaged: its content does not match its digest"):
        lnn_edge.load_checkpoint(path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_file_is_refused(data, ltc_file, tmp_path):
    whole = ltc_file.read_bytes()
    path = tmp_path / "m.safetensors"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ValueError, match="is not a safetensors file"):
        lnn_edge.load_checkpoint(path)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**12) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_forged_description_is_refused_in_words(data, cfc_file, ltc_file, tmp_path):
    """One value replaced by any other and signed again: a ValueError or a module, nothing else, and quickly."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(data.draw(st.sampled_from([cfc_file, ltc_file])).read_bytes())

    def change(plain):
        node = plain
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(node[key], (dict, list)) or not node[key] or data.draw(st.booleans()):
                node[key] = data.draw(PLAIN)
                return
            node = node[key]

    rewrite(path, change)
    try:
        loaded = lnn_edge.load_checkpoint(path)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - both outcomes are right
        return
    assert isinstance(loaded, nn.Module)
