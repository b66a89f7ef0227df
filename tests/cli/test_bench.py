"""`lnn-edge bench` as it is typed: figures, limits, and Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import edit_golden

import lnn_edge
from lnn_edge.cli.bench_text import bench_advice
from lnn_edge.runtime.figures.durations import Distribution, distribution
from lnn_edge.runtime.measure.timing import Paced

QUICK = ("--steps", "50", "--warmup", "5")


def test_bench_prints_figures_with_their_samples(call, cfc_bundle):
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--seconds", "0.2")
    assert code == 0
    assert "back to back: service        50" in out
    assert "paced 50 Hz: response        10" in out
    assert "deadline 20000 us: " in out
    assert "machine: " in out
    why, last = out.splitlines()[-2:]
    assert re.match(
        rf"{re.escape(str(cfc_bundle))}: one step takes median [\d.]+ us back to back \(50 samples\); ", last
    )
    assert re.search(r"; at 50 Hz the robot sees max [\d.]+ us \(10 samples\) on onnxruntime", last)
    assert "the back-to-back step" in why or "slower than back to back" in why


def durations(us: float) -> Distribution:
    return distribution(np.full(100, int(us * 1000)))


REST = "caches and clocks have gone to rest between two, so that a step takes 400 us"


@pytest.mark.parametrize(
    ("response", "wait", "late", "expected"),
    [
        (45.0, "sleep", 1, ["the paced response and the back-to-back step are about the same here"]),
        (600.0, "sleep", 200, [f"wakes 200 us late, and {REST}", "type: lnn-edge bench 'a b.lnn' --wait spin"]),
        (600.0, "spin", 1, ["back to back: what runs between two of them has taken the caches, so that a step takes"]),
        (9600.0, "spin", 9200, ["other programs hold the CPU, so that a step begins 9200 us after it is due"]),
        (
            9600.0,
            "sleep",
            9200,
            ["other programs hold the CPU, so that a step begins 9200 us after it is due. For what"],
        ),
    ],
)
def test_why_the_two_differ(response, wait, late, expected):
    run = Paced(50.0, 2e4, wait, durations(late), durations(400), durations(response), 100, 0, False)
    text = bench_advice("a b.lnn", durations(40), run)
    assert all(words in text for words in expected)


@pytest.mark.parametrize(
    ("rate_hz", "expected"),
    [
        (
            50_000,
            "a step takes 61 us, longer than the period of 20 us: at most about 15,000 Hz can be kept.",
        ),
        (16_000, "a step takes 61 us, nearly all of the period of 62.5 us: at most about 15,000 Hz can be kept. "),
    ],
)
@pytest.mark.parametrize("wait", ["sleep", "spin"])
def test_a_rate_that_the_step_itself_cannot_keep(rate_hz, wait, expected):
    """Other programs were blamed, and the advice was the doctor's."""
    run = Paced(rate_hz, 20.0, wait, durations(5e5), durations(61), durations(5e5), 100, 0, False)
    assert bench_advice("a.lnn", durations(60), run).startswith(expected)


def test_bench_gives_no_percentile_from_too_few_samples(call, ltc_bundle):
    code, out, err = call("bench", ltc_bundle, *QUICK, "--seconds", "0.3", "--json", "-")
    result = json.loads(out)
    assert code == 0
    percentiles = result["back_to_back"]["percentiles_us"]
    assert [name for name, value in percentiles.items() if value is None] == ["p90", "p99", "p99.9"]
    assert result["paced"]["response"]["samples"] == 3
    assert set(result["paced"]["response"]["percentiles_us"].values()) == {None}
    assert result["self_test"] == "passed"
    assert result["machine"]["numpy"] == np.__version__
    assert "one step takes" in err


def test_bench_without_a_paced_run(call, cfc_bundle):
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--seconds", "0")
    assert code == 0
    assert "no paced run: it takes --seconds above 0 and a rate, from the bundle's period or --rate HZ" in out


def test_bench_misses_its_deadline(call, cfc_bundle):
    limits = ["--deadline-us", "0.001", "--max-misses", "3"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--rate", "100", "--seconds", "0.1", *limits)
    assert code == 4
    assert out.splitlines()[-1] == "MISSED: 10 deadline misses are more than --max-misses 3"
    assert "one step takes" in out.splitlines()[-2]


def test_bench_at_a_rate_that_cannot_be_kept(call, cfc_bundle, monkeypatch):
    """It neither runs for hours nor passes: what was never run has missed its deadline too."""
    monkeypatch.setattr("lnn_edge.runtime.measure.timing._BEHIND_NS", 0)
    rate = ["--rate", "1e7", "--seconds", "0.01", "--deadline-us", "1e9"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, *rate, "--max-misses", "50", "--max-p99-us", "1e9")
    assert code == 4
    left = int(re.search(r"1e\+07 Hz cannot be kept: ([\d,]+) of 100,000 steps were due", out)[1].replace(",", ""))
    assert 0 < left < 100_000
    assert f"MISSED: {left} deadline misses are more than --max-misses 50" in out


def test_bench_misses_its_p99(call, cfc_bundle):
    limits = ["--rate", "2000", "--seconds", "0.5", "--max-p99-us", "0.001"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, *limits)
    assert code == 4
    assert re.fullmatch(r"MISSED: p99 response \S+ us is above --max-p99-us 0.001", out.splitlines()[-1])


def test_bench_shows_what_a_load_costs(call, cfc_bundle, monkeypatch, tmp_path):
    """A user's load has a self-test, and that is the larger part of its time."""
    clock = iter(range(1000))
    loads = []

    def counted(*arguments, **options):
        loads.append(options)
        return lnn_edge.load(*arguments, **options)

    monkeypatch.setattr("lnn_edge.runtime.loading.load", counted)
    monkeypatch.setattr("lnn_edge.cli.commands.bench.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--seconds", "0", "--json", tmp_path / "bench.json")
    assert code == 0
    assert "load with its self-test 1000 ms, then the first step " in out
    assert [options.get("self_test", True) for options in loads] == [True]
    assert json.loads((tmp_path / "bench.json").read_text())["load_ms"] == 1000


def test_bench_meets_generous_targets(call, cfc_bundle):
    limits = ["--rate", "2000", "--seconds", "0.5", "--max-p99-us", "1e9", "--deadline-us", "1e9", "--max-misses", "0"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, *limits, "--wait", "spin")
    assert code == 0
    assert "MISSED" not in out
    assert "waiting by spin" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--max-p99-us", "9", "--rate", "3"],
            "needs at least 1000 paced steps for a p99, got 15. Type: --seconds 334",
        ),
        (["--max-p99-us", "9", "--seconds", "0"], "--max-p99-us and --max-misses judge the paced run: pass --rate and"),
        (["--max-misses", "9", "--seconds", "0"], "--max-p99-us and --max-misses judge the paced run: pass --rate and"),
        (
            ["--rate", "1e9", "--seconds", "1"],
            "a paced run of 1,000,000,000 steps is too long, at most 100,000,000. Type: --seconds 0.1, or a lower",
        ),
        (
            ["--rate", "0.01", "--seconds", "5"],
            "--seconds 5 are over before the first step at --rate 0.01. Type: --seconds",
        ),
    ],
)
def test_bench_refuses_what_it_could_not_judge(call, cfc_bundle, arguments, expected):
    code, out, err = call("bench", cfc_bundle, *arguments)
    assert (code, out) == (2, "")
    assert expected in err


@pytest.mark.parametrize("period_s", [1e-300, 1e300])
def test_a_period_that_no_clock_can_keep_makes_no_paced_run(call, tmp_path, period_s):
    ncps = pytest.importorskip("ncps.torch")  # not on the device half alone
    from exports import quick_export

    quick_export(ncps.CfC(3, 4), tmp_path / "slow.lnn", period_s=period_s)
    code, out, _ = call("bench", tmp_path / "slow.lnn", *QUICK)
    assert code == 0
    assert "no paced run" in out


def test_bench_shows_ways_to_wait_side_by_side(call, cfc_bundle, tmp_path):
    run = ["--rate", "200", "--seconds", "0.2", "--wait", "sleep,spin,rehearse", "--json", tmp_path / "b.json"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, *run)
    assert code == 0
    for way in ("sleep", "spin", "rehearse"):
        assert re.search(rf"^ {way} at 200 Hz: response +40 ", out, re.M)
        assert re.search(rf"^waiting by {way}: \d\.\d{{3}} of a core", out, re.M)
    assert re.search(r"rehearsed \d+ times, \d+ skipped, \d+ ended late, 0 failed; ", out)
    assert re.search(
        r"^median response by sleep \S+ us; spin \S+ us, \S+ of that; rehearse \S+ us, \S+ of that$", out, re.M
    )
    result = json.loads((tmp_path / "b.json").read_text())
    assert [own["run"]["wait"] for own in result["waits"]] == ["sleep", "spin", "rehearse"]
    assert result["paced"] == result["waits"][0]["run"]
    assert [own["rehearsal"] is None for own in result["waits"]] == [True, True, False]
    assert all(own["run"]["response"]["samples"] == 40 for own in result["waits"])


def test_bench_rehearsed_alone_says_what_became_of_it(call, cfc_bundle):
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--rate", "200", "--seconds", "0.1", "--wait", "rehearse")
    assert code == 0
    assert re.search(r"^ paced 200 Hz: response +20 ", out, re.M)
    assert "waiting by rehearse: " in out


def test_the_json_of_one_usual_wait_is_what_it_was(call, cfc_bundle):
    _, out, _ = call("bench", cfc_bundle, *QUICK, "--rate", "200", "--seconds", "0.1", "--wait", "spin", "--json", "-")
    assert set(json.loads(out)) == {
        "bundle", "samples_per_step", "backend", "machine", "load_ms", "first_step_us", "self_test", "warmup",
        "back_to_back", "paced", "device",
    }  # fmt: skip
    assert set(json.loads(out)["paced"]) == {
        "rate_hz", "deadline_us", "wait", "lateness", "service", "response", "planned", "misses", "interrupted",
    }  # fmt: skip


def test_bench_names_the_wait_that_missed(call, cfc_bundle):
    limits = ["--wait", "sleep,rehearse", "--deadline-us", "0.001", "--max-misses", "3"]
    code, out, _ = call("bench", cfc_bundle, *QUICK, "--rate", "200", "--seconds", "0.1", *limits)
    assert code == 4
    assert out.splitlines()[-2:] == [
        f"MISSED: 20 deadline misses waiting by {way} are more than --max-misses 3" for way in ("sleep", "rehearse")
    ]


def test_bench_rehearses_on_no_gpu(call, cfc_bundle, monkeypatch):
    from lnn_edge import backends

    rows = [own._replace(on_gpu=own.name == "onnxruntime") for own in backends.BACKENDS]
    monkeypatch.setattr("lnn_edge.runtime.loop.practice.BACKENDS", rows)
    code, out, err = call("bench", cfc_bundle, *QUICK, "--wait", "spin,rehearse", "--backend", "onnxruntime")
    assert (code, out) == (2, "")
    assert "`wait` is 'rehearse', but 'onnxruntime' steps on a GPU, where rehearsals have not been measured." in err


def test_bench_proves_the_bundle_first(call, cfc_copy):
    edit_golden(cfc_copy, lambda t: t["float32/output"].__setitem__((9, 0, 1), 3.0))
    assert call("bench", cfc_copy, *QUICK)[0] == 3


def test_ctrl_c_in_bench_prints_the_figures_so_far(start, cfc_bundle, tmp_path):
    process = start(
        "bench", cfc_bundle, *QUICK, "--rate", "200", "--seconds", "600", "--json", tmp_path / "b.json", cold=True
    )
    wait_until_paced(process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.endswith("interrupted: the figures are of the part that ran\n")
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["back_to_back"]["samples"] == 50
    assert result["paced"]["interrupted"] is True
    assert 0 < result["paced"]["response"]["samples"] < 120_000


def wait_until_paced(process) -> None:
    """Wait until a process has slept 400 times: only the paced run does, before every step."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[1]) > 400:
            return
        time.sleep(0.05)
    raise TimeoutError("the paced run never began")
