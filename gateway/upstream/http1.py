"""One HTTP/1.1 connection to the upstream: request bytes out, llhttp's events in, nothing left for the next answer.

Rules (PROMISES 1.1, P10):
- A byte that no request asked for poisons the connection; so do an unasked 101, a version other than 1.x, a status
  outside 100-599, more than 10 interim answers and a head above its limits.
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
from gateway.upstream.exchange import Exchange
from gateway.upstream.headers import RawFields, announced_idle_s, bytes_of, codings, connection_options, is_clean

if TYPE_CHECKING:
    from gateway.upstream.pool import Pool

INTERIM_MAX = 10
FIELDS_MAX = 256
HEAD_BYTES_MAX = 65536


class MalformedAnswerError(Exception):
    """The upstream's bytes are no answer that may be passed on."""


class Connection(asyncio.Protocol):
    """A connection and the exchanges on it, the oldest first. Only `Pool` makes, fills and closes it."""

    def __init__(self, pool: "Pool") -> None:
        self.exchanges: deque[Exchange] = deque()
        self.is_reusable = True
        self.idle_since_s = 0.0
        self.idle_max_s: float | None = None
        self._pool = pool
        self._in_tunnel: Exchange | None = None
        self._was_interim = False
        self._is_chunked = False
        self._reading_paused = False
        self._fruitless_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._renew_parser()
        self._answered: list[tuple[Exchange, RawFields]] = []
        self._loss: Loss | None = None
        self._surplus = False

    def __repr__(self) -> str:
        state = "closed" if self._transport is None else "busy" if self.exchanges else "idle"
        return f"<Connection {state} exchanges={len(self.exchanges)} reusable={self.is_reusable}>"

    # What the pool calls.

    def send(self, exchange: Exchange, now_s: float) -> None:
        """Put `exchange` behind the others and write what is known of its request."""
        exchange.attempt += 1
        exchange.connection = self
        exchange.sent_s = now_s
        self.exchanges.append(exchange)
        if self._transport is not None:  # else connection_lost is about to report it
            self._transport.write(exchange.request)
            if exchange.streamed:
                exchange.on_sent()

    def write(self, data: bytes) -> None:
        """A further part of the last exchange's request."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self, loss: Loss | None = None) -> None:
        """Close at once; the oldest exchange ends with `loss`, those behind it as reset."""
        self.is_reusable = False
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._pool.forget(self)
        failed, self.exchanges = self.exchanges, deque()
        for exchange in failed:
            self._pool.lost(exchange, loss or Loss.RESET)
            loss = Loss.RESET

    def pause_reading(self) -> None:
        self._reading_paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._reading_paused = False
        if self._transport is not None:
            self._transport.resume_reading()

    def get_extra_info(self, name: str) -> Any:
        return None if self._transport is None else self._transport.get_extra_info(name)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

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
        self._fruitless_bytes += len(data)
        if not self.exchanges:  # llhttp would let empty lines pass
            self._surplus = True
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._begin_tunnel(data[upgrade.args[0] :])
            return
        except (HttpParserError, MalformedAnswerError):
            self._loss = self._loss or Loss.MALFORMED
        if (
            self._fruitless_bytes > HEAD_BYTES_MAX or len(self._fields) > FIELDS_MAX
        ):  # an endless head, or endless trailers
            self._loss = self._loss or Loss.MALFORMED
        self._act()

    def eof_received(self) -> None:
        if self.exchanges and self._in_tunnel is None and self._ends_with_close():
            self._answered.append((self.exchanges.popleft(), ()))
        self.is_reusable = False
        self._act()

    def connection_lost(self, exc: Exception | None) -> None:
        tunnelled, self._in_tunnel = self._in_tunnel, None
        if tunnelled is not None:
            self.exchanges.clear()
            tunnelled.on_end(())
        self.close()

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if not self.exchanges or self._surplus:
            self._surplus = True
            raise MalformedAnswerError
        self._fields: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._head_ended = False

    def on_status(self, reason: bytes) -> None:
        self._reason += reason  # a segment may end in it

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        status, fields, exchange = parser.get_status_code(), self._fields, self.exchanges[0]
        self._head_ended = True
        keep_alive = parser.should_keep_alive()
        # A closer look at each connection's first head, and at any that is not framed by itself or not a plain 200 OK.
        is_plain = status == 200 and self._reason == b"OK" and keep_alive and parser.get_http_version() == "1.1"
        is_plain = is_plain and len(fields) <= FIELDS_MAX and self.idle_max_s is not None
        if not is_plain and self._is_refused(status, fields):
            raise MalformedAnswerError
        if self._fruitless_bytes > HEAD_BYTES_MAX and bytes_of(fields) > HEAD_BYTES_MAX:
            raise MalformedAnswerError
        self._fruitless_bytes = 0
        if status < 200:
            self._interim(exchange, status, fields)
            return
        if self.idle_max_s is None:  # a server says the same with each answer: the first is enough
            announced_s = announced_idle_s(fields)
            self.idle_max_s = math.inf if announced_s is None else announced_s
        exchange.status, exchange.reason, exchange.fields = status, self._reason, fields
        self._fields = []  # what comes now are trailers
        if exchange.streamed:
            exchange.on_head()
        if exchange.method == "HEAD":
            options = connection_options(fields)
            is_recent = parser.get_http_version() == "1.1"
            self._end_of_answer(b"close" not in options and (is_recent or b"keep-alive" in options))

    def on_chunk_header(self) -> None:
        if not self._is_chunked:  # the first of this answer
            self._is_chunked = True
            if codings(self.exchanges[0].fields) != [b"chunked"]:
                raise MalformedAnswerError

    def on_body(self, data: bytes) -> None:
        if self._renewing:
            self._surplus = True  # a body behind an answer to HEAD
            return
        self._fruitless_bytes = 0
        loss = self.exchanges[0].on_data(data)
        if loss is not None:
            self._loss = loss
            raise MalformedAnswerError

    def on_message_complete(self) -> None:
        if self._renewing or self._was_interim:
            self._was_interim = False
            return
        if len(self._fields) > FIELDS_MAX:
            raise MalformedAnswerError
        self._end_of_answer(self._parser.should_keep_alive())

    # Parts of the above.

    def _is_refused(self, status: int, fields: RawFields) -> bool:
        """Whether a head that llhttp took is none: status, version, too many fields, an unknown coding, the reason."""
        if not 100 <= status <= 599 or self._parser.get_http_version() not in ("1.1", "1.0"):
            return True
        if len(fields) > FIELDS_MAX or codings(fields) not in ([], [b"chunked"]):
            return True
        return not is_clean(((b"", self._reason),))

    def _interim(self, exchange: Exchange, status: int, fields: RawFields) -> None:
        self._interims += 1
        if self._interims > INTERIM_MAX:
            raise MalformedAnswerError
        if status == 101 and not (exchange.upgrades and self._parser.should_upgrade()):
            raise MalformedAnswerError
        if status == 101:
            exchange.status, exchange.reason, exchange.fields = status, self._reason, fields
        else:
            exchange.on_interim(status, fields)
        self._was_interim = True

    def _end_of_answer(self, keep_alive: bool) -> None:
        exchange = self.exchanges.popleft()
        self._interims = self._fruitless_bytes = 0
        self._is_chunked = False
        self._renewing = exchange.method == "HEAD"
        if not keep_alive or not exchange.is_requested:
            self.is_reusable = False
        self._answered.append((exchange, self._fields))

    def _ends_with_close(self) -> bool:
        """Whether the end of the connection is the end of the body (RFC 9112 6.3, rule 8)."""
        framed = {b"content-length", b"transfer-encoding"}
        first = self.exchanges[0]
        return self._head_ended and first.status >= 200 and framed.isdisjoint(name.lower() for name, _ in first.fields)

    def _act(self) -> None:
        """Deliver what llhttp brought: whole answers first, then the connection goes back, or what is left is lost."""
        answered = self._answered
        if (
            len(answered) == 1
            and self.is_reusable
            and not (self._renewing or self._loss or self._surplus or self.exchanges)
        ):
            (exchange, trailers) = answered.pop()  # nearly always: one whole answer, and nothing else to do
            if self._reading_paused:
                self.resume_reading()
            self._pool.release(self)
            exchange.connection = None
            exchange.on_end(trailers)
            return
        self._answered = []
        if self._renewing:
            self._renew_parser()
        if self._loss is not None or self._surplus:
            self.is_reusable = False
        if answered and self._reading_paused:
            self.resume_reading()  # the reader of an answer that is whole has no say any more
        if answered and not self.exchanges and self.is_reusable:
            self._pool.release(self)
        for exchange, trailers in answered:
            exchange.connection = None
            exchange.on_end(trailers)
        if not self.is_reusable and (self._loss is not None or answered or not self.exchanges or self._surplus):
            self.close(self._loss)

    def _renew_parser(self) -> None:
        self._parser: Any = HttpResponseParser(self)
        self._fields = []
        self._reason = b""
        self._head_ended = True
        self._fruitless_bytes = 0
        self._interims = 0
        self._renewing = False

    def _begin_tunnel(self, tail: bytes) -> None:
        """101: from here on the bytes belong to the two ends (RFC 9110 7.8)."""
        exchange = self.exchanges[0]
        self._in_tunnel = exchange
        self.is_reusable = False
        exchange.on_head()
        if tail:
            exchange.on_data(tail)
