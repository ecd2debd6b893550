"""Callers' files in a folder: whole or not at all, sealed, bounded, and gone when their time is up."""

import os
from pathlib import Path

import pytest

from gateway.ledger.files import CHUNK_BYTES, Files, StoredFile
from gateway.ledger.names import Names
from gateway.ledger.port import LedgerUnavailableError
from gateway.ledger.seal import PayloadCorruptError, Sealer

_MASTER = bytes(32)
_NAMES = Names(_MASTER)
_OWNER = _NAMES.owner_of("alice")
_NOW_S = 1_000_000


def _opened(folder: Path, bytes_max: int = 1 << 30, master: bytes = _MASTER) -> Files:
    return Files(folder / "files", Sealer(master), bytes_max=bytes_max)


def _new_id() -> str:
    return _NAMES.new_id(_OWNER, _NOW_S)


def _put(files: Files, *chunks: bytes, created_s: int = _NOW_S, lives_s: int = 100) -> StoredFile:
    writing = files.begin(_OWNER, _new_id())
    for chunk in chunks:
        writing.write(chunk)
    return writing.finish("in.jsonl", created_s, created_s + lives_s)


def _read(files: Files, file: StoredFile) -> bytes:
    return b"".join(files.read(_OWNER, file))


def test_a_file_is_found_again_by_its_owner_with_every_byte(tmp_path: Path) -> None:
    content = [os.urandom(CHUNK_BYTES), os.urandom(CHUNK_BYTES), b"rest"]
    file = _put(_opened(tmp_path), *content)

    again = _opened(tmp_path)

    assert again.find(_OWNER, file.id, _NOW_S) == file
    assert (file.name, file.size) == ("in.jsonl", 2 * CHUNK_BYTES + 4)
    assert _read(again, file) == b"".join(content)
    assert again.find(_NAMES.owner_of("bob"), file.id, _NOW_S) is None
    assert again.find(_OWNER, _new_id(), _NOW_S) is None
    assert _opened(tmp_path, master=b"x" * 32).find(_OWNER, file.id, _NOW_S) is None


@pytest.mark.parametrize("id_", ["", ".", "../alice", "a/b"])
def test_what_is_no_id_is_no_file(tmp_path: Path, id_: str) -> None:
    files = _opened(tmp_path)
    _put(files, b"x")

    assert files.find(_OWNER, id_, _NOW_S) is None


def test_a_list_holds_the_owners_files_newest_first(tmp_path: Path) -> None:
    files = _opened(tmp_path)
    put = [_put(files, b"x", created_s=_NOW_S + number) for number in range(3)]

    assert files.browse(_OWNER, _NOW_S) == put[::-1]
    assert files.count(_OWNER) == 3
    assert files.browse(_NAMES.owner_of("bob"), _NOW_S) == []


def test_nothing_of_a_file_rests_in_clear_and_nobody_else_may_open_it(tmp_path: Path) -> None:
    _put(_opened(tmp_path), b"canary " * 100)

    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert paths
    for path in paths:
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"canary" not in path.read_bytes()
        assert b"in.jsonl" not in path.read_bytes()
    assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700


def test_a_file_that_was_not_finished_does_not_exist_and_leaves_nothing(tmp_path: Path) -> None:
    files = _opened(tmp_path)
    given_up = files.begin(_OWNER, _new_id())
    given_up.write(b"x")
    given_up.give_up()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    for ending in ("data", "new"):  # what a crash leaves
        (tmp_path / "files" / _OWNER / f"{_new_id()}.{ending}").write_bytes(b"x" * 1000)

    again = _opened(tmp_path, bytes_max=900)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert again.browse(_OWNER, _NOW_S) == []
    assert _put(again, b"there is room").size == 13


def test_files_take_no_more_room_than_they_may(tmp_path: Path) -> None:
    files = _opened(tmp_path, bytes_max=3000)
    first = _put(files, os.urandom(2000))
    too_large = files.begin(_OWNER, _new_id())

    with pytest.raises(LedgerUnavailableError):
        too_large.write(os.urandom(2000))
    too_large.give_up()
    with pytest.raises(LedgerUnavailableError):
        _opened(tmp_path, bytes_max=2050).begin(_OWNER, _new_id())
    files.delete(_OWNER, first.id)

    assert files.find(_OWNER, first.id, _NOW_S) is None
    assert _put(files, os.urandom(2000)).size == 2000


def test_a_file_whose_time_is_up_is_no_more_and_is_swept_away(tmp_path: Path) -> None:
    files = _opened(tmp_path)
    old, young = _put(files, b"x", lives_s=10), _put(files, b"x", lives_s=20)

    assert files.find(_OWNER, old.id, _NOW_S + 10) is None
    files.sweep(_NOW_S + 10, 3600)

    assert files.browse(_OWNER, _NOW_S) == [young]
    assert len(list(tmp_path.rglob(f"{old.id}*"))) == 0


@pytest.mark.parametrize("at", [3, 300, -1])
def test_a_damaged_file_is_never_read_as_a_whole_one(tmp_path: Path, at: int) -> None:
    files = _opened(tmp_path)
    file = _put(files, os.urandom(1000))
    (path,) = tmp_path.rglob("*.data")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)

    with pytest.raises(PayloadCorruptError):
        _read(files, file)


@pytest.mark.parametrize("left", [0, 2, 500])
def test_a_file_cut_short_is_never_read_as_a_whole_one(tmp_path: Path, left: int) -> None:
    files = _opened(tmp_path)
    file = _put(files, os.urandom(1000))
    (path,) = tmp_path.rglob("*.data")
    path.write_bytes(path.read_bytes()[:left])

    with pytest.raises(PayloadCorruptError):
        _read(files, file)


def test_a_mark_is_kept_as_long_as_what_it_is_about(tmp_path: Path) -> None:
    files, id_ = _opened(tmp_path), _new_id()
    files.mark(_OWNER, id_, "output")
    (path,) = tmp_path.rglob("*.output")
    now_s = path.stat().st_mtime

    files.sweep(now_s + 5, 10)
    assert _opened(tmp_path).is_marked(_OWNER, id_, "output")
    assert not files.is_marked(_OWNER, id_, "errors")
    files.sweep(now_s + 15, 10)
    assert not files.is_marked(_OWNER, id_, "output")


def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file in the way")

    with pytest.raises(LedgerUnavailableError):
        _opened(tmp_path).begin(_OWNER, _new_id())


@pytest.mark.parametrize("lasts", [True, False])
def test_files_beside_a_ledger_in_memory_go_with_it(tmp_path: Path, lasts: bool) -> None:
    files = Files(tmp_path / "files", Sealer(_MASTER), bytes_max=1 << 20, lasts=lasts)
    _put(files, b"x")

    files.close()

    assert (tmp_path / "files").exists() is lasts


def test_a_file_that_cannot_be_removed_keeps_no_other_from_being_swept_away(tmp_path: Path) -> None:
    files = _opened(tmp_path)
    _put(files, b"x", lives_s=10)
    owner = next(tmp_path.rglob("*.about")).parent
    for name in ("0", "~"):  # one before the other, whichever way they are looked through
        (owner / f"{name}.about").mkdir()

    files.sweep(_NOW_S + 10, 3600)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
