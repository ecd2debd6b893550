"""Whatever callers and time do to keys, in whatever order: the store answers as the model does."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule
from msgspec.structs import replace

from gateway.replay.port import (
    ANEW,
    DIGEST_BYTES,
    HOLDER_BYTES,
    KEPT_NAME_BYTES,
    NAME_BYTES,
    REPEATABLE,
    Claims,
    End,
    Found,
    Keys,
    Times,
    Verdict,
)
from gateway.replay.redis import RedisKeys
from gateway.replay.sqlite import open_keys
from tests.contract.ledger.worlds import Clock
from tests.contract.machines import OnServer, run, run_on
from tests.contract.stores import STORES

_OWNER, _MOST = b"o" * 24, 10_000
_WISHES = st.tuples(st.sampled_from("abcde"), st.sampled_from("dddde"), st.sampled_from([0, REPEATABLE]))
_HOLDS_MS, _KEEPS_MS = st.sampled_from([50, 100]), st.sampled_from([20, 100, 1000])


@dataclass
class Key:
    digest: bytes
    fence: bytes
    repeatable: bool
    until_ms: int
    ends_ms: int
    state: str = "held"
    kept: bytes = b""


class Model:
    """Keys of one owner by name; one whose end has come is none."""

    def __init__(self) -> None:
        self.keys: dict[bytes, Key] = {}

    def claim(self, claims: Claims, row: int, now_ms: int, times: Times) -> Found:
        name, digest, fence, flags = claims.names[row], claims.digests[row], claims.fence(row), claims.flags[row]
        key = self.keys.get(name)
        if key is None or key.ends_ms <= now_ms or flags & ANEW:
            may = Verdict.HELD
        else:
            may = self._verdict(key, digest, fence, now_ms, repeatable=bool(flags & REPEATABLE))
        if may is Verdict.HELD:
            until_ms = now_ms + times.holds_ms
            self.keys[name] = Key(digest, fence, bool(flags & REPEATABLE), until_ms, until_ms + times.keeps_ms)
        elif key is not None and may is Verdict.LOST:
            key.state = "lost"
        if key is None or may not in (Verdict.KEPT, Verdict.LOST):
            return Found(may)
        return Found(may, key.fence, key.kept)

    @staticmethod
    def _verdict(key: Key, digest: bytes, fence: bytes, now_ms: int, *, repeatable: bool) -> Verdict:
        if key.digest != digest:
            return Verdict.REUSED
        if key.state == "kept":
            return Verdict.KEPT
        if key.state == "failed":
            return Verdict.HELD
        if key.fence[:HOLDER_BYTES] == fence[:HOLDER_BYTES]:
            return Verdict.BUSY if key.fence > fence else Verdict.HELD
        if key.state == "lost":
            return Verdict.LOST
        if key.until_ms > now_ms:
            return Verdict.BUSY
        return Verdict.HELD if key.repeatable and repeatable else Verdict.LOST

    def settle(self, name: bytes, fence: bytes, end: End, kept: bytes, ends_ms: int) -> bool:
        key = self.keys.get(name)
        if key is None:
            return end is End.FORGET
        if key.fence != fence:
            return False
        if key.state in ("kept", "failed"):
            return key.state == {End.KEEP: "kept", End.FAIL: "failed"}.get(end)
        if end is End.FORGET:
            del self.keys[name]
            return True
        key.state, key.ends_ms = "kept" if end is End.KEEP else "failed", ends_ms
        key.kept = kept if end is End.KEEP else b""
        return True


class Life(RuleBasedStateMachine):
    """A store under a clock that a rule moves: here SQLite in memory."""

    claimed: Bundle[Claims] = Bundle("claimed")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keys, self.clock = self.opened()
        self.model = Model()
        self.numbers = count(1)

    def opened(self) -> tuple[Keys, Clock]:
        clock = Clock()
        return self.runner.run(open_keys(None, clock)), clock

    def teardown(self) -> None:
        self.runner.run(self.keys.close())
        self.runner.close()

    @rule(target=claimed, wishes=st.lists(_WISHES, min_size=1, max_size=4), holds_ms=_HOLDS_MS, keeps_ms=_KEEPS_MS)
    def claim(self, wishes: Sequence[tuple[str, str, int]], holds_ms: int, keeps_ms: int) -> Claims:
        return self._claim(self._claims(wishes), Times(holds_ms, keeps_ms))

    @rule(target=claimed, name=st.sampled_from("xy"), flags=st.sampled_from([ANEW, ANEW | REPEATABLE]))
    def claim_anew(self, name: str, flags: int) -> Claims:
        return self._claim(self._claims([(name, "d", flags)]), Times(50, 100))

    @rule(target=claimed, claims=claimed, later=st.sampled_from([0, 1, 300]), holds_ms=_HOLDS_MS)
    def go_on(self, claims: Claims, later: int, holds_ms: int) -> Claims:
        return self._claim(replace(claims, epoch=claims.epoch + later), Times(holds_ms, 100))

    @rule(claims=claimed, ends=st.lists(st.sampled_from(End), min_size=4, max_size=4), keeps_ms=_KEEPS_MS)
    def settle(self, claims: Claims, ends: Sequence[End], keeps_ms: int) -> None:
        rows = [row for row, name in enumerate(claims.names) if not self._has_ended(name)]
        assume(rows)
        kept = b"%0*d kept" % (KEPT_NAME_BYTES, next(self.numbers))
        told = claims.ended(rows, bytes(ends[row] for row in rows), kept)

        took = self.runner.run(self.keys.settle(_OWNER, told, keeps_ms))

        ends_ms = self.clock.ms + keeps_ms
        assert list(took) == [
            self.model.settle(claims.names[row], claims.fence(row), ends[row], kept, ends_ms) for row in rows
        ]

    @rule(ms=st.sampled_from([1, 20, 50, 101, 1000]))
    def time_passes(self, ms: int) -> None:
        self.clock.ms += ms

    @rule()
    def sweep(self) -> None:
        self.runner.run(self.keys.sweep())

    def _claims(self, wishes: Sequence[tuple[str, str, int]]) -> Claims:
        names = [name.encode().ljust(NAME_BYTES) for name, _, _ in wishes]
        digests = [digest.encode().ljust(DIGEST_BYTES) for _, digest, _ in wishes]
        group = b"%08d" % next(self.numbers)
        return Claims(group, 0, range(len(wishes)), names, digests, bytes(flags for _, _, flags in wishes))

    def _claim(self, claims: Claims, times: Times) -> Claims:
        found = self.runner.run(self.keys.claim(_OWNER, claims, times, _MOST))

        rows = range(len(claims.names))
        assert list(found) == [self.model.claim(claims, row, self.clock.ms, times) for row in rows]
        return claims

    def _has_ended(self, name: bytes) -> bool:
        """Whether a store may have removed it, or not yet."""
        key = self.model.keys.get(name)
        return key is not None and key.ends_ms <= self.clock.ms


class SharedLife(OnServer, Life):
    """Redis or Valkey with a clock that stands still."""

    def opened(self) -> tuple[Keys, Clock]:
        self.empty()
        return RedisKeys(self.url, timeout_s=60.0), self.clock_of_server


EXAMPLES = int(os.environ.get("KEYS_EXAMPLES", "0"))
"""How often each store is tried; 0 for as often as a run of all tests has time for."""


def test_sqlite_does_what_the_model_does() -> None:
    run(Life, EXAMPLES or 60)


@pytest.mark.parametrize("store", STORES)
def test_a_shared_store_does_what_the_model_does(store: str) -> None:
    run_on(store, SharedLife, EXAMPLES or 30)
