"""`lnn-edge verify` as it is typed, with and without the trained model."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from bundles import edit_golden, small_cfc
from old_files import FIXTURES


def test_verify_replays_the_golden_sequences(call):
    bundle = FIXTURES / "bundles" / "measured.lnn"
    code, out, _ = call("verify", bundle, "--verbose")
    assert code == 0
    assert "onnxruntime vs torch float32" in out
    assert f"{bundle}: equal over 1,020 closed-loop steps on onnxruntime" in out


def test_verify_of_altered_golden_outputs_is_not_equal(call, cfc_copy, tmp_path):
    edit_golden(cfc_copy, lambda t: t["float64/output"].__setitem__((9, 0, 1), 3.0))
    code, out, _ = call("verify", cfc_copy, "--json", tmp_path / "v.json")
    assert code == 3
    assert re.search(r"^ output .* step 9 ", out, re.M)
    assert "NOT equal on onnxruntime" in out.splitlines()[-1]
    assert out.endswith("Export it again on the workstation\n")
    result = json.loads((tmp_path / "v.json").read_text())
    assert result["passed"] is False
    assert {c["first_over"] for c in result["comparisons"]} == {None, 9}


def test_what_is_not_finite_is_null(call, ltc_copy, tmp_path):
    """JSON has no word for infinity; Python's own is one that other readers refuse."""
    edit_golden(ltc_copy, lambda t: t["float64/h_out"].__setitem__((3, 0, 0), np.nan))
    code, *_ = call("verify", ltc_copy, "--json", tmp_path / "v.json")
    result = json.loads((tmp_path / "v.json").read_text(), parse_constant=pytest.fail)
    assert (code, result["passed"]) == (3, False)
    assert None in [c["max_abs"] for c in result["comparisons"]]


def test_verify_with_golden_of_another_shape_is_a_bad_bundle(call, cfc_copy):
    edit_golden(cfc_copy, lambda t: t.pop("float32/output"))
    code, _, err = call("verify", cfc_copy)
    assert code == 6
    assert f"lnn-edge: bundle '{cfc_copy}': golden.safetensors holds" in err


def test_verify_json_goes_to_standard_output_alone(call, cfc_bundle):
    code, out, err = call("verify", cfc_bundle, "--json", "-")
    result = json.loads(out)
    assert (code, result["passed"]) == (0, True)
    assert {c["tensor"] for c in result["comparisons"]} == {"output", "h_out"}
    assert "equal over" in err


def test_what_the_users_code_prints_stands_in_no_result(call, work, short_commands):
    """A script that says what it runs on, and a forward with a print that was left in it."""
    (work / "chatty.py").write_text(
        "import torch\nfrom ncps.torch import CfC\n\nprint('on the cpu')\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        torch.manual_seed(0)\n"
        "        self.rnn = CfC(2, 3)\n\n"
        "    def forward(self, x):\n        print('forward', x.shape)\n        return self.rnn(x)[0]\n"
    )
    np.save("x.npy", np.random.default_rng(0).standard_normal((1, 9, 2)).astype(np.float32))
    made = call("export", "chatty.py:Net", "m.lnn", "--example", "x.npy", "--json", "-")
    proven = call("verify", "m.lnn", "--against", "chatty.py:Net", "--json", "-")
    for code, out, err in (made, proven):
        assert (code, json.loads(out)["passed"]) == (0, True)
        assert "forward torch.Size" in err
    assert "on the cpu" in made[2]


def test_long_work_tells_a_pipe_now_and_then_where_it_is(call, cfc_bundle, monkeypatch):
    """It was silent for minutes where standard error is no terminal; short work stays silent."""
    assert call("verify", cfc_bundle)[2] == ""
    monkeypatch.setattr("lnn_edge.progress._BETWEEN_LINES_S", 0.0)
    _, _, err = call("verify", cfc_bundle, "--steps", 1000)
    assert re.search(r"^verify: onnxruntime, closed loop, [\d,]+ of 1,000$", err, re.MULTILINE)


@pytest.mark.workstation
def test_verify_against_the_trained_model(call, work, cfc_bundle, short_commands):
    code, out, _ = call("verify", cfc_bundle, "--against", "train.py:make_model", "--steps", 1000, "--verbose")
    assert code == 0
    assert "torch stepped vs" in out  # what the golden replay alone cannot compare
    first, *_, last = out.splitlines()
    assert first == (
        "compared with train.py:make_model as it is built: no --weights FILE, so they are random unless it loads them "
        "by itself"
    )
    assert "equal over" in last


@pytest.mark.workstation
def test_verify_says_first_whether_the_weights_are_those_of_the_export(call, work, short_commands):
    torch = pytest.importorskip("torch")
    (work / "net.py").write_text("from ncps.torch import CfC\n\ndef make_model():\n    return CfC(3, 5)\n")
    from ncps.torch import CfC

    for name in ("one.pt", "two.pt"):
        torch.save(CfC(3, 5).state_dict(), name)
    assert call("export", "net.py:make_model", "net.lnn", "--weights", "one.pt")[0] == 0
    same, other, none = (
        call("verify", "net.lnn", "--against", "net.py:make_model", *weights)
        for weights in (["--weights", "one.pt"], ["--weights", "two.pt"], [])
    )
    with_weights = "compared with net.py:make_model with the weights of"
    assert (same[0], same[1].splitlines()[0]) == (
        0,
        f"{with_weights} one.pt, the file that the bundle was exported from",
    )
    assert other[0] == none[0] == 3
    assert re.match(
        rf"{with_weights} two\.pt, another file than the bundle was exported from \(\w{{12}}, not \w{{12}}\)\n",
        other[1],
    )
    assert other[1].endswith("Compare it with the file that it was exported from, or export it again\n")
    assert none[1].startswith("compared with net.py:make_model as it is built: no --weights FILE, so they are random")
    assert none[1].endswith("The trained weights are not among what was compared: type --weights FILE\n")


@pytest.mark.workstation
def test_verify_against_other_weights_is_not_equal(call, work, cfc_bundle, short_commands):
    from safetensors.torch import save_file

    other = {name: value.contiguous() for name, value in small_cfc().state_dict().items()}
    other["rnn_cell.layer_2.ff1.bias"] += 0.05
    save_file(other, "other.safetensors")
    against = ["--against", "train.py:make_model", "--weights", "other.safetensors"]
    code, out, _ = call("verify", cfc_bundle, *against)
    assert code == 3
    assert "NOT equal" in out.splitlines()[-1]


@pytest.mark.workstation
@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        ("make_wide", "the model has inputs of shape [[1, 4]], but bundle 'gait' has [[1, 3]]"),
        ("make_deep", "the model has states of shape [[1, 12]], but bundle 'gait' has [[1, 10]]"),
    ],
)
def test_verify_against_another_shape_is_a_mistake(call, work, cfc_bundle, factory, expected):
    code, _, err = call("verify", cfc_bundle, "--against", f"train.py:{factory}")
    assert code == 2
    assert f"{expected}: they are not of the same model" in err
