"""One HTTP/1.1 connection to the upstream: request bytes out, llhttp's events in, nothing left for the next answer.

Rules (PROMISES 1.1, P10):
- A byte that no request asked for poisons the connection; so do an unasked 101, a version other than 1.x, a status
  outside 100-599, more than 10 interim answers and a head above its limits.
- A whole answer of a plain head (`upstream.plain`) is taken between two messages of llhttp, which never sees it.
- llhttp has no limits: bytes that bring neither a head, nor body, nor an end are counted (trailers, chunk extensions).
- llhttp takes any Transfer-Encoding; no request offers one (TE), so an answer's is `chunked` or the answer is refused.
- llhttp cannot be told that an answer to HEAD has no body: such an answer ends with its head, and a new parser comes.
- Events are collected while llhttp runs and acted upon after it returns: no caller's code runs inside the parser.
"""

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.batch.retry import Loss
from gateway.upstream import headers
from gateway.upstream.exchange import Exchange, MalformedAnswerError
from gateway.upstream.headers import RawFields
from gateway.upstream.intake import CHUNKS_MAX, Intake

if TYPE_CHECKING:
    from gateway.upstream.pool import Pool

INTERIM_MAX = 10
LINGER_S = 30.0  # for the upstream to read the end of a tunnel


class Connection(asyncio.Protocol):
    """A connection and the exchanges on it, the oldest first. Only `Pool` makes, fills and closes it."""

    def __init__(self, pool: "Pool", *, shares_writes: bool = False) -> None:
        self._shares_writes = shares_writes
        self._gathered: list[bytes] = []
        self.exchanges: deque[Exchange] = deque()
        self.is_reusable = True
        self.idle_since_s = 0.0
        self.idle_max_s: float | None = None
        self._pool = pool
        self._in_tunnel: Exchange | None = None
        self._surplus = self._was_interim = self._is_chunked = self._is_recent = False
        self._fruitless_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._intake = Intake(pool.sluice, self._understand)
        self.pause_reading, self.resume_reading = self._intake.pause, self._intake.resume
        self._renew_parser()
        self._answered: list[Exchange] = []  # whole, and not delivered yet
        self._loss: Loss | None = None

    def __repr__(self) -> str:
        state = "closed" if self._transport is None else "busy" if self.exchanges else "idle"
        return f"<Connection {state} exchanges={len(self.exchanges)} reusable={self.is_reusable}>"

    # What the pool calls.

    def send(self, exchange: Exchange, now_s: float) -> None:
        """Put `exchange` behind the others and write what is known of its request."""
        exchange.attempt += 1
        exchange.connection, exchange.sent_s = self, now_s
        self.exchanges.append(exchange)
        if self._transport is not None:  # else connection_lost is about to report it
            if self._shares_writes:
                self._gather(exchange.request)
            else:
                self._transport.write(exchange.request)
            if exchange.streamed:
                exchange.on_sent()

    def write(self, data: bytes) -> None:
        """A further part of the last exchange's request."""
        if self._transport is not None:
            self._flush()
            self._transport.write(data)

    def close(self, loss: Loss | None = None) -> None:
        """Close at once; the oldest exchange ends with `loss`, those behind it as reset."""
        self.is_reusable = False
        transport, self._transport, self._intake.transport = self._transport, None, None
        if transport is not None and self._in_tunnel is None:
            transport.abort()
        elif transport is not None:
            transport.close()  # what the caller said last still goes out
            asyncio.get_running_loop().call_later(LINGER_S, transport.abort)
        self._pool.forget(self)
        failed, self.exchanges = self.exchanges, deque()
        for each in failed:
            self._pool.lost(each, (loss if each is failed[0] else None) or Loss.RESET)

    def get_extra_info(self, name: str) -> Any:
        return None if self._transport is None else self._transport.get_extra_info(name)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._intake.transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        if self.exchanges:
            self.exchanges[-1].on_writable(False)

    def resume_writing(self) -> None:
        if self.exchanges:
            self.exchanges[-1].on_writable(True)

    def data_received(self, data: bytes) -> None:
        if self._in_tunnel is not None:
            self._in_tunnel.on_data(data)
            return
        if self._between and self.is_reusable and self.idle_max_s is not None:
            data = self._pool.heads.take(data, self.exchanges, self._answered)
            if self._answered:
                self._interims = 0
            if not data:  # nearly always: whole plain answers, and nothing else to do
                self._deliver()
                return
        self._intake.take(data)

    def eof_received(self) -> None:
        self._intake.end()
        if self.exchanges and self._in_tunnel is None and self._head_ended:
            first = self.exchanges[0]
            if first.status >= 200 and headers.ends_with_close(first.fields):
                self._answered.append(self.exchanges.popleft())
        self.is_reusable = False
        self._act()

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.end()
        if self._in_tunnel is not None:
            self.exchanges.clear()
            self._in_tunnel.on_end()
            self._in_tunnel = None
        self.close()

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if not self.exchanges or self._surplus:
            self._surplus = True
            raise MalformedAnswerError
        self._fields: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._head_ended = self._between = False

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        status, fields, exchange = parser.get_status_code(), self._fields, self.exchanges[0]
        self._head_ended = True
        keep_alive = parser.should_keep_alive()
        # A closer look at a connection's first head, and at any but a plain 200 OK with a length or chunks.
        is_recent = self._is_recent or parser.get_http_version() == "1.1"
        is_plain = keep_alive and is_recent and status == 200 and self._reason == b"OK" and self.idle_max_s is not None
        is_head = is_plain or headers.is_head(status, parser.get_http_version(), self._reason, fields)
        is_large = self._fruitless_bytes > headers.HEAD_BYTES_MAX and headers.bytes_of(fields) > headers.HEAD_BYTES_MAX
        if not is_head or is_large or len(fields) > headers.FIELDS_MAX:
            raise MalformedAnswerError
        self._is_recent, self._fruitless_bytes = False, 0
        if status < 200:
            self._interim(exchange, status, fields)
            return
        if self.idle_max_s is None:  # a server says the same with each answer: the first is enough
            announced_s = headers.announced_idle_s(fields)
            self.idle_max_s = math.inf if announced_s is None else announced_s
        exchange.status, exchange.reason, exchange.fields = status, self._reason, fields
        self._fields = []  # what comes now are trailers
        if exchange.streamed:
            exchange.on_head()
        if exchange.method == "HEAD":
            options = headers.connection_options(fields)
            self._end_of_answer(b"close" not in options and (is_recent or b"keep-alive" in options))

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if not self._is_chunked:  # the first of this answer
            self._is_chunked = True
            if headers.codings(self.exchanges[0].fields) != [b"chunked"]:
                raise MalformedAnswerError

    def on_body(self, data: bytes) -> None:
        if self._renewing:
            self._surplus = True  # a body behind an answer to HEAD
            return
        self._fruitless_bytes = 0
        exchange = self.exchanges[0]
        if not exchange.streamed and not exchange.answer_bytes and len(data) <= exchange.answer_bytes_max:
            exchange.body, exchange.answer_bytes = data, len(data)  # nearly always all of it
            return
        loss = exchange.on_data(data)
        if loss is not None:
            self._loss = loss
            raise MalformedAnswerError

    def on_message_complete(self) -> None:
        if len(self._fields) > headers.FIELDS_MAX:
            raise MalformedAnswerError
        self._between = True
        if self._renewing or self._was_interim:
            self._was_interim = False
            return
        self._end_of_answer(self._parser.should_keep_alive())

    def _understand(self, piece: bytes, is_last: bool) -> bool:
        """Feed llhttp, and act once all is understood that came in one; whether it was enough for this turn."""
        if self._in_tunnel is not None:
            self._in_tunnel.on_data(piece)
            return False
        self._chunks, self._fruitless_bytes = 0, self._fruitless_bytes + len(piece)
        self._surplus = self._surplus or not self.exchanges  # llhttp would let empty lines pass
        self._is_recent = self._between and piece.startswith(b"HTTP/1.1 ")
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._begin_tunnel(piece[upgrade.args[0] :])
            return False
        except (HttpParserError, MalformedAnswerError):
            self._loss = self._loss or Loss.MALFORMED
        if self._fruitless_bytes > headers.HEAD_BYTES_MAX or len(self._fields) > headers.FIELDS_MAX:
            self._loss = self._loss or Loss.MALFORMED  # an endless head, or endless trailers
        if is_last or self._loss is not None:
            self._act()
        return self._chunks > CHUNKS_MAX and bool(self.exchanges)

    def _gather(self, request: bytes) -> None:
        """With pipelining, all requests that become ready in one turn of the loop leave in one write."""
        self._gathered.append(request)
        if len(self._gathered) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered and self._transport is not None:
            self._transport.write(b"".join(gathered))

    def _interim(self, exchange: Exchange, status: int, fields: RawFields) -> None:
        upgrades = exchange.upgrades and self._parser.should_upgrade()
        self._interims += 1
        if self._interims > INTERIM_MAX or (status == 101 and not upgrades):
            raise MalformedAnswerError
        self._was_interim = True
        if status == 101:
            exchange.status, exchange.reason, exchange.fields = status, self._reason, fields
        else:
            exchange.on_interim(status, self._reason, fields)

    def _end_of_answer(self, keep_alive: bool) -> None:
        exchange = self.exchanges.popleft()
        self._interims, self._fruitless_bytes, self._is_chunked = 0, 0, False
        self._renewing = exchange.method == "HEAD"
        if not keep_alive or not exchange.requested:
            self.is_reusable = False
        exchange.trailers = self._fields
        self._answered.append(exchange)

    def _act(self) -> None:
        """Deliver what llhttp brought: whole answers first, then the connection goes back, or what is left is lost."""
        answered = self._answered
        if self._renewing:
            self._renew_parser()
        self.is_reusable = self.is_reusable and self._loss is None and not self._surplus
        if answered:
            self._deliver()
        if not self.is_reusable and (self._loss is not None or answered or not self.exchanges or self._surplus):
            self.close(self._loss)

    def _deliver(self) -> None:
        """Whole answers to those who asked. The connection goes back before, so that they find it."""
        answered, self._answered = self._answered, []
        if self._intake.is_paused:
            self.resume_reading()  # the reader of an answer that is whole has no say any more
        if self.is_reusable and not self.exchanges:
            self._pool.release(self)
        for exchange in answered:
            exchange.connection = None
            if exchange.status < 425 or not self._pool.repeats(exchange):
                exchange.on_end()

    def _renew_parser(self) -> None:
        self._parser: Any = HttpResponseParser(self)
        self._fields, self._reason = [], b""
        self._head_ended = self._between = True
        self._fruitless_bytes = self._interims = 0
        self._renewing = False

    def _begin_tunnel(self, tail: bytes) -> None:
        """101: from here on the bytes belong to the two ends (RFC 9110 7.8)."""
        exchange = self._in_tunnel = self.exchanges[0]
        self.is_reusable = False
        exchange.on_head()
        if tail:
            exchange.on_data(tail)
