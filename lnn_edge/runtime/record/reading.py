"""Recordings from disk, checked: whatever a file holds, it is read, or refused with a sentence.

Sizes are looked at before memory is taken for them. What tools of MCAP make of a recording is read as well: compressed
chunks, other chunks, messages without any.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from ...arrays import Array
from ...bundle.manifest import Manifest
from ...errors import NonFiniteError
from ...files.whole import named_in_errors
from ...wording import one_line
from ..state import State, check_state
from .description import Origin, origin_from
from .layout import layout_of
from .library import decompressed, mcap_records, mcap_streams
from .mcap_file import MAGIC
from .messages import Messages
from .series import GIVEN, STATE_PREFIX

__all__ = ["Reading", "Start", "read_origin"]

_MOST_RECORD = 256 << 20  # bytes; a chunk of ours has some megabytes
_MOST_CHANNELS = 1 << 12
_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHANNEL, _ONE_MESSAGE, _CHUNK, _ATTACHMENT, _END_OF_DATA = 4, 5, 6, 9, 15


class Start(NamedTuple):
    """A state before a tick; `given` where no tick led to it."""

    tick: int
    state: State
    given: bool = False


class _Damaged(ValueError):
    """What is wrong with a file, without its name."""


def read_origin(path: str | os.PathLike[str]) -> Origin:
    """Where the results in a recording come from.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no recording, damaged, or newer.
        ImportError: If the extra `record` is not installed.
    """
    with _Opened(path) as file:
        for opcode, body in _flat(file):
            if opcode == _CHANNEL:
                texts = _channel(body)[1]
                if texts is not None:
                    return origin_from(texts)
        raise _Damaged(
            "it ends before it says what it is" if file.cut else "it holds no ticks of lnn-edge, only other channels"
        )


class Reading:
    """Reads the ticks of a recording of one bundle.

    Args:
        path: The recording.
        manifest: The bundle's.

    Attributes:
        cut: Whether the file ends before its end, once it was read: a crash does that, and all that was complete is
            there.
        size: Bytes of the file, once it was opened.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest) -> None:
        self.cut, self.size = False, 0
        self._path, self._manifest = path, manifest
        self._layout = layout_of(manifest)
        self._messages = Messages(self._layout)
        self._channels: dict[int, bool] = {}  # by number, whether its ticks are read
        self._last = -1

    def parts(self) -> Iterator[Array | Start]:
        """Ticks, (n,) of the layout's dtype and in order, and the states before some of them.

        Raises:
            As `read_origin`.
        """
        with _Opened(self._path) as file:
            self.size = file.left()
            for opcode, body in _records(file):
                if opcode == _CHUNK:
                    payloads = [one for one in map(self._payload, _in_chunk(body)) if one is not None]
                    yield from self._ticks(payloads)
                elif opcode == _ATTACHMENT:
                    start = self._start(body)
                    if start is not None:
                        yield start
                else:
                    payload = self._payload((opcode, body))
                    yield from self._ticks([] if payload is None else [payload])
            self.cut = file.cut

    def _payload(self, record: tuple[int, bytes]) -> bytes | None:
        """The message in a record of a channel of ours."""
        opcode, body = record
        if opcode == _CHANNEL:
            number, texts = _channel(body)
            own = texts is not None and texts.get("bundle") == self._manifest.digest
            self._channels[number] = own
            if sum(self._channels.values()) > 1:
                raise _Damaged("it holds several recordings of this bundle. Split it by topic, with: mcap filter")
            if len(self._channels) > _MOST_CHANNELS:
                raise _Damaged(f"it has more than {_MOST_CHANNELS:,} channels")
        elif opcode == _ONE_MESSAGE:
            if len(body) < _MESSAGE.size:
                raise _Damaged("a message is too short")
            if self._channels.get(_MESSAGE.unpack_from(body)[0]):
                return body[_MESSAGE.size :]
        return None

    def _ticks(self, payloads: list[bytes]) -> Iterator[Array]:
        if not payloads:
            return
        ticks = self._messages.decode(payloads)
        numbers = np.concatenate([[self._last], ticks["tick"]])
        if (np.diff(numbers) <= 0).any():
            raise _Damaged("its ticks are not in order")
        self._last = int(numbers[-1])
        yield ticks

    def _start(self, body: bytes) -> Start | None:
        """The state in an attachment; `None` for one of others."""
        record = mcap_records().Attachment.read(mcap_streams().ReadDataStream(BytesIO(body)))
        name = str(record.name)
        number = name.removeprefix(STATE_PREFIX).partition(".")[0]
        if not name.startswith(STATE_PREFIX) or not number.isascii() or not number.isdecimal() or len(number) > 18:
            return None
        if zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
            raise _Damaged(f"the state before tick {int(number):,} does not match its checksum")
        return Start(int(number), self._state(record.data), GIVEN in name)

    def _state(self, data: bytes) -> State:
        try:
            arrays = load(data)
            parts: dict[str, dict[str, Array]] = {"state": {}, "kept": {}}
            for name, value in arrays.items():
                kind, _, own = name.partition(".")
                parts[kind][own] = value
            state = State(parts["state"], None, parts["kept"])
            check_state(state, self._manifest)
        except (SafetensorError, KeyError, TypeError, ValueError, NonFiniteError) as error:
            raise _Damaged(f"a state in it does not fit the bundle: {one_line(error)}") from error
        return state


class _Opened:
    """A file that is read record by record; what goes wrong names it.

    Attributes:
        cut: Whether it ended in the middle of a record, or without an end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.cut = False
        self._crc = 0

    def __enter__(self) -> _Opened:
        mcap_records()  # first, as it may be missing
        with named_in_errors(self.path):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # which waits for no pipe
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise ValueError(f"'{self.path}' is {what}, expected a recording: NAME.mcap")
        self._file: IO[bytes] = os.fdopen(descriptor, "rb")
        self._size = status.st_size
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._file.close()
        known = (ValueError, struct.error, EOFError, OverflowError, IndexError, MemoryError)
        ours = type(error).__module__.partition(".")[0] in ("mcap", "zstandard", "lz4")
        if error is not None and (isinstance(error, known) or ours) and not isinstance(error, NonFiniteError):
            raise ValueError(f"recording '{self.path}' cannot be read: {_why(error)}") from error

    def take(self, count: int) -> bytes:
        """So many bytes, fewer where it ends."""
        data = self._file.read(count)
        self._crc = zlib.crc32(data, self._crc)
        return data

    def left(self) -> int:
        """Bytes that are left."""
        return self._size - self._file.tell()

    @property
    def crc(self) -> int:
        """The checksum of all that was taken."""
        return self._crc

    def end_early(self) -> None:
        """Note that it ends here, where more should come.

        Raises:
            ValueError: If its last bytes are those of a complete file, so that it is damaged in the middle.
        """
        self._file.seek(max(0, self._size - len(MAGIC)))
        if self._size > 2 * len(MAGIC) and self._file.read() == MAGIC:
            raise _Damaged("it is damaged in the middle")
        self.cut = True


def _why(error: BaseException) -> str:
    return one_line(error) if isinstance(error, _Damaged) else f"it is damaged: {one_line(error) or repr(error)}"


def _records(file: _Opened) -> Iterator[tuple[int, bytes]]:
    """Kinds and contents of records, up to the end of the data."""
    magic = file.take(len(MAGIC))
    if magic != MAGIC:
        raise _Damaged("it is empty" if not magic else "it is no file of MCAP")
    while True:
        before = file.crc
        head = file.take(_HEAD.size)
        if len(head) < _HEAD.size:
            return file.end_early()
        opcode, length = _HEAD.unpack(head)
        if length > file.left():
            return file.end_early()
        if length > _MOST_RECORD:
            raise _Damaged(f"a record has {length:,} bytes, expected at most {_MOST_RECORD:,}")
        body = file.take(length)
        if opcode == _END_OF_DATA:
            crc = int.from_bytes(body[:4], "little")
            if crc not in (0, before):
                raise _Damaged("it does not match its checksum")
            return None
        yield opcode, body


def _flat(file: _Opened) -> Iterator[tuple[int, bytes]]:
    """As `_records`, with those of chunks in their place."""
    for opcode, body in _records(file):
        if opcode == _CHUNK:
            yield from _in_chunk(body)
        else:
            yield opcode, body


def _in_chunk(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The records of a chunk."""
    chunk = mcap_records().Chunk.read(mcap_streams().ReadDataStream(BytesIO(body)))
    if chunk.uncompressed_size > _MOST_RECORD:
        raise _Damaged(f"a chunk has {chunk.uncompressed_size:,} bytes, expected at most {_MOST_RECORD:,}")
    data = decompressed(chunk.compression, chunk.data, chunk.uncompressed_size)
    if len(data) != chunk.uncompressed_size or chunk.uncompressed_crc not in (0, zlib.crc32(data)):
        raise _Damaged("a chunk does not match its checksum")
    place = 0
    while place < len(data):
        opcode, length = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        if length > len(data) - place:
            raise _Damaged("a record is longer than its chunk")
        yield opcode, data[place : place + length]
        place += length


def _channel(body: bytes) -> tuple[int, Mapping[str, str] | None]:
    """Number of a channel, and what it says about itself if it is one of ours."""
    channel = mcap_records().Channel.read(mcap_streams().ReadDataStream(BytesIO(body)))
    ours = channel.message_encoding == "protobuf" and {"version", "bundle", "lnn_edge"} <= channel.metadata.keys()
    return int(channel.id), channel.metadata if ours else None
