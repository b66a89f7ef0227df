"""The libraries of recordings, which the extra `record` brings: `mcap` for files, `protobuf` for their schema."""

from __future__ import annotations

from typing import Any

__all__ = ["mcap_records", "mcap_streams", "protobuf_descriptors"]

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
