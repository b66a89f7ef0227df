"""A bundle on disk: whatever is wrong with it, `load` says so and runs nothing. It is written whole or not at all."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from bundles import ALL_FILES, CONTENT, chaotic_cfc, copied, edit_golden, edit_json, manifest_of, resign
from exports import quick_export
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import lnn_edge
from lnn_edge import Feature
from lnn_edge.bundle import directory
from lnn_edge.bundle.disk import writing
from lnn_edge.bundle.disk.writing import check_target, staged_directory
from lnn_edge.errors import BundleError, VerificationError

# The same examples in every run; a fixture's directory may be written again and again.
FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])

# ---- the path -------------------------------------------------------------------------------------------------------


def test_missing_bundle_says_how_to_make_one(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle at '.*none\.lnn'\. Type: lnn-edge export FILE\.py:FACTORY"):
        lnn_edge.load(tmp_path / "none.lnn")


@pytest.mark.parametrize("name", ["gait\0.lnn", "file/gait.lnn"])
def test_impossible_path_is_no_bundle(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="no bundle at"):
        lnn_edge.load(tmp_path / name)


def test_name_too_long_is_refused(tmp_path):
    with pytest.raises(BundleError, match="cannot be read: File name too long"):
        lnn_edge.load(tmp_path / ("x" * 300))


def test_file_is_no_bundle(tmp_path):
    (tmp_path / "gait.lnn").write_bytes(b"\x08\x08")
    (tmp_path / "gait.engine").write_text("")
    with pytest.raises(BundleError, match=r"For an engine type: lnn-edge build BUNDLE .* --from .*gait\.engine$"):
        lnn_edge.load(tmp_path / "gait.engine")
    with pytest.raises(BundleError, match=r"gait\.lnn' is a file, but a bundle is a directory"):
        lnn_edge.load(tmp_path / "gait.lnn")


def test_bundle_in_forbidden_directory_is_refused(cfc_bundle, open_path, unprivileged):
    (open_path / "closed").mkdir(mode=0o000)
    with unprivileged(), pytest.raises(BundleError, match="cannot be read: Permission denied"):
        lnn_edge.load(open_path / "closed" / "gait.lnn")


# ---- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_FILES)
def test_missing_file_is_named(cfc_copy, name):
    (cfc_copy / name).unlink()
    with pytest.raises(
        BundleError, match=rf"gait\.lnn': {name} is missing\. Export the bundle again or copy the whole"
    ):
        lnn_edge.load(cfc_copy)


@pytest.mark.parametrize("name", CONTENT)
def test_truncated_file_is_named_with_its_sizes(cfc_copy, name):
    data = (cfc_copy / name).read_bytes()
    (cfc_copy / name).write_bytes(data[:-1])
    expected = rf"{name} has {len(data) - 1} bytes, but the manifest says {len(data)}: it is truncated or changed"
    with pytest.raises(BundleError, match=expected):
        lnn_edge.load(cfc_copy)


@pytest.mark.parametrize("name", CONTENT)
def test_changed_file_is_named_with_its_hashes(cfc_copy, name):
    data = bytearray((cfc_copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (cfc_copy / name).write_bytes(data)
    with pytest.raises(
        BundleError, match=rf"{name} was changed: its SHA-256 is \w{{12}}\.\.\., the manifest says \w{{12}}"
    ):
        lnn_edge.load(cfc_copy)


@pytest.mark.parametrize("name", ALL_FILES)
@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_any_changed_byte_is_refused(cfc_bundle, tmp_path, name, data):
    bundle = tmp_path / "gait.lnn"
    if not bundle.exists():
        copied(cfc_bundle, bundle)
    good = (cfc_bundle / name).read_bytes()
    index = data.draw(st.integers(0, len(good) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != good[index]))
    (bundle / name).write_bytes(good[:index] + bytes([value]) + good[index + 1 :])
    with pytest.raises(BundleError):
        lnn_edge.load(bundle, self_test=False)


def test_changed_white_space_in_the_manifest_is_refused(cfc_copy):
    text = (cfc_copy / "manifest.json").read_text()
    (cfc_copy / "manifest.json").write_text(text.replace("\n", " ", 1))
    with pytest.raises(BundleError, match="does not match its `digest`: a value was changed by hand or on the way"):
        lnn_edge.load(cfc_copy)


@settings(FUZZ, max_examples=200)
@given(junk=st.binary(max_size=200))
def test_junk_as_manifest_is_refused(cfc_bundle, tmp_path, junk):
    bundle = tmp_path / "gait.lnn"
    bundle.mkdir(exist_ok=True)
    (bundle / "manifest.json").write_bytes(junk)
    with pytest.raises(BundleError, match=r"manifest\.json is not a valid manifest"):
        lnn_edge.load(bundle)


@pytest.mark.parametrize("name", ALL_FILES)
def test_linked_file_is_refused(cfc_copy, cfc_bundle, name):
    (cfc_copy / name).unlink()
    (cfc_copy / name).symlink_to(cfc_bundle / name)
    with pytest.raises(BundleError, match=rf"{name} cannot be read: it is a link, and a bundle holds plain files only"):
        lnn_edge.load(cfc_copy)


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_what_is_no_regular_file_is_refused(cfc_copy, name, make):
    (cfc_copy / name).unlink()
    make(cfc_copy / name)
    with pytest.raises(BundleError, match=f"{name} is not a regular file"):
        lnn_edge.load(cfc_copy)


def test_socket_is_refused(cfc_copy, monkeypatch):
    (cfc_copy / "model.onnx").unlink()
    monkeypatch.chdir(cfc_copy)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("model.onnx")
        with pytest.raises(BundleError, match=r"model\.onnx cannot be read: No such device or address"):
            lnn_edge.load(cfc_copy)


def test_refused_files_are_closed_again(cfc_copy):
    (cfc_copy / "model.onnx").unlink()
    (cfc_copy / "model.onnx").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(BundleError, match="is not a regular file"):
            lnn_edge.load(cfc_copy)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ALL_FILES)
def test_unreadable_file_is_refused(cfc_bundle, open_path, unprivileged, name):
    bundle = copied(cfc_bundle, open_path / "gait.lnn")
    (bundle / name).chmod(0o000)
    with unprivileged(), pytest.raises(BundleError, match=f"{name} cannot be read: Permission denied"):
        lnn_edge.load(bundle)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """What is read of files whose hashes are checked, and of the manifest."""
    names: list[str] = []

    def whole(file, most):
        names.append(os.readlink(f"/proc/self/fd/{file.fileno()}").rpartition("/")[2])
        return directory_whole(file, most)

    directory_whole = directory._whole
    monkeypatch.setattr(directory, "_whole", whole)
    return names


@pytest.mark.parametrize("name", ALL_FILES)
def test_huge_file_is_refused_before_it_is_read(cfc_copy, name, reads):
    """Sparse, so that it takes no room; what the manifest says of its size does not help."""
    os.truncate(cfc_copy / name, 900 << 20)
    if name != "manifest.json":
        entry = directory.FileEntry("0" * 64, 900 << 20)
        files = manifest_of(cfc_copy).files | {name: entry}
        directory.write_manifest(cfc_copy, _replaced(manifest_of(cfc_copy), files=files))
    with pytest.raises(BundleError, match=rf"{name} has 943718400 bytes, more than the \d+ that a bundle may hold"):
        lnn_edge.load(cfc_copy)
    assert name not in reads


@pytest.mark.parametrize("name", CONTENT)
def test_file_of_another_size_is_not_read(cfc_copy, name, reads):
    os.truncate(cfc_copy / name, 1000 << 10)
    with pytest.raises(BundleError, match=rf"{name} has 1024000 bytes, but the manifest says \d+: it is truncated"):
        lnn_edge.load(cfc_copy)
    assert name not in reads


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("change", [b"more" * 100_000, None], ids=["grows", "shrinks"])
def test_file_that_changes_while_it_is_read_is_refused(cfc_copy, monkeypatch, name, change):
    """No more is read than there was at first, and a byte to notice it."""
    size, given = (cfc_copy / name).stat().st_size, []
    whole = directory._whole

    def meanwhile(file, most):
        if most == size + 1:
            if change:
                (cfc_copy / name).write_bytes((cfc_copy / name).read_bytes() + change)
            else:
                os.truncate(cfc_copy / name, size // 2)
            given.append(whole(file, most))
            return given[0]
        return whole(file, most)

    monkeypatch.setattr(directory, "_whole", meanwhile)
    with pytest.raises(BundleError, match=rf"{name} changed while it was read, from {size} bytes on"):
        lnn_edge.load(cfc_copy)
    assert len(given[0]) == (size + 1 if change else size // 2)


def test_graph_is_checked_once_in_a_process(cfc_copy, monkeypatch):
    checked, usual = [], directory.check_graph
    monkeypatch.setattr(directory, "check_graph", lambda data: (usual(data), checked.append(data)))
    monkeypatch.setattr(directory, "_PASSED", set())
    monkeypatch.setattr(directory, "_MOST_PASSED", 1)
    first = (cfc_copy / "model.onnx").read_bytes()
    for _ in range(2):
        directory.read_bundle(cfc_copy)
    second = first + b"\x72\x03\x0a\x01x"  # with a word for people
    (cfc_copy / "model.onnx").write_bytes(second)
    resign(cfc_copy)
    for _ in range(2):
        directory.read_bundle(cfc_copy)
    assert checked == [first, second]
    assert len(directory._PASSED) == 1
    (cfc_copy / "model.onnx").write_bytes(first[:-1])
    resign(cfc_copy)
    for _ in range(2):  # one that was refused is looked at again
        with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded"):
            directory.read_bundle(cfc_copy)


def test_file_that_comes_in_pieces_is_whole(cfc_bundle, monkeypatch):
    """One call to the system may give less than it was asked for."""
    whole = directory._whole

    class Slow:
        def __init__(self, file):
            self.file = file

        def read(self, most):
            return self.file.read(min(most, 1000))

    monkeypatch.setattr(directory, "_whole", lambda file, most: whole(Slow(file), most))
    assert lnn_edge.load(cfc_bundle, self_test=False).name == "gait"


def test_other_files_beside_are_ignored(cfc_copy):
    (cfc_copy / "NOTES.txt").write_text("mine")
    assert lnn_edge.load(cfc_copy).name == "gait"


# ---- the manifest ---------------------------------------------------------------------------------------------------


def test_newer_schema_says_to_upgrade(cfc_copy):
    def newer(manifest):
        manifest["schema"] |= {"version": 3}
        manifest["something_new"] = 1

    expected = r"schema version 3, but this lnn-edge reads up to 2\. Type: pip install --upgrade lnn-edge"
    with pytest.raises(BundleError, match=expected):
        lnn_edge.load(edit_json(cfc_copy, newer))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "Input data was truncated"),
        (b"not json", "JSON is malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `schema`"),
        (b'{"schema": {"name": "\xff"}}', "can't decode byte 0xff"),
        (b'{"x": ' + b"[" * 200_000, "maximum recursion depth exceeded"),
    ],
    ids=["empty", "no-json", "array", "no-schema", "no-utf8", "deep"],
)
def test_what_is_no_manifest_is_refused(cfc_copy, data, expected):
    (cfc_copy / "manifest.json").write_bytes(data)
    with pytest.raises(BundleError, match=rf"gait\.lnn': manifest\.json is not a valid manifest: .*{expected}"):
        lnn_edge.load(cfc_copy)


def _set(*path, value):
    def change(manifest):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set("surprise", value=1), "Object contains unknown field `surprise`"),
        (_set("time", "phase", value=1), r"Object contains unknown field `phase` - at `\$\.time`"),
        (_set("batch", value="1"), r"Expected `int`, got `str` - at `\$\.batch`"),
        (_set("batch", value=1.5), r"Expected `int`, got `float` - at `\$\.batch`"),
        (_set("inputs", 0, "shape", value="13"), r"Expected `array`, got `str` - at `\$\.inputs\[0\]\.shape`"),
        (_set("schema", "name", value="other"), r"Invalid enum value 'other' - at `\$\.schema\.name`"),
        (_set("time", "mode", value="guessed"), r"Invalid enum value 'guessed' - at `\$\.time\.mode`"),
        (_set("precision", value="float12"), r"Invalid enum value 'float12' - at `\$\.precision`"),
        (_set("verification", "tolerance", value=None), r"Expected `float`, got `null`"),
        (_set("schema", "version", value="1"), r"Expected `int`, got `str` - at `\$\.schema\.version`"),
    ],
)
def test_wrong_field_is_named_with_its_place(cfc_copy, change, expected):
    with pytest.raises(BundleError, match=rf"manifest\.json is not a valid manifest: {expected}"):
        lnn_edge.load(edit_json(cfc_copy, change))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "1_0"])
def test_number_that_is_none_is_refused(cfc_copy, number):
    text = (cfc_copy / "manifest.json").read_text()
    assert '"period_s": 0.02' in text
    (cfc_copy / "manifest.json").write_text(text.replace('"period_s": 0.02', f'"period_s": {number}'))
    with pytest.raises(BundleError, match=r"not a valid manifest: (JSON is malformed|Number out of range|Input data)"):
        lnn_edge.load(cfc_copy)


def _replaced(value, **changes):
    return msgspec.structs.replace(value, **changes)


def _tensor(which, **changes):
    return lambda m: {which: (_replaced(getattr(m, which)[0], **changes),)}


def _state(**changes):
    return lambda m: {"states": (_replaced(m.states[0], **changes),)}


def _feature(**changes):
    def change(m):
        features = m.inputs[0].features
        return _tensor("inputs", features=(_replaced(features[0], **changes), *features[1:]))(m)

    return change


def _time(**changes):
    return lambda m: {"time": _replaced(m.time, **changes)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: {"schema": _replaced(m.schema, version=0)}, "schema version 0 is unknown; expected 1"),
        (lambda m: {"files": dict(list(m.files.items())[:2])}, r"`files` lists \[.*\], expected \['golden"),
        (lambda m: {"files": m.files | {"../x": m.files["model.onnx"]}}, r"`files` lists \['\.\./x'"),
        (lambda m: {"inputs": ()}, "`inputs` and `outputs` must not be empty"),
        (lambda m: {"outputs": ()}, "`inputs` and `outputs` must not be empty"),
        (
            _tensor("inputs", name="output"),
            r"tensor names must be unique and not 'dt', got \['output'\] more than once",
        ),
        (_tensor("inputs", name="dt"), r"got \['dt'\] more than once"),
        (_state(input="h_out"), r"got \['h_out'\] more than once"),
        (_tensor("inputs", shape=(3,)), r"'input' has shape \[3\], expected \[1, \.\.\.\] with positive sizes"),
        (_tensor("inputs", shape=(2, 3)), r"'input' has shape \[2, 3\], expected \[1, \.\.\.\]"),
        (_tensor("outputs", shape=(1, 0), features=()), r"'output' has shape \[1, 0\]"),
        (_state(shape=(1, -10)), r"'h_in' has shape \[1, -10\]"),
        (_tensor("inputs", shape=(1, 1 << 40), features=()), r"'input' has shape \[1, 1099511627776\]"),
        (lambda m: {"batch": 0}, r"expected \[0, \.\.\.\]"),
        (_tensor("inputs", shape=(1, 4)), r"'input' has 3 features for shape \[1, 4\]"),
        (_feature(name="acc_y"), r"'input' has feature names that are not unique: \['acc_y', 'acc_y', 'gyro_z'\]"),
        (_state(bounds=((0.0,), (1.0,))), "`bounds` of state 'h_in' must have one entry per unit"),
        (_state(initial=1e39), r"`initial` of state 'h_in' is 1e\+39, more than a float32 can hold"),
        (_state(initial=(0.0, -1e39)), r"`initial` of state 'h_in' is -1e\+39, more than a float32 can hold"),
        (_state(initial=(0.5, 0.25)), "`initial` of state 'h_in' must be one number or have one entry per unit"),
        (lambda m: {"verification": _replaced(m.verification, tolerance=2.0)}, r"`verification\.tolerance` is 2\.0"),
        (_time(period_s=-1.0), r"`time\.period_s` is -1\.0, expected > 0 seconds"),
        (_time(timespan=0.0), r"`time\.timespan` is 0\.0, expected > 0"),
        (_time(mode="measured"), "measured time needs `period_s` and `dt_range_s`"),
        (
            _time(mode="measured", dt_range_s=(0.03, 0.04)),
            r"`time\.dt_range_s` is \[0\.03, 0\.04\], expected 0 < low <=",
        ),
    ],
)
def test_inconsistent_manifest_is_refused(cfc_copy, change, expected):
    resign(cfc_copy, **change(manifest_of(cfc_copy)))
    with pytest.raises(BundleError, match=rf"gait\.lnn': manifest\.json is inconsistent: .*{expected}"):
        lnn_edge.load(cfc_copy)


HOSTILE = ["a\nb", "\x1b[2J", "\t", "\x7f", "\x85", "\u2028", "\u202egpj.exe", "\u2066"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_control_characters_are_refused(cfc_copy, text):
    resign(cfc_copy, **_feature(name=text)(manifest_of(cfc_copy)))
    with pytest.raises(
        BundleError, match=r"inconsistent: `inputs\[0\]\.features\[0\]\.name` holds a control character"
    ):
        lnn_edge.load(cfc_copy)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda m: {"name": "\a"}, "name"),
        (_tensor("inputs", name="\0"), r"inputs\[0\]\.name"),
        (_feature(unit="m\r"), r"inputs\[0\]\.features\[0\]\.unit"),
        (_state(output="h\n"), r"states\[0\]\.output"),
        (lambda m: {"cores": (_replaced(m.cores[0], wiring="\b"),)}, r"cores\[0\]\.wiring"),
        (lambda m: {"cores": (_replaced(m.cores[0], layout=(("\f", 1),)),)}, r"cores\[0\]\.layout\[0\]\[0\]"),
        (lambda m: {"graph": _replaced(m.graph, operators={"\n": 1})}, r"graph\.operators"),
        (
            lambda m: {"verification": _replaced(m.verification, tolerance_reason="\n")},
            r"verification\.tolerance_reason",
        ),
        (
            lambda m: {"verification": _replaced(m.verification, max_abs_error={"\n": 0.0})},
            r"verification\.max_abs_error",
        ),
        (lambda m: {"provenance": _replaced(m.provenance, command="\n")}, r"provenance\.command"),
        (lambda m: {"provenance": _replaced(m.provenance, versions={"x": "\n"})}, r"provenance\.versions\.x"),
        (lambda m: {"labels": ("walk", "\n")}, r"labels\[1\]"),
    ],
)
def test_control_characters_are_refused_wherever_there_is_text(cfc_copy, change, place):
    resign(cfc_copy, **change(manifest_of(cfc_copy)))
    with pytest.raises(BundleError, match=rf"inconsistent: `{place}` holds a control character"):
        lnn_edge.load(cfc_copy)


def test_other_text_may_be_in_any_language(cfc_copy):
    resign(
        cfc_copy, **_feature(name="\u52a0\u901f\u5ea6 \\n \u00e9\u00a0\u2019", unit="m/s\u00b2")(manifest_of(cfc_copy))
    )
    assert lnn_edge.load(cfc_copy, self_test=False).inputs[0].features[0].unit == "m/s\u00b2"


@pytest.mark.parametrize("what", ["inputs", "outputs", "states", "cores"])
def test_manifest_of_thirty_thousand_ends_is_refused_at_once(cfc_copy, what):
    many = getattr(manifest_of(cfc_copy), what) * 30_000
    started = time.process_time()
    resign(cfc_copy, **{what: many})
    with pytest.raises(BundleError, match=f"it has 30000 `{what}`, more than the 1024 that a step may have"):
        lnn_edge.load(cfc_copy)
    assert time.process_time() - started < 5  # it took minutes to count the names of each


def test_manifest_of_many_entries_is_refused_before_it_is_decoded(cfc_copy, monkeypatch):
    monkeypatch.setattr(msgspec.json, "decode", lambda *_, **__: pytest.fail("decoded"))
    (cfc_copy / "manifest.json").write_bytes(b"[" + b"0," * (3 << 20) + b"0]")
    with pytest.raises(BundleError, match=r"manifest\.json has more than 2097152 entries"):
        lnn_edge.load(cfc_copy)


def test_unverified_bundle_does_not_run(cfc_copy):
    resign(cfc_copy, verification=_replaced(manifest_of(cfc_copy).verification, status="pending"))
    with pytest.raises(BundleError, match=r"gait\.lnn' was never verified, so it does not run\. Export it again"):
        lnn_edge.load(cfc_copy)


def test_whole_numbers_as_limits_are_fine(cfc_bundle):
    assert lnn_edge.load(cfc_bundle).inputs[0].features[2].limits == (-8.0, 8.0)


# ---- the graph ------------------------------------------------------------------------------------------------------


def _graph(bundle, change):
    """Change model.onnx and sign the bundle again."""
    model = onnx.load(bundle / "model.onnx")
    change(model)
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    return resign(bundle)


@pytest.mark.parametrize("data", [b"", b"no protobuf", b"\x08\x08"], ids=["empty", "text", "header"])
def test_what_is_no_onnx_is_refused(cfc_copy, data):
    (cfc_copy / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"gait\.lnn': model\.onnx cannot be loaded: "):
        lnn_edge.load(resign(cfc_copy))


def test_graph_with_another_input_is_refused(cfc_copy):
    extra = helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1, 1])
    expected = (
        r"the inputs of model\.onnx are extra \[1, 1\] tensor\(float\), h_in .*, but the manifest says h_in .*again"
    )
    with pytest.raises(BundleError, match=expected):
        lnn_edge.load(_graph(cfc_copy, lambda model: model.graph.input.append(extra)))


def test_graph_without_an_output_is_refused(cfc_copy):
    with pytest.raises(
        BundleError, match=r"the outputs of model\.onnx are .*, but the manifest says .*Export it again"
    ):
        lnn_edge.load(_graph(cfc_copy, lambda model: model.graph.output.pop()))


def test_graph_of_another_bundle_is_refused(cfc_copy, ltc_bundle):
    shutil.copy(ltc_bundle / "model.onnx", cfc_copy / "model.onnx")
    with pytest.raises(BundleError, match=r"the inputs of model\.onnx are dt \[1, 1\] tensor\(float\)"):
        lnn_edge.load(resign(cfc_copy))


@pytest.mark.parametrize("place", ["weights.bin", "{up}/weights.bin"])
def test_weights_outside_the_graph_are_refused(cfc_copy, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)

    def outside(model):
        tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.raw_data) > 64)
        (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
        entries = {"location": place.format(up=f"../{tmp_path.name}"), "length": str(len(tensor.raw_data))}
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)

    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded: a tensor holds field 1[34]"):
        lnn_edge.load(_graph(cfc_copy, outside))


# ---- the golden sequences -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop("reset"), r"golden\.safetensors holds \[.*\], but the manifest's tensors are \[.*'reset'\]"),
        (lambda t: t.update(extra=t["reset"]), r"golden\.safetensors holds \['extra', "),
        (lambda t: t.update(reset=t["reset"].astype(np.int64)), r"'reset' is int64 \[(\d+)\], expected uint8 \[\1\]"),
        (lambda t: t.update(reset=t["reset"][None]), r"holds no step, or `reset` is not of shape \(steps,\)"),
        (
            lambda t: t.update({"input/input": t["input/input"][:-1]}),
            r"'input/input' is float32 \[\d+, 1, 3\], expected float32 \[\d+,",
        ),
        (lambda t: t.update({"float32/h_out": t["float64/h_out"]}), r"'float32/h_out' is float64"),
        (lambda t: t.update({k: v[:0] for k, v in t.items()}), "golden.safetensors holds no step"),
        (lambda t: t["reset"].fill(0), "`reset` must start with 1"),
    ],
)
def test_wrong_golden_tensors_are_refused(cfc_copy, change, expected):
    with pytest.raises(BundleError, match=rf"(?s)gait\.lnn': .*{expected}"):
        lnn_edge.load(edit_golden(cfc_copy, change))


def test_golden_file_that_is_none_is_refused(cfc_copy):
    (cfc_copy / "golden.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(
        BundleError, match=r"gait\.lnn': golden\.safetensors is no safetensors file that NumPy can read"
    ):
        lnn_edge.load(resign(cfc_copy))


def test_golden_tensors_that_numpy_lacks_are_refused(cfc_copy):
    torch_io = pytest.importorskip("safetensors.torch")
    tensors = torch_io.load((cfc_copy / "golden.safetensors").read_bytes())
    tensors["input/input"] = tensors["input/input"].bfloat16()
    (cfc_copy / "golden.safetensors").write_bytes(torch_io.save(tensors))
    with pytest.raises(BundleError, match="is no safetensors file that NumPy can read"):
        lnn_edge.load(resign(cfc_copy))


def test_altered_golden_output_fails_the_self_test(cfc_copy):
    edit_golden(cfc_copy, lambda t: t["float32/output"].__setitem__((7, 0, 0), 5.0))
    expected = (
        r"gait\.lnn' failed its self-test on onnxruntime .*: output on golden inputs: onnxruntime vs torch float32 "
        r"differ by .*first over at step 7 of \d+\. It does not start\. Type: lnn-edge verify .*gait\.lnn"
    )
    with pytest.raises(VerificationError, match=expected):
        lnn_edge.load(cfc_copy)
    assert lnn_edge.load(cfc_copy, self_test=False).name == "gait"


def test_an_error_of_a_ten_thousandth_is_refused(cfc_copy):
    """Outputs are of order 1, of which 1e-5 is allowed. Torch's own distance from the reference would excuse it."""

    def moved(tensors):
        for against in ("float32", "float64"):
            tensors[f"{against}/output"][7] += 1e-4

    edit_golden(cfc_copy, moved)
    with pytest.raises(VerificationError, match=r"differ by 1\.0e-04.*, allowed 1\.0e-05; first over at step 7"):
        lnn_edge.load(cfc_copy)


def test_altered_golden_state_fails_the_self_test(ltc_copy):
    edit_golden(ltc_copy, lambda t: t["float64/h_out"].__setitem__((3, 0, 0), np.nan))
    with pytest.raises(VerificationError, match="h_out on golden inputs: onnxruntime vs float64 differ by inf"):
        lnn_edge.load(ltc_copy)


@pytest.mark.parametrize(
    ("value", "expected"), [(np.nan, r"`input` holds nan at 'gyro_z'"), (9.0, r"its legal range is \[-8\.0, 8\.0\]")]
)
def test_golden_sample_that_the_model_refuses_fails_the_self_test(cfc_copy, value, expected):
    edit_golden(cfc_copy, lambda t: t["input/input"].__setitem__((5, 0, 2), value))
    with pytest.raises(
        VerificationError, match=rf"gait\.lnn' failed its self-test on .*: a golden step was.*{expected}"
    ):
        lnn_edge.load(cfc_copy)


def test_golden_dt_outside_the_legal_range_fails_the_self_test(ltc_copy):
    edit_golden(ltc_copy, lambda t: t["dt"].__setitem__(5, 100.0))
    with pytest.raises(VerificationError, match=r"a golden step was refused: `dt_s` is \[\[100\.\]\]"):
        lnn_edge.load(ltc_copy)


def test_altered_weight_fails_the_self_test(cfc_copy):
    def twice(model):
        tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
        tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name))

    with pytest.raises(VerificationError, match="failed its self-test"):
        lnn_edge.load(_graph(cfc_copy, twice))


# ---- writing --------------------------------------------------------------------------------------------------------


def test_staged_directory_appears_whole(tmp_path):
    target = tmp_path / "gait.lnn"
    with staged_directory(target, overwrite=False) as stage:
        (stage / "manifest.json").write_text("{}")
        assert not target.exists()
        assert stage.parent == tmp_path
    assert [p.name for p in target.iterdir()] == ["manifest.json"]
    assert os.listdir(tmp_path) == ["gait.lnn"]


def _fail_half_way(target, failure):
    with staged_directory(target, overwrite=True) as stage:
        (stage / "model.onnx").write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing_behind(tmp_path, failure):
    with pytest.raises(failure):
        _fail_half_way(tmp_path / "gait.lnn", failure)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_bundle(cfc_copy, tmp_path, failure):
    with pytest.raises(failure):
        _fail_half_way(cfc_copy, failure)
    assert os.listdir(tmp_path) == ["gait.lnn"]
    assert lnn_edge.load(cfc_copy).name == "gait"


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_failure_between_the_two_renames_puts_the_old_bundle_back(cfc_copy, tmp_path, monkeypatch, failure):
    rename = os.rename

    def stopped(path, target):
        if str(path).endswith(".partial") and not target.exists():
            raise failure
        return rename(path, target)

    monkeypatch.setattr(os, "rename", stopped)
    monkeypatch.setattr(writing, "exchange", lambda one, other: False)
    with pytest.raises(failure), staged_directory(cfc_copy, overwrite=True):
        pass
    assert os.listdir(tmp_path) == ["gait.lnn"]
    assert lnn_edge.load(cfc_copy).name == "gait"


def test_overwrite_replaces_the_whole_directory(cfc_copy, tmp_path):
    (cfc_copy / "NOTES.txt").write_text("old")
    with staged_directory(cfc_copy, overwrite=True) as stage:
        (stage / "manifest.json").write_text("{}")
    assert [p.name for p in cfc_copy.iterdir()] == ["manifest.json"]
    assert os.listdir(tmp_path) == ["gait.lnn"]


def test_existing_bundle_is_not_replaced_unasked(cfc_copy):
    expected = r"gait\.lnn' exists\. Choose another name, or pass overwrite=True"
    with pytest.raises(ValueError, match=expected), staged_directory(cfc_copy, overwrite=False):
        pass


@pytest.mark.parametrize("kind", ["directory", "file", "dead link"])
def test_what_is_no_bundle_is_never_replaced(tmp_path, kind):
    target = tmp_path / "gait.lnn"
    {"directory": target.mkdir, "file": target.touch, "dead link": lambda: target.symlink_to("gone")}[kind]()
    expected = r"gait\.lnn' exists and is not a bundle; it is left alone\. Choose another name"
    with pytest.raises(ValueError, match=expected), staged_directory(target, overwrite=True):
        pass
    assert os.path.lexists(target)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gait", r"a bundle's name ends in '\.lnn', got '.*gait'\. Type: gait\.lnn"),
        ("gait.onnx", r"Type: gait\.lnn"),
        (".lnn", r"got '.*\.lnn'\. Type: \.lnn\.lnn"),
    ],
)
def test_wrong_suffix_is_refused(tmp_path, name, expected):
    with pytest.raises(ValueError, match=expected), staged_directory(tmp_path / name, overwrite=False):
        pass


def test_empty_name_is_refused():
    with pytest.raises(ValueError, match=r"got '\.'\. Type: model\.lnn"), staged_directory(Path(), overwrite=False):
        pass


def test_a_name_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a bundle's name is text in UTF-8, got 'a\\udcff\.lnn'\. Choose plain"):
        check_target(tmp_path / "a\udcff.lnn", overwrite=False)
    check_target(tmp_path / "gr\u00f6\u00dfe.lnn", overwrite=False)


def test_missing_parent_says_how_to_make_it(tmp_path):
    expected = r"directory '.*there' does not exist\. Type: mkdir -p .*there"
    with pytest.raises(FileNotFoundError, match=expected), staged_directory(tmp_path / "there/x.lnn", overwrite=False):
        pass


def test_parent_that_is_not_writable_is_refused(open_path, unprivileged):
    target = open_path / "gait.lnn"
    with unprivileged(), pytest.raises(PermissionError, match=r"directory '.*' is not writable"):
        check_target(target, overwrite=False)


def test_failed_export_leaves_nothing(tmp_path):
    with pytest.raises(VerificationError, match="does not equal the trained model, so nothing was written"):
        quick_export(chaotic_cfc(), tmp_path / "gait.lnn")
    assert os.listdir(tmp_path) == []


def test_limits_of_a_feature_by_position():
    assert Feature("hip", "rad", -1.5, 2) == Feature("hip", "rad", limits=(-1.5, 2.0))
    assert Feature("hip", "rad", None, (-1.5, 2.0)).limits == (-1.5, 2.0)
    for arguments in (("hip", "rad", -1.5), ("hip", "rad", None, 2.0)):
        with pytest.raises(
            TypeError, match=r"Feature\('hip', \.\.\.\) has one limit, expected Feature\(name, unit, low, high\)"
        ):
            Feature(*arguments)


@pytest.mark.parametrize(
    "pair", [(2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf")), (1.0,), (1.0, 2.0, 3.0), ("a", "b"), (True, 2.0), 5]
)
@pytest.mark.parametrize("side", ["range", "limits"])
def test_limits_that_are_none_are_refused_at_once(side, pair):
    with pytest.raises((TypeError, ValueError), match=r"'hip'.* expected"):
        lnn_edge.Feature("hip", **{side: pair})


@pytest.mark.parametrize("side", ["range", "limits"])
def test_limits_that_are_none_are_refused_in_a_manifest(side, cfc_bundle, tmp_path):
    copy = copied(cfc_bundle, tmp_path / "m.lnn")
    edit_json(copy, lambda manifest: manifest["inputs"][0]["features"][0].update({side: [2.0, 1.0]}))
    with pytest.raises(BundleError, match=rf"not a valid manifest: `{side}` of 'acc_x' is \(2.0, 1.0\), expected"):
        lnn_edge.load(copy)
