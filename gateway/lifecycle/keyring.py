"""The store of idempotency keys of a process: opened when a key is first used, kept whatever configurations come."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from gateway import wiring
from gateway.config import Config
from gateway.ledger.port import LedgerUnavailableError
from gateway.replay.port import Keys
from gateway.replay.replay import Replay, ReplayLimits, Store
from gateway.replay.watched import Health, Watched
from gateway.telemetry.metrics import Metrics

Logger = structlog.typing.FilteringBoundLogger

_KEYS_FILE = "replay.db"


class Keyring:
    """The store, open or not; `trouble` says why it cannot be used now."""

    def __init__(self, config: Config, metrics: Metrics, logger: Callable[[], Logger]) -> None:
        self._is_shared = _place(config, os.environ).url is not None
        self._health = Health(lambda trouble: _told(trouble, logger()))
        self.replay = Replay(
            lambda: self._health.of(_open(config, self._health)),
            ReplayLimits(config.replay.keep, config.replay.keys_max),
            lambda count: metrics.replays.add((), count),
        )
        metrics.gauge(
            "replay_up", "1 while the store of idempotency keys can be used, or was never asked.",
            lambda: float(not self.trouble),
        )  # fmt: skip

    @property
    def trouble(self) -> str:
        return self._health.trouble

    def start(self) -> None:
        """Look whether a server can be used before anybody needs it; a file is made when it is first used."""
        if self._is_shared:
            self.replay.start()


def keyring_of(config: Config, metrics: Metrics, logger: Callable[[], Logger]) -> Keyring | None:
    """None where the operator wants no keys kept."""
    return None if config.replay.store == "none" else Keyring(config, metrics, logger)


def _told(trouble: str, logger: Logger) -> None:
    if trouble:
        logger.warning("idempotency keys unavailable", reason=trouble, effect="operations with keys are 503")
    else:
        logger.info("idempotency keys available")


async def _open(config: Config, health: Health) -> Store:
    """Raises `LedgerUnavailableError`."""
    from gateway.ledger.clock import steady_clock  # SQLite, redis: only for who uses keys
    from gateway.ledger.state_folder import KEY_BYTES, StateFolderError, master_key
    from gateway.lifecycle.keeping import first_that_can_be_made
    from gateway.replay.kept import Vault
    from gateway.replay.names import Names

    settings, place = config.replay, _place(config, os.environ)
    secret = wiring.master_secret(config.async_)
    try:
        if place.url is not None:
            from gateway.replay.redis import RedisKeys

            keys: Keys = RedisKeys(place.url, require_durable=config.async_.require_durable)
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
    return Store(Watched(keys, health), names, Vault(names, settings.answer_max))


def _place(config: Config, environ: Mapping[str, str]) -> wiring.LedgerPlace:
    """Where idempotency keys are kept: in a place of their own, or with the ledger."""
    if config.replay.is_shared:
        return wiring.LedgerPlace((), True, config.replay.store)
    kind, _, place = config.replay.store.partition(":")
    if kind == "sqlite":
        return wiring.LedgerPlace(() if place == ":memory:" else (Path(place),), True)
    ledger = wiring.ledger_place(config.async_, environ) or wiring.LedgerPlace((), True)
    return ledger._replace(files=tuple(file.with_name(_KEYS_FILE) for file in ledger.files))
