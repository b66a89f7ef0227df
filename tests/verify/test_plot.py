"""The picture of a proof: what is in it, in which form, and what happens when it cannot be drawn."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bundles import chaotic_cfc, small_cfc
from exports import quick_export, short_verifications
from ncps.torch import CfC
from torch import nn

from lnn_edge.cli.program import main
from lnn_edge.cli.proof_text import proof_text
from lnn_edge.errors import VerificationError
from lnn_edge.export.verify_against import verify_against
from lnn_edge.runtime.proof import _signals
from lnn_edge.runtime.verify_golden import verify_golden
from lnn_edge.verify import plot
from lnn_edge.verify.comparison import compare
from lnn_edge.verify.report import Curve, ExportReport, Segment, Signal, Timeline
from lnn_edge.verify.tolerance import EXACT, TORCH, versus


def report_of(errors, *, steps=1000, dt_s=None, period_s=0.1) -> ExportReport:
    """A report from errors of one backend by tensor, (steps,) each; torch's own error is a tenth of it."""
    exact = np.zeros((steps, 1))
    halves = (Segment("first", 0, steps // 2, 1), Segment("second", steps // 2, steps - steps // 2, 1))
    comparisons, curves = [], []
    for tensor, error in errors.items():
        curves += [Curve(tensor, TORCH, np.float32(error) / 10), Curve(tensor, "some", np.float32(error))]
        for s in halves:
            part = slice(s.start, s.start + s.steps)
            got = (exact[:, 0] + error)[part, None]
            comparisons += [
                compare(tensor, versus("some", reference), s.name, got, exact[part]) for reference in (TORCH, EXACT)
            ]
    reset = np.zeros(steps, np.uint8)
    reset[[0, steps // 2]] = 1
    timeline = Timeline(tuple(curves), reset, dt_s, period_s)
    return ExportReport(
        Path("made.lnn"), ("some backend",), "float32", steps, halves, tuple(comparisons), 1, 1, 0.0, timeline=timeline
    )


@pytest.fixture
def drawn(tmp_path):
    """Draw a report as SVG and give its text."""

    def draw(report) -> str:
        report.plot(tmp_path / "p.svg")
        return (tmp_path / "p.svg").read_text()

    return draw


@pytest.mark.parametrize(("suffix", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_forms(tmp_path, suffix, begins):
    report = report_of({"output": np.full(1000, 1e-7)})
    report.plot(tmp_path / f"p.{suffix}")
    report.plot(str(tmp_path / f"q.{suffix}"))
    data = (tmp_path / f"p.{suffix}").read_bytes()
    assert data.startswith(begins)
    assert data == (tmp_path / f"q.{suffix}").read_bytes()  # the same report, the same picture
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"p.{suffix}", f"q.{suffix}"]


def test_names_everything(drawn):
    errors = {"output": np.full(1000, 1e-7), "slow.h_out": np.full(1000, 2e-7)}
    text = drawn(report_of(errors))
    for word in ("made.lnn: equal to torch over 1,000", "some backend", "output", "slow.h_out", "first", "second"):
        assert word in text
    for word in (">step<", ">seconds<", ">error<", ">allowed<", ">reset<", "torch float32's own error", ">some<"):
        assert word in text


def test_measured_time_has_a_panel_of_its_own(drawn):
    text = drawn(report_of({"output": np.full(1000, 1e-7)}, dt_s=np.geomspace(0.01, 1.0, 1000)))
    assert ">dt<" in text
    assert ">seconds<" in text


def test_failure_is_marked(drawn):
    error = np.full(1000, 1e-7)
    error[700:] = 1e-3
    text = drawn(report_of({"output": error}))
    assert "made.lnn: NOT equal to torch" in text
    assert "over at step 700: some vs torch float32" in text


def test_worst_tensors_when_there_are_many(drawn):
    """Six fit; the ones nearest to their limits are drawn, in the bundle's order."""
    errors = {f"core{k}.h_out": np.full(1000, 1e-9 * 2.0 ** (k % 4)) for k in range(9)}
    report = report_of(errors)
    assert plot._shown(report) == [f"core{k}.h_out" for k in (1, 2, 3, 5, 6, 7)]
    text = drawn(report)
    assert "the 6 of 9 tensors nearest to their limits" in text
    assert "core8.h_out" not in text


def test_no_error_and_no_finite_error_can_be_drawn(drawn):
    assert "NOT equal" in drawn(report_of({"output": np.full(1000, np.inf), "h_out": np.zeros(1000)}))


def test_long_run_keeps_its_peaks(drawn):
    error = np.full(100_000, 1e-7)
    error[77_777] = 3e-6
    report = report_of({"output": error}, steps=100_000)
    steps, shown = plot._thinned(report.timeline.curves[1], report)
    assert len(shown) < 2000
    assert shown.max() == pytest.approx(3e-6)
    peak = int(shown.argmax())
    assert steps[peak] <= 77_777 < steps[peak + 1]
    text = drawn(report)
    assert "each point the largest of 167 steps" in text
    assert len(text) < 150_000


def test_picture_of_an_export(tmp_path):
    """The curves are those of the proof: same largest error, one value per step, and something black on white."""
    report = quick_export(small_cfc(), tmp_path / "gait.lnn", period_s=0.02)
    for curve in report.timeline.curves:
        rows = [c for c in report.comparisons if (c.tensor, c.subject) == (curve.tensor, curve.subject)]
        assert len(curve.error) == report.steps
        assert curve.error.max() == pytest.approx(max(c.max_abs for c in rows if c.reference == EXACT))
    report.plot(tmp_path / "p.png")
    from matplotlib.image import imread

    pixels = imread(io.BytesIO((tmp_path / "p.png").read_bytes()))[..., :3].mean(axis=2)
    assert 0.001 < (pixels < 0.2).mean() < 0.2


def with_signals(report, apart=0.0):
    """The report, with two columns of torch's and of a stream that leaves it after step 700."""
    t = np.arange(report.steps)
    off = np.where(t < 700, 0.0, apart)
    signals = tuple(
        Signal("output", column, subject, np.float32(np.sin(t / slow) + (subject != TORCH) * off))
        for column, slow in (("left", 9), ("right", 30))
        for subject in (TORCH, "some")
    )
    return replace(report, timeline=replace(report.timeline, signals=signals))


def test_begins_with_the_signals(drawn):
    text = drawn(with_signals(report_of({"output": np.full(1000, 1e-7)})))
    for words in (
        "the first output, at the first of the first samples",
        ">the stream on some<",
        ">left, torch float32<",
    ):
        assert words in text
    assert text.index(">the stream on some<") < text.index("largest difference to float64 at each step")


def test_signals_where_they_part():
    error = np.full(1000, 1e-7)
    error[700:] = 1e-3
    report = with_signals(report_of({"output": error}), apart=1e-3)
    start, stop, where = plot._signal_part(report)
    assert start < 700 < stop
    assert where == "around the first step over what is allowed"


def test_signals_of_an_export_are_those_of_torch_and_of_the_stream(tmp_path):
    report = quick_export(small_cfc(), tmp_path / "gait.lnn", outputs=["walk", "run"])
    own = {(signal.column, signal.subject): signal.values for signal in report.timeline.signals}
    assert set(own) == {(column, subject) for column in ("walk", "run") for subject in (TORCH, "onnxruntime")}
    assert all(len(values) == report.steps for values in own.values())
    for column in ("walk", "run"):
        np.testing.assert_allclose(own[column, "onnxruntime"], own[column, TORCH], atol=report.max_abs_error)
        assert own[column, TORCH].std() > 1e-3


class OffHead(nn.Module):
    """Two heads; `off` moves a weight of the second."""

    def __init__(self, off=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.core, self.velocity, self.heading = CfC(3, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        with torch.no_grad():
            self.heading.weight[0, 0] += off

    def forward(self, x, hx=None):
        h, hx = self.core(x, hx)
        return {"velocity": self.velocity(h), "heading": self.heading(h)}, hx


@pytest.fixture(scope="module")
def off_text(off_head, tmp_path_factory):
    path = tmp_path_factory.mktemp("off") / "p.svg"
    off_head.plot(path)
    return path.read_text()


@pytest.fixture(scope="module")
def off_head(tmp_path_factory):
    """The report on a bundle beside a model with one other weight."""
    path = tmp_path_factory.mktemp("two") / "two.lnn"
    example = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    quick_export(OffHead(), path, example=example)
    with pytest.MonkeyPatch.context() as patch:
        short_verifications(patch)
        return verify_against(OffHead(1e-3), path, steps=1000, progress=lambda *_: None)


class TestOtherWeights:
    """The first head agrees, and the second does not."""

    def test_signals_are_of_the_output_that_fails(self, off_head, off_text):
        assert not off_head.passed
        assert {signal.tensor for signal in off_head.timeline.signals} == {"heading"}
        own = {signal.subject: signal.values for signal in off_head.timeline.signals[:2]}
        assert np.abs(own[TORCH] - own["onnxruntime"]).max() > 1e-5
        assert ">'heading', around the first step over what is allowed<" in off_text

    def test_allowed_is_what_the_table_says(self, off_head):
        """Torch's difference, which is the weight's, widened what was drawn as allowed to a hundred times that."""
        worst = [line.split() for line in proof_text(off_head, False).splitlines() if line.startswith(" heading")]
        assert [words[2] for words in worst] == ["1.0e-05"]
        assert {f"{judged.limit:.1e}" for _, judged in plot._judged(off_head, "heading")} == {"1.0e-05"}
        failed = [segment.start for segment, judged in plot._judged(off_head, "heading") if not judged.passed]
        assert failed

    def test_the_difference_is_not_called_rounding(self, off_text):
        assert "torch float32, which is not the bundle's step program" in off_text.replace("&#x27;", "'")
        assert "own error" not in off_text


def test_a_state_that_fails_is_shown_by_its_furthest_columns():
    """Of eight units the last one alone is off."""
    manifest = SimpleNamespace(outputs=[SimpleNamespace(name="output", features=())], batch=1)
    torchs = {"output": np.zeros((6, 1, 2)), "h_out": np.zeros((3, 1, 8))}  # states once per block of two
    off = {"output": np.zeros((6, 1, 2)), "h_out": np.eye(8)[7] + np.zeros((3, 1, 8))}
    signals = _signals(manifest, {TORCH: torchs, "some": off}, "h_out")
    assert [signal.column for signal in signals][-2:] == ["h_out 7", "h_out 7"]
    assert all(len(signal.values) == 6 for signal in signals)
    assert {signal.column for signal in _signals(manifest, {TORCH: torchs}, None)} == {"output 0", "output 1"}


def test_extreme_samples_are_said_to_keep_to_limits(drawn):
    """And there are no seconds, as the period is unknown."""
    extreme = Segment("extreme", 0, 1000, 1)
    report = report_of({"output": np.full(1000, 1e-7)}, period_s=None)
    rows = tuple(replace(c, segment="extreme") for c in report.comparisons)
    text = drawn(replace(report, segments=(extreme,), comparisons=rows))
    assert "extreme: ten times the range, where inputs have limits at these" in text
    assert ">seconds<" not in text


def test_order_is_that_of_the_table(ltc_bundle):
    """And of the bundle, though a file of tensors sorts its names."""
    report = verify_golden(ltc_bundle, progress=lambda *_: None)
    assert plot._shown(report) == report.tensors == ["output", "h_out"]
    rows = [
        line.split()[0] for line in proof_text(report, False).splitlines() if line.startswith((" output", " h_out"))
    ]
    assert rows == report.tensors


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_no_picture_is_large(tmp_path, suffix):
    """Six tensors with measured time, signals that never rest, over many steps."""
    rng = np.random.default_rng(0)
    errors = {f"core{k}.h_out": 1e-7 * rng.lognormal(size=20_000) for k in range(6)}
    report = with_signals(report_of(errors, steps=20_000, dt_s=10 ** rng.uniform(-3, 0, 20_000)))
    report.plot(tmp_path / f"p.{suffix}")
    assert (tmp_path / f"p.{suffix}").stat().st_size < 150_000


def test_picture_of_a_failed_export(tmp_path):
    with pytest.raises(VerificationError) as caught:
        quick_export(chaotic_cfc(), tmp_path / "c.lnn")
    caught.value.report.plot(tmp_path / "p.svg")
    assert "over at step" in (tmp_path / "p.svg").read_text()


def test_picture_of_the_golden_sequences(ltc_bundle, tmp_path):
    verify_golden(ltc_bundle, steps=1000, progress=lambda *_: None).plot(tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text()
    assert all(word in text for word in (">golden<", ">random<", ">dt<"))
    for words in ("golden: samples and results that the bundle ships", "random: anywhere in the range of each input"):
        assert words in text


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "kind", "expected"),
        [
            ("p.gif", ValueError, r"p\.gif', expected a name that ends in \.svg, \.png, \.pdf"),
            ("none/p.svg", FileNotFoundError, r"directory '.*none' does not exist\. Type: mkdir -p "),
            ("d.svg", IsADirectoryError, r"d\.svg' is a directory, expected a file name"),
        ],
    )
    def test_where_it_cannot_go(self, tmp_path, name, kind, expected):
        (tmp_path / "d.svg").mkdir()
        with pytest.raises(kind, match=expected):
            report_of({"output": np.full(1000, 1e-7)}).plot(tmp_path / name)

    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ImportError, match=r"Type: pip install 'lnn-edge\[plot\]'"):
            plot.check_plot("p.svg")

    @pytest.mark.parametrize("command", [["verify", "{}"], ["export", "none.py:make", "x.lnn"]])
    def test_command_says_so_before_the_work(self, cfc_bundle, tmp_path, monkeypatch, capfd, command):
        monkeypatch.chdir(tmp_path)
        arguments = [part.format(cfc_bundle) for part in command]
        assert main([*arguments, "--plot", "p.jpg"]) == 2
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        assert main([*arguments, "--plot", "p.svg"]) == 5
        out, err = capfd.readouterr()
        assert out == ""
        assert "lnn-edge: a picture needs matplotlib, and 'matplotlib.figure' is not installed" in err
        assert list(tmp_path.iterdir()) == []

    def test_file_appears_whole_or_not_at_all(self, tmp_path, monkeypatch):
        def fail(*_):
            raise OSError("no space left")

        monkeypatch.setattr(plot, "rendered", lambda *_: b"a picture")
        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            report_of({"output": np.full(1000, 1e-7)}).plot(tmp_path / "p.svg")
        assert list(tmp_path.iterdir()) == []


def test_command_draws(cfc_bundle, tmp_path, capfd):
    assert main(["verify", str(cfc_bundle), "--plot", str(tmp_path / "p.svg")]) == 0
    _, err = capfd.readouterr()
    assert err == f"saved {tmp_path / 'p.svg'}\n"
    assert (tmp_path / "p.svg").stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_device_draws_without_torch_and_without_a_display(warm_device, cfc_bundle, tmp_path):
    code = f"""
import sys
from lnn_edge.cli.program import main
assert main(["verify", {str(cfc_bundle)!r}, "--plot", {str(tmp_path / "p.png")!r}]) == 0
print(sorted({{"torch", "onnx", "ncps", "matplotlib.pyplot", "tkinter"}} & set(sys.modules)))
"""
    done = subprocess.run(["python", "-c", code], env=warm_device, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("[]\n"), done.stderr


def test_report_without_its_timeline_is_the_same_report():
    """Two proofs with the same figures are equal; the long curves do not count."""
    report = report_of({"output": np.full(1000, 1e-7)})
    other = replace(report, timeline=replace(report.timeline, period_s=None))
    assert report == other
    assert "timeline" not in repr(report)
