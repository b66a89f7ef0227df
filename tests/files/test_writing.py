"""Writing of files and of lines: what is there when something ends it in the middle."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
from pathlib import Path

import pytest

from lnn_edge.files.lines import continued_file, digest_of, growing_file
from lnn_edge.files.staging import sweep
from lnn_edge.files.whole import named_in_errors, whole_file, write_all


def write(path, *rows, make=growing_file) -> None:
    """Write a heading and rows; an exception among them ends it."""
    with make(path) as lines:
        lines.write("a,b\n", heading=True)
        for row in rows:
            if not isinstance(row, str):
                raise row
            lines.write(row)


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_finished_lines_are_kept_whatever_ends_the_writing(tmp_path, failure):
    with pytest.raises(failure):
        write(tmp_path / "y.csv", "1,2\n", failure)
    assert (tmp_path / "y.csv").read_text() == "a,b\n1,2\n"
    assert os.listdir(tmp_path) == ["y.csv"]


@pytest.mark.parametrize("old", [None, "old"])
def test_without_a_finished_row_nothing_changes(tmp_path, old):
    if old:
        (tmp_path / "y.csv").write_text(old)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "y.csv", KeyboardInterrupt)
    assert [path.read_text() for path in tmp_path.iterdir()] == [old] * (old is not None)


def test_part_of_a_line_is_cut_off(tmp_path, monkeypatch):
    """A signal may come, and a disk may fill up, after some of its bytes."""
    system = os.write

    def interrupted(descriptor, data):
        if not bytes(data).startswith(b"second"):
            return system(descriptor, bytes(data)[:2])  # short writes, as pipes and disks may do
        system(descriptor, bytes(data)[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr("lnn_edge.files.whole.os.write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "y.csv", "first \u00f6\n", "second\n")
    assert (tmp_path / "y.csv").read_bytes() == "a,b\nfirst \u00f6\n".encode()


def test_a_pipe_gets_it_and_stays_a_pipe(tmp_path):
    """Were it replaced like a file, writing a picture or an engine to /dev/null would break the machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with whole_file(tmp_path / "link") as file:
            file.write(b"data")
        assert os.read(reader, 100) == b"data"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_a_pipe_that_nobody_reads_is_written_when_all_is_there(tmp_path):
    """What ends the block before leaves nothing that would still be written, and waited for."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(KeyboardInterrupt), whole_file(tmp_path / "pipe", "w", encoding="utf-8") as file:
            file.write("a" * (1 << 20))
            raise KeyboardInterrupt
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_who_writes_to_a_pipe_may_wait_for_a_time_only(size):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(1 << 16))
    with pytest.raises(TimeoutError, match="nobody reads what is written"):
        write_all(writing, bytes(size), lambda: 0.0)
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "y.csv").write_text("old")
    with growing_file(tmp_path / "y.csv") as lines:
        lines.write("a\n", heading=True)
        lines.write("\u00f6\n")
        assert (tmp_path / "y.csv").read_text() == "old"
        assert (lines.rows, lines.size, lines.in_place) == (1, 5, False)
    assert (tmp_path / "y.csv").read_text() == "a\n\u00f6\n"
    assert lines.in_place


@pytest.mark.parametrize("make", [growing_file, whole_file])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_errors_name_the_file_that_was_asked_for(tmp_path, monkeypatch, make, call):
    def fail(*arguments):
        raise OSError(errno.EIO, "broken", *(a for a in arguments if isinstance(a, str)))

    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="broken") as caught, make(Path("y.csv")):
        monkeypatch.setattr(os, call, fail)
    assert (caught.value.filename, caught.value.filename2) == ("y.csv", None)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


def test_an_error_of_two_names_tells_the_one_that_was_asked_for(tmp_path):
    with pytest.raises(OSError, match=r"'m\.lnn'$"), named_in_errors("m.lnn"):
        os.rename(tmp_path / "none", tmp_path / "other")
    with pytest.raises(OSError, match=r"'m\.lnn'$"), named_in_errors("m.lnn"):
        raise OSError(errno.ENOSPC, "No space left on device")


def _written_and_removed(write, folder, found):
    with write(folder / "y.csv") as lines:
        found.append(lines)
        lines.write("1\n")
        for path in folder.iterdir():
            path.unlink()


@pytest.mark.parametrize("write", [continued_file, growing_file])
def test_lines_in_a_file_that_somebody_removes_are_told(tmp_path, write):
    with pytest.raises(FileNotFoundError, match=r"The file was removed while it was written: '.*y\.csv'$"):
        _written_and_removed(write, tmp_path, lines := [])
    assert (lines[0].in_place, os.listdir(tmp_path)) == (False, [])


def test_errors_about_something_else_stay_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, named_in_errors("m.lnn", tmp_path / "stage"):
        (tmp_path / "other").read_bytes()
    assert caught.value.filename == str(tmp_path / "other")
    with pytest.raises(FileNotFoundError) as caught, named_in_errors("m.lnn", tmp_path / "stage"):
        (tmp_path / "stage/model.onnx").read_bytes()
    assert caught.value.filename == "m.lnn"


# ---- who may read it, and what a kill leaves ------------------------------------------------------------------------


@pytest.fixture
def umask():
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("make", [growing_file, whole_file])
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_is_for_whom_the_umask_says(tmp_path, umask, make, mask, mode):
    umask(mask)
    with make(tmp_path / "y.csv"):
        pass
    assert (tmp_path / "y.csv").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("make", [growing_file, whole_file])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, umask, make, mode):
    """From its first byte on: what was private is never open to others."""
    umask(0o022)
    (tmp_path / "y.csv").touch()
    (tmp_path / "y.csv").chmod(mode)
    with make(tmp_path / "y.csv"):
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}
    assert (tmp_path / "y.csv").stat().st_mode & 0o777 == mode
    assert os.listdir(tmp_path) == ["y.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path):
    (tmp_path / "y.csv").touch()
    os.chown(tmp_path / "y.csv", 65534, 65533)
    with whole_file(tmp_path / "y.csv"):
        pass
    status = (tmp_path / "y.csv").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65533)


def test_the_next_file_sweeps_what_a_kill_left(tmp_path):
    if (writer := os.fork()) == 0:
        with whole_file(tmp_path / "killed.csv") as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(writer, 0)
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".killed.csv.")
    with whole_file(tmp_path / "y.csv"):
        assert left not in os.listdir(tmp_path)
    assert os.listdir(tmp_path) == ["y.csv"]


def test_what_is_being_written_is_not_swept(tmp_path):
    with whole_file(tmp_path / "a.csv"), growing_file(tmp_path / "b.csv"):
        sweep(tmp_path)
        assert len(os.listdir(tmp_path)) == 2
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.csv"]


def test_lines_go_on_in_their_place(tmp_path):
    place = tmp_path / "y.csv"
    place.write_text("a,b\n1,2\n3,4\n5,")
    with continued_file(place, 8, 1) as lines:
        assert place.read_text() == "a,b\n1,2\n"
        lines.write("a,b\n", heading=True)
        lines.write("7,8\n")
        assert (lines.rows, lines.size, lines.in_place) == (2, 12, True)
    assert place.read_text() == "a,b\n1,2\n7,8\n"


def test_lines_in_their_place_are_summed(tmp_path, monkeypatch):
    """Finished ones alone, of all who wrote some."""
    place, whole = tmp_path / "y.csv", ""
    for row in ("1,2\n", "3,4\n"):
        with continued_file(place, len(whole)) as lines:
            lines.write("a,b\n", heading=True)
            lines.write(row)
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", full)
                with pytest.raises(OSError, match="No space"):
                    lines.write("5,6\n")
            found = lines.digest
        whole = place.read_text()
        assert found == digest_of(place, len(whole)) == hashlib.sha256(whole.encode()).hexdigest()
    assert (whole, digest_of(place, 4)) == ("a,b\n1,2\n3,4\n", hashlib.sha256(b"a,b\n").hexdigest())


def full(_descriptor, _data):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_lines_in_their_place_begin_with_the_first_row(tmp_path):
    place = tmp_path / "y.csv"
    place.write_text("old\n" * 9)
    with pytest.raises(KeyboardInterrupt):
        write(place, KeyboardInterrupt, make=continued_file)
    assert place.read_text() == "old\n" * 9
    with continued_file(place) as lines:
        lines.write("a,b\n", heading=True)
    assert (place.read_text(), lines.in_place) == ("a,b\n", True)


@pytest.mark.parametrize("heading", [True, False])
@pytest.mark.parametrize("name", ["new.csv", "old.csv", "link.csv"])
def test_a_disk_that_is_full_from_the_first_byte_leaves_no_file_that_was_not_there(
    tmp_path, monkeypatch, name, heading
):
    (tmp_path / "old.csv").touch()
    (tmp_path / "link.csv").symlink_to("far.csv")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"), continued_file(tmp_path / name) as lines:
        lines.write("a,b\n", heading=heading)
    assert not lines.in_place
    assert sorted(os.listdir(tmp_path)) == ["link.csv", "old.csv"]


def test_a_heading_that_found_no_room_comes_with_the_next_row(tmp_path, monkeypatch):
    with continued_file(tmp_path / "y.csv") as lines:
        lines.write("a,b\n", heading=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                lines.write("1,2\n")
        assert not lines.in_place
        lines.write("3,4\n")
    assert ((tmp_path / "y.csv").read_text(), lines.rows, lines.in_place) == ("a,b\n3,4\n", 1, True)


@pytest.mark.parametrize("content", ["a,b\n1,2", "a,b\n1,2,3\n", ""], ids=["shorter", "within a line", "empty"])
def test_lines_of_another_file_are_left_alone(tmp_path, content):
    place = tmp_path / "y.csv"
    place.write_text(content)
    with pytest.raises(ValueError, match="were written"), continued_file(place, 8, 1):
        pytest.fail("opened")
    assert place.read_text() == content


def test_one_at_a_time_goes_on_with_a_file(tmp_path):
    place = tmp_path / "y.csv"
    with continued_file(place) as lines:
        lines.write("1\n")
        with pytest.raises(ValueError, match="another process"), continued_file(place) as others:
            others.write("2\n")
        with pytest.raises(ValueError, match="another process"), continued_file(place, 2, 1):
            pytest.fail("opened")
        lines.write("3\n")
    assert place.read_text() == "1\n3\n"


def test_who_was_refused_leaves_the_file_alone_in_the_end_as_well(tmp_path):
    """When the other one has let it go: it was cut to nothing."""
    place = tmp_path / "y.csv"
    with contextlib.ExitStack() as stack:
        others = stack.enter_context(continued_file(place))
        with continued_file(place) as lines:
            lines.write("1\n")
            for _ in range(2):
                with pytest.raises(ValueError, match="another process"):
                    others.write("2\n")
        with pytest.raises(ValueError, match="another process"):
            others.write("2\n")
    assert place.read_text() == "1\n"


def test_part_of_a_line_is_cut_when_the_disk_is_full(tmp_path, monkeypatch):
    place, usual, calls = tmp_path / "y.csv", os.write, []

    def write_some(descriptor, data):
        calls.append(data)
        if len(calls) > 2:
            usual(descriptor, data[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return usual(descriptor, data)

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="No space") as caught:
        write(place, "12\n", "34\n", make=continued_file)
    assert (place.read_text(), caught.value.filename) == ("a,b\n12\n", str(place))


def test_a_line_that_a_full_disk_cut_is_taken_back(tmp_path, monkeypatch):
    """The disk has room again for the next one."""
    usual, full = os.write, [True]

    def write(descriptor, data):
        if data == b"second\n" and full:
            full.clear()
            return usual(descriptor, data[:3])
        if data == b"ond\n":
            raise OSError(errno.ENOSPC, "No space left on device")
        return usual(descriptor, data)

    with growing_file(tmp_path / "y.csv") as lines:
        lines.write("first\n")
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            lines.write("second\n")
        lines.write("third\n")
        assert lines.rows == 2
    assert (tmp_path / "y.csv").read_text() == "first\nthird\n"


def test_a_file_that_another_process_continues_is_not_replaced(tmp_path):
    target = tmp_path / "out.csv"
    with continued_file(target) as theirs:
        theirs.write("theirs\n")
        with (
            pytest.raises(ValueError, match=r"out\.csv' is being written by another process\. Wait"),
            growing_file(target),
        ):
            pytest.fail("it was opened")
        theirs.write("more\n")
    assert target.read_text() == "theirs\nmore\n"
    with growing_file(target) as own:
        own.write("own\n")
    assert target.read_text() == "own\n"
    assert [own.name for own in tmp_path.iterdir()] == ["out.csv"]
