"""Faults of the recording: program and graph agree with each other, and only torch knows better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import BY_NAME
from exports import quick_export
from faults import FAULTS, dropped_synapse, forgotten_time, put_into_recordings
from networks import NETWORKS, built

from lnn_edge.errors import VerificationError
from lnn_edge.export.proof.truth import EXTRACTED, TORCH_EXACT

TIMES = {"fixed": {}, "measured": {"time": "measured", "period_s": 0.1}}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_the_recording_is_refused(name, tmp_path, monkeypatch):
    case, time, fault = FAULTS[name]
    put_into_recordings(monkeypatch, fault)
    with pytest.raises(VerificationError, match="the exported step does not equal the trained model") as caught:
        quick_export(BY_NAME[case].build(), tmp_path / "m.lnn", **TIMES[time])
    failed = {c.against for c in caught.value.report.comparisons if not c.passed}
    assert EXTRACTED in failed
    assert "onnxruntime vs float64" not in failed  # program and graph agree
    assert list(tmp_path.iterdir()) == []


def test_synapse_of_a_thousandth_of_the_usual_conductance(tmp_path, monkeypatch):
    """Dropped, it moves results by 4e-5: the judge by the rounding of the program sees it, that by 1e-3 does not."""
    module = BY_NAME["ltc-autoncp"].build()
    source, target = np.argwhere(module.rnn_cell.sparsity_mask.detach().numpy())[5]
    with torch.no_grad():
        module.rnn_cell.w[source, target] = np.log(np.expm1(1e-3))
    put_into_recordings(monkeypatch, dropped_synapse(0))
    with pytest.raises(VerificationError) as caught:
        quick_export(module, tmp_path / "m.lnn")
    failed = {c.against for c in caught.value.report.comparisons if not c.passed}
    assert EXTRACTED in failed
    assert TORCH_EXACT not in failed


def test_core_that_forgets_the_time_beside_others_that_do_not(tmp_path, monkeypatch):
    put_into_recordings(monkeypatch, forgotten_time("ltc"))
    make, example = NETWORKS["stacked"]
    with pytest.raises(VerificationError) as caught:
        quick_export(built(make), tmp_path / "m.lnn", example=example(), **TIMES["measured"])
    assert EXTRACTED in {c.against for c in caught.value.report.comparisons if not c.passed}


def test_time_that_nothing_takes_does_not_come_to_a_proof(tmp_path, monkeypatch):
    put_into_recordings(monkeypatch, forgotten_time("ltc"))
    with pytest.raises(ValueError, match="nothing in the model depends on the time between samples"):
        quick_export(BY_NAME["ltc-autoncp"].build(), tmp_path / "m.lnn", **TIMES["measured"])
