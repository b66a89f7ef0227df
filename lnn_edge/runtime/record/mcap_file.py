"""One file of a recording, in the format MCAP: what stands before the ticks, chunks of them, and the index at the end.

Messages of one file have one channel. A chunk is written and flushed as a whole, so that a file whose end is missing
opens up to the last complete one. The records of chunks are ours, as NumPy makes them of many messages at once; all
others come from the library.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .library import mcap_records, mcap_streams
from .messages import Encoded

__all__ = ["CHANNEL", "MAGIC", "Face", "Mark", "McapFile"]

MAGIC = b"\x89MCAP0\r\n"
CHANNEL = 1
_LIBRARY = "lnn-edge"
_SCHEMA, _CHANNEL, _STATISTICS, _CHUNK_INDEX, _ATTACHMENT_INDEX, _METADATA_INDEX = 3, 4, 11, 8, 10, 13
_FOOTER, _MESSAGE_INDEX = 2, 7


class Face:
    """What every file of a recording begins with.

    Args:
        topic: Name of the channel.
        schema_name: Full name of the message.
        schema: Its descriptors, serialised.
        metadata: What the recording says about itself, by key; also on the channel, which tools that cut and join
            files keep.
    """

    def __init__(self, topic: str, schema_name: str, schema: bytes, metadata: Mapping[str, str]) -> None:
        self.topic, self.schema_name, self.schema, self.metadata = topic, schema_name, schema, dict(metadata)


class Mark(NamedTuple):
    """Where a file stands."""

    size: int
    crc: int
    listed: tuple[int, int, int]
    counts: dict[str, int]
    messages: tuple[int, int, int]


class McapFile:
    """A file that is being written. Every method writes whole records; see the module's text.

    Args:
        write: Takes bytes, all of them or it raises.
        face: What it begins with.

    Attributes:
        size: Bytes that were written.
    """

    def __init__(self, write: Callable[[bytes], None], face: Face) -> None:
        self._records, self._builder = mcap_records(), mcap_streams().RecordBuilder()
        self._write, self._face = write, face
        self.size, self._crc = 0, 0
        # The index that the file ends with, as bytes: some hundred of each chunk.
        self._chunks, self._attached, self._described = bytearray(), bytearray(), bytearray()
        self._counts = dict.fromkeys(("chunk", "attachment", "metadata"), 0)
        self._messages, self._first, self._last = 0, 0, 0
        self._schema = self._records.Schema(id=1, data=face.schema, encoding="protobuf", name=face.schema_name)
        self._channel = self._records.Channel(
            id=CHANNEL, topic=face.topic, message_encoding="protobuf", schema_id=1, metadata=face.metadata
        )

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return self._counts["chunk"]

    def begin(self) -> None:
        """Write what stands before the ticks."""
        self._put(MAGIC + self._bytes(self._records.Header(profile="", library=_LIBRARY)))
        self.describe(_LIBRARY, self._face.metadata)
        self._put(self._bytes(self._schema, self._channel))

    def describe(self, name: str, metadata: Mapping[str, str]) -> None:
        """Write texts by key."""
        data = self._bytes(self._records.Metadata(name=name, metadata=dict(metadata)))
        index = self._bytes(self._records.MetadataIndex(offset=self.size, length=len(data), name=name))
        self._put(data)
        self._described += index
        self._counts["metadata"] += 1

    def attach(self, name: str, media_type: str, data: bytes, log_time: int) -> None:
        """Write bytes with a name."""
        record = self._records.Attachment(
            create_time=log_time, log_time=log_time, name=name, media_type=media_type, data=data
        )
        written = self._bytes(record)
        index = self._records.AttachmentIndex(
            offset=self.size,
            length=len(written),
            create_time=log_time,
            log_time=log_time,
            data_size=len(data),
            name=name,
            media_type=media_type,
        )
        self._put(written)
        self._attached += self._bytes(index)
        self._counts["attachment"] += 1

    def chunk(self, encoded: Encoded) -> None:
        """Write messages as a chunk, and their index."""
        first, last = int(encoded.log_times.min()), int(encoded.log_times.max())
        record = self._records.Chunk(
            compression="",
            data=encoded.data,
            message_start_time=first,
            message_end_time=last,
            uncompressed_crc=zlib.crc32(encoded.data),
            uncompressed_size=len(encoded.data),
        )
        chunk, index = self._bytes(record), _message_index(encoded)
        listed = self._records.ChunkIndex(
            chunk_length=len(chunk),
            chunk_start_offset=self.size,
            compression="",
            compressed_size=len(encoded.data),
            message_end_time=last,
            message_index_length=len(index),
            message_index_offsets={CHANNEL: self.size + len(chunk)},
            message_start_time=first,
            uncompressed_size=len(encoded.data),
        )
        self._put(chunk + index)
        self._chunks += self._bytes(listed)
        self._counts["chunk"] += 1
        self._first = min(self._first, first) if self._messages else first
        self._last, self._messages = max(self._last, last), self._messages + len(encoded.log_times)

    def end(self, metadata: Mapping[str, str]) -> None:
        """Write last words, and an index of all that is in the file."""
        self.describe(f"{_LIBRARY} end", metadata)
        self._put(self._bytes(self._records.DataEnd(data_section_crc=self._crc)))
        start, summary, offsets = self.size, b"", []
        for opcode, data in self._summary():
            if data:
                offset = self._records.SummaryOffset(
                    group_opcode=opcode, group_start=start + len(summary), group_length=len(data)
                )
                offsets.append(offset)
            summary += data
        behind = start + len(summary)
        summary += self._bytes(*offsets)
        crc = zlib.crc32(summary)
        head = (
            bytes([_FOOTER]) + (20).to_bytes(8, "little") + start.to_bytes(8, "little") + behind.to_bytes(8, "little")
        )
        footer = self._records.Footer(
            summary_start=start, summary_offset_start=behind, summary_crc=zlib.crc32(head, crc)
        )
        self._put(summary + self._bytes(footer) + MAGIC)

    def _summary(self) -> list[tuple[int, bytes]]:
        statistics = self._records.Statistics(
            attachment_count=self._counts["attachment"],
            channel_count=1,
            channel_message_counts={CHANNEL: self._messages},
            chunk_count=self._counts["chunk"],
            message_count=self._messages,
            metadata_count=self._counts["metadata"],
            message_start_time=self._first,
            message_end_time=self._last,
            schema_count=1,
        )
        return [
            (_SCHEMA, self._bytes(self._schema)),
            (_CHANNEL, self._bytes(self._channel)),
            (_STATISTICS, self._bytes(statistics)),
            (_CHUNK_INDEX, bytes(self._chunks)),
            (_ATTACHMENT_INDEX, bytes(self._attached)),
            (_METADATA_INDEX, bytes(self._described)),
        ]

    def _bytes(self, *records: Any) -> bytes:
        for record in records:
            record.write(self._builder)
        data: bytes = self._builder.end()
        return data

    def mark(self) -> Mark:
        """Where the file stands, to go back to if the next records cannot be written."""
        listed = len(self._chunks), len(self._attached), len(self._described)
        return Mark(self.size, self._crc, listed, dict(self._counts), (self._messages, self._first, self._last))

    def back_to(self, mark: Mark) -> None:
        """Stand there again; whoever writes has cut off what came after it."""
        self.size, self._crc, self._counts = mark.size, mark.crc, dict(mark.counts)
        self._messages, self._first, self._last = mark.messages
        for own, length in zip((self._chunks, self._attached, self._described), mark.listed, strict=True):
            del own[length:]

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._crc = zlib.crc32(data, self._crc)
        self.size += len(data)


def _message_index(encoded: Encoded) -> bytes:
    """The record that says where in a chunk each message is."""
    entries = np.empty((len(encoded.log_times), 2), "<u8")
    entries[:, 0], entries[:, 1] = encoded.log_times, encoded.offsets
    data = entries.tobytes()
    head = CHANNEL.to_bytes(2, "little") + len(data).to_bytes(4, "little")
    return bytes([_MESSAGE_INDEX]) + (len(head) + len(data)).to_bytes(8, "little") + head + data
