"""Reading of recordings that are cut, damaged, hostile, or were made over by tools of MCAP."""

from __future__ import annotations

import os
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.data_stream import RecordBuilder
from mcap.records import Channel, Chunk
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer
from properties import examples
from ticks import Robot, bundle, model_of, put, read_back, record

import lnn_edge
from lnn_edge import Recorder
from lnn_edge.runtime.record.reading import read_origin
from lnn_edge.runtime.record.writer import Writer as Thread

KINDS = ["good", "refused", "split", "reset", "good"] * 8


@pytest.fixture(scope="module")
def model():
    return model_of("fixed_2")


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """A recording of eight chunks and with a state in the middle, and its ticks."""
    path, robot = tmp_path_factory.mktemp("whole") / "walk.mcap", Robot(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Thread, "run", lambda self: self.stop.wait())
        recorder = Recorder(path, model, state_every=3)
        for k, kind in enumerate(KINDS):
            if k == 22:
                recorder.begin(robot.stream.snapshot())
            put(recorder, robot, robot.tick(kind), k)
            if k % 5 == 4:
                recorder._writer._turn(recorder._ring.take(), end=True)
        recorder._writer._end()
        recorder.close()
    assert recorder.error is None
    return path.read_bytes(), read_back(path, model)[0]


def outcome(path, data, model):
    """The ticks in a file with this content and whether it is cut, or why it is refused."""
    path.write_bytes(data)
    try:
        ticks, _, cut = read_back(path, model)
    except ValueError as error:
        return str(error)
    return ticks, cut


def is_beginning(ticks, of):
    """Whether ticks are the first of others, bit for bit; between fields there is memory that belongs to none."""
    return len(ticks) <= len(of) and all(ticks[n].tobytes() == of[n][: len(ticks)].tobytes() for n in ticks.dtype.names)


def test_a_file_that_is_cut_anywhere_opens_up_to_the_last_complete_chunk(whole, model, tmp_path):
    data, all_ticks = whole
    seen = set()
    for length in range(8, len(data), len(data) // examples(len(data) // 37)):
        ticks, cut = outcome(tmp_path / "cut.mcap", data[:length], model)
        right = is_beginning(ticks, all_ticks)
        assert right
        assert cut == (length < data.rindex(b"\x0f\x04\0\0\0\0\0\0\0") + 13)
        seen.add(len(ticks))
    assert seen == {0, 5, 10, 15, 20, 22, 25, 30, 35, 40}


@given(data=st.data())
@settings(max_examples=examples(300), deadline=None)
def test_changed_bytes_are_refused_or_change_nothing(whole, model, tmp_path_factory, data):
    original, all_ticks = whole
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del changed[data.draw(st.integers(0, len(original))) :]
    found = outcome(tmp_path_factory.getbasetemp() / "changed.mcap", bytes(changed), model)
    refused = isinstance(found, str)
    right = "changed.mcap' cannot be read: " in found if refused else is_beginning(found[0], all_ticks)
    assert right


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"time,x\n0,1\n", "it is no file of MCAP"),
        (b"\x89MCAP0\r\n", "it ends before it says what it is"),
        (b"\x89MCAP0\r\n" + struct.pack("<BQ", 6, 1 << 62) + b"\0" * 100, "it ends before it says what it is"),
    ],
)
def test_what_is_no_recording_is_refused_in_words(data, why, tmp_path):
    (tmp_path / "walk.mcap").write_bytes(data)
    with pytest.raises(ValueError, match=rf"walk\.mcap' cannot be read: {re.escape(why)}$"):
        read_origin(tmp_path / "walk.mcap")


def test_what_is_no_file_is_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"walk\.mcap"):
        read_origin(tmp_path / "walk.mcap")
    with pytest.raises(ValueError, match="is a directory, expected a recording"):
        read_origin(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        read_origin(tmp_path / "pipe")


def test_a_newer_recording_says_so(whole, tmp_path):
    data = whole[0].replace(b"\x07\0\0\0version\x01\0\0\0001", b"\x07\0\0\0version\x01\0\0\0009")
    (tmp_path / "walk.mcap").write_bytes(data)
    with pytest.raises(ValueError, match=r"it is of version 9, and this program reads up to 1\. Update lnn-edge"):
        read_origin(tmp_path / "walk.mcap")


def remade(data, path, compression, chunk_size=300, topics=None):
    """The same messages, written by the library of MCAP."""
    source = path.with_suffix(".source")
    source.write_bytes(data)
    with source.open("rb") as file, path.open("wb") as target:
        writer = Writer(target, compression=compression, chunk_size=chunk_size, use_chunking=compression is not None)
        if compression is None:
            writer = Writer(target, use_chunking=False)
        writer.start()
        for record_ in StreamReader(file).records:
            kind = type(record_).__name__
            if kind == "Schema":
                writer.register_schema(record_.name, record_.encoding, record_.data)
            elif kind == "Channel":
                for topic in topics or [record_.topic]:
                    writer.register_channel(topic, record_.message_encoding, 1, record_.metadata)
            elif kind == "Attachment":
                writer.add_attachment(0, 0, record_.name, record_.media_type, record_.data)
            elif kind == "Message":
                writer.add_message(1, record_.log_time, record_.data, record_.publish_time, record_.sequence)
            elif kind == "DataEnd":
                break
        writer.finish()


@pytest.mark.parametrize("compression", [*CompressionType, None])
def test_what_tools_make_of_a_recording_is_read_as_well(compression, whole, model, tmp_path):
    remade(whole[0], tmp_path / "made.mcap", compression)
    ticks, _, _ = read_back(tmp_path / "made.mcap", model)
    right = len(ticks) == len(whole[1]) and is_beginning(ticks, whole[1])
    assert right
    assert lnn_edge.replay(bundle("fixed_2"), tmp_path / "made.mcap", backend="onnxruntime").same


def test_two_recordings_in_one_file_are_refused(whole, model, tmp_path):
    remade(whole[0], tmp_path / "made.mcap", CompressionType.ZSTD, topics=["left", "right"])
    with pytest.raises(ValueError, match="it holds several recordings of this bundle"):
        read_back(tmp_path / "made.mcap", model)


def hostile_chunk(compression, data, size):
    builder = RecordBuilder()
    Chunk(compression, data, 0, 0, 0, size).write(builder)
    return builder.end()


@pytest.mark.parametrize(
    ("compression", "data", "size", "why"),
    [
        ("", b"", 1 << 62, "a chunk has 4,611,686,018,427,387,904 bytes"),
        ("zstd", b"no zstd", 100, "it is damaged"),
        ("lz4", b"no lz4", 100, "a chunk does not match"),
        ("snappy", b"x", 100, "its chunks are compressed by 'snappy'"),
        ("", b"\5" + (1 << 40).to_bytes(8, "little"), 9, "a record is longer than its chunk"),
        ("", b"\5" + (2).to_bytes(8, "little") + b"\1\0", 11, "a message is too short"),
        ("", b"\5" + (30).to_bytes(8, "little") + b"\1" + b"\0" * 29, 39, "a message of 8 bytes is no tick"),
    ],
)
def test_a_hostile_chunk_is_refused(compression, data, size, why, whole, model, tmp_path):
    original = whole[0]
    (tmp_path / "walk.mcap").write_bytes(original[: first_chunk(original)] + hostile_chunk(compression, data, size))
    with pytest.raises(ValueError, match=why):
        read_back(tmp_path / "walk.mcap", model)


def first_chunk(data):
    place = 8
    while data[place] != 6:
        place += 9 + int.from_bytes(data[place + 1 : place + 9], "little")
    return place


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.LZ4])
def test_a_bomb_takes_no_memory(compression, whole, model, tmp_path):
    import lz4.frame
    import zstandard

    pack = zstandard.compress if compression is CompressionType.ZSTD else lz4.frame.compress
    bomb = hostile_chunk(compression.name.lower(), pack(bytes(1 << 28)), 1000)
    assert len(bomb) < 1 << 21
    (tmp_path / "walk.mcap").write_bytes(whole[0][: first_chunk(whole[0])] + bomb)
    with pytest.raises(ValueError, match="a chunk does not match its checksum"):
        read_back(tmp_path / "walk.mcap", model)


def test_a_recording_without_ticks_of_ours_says_so(tmp_path):
    builder = RecordBuilder()
    Channel(1, "camera", "protobuf", {}, 0).write(builder)
    (tmp_path / "walk.mcap").write_bytes(b"\x89MCAP0\r\n" + builder.end() + b"\x0f\x04\0\0\0\0\0\0\0\0\0\0\0")
    with pytest.raises(ValueError, match="it holds no ticks of lnn-edge, only other channels"):
        read_origin(tmp_path / "walk.mcap")


def test_replay_of_a_recording_that_was_cut_says_so(whole, tmp_path):
    (tmp_path / "walk.mcap").write_bytes(whole[0][: len(whole[0]) // 2])
    report = lnn_edge.replay(bundle("fixed_2"), tmp_path / "walk.mcap", backend="onnxruntime")
    assert report.same
    assert "the recording ends early, as after a crash; its complete chunks were compared" in str(report)


def test_states_come_back_bit_for_bit(model, tmp_path):
    robot = Robot(model)
    for _ in range(3):
        robot.tick()
    state = robot.stream.snapshot()
    record(tmp_path / "walk.mcap", model, ["good"], start=state)
    _, (start,), _ = read_back(tmp_path / "walk.mcap", model)
    assert start.tick == 0
    assert {n: v.tobytes() for n, v in start.state.tensors.items()} == {
        n: v.tobytes() for n, v in state.tensors.items()
    }
    assert np.isfinite(start.state.tensors["h_in"]).all()
