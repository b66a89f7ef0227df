"""Networks around liquid cores: whatever surrounds them, stepping the bundle gives what the whole network gives."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import real_rtx
import torch
from exports import quick_export
from fake_tensorrt import VERSIONS, rules
from ncps.torch import LTC, CfC, CfCCell, LTCCell, WiredCfCCell
from ncps.wirings import AutoNCP
from networks import (
    NETWORKS,
    OPERATIONS,
    PERIOD_S,
    TIMESPAN,
    AroundOne,
    ConvEncoder,
    Recurrent,
    Stacked,
    TimeFirst,
    TwoInputs,
    built,
    by_row,
    images,
    leaves,
    vectors,
)
from torch import nn
from torch.nn import functional

import lnn_edge
from lnn_edge.bundle.spec import Time
from lnn_edge.errors import VerificationError
from lnn_edge.export.forward.checks import find_checks
from lnn_edge.export.step_graph import step_graph
from lnn_edge.export.trained.open import open_module
from lnn_edge.export.trained.weights import quick_lookup

LIMIT = 1e-5  # as for single layers: outputs of order 1, some dozen float32 operations more


@pytest.mark.parametrize("name", NETWORKS)
def test_stream_equals_the_whole_network(name, tmp_path):
    make, example = NETWORKS[name]
    module, x = built(make), example()
    quick_export(module, tmp_path / "m.lnn", example=x)
    model = lnn_edge.load(tmp_path / "m.lnn")
    got = model.stream().run(x[0])
    got = list(got.values()) if isinstance(got, dict) else [got]
    with torch.no_grad():
        expected = leaves(module.eval()(torch.from_numpy(x[:1])))
    for mine, theirs in zip(got, expected, strict=True):
        theirs = theirs[0].numpy()
        np.testing.assert_allclose(mine if theirs.ndim == mine.ndim else mine[-1], theirs, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("core", ["ltc", "cfc", "pure"])
def test_timespans_anywhere_in_the_signature(core, tmp_path):
    cores = {
        "ltc": lambda: LTC(8, AutoNCP(12, 3)),
        "cfc": lambda: CfC(8, AutoNCP(12, 3)),
        "pure": lambda: CfC(8, 3, mode="pure", backbone_units=8),
    }
    module, x = built(lambda: Recurrent(cores[core]())), vectors()
    quick_export(module, tmp_path / "m.lnn", example=x, time="measured", period_s=PERIOD_S, timespan=TIMESPAN)
    dt_s = np.random.default_rng(1).uniform(0.05, 0.3, len(x[0])).astype(np.float32)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0], dt_s=dt_s)
    spans = torch.from_numpy(dt_s * np.float32(TIMESPAN / PERIOD_S))[None]
    with torch.no_grad():
        expected, _ = module.eval()(torch.from_numpy(x[:1]), timespans=spans)
    np.testing.assert_allclose(got, expected[0].numpy(), rtol=0, atol=LIMIT)


def test_timespans_that_the_forward_ignores(tmp_path):
    """Then the core gets the measured time all the same, and no node is left that nothing uses."""

    class Ignoring(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = CfC(5, 4, backbone_units=8)

        def forward(self, x, hx=None, timespans=None):
            return self.rnn(x, hx)

    module, x = built(Ignoring), vectors()
    quick_export(module, tmp_path / "m.lnn", example=x, time="measured", period_s=PERIOD_S)
    dt_s = np.random.default_rng(1).uniform(0.05, 0.3, len(x[0])).astype(np.float32)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0], dt_s=dt_s)
    with torch.no_grad():
        expected, _ = module.rnn.eval()(torch.from_numpy(x[:1]), timespans=torch.from_numpy(dt_s / PERIOD_S)[None])
    np.testing.assert_allclose(got, expected[0].numpy(), rtol=0, atol=LIMIT)


@pytest.mark.parametrize("time", ["fixed", "measured"])
def test_timespans_that_the_forward_changes(time, tmp_path):
    """The core gets what the forward makes of them, as a constant or as a value."""

    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = CfC(5, 4, backbone_units=8)

        def forward(self, x, timespans=None):
            return self.rnn(x, None, timespans * 2)[0]

    module, x = built(Doubled), vectors()
    options = {"time": "measured", "period_s": PERIOD_S} if time == "measured" else {}
    quick_export(module, tmp_path / "m.lnn", example=x, **options)
    dt_s = {"dt_s": PERIOD_S} if time == "measured" else {}
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x[:1]), torch.ones(1, x.shape[1]))[0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0], **dt_s)
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


def test_measured_time_without_timespans_in_the_signature(tmp_path):
    """Then every core gets the measured time, as if the forward had passed it on."""
    module, x = built(Stacked), vectors()
    quick_export(module, tmp_path / "m.lnn", example=x, time="measured", period_s=PERIOD_S)
    dt_s = np.random.default_rng(1).uniform(0.05, 0.3, len(x[0])).astype(np.float32)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0], dt_s=dt_s)
    spans = torch.from_numpy(dt_s / np.float32(PERIOD_S))[None]
    with torch.no_grad():
        seen = torch.from_numpy(x[:1])
        h, _ = module.first(seen, timespans=spans)
        y, _ = module.second(h + torch.relu(h), timespans=spans)
        z, _ = module.beside(seen, timespans=spans)
    np.testing.assert_allclose(got["output_0"], torch.cat([y, z], dim=-1)[0].numpy(), rtol=0, atol=LIMIT)


class Irregular(nn.Module):
    """Time between samples is a column of the samples, as irregular recordings often have it."""

    def __init__(self, core):
        super().__init__()
        self.rnn = core(4)

    def forward(self, x, hx=None):
        return self.rnn(x[..., :4], hx, timespans=x[..., 4])


IRREGULAR = {
    "cfc": lambda n: CfC(n, 8),
    "pure": lambda n: CfC(n, 8, mode="pure"),
    "no_gate": lambda n: CfC(n, 8, mode="no_gate"),
    "ncp": lambda n: CfC(n, AutoNCP(12, 3)),
    "mixed": lambda n: CfC(n, 8, mixed_memory=True),
    "ltc": lambda n: LTC(n, AutoNCP(12, 3)),
}
GAP = lnn_edge.Feature("gap", "s", limits=(0.05, 2.0))


def irregular(steps=60):
    x = vectors()[:, :steps].copy()
    x[..., 4] = np.random.default_rng(2).uniform(0.1, 1.5, x.shape[:2])
    return x


class TestTimespansThatTheNetworkMakesItself:
    @pytest.mark.parametrize("options", [{}, {"unroll": 2}], ids=["samples", "blocks"])
    @pytest.mark.parametrize("kind", IRREGULAR)
    def test_from_a_column(self, kind, options, tmp_path):
        module, x = built(lambda: Irregular(IRREGULAR[kind])), irregular()
        names = ["a", "b", "c", "d", GAP]
        quick_export(module, tmp_path / "m.lnn", example=x, inputs=names, **options)
        with torch.no_grad():
            expected = module.eval()(torch.from_numpy(x[:1]))[0][0].numpy()
        stream = lnn_edge.load(tmp_path / "m.lnn").stream()
        np.testing.assert_allclose(stream.run(x[0]), expected, rtol=0, atol=LIMIT)
        late = x[0, : options.get("unroll", 1)].copy()
        late[..., 4] = 2.5
        with pytest.raises(ValueError, match="gap"):
            stream.step(late if options else late[0])

    def test_from_an_input_of_its_own(self, tmp_path):
        class Beside(nn.Module):
            def __init__(self):
                super().__init__()
                self.rnn = CfC(4, 8)

            def forward(self, x, gap):
                return self.rnn(x, timespans=gap[..., 0])[0]

        module, x = built(Beside), irregular()
        example = {"x": x[..., :4], "gap": x[..., 4:]}
        quick_export(module, tmp_path / "m.lnn", example=example, inputs={"gap": [GAP]})
        with torch.no_grad():
            expected = module.eval()(*(torch.from_numpy(value[:1]) for value in example.values()))[0].numpy()
        got = lnn_edge.load(tmp_path / "m.lnn").stream().run({name: value[0] for name, value in example.items()})
        np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)

    def test_constant(self, tmp_path):
        class Half(nn.Module):
            def __init__(self):
                super().__init__()
                self.rnn = CfC(5, 8)

            def forward(self, x):
                return self.rnn(x, timespans=torch.full(x.shape[:2], 0.5))[0]

        module, x = built(Half), vectors()
        quick_export(module, tmp_path / "m.lnn", example=x)
        with torch.no_grad():
            expected = module.eval()(torch.from_numpy(x[:1]))[0].numpy()
        got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0])
        np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)

    @pytest.mark.parametrize(("kind", "least"), [("cfc", "at least 0"), ("ltc", "more than 0")])
    def test_time_that_runs_backwards_is_refused_with_what_to_type(self, kind, least, tmp_path):
        message = rf"gives the core 'rnn' the timespan -\d.*, expected {least}.*'gap:s:0\.001:0\.5'"
        with pytest.raises(ValueError, match=message):
            quick_export(built(lambda: Irregular(IRREGULAR[kind])), tmp_path / "m.lnn", example=irregular())
        assert not (tmp_path / "m.lnn").exists()

    def test_time_that_stands_still_is_refused_where_the_solver_divides_by_it(self, tmp_path):
        x = irregular()
        x[:, 3, 4] = 0.0
        with pytest.raises(ValueError, match="the timespan 0, expected more than 0"):
            quick_export(built(lambda: Irregular(IRREGULAR["ltc"])), tmp_path / "m.lnn", example=x)

    def test_measured_time_that_reaches_no_core_is_refused(self, tmp_path):
        module = built(lambda: Irregular(IRREGULAR["cfc"]))
        with pytest.raises(
            ValueError, match=r"nothing in the model depends on the time between samples: .*time='fixed'"
        ):
            quick_export(
                module,
                tmp_path / "m.lnn",
                example=irregular(),
                inputs=["a", "b", "c", "d", GAP],
                time="measured",
                period_s=PERIOD_S,
            )


def test_two_inputs_by_name(tmp_path):
    rng = np.random.default_rng(0)
    x = {"lidar": rng.standard_normal((2, 30, 3, 4)), "speed": rng.standard_normal((2, 30, 2))}
    module = built(TwoInputs)
    names = {"speed": ["forward", "sideways"]}
    quick_export(module, tmp_path / "m.lnn", example=x, inputs=names)
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert {t.name: t.shape for t in model.inputs} == {"lidar": (1, 3, 4), "speed": (1, 2)}
    assert [f.name for f in model.inputs[1].features] == ["forward", "sideways"]
    got = model.stream().run({name: value[0] for name, value in x.items()})
    with torch.no_grad():
        expected, _ = module.eval()(*(torch.from_numpy(value[:1]).float() for value in x.values()))
    np.testing.assert_allclose(got, expected[0].numpy(), rtol=0, atol=LIMIT)


def test_time_first(tmp_path):
    module, x = built(TimeFirst), np.swapaxes(vectors(), 0, 1)
    quick_export(module, tmp_path / "m.lnn", example=x)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x))[:, 0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x[:, 0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


def test_batch_of_rows_with_their_own_time(tmp_path):
    module, x = built(lambda: Recurrent(CfC(8, AutoNCP(12, 3)))), vectors(rows=3)
    quick_export(module, tmp_path / "m.lnn", example=x, batch=3, time="measured", period_s=PERIOD_S)
    dt_s = np.random.default_rng(1).uniform(0.05, 0.3, (x.shape[1], 3, 1)).astype(np.float32)
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(np.swapaxes(x, 0, 1), dt_s=dt_s)
    for row in range(3):
        spans = torch.from_numpy(dt_s[:, row, 0] / np.float32(PERIOD_S))[None]
        with torch.no_grad():
            expected, _ = module.eval()(torch.from_numpy(x[row : row + 1]), timespans=spans)
        np.testing.assert_allclose(got[:, row], expected[0].numpy(), rtol=0, atol=LIMIT)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LTCCell(AutoNCP(10, 2), 5),
        lambda: CfCCell(5, 6, backbone_units=8),
        lambda: WiredCfCCell(5, AutoNCP(10, 2)),
    ],
    ids=["LTCCell", "CfCCell", "WiredCfCCell"],
)
def test_a_cell_on_its_own(make, tmp_path):
    cell, x = built(make), vectors()
    if isinstance(cell, LTCCell):
        cell.apply_weight_constraints()
    quick_export(cell, tmp_path / "m.lnn")
    model = lnn_edge.load(tmp_path / "m.lnn")
    state = torch.zeros(1, model.states[0].shape[1])
    expected = []
    with torch.no_grad():
        for sample in torch.from_numpy(x[0]):
            y, state = cell(sample[None], state, 1.0)
            expected.append(y[0].numpy())
    np.testing.assert_allclose(model.stream().run(x[0]), np.stack(expected), rtol=0, atol=LIMIT)
    assert model.manifest.cores[0].kind == type(cell).__name__


def test_states_are_named_after_their_cores(tmp_path):
    quick_export(built(Stacked), tmp_path / "m.lnn", example=vectors())
    model = lnn_edge.load(tmp_path / "m.lnn")
    assert [(s.input, s.output) for s in model.states] == [
        (f"{core}.h_in", f"{core}.h_out") for core in ("first", "second", "beside")
    ]
    assert [core.name for core in model.manifest.cores] == ["first", "second", "beside"]


def test_vector_networks_need_no_reshape(tmp_path):
    """The time axis of length one is only noted: no node is spent on it."""
    module = built(lambda: Recurrent(CfC(8, AutoNCP(12, 3))))
    quick_export(module, tmp_path / "m.lnn", example=vectors())
    operators = lnn_edge.load(tmp_path / "m.lnn").manifest.graph.operators
    assert not {"Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Expand"} & set(operators)


def test_the_users_module_is_left_alone(tmp_path):
    module = built(ConvEncoder).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    quick_export(module, tmp_path / "m.lnn", example=images())
    assert module.training
    assert "forward" not in vars(module.rnn)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


class Bidirectional(nn.Module):
    def __init__(self):
        super().__init__()
        self.there, self.back = CfC(5, 4, backbone_units=8), CfC(5, 4, backbone_units=8)

    def forward(self, x):
        return torch.cat([self.there(x)[0], self.back(x.flip(1))[0].flip(1)], dim=-1)


class ForeignRecurrence(nn.Module):
    """A recurrence of the user's own, with a state that nobody keeps between steps."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(5, 5)

    def forward(self, x):
        h, out = x.new_zeros(len(x), 5), []
        for sample in x.unbind(1):
            h = self.cell(sample, h)
            out.append(h)
        return torch.stack(out, dim=1)


def without_the_smallest(y):
    return torch.stack([row[row > row.min()] for row in y.flatten(0, 1)]).unflatten(0, y.shape[:2])


def two_places(z):
    """One of four by a row and a column that are both computed."""
    return z.reshape(-1, 2, 2)[torch.arange(len(z)), z[:, :2].argmax(1), z[:, 2:].argmax(1), None].expand(z.shape)


class TestRefusals:
    def refuse(self, module, tmp_path, error, match, example=None):
        with pytest.raises(error, match=match):
            quick_export(module, tmp_path / "m.lnn", example=vectors() if example is None else example)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (Bidirectional, "a core reads the sequence backwards .*Train with the forward direction alone"),
            (lambda: AroundOne(before=lambda x: x - x.mean(dim=1, keepdim=True)), "depends on all samples of the seq"),
            (lambda: AroundOne(behind=lambda y: y.amax(dim=1)), "makes one output of all samples of a recording by"),
            (
                lambda: AroundOne(behind=lambda y: torch.softmax(y @ y.transpose(1, 2), dim=-1) @ y),
                "depends on all samples of the seq.*attends .*so stepping it would not equal the sequence",
            ),
            (lambda: AroundOne(before=ForeignRecurrence()), "depends on all samples before, .*step=function"),
        ],
        ids=["bidirectional", "normalised-over-time", "pooled-over-time", "attention", "foreign-recurrence"],
    )
    def test_not_causal_per_sample(self, make, told, tmp_path):
        """Found by computing: torch stepped is not torch on the whole sequence."""
        self.refuse(built(make), tmp_path, ValueError, told)

    def test_padding_in_time(self, tmp_path):
        module = built(lambda: AroundOne(before=lambda x: torch.cat([x, x], dim=1)))
        self.refuse(module, tmp_path, ValueError, "2 time steps for one sample|one row of|not one per sample")

    @pytest.mark.parametrize(
        ("before", "told"),
        [
            (
                nn.Conv1d(5, 5, 3),
                r"Kernel size can't be greater .* that is not padded, or has a stride, .* fewer outputs",
            ),
            (nn.Conv1d(5, 5, 2), r"not one per sample\. A convolution .*pad\(x, \(kernel_size - 1, 0\)\) along time"),
            (nn.Conv1d(5, 5, 3, stride=2, padding=1), r"not one per sample\. A convolution .* with stride=1"),
            (
                nn.AvgPool1d(2),
                r"Output size is too small .* a pooling over time .* x\.reshape\(batch, time // n, n \* features\)",
            ),
        ],
        ids=["unpadded", "unpadded-pair", "stride", "pooling"],
    )
    def test_fewer_outputs_than_samples(self, before, told, tmp_path):
        module = built(lambda: AroundOne(before=lambda x: before(x.transpose(1, 2)).transpose(1, 2)))
        self.refuse(module, tmp_path, ValueError, told)

    def test_a_kernel_wider_than_a_picture_is_no_matter_of_time(self, tmp_path):
        module = built(lambda: AroundOne(before=lambda x: functional.max_pool1d(x, 7)))
        with pytest.raises(
            ValueError, match=r"computed output size: 0 .* fails as well: pass an example as the forward takes it"
        ):
            quick_export(module, tmp_path / "m.lnn", example=vectors())

    def test_core_called_twice(self, tmp_path):
        class Twice(AroundOne):
            def forward(self, x):
                return self.rnn(torch.cat([self.rnn(x)[0], x[..., :1]], dim=-1))[0]

        self.refuse(built(Twice), tmp_path, ValueError, "calls the core 'rnn' more than once per sample")

    def test_core_never_called(self, tmp_path):
        class Spare(AroundOne):
            def __init__(self):
                super().__init__()
                self.spare = LTC(5, 3)

        self.refuse(built(Spare), tmp_path, ValueError, "never calls the core spare")

    def test_state_needed_in_every_call_that_is_no_none(self, tmp_path):
        class Needs(AroundOne):
            def forward(self, x, hx):
                return self.rnn(x, hx * 1.0)

        self.refuse(
            built(Needs), tmp_path, ValueError, "needs `hx` in every call, and was given None.*give it a default"
        )

    def test_no_example(self, tmp_path):
        with pytest.raises(ValueError, match="a network needs `example`"):
            quick_export(built(AroundOne), tmp_path / "m.lnn")

    def test_weights_outside_the_cores_that_are_not_finite(self, tmp_path):
        module = built(lambda: AroundOne(behind=nn.Linear(4, 2)))
        with torch.no_grad():
            module.behind.weight[1, 2] = float("nan")
        self.refuse(module, tmp_path, ValueError, r"weight 'behind.weight' holds nan at \[1, 2\]")

    def test_results_that_are_not_finite(self, tmp_path):
        match = "'output' of the model is inf at step 0 of the example: the training diverged, a buffer"
        self.refuse(built(lambda: AroundOne(behind=lambda y: y / 0)), tmp_path, ValueError, match)

    @pytest.mark.parametrize(
        ("behind", "match"),
        [
            (lambda y: by_row(y, two_places), "'index' .*by numbers that it computes on several axes"),
            (lambda y: y.half().float(), "'to' .*rounds to half precision; export computes in float32: leave the cast"),
            (without_the_smallest, "'index' .*gives as many elements as the samples say.*torch.where"),
            (lambda y: functional.max_pool1d(y, 2, 1, dilation=2), "'max_pool1d' .*with dilation; export takes"),
            (
                lambda y: torch.searchsorted(y.sort(-1).values, y),
                "'searchsorted' .*with limits that the model computes",
            ),
            (lambda y: torch.where(y > 9, torch.nan, y), "'where' .*with a constant NaN"),
            (lambda y: torch.ops.aten.elu(y, 1.0, 1.0, 0.5), "'elu' .*with scales of its own"),
        ],
        ids=["places", "half", "condition", "dilation", "limits", "nan", "elu"],
    )
    def test_form_of_an_operation_that_cannot_be_translated(self, behind, match, tmp_path):
        self.refuse(built(lambda: AroundOne(behind=behind)), tmp_path, TypeError, match)

    def test_operation_that_cannot_be_translated(self, tmp_path):
        module = built(lambda: AroundOne(behind=lambda y: torch.special.erfcx(y)))
        told = "the torch operation 'special_erfcx', which export cannot translate .*end the model before it"
        self.refuse(module, tmp_path, TypeError, told)

    @pytest.mark.parametrize(
        ("behind", "told"),
        [
            (lambda y: torch.fft.rfft(y).abs(), "'fft_rfft', .*a product with constant matrices, x @ cosines"),
            (torch.vmap(torch.sin), "transforms a function with torch.func .*In place of vmap, write it for"),
        ],
        ids=["fourier", "vmap"],
    )
    def test_what_to_write_in_place_of_an_operation(self, behind, told, tmp_path):
        self.refuse(built(lambda: AroundOne(behind=behind)), tmp_path, TypeError, told)

    def test_number_taken_out_of_the_samples(self, tmp_path):
        """Over the whole sequence it is another one than at a sample."""
        module = built(lambda: AroundOne(behind=lambda y: y * y.abs().max().item()))
        told = r"takes a number out of its samples \(test_networks.py, line \d+: .*of each sample alone: torch.tanh\("
        self.refuse(module, tmp_path, ValueError, told)

    def test_as_many_results_as_something_else(self, tmp_path):
        module = built(lambda: AroundOne(before=lambda x: torch.fft.rfft(x, dim=1).abs()))
        told = r"output 'output' has the shape \[1, \d, 4\] for some number of samples and \[1, 2, 4\] for another"
        self.refuse(module, tmp_path, ValueError, told)

    def test_lazy_module(self, tmp_path):
        module = built(lambda: AroundOne(before=nn.LazyLinear(5)))
        self.refuse(module, tmp_path, ValueError, "parameters without a shape yet .*call it once on a sample first")

    def test_missing_input(self, tmp_path):
        example = {"lidar": np.zeros((1, 5, 3, 4))}
        match = r"`example` is \['lidar'\], but the model takes the inputs \['lidar', 'speed'\]"
        self.refuse(built(TwoInputs), tmp_path, ValueError, match, example)

    def test_inputs_of_different_lengths(self, tmp_path):
        example = {"lidar": np.zeros((1, 5, 3, 4)), "speed": np.zeros((1, 4, 2))}
        self.refuse(built(TwoInputs), tmp_path, ValueError, "recordings of different lengths per input", example)

    def test_names_for_unknown_input(self, tmp_path):
        example = {"lidar": np.zeros((1, 5, 3, 4)), "speed": np.zeros((1, 5, 2))}
        with pytest.raises(ValueError, match=r"`inputs` names 'sped'.*Did you mean 'speed'"):
            quick_export(built(TwoInputs), tmp_path / "m.lnn", example=example, inputs={"sped": ["a", "b"]})
        with pytest.raises(ValueError, match=r"3 names for lidar \(no columns\), speed \(2 columns\)"):
            quick_export(built(TwoInputs), tmp_path / "m.lnn", example=example, inputs=["a", "b", "c"])
        quick_export(built(TwoInputs), tmp_path / "m.lnn", example=example, inputs=["a", "b"])
        named = {t.name: [f.name for f in t.features] for t in lnn_edge.load(tmp_path / "m.lnn").inputs}
        assert named == {"lidar": [], "speed": ["a", "b"]}

    def test_no_torch_module(self, tmp_path):
        self.refuse("gait.pt", tmp_path, TypeError, "expected a torch.nn.Module, got str")


# Several behind one core, as a trace of each alone mostly traces what they share. What is written into tensors stands
# by itself: torch makes another trace of all that is beside it.
WRITTEN = [name for name in OPERATIONS if name.startswith("written")]
UNWRITTEN = [name for name in OPERATIONS if name not in WRITTEN]
GROUPS = [WRITTEN, *(UNWRITTEN[k : k + 10] for k in range(0, len(UNWRITTEN), 10))]


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: f"{names[0]}...{names[-1]}")
def test_operation(names):
    """The translated step, fed back in onnxruntime, against torch on the whole sequence; it needs no proof here.

    And every version of TensorRT takes it; NVIDIA's own builder makes one node of it.
    """
    places = {f"output_{k}": name for k, name in enumerate(names)}
    behind = {place: OPERATIONS[name] for place, name in places.items()}
    module = built(lambda: AroundOne(behind=lambda y: {place: own(y) for place, own in behind.items()})).eval()
    x = vectors(rows=1, steps=24)
    graph = step_graph(open_module(module).trained(1, {"input": [x[0][:, None]]}).program(Time("fixed")))
    for version in VERSIONS:
        assert rules.problems(graph, tuple(map(int, version.split(".")))) == []
    if real_rtx.is_here():  # its own tests say where it must be
        assert real_rtx.build(graph).nodes == 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    state, got = np.zeros((1, 4), np.float32), []
    for sample in x[0]:
        *results, state = session.run([*behind, "h_out"], {"input": sample[None], "h_in": state})
        got.append([y[0] for y in results])
    with torch.no_grad():
        expected = module(torch.from_numpy(x))
    for k, (place, name) in enumerate(places.items()):
        mine, theirs = np.stack([results[k] for results in got]), expected[place][0].numpy()
        np.testing.assert_allclose(mine, theirs.reshape(len(got), -1), rtol=0, atol=LIMIT, err_msg=name)


class ReadsTheState(nn.Module):
    """The head looks at all neurons, not at the motor neurons that the core returns."""

    def __init__(self):
        super().__init__()
        self.rnn = LTC(5, AutoNCP(10, 3, seed=3))
        self.head = nn.Linear(10, 2)

    def forward(self, x, hx=None):
        _, hx = self.rnn(x, hx)
        return self.head(hx), hx


def test_core_whose_output_nothing_reads(tmp_path):
    module = ReadsTheState().eval()
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    quick_export(module, tmp_path / "m.lnn", example=x)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    for sample in x:
        y = stream.step(sample)
    with torch.no_grad():
        np.testing.assert_allclose(y, module(torch.from_numpy(x)[None])[0][0].numpy(), atol=LIMIT, rtol=0)


class Regularised(nn.Module):
    """A core, a head, and something that the forward computes from the weights of the core."""

    def __init__(self, looks):
        super().__init__()
        self.rnn, self.head, self.looks = CfC(4, 6), nn.Linear(6, 2), looks

    def forward(self, x):
        return self.head(self.rnn(x)[0]) + 0.1 * self.looks(self)


LOOKS = {
    "one-by-name": lambda net: net.rnn.rnn_cell.ff1.weight.mean(),
    "one-of-some-kinds": lambda net: getattr(net.rnn.rnn_cell.ff2, "bias", torch.zeros(1)).sum(),
    "all-in-order": lambda net: torch.stack([p.abs().mean() for p in net.parameters()]).mean(),
    "all-by-name": lambda net: dict(net.rnn.named_parameters())["rnn_cell.ff1.bias"].norm(),
    "the-first-for-its-dtype": lambda net: torch.ones(2, dtype=next(net.parameters()).dtype),
    "how-many": lambda net: torch.full((2,), float(len(net.rnn.rnn_cell.ff1._parameters))),
    "a-whole-layer": lambda net: net.rnn.rnn_cell.ff1.weight[:2, 0] + net.head.bias,
}


@pytest.mark.parametrize("looks", LOOKS)
def test_a_forward_may_compute_with_the_weights_of_its_core(looks, tmp_path):
    torch.manual_seed(0)
    net, x = Regularised(LOOKS[looks]), np.random.default_rng(0).standard_normal((1, 20, 4)).astype(np.float32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    quick_export(net, tmp_path / "m.lnn", example=x)
    with torch.no_grad():
        expected = net(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0]), expected, rtol=0, atol=LIMIT)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_trace_sees_no_weights_of_cores_unless_they_are_asked_for(monkeypatch, tmp_path):
    """Or it takes twice as long."""
    seen, export = [], torch.export.export

    def noted(*arguments, **options):
        program = export(*arguments, **options)
        seen.append(len(program.state_dict))
        return program

    monkeypatch.setattr(torch.export, "export", noted)
    x = np.random.default_rng(0).standard_normal((1, 20, 4)).astype(np.float32)
    quick_export(Regularised(lambda net: net.head.bias), tmp_path / "a.lnn", example=x)
    assert seen == [2]
    quick_export(Regularised(LOOKS["one-by-name"]), tmp_path / "b.lnn", example=x)
    assert seen[-1] > 2


def test_a_tensor_made_in_the_forward_is_nothing_written(monkeypatch):
    """Or torch decomposes the whole step, which takes as long as its trace once more."""
    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", lambda *_: pytest.fail("decomposed"))
    test_operation(["index_select", UNWRITTEN[0]])


def test_weights_that_are_found_quickly_are_those_of_the_module():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = CfC(4, 6)

        def forward(self, x):
            self.rnn.rnn_cell.ff1 = self.rnn.rnn_cell.ff2  # a part of its own, as a node that adapts does
            return self.rnn(x)[0]

    net, x = Writes(), torch.randn(1, 5, 4)
    first = net.rnn(x)[0]
    with quick_lookup([net.rnn]):
        assert torch.equal(net.rnn(x)[0], first)
        assert "weight" in vars(net.rnn.rnn_cell.ff1)
        second = net(x)
        assert net.rnn.rnn_cell.ff1 is net.rnn.rnn_cell.ff2
    assert not torch.equal(first, second)
    assert torch.equal(net.rnn(x)[0], second)
    assert all("weight" not in vars(part) and "rnn_cell" not in vars(part) for part in net.modules())


class Branches(nn.Module):
    """Doubles what is loud: a decision that a trace cannot follow."""

    def __init__(self, decide):
        super().__init__()
        self.rnn = CfC(5, 4)
        self.decide = decide

    def forward(self, x, hx=None):
        if self.decide(x):
            x = 2 * x
        return self.rnn(x, hx)


def test_branch_on_a_value_is_refused_with_its_line(tmp_path, capfd):
    """In a few words: torch prints pages about it."""
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    match = r"decides on the value of a sample .*test_networks.py, line \d+: .*torch.where\(condition, one, other\)"
    with pytest.raises(TypeError, match=match):
        quick_export(Branches(lambda x: x.abs().max() > 1e9), tmp_path / "m.lnn", example=x)
    assert capfd.readouterr() == ("", "")


def asks_much(x):
    """Checks as people write them; nothing of it is in the step."""
    if torch.any(x < -1e9) or x.isnan().any().item():
        message = "out of range"
        raise ValueError(message)
    assert torch.isfinite(x).all(), "not finite"
    torch._assert((x.abs() < 1e9).all(), "too large")
    if x.abs().max().item() > 1e9:
        raise ValueError("too large")
    if x.ndim == 2:
        x = x.unsqueeze(0)
    return x


def asks_for_order(x):
    """Recorded samples pass, the random ones of a proof do not."""
    if (x[..., 0] <= 0).any():
        raise ValueError("a length is positive")
    return x


class Picks(nn.Module):
    """Constants of the model's own, as masks and numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.tensor([True, False, True, True, False]))
        self.kinds, self.scale = torch.tensor([0, 1, 2, 1, 0]), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        picked = [x[..., self.mask], x[..., ~self.mask], x[:, :, self.kinds == 1], x[..., self.mask.nonzero()[:1, 0]]]
        return float(self.scale) * torch.cat(picked, dim=-1)[..., 2:7]


@pytest.mark.parametrize("before", [asks_much, asks_for_order, Picks()], ids=["checks", "order", "constants"])
def test_checks_that_only_raise_and_constants_are_no_decisions(before, tmp_path):
    module, x = built(lambda: AroundOne(before=before)), np.abs(vectors()) + 0.1
    quick_export(module, tmp_path / "m.lnn", example=x)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x[:1]))[0].numpy()
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


def test_a_probe_that_raises_decides_nothing():
    """A forward for positive samples alone keeps its constants; one that takes no others at all has none to be seen."""
    scale = torch.tensor(2.0)

    def constant(factor):
        torch.linalg.cholesky(torch.full((3,), factor).diag())
        return float(scale)

    def of_samples(factor):
        torch.linalg.cholesky(torch.full((3,), factor).diag())
        return float(torch.tensor(factor))

    def of_this_sample_alone(factor):
        torch.linalg.cholesky(torch.full((3,), 1.0 - abs(factor - 1.0) * 1e9).diag())
        return float(scale)

    assert list(find_checks(constant).values.values()) == [2.0]
    assert not find_checks(of_samples).values
    assert not find_checks(of_this_sample_alone).values


def returns_by_sign(y):
    if y.mean() > 0:
        return y
    return -y


def halves_until_small(y):
    while y.abs().max() > 0.1:
        y = y / 2
    return y


def catches_its_own(y):
    try:
        if y.mean() > 0:
            raise KeyError
    except KeyError:
        y = -y
    return y


@pytest.mark.parametrize("behind", [returns_by_sign, halves_until_small, catches_its_own])
def test_decisions_that_change_the_result_are_refused_with_their_line(behind, tmp_path):
    match = r"decides on the value of a sample .*test_networks.py, line \d+: `(if|while) y\..*torch.where\(condition"
    with pytest.raises(ValueError, match=match):
        quick_export(built(lambda: AroundOne(behind=behind)), tmp_path / "m.lnn", example=vectors())


def test_a_check_that_fails_on_the_example_is_the_authors_error(tmp_path):
    with pytest.raises(
        ValueError, match=r"own forward failed with ValueError: a length is positive \(test_networks.py"
    ):
        quick_export(built(lambda: AroundOne(before=asks_for_order)), tmp_path / "m.lnn", example=vectors())


@pytest.mark.parametrize("named", ["cuda", "meta"])  # one that this torch has not; another that it has, as a GPU is
@pytest.mark.parametrize("way", ["forward", "step"])
def test_a_device_that_the_code_names_is_told_with_what_to_write(way, named, tmp_path):
    def shifted(x):
        return x - torch.full((5,), 0.5, device=named)

    def one(model, x, state):
        y, state = model.rnn(shifted(x)[:, None], state)
        return y[:, 0], state

    model = built(lambda: AroundOne(before=None if way == "step" else shifted))
    failed = "the step raised" if way == "step" else "own forward failed"
    with pytest.raises(ValueError, match=rf"{failed}.*test_networks.py, line \d+.*device=x.device.*CUDA_VISIBLE"):
        quick_export(model, tmp_path / "m.lnn", example=vectors(), step=one if way == "step" else None)


def test_code_that_no_trace_can_follow_is_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    with pytest.raises(TypeError, match=r"cannot be traced \(test_networks.py, line \d+: .*numpy"):
        quick_export(Branches(lambda x: x.numpy().max() > 1e9), tmp_path / "m.lnn", example=x)


class Dt(nn.Module):
    """A period as a default, as a tensor for every sample."""

    def __init__(self):
        super().__init__()
        self.rnn = CfC(5, 4, backbone_units=8)

    def forward(self, x, dt=0.05):
        return self.rnn(x, None, torch.full(x.shape[:2], dt))[0]


class ColumnUnlessGiven(Dt):
    """Timespans from a column where none are passed; with `cut` the column is no feature."""

    cut = False

    def forward(self, x, timespans=None):
        if timespans is None:
            timespans = x[:, :, -1:]
            if self.cut:
                x = torch.cat([x[:, :, :-1], x[:, :, :1]], -1)
        return self.rnn(x, None, timespans)[0]


class ColumnCutOff(ColumnUnlessGiven):
    cut = True


@pytest.mark.parametrize("make", [Dt, ColumnUnlessGiven, ColumnCutOff])
def test_a_forward_with_a_default_for_time_is_called_as_its_author_calls_it(make, tmp_path):
    """Timespans of 1 in its place would be another model, off by 0.15 and more, that a proof against itself takes."""
    module, x = built(make), vectors()
    x[..., 4] = np.random.default_rng(3).uniform(0.1, 1.5, x.shape[:2])
    names = ["a", "b", "c", "d", lnn_edge.Feature("gap", limits=(0.05, 2.0))]
    quick_export(module, tmp_path / "m.lnn", example=x, inputs=names)
    with torch.no_grad():
        row = torch.from_numpy(x[:1])
        expected, ones = module(row)[0].numpy(), module.rnn(row)[0][0].numpy()
    np.testing.assert_allclose(lnn_edge.load(tmp_path / "m.lnn").stream().run(x[0]), expected, rtol=0, atol=LIMIT)
    assert np.abs(expected - ones).max() > 0.01


def test_an_error_of_the_forward_is_told_with_what_it_was_called_with(tmp_path):
    class Fails(Dt):
        def forward(self, x):
            return self.rnn(x)[0].reshape(-1, 40, 4)

    expected = (
        r"the model's own forward failed with RuntimeError: shape .* \(test_networks.py, line \d+: .*reshape.*\)\. It "
        r"was called with input \[1, \d, 5\] \(batch, time, \.\.\.\).*any number of samples.*step=function"
    )
    with pytest.raises(ValueError, match=expected):
        quick_export(built(Fails), tmp_path / "m.lnn", example=vectors())


def test_whole_numbers_whose_bits_are_combined_are_refused(tmp_path):
    module = built(lambda: AroundOne(behind=lambda y: ((9 * y).int() & 3).float()))
    with pytest.raises(TypeError, match="the model combines the bits of whole numbers; export takes conditions"):
        quick_export(module, tmp_path / "m.lnn", example=vectors())


def test_a_dict_with_the_only_input_is_an_example(tmp_path):
    module, x = built(lambda: AroundOne(behind=torch.tanh)), vectors()
    quick_export(module, tmp_path / "m.lnn", example={"x": x})
    with pytest.raises(ValueError, match=r"`example` is a dict of \['u', 'x'\], but the model takes one input"):
        quick_export(module, tmp_path / "n.lnn", example={"x": x, "u": x})


MIXED = {
    "mean": lambda y: y - y.mean(0, keepdim=True),
    "softmax": lambda y: y.softmax(0),
    "largest": lambda y: y / y.abs().amax(0),
}


@pytest.mark.parametrize("name", MIXED)
def test_a_model_that_mixes_the_rows_of_a_batch_is_refused(name, tmp_path):
    """One row alone is all that is traced; what its author gets for three would be something else."""
    module = built(lambda: AroundOne(behind=MIXED[name]))
    with pytest.raises(ValueError, match=r"the model mixes the rows of a batch.*export with batch=1"):
        quick_export(module, tmp_path / "m.lnn", example=vectors(), batch=3)
    assert list(tmp_path.iterdir()) == []


NO_OUTPUT = {
    "complex": (lambda y: torch.view_as_complex(y.unflatten(-1, (2, 2))), "output 'output' is torch.complex64"),
    "sparse": (lambda y: y.to_sparse(), "output 'output' is torch.sparse_coo"),
    "nothing": (lambda y: y[..., :0], r"output 'output' has shape \[1, 3, 0\]: it holds no number"),
    "no rows": (lambda y: y.squeeze(0), r"has shape \[3, 4\] for one row .* takes the axis of the batch away, squeeze"),
    "text": (lambda _y: "left", r"the model returns \['str'\], expected tensors"),
}


@pytest.mark.parametrize("name", NO_OUTPUT)
def test_what_is_no_output_of_a_step_is_told_as_such(name, tmp_path):
    behind, match = NO_OUTPUT[name]
    with pytest.raises((TypeError, ValueError), match=match):
        quick_export(built(lambda: AroundOne(behind=behind)), tmp_path / "m.lnn", example=vectors())


def test_precision_that_the_forward_lowers_by_itself_is_refused(tmp_path):
    class Lowered(AroundOne):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.rnn(x)[0].float()

    with pytest.raises(TypeError, match=r"under torch\.autocast, and export in float32: leave it"):
        quick_export(built(Lowered), tmp_path / "m.lnn", example=vectors())


ROUNDED = {
    "jump": (
        lambda x: (x * 10).int() / 10,
        r"torch float32 vs .*output jumps where a comparison or a rounding .*\(\w+.py:\d+\), and .*limits",
    ),
    "normalised": (
        lambda x: by_row(x, lambda z: functional.group_norm(z + 3e4, 1)),
        r"torch float32 vs .*float32 itself cannot hold this: .*a normalisation of values that are nearly equal",
    ),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_what_rounding_decides_is_not_called_an_error_of_the_exporter(name, tmp_path):
    before, match = ROUNDED[name]
    with pytest.raises(VerificationError, match=match) as told:
        quick_export(built(lambda: AroundOne(before=before)), tmp_path / "m.lnn", example=np.round(vectors(), 1))
    assert "report" not in str(told.value)
