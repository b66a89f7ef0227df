"""Snapshots on disk: exact, whole, of one model alone, and readable by whoever has the page of the docs."""

from __future__ import annotations

import datetime
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from bundles import copied, resign
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from properties import examples
from safetensors.numpy import load_file

import lnn_edge
from lnn_edge import State
from lnn_edge.runtime.record.snapshot import _Description, backend_of_snapshot
from lnn_edge.tensor_file import read_tensors, write_tensors
from lnn_edge.times import Stamp

RNG = np.random.default_rng(23)
XS = RNG.uniform(-1, 1, (40, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(cfc_bundle):
    return lnn_edge.load(cfc_bundle, backend="onnxruntime")


@pytest.fixture(scope="module")
def timed(ltc_bundle):
    return lnn_edge.load(ltc_bundle, backend="onnxruntime")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "walk.snapshot"


def assert_same(found, expected):
    assert isinstance(found, State)
    assert type(found.t_s) is type(expected.t_s)
    assert (found.t_s, getattr(found.t_s, "ns", None)) == (expected.t_s, getattr(expected.t_s, "ns", None))
    for own, other in ((found.tensors, expected.tensors), (found.kept, expected.kept)):
        assert set(own) == set(other)
        for name, array in own.items():
            assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape)
            assert array.tobytes() == other[name].tobytes()
            assert not array.flags.writeable


STREAMS = {
    "plain": {},
    "windows side by side": {"window": 6, "every": 2},
    "windows that end": {"window": 7, "every": 3},
}


@pytest.mark.parametrize("options", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("steps", [0, 1, 5, 17])
def test_a_stream_goes_on_bit_for_bit(timed, place, options, steps):
    stream, other = timed.stream(**options), timed.stream(**options)
    for k in range(steps):
        stream.step(XS[k], t_s=0.1 * k + 0.01)
    lnn_edge.save_snapshot(place, stream.snapshot(), model=timed, steps=steps)
    saved = lnn_edge.load_snapshot(place, timed)
    assert_same(saved.state, stream.snapshot())
    assert (saved.steps, saved.t_s) == (steps, 0.1 * (steps - 1) + 0.01 if steps else None)
    other.restore(saved.state)
    for k in range(steps, steps + 12):
        ours, theirs = other.step(XS[k], t_s=0.1 * k + 0.01), stream.step(XS[k], t_s=0.1 * k + 0.01)
        assert ours.tobytes() == theirs.tobytes()
        assert other.fresh == stream.fresh


def test_times_of_the_calendar_keep_their_nanoseconds(timed, place):
    stream = timed.stream()
    now = np.datetime64("2026-05-01T12:00:00.123456789")
    stream.step(XS[0], t_s=now)
    lnn_edge.save_snapshot(place, stream.snapshot(), model=timed, steps=1)
    saved = lnn_edge.load_snapshot(place, timed)
    assert isinstance(saved.t_s, Stamp)
    assert saved.t_s.ns == now.astype(np.int64)
    assert_same(saved.state, stream.snapshot())


@settings(max_examples=examples(50), deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=8, max_size=8),
    t_s=st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**62), 2**62).map(Stamp),
    kept=st.dictionaries(
        st.text(min_size=1, max_size=5).filter(lambda name: name.isprintable()),
        st.sampled_from([np.array(3), np.zeros((0, 3)), np.array([[1.5]], ">f4"), np.asfortranarray(XS), XS[::2] > 0]),
    ),
    steps=st.integers(0, 2**63 - 1),
)
def test_every_state_comes_back(timed, tmp_path_factory, values, t_s, kept, steps):
    place = tmp_path_factory.getbasetemp() / "any.snapshot"
    (name,) = timed.initial_state().tensors
    state = State({name: np.array([values], np.float32)}, t_s, {own: array.copy() for own, array in kept.items()})
    lnn_edge.save_snapshot(place, state, model=timed, steps=steps)
    saved = lnn_edge.load_snapshot(place, timed)
    native = {own: array.astype(array.dtype.newbyteorder("=")) for own, array in state.kept.items()}
    assert_same(saved.state, State(state.tensors, t_s, native))
    assert saved.steps == steps


def test_what_a_program_puts_beside_it_comes_back(model, place):
    extra = {"row": 12, "size": 10**40, "values": [0.1, -5e-324, None, "\u00e4\n"], "by": {"a": True}}
    before = datetime.datetime.now(datetime.timezone.utc)
    lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=0, extra=extra)
    saved = lnn_edge.load_snapshot(place, model)
    assert saved.extra == extra
    assert before <= saved.wall_time <= datetime.datetime.now(datetime.timezone.utc)
    assert backend_of_snapshot(place) == "onnxruntime"


@pytest.mark.parametrize("extra", [{"a": float("nan")}, {"a": {1}}, {"a": (1, 2)}, {1: 2}, []])
def test_what_json_does_not_hold_is_refused(model, place, extra):
    with pytest.raises((ValueError, TypeError), match="`extra`"):
        lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=0, extra=extra)
    assert not place.exists()


def test_what_is_too_much_for_a_header_is_refused(model, place):
    with pytest.raises(ValueError, match="`extra` takes 16,777,225 bytes as JSON, expected at most 16,777,216"):
        lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=0, extra={"a": "x" * (1 << 24)})
    assert not place.exists()


@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_is_no_place_for_a_state(model, place):
    """Nobody reads the pipe: who opens it waits for ever, and no signal ends that in a thread."""
    os.mkfifo(place)
    for own in (place, Path("/dev/null")):
        with pytest.raises(ValueError, match=f"'{own}' is a pipe or a device, expected the name of a file"):
            lnn_edge.save_snapshot(own, model.initial_state(), model=model, steps=0)
        with pytest.raises(ValueError, match=f"'{own}' is a pipe or a device, expected the name of a file"):
            lnn_edge.Loop(model, np.zeros((1, 3), np.float32), snapshot=own)


@pytest.mark.parametrize("steps", [-1, 1.5, True, None, 2**63])
def test_a_number_of_steps_is_one(model, place, steps):
    with pytest.raises((ValueError, TypeError), match="`steps`"):
        lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=steps)
    assert not place.exists()


def test_only_a_state_of_the_model_is_saved(model, timed, place):
    with pytest.raises(ValueError, match="another model"):
        lnn_edge.save_snapshot(place, State({"other": np.zeros((1, 3), np.float32)}), model=model, steps=0)
    with pytest.raises(TypeError, match="expected a State"):
        lnn_edge.save_snapshot(place, pickle.dumps(1), model=model, steps=0)
    (name,) = timed.initial_state().tensors
    with pytest.raises(lnn_edge.errors.NonFiniteError):
        lnn_edge.save_snapshot(place, State({name: np.full((1, 8), np.nan, np.float32)}), model=timed, steps=0)
    assert not place.exists()


def test_another_bundle_is_refused_by_name(model, cfc_bundle, tmp_path, place):
    lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=0)
    other = lnn_edge.load(resign(copied(cfc_bundle, tmp_path / "run.lnn"), name="run"), backend="onnxruntime")
    with pytest.raises(
        ValueError, match=r"is of bundle 'gait' \(\w{12}\), and this is 'run' \(\w{12}\).*type: rm .*walk"
    ):
        lnn_edge.load_snapshot(place, other)


def test_another_backend_and_another_build_are_refused_by_name(model, cfc_bundle, place, compiler):
    native = lnn_edge.load(cfc_bundle, backend="native")
    lnn_edge.save_snapshot(place, native.initial_state(), model=native, steps=0)
    assert lnn_edge.load_snapshot(place, native).state.build == native.build != ""
    with pytest.raises(ValueError, match=r"is of backend native, and this is onnxruntime\. To begin anew, type: rm "):
        lnn_edge.load_snapshot(place, model)
    described, tensors = read_tensors(place, "snapshot", _Description, 1)
    write_tensors(place, "snapshot", replace(described, build="other"), tensors)
    with pytest.raises(ValueError, match=f"is of build other, and this is {native.build}. To begin anew, type: rm "):
        lnn_edge.load_snapshot(place, native)


def test_a_newer_one_says_what_to_do(model, place):
    lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=0)
    described, tensors = read_tensors(place, "snapshot", _Description, 1)
    write_tensors(place, "snapshot", replace(described, version=2), tensors)
    with pytest.raises(ValueError, match=r"format version 2, but this lnn-edge reads up to 1\. Type: pip install"):
        lnn_edge.load_snapshot(place, model)


def test_tensors_of_another_shape_or_name_are_refused(model, place):
    lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=0)
    described, tensors = read_tensors(place, "snapshot", _Description, 1)
    (name,) = tensors
    for others in (
        {"state.other": tensors[name]},
        {name: np.zeros((1, 3), np.float32)},
        {**tensors, "x": tensors[name]},
    ):
        write_tensors(place, "snapshot", described, others)
        with pytest.raises(ValueError, match=r"does not fit its model: .*To begin anew, type: rm "):
            lnn_edge.load_snapshot(place, model)


def test_what_is_no_snapshot_says_so(model, tmp_path):
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    (tmp_path / "pickle").write_bytes(pickle.dumps(model.initial_state()))
    (tmp_path / "empty").touch()
    for name, what in (("y.csv", "a text file"), ("pickle", "a pickle"), ("empty", "empty")):
        with pytest.raises(ValueError, match=f"it is {what}. To begin anew, type: rm "):
            lnn_edge.load_snapshot(tmp_path / name, model)
    with pytest.raises(FileNotFoundError, match="expected a snapshot"):
        lnn_edge.load_snapshot(tmp_path / "none", model)
    with pytest.raises(IsADirectoryError):
        lnn_edge.load_snapshot(tmp_path, model)
    with pytest.raises(TypeError, match="expected the path of a snapshot"):
        lnn_edge.load_snapshot(3, model)


@pytest.fixture(scope="module")
def written(timed, tmp_path_factory):
    """Bytes of a snapshot with all there is, and what they stand for."""
    place, stream = tmp_path_factory.mktemp("written") / "a.snapshot", timed.stream(window=6, every=2)
    for k in range(9):
        stream.step(XS[k], t_s=0.1 * k)
    lnn_edge.save_snapshot(place, stream.snapshot(), model=timed, steps=9, extra={"row": 9})
    return place, place.read_bytes(), lnn_edge.load_snapshot(place, timed)


def _loads_the_same_or_is_refused(place, data, timed, expected):
    place.write_bytes(data)
    try:
        found = lnn_edge.load_snapshot(place, timed)
    except ValueError as error:
        text = str(error)
    else:
        assert_same(found.state, expected.state)
        assert (found.steps, found.extra, found.wall_time) == (expected.steps, expected.extra, expected.wall_time)
        return True
    assert "To begin anew, type: rm " in text
    assert text.isprintable()
    return False


def test_cut_at_any_byte_it_is_refused(written, timed, tmp_path):
    _, data, expected = written
    for size in {*range(0, len(data), 23), *range(len(data) - 20, len(data))}:
        assert not _loads_the_same_or_is_refused(tmp_path / "cut", data[:size], timed, expected)


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_any_byte_that_changes_is_noticed(written, timed, data):
    place, content, expected = written
    at, value = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 255))
    changed = content[:at] + bytes([value]) + content[at + 1 :]
    same = _loads_the_same_or_is_refused(place.with_name("changed"), changed, timed, expected)
    blank = b" \t\n\r"  # the header ends with blanks, which mean nothing
    assert not same or changed == content or (content[at] in blank and value in blank)


@settings(max_examples=examples(200), deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 400), size=st.integers(0, 400))
def test_any_bytes_in_its_place_are_noticed(written, timed, data, at, size):
    place, content, expected = written
    _loads_the_same_or_is_refused(
        place.with_name("spliced"), content[:at] + data + content[at + size :], timed, expected
    )


def test_it_is_on_the_disk_with_its_name(model, place, monkeypatch):
    """First the file, then it takes its place, then the folder."""
    seen, usual_sync, usual_replace = [], os.fsync, os.replace

    def sync(descriptor):
        seen.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        usual_sync(descriptor)

    def put(one, other):
        seen.append("replaced")
        usual_replace(one, other)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", put)
    lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=0)
    assert seen == ["file", "replaced", "folder"]


def test_a_disk_that_fails_leaves_the_old_one(model, place, monkeypatch):
    lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=2)
    assert caught.value.filename == str(place)
    assert lnn_edge.load_snapshot(place, model).steps == 1
    assert os.listdir(place.parent) == [place.name]


def test_readers_beside_a_writer_see_whole_ones(model, place):
    lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=0)
    done = threading.Event()

    def write():
        for k in range(60):
            lnn_edge.save_snapshot(place, model.initial_state(), model=model, steps=k)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        seen.append(lnn_edge.load_snapshot(place, model).steps)
    writer.join()
    assert seen == sorted(seen)
    assert lnn_edge.load_snapshot(place, model).steps == 59


def test_the_names_in_the_file_are_those_of_the_page(written, timed):
    place, _, expected = written
    names = {f"state.{name}" for name in expected.state.tensors} | {f"kept.{name}" for name in expected.state.kept}
    assert set(load_file(place)) == names


class TestResume:
    """A guarded stream that goes on from disk, as far as its guard lets it."""

    @pytest.fixture
    def kept(self, model, place):
        guarded = model.guarded()
        for k in range(3):
            guarded.tick(np.full(model.inputs[0].shape[1:], 0.1 * k, np.float32))
        lnn_edge.save_snapshot(place, guarded.snapshot(), model=model, steps=3)
        return guarded.snapshot()

    def test_it_goes_on(self, model, place, kept):
        guarded = model.guarded()
        found = lnn_edge.resume(guarded, place)
        assert found.steps == 3
        for name, value in kept.tensors.items():
            np.testing.assert_array_equal(guarded.snapshot().tensors[name], value)

    def test_without_a_file_it_begins(self, model, tmp_path):
        assert lnn_edge.resume(model.guarded(), tmp_path / "none") is None

    def test_what_is_not_guarded_is_refused(self, model, place):
        for own in (model, model.stream()):
            with pytest.raises(TypeError, match=r"`guarded` is .*, expected a guarded stream: model\.guarded\(\)"):
                lnn_edge.resume(own, place)

    @pytest.mark.parametrize("within_s", [1e-9, None], ids=["as typed", "by the guard"])
    def test_one_that_is_too_old(self, model, place, kept, within_s):
        gap_s = 1e-9 if within_s is None else None
        guarded = model.guarded(lnn_edge.Guard(gap_s=gap_s))
        with pytest.raises(ValueError, match=r"s old, and '\w+' goes on within 1e-09 s. To begin anew, type: rm "):
            lnn_edge.resume(guarded, place, within_s=within_s)
        guarded = model.guarded(lnn_edge.Guard(gap_s=gap_s, on_gap="reset"))
        assert lnn_edge.resume(guarded, place, within_s=within_s) is None
        start = model.initial_state()
        for name, value in guarded.snapshot().tensors.items():
            np.testing.assert_array_equal(value, start.tensors[name])
