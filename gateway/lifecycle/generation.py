"""A generation is everything that one configuration decides: upstreams, admission, the executor, batches, forwarding.

A reload builds the next one and swaps it in between requests. What was begun ends in the generation where it began.
Upstreams whose settings are the same are handed on, and with them their connections.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gateway import wiring
from gateway.admission import Admission
from gateway.config import Config, Loaded
from gateway.config import Upstream as UpstreamSettings
from gateway.executor import Executor
from gateway.lifecycle import callers
from gateway.lifecycle.vendors import vendors as vendors_of
from gateway.limiter.port import Limiter
from gateway.replay.envelopes import Envelopes
from gateway.replay.replay import Replay
from gateway.server.access import Access
from gateway.server.aside import Aside
from gateway.server.batches import Batches
from gateway.server.callers import Callers
from gateway.server.edge import Edge, Rooms
from gateway.server.forwarding import Forwarding, ForwardingSettings
from gateway.server.in_place import InPlace
from gateway.server.once import Once
from gateway.server.origin import Origins
from gateway.server.vendors import Way
from gateway.telemetry.logs import configure
from gateway.telemetry.metrics import Metrics
from gateway.upstream.pool import Pool
from gateway.upstream.upstream import Upstream

if TYPE_CHECKING:  # it brings the ledger with it
    from gateway.lifecycle.keeping import Keeping
    from gateway.server.asynchronous import Asynchronous
    from gateway.worker.means import Means

_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Lasting:
    """What outlives every configuration. `via` tells this replica from others, so that a loop is seen; without
    `keeping` there are no asynchronous batches, without `replay` no idempotency keys."""

    loop: asyncio.AbstractEventLoop
    metrics: Metrics
    limiter: Limiter
    via: bytes
    keeping: "Keeping | None" = None
    replay: Replay | None = None
    aside: Aside = field(default_factory=Aside)


class _Owned(NamedTuple):
    """An upstream, and what it was made of."""

    settings: UpstreamSettings
    pool_identity: object
    upstream: Upstream


class Generation:
    """One configuration at work. `before` hands its upstreams on where nothing about them has changed."""

    def __init__(self, loaded: Loaded, lasting: Lasting, before: "Generation | None" = None) -> None:
        config = loaded.config
        self.loaded = loaded
        self._via, self._replay = lasting.via, lasting.replay
        self._owned: Mapping[str, _Owned] = _owned_upstreams(config.all_upstreams, lasting, before)
        self.logger: structlog.typing.FilteringBoundLogger = configure(config.log.level, config.log.format)
        access = Access(lasting.metrics, self.logger if config.log.access else None)
        # A request meets the edge, and a batch then meets admission, the executor and an upstream ...
        upstreams = {name: owned.upstream for name, owned in self._owned.items()}
        self.admission = admission = _admission(config, lasting.limiter, upstreams)
        self.executor = Executor(upstreams, lasting.loop, access.stray)
        # ... at once, or put on record for the worker, who takes the same way.
        keeping = lasting.keeping
        origins = callers.origins(config)
        self.callers = callers.callers(config, origins, self.logger)
        asynchronous = None if keeping is None else keeping.calls(config, self.callers, lasting.aside)
        run = wiring.run_settings(config, lasting.via, origins, self.callers)
        in_place = InPlace(run, admission, self.executor, access, lasting.aside, lasting.replay)
        batch_settings = wiring.batch_settings(config, run, has_ledger=keeping is not None)
        once = _once(config, lasting.replay, admission, access, asynchronous)
        batches = Batches(batch_settings, in_place, admission, access, once, asynchronous)
        way = Way(run, in_place, admission, access, once)
        custody = None if asynchronous is None else asynchronous.custody
        vendors = vendors_of(config, way, custody, None if keeping is None else keeping.files)
        # ... and for everything else the same admission, and the same upstream as a stream.
        settings = _forwarding_settings(config, self.callers, origins, lasting.via)
        forwarding = Forwarding(settings, admission, upstreams, access)
        limits_of = in_place.limits_of if config.limits else None
        self.rooms = Rooms(
            config.batch.path,
            self.callers.ready,
            vendors.of,
            batches,
            forwarding,
            forwarding.relay,
            self.logger,
            limits_of,
        )

    @cached_property
    def means(self) -> "Means":
        """What a worker runs slices with."""
        return wiring.means(self.loaded.config, self.admission, self.executor, self._via, self._replay)

    @property
    def pools(self) -> Mapping[str, Pool]:
        return {name: owned.upstream.pool for name, owned in self._owned.items()}


class Generations:
    """The generation in force, and those before it that still have requests."""

    def __init__(self, first: Generation) -> None:
        self.current = first
        self._leaving: dict[Generation, asyncio.Task[None]] = {}
        self._draining = False

    def __len__(self) -> int:
        return 1 + len(self._leaving)

    @property
    def pools(self) -> list[Pool]:
        """Every pool that is open, each once."""
        living = (self.current, *self._leaving)
        return list({id(pool): pool for generation in living for pool in generation.pools.values()}.values())

    def replace(self, generation: Generation, edge: Edge) -> None:
        """From the next request on, `generation` answers."""
        before, self.current = self.current, generation
        if self._draining:
            self.drain()
        edge.move(generation.rooms)
        self._leaving[before] = asyncio.get_running_loop().create_task(self._leave(before))

    def drain(self) -> None:
        """From now on an upstream that is gone is no fault: it goes away with us."""
        self._draining = True
        for pool in self.pools:
            pool.drain()

    async def close(self) -> None:
        """Close every pool at once."""
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        for generation in (self.current, *self._leaving):
            await generation.callers.close()
        for pool in self.pools:
            await pool.close()
        self._leaving.clear()

    async def _leave(self, generation: Generation) -> None:
        """Close the pools that are of no use to a later generation, once the last exchange has ended."""
        await generation.rooms.left()
        await generation.callers.close()
        own = list(generation.pools.values())
        # Strays are sent, and their callers gone. The upstream's timeout bounds them; a pool tells only its exchanges.
        while any(pool.in_flight or pool.waiting for pool in own if self._is_unused(pool, generation)):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        for pool in own:
            if self._is_unused(pool, generation):
                await pool.close()
        del self._leaving[generation]

    def _is_unused(self, pool: Pool, by_all_but: Generation) -> bool:
        others = {self.current, *self._leaving} - {by_all_but}
        return not any(pool is used for generation in others for used in generation.pools.values())


def _admission(config: Config, limiter: Limiter, upstreams: Mapping[str, Upstream]) -> Admission:
    return Admission(
        wiring.routes(config),
        wiring.limits(config),
        limiter,
        strict=config.batch.strict_routes,
        away_s=lambda name: upstreams[name].pool.turns.retry_after_s(),
    )


def _forwarding_settings(config: Config, callers: Callers, origins: Origins, via: bytes) -> ForwardingSettings:
    return ForwardingSettings(
        callers,
        asks_who=any(limit.key == "caller" for limit in config.limits),
        counts=bool(config.limits),
        counts_here=config.limiter.url is None,
        via=via,
        origins=origins,
        buffer_bytes_max=config.listen.body_buffer,
    )


def _once(
    config: Config, replay: Replay | None, admission: Admission, access: Access, asynchronous: "Asynchronous | None"
) -> Once:
    envelopes = None if replay is None else Envelopes(replay, config.replay.envelope_answer_max)
    settings = config.batch
    return Once(envelopes, admission, access, asynchronous, lasts_s=settings.sync_timeout, base=settings.path)


def _owned_upstreams(
    wanted: Mapping[str, UpstreamSettings], lasting: Lasting, before: Generation | None
) -> Mapping[str, _Owned]:
    owned = {} if before is None else before._owned
    return {name: _owned(settings, lasting, owned.get(name)) for name, settings in wanted.items()}


def _owned(settings: UpstreamSettings, lasting: Lasting, before: _Owned | None) -> _Owned:
    identity = wiring.pool_identity(settings)
    if before is None or before.pool_identity != identity:
        pool = wiring.pool(settings, lasting.loop, lasting.metrics)
        return _Owned(settings, identity, wiring.upstream(settings, pool))
    if before.settings == settings:
        return before
    return _Owned(settings, identity, wiring.upstream(settings, before.upstream.pool))
