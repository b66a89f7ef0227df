"""Recordings opened by the library of MCAP with protobuf: names at the top level, and every bit of every number."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.records import Schema
from mcap.stream_reader import StreamReader
from mcap_protobuf.decoder import DecoderFactory
from ticks import model_of, record

from lnn_edge import Feature
from lnn_edge.bundle.spec import Readout, Tensor
from lnn_edge.runtime.guard.status import Status
from lnn_edge.runtime.record.layout import identifier, layout_of
from lnn_edge.runtime.record.messages import Messages
from lnn_edge.runtime.record.schema import message_name, schema_bytes


@pytest.fixture(scope="module")
def model():
    return model_of("fixed_2")


def test_the_library_of_mcap_opens_it(model, tmp_path):
    ticks = record(tmp_path / "walk.mcap", model, ["good", "refused", "split"] * 30, state_every=4)
    with (tmp_path / "walk.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        found = list(reader.iter_decoded_messages())
        described = {one.name: one.metadata for one in reader.iter_metadata()}
    assert [channel.topic for channel in summary.channels.values()] == ["fixed_2"]
    assert summary.statistics.message_count == len(found) == len(ticks)
    for k, ((schema, channel, message, own), tick) in enumerate(zip(found, ticks, strict=True)):
        assert (schema.name, channel.metadata["bundle"]) == ("lnn_edge.fixed_2", model.manifest.digest)
        assert (message.sequence, message.publish_time, message.log_time) == (k, own.mono_ns, own.wall_ns)
        assert (own.tick, own.status, own.stepped, own.t_s) == (k, tick.status, tick.stepped, k * 0.02)
        assert len(own.h_in) == (6 if k % 4 == 0 else 0)
        if tick.stepped:
            assert [own.acc_x, own.acc_y, own.gyro_z] == tick.x.tolist()
            assert [own.walk, own.run] == tick.y.tolist()
            assert [own.walk_raw, own.run_raw] == tick.raw.tolist()
    assert described["lnn-edge end"] == {"written": "90", "dropped": "0"}
    origin = described["lnn-edge"]
    assert (origin["model"], origin["backend"], origin["build"]) == ("fixed_2", "onnxruntime", "")
    units = {one["field"]: one.get("unit") for one in json.loads(origin["fields"])}
    assert units["acc_x"] == model.inputs[0].features[0].unit
    assert [value.name for value in found[0][3].DESCRIPTOR.enum_types_by_name["Status"].values] == [
        f"STATUS_{status.name}" for status in Status
    ]


def test_every_checksum_holds(model, tmp_path):
    record(tmp_path / "walk.mcap", model, ["good"] * 10, start=model.initial_state())
    with (tmp_path / "walk.mcap").open("rb") as file:
        kinds = [type(one).__name__ for one in StreamReader(file, validate_crcs=True).records]
    assert kinds.count("Message") == 10
    assert kinds[:5] == ["Header", "Metadata", "Schema", "Channel", "Attachment"]
    assert kinds[-1] == "Footer"


# Names that collide, in capitals and underscores alone as well, with fields that every tick has, and with each other.
HARD = [
    "tick",
    "t_s",
    "T S",
    "acc.x",
    "acc x",
    "accX",
    "9",
    "",
    "größe",
    "status",
    "STATUS_OK",
    "hip",
    "hip_raw",
    "h_in",
]


def hard(model):
    """Manifests with everything that a sample can be made of."""
    manifest = model.manifest
    features = tuple(Feature(name) for name in HARD)
    many = tuple(Feature(f"f{k}") for k in range(2100))
    tensors = {
        "names": Tensor("input", (1, len(HARD)), features),
        "many": Tensor("input", (1, 2100), many),
        "centred": Tensor("input", (1, 3), features[:3], center=(1.0, 2.0, 3.0)),
        "tokens": Tensor("input", (1, 2), features[:2], dtype="int32"),
        "bytes": Tensor("input", (1, 2), features[:2], dtype="uint8"),
        "picture": Tensor("input", (1, 3, 4, 5), dtype="uint8"),
        "plain": Tensor("input", (1, 3, 4)),
    }
    for name, tensor in tensors.items():
        outputs = (Tensor("output", (1, 2), (Feature("hip"), Feature("knee"))),)
        yield name, msgspec.structs.replace(manifest, inputs=(tensor,), outputs=outputs)
    yield (
        "rows",
        msgspec.structs.replace(
            manifest,
            batch=4,
            unroll=3,
            inputs=(Tensor("left", (4, 2), (Feature("x"), Feature("y"))), Tensor("right", (4, 1), (Feature("x"),))),
            outputs=(Tensor("output", (4, 2), (Feature("x"), Feature("z"))),),
            states=tuple(msgspec.structs.replace(s, shape=(4, 6)) for s in manifest.states),
            readout=Readout("last"),
        ),
    )


@pytest.fixture(scope="module")
def manifests(model):
    return dict(hard(model))


CASES = ["names", "many", "centred", "tokens", "bytes", "picture", "plain", "rows"]


def decoder(manifest):
    layout = layout_of(manifest)
    schema = Schema(1, schema_bytes(manifest.name, layout), "protobuf", message_name(manifest.name))
    return layout, DecoderFactory().decoder_for("protobuf", schema)


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=4, deadline=None)
def test_every_bit_of_every_number_survives(name, manifests, seed):
    layout, decode = decoder(manifests[name])
    ticks, messages, rng = np.zeros(5, layout.dtype), Messages(layout), np.random.default_rng(seed)
    ticks.view(np.uint8)[...] = rng.integers(0, 256, ticks.nbytes, np.uint8)
    ticks["tick"] &= (1 << 62) - 1
    for flag, most in (("status", 12), ("reset", 1), ("limited", 1), ("has_state", 1)):
        ticks[flag] = rng.integers(0, most + 1, 5)
    encoded = messages.encode(ticks)
    ends = [*encoded.offsets[1:].tolist(), len(encoded.data)]
    payloads = [encoded.data[a + 31 : b] for a, b in zip(encoded.offsets.tolist(), ends, strict=True)]
    back = messages.decode(payloads)
    for key in layout.dtype.names:
        with_it = ticks["has_state"] == 1 if key.startswith("state.") else slice(None)
        assert back[key][with_it].tobytes() == ticks[key][with_it].tobytes(), key
    for row, payload in zip(ticks, payloads, strict=True):
        own = decode(payload)
        for part in layout.parts:
            if part.role == "state" and not row["has_state"]:
                continue
            columns = row[part.key].reshape(-1, len(part.fields)).T
            values = [getattr(own, field) for field in part.fields]
            if isinstance(values[0], bytes):
                assert values == [row[part.key].tobytes()]
            elif part.dtype.startswith("float"):  # protobuf's own makes Python's floats of them
                np.testing.assert_array_equal(np.array(values, part.memory).reshape(columns.shape), columns)
            else:
                assert [np.atleast_1d(value).tolist() for value in values] == columns.tolist()


@pytest.mark.parametrize("name", CASES)
def test_names_of_fields_are_unique_and_legal(name, manifests):
    fields = [field for part in layout_of(manifests[name]).parts for field in part.fields]
    assert all(field.isidentifier() and field.isascii() and field[0].isalpha() for field in fields)
    assert len({field.lower().replace("_", "") for field in fields}) == len(fields)


def test_equal_names_are_told_apart_by_what_they_are(manifests):
    layout = layout_of(manifests["rows"])
    assert [(part.role, part.fields) for part in layout.parts] == [
        ("input", ("x", "y")),
        ("input", ("x_in",)),
        ("output", ("x_out", "z")),
        ("raw", ("x_out_raw", "z_raw")),
        ("state", ("h_in",)),
    ]
    assert [part.shape for part in layout.parts] == [(4, 3, 2), (4, 3, 1), (4, 2), (4, 2), (4, 6)]
    assert layout_of(manifests["names"]).parts[0].fields == (
        *("tick_in", "t_s_in", "T_S_in_2", "acc_x", "acc_x_in", "accX_in_2", "f_9", "f", "gr_e", "status_in"),
        *("STATUS_OK_in", "hip", "hip_raw", "h_in"),
    )


@pytest.mark.parametrize(
    ("name", "expected"), [("gait", "gait"), ("my model.v2", "my_model_v2"), ("...", "f"), ("2", "f_2")]
)
def test_identifiers(name, expected):
    assert identifier(name) == expected
