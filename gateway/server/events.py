"""Server-sent events of a batch on record: `progress` as it changes, `ended` once. Watchers share their looks."""

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp.web import BaseRequest

from gateway.batch.states import FINAL
from gateway.errors import GatewayError
from gateway.ledger.port import View
from gateway.server.answer import Answer
from gateway.server.batch_status import event_id, status
from gateway.server.chunks import Chunks
from gateway.server.clock import Clock
from gateway.server.records import Records
from gateway.upstream.headers import RawFields

LOOK_S = 0.5
_HEARTBEAT_S = 15.0  # below what proxies close a silent connection after
_RECONNECT = b"retry: 1000\n\n"


class Events:
    """Serves event streams, at most `watchers_max` at once."""

    def __init__(self, records: Records, clock: Clock, base: str, *, watchers_max: int) -> None:
        self._records = records
        self._clock = clock
        self._base = base
        self._watchers_max = watchers_max
        self._watchers = 0

    async def __call__(
        self, request: BaseRequest, view: View, fields: RawFields, is_draining: Callable[[], bool]
    ) -> Answer:
        """Stream until the batch has ended or we drain. `Last-Event-ID` names what the watcher has seen; whoever has
        seen the end gets 204, upon which an EventSource stops coming back (HTML, server-sent events)."""
        seen = request.headers.get("Last-Event-ID", "")
        if view.state in FINAL and seen == event_id(view):
            return Answer(204, fields)
        if self._watchers >= self._watchers_max:
            raise GatewayError(
                "overloaded", "too many watch events; poll the status instead", headers={"Retry-After": "5"}
            )
        self._watchers += 1
        chunks = Chunks(request)
        try:
            await chunks.begin(200, [*fields, (b"Content-Type", b"text/event-stream")], keep_alive=False)
            await chunks.piece(_RECONNECT)
            return await self._watch(chunks, view, seen, is_draining)
        except GatewayError:
            return chunks.break_off(200)  # the watcher comes back with what it has seen
        finally:
            self._watchers -= 1

    async def _watch(self, chunks: Chunks, view: View, seen: str, is_draining: Callable[[], bool]) -> Answer:
        spoke_s = self._clock.monotonic_s()
        while True:
            id_, ended = event_id(view), view.state in FINAL
            if id_ != seen:
                seen, spoke_s = id_, self._clock.monotonic_s()
                await chunks.piece(self._event(view, id_, "ended" if ended else "progress"))
            if ended or is_draining():
                return await chunks.end(200)
            if self._clock.monotonic_s() - spoke_s >= _HEARTBEAT_S:
                spoke_s = self._clock.monotonic_s()
                await chunks.piece(b": still here\n\n")
            await asyncio.sleep(LOOK_S)
            view = await self._records.find(view.id, view.owner, age_max_s=LOOK_S)

    def _event(self, view: View, id_: str, kind: str) -> bytes:
        document = status(view, self._base, int(self._clock.now_s() * 1000))
        return b"event: %b\nid: %b\ndata: %b\n\n" % (kind.encode(), id_.encode(), msgspec.json.encode(document))
