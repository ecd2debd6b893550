"""The state folder: whose it is, its master key, and a note of how far its ledger has come.

Everything is named after the ledger's file: `ledger.db.lock`, `ledger.db.epoch`, `ledger.db.key`. The folder is made
with mode 0700 where it is missing; files are made with mode 0600.
"""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

KEY_BYTES = 32
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs"})


class StateFolderError(Exception):
    """The folder cannot be used: what is wrong, and the cure."""


class StateFolder:
    """The folder of one ledger file, claimed for this process until `release`."""

    def __init__(self, file: Path, lock: int) -> None:
        self.file = file
        self._lock = lock
        self._epoch = _beside(file, "epoch")

    def recorded_epoch(self) -> int:
        """The last process epoch that was noted; 0 where there is no note."""
        try:
            return int(self._epoch.read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
        except (ValueError, OSError) as error:
            raise StateFolderError(f"{self._epoch}: not the note of an epoch ({error}); put it back") from None

    def record_epoch(self, epoch: int) -> None:
        """Note it durably."""
        try:
            _write(self._epoch, b"%d\n" % epoch)
        except OSError as error:
            raise StateFolderError(f"{self._epoch}: cannot be written: {error.strerror}") from None

    def release(self) -> None:
        os.close(self._lock)  # and with it goes the lock


def claim(file: Path, mounts: str | None = None) -> StateFolder:
    """Make the folder where it is missing and take its lock. Raises `StateFolderError`.

    `mounts`: what is mounted where, in the words of `/proc/self/mountinfo`, which is read where it is None.
    """
    _make_folder_of(file)
    try:
        filesystem = filesystem_of(file.parent.resolve(), _mounts() if mounts is None else mounts)
        if filesystem in _NETWORK:
            raise StateFolderError(
                f"{file.parent}: on {filesystem}, where neither locks nor SQLite's WAL are safe; use a local volume"
            )
        lock = os.open(_beside(file, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateFolderError(f"{file.parent}: cannot hold state: {error.strerror}; name another folder") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StateFolderError(
            f"{file}: another process has this ledger; stop it, or give this one a file of its own (replicas that share"
            " work need Redis)"
        ) from None
    return StateFolder(file, lock)


def master_key(ledger: Path) -> bytes:
    """The key beside the ledger's file, 32 bytes; made, once for all who ask, when there is neither key nor ledger."""
    path = _beside(ledger, "key")
    _make_folder_of(ledger)
    try:
        if not path.exists():
            if ledger.exists() and ledger.stat().st_size:
                raise StateFolderError(f"{path}: the key of {ledger.name} is gone; put it back, or move both away")
            _make_once(path, os.urandom(KEY_BYTES))
        key = path.read_bytes()
    except OSError as error:
        raise StateFolderError(f"{path}: cannot be used: {error.strerror}") from None
    if len(key) != KEY_BYTES:
        raise StateFolderError(f"{path}: {len(key)} bytes, but a key has {KEY_BYTES}; put the right one back")
    return key


def _make_folder_of(file: Path) -> None:
    if file.is_dir():
        raise StateFolderError(f"{file}: a folder; name a file in it, such as {file / 'ledger.db'}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise StateFolderError(f"{file.parent}: cannot hold state: {why}; name another folder") from None


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of file system that `path` is on by `/proc/self/mountinfo` (proc(5)); empty where it does not tell."""
    found = (-1, "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = Path(fields[4].encode("ascii", "replace").decode("unicode_escape"))  # a space is written \040
        if path.is_relative_to(point):
            found = max(found, (len(point.parts), after.split(" ")[0]))
    return found[1]


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not Linux: the documentation has to do


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(f"{file.name}.{ending}")


def _make_once(path: Path, content: bytes) -> None:
    """The file with this content, durably, unless somebody else has made it meanwhile."""
    mine = _beside(path, str(os.getpid()))
    _write(mine, content)
    with suppress(FileExistsError):
        os.link(mine, path)
    mine.unlink()


def _write(path: Path, content: bytes) -> None:
    """The whole content or the old one, durably."""
    new = _beside(path, "new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
