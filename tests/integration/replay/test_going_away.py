"""Who goes away while the store of keys is asked leaves neither a key that is held nor an answer that is not kept."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.replay.envelopes import Asked, Envelopes, Hold, Kept, Lost
from gateway.replay.redis import RedisKeys
from gateway.replay.sqlite import open_keys
from tests.contract.stores import STORES, running
from tests.fakes.keyring import replay_over
from tests.fakes.until import until

_TURNS = range(10)  # of the loop: from not yet asked to answered
_WITHIN_S = 20.0  # less than a key is held for


@pytest.fixture(params=["sqlite", *STORES])
async def envelopes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Envelopes]:
    if request.param == "sqlite":
        replay = replay_over(await open_keys(None, lambda: 1_800_000_000_000))
        yield Envelopes(replay, 1 << 20)
        await replay.close()
        return
    with running(request.param, tmp_path_factory.mktemp("r")) as (_, url):
        replay = replay_over(RedisKeys(url))
        yield Envelopes(replay, 1 << 20)
        await replay.close()


async def _gone_after(turns: int, work: Coroutine[Any, Any, object]) -> bool:
    """Whether it was in time, before the work was done."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def _found(envelopes: Envelopes, key: int) -> Hold | Kept | Lost | None:
    """None while it is on its way."""
    try:
        return await envelopes.claim(Asked(f"{key}", [b"the envelope"]), "ada", 30.0)
    except GatewayError as error:
        if error.problem.slug != "idempotency-in-progress":
            raise
        return None


async def test_who_goes_away_while_it_claims_a_key_leaves_it_free(envelopes: Envelopes) -> None:
    for turns in _TURNS:
        if await _gone_after(turns, _found(envelopes, turns)):
            found = await until(partial(_found, envelopes, turns), _WITHIN_S)

            assert isinstance(found, Hold)


async def test_what_was_answered_is_kept_though_who_kept_it_goes_away(envelopes: Envelopes) -> None:
    for turns in _TURNS[1:]:
        hold = await _found(envelopes, turns)
        assert isinstance(hold, Hold)
        await _gone_after(turns, hold.keep(b"the answer"))

        assert await until(partial(_found, envelopes, turns), _WITHIN_S) == Kept(b"the answer")
