"""torch's own GRU, LSTM and RNN beside liquid cores: further cores, stepped, proven and lowered like these."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from exports import quick_export
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lnn_edge
from lnn_edge.bundle.opset import OPERATORS
from lnn_edge.bundle.spec import Time
from lnn_edge.cli.program import main
from lnn_edge.errors import VerificationError
from lnn_edge.export.cores.recurrent import recurrent_from_module
from lnn_edge.export.graph.builder import GraphBuilder
from lnn_edge.export.lowering import rnn
from lnn_edge.export.step_graph import step_graph
from lnn_edge.export.trained.core_step import CoreStep
from lnn_edge.reference import GruLayer, LstmLayer
from lnn_edge.reference.interpreter import Interpreter

# torch says so once per process; it is about its own speed
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

PERIOD_S = 0.1
STEPS = 600  # `test_streaming_equals_offline.py` follows LSTMs beside liquid cores for as long as is promised
LIMIT = 1e-5  # as for networks: outputs of order 1, some dozen float32 operations per step

LAYERS = {
    "gru": lambda: nn.GRU(5, 7),
    "gru-2-layers": lambda: nn.GRU(5, 7, num_layers=2, dropout=0.5),
    "gru-no-bias": lambda: nn.GRU(5, 7, bias=False),
    "gru-large": lambda: nn.GRU(5, 80),  # the form that adds b_in
    "lstm": lambda: nn.LSTM(5, 7),
    "lstm-3-layers": lambda: nn.LSTM(5, 7, num_layers=3),
    "lstm-no-bias": lambda: nn.LSTM(5, 7, bias=False),
    "lstm-proj": lambda: nn.LSTM(5, 7, proj_size=3),
    "lstm-proj-2-layers": lambda: nn.LSTM(5, 7, num_layers=2, proj_size=3),
    "lstm-large": lambda: nn.LSTM(5, 80),  # the form with a node per product
    "rnn-tanh": lambda: nn.RNN(5, 7),
    "rnn-relu-2-layers": lambda: nn.RNN(5, 7, num_layers=2, nonlinearity="relu"),
}


def built(make):
    """Away from small initial weights, which hide mistakes."""
    torch.manual_seed(5)
    module = make().eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "mask" not in name and "erev" not in name and parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter) / max(1, parameter.shape[-1]) ** 0.5)
    return module


def vectors(rows=1, steps=40, seed=0, features=5):
    return np.random.default_rng(seed).standard_normal((rows, steps, features)).astype(np.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_reference_equals_torch_in_float64(name):
    """Outputs and every state of every layer, over a sequence, from zero; limits as for liquid cores."""
    module = built(LAYERS[name]).double()
    core = recurrent_from_module("rnn", module)
    x = torch.from_numpy(vectors(rows=60, steps=3).astype(np.float64))  # (time, batch, features)
    program = Interpreter(CoreStep(core, 3).program(Time("fixed")))
    state, hx = program.start(3), None
    for sample in x:
        with torch.no_grad():
            expected, hx = module(sample[None], hx)
        got, state = program.step({"input": sample.numpy()}, state)
        np.testing.assert_allclose(got["output"], expected[0].numpy(), rtol=0, atol=1e-12)
    kinds = hx if isinstance(hx, tuple) else (hx,)
    flat = [layer.numpy() for kind in kinds for layer in kind]
    for mine, theirs in zip((state[f"{n}_in"] for n in core.state_names), flat, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_graph_equals_torch(name, rows):
    """The lowered step alone, fed back in onnxruntime, from portable operators only."""
    module = built(LAYERS[name])
    core = recurrent_from_module("rnn", module)
    model = step_graph(CoreStep(core, rows).program(Time("fixed")), batch=rows)
    assert {node.op_type for node in model.graph.node} <= OPERATORS - {"Split", "Reshape"}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    widths = zip(core.state_names, core.state_widths, strict=True)
    state = {f"{n}_in": np.zeros((rows, w), np.float32) for n, w in widths}
    x, got = vectors(rows=200, steps=rows), []
    for sample in x:
        y, *new = session.run(None, {"input": sample} | state)
        state = dict(zip(state, new, strict=True))
        got.append(y)
    with torch.no_grad():
        expected = module(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(np.stack(got), expected, rtol=0, atol=LIMIT)


class GruThenCfc(nn.Module):
    """An encoder that remembers, called with hx=None and batch_first."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(5, 8, batch_first=True)
        self.rnn = CfC(8, AutoNCP(12, 3))
        self.head = nn.Linear(3, 2)

    def forward(self, x, hx=None, timespans=None):
        gru, cfc = hx if hx is not None else (None, None)
        z, gru = self.gru(x, gru)
        y, cfc = self.rnn(z, cfc, timespans)
        return self.head(y), (gru, cfc)


class Parallel(nn.Module):
    """LTC and LSTM side by side; the LSTM gets a tuple of zeros and time first."""

    def __init__(self):
        super().__init__()
        self.ltc = LTC(5, AutoNCP(10, 2))
        self.lstm = nn.LSTM(5, 6)

    def forward(self, x, timespans=None):
        a, _ = self.ltc(x, timespans=timespans)
        zeros = x.new_zeros(1, x.shape[0], 6)
        b, _ = self.lstm(input=x.transpose(0, 1), hx=(zeros, zeros))
        return torch.cat([a, b.transpose(0, 1)], dim=-1)


class DeepLstm(nn.Module):
    """Two layers whose h is narrower than their c."""

    def __init__(self):
        super().__init__()
        self.rnn = CfC(5, 8, backbone_units=12)
        self.lstm = nn.LSTM(8, 7, num_layers=2, proj_size=3, dropout=0.3, batch_first=True)

    def forward(self, x, timespans=None):
        y, (h, c) = self.lstm(self.rnn(x, timespans=timespans)[0])
        return torch.tanh(y), {"h": h, "c": c}


class ReluRnn(nn.Module):
    """A plain RNN called without a batch axis, in the middle."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(5, 6, nonlinearity="relu")
        self.cfc = CfC(6, 4, backbone_units=8)

    def forward(self, x, timespans=None):
        z, _ = self.rnn(x[0])
        return self.cfc(z[None] * 0.3, timespans=timespans)[0]


NETWORKS = {"gru-cfc": GruThenCfc, "ltc-lstm": Parallel, "cfc-deep-lstm": DeepLstm, "relu-rnn": ReluRnn}


def offline(module, x, spans=None):
    """The network called once, or with timespans once per row: ncps is right about them for one row only."""
    with torch.no_grad():
        rows = [module(torch.from_numpy(x))] if spans is None else [
            module(torch.from_numpy(row[None]), timespans=torch.from_numpy(spans[k][None])) for k, row in enumerate(x)
        ]  # fmt: skip
    return np.concatenate([(row[0] if isinstance(row, tuple) else row).numpy() for row in rows])


# Each network with both kinds of time, and alone and in rows; without a batch axis a call is one sequence.
FOLLOWED = [
    *(("gru-cfc", "fixed", 1), ("gru-cfc", "measured", 3)),
    *(("ltc-lstm", "fixed", 3), ("ltc-lstm", "measured", 1)),
    *(("cfc-deep-lstm", "fixed", 1), ("cfc-deep-lstm", "measured", 3)),
    *(("relu-rnn", "fixed", 1), ("relu-rnn", "measured", 1)),
]


@pytest.mark.parametrize(("name", "time", "batch"), FOLLOWED)
def test_streaming_equals_offline(name, time, batch, tmp_path):
    steps = STEPS // batch  # torch takes as long for each row
    module, x = built(NETWORKS[name]), vectors(batch, steps, seed=1)
    options = {"time": "measured", "period_s": PERIOD_S} if time == "measured" else {}
    quick_export(module, tmp_path / "m.lnn", example=x[:, :40], batch=batch, **options)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    dt_s = np.random.default_rng(2).uniform(0.05, 0.3, (steps, batch, 1)).astype(np.float32)
    given = {"dt_s": dt_s if batch > 1 else dt_s[:, 0, 0]} if time == "measured" else {}
    spans = (dt_s[:, :, 0] / np.float32(PERIOD_S)).T if time == "measured" else None
    expected = np.swapaxes(offline(module, x, spans), 0, 1)
    seen = np.swapaxes(x, 0, 1) if batch > 1 else x[0]
    for stop in (steps // 2, steps):
        stream.reset()
        got = stream.run(seen[:stop], **{key: value[:stop] for key, value in given.items()})
        np.testing.assert_allclose(got if batch > 1 else got[:, None], expected[:stop], rtol=0, atol=LIMIT)


class LastState(nn.Module):
    """The readout is the last layer's h, as many people write it; the liquid core comes first."""

    def __init__(self, make=nn.GRU, layers=2):
        super().__init__()
        self.rnn = CfC(5, 4, backbone_units=8)
        self.gru = make(4, 6, num_layers=layers, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        _, h = self.gru(self.rnn(x)[0])
        h = h[0] if isinstance(h, tuple) else h
        return self.head(h[-1])


@pytest.mark.parametrize(("make", "layers"), [(nn.GRU, 1), (nn.LSTM, 2)])
def test_readout_of_the_last_state(make, layers, tmp_path):
    module, x = built(lambda: LastState(make, layers)), vectors(steps=30)
    quick_export(module, tmp_path / "m.lnn", example=x)
    model = lnn_edge.load(tmp_path / "m.lnn")
    got = model.stream().run(x[0])
    with torch.no_grad():
        expected = [module(torch.from_numpy(x[:, : k + 1]))[0].numpy() for k in range(x.shape[1])]
    np.testing.assert_allclose(got, np.stack(expected), rtol=0, atol=LIMIT)
    # h[-1] is a value that is there already: nothing is stacked only to be taken apart again
    assert not {"Slice", "Reshape", "Transpose"} & set(model.manifest.graph.operators)


def test_all_layers_states_as_readout(tmp_path):
    """Then torch's stack of layers is really made."""

    class AllStates(LastState):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(12, 2)

        def forward(self, x):
            _, h = self.gru(self.rnn(x)[0])
            return self.head(h.transpose(0, 1).flatten(1))

    module, x = built(AllStates), vectors(steps=30)
    quick_export(module, tmp_path / "m.lnn", example=x)
    with torch.no_grad():
        expected = [module(torch.from_numpy(x[:, : k + 1]))[0].numpy() for k in range(x.shape[1])]
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0])
    np.testing.assert_allclose(got, np.stack(expected), rtol=0, atol=LIMIT)


def test_states_have_names_and_widths_of_their_own(tmp_path, capsys):
    quick_export(built(DeepLstm), tmp_path / "m.lnn", example=vectors())
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert {s.input: s.shape for s in model.states} == {
        "rnn.h_in": (1, 8),
        "lstm.h_l0_in": (1, 3),
        "lstm.h_l1_in": (1, 3),
        "lstm.c_l0_in": (1, 7),
        "lstm.c_l1_in": (1, 7),
    }
    core = model.manifest.cores[1]
    assert (core.name, core.kind, core.mode, core.wiring) == ("lstm", "LSTM", "torch", "dense")
    assert (core.inputs, core.units, core.outputs) == (8, 14, 3)
    # the candidate's weights: 8 x 7 from the input; 3 x 7 recurrent in each layer and 3 x 7 between them
    assert (core.sensory_synapses, core.synapses) == (56, 63)
    assert core.layout == (("layer 0", 7), ("layer 1", 7))
    assert main(["inspect", str(tmp_path / "m.lnn")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "LSTM (torch)" in shown
    assert "8 -> 14 -> 3" in shown
    assert "7 layer 0, 7 layer 1" in shown


def test_a_plain_rnn_says_its_nonlinearity(tmp_path):
    quick_export(built(ReluRnn), tmp_path / "m.lnn", example=vectors())
    core = lnn_edge.load(tmp_path / "m.lnn").manifest.cores[0]
    assert (core.kind, core.mode, core.layout) == ("RNN", "relu", (("hidden", 6),))


class TestABrokenExportIsCaught:
    def caught(self, module, tmp_path):
        with pytest.raises(VerificationError, match="does not equal the trained model, so nothing was written"):
            quick_export(built(module), tmp_path / "m.lnn", example=vectors())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("module", "swap"), [(GruThenCfc, (0, 1)), (Parallel, (0, 1)), (Parallel, (2, 3))])
    def test_swapped_gates(self, module, swap, tmp_path, monkeypatch):
        whole = rnn._stacked_gate
        order = {swap[0]: swap[1], swap[1]: swap[0]}
        monkeypatch.setattr(rnn, "_stacked_gate", lambda layer, k: whole(layer, order.get(k, k)))
        self.caught(module, tmp_path)

    def test_dropped_b_hn(self, tmp_path, monkeypatch):
        whole = rnn._lower_gru

        def without(graph, layer, x, h):
            bias = layer.b_recurrent.copy()
            bias[2 * layer.units :] = 0.0
            return whole(graph, GruLayer(layer.w_input, layer.w_recurrent, layer.b_input, bias), x, h)

        monkeypatch.setattr(rnn, "_lower_gru", without)
        self.caught(GruThenCfc, tmp_path)

    def test_b_hn_outside_the_reset_product(self, tmp_path, monkeypatch):
        """As in the first GRU: the difference between the paper and torch must not go unseen."""
        whole = rnn._lower_gru

        def outside(graph, layer, x, h):
            new = slice(2 * layer.units, None)
            b_input, b_recurrent = layer.b_input.copy(), layer.b_recurrent.copy()
            b_input[new] += b_recurrent[new]
            b_recurrent[new] = 0.0
            return whole(graph, GruLayer(layer.w_input, layer.w_recurrent, b_input, b_recurrent), x, h)

        monkeypatch.setattr(rnn, "_lower_gru", outside)
        self.caught(GruThenCfc, tmp_path)

    def test_wrong_state_order(self, tmp_path, monkeypatch):
        """The two layers' memories change places."""
        whole = GraphBuilder.output
        swapped = {"lstm.c_l0_out": "lstm.c_l1_out", "lstm.c_l1_out": "lstm.c_l0_out"}
        monkeypatch.setattr(GraphBuilder, "output", lambda g, v, name, s: whole(g, v, swapped.get(name, name), s))
        self.caught(DeepLstm, tmp_path)

    def test_misread_reference(self, tmp_path, monkeypatch):
        """Torch itself is a witness too: a reference that drops the projection's neighbour is found out."""
        whole = LstmLayer.step
        monkeypatch.setattr(LstmLayer, "step", lambda layer, x, s: whole(layer, x, s | {"c": 0.9 * s["c"]}))
        self.caught(Parallel, tmp_path)


class TestRefusals:
    def refuse(self, module, tmp_path, error, match, example=None):
        with pytest.raises(error, match=match):
            quick_export(module, tmp_path / "m.lnn", example=vectors() if example is None else example)
        assert list(tmp_path.iterdir()) == []

    def test_no_liquid_core(self, tmp_path):
        match = "with only torch's own LSTM '0', GRU '1' inside; type torch.onnx.export for such a model"
        self.refuse(nn.Sequential(nn.LSTM(5, 4), nn.GRU(4, 4)), tmp_path, TypeError, match)
        self.refuse(nn.GRU(5, 4), tmp_path, TypeError, "got torch.nn.*GRU with only torch's own GRU inside")

    def test_bidirectional(self, tmp_path):
        module = built(GruThenCfc)
        module.gru = nn.GRU(5, 4, batch_first=True, bidirectional=True)
        self.refuse(module, tmp_path, ValueError, "'gru' is a bidirectional GRU: its output depends on samples that")

    def test_packed_sequence(self, tmp_path):
        class Packed(GruThenCfc):
            def forward(self, x):
                lengths = torch.full((len(x),), x.shape[1])
                z, _ = self.gru(pack_padded_sequence(x, lengths, batch_first=True))
                return self.rnn(pad_packed_sequence(z, batch_first=True)[0])[0]

        self.refuse(built(Packed), tmp_path, TypeError, "the forward gives 'gru' a PackedSequence.*Pass the padded")

    @pytest.mark.parametrize("lengths", [[24], torch.tensor([24])], ids=["list", "tensor"])
    def test_packing_without_a_layer_between(self, lengths, tmp_path):
        """What torch decides on while it unpacks is no decision of the model's."""

        class Packed(GruThenCfc):
            def forward(self, x):
                packed = pack_padded_sequence(x, [x.shape[1]] * len(x), batch_first=True)
                return self.rnn(self.gru(pad_packed_sequence(packed, batch_first=True)[0])[0])[0]

        class OfLength(GruThenCfc):
            def forward(self, x):
                packed = pack_padded_sequence(x, lengths, batch_first=True)
                return self.rnn(self.gru(pad_packed_sequence(packed, batch_first=True)[0])[0])[0]

        for kind, error in ((Packed, TypeError), (OfLength, ValueError)):
            self.refuse(built(kind), tmp_path, error, r"packs sequences \(test_torch_cores.py, line .*Pass the padded")

    def test_packed_sequence_for_a_liquid_core(self, tmp_path):
        class Packed(GruThenCfc):
            def forward(self, x):
                return self.rnn(pack_padded_sequence(self.gru(x)[0], [x.shape[1]], batch_first=True))[0]

        self.refuse(built(Packed), tmp_path, ValueError, r"packs sequences.*Pass the padded")

    def test_called_twice(self, tmp_path):
        class Twice(GruThenCfc):
            def forward(self, x):
                return self.rnn(self.gru(x)[0] + self.gru(2 * x)[0])[0]

        self.refuse(built(Twice), tmp_path, ValueError, "calls the core 'gru' more than once per sample")

    def test_own_forward(self, tmp_path):
        class Own(nn.GRU):
            def forward(self, *arguments):
                return super().forward(*arguments)

        module = built(GruThenCfc)
        module.gru = Own(5, 8, batch_first=True)
        self.refuse(module, tmp_path, TypeError, "Own overrides `forward` of torch.*Train with the plain GRU")

    def test_weights_that_are_not_finite(self, tmp_path):
        module = built(GruThenCfc)
        with torch.no_grad():
            module.gru.bias_hh_l0[3] = float("inf")
        self.refuse(module, tmp_path, ValueError, r"weight 'gru.bias_hh_l0' holds inf at \[3\]")

    def test_stale_weights(self, tmp_path):
        """torch computes with a list of its own, which goes on holding the old tensor."""
        module = built(GruThenCfc)
        module.gru._parameters["weight_hh_l0"] = nn.Parameter(module.gru.weight_hh_l0.detach() * 2)
        self.refuse(module, tmp_path, ValueError, "'gru' computes with a stale copy of 'weight_hh_l0'")
