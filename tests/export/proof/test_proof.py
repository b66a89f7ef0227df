"""Proofs as they are made and told: every backend, ONNX's own evaluator, long runs, and the tables that show it."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from bundles import INPUTS, ROOT, manifest_of, resign, small_cfc, small_ltc
from cases import BY_NAME
from exports import SHARED_PROOF, SHORT_PROOF, quick_export
from old_files import FIXTURES
from onnx import numpy_helper
from second_backend import DRIFT_AFTER, Drifting, Second, Unavailable, put_into_the_table, row

import lnn_edge
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.golden import golden_from_bundle
from lnn_edge.bundle.spec import Time
from lnn_edge.cli.program import main
from lnn_edge.cli.proof_text import _margin, proof_text
from lnn_edge.errors import VerificationError
from lnn_edge.export.proof.onnx_reference import open_evaluator
from lnn_edge.export.proof.truth import truth_from_model
from lnn_edge.export.trained.open import open_module
from lnn_edge.export.verify_against import verify_against
from lnn_edge.reference.closed_loop import interpreted
from lnn_edge.reference.interpreter import Interpreter
from lnn_edge.runtime.verify_golden import verify_golden
from lnn_edge.verify.comparison import compare
from lnn_edge.verify.excitation import DT_REGIMES, excite, steps_of_each
from lnn_edge.verify.samples import SampleRequest
from lnn_edge.verify.tolerance import versus

TRAIN = "import sys\nsys.path.insert(0, {tests!r})\nfrom bundles import small_cfc, small_ltc, chaotic_cfc\n"


def silent(_phase, _done, _total):
    pass


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The report of a full proof, and its bundle at `report.path`: to read, not to change."""
    return lnn_edge.export_model(small_cfc(), tmp_path_factory.mktemp("exported") / "gait.lnn", steps=1000)


@pytest.fixture
def call(capfd):
    def run(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """A working directory with a script that builds the models of the bundles."""
    (tmp_path / "source_of_tests.py").write_text(TRAIN.format(tests=str(ROOT / "tests" / "support")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("source_of_tests", None)


class TestTheGraphOnItsOwn:
    """ONNX's own evaluator, in every export in half precision; its figures are in `test_float16.py`."""

    def test_is_no_part_of_a_proof_in_float32(self, exported):
        """It computes GatherElements wrongly beyond some 64 columns; the step program judges instead."""
        assert not [c for c in exported.comparisons if c.subject == "onnx.reference"]

    def test_error_in_the_graph_that_only_it_sees(self, tmp_path, monkeypatch):
        """As if onnxruntime optimised an error away: the evaluator gets the graph with a weight matrix negated."""
        load = onnx.load_from_string

        def changed(data):
            graph = load(data)
            weight = max(graph.graph.initializer, key=lambda i: np.prod(i.dims))
            values = -numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
            return graph

        monkeypatch.setattr(onnx, "load_from_string", changed)
        with pytest.raises(VerificationError, match=r"inputs: onnx\.reference vs .* differ by") as caught:
            quick_export(small_cfc(), tmp_path / "gait.lnn", precision="float16")
        failed = {c.subject for c in caught.value.report.comparisons if not c.passed}
        assert failed == {"onnx.reference"}
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["ltc-mixed", "cfc-proj-autoncp"])
    def test_steps_like_the_runtime(self, name, tmp_path):
        """Resets, snapshots and measured time go through the same streams."""
        path = tmp_path / "m.lnn"
        quick_export(BY_NAME[name].build(), path, time="measured", period_s=0.1, batch=2)
        bundle = read_bundle(path)
        golden = golden_from_bundle(bundle)
        mine, theirs = open_evaluator(bundle).stream(), lnn_edge.load(path).stream()
        for k in range(golden.steps):
            if k == golden.steps // 2:
                mine.reset()
                theirs.reset()
            sample = {"dt_s": golden.inputs["dt"][k]}
            a, b = mine.step(golden.inputs["input"][k], **sample), theirs.step(golden.inputs["input"][k], **sample)
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
        for state, value in theirs.snapshot().tensors.items():
            np.testing.assert_allclose(mine.snapshot().tensors[state], value, rtol=0, atol=1e-5)

    def test_result_that_overflows_leaves_the_state(self, cfc_bundle):
        stream = open_evaluator(read_bundle(cfc_bundle)).stream()
        stream.step(np.ones(3, np.float32))
        before = stream.snapshot().tensors["h_in"]
        stepper = stream._mode.stepper
        stepper.sample["input"][...] = np.nan
        assert stepper.run(1) is False
        assert np.isnan(stepper.places[0]["h_out"]).any()
        np.testing.assert_array_equal(stream.snapshot().tensors["h_in"], before)


class TestEveryBackend:
    """A second backend joins by its row in the table."""

    def test_export_proves_with_each(self, tmp_path, monkeypatch):
        put_into_the_table(monkeypatch, row(Second), row(Unavailable), row(Drifting, ("surely_not_installed",)))
        monkeypatch.setattr("second_backend.Drifting.__init__", None)  # its module is missing: must not be built
        report = quick_export(small_cfc(), tmp_path / "gait.lnn")
        assert [text.partition(" ")[0] for text in report.backends] == ["onnxruntime", "second"]
        for name in ("onnxruntime", "second"):
            assert {f"{name} vs torch float32", f"{name} vs float64"} <= {c.against for c in report.comparisons}
        assert "second vs torch float32" in read_bundle(tmp_path / "gait.lnn").manifest.verification.max_abs_error

    def test_one_that_drifts_ends_the_export(self, tmp_path, monkeypatch):
        put_into_the_table(monkeypatch, row(Drifting))
        monkeypatch.setattr("second_backend.DRIFT_AFTER", SHORT_PROOF.least // 2)
        with pytest.raises(VerificationError, match=r"output on .* inputs: drifting vs .* differ by"):
            quick_export(small_cfc(), tmp_path / "gait.lnn")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.usefixtures("compiler")
    def test_export_proves_the_step_as_c(self, tmp_path):
        report = quick_export(small_cfc(), tmp_path / "gait.lnn")
        assert [text.partition(" ")[0] for text in report.backends] == ["onnxruntime", "C"]
        assert {"native vs torch float32", "native vs float64"} <= {c.against for c in report.comparisons}
        assert not report.not_run.keys() & {"onnxruntime", "native", "tensorrt", "tensorrt-rtx"}
        assert "native vs torch float32" in read_bundle(tmp_path / "gait.lnn").manifest.verification.max_abs_error

    def test_without_a_compiler_it_stands_and_says_so(self, call, work, short_commands):
        """As wherever tests do not ask for one."""
        code, out, _ = call("export", "source_of_tests.py:small_cfc", "gait.lnn", "--json", "r.json")
        assert code == 0
        reason = json.loads(Path("r.json").read_text())["not_run"]["native"]
        assert f"not run: native: {reason}" in re.sub(r"\n  ", " ", out)
        assert reason.startswith("CC is 'no-compiler-for-this-test', and there is no program")

    def test_that_are_named_and_no_other(self, call, work, monkeypatch, short_commands):
        put_into_the_table(monkeypatch, row(Second))
        report = quick_export(small_cfc(), work / "a.lnn", backends=("onnxruntime",))
        assert (len(report.backends), report.not_run) == (1, {})
        code, _, _ = call("export", "source_of_tests.py:small_cfc", "b.lnn", "--backends", "second, onnxruntime")
        assert code == 0
        errors = read_bundle(work / "b.lnn").manifest.verification.max_abs_error
        assert [name for name in errors if name.endswith("vs float64")][-2:] == [
            "second vs float64",
            "onnxruntime vs float64",
        ]

    def test_one_that_is_named_and_cannot_run_it(self, call, work, short_commands):
        code, _, err = call("export", "source_of_tests.py:small_cfc", "gait.lnn", "--backends", "native")
        assert code == 5
        assert "CC is 'no-compiler-for-this-test'" in err
        assert not Path("gait.lnn").exists()
        code, _, err = call("export", "source_of_tests.py:small_cfc", "gait.lnn", "--backends", "nativ")
        assert (code, "Did you mean 'native'?" in err) == (2, True)

    def test_verify_takes_all_by_default(self, call, cfc_bundle, monkeypatch):
        put_into_the_table(monkeypatch, row(Second))
        code, out, _ = call("verify", cfc_bundle, "--verbose")
        assert code == 0
        assert re.search(r"^second vs torch float32, \d+ steps$", out, re.M)
        assert ", second backend" in out.splitlines()[-1]
        assert re.search(r"^ output .* golden samples, (onnxruntime|second)$", out, re.M)

    def test_verify_takes_one(self, call, cfc_bundle, monkeypatch):
        put_into_the_table(monkeypatch, row(Second))
        code, out, _ = call("verify", cfc_bundle, "--backend", "second")
        assert (code, "onnxruntime" in out) == (0, False)

    def test_none_that_is_ready(self, call, cfc_bundle, monkeypatch):
        for place in ("lnn_edge.backends.BACKENDS", "lnn_edge.runtime.loading.BACKENDS"):
            monkeypatch.setattr(place, (row(Second, ("surely_not_installed",)),))
        code, _, err = call("verify", cfc_bundle)
        assert code == 5
        assert "no backend is ready on this machine" in err

    def test_all_is_for_proofs_alone(self, call, cfc_bundle):
        code, _, err = call("run", cfc_bundle, "--backend", "all")
        assert code == 2
        assert "unknown backend 'all'. Valid: auto, tensorrt, tensorrt-rtx, onnxruntime" in err


class TestLongRuns:
    def test_golden_sequences_of_an_old_bundle_again_and_again(self, call):
        """Schema 1 holds no step program that would know further samples."""
        code, out, _ = call("verify", FIXTURES / "bundles" / "measured.lnn", "--steps", 5000, "--verbose")
        assert code == 0
        assert re.search(
            r"^onnxruntime repeated vs its first pass, 3,980 steps\n\n.*\n.*\n output +repeated +0.0e\+00", out, re.M
        )
        assert "equal over 5,000 closed-loop steps" in out.splitlines()[-1]

    @pytest.mark.parametrize("unroll", [1, 3])
    def test_samples_that_only_the_program_knows(self, unroll, call, tmp_path):
        """The golden sequences, and then as many steps as are asked for, each of them judged."""
        path = tmp_path / "m.lnn"
        quick_export(small_ltc(), path, time="measured", period_s=0.1, batch=2, unroll=unroll)
        code, out, _ = call("verify", path, "--steps", 901, "--json", tmp_path / "v.json")
        assert code == 0, out
        report = json.loads((tmp_path / "v.json").read_text())
        golden = golden_from_bundle(read_bundle(path)).steps
        total = -(-901 // unroll) * unroll
        assert report["steps"] == sum(s["steps"] for s in report["segments"]) == total
        assert [s["name"] for s in report["segments"]] == ["golden", "random", "constant", "step", "extreme"]
        for reference, steps in (("torch float32", golden), ("float64", total)):
            rows = [c for c in report["comparisons"] if c["against"] == f"onnxruntime vs {reference}"]
            assert sum(c["steps"] for c in rows if c["tensor"] == "output") == steps
        assert f"at all {total:,}; torch's own error" in out

    def test_a_backend_that_is_wrong_beyond_the_golden_samples(self, call, cfc_bundle, monkeypatch):
        """No golden sample is judged by the program, and no later one by torch."""
        monkeypatch.setattr("lnn_edge.runtime.verify_golden.interpreted", _shifted)
        code, out, _ = call("verify", cfc_bundle, "--steps", 2000, "--json", "-")
        failed = [c for c in json.loads(out)["comparisons"] if c["first_over"] is not None]
        assert code == 3
        assert {(c["segment"], c["against"]) for c in failed if c["segment"] != "golden"} == {
            (segment, "onnxruntime vs float64") for segment in ("random", "constant", "step", "extreme")
        }
        # and a program that is not the one that was proven
        assert {c["against"] for c in failed if c["segment"] == "golden"} == {"step program vs its proof"}

    def test_drift_of_a_stream_that_lives_long(self, call, cfc_bundle, monkeypatch):
        """The golden sequences alone are too short to see it."""
        put_into_the_table(monkeypatch, row(Drifting))
        assert call("verify", cfc_bundle, "--backend", "drifting")[0] == 0
        code, out, _ = call("verify", cfc_bundle, "--backend", "drifting", "--steps", 4000, "--json", "-")
        assert code == 3
        golden = golden_from_bundle(read_bundle(cfc_bundle)).steps
        rows = [c for c in json.loads(out)["comparisons"] if (c["tensor"], c["segment"]) == ("output", "random")]
        assert [c["first_over"] for c in rows] == [DRIFT_AFTER - golden]

    def test_golden_steps_below_one_pass(self, call, cfc_bundle):
        code, _, err = call("verify", cfc_bundle, "--steps", 10)
        assert code == 2
        assert "--steps is 10, but the golden sequences of" in err

    def test_as_many_steps_as_are_asked_for_against_the_model(self, tmp_path):
        phases, model = {}, BY_NAME["cfc-pure"].build()
        quick_export(model, tmp_path / "m.lnn")

        def progress(phase, done, total):
            assert 0 <= done < total
            phases.setdefault(phase, []).append(done)

        report = verify_against(model, tmp_path / "m.lnn", steps=2000, progress=progress)
        assert report.passed
        assert report.steps == 2002  # in all, as without the model; 2000 of the random samples alone were 3500
        assert list(phases) == [
            "step program, float64",
            "step program, float32",
            "torch, whole sequences",
            "torch, stepped",
            "onnxruntime, closed loop",
        ]
        assert all(done == sorted(set(done)) for done in phases.values())
        assert len(phases["onnxruntime, closed loop"]) > 20

    @pytest.mark.parametrize("recorded", [False, True])
    @pytest.mark.parametrize("steps", [1750, 2000, 2750, 10_000, 10_001])
    def test_steps_are_of_all_samples_together(self, steps, recorded):
        layer, time = open_module(small_ltc()).trained(1, None), Time("fixed", 0.1)
        rows = {"input": [np.zeros((50, 1, 3))]} if recorded else None
        samples = excite(SampleRequest(layer.inputs, time, steps_of_each(steps, recorded), rows))
        assert steps <= samples.steps <= steps + 3  # the other kinds are a quarter of the random one each

    def test_segment_by_segment_is_what_it_is_at_once(self):
        """Progress is told between segments; the truth must not know."""
        layer, time = open_module(small_ltc()).trained(2, None), Time("measured", 0.1, 1.0, (0.01, 1.0))
        recorded = {"input": [np.random.default_rng(k).standard_normal((10 + k, 2, 3)) for k in range(3)]}
        samples = excite(SampleRequest(layer.inputs, time, 40, recorded))  # all recordings, and the first again
        program = layer.program(time)
        truth = truth_from_model(layer, program, samples, time, silent)
        steps, values = layer.whole(samples, time)["output"]
        np.testing.assert_array_equal(truth.whole["output"][0], steps)
        np.testing.assert_array_equal(truth.whole["output"][1], values)
        at_once = layer.stepped(samples, time), interpreted(Interpreter(program), samples)
        for mine, once in zip((truth.stepped, truth.float64), at_once, strict=True):
            for name, expected in once.items():
                np.testing.assert_array_equal(mine[name], expected)


def _shifted(program, samples, progress=None):
    results = interpreted(program, samples, progress)
    return results | {"output": results["output"] + 1e-3}


class TestAgainstWithAnExample:
    @pytest.fixture
    def recordings(self, work):
        xs = np.random.default_rng(5).standard_normal((10, 3))
        with open("x.csv", "w", newline="") as file:
            csv.writer(file).writerows([["who", *INPUTS], *([k // 5, *x] for k, x in enumerate(xs))])
        np.save("x.npy", xs)
        return work

    def test_recorded_samples_come_first(self, call, recordings, cfc_bundle, short_commands):
        """Sequence by sequence, again and again until there are enough."""
        example = ["--example", "x.csv", "--reset-column", "who"]
        code, out, _ = call(
            "verify", cfc_bundle, "--against", "source_of_tests.py:small_cfc", *example, "--json", "v.json"
        )
        assert code == 0, out
        first = json.loads(Path("v.json").read_text())["segments"][0]
        sequences = -(-SHARED_PROOF.least // 5)
        assert (first["name"], first["steps"], first["sequences"]) == ("recorded", SHARED_PROOF.least, sequences)

    def test_recorded_samples_in_an_array_come_first(self, call, recordings, cfc_bundle, short_commands):
        np.save("x.npy", np.load("x.npy")[:5])
        arguments = ["--against", "source_of_tests.py:small_cfc", "--example", "x.npy"]
        code, out, _ = call("verify", cfc_bundle, *arguments, "--json", "v.json")
        assert code == 0, out
        first = json.loads(Path("v.json").read_text())["segments"][0]
        assert (first["name"], first["sequences"]) == ("recorded", -(-SHARED_PROOF.least // 5))

    def test_example_of_other_columns(self, call, recordings, ltc_bundle):
        Path("y.csv").write_text("a,b\n1,2\n")
        code, _, err = call("verify", ltc_bundle, "--against", "source_of_tests.py:small_ltc", "--example", "y.csv")
        assert code == 2
        assert "'y.csv' has no columns 'acc_x', 'acc_y', 'gyro_z'. Valid: a, b" in err

    def test_bundle_with_another_name_for_its_input(self, cfc_copy):
        (tensor,) = manifest_of(cfc_copy).inputs
        program = cfc_copy / "step.json"
        program.write_text(program.read_text().replace('"input"', '"imu"').replace('"imu":', '"input":'))
        resign(cfc_copy, inputs=(msgspec.structs.replace(tensor, name="imu"),))
        with pytest.raises(
            ValueError, match=r"the model takes the inputs \['input'\], but bundle 'gait' takes \['imu'\]"
        ):
            verify_against(small_cfc(), cfc_copy, example=np.zeros((50, 3)), progress=silent)

    def test_example_beyond_the_limits_of_a_column(self, call, recordings, cfc_bundle):
        np.save("y.npy", np.full((50, 3), 9.0))
        code, _, err = call("verify", cfc_bundle, "--against", "source_of_tests.py:small_cfc", "--example", "y.npy")
        assert code == 2
        assert "the example has values from 9 to 9 in 'gyro_z', outside its limits [-8.0, 8.0]" in err

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--example", "x.npy"], "--example has a meaning only with --against FILE.py:FACTORY"),
            (["--reset-column", "who"], "--reset-column has a meaning only with --against"),
            (["--weights", "w.pt"], "--weights has a meaning only with --against"),
            (["--trust-pickle"], "--trust-pickle has a meaning only with --against"),
            (["--against", "a.py:b", "--reset-column", "who"], "--reset-column belongs to --example FILE.csv"),
        ],
    )
    def test_options_that_do_not_go_together(self, call, cfc_bundle, arguments, expected):
        code, _, err = call("verify", cfc_bundle, *arguments)
        assert code == 2
        assert expected in err


class TestTheReport:
    def test_json_holds_all_figures_and_no_timeline(self, exported):
        report = exported.to_dict()
        assert "timeline" not in report
        keys = set(report["comparisons"][0])
        assert keys >= {"max_abs", "max_rel", "max_ulp", "quantiles", "growth", "limit", "first_over", "own"}
        assert len(json.dumps(report)) < 40_000
        stored = json.loads(read_bundle(exported.path).files["report.json"])
        assert stored["comparisons"] == json.loads(json.dumps(report))["comparisons"]

    def test_own_error_is_the_one_of_torch(self, exported):
        own = {(c.tensor, c.segment): c.max_abs for c in exported.comparisons if c.subject == "torch float32"}
        mine = [c for c in exported.comparisons if c.subject == "onnxruntime"]
        assert {(c.tensor, c.segment): c.own for c in mine} == own

    @pytest.mark.parametrize("verbose", [False, True])
    def test_tables_fit_in_100_columns(self, exported, verbose):
        assert max(map(len, proof_text(exported, verbose).splitlines())) <= 100

    def test_verdict_comes_first_and_a_row_per_tensor_follows(self, exported):
        lines = proof_text(exported, False).splitlines()
        assert lines[0].startswith("equal: outputs and states within ")
        assert [line.split()[0] for line in lines if re.match(r" (output|h_out) ", line)] == ["output", "h_out"]
        samples = next(place for place, line in enumerate(lines) if line.startswith("samples: "))
        assert lines[samples : samples + 2] == [
            "samples: 1,000 random, 250 constant, 250 step, 250 extreme",
            "4 sequences, each from a reset",
        ]
        assert len(lines) < 20

    def test_a_row_speaks_to_its_reader(self, exported):
        """The error, what is allowed and how far it is from that; what only its authors read is behind --verbose."""
        text = proof_text(exported, False)
        assert re.search(r"^ h_out +\d\.\de-\d\d +1\.\de-05 +[\d.,]+ times below +\w+ samples$", text, re.M)
        assert "largest error: of the bundle beside torch float32, at any step\n" in text
        assert "allowed: 1e-5 of the tensor's size, at least of 1; more only where torch rounds as coarsely" in text
        assert not re.search("ULP|p50|growth [^a]|over at", text)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (0.0, "no error"),
            (1.2e-6, "8.3 times below"),
            (1e-9, "10,000 times below"),
            (1e-13, "1e+08 times below"),
            (3e-4, "30 times above, from step 3"),
            (np.inf, "not finite, from step 3"),
        ],
    )
    def test_margin_in_words(self, error, expected):
        got = np.zeros((9, 1))
        got[3] = error
        compared = compare("y", versus("some", "torch float32"), "random", got, np.zeros((9, 1)))
        assert _margin(compared) == expected

    def test_verbose_shows_every_comparison(self, exported):
        text = proof_text(exported, True)
        rows = re.findall(r"^ (?:output|h_out) +(?:random|constant|step|extreme) +\d", text, re.M)
        assert len(rows) == len(exported.comparisons)
        assert "torch float32 vs step program, 1,750 steps" in text

    def test_dt_regimes_by_name(self, tmp_path):
        options = {"time": "measured", "period_s": 0.1, "dt_range_s": (0.05, 2.0), "steps": 100}
        report = quick_export(small_ltc(), tmp_path / "m.lnn", example=np.zeros((50, 3)), **options)
        assert {s.name: s.dt_regime for s in report.segments} | {"windows": DT_REGIMES["windows"]} == DT_REGIMES
        seen = {s.name: s.dt_range_s for s in report.segments}
        assert seen["constant"] == pytest.approx((0.1, 0.1))
        assert seen["extreme"] == pytest.approx((0.05, 2.0))
        assert 0.08 <= seen["recorded"][0] < 0.09 < 0.11 < seen["recorded"][1] <= 0.12 * (1 + 1e-6)
        text = proof_text(report, False)
        assert re.search(r"^ extreme +25 +1 +0.05 to 2 +the shortest and the longest legal$", text, re.M)
        assert re.search(r"^ constant +25 +1 +0.1 +the period exactly$", text, re.M)

    def test_failed_export_is_told_in_full(self, call, work):
        arguments = ["source_of_tests.py:chaotic_cfc", "c.lnn", "--steps", 1000]
        code, out, err = call("export", *arguments, "--json", "report.json")
        assert (code, out) == (3, "")
        assert "NOT equal: " in err
        assert re.search(r"^ output .* times above, from step \d+ .*(random|extreme|step|constant) samples$", err, re.M)
        assert err.splitlines()[-1].startswith("lnn-edge: the exported step does not equal the trained model")
        assert json.loads(Path("report.json").read_text())["passed"] is False
        assert not Path("c.lnn").exists()

    def test_self_test_has_no_report(self):
        assert VerificationError("no").report is None

    def test_golden_report_names_the_regime(self, ltc_bundle):
        (segment,) = verify_golden(ltc_bundle, progress=silent).segments
        assert (segment.name, segment.dt_regime) == ("golden", "as in the proof of the export")
        low, high = lnn_edge.load(ltc_bundle).time.dt_range_s
        assert segment.dt_range_s == pytest.approx((low, high))
