"""The libraries of recordings, which the extra `record` brings: `mcap` for files, `protobuf` for their schema."""

from __future__ import annotations

from typing import Any

__all__ = ["decompressed", "mcap_records", "mcap_streams", "protobuf_descriptors"]

_MISSING = "recordings need {}, which is not installed. Type: pip install 'lnn-edge[record]'"


def mcap_records() -> Any:
    """The module with the records of a file.

    Raises:
        ImportError: If it is not installed, with what to type.
    """
    try:
        from mcap import records
    except ImportError as error:
        raise ImportError(_MISSING.format("mcap")) from error
    return records


def mcap_streams() -> Any:
    """The module that reads and writes single numbers and texts.

    Raises:
        ImportError: As above.
    """
    try:
        from mcap import data_stream
    except ImportError as error:
        raise ImportError(_MISSING.format("mcap")) from error
    return data_stream


def protobuf_descriptors() -> Any:
    """The module with protobuf's descriptions of messages.

    Raises:
        ImportError: As above.
    """
    try:
        from google.protobuf import descriptor_pb2
    except ImportError as error:
        raise ImportError(_MISSING.format("protobuf")) from error
    return descriptor_pb2


def decompressed(kind: str, data: bytes, size: int) -> bytes:
    """The content of a chunk, never more than a byte over `size`.

    Raises:
        ValueError: If it is compressed in a way that is not known.
        Exception: Of the library that takes it apart, if it is damaged.
    """
    if kind == "":
        return data
    if kind == "zstd":
        import zstandard

        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            found: bytes = reader.read(size + 1)
        return found
    if kind == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        parts, decompressor, length = [], LZ4FrameDecompressor(), 0
        while not decompressor.eof and length <= size:
            part: bytes = decompressor.decompress(data, max_length=size + 1 - length)
            if not part:
                break
            parts.append(part)
            length, data = length + len(part), b""
        return b"".join(parts)
    raise ValueError(f"its chunks are compressed by '{kind[:20]}', expected zstd, lz4 or nothing")
