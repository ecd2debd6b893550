"""Keys whose end has come go as fast as they came, however many a store removes at once."""

from contextlib import suppress
from pathlib import Path

import pytest

from gateway.replay import replay
from gateway.replay.kept import Vault
from gateway.replay.names import Names
from gateway.replay.port import Claims, Times
from gateway.replay.replay import Replay, ReplayLimits, Store
from gateway.replay.sqlite import SqliteKeys, open_keys
from tests.fakes.until import until

_COUNT = 2000


async def test_what_has_ended_is_all_removed_at_one_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_TICK_S", 3600.0)
    now_ms = 1_800_000_000_000
    keys = await open_keys(tmp_path / "replay.db", lambda: now_ms)
    names = [b"%024d" % number for number in range(_COUNT)]
    await keys.claim(b"owner", Claims(b"12345678", 0, range(_COUNT), names, names, bytes(_COUNT)), Times(1, 1), _COUNT)
    now_ms += 1000

    async def opened() -> Store:
        return Store(keys, Names(bytes(32)), Vault(Names(bytes(32)), 1000))

    kept = Replay(opened, ReplayLimits(60.0, _COUNT), lambda _: None)
    kept.start()
    with suppress(TimeoutError):
        await until(lambda: _left(keys), 10, right=lambda left: not left)
    left = await _left(keys)
    await kept.close()

    assert left == 0


async def _left(keys: SqliteKeys) -> int:
    count: int = await keys._writer.do(lambda db: db.execute("SELECT count(*) FROM keys").fetchone()[0])
    return count
