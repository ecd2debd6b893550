"""Callers' files in the state folder, sealed as payloads are: `<owner>/<id>.data`, `<owner>/<id>.about`.

A file exists once its `about` does, which is written last; what a crash left behind is removed at the start. A mark is
an empty `<owner>/<id>.<word>`. All calls block: they are for threads. One process uses a folder: the one that has
its ledger.
"""

import os
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from gateway.ledger.names import is_id
from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.seal import BatchKey, PayloadCorruptError, Sealer

CHUNK_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")
_SEALED_BYTES_MAX = 2 * CHUNK_BYTES
_ABOUT = "about"


class StoredFile(msgspec.Struct, frozen=True):
    """A file of a caller. `size` in bytes as it came; times in whole seconds since 1970."""

    id: str
    name: str
    size: int
    created_s: int
    expires_s: int


class Files:
    """The files of one folder, which is made when it is needed. `bytes_max`: of all files as they are kept.

    `lasts` is False where the folder goes with its ledger, which is in memory.
    """

    def __init__(self, folder: Path, sealer: Sealer, *, bytes_max: int, lasts: bool = True) -> None:
        self._lasts = lasts
        self._folder = folder
        self._sealer = sealer
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._used = 0
        self._tidy()

    def begin(self, owner: str, id_: str) -> "Writing":
        """A new file, to be written and then finished or given up. Raises `LedgerUnavailableError`."""
        key, wrapped = self._sealer.new_key(id_)
        place = self._folder / owner
        try:
            self._make(place)
            return Writing(self, place, id_, key, wrapped)
        except OSError as error:
            raise _unavailable(error) from None

    def find(self, owner: str, id_: str, now_s: float) -> StoredFile | None:
        """The owner's file, None where there is none, or its time is up."""
        if not is_id(id_):
            return None
        try:
            sealed = (self._folder / owner / f"{id_}.about").read_bytes()
            key, rest = self._opened(id_, sealed)
            found = msgspec.json.decode(key.open(rest, _ABOUT), type=StoredFile)
        except (FileNotFoundError, PayloadCorruptError, msgspec.DecodeError):
            return None
        except OSError as error:
            raise _unavailable(error) from None
        return found if found.expires_s > now_s else None

    def browse(self, owner: str, now_s: float) -> list[StoredFile]:
        """All of the owner's files, newest first."""
        found = [self.find(owner, path.stem, now_s) for path in (self._folder / owner).glob("*.about")]
        return sorted((each for each in found if each), key=lambda each: (each.created_s, each.id), reverse=True)

    def count(self, owner: str) -> int:
        return sum(1 for _ in (self._folder / owner).glob("*.about"))

    def read(self, owner: str, file: StoredFile) -> Iterator[bytes]:
        """The file's bytes, a chunk at a time. Raises `PayloadCorruptError` where they are not the whole as it came."""
        left = file.size
        try:
            with (self._folder / owner / f"{file.id}.data").open("rb") as data:
                key = self._key_of(file.id, data)
                number = 0
                while left > 0:
                    chunk = key.open(_next_sealed(data), f"data/{number}")
                    number, left = number + 1, left - len(chunk)
                    yield chunk
        except OSError as error:
            raise _unavailable(error) from None
        if left:
            raise PayloadCorruptError("the file is not as long as it was")

    def delete(self, owner: str, id_: str) -> None:
        """The file is gone; so it was if there is none."""
        for ending in ("about", "data"):
            self._unlink(self._folder / owner / f"{id_}.{ending}")

    def mark(self, owner: str, id_: str, word: str) -> None:
        """Put a mark beside the files, durably enough: the file system keeps it."""
        try:
            self._make(self._folder / owner)
            (self._folder / owner / f"{id_}.{word}").touch(mode=0o600)
        except OSError as error:
            raise _unavailable(error) from None

    def is_marked(self, owner: str, id_: str, word: str) -> bool:
        return (self._folder / owner / f"{id_}.{word}").exists()

    def sweep(self, now_s: float, marks_live_s: float) -> None:
        """Remove files whose time is up, and marks older than what they are about. One that cannot be read or removed
        stays until another sweep, and keeps none of the others."""
        for path in self._folder.glob("*/*.*"):
            if path.suffix == ".about":
                with suppress(LedgerUnavailableError):
                    if self.find(path.parent.name, path.stem, now_s) is None:
                        self.delete(path.parent.name, path.stem)
            elif path.suffix not in (".data", ".new"):
                with suppress(OSError):
                    if path.stat().st_mtime + marks_live_s < now_s:
                        path.unlink()

    def close(self) -> None:
        """Where the ledger was never on a disk, the files go with it."""
        if not self._lasts:
            shutil.rmtree(self._folder, ignore_errors=True)

    def took(self, count: int) -> None:
        """So many bytes more. Raises `LedgerUnavailableError` where there is no room for them."""
        with self._lock:
            if count > 0 and self._used + count > self._bytes_max:
                raise LedgerUnavailableError(f"files may take {self._bytes_max} bytes, and do; delete some")
            self._used += count

    def _make(self, place: Path) -> None:
        for folder in (self._folder, place):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _tidy(self) -> None:
        """At the start: remove what a crash left, and count what is there."""
        for path in self._folder.glob("*/*"):
            if path.suffix == ".new" or (path.suffix == ".data" and not path.with_suffix(".about").exists()):
                path.unlink(missing_ok=True)
            elif path.suffix == ".data":
                self._used += path.stat().st_size

    def _unlink(self, path: Path) -> None:
        try:
            size = path.stat().st_size if path.suffix == ".data" else 0
            path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unavailable(error) from None
        self.took(-size)

    def _opened(self, id_: str, data: bytes) -> tuple[BatchKey, bytes]:
        """The key at the head of what is kept, and what follows it."""
        if len(data) < _LENGTH.size:
            raise PayloadCorruptError("too short")
        end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        return self._sealer.key(id_, data[_LENGTH.size : end]), data[end:]

    def _key_of(self, id_: str, data: BinaryIO) -> BatchKey:
        return self._sealer.key(id_, _next_sealed(data))


class Writing:
    """A file on its way. `write` whole chunks of `CHUNK_BYTES`, the last one shorter."""

    def __init__(self, files: Files, place: Path, id_: str, key: BatchKey, wrapped: bytes) -> None:
        self._files, self._place, self._id, self._key, self._wrapped = files, place, id_, key, wrapped
        self._path = place / f"{id_}.data"
        self._data = os.fdopen(_created(self._path), "wb")
        self._taken = self._number = 0
        self.size = 0
        try:
            self._put(wrapped)
        except LedgerUnavailableError:
            self.give_up()
            raise

    def write(self, chunk: bytes) -> None:
        """Raises `LedgerUnavailableError`: the disk, or what files may take of it, is full."""
        self._put(self._key.seal(chunk, f"data/{self._number}"))
        self._number += 1
        self.size += len(chunk)

    def finish(self, name: str, created_s: int, expires_s: int) -> StoredFile:
        """The file exists, durably."""
        file = StoredFile(self._id, name, self.size, created_s, expires_s)
        about = self._key.seal(msgspec.json.encode(file), _ABOUT)
        new = self._place / f"{self._id}.new"
        try:
            with self._data as data:
                data.flush()
                os.fsync(data.fileno())
            with os.fdopen(_created(new), "wb") as written:
                written.write(_LENGTH.pack(len(self._wrapped)) + self._wrapped + about)
                written.flush()
                os.fsync(written.fileno())
            new.replace(self._place / f"{self._id}.about")
            for folder in (self._place, self._place.parent):
                _sync(folder)
        except OSError as error:
            raise _unavailable(error) from None
        return file

    def give_up(self) -> None:
        """Nothing is left of it."""
        with suppress(OSError):
            self._data.close()
        with suppress(OSError):
            self._path.unlink()
        self._files.took(-self._taken)

    def _put(self, sealed: bytes) -> None:
        count = _LENGTH.size + len(sealed)
        self._files.took(count)
        self._taken += count
        try:
            self._data.write(_LENGTH.pack(len(sealed)) + sealed)
        except OSError as error:
            raise _unavailable(error) from None


def _created(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _next_sealed(data: BinaryIO) -> bytes:
    head = data.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    if not 0 < length <= _SEALED_BYTES_MAX:
        raise PayloadCorruptError("the file ends too early")
    return data.read(length)


def _unavailable(error: OSError) -> LedgerUnavailableError:
    return LedgerUnavailableError(f"files cannot be kept: {error.strerror}")
