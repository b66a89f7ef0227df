"""Refusals of export, by name and before any long work; nothing is left behind."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from bundles import manifest_of
from cases import BY_NAME, INPUTS
from exports import SHORT_PROOF, quick_export
from ncps.torch import LTC, CfC, LTCCell
from ncps.wirings import AutoNCP
from torch import nn

import lnn_edge
from lnn_edge.bundle.program_file.checks import MAX_NODES
from lnn_edge.bundle.program_file.weights import MAX_WEIGHTS_BYTES
from lnn_edge.bundle.spec import Tensor, Time
from lnn_edge.errors import ExportWarning, VerificationError
from lnn_edge.export.proof.truth import check_causal
from lnn_edge.export.trained.open import open_module
from lnn_edge.reference.closed_loop import interpreted
from lnn_edge.verify.comparison import compare
from lnn_edge.verify.excitation import excite
from lnn_edge.verify.samples import SampleRequest


def build(name="ltc-autoncp"):
    return BY_NAME[name].build()


def refuse(module, tmp_path, error, match, **options):
    with pytest.raises(error, match=match):
        quick_export(module, tmp_path / "m.lnn", **options)
    assert list(tmp_path.iterdir()) == []


class OwnForward(LTC):
    def forward(self, x, hx=None, timespans=None):
        y, hx = super().forward(x, hx, timespans)
        return torch.tanh(y), hx


class OwnSolver(LTCCell):
    def _ode_solver(self, inputs, state, elapsed_time):
        return state


class TestModules:
    def test_no_core(self, tmp_path):
        refuse(
            nn.Linear(3, 2),
            tmp_path,
            TypeError,
            "expected an ncps.torch LTC or CfC, or a network around some, got torch.nn.*Linear with none inside",
        )

    def test_own_forward(self, tmp_path):
        match = "OwnForward overrides `forward` of ncps, and gives another result than the plain LTC does for one row"
        refuse(OwnForward(INPUTS, 4), tmp_path, TypeError, match)

    def test_own_forward_on_the_instance(self, tmp_path):
        module = build()
        module.rnn_cell.forward = lambda *a: a
        refuse(module, tmp_path, TypeError, "LTCCell overrides `forward`")

    def test_own_solver(self, tmp_path):
        module = LTC(INPUTS, 4)
        module.rnn_cell.__class__ = OwnSolver
        refuse(module, tmp_path, TypeError, "OwnSolver overrides `_ode_solver`")

    def test_plain_subclass_is_fine(self, tmp_path):
        class Named(CfC):
            """Only a name of its own."""

        quick_export(Named(INPUTS, 4, backbone_units=8), tmp_path / "m.lnn")

    def test_hooks(self, tmp_path):
        module = build("cfc-autoncp")
        module.rnn_cell.layer_1.ff1.register_forward_hook(lambda *a: None)
        refuse(module, tmp_path, TypeError, "has forward hooks, which an exported step cannot run")

    def test_parametrised(self, tmp_path):
        module = build("cfc-units")
        nn.utils.parametrizations.orthogonal(module.rnn_cell.ff1)
        refuse(module, tmp_path, TypeError, "is parametrised. Type: torch.nn.utils.parametrize.remove_parametrizations")

    def test_nan_weight(self, tmp_path):
        module = build()
        with torch.no_grad():
            module.rnn_cell.sigma[2, 3] = float("nan")
        refuse(module, tmp_path, ValueError, r"weight 'sigma' holds nan at \[2, 3\]")

    def test_foreign_activation(self, tmp_path):
        module = build("cfc-units")
        module.rnn_cell.backbone[1] = nn.Hardtanh()
        refuse(module, tmp_path, TypeError, "activation Hardtanh.* which this exporter does not know")

    def test_approximate_gelu(self, tmp_path):
        module = build("cfc-units")
        module.rnn_cell.backbone[1] = nn.GELU(approximate="tanh")
        refuse(module, tmp_path, TypeError, "activation GELU")

    def test_foreign_backbone(self, tmp_path):
        module = build("cfc-units")
        module.rnn_cell.backbone.append(nn.Linear(16, 16))
        refuse(module, tmp_path, TypeError, "backbone is not what ncps builds")

    def test_foreign_head(self, tmp_path):
        module = build("cfc-units")
        module.rnn_cell.ff1 = nn.Bilinear(3, 3, 3)
        refuse(module, tmp_path, TypeError, "'ff1' is torch.nn.*Bilinear, expected torch.nn.Linear")

    def test_foreign_positive_function(self, tmp_path):
        module = build()
        module.rnn_cell.make_positive_fn = nn.ReLU()
        refuse(module, tmp_path, TypeError, "make_positive_fn is torch.nn.*ReLU, expected Softplus or Identity")
        module.rnn_cell.make_positive_fn = nn.Softplus(beta=2.0)
        refuse(module, tmp_path, TypeError, "expected Softplus with its default values")

    def test_foreign_mode(self, tmp_path):
        module = build("cfc-units")
        module.rnn_cell.mode = "fast"
        refuse(module, tmp_path, ValueError, "CfCCell.mode is 'fast'")

    def test_memory_cell_with_bias(self, tmp_path):
        module = build("cfc-mixed")
        module.lstm.recurrent_map = nn.Linear(8, 32)
        refuse(module, tmp_path, TypeError, "recurrent_map has a bias, which ncps does not build")

    @pytest.mark.parametrize("how", ["assign", "prune", "parameter"])
    def test_stale_params(self, how, tmp_path):
        """LTCCell computes with `_params`, a dict that some torch features leave behind with the old tensors."""
        module = build()
        cell = module.rnn_cell
        if how == "assign":
            state = {name: value * 1.5 for name, value in module.state_dict().items()}
            module.load_state_dict(state, assign=True)
        elif how == "prune":
            nn.utils.prune.random_unstructured(cell, "w", 0.5)
        else:
            cell.w = nn.Parameter(cell.w.detach() * 2.0)
        refuse(module, tmp_path, (ValueError, TypeError), "stale copy of|has forward hooks")


class Forward(nn.Module):
    """An encoder, a core, and a forward that is handed in."""

    def __init__(self, forward):
        super().__init__()
        self.encoder, self.rnn, self.calls = nn.Linear(INPUTS, 6), CfC(6, AutoNCP(8, 2)), 0
        self.own = forward

    def forward(self, x, hx=None):
        return self.own(self, x, hx)

    def called(self):
        self.calls += 1
        return self.calls


class LastOnly(nn.Module):
    """A single layer with a head of noise: only the output of the last sample is returned."""

    def __init__(self):
        super().__init__()
        self.rnn = LTC(INPUTS, AutoNCP(8, 2), return_sequences=False)

    def forward(self, x):
        y, _ = self.rnn(x)
        return y + 0.1 * torch.randn_like(y)


class TestForwardsThatChangeFromCallToCall:
    EXAMPLE = np.random.default_rng(0).standard_normal((1, 30, INPUTS))

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Forward(lambda m, x, hx: m.rnn(m.encoder(x) + 0.1 * torch.randn(6), hx)),
            lambda: Forward(lambda m, x, hx: m.rnn(nn.functional.dropout(m.encoder(x), 0.3, training=True), hx)),
            lambda: Forward(lambda m, x, hx: m.rnn(torch.bernoulli(torch.sigmoid(m.encoder(x))), hx)),
            lambda: Forward(lambda m, x, hx: m.rnn(m.encoder(x), hx)[0] + 2e-4 * torch.rand(2)),
            LastOnly,
        ],
        ids=["noise", "dropout", "sampling", "little-noise", "last-only"],
    )
    def test_random_numbers(self, make, tmp_path):
        """Nothing about it is bidirectional, and little noise would pass the first comparison."""
        refuse(
            make(),
            tmp_path,
            ValueError,
            r"output 'output' differs by [\d.e-]+ when the model is called again with the same samples: its forward "
            r"draws random numbers in eval mode .*only `if self.training`",
            example=self.EXAMPLE,
        )

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (
                lambda: Forward(lambda m, x, hx: m.rnn(m.encoder(x) * m.called(), hx)),
                "the model keeps `calls` from call to call, and what it computes from sample to sample depends on more",
            ),
            (
                lambda: Forward(
                    lambda m, x, hx: m.rnn(m.encoder(x) + float(np.random.default_rng().standard_normal()), hx)
                ),
                "called again with the same samples: its forward keeps something from call to call, or draws random",
            ),
        ],
        ids=["counter", "numpy"],
    )
    def test_state_of_ones_own(self, make, match, tmp_path):
        refuse(make(), tmp_path, ValueError, match, example=self.EXAMPLE)

    def test_random_numbers_without_effect_are_fine(self, tmp_path):
        module = Forward(lambda m, x, hx: m.rnn(m.encoder(x) + 0.0 * torch.randn(6), hx))
        check_causal(trained(module, self.EXAMPLE), samples(self.EXAMPLE), Time("fixed"))

    def test_what_looks_ahead_is_still_called_that(self, tmp_path):
        module = Forward(lambda m, x, hx: m.rnn(m.encoder(x - x.mean(1, keepdim=True)), hx))
        refuse(module, tmp_path, ValueError, "so each output depends on all samples", example=self.EXAMPLE)


def trained(module, example):
    return open_module(module).trained(1, {"input": [example[0][:, None].astype(np.float32)]})


def samples(example):
    tensor = Tensor("input", (1, INPUTS))
    recorded = {"input": [example[0][:, None].astype(np.float32)]}
    return excite(SampleRequest([tensor], Time("fixed"), 1000, recorded))


class ManyNodes(nn.Module):
    """A forward that loops over its features, as hand-written heads do."""

    def __init__(self, turns):
        super().__init__()
        self.turns, self.rnn = turns, CfC(2, 4)

    def forward(self, x):
        y, _ = self.rnn(x)
        for _ in range(self.turns):
            y = torch.tanh(y)
        return y


class ManyWeights(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.wide, self.rnn = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 3)), CfC(3, 4)

    def forward(self, x):
        return self.rnn(self.wide(x))[0]


class TestSizes:
    """Told before the proof begins."""

    def test_more_nodes_than_a_bundle_holds(self, tmp_path):
        match = "step of this model does not fit into a bundle: it has 401 nodes, more than the 400 that a program"
        refuse(ManyNodes(MAX_NODES), tmp_path, ValueError, match, example=np.zeros((1, 8, 2), np.float32))

    def test_more_weights_than_a_bundle_holds(self, tmp_path):
        width = MAX_WEIGHTS_BYTES // 8 // 6 + 1
        match = r"does not fit into a bundle: it has \d+ bytes of weights, more than the 67108864 that a program"
        refuse(ManyWeights(width), tmp_path, ValueError, match, example=np.zeros((1, 8, 2), np.float32))


class TestValuesThatOverflow:
    def test_a_state_that_grows_is_told_without_warnings(self, tmp_path):
        """It is finite over the first samples, and beyond float64 later. pytest makes every warning an error."""
        module = LTC(INPUTS, 6, implicit_param_constraints=False)
        with torch.no_grad():
            module.rnn_cell.cm.fill_(0.5)
            module.rnn_cell.gleak.fill_(-1.0)
            module.rnn_cell.w.fill_(0.1)
            module.rnn_cell.sensory_w.fill_(0.1)
        match = r"'output' of the model is -?(inf|nan) at step \d+ of the random inputs \(made up by export\). Torch"
        with pytest.raises(VerificationError, match=match):
            quick_export(module, tmp_path / "m.lnn", steps=400)  # it grows by e^2 a step: float64 ends at step 355
        assert list(tmp_path.iterdir()) == []

    def test_a_reference_that_overflows_is_unequal_without_warnings(self, tmp_path, monkeypatch):
        """Where float32 rounds a denominator away from zero, float64 may divide by it."""

        def overflowing(program, samples, progress):
            results = interpreted(program, samples, progress)
            with np.errstate(all="ignore"):
                return results | {"h_out": results["h_out"] * 1e308 / np.zeros(1)}

        monkeypatch.setattr("lnn_edge.export.proof.truth.interpreted", overflowing)
        refuse(build(), tmp_path, VerificationError, "h_out on .* inputs: torch float32 vs float64 differ by inf")

    @pytest.mark.parametrize("got", [np.inf, np.nan, 1e300, -1.7e308, 0.0])
    @pytest.mark.parametrize("expected", [np.inf, np.nan, 1e300, 1.7e308, 1e-300, 0.0])
    def test_comparison_of_any_values(self, got, expected):
        found = compare("h", "a vs b", "random", np.full((4, 1), got), np.full((4, 1), expected))
        with np.errstate(all="ignore"):
            near = np.abs(np.float64(got) - np.float64(expected)) <= found.limit
        assert found.passed == bool(near and np.isfinite([got, expected]).all())


class TestTrapsThatAreHandled:
    """ncps lets these pass; the export reads the tensors that are really computed with."""

    def exported(self, module, tmp_path):
        report = quick_export(module, tmp_path / "m.lnn")
        assert report.max_abs_error <= 1e-5

    def test_drifted_masks(self, tmp_path):
        """`requires_grad_(True)` on all parameters lets training move the masks off 0 and 1."""
        module = build()
        with torch.no_grad():
            module.rnn_cell.sparsity_mask.add_(0.01 * torch.randn_like(module.rnn_cell.sparsity_mask))
        with pytest.warns(ExportWarning, match="entries in the sparsity masks of 'rnn_cell' are neither 0 nor 1"):
            self.exported(module, tmp_path)

    def test_checkpoint_of_another_wiring(self, tmp_path):
        """load_state_dict overrides the masks, so the wiring object is wrong afterwards (ncps issue 45)."""
        module, other = LTC(INPUTS, AutoNCP(12, 2, seed=1)), LTC(INPUTS, AutoNCP(12, 2, seed=2))
        module.load_state_dict(other.state_dict())
        self.exported(module, tmp_path)
        core = lnn_edge.load(tmp_path / "m.lnn").manifest.cores[0]
        assert core.synapses == int(other.rnn_cell.sparsity_mask.sum())

    def test_wiring_built_twice(self, tmp_path):
        wiring = AutoNCP(12, 2)
        first, second = LTC(INPUTS, wiring), LTC(INPUTS, wiring)
        self.exported(first, tmp_path)
        quick_export(second, tmp_path / "m.lnn", overwrite=True)

    def test_train_mode_is_left_alone(self, tmp_path):
        module = build("cfc-backbone-2").train()
        self.exported(module, tmp_path)
        assert module.training

    def test_module_is_not_changed(self, tmp_path):
        module = build("ltc-last-step")
        before = {name: value.clone() for name, value in module.state_dict().items()}
        self.exported(module, tmp_path)
        assert module.return_sequences is False
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])

    def test_no_recurrent_synapse_at_all(self, tmp_path):
        module = build()
        with torch.no_grad():
            module.rnn_cell.sparsity_mask.zero_()
        self.exported(module, tmp_path)

    def test_no_sensory_synapse_at_all(self, tmp_path):
        """Then the step does not depend on its input, and nothing is wrong with that."""
        module = build()
        with torch.no_grad():
            module.rnn_cell.sensory_sparsity_mask.zero_()
        self.exported(module, tmp_path)


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "place"),
        [
            ({"inputs": ["a", "b", lnn_edge.Feature("c", "m\ts"), "d", "e"]}, r"inputs\[0\]\.features\[2\]\.unit"),
            ({"inputs": ["a\x1b[2J", "b", "c", "d", "e"]}, r"inputs\[0\]\.features\[0\]\.name"),
            ({"labels": ["walk", "sit\nstand", "run"]}, r"labels\[1\]|outputs\[0\]\.features\[1\]\.name"),
        ],
    )
    def test_control_characters(self, tmp_path, options, place):
        refuse(build(), tmp_path, ValueError, f"`{place}` holds a control character", **options)

    def test_a_command_of_several_lines_is_kept_on_one(self, tmp_path, monkeypatch):
        importlib.import_module("lnn_edge.cli.program")  # as that command does
        monkeypatch.setattr("sys.argv", ["lnn-edge", "first\nsecond", "third"])
        quick_export(build(), tmp_path / "m.lnn")
        assert manifest_of(tmp_path / "m.lnn").provenance.command == "lnn-edge 'first second' third"

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"time": "mesured"}, ValueError, r"`time` is 'mesured'. .*Did you mean 'measured'"),
            ({"time": "measured"}, ValueError, "time='measured' needs `period_s`"),
            ({"period_s": 0.0}, ValueError, "`period_s` is 0.0, expected a number above 0"),
            ({"timespan": float("nan")}, ValueError, "`timespan` is nan"),
            ({"dt_range_s": (0.1, 1.0)}, ValueError, "`dt_range_s` has a meaning only with time='measured'"),
            (
                {"time": "measured", "period_s": 1.0, "dt_range_s": (2.0, 3.0)},
                ValueError,
                r"`dt_range_s` is \(2.0, 3.0\)",
            ),
            ({"batch": 0}, ValueError, "`batch` is 0"),
            ({"batch": True}, ValueError, "`batch` is True"),
            ({"steps": 10}, ValueError, "`steps` is 10, expected at least 1000"),
            ({"inputs": ["a", "b"]}, ValueError, r"`inputs` names \['a', 'b'\], expected 5 different names"),
            ({"inputs": ["a", "a", "b", "c", "d"]}, ValueError, "expected 5 different names"),
            ({"inputs": "abcde"}, TypeError, "`inputs` is 'abcde', expected a list of names or lnn_edge.Feature"),
            ({"outputs": [1, 2, 3]}, TypeError, "`outputs` is"),
            ({"outputs": ["a", "b", " c"]}, ValueError, "has the name ' c', expected a name without spaces"),
            (
                {"example": np.zeros((10, 3))},
                ValueError,
                r"`example` has shape \(10, 3\), but the model takes 5 features",
            ),
            ({"example": np.zeros(5)}, ValueError, "`example` has shape"),
            ({"example": np.zeros((0, 5))}, ValueError, "it holds no sample"),
            ({"example": np.full((3, 5), np.nan)}, ValueError, r"`example` holds NaN or infinity, first at \[0, 0\]"),
            ({"example": np.array([["a"] * 5])}, TypeError, "`example` has dtype <U1"),
            ({"example": [np.zeros((3, 5)), np.zeros((3, 4))]}, ValueError, r"`example\[1\]` has shape \(3, 4\)"),
            (
                {
                    "example": np.full((9, 5), 2.0),
                    "inputs": [lnn_edge.Feature(f"i{k}", limits=(-1, 1)) for k in range(5)],
                },
                ValueError,
                "the example has values from 2 to 2 in 'i0', outside its limits",
            ),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_bad_argument(self, options, error, match, tmp_path):
        with pytest.raises(error, match=match):
            lnn_edge.export_model(build(), tmp_path / "m.lnn", **options)
        assert list(tmp_path.iterdir()) == []

    def test_example_of_recordings(self, tmp_path):
        """Recordings of different lengths: the ranges seen go into the manifest."""
        rng = np.random.default_rng(0)
        example = [rng.uniform(-2, 3, (length, INPUTS)) for length in (30, 50)]
        quick_export(build(), tmp_path / "m.lnn", example=example)
        whole = np.concatenate(example).astype(np.float32)
        features = lnn_edge.load(tmp_path / "m.lnn").inputs[0].features
        np.testing.assert_allclose([f.range for f in features], np.stack([whole.min(0), whole.max(0)], axis=1))

    def test_time_first_example(self, tmp_path):
        example = np.random.default_rng(0).standard_normal((40, 3, INPUTS))  # (time, recordings, features)
        report = quick_export(build("cfc-time-first"), tmp_path / "m.lnn", example=example)
        assert ("recorded", SHORT_PROOF.least) in [(s.name, s.steps) for s in report.segments]

    def test_time_among_the_inputs(self, tmp_path):
        """A forward that calls its time by a name of its own, with another number of times than of samples."""

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.rnn = CfC(INPUTS, 4)

            def forward(self, x, gaps):
                return self.rnn(x, timespans=gaps)

        refuse(
            Net(),
            tmp_path,
            ValueError,
            r"lengths per input: \{'x': \[50\], 'gaps': \[1\]\}, expected \(batch, time, ...\) each. If one of "
            r"them is the time between samples, call it one of `timespans`, .*`ts` in the forward: export then",
            example={"x": np.zeros((1, 50, INPUTS)), "gaps": np.ones((1, 1, 49))},
        )
