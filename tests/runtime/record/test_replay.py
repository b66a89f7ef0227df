"""Replay: what was recorded comes out the same, a changed bit says where, and what cannot be known is said."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import examples
from ticks import KINDS, Robot, bundle, model_of, put, record

import lnn_edge
from lnn_edge import Recorder
from lnn_edge.runtime.guard.status import Status
from lnn_edge.runtime.record.replay import InThisProcess

NAMES = ["fixed_2", "measured_2", "unroll_2", "two_cores_2"]
LONG = ["good", "refused", "good", "split", "reset", "good", "lost state", "good", "stopped", "stopped", "good"] * 4


def verdict_of(path, name="fixed_2", **options):
    (verdict,) = lnn_edge.replay(bundle(name), path, **({"backend": "onnxruntime"} | options)).verdicts
    return verdict


@pytest.mark.parametrize("name", NAMES)
def test_what_was_recorded_comes_out_the_same(name, tmp_path):
    record(tmp_path / "walk.mcap", model_of(name), LONG, state_every=5)
    verdict = verdict_of(tmp_path / "walk.mcap", name, backend="auto")
    assert verdict.same, str(verdict)
    assert verdict.tolerance == 0.0
    assert (verdict.found.compared, verdict.found.skipped, verdict.found.unknown) == (28, 16, 0)
    assert str(verdict) == (
        f"{tmp_path / 'walk.mcap'}: the same bit for bit: 28 ticks with all that was recorded; 16 ticks were refused, "
        "as then"
    )


@given(
    name=st.sampled_from(NAMES),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=30),
    every=st.integers(0, 3),
    dropped=st.sets(st.integers(0, 29), max_size=4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=examples(60), deadline=None)
def test_replay_follows_any_sequence(name, kinds, every, dropped, seed, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "walk.mcap"
    robot = Robot(model_of(name), seed)
    with Recorder(path, robot.model, state_every=every) as recorder:
        for k, kind in enumerate(kinds):
            tick = robot.tick(kind)
            if k in dropped:
                recorder._ring.count += 1
                recorder._writer.asks = True
            else:
                put(recorder, robot, tick, k)
    found = verdict_of(path, name).found
    assert found.first is None
    assert found.compared + found.skipped + found.unknown == len(set(range(len(kinds))) - dropped)
    if not dropped:
        assert found.unknown == 0


@given(kinds=st.lists(st.sampled_from(KINDS), max_size=12), bit=st.integers(0, 31), where=st.integers(0, 1))
@settings(max_examples=examples(40), deadline=None)
def test_a_changed_bit_of_an_output_says_where(kinds, bit, where, tmp_path_factory):
    path, robot = tmp_path_factory.mktemp("bit") / "walk.mcap", Robot(model_of("fixed_2"))
    with Recorder(path, robot.model) as recorder:
        for k, kind in enumerate([*kinds, "good", "good"]):
            tick = robot.tick(kind)
            if k == len(kinds):
                raw = tick.raw.copy()
                raw.view(np.uint32)[where] ^= 1 << bit
                tick = tick._replace(raw=raw)
            put(recorder, robot, tick, k)
    verdict = verdict_of(path)
    assert not verdict.same
    assert (verdict.first.tick, verdict.first.name) == (len(kinds), ["'walk'", "'run'"][where])
    assert verdict.found.different == 1


def test_a_changed_bit_of_a_sample_or_a_state_says_where(tmp_path):
    robot = Robot(model_of("fixed_2"))
    for change in ("sample", "state"):
        with Recorder(tmp_path / f"{change}.mcap", robot.model, start=robot.stream.snapshot()) as recorder:
            for k in range(8):
                tick, state = robot.tick(), robot.stream.state_arrays()
                if change == "sample" and k == 4:
                    tick = tick._replace(x=tick.x + np.float32([0, 0.5, 0]))
                if change == "state" and k == 5:
                    state["h_in"][0, 2] = np.nextafter(state["h_in"][0, 2], np.float32(9))
                recorder.put(tick, mono_ns=k, wall_ns=k, state=state)
    first = verdict_of(tmp_path / "sample.mcap").first
    assert first.tick == 4
    verdict = verdict_of(tmp_path / "state.mcap")
    assert (verdict.first.tick, verdict.first.name) == (5, "'h_in' at 2")
    assert "DIFFERENT, first at tick 5: 'h_in' at 2 was" in str(verdict)
    assert verdict.first.recorded > verdict.first.replayed


def test_another_backend_is_judged_by_the_tolerance_of_the_proof(tmp_path, compiler):
    record(tmp_path / "walk.mcap", model_of("fixed_2"), ["good"] * 200, state_every=10)
    verdict = verdict_of(tmp_path / "walk.mcap", backend="native")
    assert verdict.same
    assert verdict.tolerance == model_of("fixed_2").manifest.verification.tolerance
    assert "the same within 1e-05 (it was recorded on onnxruntime" in str(verdict)
    assert not verdict_of(tmp_path / "walk.mcap", backend="native", tolerance=0.0).same


def test_a_tolerance_is_of_the_largest_value_until_there(tmp_path):
    robot = Robot(model_of("fixed_2"))
    with Recorder(tmp_path / "walk.mcap", robot.model) as recorder:
        for k in range(5):
            tick = robot.tick()
            put(recorder, robot, tick._replace(raw=tick.raw + np.float32(1e-3 if k == 3 else 0)), k)
    assert not verdict_of(tmp_path / "walk.mcap", tolerance=0.9e-3).same
    assert verdict_of(tmp_path / "walk.mcap", tolerance=0.9e-3).first.tick == 3
    verdict = verdict_of(tmp_path / "walk.mcap", tolerance=1.1e-3)
    assert verdict.same
    assert "within 0.0011 (as asked for)" in str(verdict)
    assert verdict.found.largest == pytest.approx(1e-3, rel=1e-3)


def test_a_sample_that_is_refused_now_is_a_difference(tmp_path):
    robot = Robot(model_of("fixed_2"))
    with Recorder(tmp_path / "walk.mcap", robot.model) as recorder:
        for k in range(5):
            tick = robot.tick()
            put(recorder, robot, tick._replace(x=tick.x * np.float32("nan")) if k == 2 else tick, k)
    verdict = verdict_of(tmp_path / "walk.mcap")
    assert not verdict.same
    assert verdict.first.tick == 2
    assert "at tick 2, whose sample is refused now: `input` holds nan" in str(verdict)


def test_a_state_that_no_tick_led_to_is_followed(tmp_path):
    robot = Robot(model_of("fixed_2"))
    robot.tick()
    robot.tick()
    middle = robot.stream.snapshot()
    with Recorder(tmp_path / "walk.mcap", robot.model, start=middle) as recorder:
        for k in range(9):
            if k == 4:
                robot.stream.restore(middle)
                recorder.begin(middle)
            put(recorder, robot, robot.tick(), k)
    assert verdict_of(tmp_path / "walk.mcap").same
    assert verdict_of(tmp_path / "walk.mcap").found.compared == 9


@pytest.mark.parametrize("dropped", [1, 2, 3])
def test_a_stop_beside_dropped_ticks(dropped, tmp_path):
    """Behind a hole nobody knows whether it was enabled there, and a state that is told stands above the rule."""
    robot = Robot(model_of("fixed_2"))
    with Recorder(tmp_path / "walk.mcap", robot.model) as recorder:
        for k, kind in enumerate(["good", "good", "stopped", "good", "good", "good"]):
            tick = robot.tick(kind)
            if k == dropped:
                recorder._ring.count += 1
                recorder._writer.asks = True
            else:
                put(recorder, robot, tick, k)
    assert verdict_of(tmp_path / "walk.mcap").first is None


def test_several_recordings_in_any_executor(tmp_path):
    paths = [tmp_path / f"walk{k}.mcap" for k in range(3)]
    for k, path in enumerate(paths):
        record(path, model_of("fixed_2"), ["good"] * 10, seed=k)
    robot = Robot(model_of("fixed_2"))
    with Recorder(tmp_path / "bad.mcap", robot.model) as recorder:
        put(recorder, robot, robot.tick()._replace(raw=np.zeros(2, np.float32)), 0)
    paths.append(tmp_path / "bad.mcap")
    with ThreadPoolExecutor(2) as threads:
        for executor in (InThisProcess(), threads):
            report = lnn_edge.replay(bundle("fixed_2"), paths, executor=executor)
            assert [verdict.same for verdict in report.verdicts] == [True, True, True, False]
            assert not report.same
            assert str(report).splitlines()[-1] == f"{bundle('fixed_2')}: 3 of 4 recordings the same"


def test_what_is_no_executor_is_refused(tmp_path):
    record(tmp_path / "walk.mcap", model_of("fixed_2"), ["good"])
    with pytest.raises(TypeError, match=r"`executor` is 4, expected one: concurrent\.futures\.ThreadPoolExecutor\(\)"):
        lnn_edge.replay(bundle("fixed_2"), tmp_path / "walk.mcap", executor=4)


def test_one_that_cannot_be_read_has_a_verdict_among_others(tmp_path):
    good, cut, none = tmp_path / "good.mcap", tmp_path / "cut.mcap", tmp_path / "none.mcap"
    record(good, model_of("fixed_2"), ["good"] * 10)
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 1
    cut.write_bytes(b"MCAP" + good.read_bytes()[4:40])
    (tmp_path / "changed.mcap").write_bytes(data)
    paths = [none, good, cut, tmp_path / "changed.mcap"]
    report = lnn_edge.replay(bundle("fixed_2"), paths, executor=InThisProcess())
    assert [verdict.same for verdict in report.verdicts] == [False, True, False, False]
    assert not report.same
    lines = str(report).splitlines()
    assert lines[0] == f"{none}: UNREADABLE: No such file or directory"
    assert lines[2].startswith(f"{cut}: UNREADABLE: ")
    for own in (none, cut):
        with pytest.raises((OSError, ValueError)):
            lnn_edge.replay(bundle("fixed_2"), own)


def test_processes_are_the_default(tmp_path):
    """Paths and numbers are all that goes there."""
    for k in range(2):
        record(tmp_path / f"walk{k}.mcap", model_of("fixed_2"), ["good"] * 10)
    report = lnn_edge.replay(bundle("fixed_2"), sorted(tmp_path.iterdir()), backend="onnxruntime")
    assert report.same
    assert [verdict.recording for verdict in report.verdicts] == [str(tmp_path / f"walk{k}.mcap") for k in range(2)]


def test_a_model_stands_for_its_bundle_and_backend(tmp_path):
    record(tmp_path / "walk.mcap", model_of("fixed_2"), ["good"])
    report = lnn_edge.replay(model_of("fixed_2"), tmp_path / "walk.mcap")
    assert report.same
    assert report.bundle == str(bundle("fixed_2"))
    assert report.verdicts[0].backend.startswith("onnxruntime")


def test_a_recording_of_another_bundle_is_refused_by_name(tmp_path):
    record(tmp_path / "walk.mcap", model_of("fixed_2"), ["good"])
    with pytest.raises(ValueError, match=r"walk\.mcap' is of bundle 'fixed_2' \(\w{12}\), and '.*' is 'measured_2' \("):
        lnn_edge.replay(bundle("measured_2"), tmp_path / "walk.mcap")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"recordings": []}, "there is no recording"), ({"recordings": ["a"], "tolerance": -1.0}, "`tolerance` is -1.0")],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        lnn_edge.replay(bundle("fixed_2"), **arguments)


@pytest.mark.parametrize("more", [0, 20])
def test_one_that_was_cut_within_its_first_chunk_says_so(tmp_path, more):
    record(tmp_path / "walk.mcap", model_of("fixed_2"), ["good"] * 20)
    data = (tmp_path / "walk.mcap").read_bytes()
    place = 8
    while data[place] != 6:  # a chunk
        place += 9 + int.from_bytes(data[place + 1 : place + 9], "little")
    (tmp_path / "walk.mcap").write_bytes(data[: place + more])
    verdict = verdict_of(tmp_path / "walk.mcap")
    assert not verdict.same
    assert str(verdict) == (
        f"{tmp_path / 'walk.mcap'}: NOTHING to compare: it ends early, as after a crash, and none of its "
        f"{place + more:,} bytes are of a complete chunk of ticks. Nothing more can be had of it: leave it out, or "
        "record again"
    )


def test_no_ticks_are_no_proof(tmp_path):
    with Recorder(tmp_path / "walk.mcap", model_of("fixed_2")):
        pass
    verdict = verdict_of(tmp_path / "walk.mcap")
    assert not verdict.same
    assert str(verdict).endswith("NOTHING to compare: it holds no ticks")


def test_the_numbers_of_statuses_stand_in_recordings():
    names = "ok warming_up late stale not_finite_input bad_input gap clock_backward not_finite_output"
    names += " state_out_of_bounds backend_error function_failed stopped"
    assert [status.name.lower() for status in Status][:13] == names.split()
    assert [*Status] == [*range(len(Status))]


@pytest.mark.parametrize("path", [5, None, b"walk.mcap", [5]])
def test_what_is_no_path_of_a_recording(path, cfc_bundle):
    with pytest.raises(TypeError, match="expected the path of a recording"):
        lnn_edge.replay(cfc_bundle, path)


@pytest.mark.timeout(120)
def test_a_script_without_its_idiom_is_told_what_to_type(cfc_bundle, tmp_path):
    for name in ("a", "b"):
        lnn_edge.Recorder(tmp_path / f"{name}.mcap", lnn_edge.load(cfc_bundle)).close()
    script = tmp_path / "script.py"
    script.write_text(f"import lnn_edge\nlnn_edge.replay({str(cfc_bundle)!r}, ['a.mcap', 'b.mcap'])\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode
    assert (
        "put the call under `if __name__ == '__main__':`" in done.stderr
    )  # behind it the tracker of resources may complain
