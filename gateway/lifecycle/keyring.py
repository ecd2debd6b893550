"""The store of idempotency keys of a process: opened when a key is first used, kept whatever configurations come."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from gateway import wiring
from gateway.config import Config
from gateway.ledger.port import LedgerUnavailableError
from gateway.replay.port import Keys
from gateway.replay.replay import Replay, ReplayLimits, Store
from gateway.telemetry.metrics import Metrics

_KEYS_FILE = "replay.db"


def replay_of(config: Config, metrics: Metrics) -> Replay | None:
    """None where the operator wants no keys kept."""
    if config.replay.store == "none":
        return None

    async def open_store() -> Store:
        return await _open(config)

    return Replay(
        open_store,
        ReplayLimits(config.replay.keep, config.replay.keys_max),
        lambda count: metrics.replays.add((), count),
    )


async def _open(config: Config) -> Store:
    """Raises `LedgerUnavailableError`."""
    from gateway.ledger.clock import steady_clock  # SQLite, cryptography, redis: only for who uses keys
    from gateway.ledger.state_folder import KEY_BYTES, StateFolderError, master_key
    from gateway.lifecycle.keeping import first_that_can_be_made
    from gateway.replay.kept import Vault
    from gateway.replay.names import Names

    settings, place = config.replay, _place(config, os.environ)
    secret = wiring.master_secret(config.async_)
    try:
        if place.url is not None:
            from gateway.replay.redis import RedisKeys

            keys: Keys = RedisKeys(place.url)
        else:
            from gateway.replay.sqlite import open_keys

            file = first_that_can_be_made(place.files)
            if secret is None:
                secret = os.urandom(KEY_BYTES) if file is None else await asyncio.to_thread(master_key, file)
            keys = await open_keys(file, steady_clock())
    except (StateFolderError, ValueError) as error:
        raise LedgerUnavailableError(f"the store of idempotency keys: {error}") from None
    if secret is None:  # the rules of the configuration refuse that
        raise LedgerUnavailableError("replicas that share idempotency keys need async.key")
    names = Names(secret)
    return Store(keys, names, Vault(names, settings.answer_max))


def _place(config: Config, environ: Mapping[str, str]) -> wiring.LedgerPlace:
    """Where idempotency keys are kept: in a place of their own, or with the ledger."""
    if config.replay.is_shared:
        return wiring.LedgerPlace((), True, config.replay.store)
    kind, _, place = config.replay.store.partition(":")
    if kind == "sqlite":
        return wiring.LedgerPlace(() if place == ":memory:" else (Path(place),), True)
    ledger = wiring.ledger_place(config.async_, environ) or wiring.LedgerPlace((), True)
    return ledger._replace(files=tuple(file.with_name(_KEYS_FILE) for file in ledger.files))
