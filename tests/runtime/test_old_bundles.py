"""Bundles and states that older versions wrote: they behave as every backend must, and give the results of then.

Nothing of the workstation is needed, so this runs on the device half alone as well.
"""

from __future__ import annotations

import pytest
from checks import CHECKS
from old_files import FIXTURES, FLOAT16, FLOAT32, assert_near, found, group, recorded, unpickled

import lnn_edge
from lnn_edge import State
from lnn_edge.cli.program import main

ONE_OUTPUT = [f"{name}{schema}" for name in ("fixed", "float16", "measured", "unroll") for schema in ("", "_2")]


@pytest.fixture(scope="module")
def models():
    """Each loaded once, with its self-test on this machine."""
    return {name: lnn_edge.load(FIXTURES / "bundles" / f"{name}.lnn") for name in ONE_OUTPUT}


@pytest.mark.parametrize("name", ONE_OUTPUT)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_conformance(check, name, models):
    check(models[name])


@pytest.mark.parametrize("name", found("bundles/*.lnn"))
def test_bundle(name):
    stream, kept = lnn_edge.load(FIXTURES / name).stream(), recorded(name)
    tolerance = FLOAT16 if "float16" in name else FLOAT32
    y = stream.run(kept["x"], **{key: kept[key] for key in ("dt_s",) if key in kept})
    outputs, states = group(kept, "output."), group(kept, "state.")
    y = y if isinstance(y, dict) else {"y": y}
    assert set(y) == set(outputs)
    for key, value in outputs.items():
        assert_near(y[key], value, tolerance)
    assert set(stream.snapshot().tensors) == set(states)
    for key, value in states.items():
        assert_near(stream.snapshot().tensors[key], value, tolerance)


@pytest.mark.parametrize("name", found("bundles/*.lnn"))
def test_bundle_passes_its_own_proof(name, capsys):
    assert main(["verify", str(FIXTURES / name)]) == 0, capsys.readouterr()


@pytest.mark.parametrize(("name", "bundle"), [("state", "fixed"), ("state_with_time", "measured")])
def test_state_goes_on_where_it_was(name, bundle):
    state, kept = unpickled(f"values/{name}.pickle"), recorded(f"values/{name}.pickle")
    assert isinstance(state, State)
    assert (state.t_s is not None) == (name == "state_with_time")
    stream = lnn_edge.load(FIXTURES / "bundles" / f"{bundle}.lnn").stream()
    stream.restore(state)
    times = {key: kept[key] for key in ("t_s",) if key in kept}
    assert_near(stream.run(kept["x"], **times), kept["y"])
