"""Models as people wrap them: training modules, policies, compiled and parallel modules, and the weights they save."""

from __future__ import annotations

import copy
import os
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import SHORT_PROOF, quick_export
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from safetensors.torch import save_file, save_model
from torch import nn
from torch.distributions import Categorical, Distribution, Normal

import lnn_edge
from lnn_edge.cli.program import main
from lnn_edge.errors import ExportWarning
from lnn_edge.export.checkpoint.source import load_trained

LIMIT = 1e-5  # as for single layers: outputs of order 1, some dozen float32 operations more

# torch.compile imports parts of torch that use what torch itself calls deprecated
COMPILES = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Network(nn.Module):
    """Encoder with dropout, a core, a squashed head."""

    def __init__(self, core=None):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.3), nn.ReLU())
        self.rnn = core or CfC(8, AutoNCP(12, 3))
        self.head = nn.Linear(3, 2)

    def forward(self, x, hx=None):
        y, hx = self.rnn(self.encoder(x), hx)
        return torch.tanh(self.head(y)), hx


class Metric(nn.Module):
    """Counts, as metrics do; it is no part of the forward."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros((), dtype=torch.long))


class TrainingModule(nn.Module):
    """What a LightningModule looks like: the network inside, losses, metrics and hyperparameters beside it."""

    def __init__(self, hidden=12):
        super().__init__()
        self.hparams = {"hidden": hidden, "lr": 1e-3}
        self.model = Network(CfC(8, AutoNCP(hidden, 3)))
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(2))
        self.accuracy = Metric()
        self.automatic_optimization = True

    @property
    def device(self):
        return next(self.parameters()).device

    def forward(self, *args, **kwargs):
        return self.model(*args, **kwargs)

    def training_step(self, batch, _index):
        return self.criterion(self(batch[0])[0].mean(dim=1), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.hparams["lr"])


class Policy(nn.Module):
    """An encoder shared by actor and critic; the spread of the actions is a parameter."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
        self.rnn = CfC(8, AutoNCP(12, 3), mixed_memory=True)
        self.actor, self.critic = nn.Linear(3, 2), nn.Linear(3, 1)
        self.log_std = nn.Parameter(torch.tensor([-0.5, -1.0]))

    def features(self, observation, hx):
        return self.rnn(self.encoder(observation), hx)


class ActorCritic(Policy):
    """Two heads and the hidden state as a pair; `squeeze` takes the value's last axis away."""

    def forward(self, observation, hx=None):
        y, (h, c) = self.features(observation, hx)
        mean = torch.tanh(self.actor(y))
        return mean, self.log_std.expand_as(mean), self.critic(y).squeeze(-1), (h, c)


class Squashed(Policy):
    """Goes through a distribution, which broadcasts its parameters."""

    def forward(self, observation, hx=None):
        y, hx = self.features(observation, hx)
        actions = Normal(self.actor(y), self.log_std.clamp(-5, 2).exp())
        return {"action": torch.tanh(actions.mean), "scale": actions.scale, "value": self.critic(y)}, hx


class Discrete(Policy):
    """Probabilities of a categorical distribution, which normalises its logits."""

    def forward(self, observation, hx=None):
        y, hx = self.features(observation, hx)
        choice = Categorical(logits=self.actor(y))
        return {"logits": choice.logits, "probabilities": choice.probs}, hx


class StatesInAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = CfC(5, 6, backbone_units=8), LTC(6, AutoNCP(8, 2), mixed_memory=True)

    def forward(self, x, hidden=None):
        before = hidden or [None, None]
        y, first = self.first(x, before[0])
        y, second = self.second(y, before[1])
        return y, [first, second]


class StatesInADict(nn.Module):
    """Starts from zeros of its own, as recurrent policies do with `init_hidden`."""

    def __init__(self):
        super().__init__()
        self.rnn = LTC(5, 6)

    def init_hidden(self, rows, device):
        return {"core": torch.zeros(rows, 6, device=device)}

    def forward(self, x, hidden=None):
        hidden = hidden if hidden is not None else self.init_hidden(x.size(0), x.device)
        y, state = self.rnn(x, hidden["core"])
        return {"output": y[..., :2] * 2, "hidden": {"core": state}}


class Batchless(nn.Module):
    """Called with one recording, (T, features), as ncps allows; what the user passes as (1, T, F) is squeezed."""

    def __init__(self, core):
        super().__init__()
        self.encoder, self.rnn = nn.Linear(5, 8), core

    def forward(self, x, hx=None):
        y, hx = self.rnn(self.encoder(x.squeeze(0)), hx)
        return y.unsqueeze(0), hx


def built(make):
    torch.manual_seed(3)
    return make()


def recordings(rows=2, steps=40, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, steps, 5)).astype(np.float32)


def export(module, path, **options):
    return quick_export(module, path, example=recordings(), **options)


def named(outputs):
    return outputs if isinstance(outputs, dict) else {"output": outputs}


def check(module, bundle, expected):
    """The stream gives for a recording what the whole module gives, output by output."""
    x = recordings()[0]
    got = named(lnn_edge.load(bundle).stream().run(x))
    with torch.no_grad():
        whole = expected(copy.deepcopy(module).eval()(torch.from_numpy(x)[None].to(next(module.parameters()).dtype)))
    assert set(got) == set(whole)
    for name, value in whole.items():
        wanted = value[0].detach().float().numpy()
        np.testing.assert_allclose(got[name].reshape(wanted.shape), wanted, rtol=0, atol=LIMIT, err_msg=name)


def first(result):
    return {"output": result[0]}


def heads(result):
    return {f"output_{k}": value for k, value in enumerate(result[:-1])}


NETWORKS = {
    "training-module": (TrainingModule, first),
    "actor-critic": (ActorCritic, heads),
    "squashed-normal": (Squashed, lambda result: result[0]),
    "categorical": (Discrete, lambda result: result[0]),
    "states-in-a-list": (StatesInAList, first),
    "states-in-a-dict": (StatesInADict, lambda result: {"output": result["output"]}),
    "train-mode": (lambda: Network().train(), first),
    "batchless-cfc": (lambda: Batchless(CfC(8, AutoNCP(12, 3))), first),
    "batchless-ltc": (lambda: Batchless(LTC(8, AutoNCP(12, 3))), first),
    "batchless-mixed": (lambda: Batchless(CfC(8, 6, mixed_memory=True, backbone_units=8)), first),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_stream_equals_the_whole_network(name, tmp_path):
    make, expected = NETWORKS[name]
    module = built(make)
    export(module, tmp_path / "m.lnn")
    check(module, tmp_path / "m.lnn", expected)


def test_float64_network(tmp_path):
    """An LTC, because a float64 CfC does not run without a state of its own: ncps starts it from float32 zeros."""
    module = built(lambda: Network(LTC(8, AutoNCP(12, 3)))).double()
    export(module, tmp_path / "m.lnn")
    check(module, tmp_path / "m.lnn", first)
    assert next(module.parameters()).dtype == torch.float64


@pytest.mark.parametrize(
    "core",
    [
        lambda: CfC(8, AutoNCP(12, 3)),
        lambda: LTC(8, AutoNCP(12, 3), mixed_memory=True),
        lambda: CfC(8, 3, backbone_units=8, return_sequences=False),
        lambda: LTC(8, 3, batch_first=False),
    ],
    ids=["cfc", "ltc-mixed", "last-step", "time-first"],
)
def test_network_without_a_batch_axis(core, tmp_path):
    """The forward takes (T, features) and hands it on: the example is one recording of that shape."""
    module, x = built(lambda: Network(core())), recordings()[0]
    quick_export(module, tmp_path / "m.lnn", example=x)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(got if expected.ndim == 2 else got[-1], expected, rtol=0, atol=LIMIT)


def test_parameter_that_is_no_output_of_a_step(tmp_path):
    class Bare(Policy):
        def forward(self, observation, hx=None):
            y, hx = self.features(observation, hx)
            return self.actor(y), self.log_std, hx

    with pytest.raises(
        ValueError, match=r"output 'output_1' has shape \[2\] for one row of 3 samples.*expand it, or le"
    ):
        export(built(Bare), tmp_path / "m.lnn")


def test_checks_of_distributions_are_on_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Distribution, "_validate_args", True)  # `torch.compile` takes them off, once and for all
    export(built(Squashed), tmp_path / "m.lnn")
    with pytest.raises(ValueError, match="to satisfy the constraint"):
        Normal(torch.zeros(1), torch.tensor([-1.0]))


# ---- modules that stand around the trained one ----------------------------------------------------------------------


def nested():
    """Every part of a training module wrapped by itself, the core too."""
    module = TrainingModule()
    module.model.rnn = torch.compile(module.model.rnn)
    module.model.encoder = nn.DataParallel(module.model.encoder)
    module.model = torch.compile(module.model)
    return nn.DataParallel(module)


def compiled_in_place():
    module = Network()
    module.compile()
    return module


WRAPPED = {
    "compiled": lambda: torch.compile(Network()),
    "compiled-in-place": compiled_in_place,
    "compiled-layer": lambda: torch.compile(LTC(5, AutoNCP(12, 3))),
    "parallel": lambda: nn.DataParallel(Network()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(Network()),
    "nested": nested,
}


def bare(module):
    """The same network without its wrappers, found here by hand."""
    inner = copy.deepcopy(module)
    for attribute in ("module", "_orig_mod"):
        inner = getattr(inner, attribute, inner)
    if isinstance(inner, TrainingModule):
        inner.model = inner.model._orig_mod
        inner.model.rnn, inner.model.encoder = inner.model.rnn._orig_mod, inner.model.encoder.module
    return inner


@COMPILES
@pytest.mark.parametrize("name", WRAPPED)
def test_what_is_wrapped_is_exported(name, tmp_path, monkeypatch):
    """And nothing is compiled for it: without a C++ compiler an export works as well."""
    module = built(WRAPPED[name])
    monkeypatch.setattr("torch._dynamo.eval_frame.OptimizedModule.__call__", None)
    names = [part for part, _ in module.named_modules()]
    export(module, tmp_path / "m.lnn")
    check(bare(module), tmp_path / "m.lnn", first)
    assert [part for part, _ in module.named_modules()] == names


@COMPILES
def test_cores_are_named_without_the_wrappers(tmp_path):
    export(built(nested), tmp_path / "m.lnn")
    assert [core.name for core in lnn_edge.load(tmp_path / "m.lnn").manifest.cores] == ["model.rnn"]


@COMPILES
@pytest.mark.parametrize("name", ["compiled", "parallel", "nested"])
def test_checkpoint_of_a_wrapped_module(name, tmp_path):
    """Saved under plain names, it goes into a bare module and into a wrapped one."""
    module = built(WRAPPED[name])
    lnn_edge.save_checkpoint(module, tmp_path / "m.safetensors")
    for other in (bare(module), copy.deepcopy(module)):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        lnn_edge.load_checkpoint(tmp_path / "m.safetensors", into=other)
        for mine, theirs in zip(other.parameters(), module.parameters(), strict=True):
            assert torch.equal(mine, theirs)


@COMPILES
def test_checkpoint_of_a_compiled_layer_needs_no_code(tmp_path):
    layer = built(lambda: LTC(5, AutoNCP(12, 3)))
    lnn_edge.save_checkpoint(nn.DataParallel(torch.compile(layer)), tmp_path / "m.safetensors")
    assert isinstance(lnn_edge.load_checkpoint(tmp_path / "m.safetensors"), LTC)


# ---- weights that wrappers saved ------------------------------------------------------------------------------------

NETS = """
from test_wrappers_nets import Network, TrainingModule

def make_model():
    return Network()

def make_training():
    return TrainingModule()
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A directory with a script that makes the networks of this page."""
    import sys
    from types import ModuleType

    nets = ModuleType("test_wrappers_nets")
    nets.Network, nets.TrainingModule = Network, TrainingModule
    monkeypatch.setitem(sys.modules, "test_wrappers_nets", nets)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(NETS)
    return tmp_path


def saved(module, name, nest=None):
    state = {key: value.contiguous().clone() for key, value in module.state_dict().items()}
    if name.endswith(".safetensors"):
        save_file(state, name)
    else:
        torch.save({nest: state, "epoch": 3} if nest else state, name)
    return name


def loaded(weights, factory="make_model"):
    return load_trained(f"train.py:{factory}", weights=weights, trust_pickle=False).module


def assert_same(mine, theirs):
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


class Model(nn.Module):
    """Holds a network under a name, as training modules do."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


@COMPILES
@pytest.mark.parametrize("file", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize(
    ("wrap", "match"),
    [
        (nn.DataParallel, r"read without 'module.' \(DataParallel\); so they fit the model exactly"),
        (lambda net: torch.compile(net), r"without '_orig_mod.' \(torch.compile\)"),
        (
            lambda net: nn.DataParallel(torch.compile(net)),
            r"'module.' \(DataParallel\), '_orig_mod.' \(torch.compile\)",
        ),
        (lambda net: Model(model=net), r"without 'model.' \(a Lightning module\)"),
        (
            lambda net: Model(model=torch.compile(net)),
            r"'model.' \(a Lightning module\), '_orig_mod.' \(torch.compile\)",
        ),
    ],
    ids=["parallel", "compiled", "parallel-compiled", "lightning", "lightning-compiled"],
)
def test_prefixes_of_wrappers_are_taken_off(wrap, match, file, work):
    net = built(Network)
    saved(wrap(net), file)
    with pytest.warns(ExportWarning, match=match):
        assert_same(loaded(file), net)


def test_compiled_part_inside(work):
    """torch.compile on the network inside a training module: its prefix is in the middle of the names."""
    module = built(TrainingModule)
    state = {k.replace("model.", "model._orig_mod."): v for k, v in module.state_dict().items()}
    torch.save({"state_dict": state}, "last.ckpt")
    with pytest.warns(ExportWarning, match=r"read without '_orig_mod.' \(torch.compile\)"):
        assert_same(loaded("last.ckpt", "make_training"), module)


@pytest.mark.parametrize("file", ["w.safetensors", "last.ckpt"])
@pytest.mark.parametrize("head", ["model.", "model._orig_mod.", "module.model."])
def test_metrics_and_losses_beside_the_network_are_left_out(head, file, work):
    """A Lightning checkpoint holds the class weights of its loss too: no layers, and the network is all there."""
    module = built(TrainingModule)
    state = {k.replace("model.", head): v.contiguous().clone() for k, v in module.state_dict().items()}
    torch.save({"state_dict": state}, file) if file.endswith(".ckpt") else save_file(state, file)
    others = "(criterion.weight, accuracy.total|accuracy.total, criterion.weight)"
    match = rf"without .*'model.' \(a Lightning module\).*exactly. Not under that prefix, and so left out: {others}. If"
    with pytest.warns(ExportWarning, match=match):
        assert_same(loaded(file), module.model)


def test_a_core_beside_the_network_is_not_left_out(work):
    """Only our own checkpoint tells of it: its weights could pass for anything."""
    module = Model(model=built(Network), other=CfC(1, 1))
    lnn_edge.save_checkpoint(module, "m.safetensors")
    with pytest.raises(ValueError, match=r"the cores in the checkpoint 'm.safetensors' are .*other"):
        loaded("m.safetensors")


def test_what_is_left_out_does_not_stand_in_for_what_is_missing(work):
    state = {f"model.{k}": v for k, v in built(Network).state_dict().items()} | {"metric.total": torch.zeros(())}
    bias = state.pop("model.head.bias")
    torch.save(state, "w.pt")
    with pytest.raises(ValueError, match="do not fit the model: missing"):
        loaded("w.pt")
    torch.save(state | {"model.head.bias": bias[:1]}, "w.pt")
    with pytest.raises(ValueError, match=r"'head.bias' in 'w.pt' has shape \[1\], but the model has \[2\]"):
        loaded("w.pt")


def test_names_that_fit_are_left_alone(work):
    """A training module's own 'model.' is no prefix to take off; there is nothing to remark."""
    module = built(TrainingModule)
    assert_same(loaded(saved(module, "last.ckpt", "state_dict"), "make_training"), module)


@pytest.mark.parametrize(
    ("make", "factory", "match"),
    [
        (
            lambda: Model(policy=Model(net=Network())),
            "make_model",
            r"only without 'policy.net.', so the file holds a network .* torch.save\(model.policy.net.state_dict\(\)",
        ),
        (
            lambda: Model(model=Network(), head=nn.Linear(2, 2)),
            "make_model",
            r"beside them what looks like layers: head.weight, head.bias. If .*; else .*torch.save\(model.model.state_",
        ),
        (
            lambda: Model(model=Network(), norm=nn.BatchNorm1d(2, affine=False)),
            "make_model",
            "beside them what looks like layers: norm.running_mean. If",
        ),
        (
            lambda: Model(net=Network(), metric=Metric()),
            "make_model",
            r"Those under 'net.' fit exactly, but the .* others beside them.*torch.save\(model.net.state_dict\(",
        ),
        (
            lambda: Model(rest=nn.Linear(2, 2)),
            "make_model",
            "missing encoder.0.weight.*unknown rest.weight, rest.bias. The factory must build the model exactly",
        ),
    ],
    ids=["other-prefix", "layer-beside", "norm-beside", "other-prefix-beside", "nothing-fits"],
)
def test_other_prefixes_are_named_with_what_to_type(make, factory, match, work):
    saved(built(make), "w.pt")
    with pytest.raises(ValueError, match=match):
        loaded("w.pt", factory)


def test_weights_of_a_part_of_the_model(work):
    (work / "train.py").write_text(
        "from test_wrappers_nets import Network\nfrom torch import nn\n\nclass Holder(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = Network()\n"
    )
    saved(built(Network), "w.pt")
    with pytest.raises(ValueError, match="They fit its part `net` exactly: let the factory return that part"):
        loaded("w.pt", "Holder")


def test_checkpoint_of_a_training_module_for_its_network(work):
    """The cores are known under the names of the training module, prefix and all."""
    net = built(Network)
    lnn_edge.save_checkpoint(Model(model=net), "m.safetensors")
    with pytest.warns(ExportWarning, match="without 'model.'"):
        assert_same(loaded("m.safetensors"), net)


def test_lazy_layers_take_their_shape_from_the_weights(work):
    (work / "lazy.py").write_text(
        "from test_wrappers_nets import Network\nfrom torch import nn\n\ndef make_model():\n"
        "    net = Network()\n    net.encoder[0] = nn.LazyLinear(8)\n    return net\n"
    )
    net = built(Network)
    saved(net, "w.safetensors")
    assert_same(load_trained("lazy.py:make_model", weights="w.safetensors", trust_pickle=False).module, net)


def test_tied_tensors_as_safetensors_keeps_them(work):
    """Its `save_model` leaves one name of two and notes in the metadata which."""
    (work / "tied.py").write_text(
        "from ncps.torch import CfC\nfrom torch import nn\n\nclass Tied(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 5)\n"
        "        self.b.weight, self.rnn = self.a.weight, CfC(5, 4)\n"
    )
    module = load_trained("tied.py:Tied", weights=None, trust_pickle=False).module
    save_model(module, "w.safetensors")
    again = load_trained("tied.py:Tied", weights="w.safetensors", trust_pickle=False).module
    assert again.b.weight is again.a.weight
    assert_same(again, module)


def test_the_command_line_remarks_on_a_prefix(work, capsys, short_commands):
    saved(nn.DataParallel(built(Network)), "w.safetensors")
    np.save("walk.npy", recordings())
    command = ["export", "train.py:make_model", "m.lnn", "--weights", "w.safetensors", "--example", "walk.npy"]
    assert main([*command]) == 0
    out, err = capsys.readouterr()
    assert err == (
        "remark: the names of the weights in 'w.safetensors' were read without 'module.' (DataParallel); "
        "so they fit the model exactly\n"
    )
    assert "\nsaved m.lnn" in out


# ---- masks that training moved --------------------------------------------------------------------------------------


def drifted(core, entries=3):
    with torch.no_grad():
        for mask in [p for name, p in core.named_parameters() if "mask" in name][:1]:
            mask.view(-1)[:entries] = 0.5
    return core


def test_drifted_masks_are_named_once(tmp_path, monkeypatch):
    monkeypatch.setattr("lnn_edge.export.exporting._LENGTH", ContextVar("length of proofs", default=SHORT_PROOF))
    module = built(lambda: Network(drifted(LTC(8, AutoNCP(12, 3)))))
    match = (
        r"^3 of 240 entries in the sparsity masks of 'rnn.rnn_cell' are neither 0 nor 1. Training moved them.*equals"
    )
    with pytest.warns(ExportWarning, match=match) as caught:
        lnn_edge.export_model(module, tmp_path / "m.lnn", example=recordings(), steps=SHORT_PROOF.least)
    assert len(caught) == 1
    assert Path(caught[0].filename).name == Path(__file__).name
    check(module, tmp_path / "m.lnn", first)


def test_training_that_unfreezes_everything_moves_the_masks(tmp_path):
    """The mistake itself: `requires_grad_(True)` on all parameters, and one step of an optimiser."""
    module = built(lambda: CfC(5, AutoNCP(12, 3))).requires_grad_(True)
    module(torch.randn(2, 6, 5))[0].sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    with pytest.warns(ExportWarning, match=r"of 'rnn_cell.layer_0' are neither.* of 'rnn_cell.layer_2' are neither"):
        export(module, tmp_path / "m.lnn")
    check(module, tmp_path / "m.lnn", first)


def test_the_command_line_remarks_on_masks(work, capsys, short_commands):
    lnn_edge.save_checkpoint(drifted(built(lambda: LTC(5, 6)).rnn_cell), "m.safetensors")
    assert main(["export", "m.safetensors", "m.lnn"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("remark: 3 of 66 entries in the sparsity masks of the cell are neither 0 nor 1.")
    assert err.count("\n") == 1
    assert sorted(os.listdir(work)) == ["m.lnn", "m.safetensors", "train.py"]
