"""The state folder: one process, a key that stays, a note that survives, and no network file system."""

from pathlib import Path

import pytest

from gateway.ledger.state_folder import StateFolderError, claim, filesystem_of, master_key

MOUNTS = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:20 / /proc rw,nosuid - proc proc rw
31 21 0:40 / /mnt/shared rw,relatime shared:1 master:2 - nfs4 server:/export rw
32 31 0:41 / /mnt/shared/local rw - xfs /dev/vdb rw
33 21 0:42 / /mnt/with\\040space rw - cifs //server/share rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "filesystem"),
    [
        ("/var/lib/batch-gateway", "ext4"),
        ("/mnt/shared", "nfs4"),
        ("/mnt/shared/state", "nfs4"),
        ("/mnt/shared/local/state", "xfs"),
        ("/mnt/sharedness", "ext4"),
        ("/mnt/with space/state", "cifs"),
    ],
)
def test_the_innermost_mount_tells_the_file_system(path: str, filesystem: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == filesystem


def test_without_mounts_nothing_is_told(tmp_path: Path) -> None:
    assert filesystem_of(tmp_path, "") == ""
    claim(tmp_path / "ledger.db", "").release()


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = f"31 21 0:40 / {tmp_path} rw - nfs4 server:/export rw\n"

    with pytest.raises(StateFolderError, match="on nfs4, where neither locks nor SQLite's WAL are safe"):
        claim(tmp_path / "ledger.db", mounts)


def test_a_claim_is_exclusive_until_it_is_released(tmp_path: Path) -> None:
    first = claim(tmp_path / "ledger.db")
    with pytest.raises(StateFolderError, match="another process has this ledger"):
        claim(tmp_path / "ledger.db")
    other = claim(tmp_path / "other.db")

    first.release()
    claim(tmp_path / "ledger.db").release()
    other.release()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StateFolderError, match="cannot hold state"):
        claim(tmp_path / "file" / "ledger.db")


def test_an_epoch_is_noted_and_found_again(tmp_path: Path) -> None:
    folder = claim(tmp_path / "ledger.db")
    before = folder.recorded_epoch()
    folder.record_epoch(7)
    folder.release()

    folder = claim(tmp_path / "ledger.db")
    assert (before, folder.recorded_epoch()) == (0, 7)
    folder.release()


def test_a_damaged_note_is_said(tmp_path: Path) -> None:
    (tmp_path / "ledger.db.epoch").write_text("seven")
    folder = claim(tmp_path / "ledger.db")

    with pytest.raises(StateFolderError, match=r"ledger\.db\.epoch: not the note of an epoch"):
        folder.recorded_epoch()
    folder.release()


def test_the_master_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first, second = master_key(tmp_path / "ledger.db"), master_key(tmp_path / "ledger.db")

    assert first == second
    assert len(first) == 32
    assert (tmp_path / "ledger.db.key").stat().st_mode & 0o777 == 0o600
    assert master_key(tmp_path / "other.db") != first


def test_a_key_that_is_gone_is_not_replaced_in_silence(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"a ledger")

    with pytest.raises(StateFolderError, match=r"the key of ledger\.db is gone"):
        master_key(tmp_path / "ledger.db")


def test_a_key_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db.key").write_bytes(b"short")

    with pytest.raises(StateFolderError, match="5 bytes, but a key has 32"):
        master_key(tmp_path / "ledger.db")
