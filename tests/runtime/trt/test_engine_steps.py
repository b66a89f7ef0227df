"""The part of benchmarks/gpu.py that runs engines, on the simulated GPU, whose figures mean nothing."""

from __future__ import annotations

import importlib
import sys

import pytest
from bundles import ROOT
from fake_tensorrt import FOR_RTX

CARD = {"name": "RTX 4090", "capability": (8, 9), "integrated": False, "driver": 13000, "runtime": 13000}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run both libraries; returns what was printed and what was held, told and shown."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    engine_steps = importlib.import_module("engine_steps")
    seen = []

    def act(name, action):
        seen.append(name)
        action()
        return True

    def run(path=None):
        seen.clear()
        engine_steps.run_engines(path, 300, act, act, lambda name, figures: seen.append((name, figures.samples)))
        return capsys.readouterr().out, list(seen)

    yield run
    sys.modules.pop("engine_steps", None)


def test_an_engine_is_compared_and_timed(gpu, run, cfc_bundle):
    gpu(FOR_RTX, **CARD)
    out, seen = run()
    engines = [f"tensorrt-rtx, measured_2, {feedback}" for feedback in ("copy", "pingpong")]
    assert seen == [
        part for engine in engines for part in (f"{engine}: equal to the step program:", engine, (engine, 300))
    ]
    assert "TensorRT for RTX 1.7.1.116 on RTX 4090 (compute 8.9" in out
    assert "\ntensorrt: no engine" in f"\n{out}"
    _, seen = run(str(cfc_bundle))
    assert seen[1] == "tensorrt-rtx, gait, copy"


def test_a_gpu_that_it_does_not_know_is_said(gpu, run):
    gpu(FOR_RTX, **CARD | {"name": "NVIDIA H100 80GB HBM3", "capability": (9, 0)})
    out, seen = run()
    assert seen == []
    known = "TensorRT for RTX 1.7.1.116 runs on sm_75, sm_80, sm_86, sm_89, sm_120, sm_121"
    assert f"tensorrt-rtx: no engine is run here: {known}, but NVIDIA H100 80GB HBM3 is sm_90" in out


def test_results_that_differ_are_told(gpu, run, monkeypatch):
    gpu(FOR_RTX, **CARD)
    import engine_steps

    class Wrong:
        passed, steps, worst = False, 300, "'y' is off by 1"

    monkeypatch.setattr(engine_steps, "verify_golden", lambda *_, **__: Wrong)
    with pytest.raises(RuntimeError, match="NOT equal over 300 steps: 'y' is off by 1"):
        run()
