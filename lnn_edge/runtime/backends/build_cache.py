"""Cache of what was built on this device, engines and libraries, in the user's folder.

Either is native code: loading one from elsewhere is running a stranger's program. So the folder is the user's alone
(0700), every engine has a record beside it with everything it depends on, its hash, and a keyed signature whose secret
never leaves the folder, and what does not match in every point is not loaded but built again.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ...bundle.manifest import encode_json
from ...errors import BackendUnavailable
from ...files.staging import staged
from .forks import closed_in_children, left_open

if TYPE_CHECKING:
    import logging

__all__ = ["ENGINES", "CacheContents", "EngineCache", "EngineRefused", "Kind", "cache_contents", "cache_folder"]

_SCHEMA = 1  # of the record; a change makes every older engine unreadable, which is what it should do
_SECRET_BYTES = 32

Facts = Mapping[str, str]


class Kind(msgspec.Struct, frozen=True):
    """What a cache holds.

    Args:
        folder: Name of its folder in that of lnn-edge.
        noun: What one of them is called.
        suffix: How the names of their files end.
    """

    folder: str
    noun: str
    suffix: str


ENGINES = Kind("tensorrt", "engine", ".engine")


class EngineRefused(Exception):
    """A cached engine must not be loaded; the text says why."""


class _Record(msgspec.Struct, frozen=True):
    """What stands beside an engine."""

    schema: int
    facts: dict[str, str]
    size: int
    sha256: str
    signature: str = ""


def cache_folder(kind: Kind = ENGINES) -> Path:
    """`lnn-edge/tensorrt` or the like in the user's cache folder: $XDG_CACHE_HOME, else ~/.cache.

    Raises:
        BackendUnavailable: If the user has no home, as in a container whose system does not know them.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):
        raise BackendUnavailable(
            f"there is no folder for the {kind.noun} cache: this user has no home. Type: export XDG_CACHE_HOME=FOLDER"
        )
    return Path(base) / "lnn-edge" / kind.folder


class CacheContents(msgspec.Struct, frozen=True):
    """What lies in a cache.

    Args:
        files: Number of engines, and of timings that make the next build quick.
        nbytes: Of all of it.
    """

    files: int
    nbytes: int


def cache_contents(folder: Path, kind: Kind = ENGINES) -> CacheContents:
    """Look into a cache; none is made where there is none.

    Raises:
        BackendUnavailable: If it cannot be used as it is.
    """
    try:
        _check_private(folder, kind)
        sizes = [path.stat().st_size for path in folder.glob(f"*{kind.suffix}")]
    except FileNotFoundError:
        return CacheContents(0, 0)
    except OSError as error:
        raise BackendUnavailable(
            f"the {kind.noun} cache '{folder}' cannot be looked into: {error.strerror}. It must lie in a folder of "
            "yours. Type: export XDG_CACHE_HOME=FOLDER"
        ) from error
    return CacheContents(len(sizes), sum(sizes))


class EngineCache:
    """Engines by facts: everything that an engine depends on, as text by name.

    Raises:
        BackendUnavailable: If the folder cannot be made, is not the user's, or is open to others.
    """

    def __init__(self, folder: Path, kind: Kind = ENGINES) -> None:
        self.folder, self._kind = folder, kind
        with self._usable():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(folder, kind)
        secret = _secret(folder / "secret")
        if secret is None:
            with self.building(), self._usable():  # another process may be at it as well: its secret is as good
                secret = _secret(folder / "secret") or _new_secret(folder / "secret")
        self._secret = secret

    def path(self, facts: Facts) -> Path:
        """Where the engine for these facts lies or would lie."""
        return self.folder / f"{_key(facts)}{self._kind.suffix}"

    def read(self, facts: Facts) -> bytes | None:
        """Load an engine; `None` if there is none.

        Raises:
            EngineRefused: If anything about it is not as it was written.
        """
        path = self.path(facts)
        if not path.exists() and not path.is_symlink():
            return None
        data = _private_bytes(path)
        try:
            record = msgspec.json.decode(_private_bytes(path.with_suffix(".json")), type=_Record, strict=True)
        except msgspec.MsgspecError as error:
            raise EngineRefused(f"its record cannot be read: {error}") from error
        if record.schema != _SCHEMA:
            raise EngineRefused(f"its record is of schema {record.schema}, expected {_SCHEMA}")
        different = _difference(record.facts, facts)
        if different:
            raise EngineRefused(different)
        if not hmac.compare_digest(record.signature, self._signature(record)):
            raise EngineRefused("it was not built by this user on this machine")
        if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
            raise EngineRefused("its bytes were changed")
        return data

    def why_not_another(self, facts: Facts, same: Iterable[str]) -> str:
        """Where there is no engine for these facts: why the newest one that agrees in `same` cannot serve, or ""."""
        found = []
        for path in self.folder.glob("*.json"):
            try:
                record = msgspec.json.decode(_private_bytes(path), type=_Record, strict=True)
                found.append((path.stat().st_mtime_ns, record.facts))
            except (EngineRefused, msgspec.MsgspecError, OSError):  # whatever it was, it only had a reason to give
                continue
        alike = [pair for pair in found if all(pair[1].get(name) == facts[name] for name in same)]
        return _difference(max(alike, key=lambda pair: pair[0])[1], facts) if alike else ""

    def write(self, facts: Facts, data: bytes) -> None:
        """Store an engine; a reader sees all of it with its record, or refuses it."""
        record = _Record(_SCHEMA, dict(facts), len(data), hashlib.sha256(data).hexdigest())
        record = _Record(record.schema, record.facts, record.size, record.sha256, self._signature(record))
        path = self.path(facts)
        try:
            _replace(path, data)
            _replace(path.with_suffix(".json"), encode_json(record))
        except OSError as error:
            raise BackendUnavailable(
                f"the {self._kind.noun} cannot be saved in '{self.folder}': {error.strerror}. Free some space, or set "
                "XDG_CACHE_HOME to a folder elsewhere"
            ) from error

    def forget(self, facts: Facts) -> None:
        """Remove an engine, if there is one."""
        for path in (self.path(facts), self.path(facts).with_suffix(".json")):
            with suppress(OSError):  # it stays, and is replaced or refused like any other
                path.unlink()

    @contextmanager
    def building(self) -> Iterator[None]:
        """Let one process build at a time; the next one then finds what this one built.

        Raises:
            BackendUnavailable: If nothing can be written to the folder.
        """
        with self._usable():
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._lock(closed_in_children(descriptor))
            yield
        finally:
            os.close(left_open(descriptor))

    def _lock(self, descriptor: int) -> None:
        """A file system without locks has to do: files are replaced whole, and what does not match is refused."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._logger().warning("waiting for another process that builds %s", _one(self._kind.noun))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            self._logger().info("the %s cache '%s' cannot be locked: %s", self._kind.noun, self.folder, error.strerror)

    def _logger(self) -> logging.Logger:
        import logging  # a start that finds all it needs has nothing to say

        return logging.getLogger(f"lnn_edge.{self._kind.folder}")

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackendUnavailable(
                f"the {self._kind.noun} cache '{self.folder}' cannot be used: {error.strerror or error}. "
                "Set XDG_CACHE_HOME to a folder of yours"
            ) from error

    def _signature(self, record: _Record) -> str:
        signed = encode_json([record.schema, sorted(record.facts.items()), record.size, record.sha256])
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()


def _key(facts: Facts) -> str:
    return hashlib.sha256(encode_json(sorted(facts.items()))).hexdigest()[:32]


def _difference(built: Facts, here: Facts) -> str:
    """The first fact in which an engine does not fit, or ""."""
    names = sorted(name for name in {*built, *here} if built.get(name) != here.get(name))
    return f"it was built for {names[0]} {built.get(names[0])}, here it is {here.get(names[0])}" if names else ""


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _check_private(folder: Path, kind: Kind) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        advice = f"It is none. Type: rm {folder}"
    elif status.st_uid != os.geteuid():
        advice = f"It belongs to another user. Type: sudo chown -R $USER {folder}"
    elif status.st_mode & 0o077:
        advice = f"Type: chmod 700 {folder}"
    else:
        return
    raise BackendUnavailable(
        f"the {kind.noun} cache '{folder}' must be a folder that only you can enter, because what lies there is run. "
        + advice
    )


def _private_bytes(path: Path) -> bytes:
    """Read a plain file of the user's; links and other people's files are refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise EngineRefused(f"{path.name} cannot be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise EngineRefused(f"{path.name} is not a file that only you can write")
        return file.read()


def _secret(path: Path) -> bytes | None:
    """The key of the signatures; `None` if there is none that can be used."""
    try:
        secret = _private_bytes(path)
    except EngineRefused:
        return None
    return secret if len(secret) == _SECRET_BYTES else None


def _new_secret(path: Path) -> bytes:
    import secrets  # once in the life of a cache

    secret = secrets.token_bytes(_SECRET_BYTES)
    _replace(path, secret)
    return secret


def _replace(path: Path, data: bytes) -> None:
    """Write a file for the user alone, whole or not at all."""
    with staged(path, _make_private) as (temporary, descriptor):
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)


def _make_private(name: Path) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
