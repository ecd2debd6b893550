"""The product's own upstream client with awaitable answers: a pool of connections, and one coroutine a request."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from gateway.batch.retry import TOO_EARLY, is_repeatable
from gateway.upstream.address import Address, PoolLimits
from gateway.upstream.exchange import Exchange
from gateway.upstream.pool import Pool

TIMEOUT_S = 20.0


@dataclass
class Asking(AbstractAsyncContextManager["Asking"]):
    """A pool to `address`; closed at the end, and with it every connection."""

    address: Address
    limits: PoolLimits = field(default_factory=PoolLimits)
    pool: Pool = field(init=False)
    refused: int = 0  # repeats that the retry budget did not pay for

    async def __aenter__(self) -> Self:
        self.pool = Pool(self.address, self.limits, asyncio.get_running_loop(), self._note_refused)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.pool.close()

    def _note_refused(self) -> None:
        self.refused += 1

    async def ask(
        self,
        method: str = "GET",
        target: str = "/",
        body: bytes = b"",
        *,
        timeout_s: float = TIMEOUT_S,
        idempotent: bool = False,
        answer_bytes_max: int = 10 << 20,
        retries_max: int = 2,
        rejections: frozenset[int] = TOO_EARLY,
    ) -> Exchange:
        """Send one request; its exchange when it is over, answered or failed."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        exchange = Exchange(
            method,
            request_bytes(method, target, body),
            deadline_s=loop.time() + timeout_s,
            repeatable=is_repeatable(method, route_idempotent=idempotent),
            done=lambda _: over.set_result(None),
            answer_bytes_max=answer_bytes_max,
            retries_max=retries_max,
            rejections=rejections,
            may_share=method in ("GET", "OPTIONS"),
        )
        self.pool.submit(exchange, loop.time())
        async with asyncio.timeout(timeout_s + TIMEOUT_S):
            await over
        return exchange

    async def ask_all(self, *requests: tuple[str, str], timeout_s: float = TIMEOUT_S) -> list[Exchange]:
        """Several at once, in this order."""
        return await asyncio.gather(*(self.ask(method, target, timeout_s=timeout_s) for method, target in requests))


async def until_idle(pool: Pool) -> None:
    """Until nothing is on any connection; fails after `TIMEOUT_S`."""
    async with asyncio.timeout(TIMEOUT_S):
        while pool.in_flight:  # noqa: ASYNC110  # a pool signals to its exchanges only
            await asyncio.sleep(0)


def request_bytes(method: str, target: str, body: bytes = b"", fields: bytes = b"") -> bytes:
    """A whole request; `fields` are whole lines."""
    length = b"Content-Length: %d\r\n" % len(body) if body or method in ("POST", "PUT", "PATCH") else b""
    return b"%b %b HTTP/1.1\r\nHost: up\r\n%b%b\r\n%b" % (method.encode(), target.encode(), fields, length, body)


def slug_of(exchange: Exchange) -> str | None:
    """The failure's slug, None for an answer."""
    return None if exchange.failure is None else exchange.failure.slug
