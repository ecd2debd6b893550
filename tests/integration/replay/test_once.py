"""A ledger that does not answer may have taken the batch: whoever comes back under the same key makes no other."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from gateway.errors import GatewayError
from gateway.ledger.port import LedgerUnavailableError, View
from gateway.replay.envelopes import Envelopes
from gateway.replay.sqlite import open_keys
from gateway.server.once import Once
from tests.fakes.keyring import replay_over
from tests.integration.worker.test_claims import Clock

HOLD_MS = 15_001


class Custody:
    """Remembers under which fences it was asked for a batch; it has that of `taken`."""

    def __init__(self) -> None:
        self.taken: dict[bytes, str] = {}

    async def found(self, fence: bytes, _: object) -> object | None:
        return self.taken.get(fence)


async def test_who_comes_back_finds_the_batch_or_makes_it_under_the_same_fence() -> None:
    clock = Clock()
    keys = await open_keys(None, clock)
    replay = replay_over(keys)
    once = Once(Envelopes(replay, 1 << 20), *cast(Any, (None, None, None)), lasts_s=30.0, base="/batch")
    request = cast(Any, SimpleNamespace(headers=CIMultiDict({"Idempotency-Key": "k"}), raw_path="/batch"))
    served = cast(Any, SimpleNamespace(caller=SimpleNamespace(identity="ada")))
    custody, fences = Custody(), list[bytes]()

    async def away(fence: bytes) -> View:
        fences.append(fence)
        raise LedgerUnavailableError("it does not answer")

    async def ask() -> View:
        return await once.view(request, b"[]", served, cast(Any, custody), away)

    with pytest.raises(LedgerUnavailableError):
        await ask()
    with pytest.raises(GatewayError) as busy:
        await ask()
    clock.ms += HOLD_MS
    with pytest.raises(LedgerUnavailableError):
        await ask()
    custody.taken[fences[0]] = "the batch"
    found = cast(object, await ask())
    await replay.close()

    assert busy.value.problem.slug == "idempotency-in-progress"
    assert fences == [fences[0]] * 2
    assert found == "the batch"
