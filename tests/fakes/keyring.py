"""A process's idempotency keys over a store that a test holds; several of them are several processes at one store."""

from gateway.replay.kept import Vault
from gateway.replay.names import Names
from gateway.replay.port import Keys
from gateway.replay.replay import Replay, ReplayLimits, Store

_NAMES = Names(bytes(32))


def replay_over(keys: Keys) -> Replay:
    async def open_store() -> Store:
        return Store(keys, _NAMES, Vault(_NAMES, 1 << 20))

    return Replay(open_store, ReplayLimits(86_400.0, 10_000), lambda _: None)
