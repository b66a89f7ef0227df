"""Engines in the user's cache: kept, found again, and refused as soon as anything about them differs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
import threading
from pathlib import Path

import pytest

import lnn_edge
from lnn_edge.cli.program import main
from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.backends.build_cache import EngineCache, EngineRefused

FACTS = {"model.onnx": "ab" * 32, "device": "Orin", "TensorRT": "10.3.0"}


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "tensorrt")


def record_of(cache) -> Path:
    return cache.path(FACTS).with_suffix(".json")


def change_record(cache, **changes):
    path = record_of(cache)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_written_is_read(cache):
    assert cache.read(FACTS) is None
    cache.write(FACTS, b"engine")
    assert cache.read(FACTS) == b"engine"
    assert cache.read(FACTS | {"device": "Thor"}) is None
    assert EngineCache(cache.folder).read(FACTS) == b"engine"  # another process of the same user


def test_the_folder_and_its_files_are_the_users_alone(cache):
    cache.write(FACTS, b"engine")
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.folder.iterdir()} == {0o600}
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted(
        [cache.path(FACTS).name, record_of(cache).name, "lock", "secret"]
    )  # nothing half-written is left


def test_changed_bytes(cache):
    cache.write(FACTS, b"engine")
    cache.path(FACTS).write_bytes(b"enginf")
    with pytest.raises(EngineRefused, match="its bytes were changed"):
        cache.read(FACTS)


def test_truncated(cache):
    cache.write(FACTS, b"engine")
    cache.path(FACTS).write_bytes(b"")
    with pytest.raises(EngineRefused, match="its bytes were changed"):
        cache.read(FACTS)


def test_other_facts_in_the_record(cache):
    cache.write(FACTS, b"engine")
    change_record(cache, facts=FACTS | {"device": "Thor"})
    with pytest.raises(EngineRefused, match="it was built for device Thor, here it is Orin"):
        cache.read(FACTS)


def test_forged_hash(cache):
    cache.write(FACTS, b"engine")
    cache.path(FACTS).write_bytes(b"stranger")
    import hashlib

    change_record(cache, size=8, sha256=hashlib.sha256(b"stranger").hexdigest())
    with pytest.raises(EngineRefused, match="it was not built by this user on this machine"):
        cache.read(FACTS)


def test_engine_with_its_record_from_another_machine(cache, tmp_path):
    other = EngineCache(tmp_path / "other")
    other.write(FACTS, b"engine")
    for path in (other.path(FACTS), other.path(FACTS).with_suffix(".json")):
        (cache.folder / path.name).write_bytes(path.read_bytes())
        (cache.folder / path.name).chmod(0o600)
    with pytest.raises(EngineRefused, match="it was not built by this user on this machine"):
        cache.read(FACTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "its record cannot be read"), ("{}", "its record cannot be read"), ("[1]", "its record cannot be read")],
)
def test_damaged_record(cache, text, message):
    cache.write(FACTS, b"engine")
    record_of(cache).write_text(text)
    with pytest.raises(EngineRefused, match=message):
        cache.read(FACTS)


def test_record_of_another_schema(cache):
    cache.write(FACTS, b"engine")
    change_record(cache, schema=99)
    with pytest.raises(EngineRefused, match="its record is of schema 99, expected 1"):
        cache.read(FACTS)


def test_missing_record(cache):
    cache.write(FACTS, b"engine")
    record_of(cache).unlink()
    with pytest.raises(EngineRefused, match=r"\.json cannot be read"):
        cache.read(FACTS)


def test_link(cache, tmp_path):
    cache.write(FACTS, b"engine")
    (tmp_path / "elsewhere").write_bytes(b"engine")
    cache.path(FACTS).unlink()
    cache.path(FACTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineRefused, match="cannot be read"):
        cache.read(FACTS)


def test_file_that_others_may_write(cache):
    cache.write(FACTS, b"engine")
    cache.path(FACTS).chmod(0o666)
    with pytest.raises(EngineRefused, match="is not a file that only you can write"):
        cache.read(FACTS)


def test_folder_that_others_may_enter(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(BackendUnavailable, match=r"must be a folder that only you can enter.* chmod 700"):
        EngineCache(tmp_path / "open")


def test_folder_that_is_a_link(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(BackendUnavailable, match="must be a folder that only you can enter"):
        EngineCache(tmp_path / "link")


def test_folder_that_cannot_be_made(open_path, unprivileged):
    with (
        unprivileged(),
        pytest.raises(BackendUnavailable, match=r"cannot be used: Permission denied. Set XDG_CACHE_HOME"),
    ):
        EngineCache(open_path / "none" / "tensorrt")


def test_engine_that_cannot_be_saved(cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackendUnavailable, match=r"cannot be saved in .*: No space left on device. Free some space"):
        cache.write(FACTS, b"engine")
    assert sorted(path.name for path in cache.folder.iterdir()) == ["lock", "secret"]


def test_folder_of_another_user(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir(mode=0o700)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(BackendUnavailable, match=r"belongs to another user. Type: sudo chown -R \$USER .*theirs"):
        EngineCache(tmp_path / "theirs")


def test_a_secret_that_another_process_made_meanwhile(tmp_path, monkeypatch):
    """Both first uses at once: the second takes the first one's secret, and its engines hold."""
    building, others = EngineCache.building, []

    @contextlib.contextmanager
    def slowly(self):
        with monkeypatch.context() as patch:
            patch.setattr(EngineCache, "building", building)
            others.append(EngineCache(tmp_path / "tensorrt"))
            others[0].write(FACTS, b"engine")
        with building(self):
            yield

    monkeypatch.setattr(EngineCache, "building", slowly)
    assert EngineCache(tmp_path / "tensorrt").read(FACTS) == b"engine"


class TestLock:
    @pytest.fixture
    def held(self, cache):
        with open(cache.folder / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def test_what_is_there_is_read_without_it(self, cache, held, gpu, cfc_bundle, monkeypatch, tmp_path):
        fake = gpu("10.3")
        lnn_edge.load(cfc_bundle, backend="tensorrt")
        (lock,) = (tmp_path / "cache").rglob("lock")
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            lnn_edge.load(cfc_bundle, backend="tensorrt")  # would wait for ever
        assert fake.world["builds"] == 1

    def test_who_waits_says_so(self, cache, held, caplog):
        timer = threading.Timer(0.2, held.close)
        timer.start()
        with cache.building():
            timer.join()
        assert "waiting for another process that builds an engine" in caplog.text

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
    def test_file_system_without_locks(self, number, cache, monkeypatch):
        def refuse(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with cache.building():
            cache.write(FACTS, b"engine")
        assert cache.read(FACTS) == b"engine"

    def test_read_only_file_system(self, gpu, cfc_bundle, capfd, monkeypatch, tmp_path):
        """A robot's image may bring its engines along: they load, and only a build fails, in words."""
        fake = gpu("10.3")
        lnn_edge.load(cfc_bundle, backend="tensorrt")
        whole = os.open

        def read_only(path, flags, *rest, **named):
            if str(path).startswith(str(tmp_path)) and flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return whole(path, flags, *rest, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", read_only)
            lnn_edge.load(cfc_bundle, backend="tensorrt")
            assert fake.world["builds"] == 1
            assert main(["build", str(cfc_bundle), "--backend", "tensorrt", "--rebuild"]) == 5
        assert "cannot be used: Read-only file system. Set XDG_CACHE_HOME" in capfd.readouterr().err


class TestInTheBackend:
    """What the backend makes of it: one build, then none, and a message when one more is needed."""

    @pytest.fixture
    def load(self, cfc_bundle):
        return lambda **options: lnn_edge.load(cfc_bundle, backend="tensorrt", options=options)

    def engines(self, tmp_path):
        return sorted((tmp_path / "cache" / "lnn-edge" / "tensorrt").glob("*.engine"))

    def test_the_second_load_builds_nothing(self, gpu, load):
        fake = gpu("10.3")
        load()
        load()
        assert (fake.world["builds"], fake.world["loads"]) == (1, 2)

    @pytest.mark.parametrize(
        "facts",
        [{"driver": 12080}, {"runtime": 12040}, {"name": "Orin Nano"}, {"multiprocessors": 4}, {"capability": (8, 9)}],
        ids=str,
    )
    def test_another_device_or_driver_builds_again_and_says_why(self, facts, gpu, load, caplog):
        gpu("10.3")
        load()
        assert "is not used" not in caplog.text
        fake = gpu("10.3", **facts)
        load()
        assert fake.world["builds"] == 1
        assert "the cached engine for 'gait' is not used and built again: it was built for " in caplog.text

    def test_another_version_builds_again(self, gpu, load):
        gpu("10.3")
        load()
        fake = gpu("10.13")
        load()
        assert fake.world["builds"] == 1

    @pytest.mark.parametrize(
        ("place", "text", "said"),
        [
            (
                "proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build",
                "it was built for kernel driver unknown, here it is 540.4.0",
            ),
            (
                "etc/nv_tegra_release",
                "# R36 (release), REVISION: 4.4, GCID: 1, BOARD: generic",
                "it was built for L4T none, here it is 36.4.4",
            ),
        ],
        ids=["driver", "release"],
    )
    def test_another_release_of_the_same_versions_builds_again(
        self, place, text, said, gpu, load, caplog, tmp_path, monkeypatch
    ):
        """CUDA 12.6 and TensorRT 10.3.0 are what several drivers and releases of JetPack say of themselves."""
        monkeypatch.setattr("lnn_edge.machine.jetson.ROOT", tmp_path / "root")
        fake = gpu("10.3")
        load()
        (tmp_path / "root" / place).parent.mkdir(parents=True)
        (tmp_path / "root" / place).write_text(text)
        load()
        assert fake.world["builds"] == 2
        assert said in caplog.text

    def test_another_module_with_the_same_image_builds_again(self, gpu, load, caplog, tmp_path, monkeypatch):
        """CUDA calls every Orin "Orin", and an Orin Nano and an Orin NX have as many multiprocessors."""
        root = tmp_path / "root"
        monkeypatch.setattr("lnn_edge.machine.jetson.ROOT", root)
        fake = gpu("10.3")
        for module in ("nvidia,p3767-0000", "nvidia,p3767-0005"):
            for name, text in (("model", "NVIDIA Jetson Orin on a carrier of ours"), ("compatible", f"{module}\0")):
                (root / "proc/device-tree").mkdir(parents=True, exist_ok=True)
                (root / "proc/device-tree" / name).write_text(text)
            load()
        assert fake.world["builds"] == 2
        said = "it was built for board NVIDIA Jetson Orin on a carrier of ours nvidia,p3767-0000, here it is NVIDIA"
        assert said in caplog.text

    def test_engine_that_tensorrt_itself_refuses_is_built_again_once(self, gpu, load, caplog):
        fake = gpu("10.3")
        load()
        whole, refusals = fake.library.Runtime.deserialize_cuda_engine, [None]

        def refuse(runtime, plan):
            return refusals.pop() if refusals else whole(runtime, plan)

        fake.library.Runtime.deserialize_cuda_engine = refuse
        load()
        assert fake.world["builds"] == 2
        assert "is not used and built again: TensorRT 10.3.0: the engine was refused. It said: " in caplog.text
        refusals += [None, None]
        with pytest.raises(BackendUnavailable, match="the engine was refused"):
            load()
        assert fake.world["builds"] == 3

    def test_for_auto_an_engine_that_tensorrt_refuses_is_none(self, gpu, load, caplog):
        """Which began a build of minutes."""
        fake = gpu("10.3")
        path = load().path
        fake.library.Runtime.deserialize_cuda_engine = lambda runtime, plan: None
        caplog.set_level(logging.INFO)
        assert lnn_edge.load(path).backend != "tensorrt"
        assert fake.world["builds"] == 1
        assert "nothing is built for 'gait' yet" in caplog.text
        assert "the cached engine is refused: TensorRT 10.3.0: the engine was refused" in caplog.text

    def test_other_options_build_again_but_not_those_of_the_loop(self, gpu, load):
        fake = gpu("10.3")
        load()
        load(wait="block", feedback="pingpong", graph="off")
        assert fake.world["builds"] == 1
        load(optimization_level=0)
        assert fake.world["builds"] == 2

    def test_timings_of_the_first_build_help_the_second(self, gpu, load):
        fake = gpu("10.3")
        load()
        assert fake.world["timings"] == b""
        load(optimization_level=5)
        assert fake.world["timings"].startswith(b"fake timings")

    def test_damaged_engine_is_built_again_with_a_message(self, gpu, load, tmp_path, caplog):
        fake = gpu("10.3")
        load()
        for path in self.engines(tmp_path):
            path.write_bytes(path.read_bytes() + b"x")
        caplog.set_level(logging.WARNING)
        load()
        assert fake.world["builds"] == 2
        assert "the cached engine for 'gait' is not used and built again: its bytes were changed" in caplog.text

    def test_foreign_engine_is_never_deserialized(self, gpu, load, tmp_path):
        fake = gpu("10.3")
        load()
        fake.world["loads"] = 0
        for path in self.engines(tmp_path):
            path.write_bytes(b"native code of a stranger")
        load()
        assert fake.world["loads"] == 1  # the new one

    def test_bundle_is_not_touched(self, gpu, load, cfc_bundle):
        before = {path.name: path.read_bytes() for path in cfc_bundle.iterdir()}
        gpu("10.3")
        load()
        assert {path.name: path.read_bytes() for path in cfc_bundle.iterdir()} == before
