"""`lnn-edge run --resume` from a sensor with a fixed rate: what a restart's pause makes of the state."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import INPUTS
from command_line import KEPT, OUT, csv_text, samples
from properties import some

import lnn_edge
from lnn_edge.cli.keeping.kept_file import KeptFile

LOOP = ["--on-fault", "hold"]
LONGEST_S = 0.42  # 21 periods of 20 ms


@pytest.fixture
def later(monkeypatch):
    """How many seconds after the snapshot the command is started again."""

    def start(seconds):
        monkeypatch.setattr(KeptFile, "age_s", lambda _file, _snapshot: seconds)

    return start


def table(xs, times=None):
    rows = xs if times is None else [(t, *x) for t, x in zip(times, xs, strict=True)]
    return csv_text(rows, INPUTS if times is None else ["t", *INPUTS])


def run(call, bundle, folder, xs, *options, times=None):
    timed = [] if times is None else ["--time-column", "t"]
    command = ["run", bundle, "--backend", "onnxruntime", "--output", folder / OUT, "--resume", folder / KEPT]
    return call(*command, *timed, *options, stdin=table(xs, times))


def outputs(folder, columns=slice(0, 2)):
    lines = [line.split(",") for line in (folder / OUT).read_text().splitlines()[1:]]
    return [[float(v) for v in line[columns]] for line in lines]


def expected(bundle, *parts):
    """Each part from the initial state."""
    model = lnn_edge.load(bundle, backend="onnxruntime")
    return [[float(str(v)) for v in y] for xs in parts for y in model.stream().run(xs.astype(np.float32))]


@pytest.mark.parametrize("options", [[], LOOP], ids=["rows", "loop"])
def test_behind_a_short_pause_it_goes_on(call, cfc_bundle, tmp_path, later, options):
    xs = samples(20)
    assert run(call, cfc_bundle, tmp_path, xs[:10], *options)[0] == 0
    later(LONGEST_S - 0.2)
    code, _, told = run(call, cfc_bundle, tmp_path, xs[10:], *options)
    assert code == 0, told
    assert "goes on from" in told
    assert outputs(tmp_path) == expected(cfc_bundle, xs)


@pytest.mark.parametrize("pause_s", some([LONGEST_S + 0.01, 900.0, -5.0]))
@pytest.mark.parametrize("options", [[], LOOP], ids=["rows", "loop"])
def test_behind_a_long_one_the_policy_decides(call, cfc_bundle, tmp_path, later, options, pause_s):
    xs = samples(20)
    assert run(call, cfc_bundle, tmp_path, xs[:10], *options)[0] == 0
    later(pause_s)
    before = (tmp_path / OUT).read_bytes(), (tmp_path / KEPT).read_bytes()
    code, _, told = run(call, cfc_bundle, tmp_path, xs[10:], *options)
    assert code == 2
    assert "and 'gait' goes on within 0.42 s. To " in told
    assert "pass --on-gap reset" in told
    assert ((tmp_path / OUT).read_bytes(), (tmp_path / KEPT).read_bytes()) == before
    code, _, told = run(call, cfc_bundle, tmp_path, xs[10:], *options, "--on-gap", "reset")
    assert code == 0, told
    assert outputs(tmp_path) == expected(cfc_bundle, xs[:10], xs[10:])
    anew = f"remark: the snapshot '{tmp_path / KEPT}' is too old to go on from: the state begins anew\n"
    assert (anew if options else "state reset after 1 gap") in told


def test_a_time_column_says_it_where_there_is_one(call, cfc_bundle, tmp_path, later):
    xs, times = samples(20), (0.02 * np.arange(20)).round(6)
    assert run(call, cfc_bundle, tmp_path, xs[:10], times=times[:10])[0] == 0
    later(900.0)
    before = (tmp_path / OUT).read_bytes()
    code, _, told = run(call, cfc_bundle, tmp_path, xs[10:], times=times[10:] + 0.5)
    assert code == 2
    assert "0.52 s after the last sample, by 't', and 'gait' goes on within 0.42 s. To reset the state there" in told
    assert (tmp_path / OUT).read_bytes() == before
    code, _, told = run(call, cfc_bundle, tmp_path, xs[10:], times=times[10:])
    assert code == 0, told
    assert outputs(tmp_path, slice(1, 3)) == expected(cfc_bundle, xs)


def test_the_first_row_of_a_restart_alone_is_looked_at(call, cfc_bundle, tmp_path, later):
    """A model with fixed time takes every other row as it comes."""
    xs = samples(20)
    assert run(call, cfc_bundle, tmp_path, xs[:10])[0] == 0
    later(0.1)
    times = [0.02, 5.0, *range(10, 18)]
    assert run(call, cfc_bundle, tmp_path, xs[10:], "--on-gap", "reset")[0] == 0
    assert outputs(tmp_path) == expected(cfc_bundle, xs)
    other = tmp_path / "timed"
    other.mkdir()
    assert run(call, cfc_bundle, other, xs[:10], times=[0.02 * k for k in range(-9, 1)])[0] == 0
    code, _, told = run(call, cfc_bundle, other, xs[10:], "--on-gap", "reset", times=times)
    assert code == 0, told
    assert outputs(other, slice(1, 3)) == expected(cfc_bundle, xs)


def test_a_silence_before_the_end_counts(call, cfc_bundle, tmp_path, later, monkeypatch):
    """The snapshot is younger than the last row."""
    from lnn_edge.cli.feeding import keeper

    xs, now = samples(20), [0.0]
    monkeypatch.setattr(keeper, "monotonic", lambda: now[0])
    usual = keeper.Keeper.finish

    def finish(keeper):
        now[0] += 0.4
        usual(keeper)

    monkeypatch.setattr(keeper.Keeper, "finish", finish)
    assert run(call, cfc_bundle, tmp_path, xs[:10])[0] == 0
    later(0.1)
    code, _, told = run(call, cfc_bundle, tmp_path, xs[10:])
    assert (code, "0.5 s after the last sample, by the clock of this computer" in told) == (2, True)
