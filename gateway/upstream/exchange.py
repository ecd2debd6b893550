"""One request and its answer, as a connection drives it; this base class is the buffered kind that a batch uses.

A connection calls, in this order: `on_interim` (any number), `on_head`, `on_data` (any number), and then either
`on_end` or `on_loss`. The pool sends an exchange again by itself where the retry law allows it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.batch.model import Failure
from gateway.batch.retry import TOO_EARLY, Loss
from gateway.upstream.headers import RawFields


class MalformedAnswerError(Exception):
    """The upstream's bytes are no answer that may be passed on."""


class Exchange(msgspec.Struct, eq=False):
    """A request whose bytes are all known; its answer is collected, at most `answer_bytes_max` of it.

    `done(exchange)` is called once, when `status` or `failure` is set. `deadline_s` is a time of the loop's clock.
    A struct, because one is made for every operation and structs are made in C.
    """

    method: str
    request: bytes
    deadline_s: float
    repeatable: bool
    done: Callable[["Exchange"], None]
    index: int = 0
    answer_bytes_max: int = 10 << 20
    retries_max: int = 2
    rejections: frozenset[int] = TOO_EARLY  # answers after which it may be sent again
    may_share: bool = False  # may stand behind others on one connection (pipelining, RFC 9112 9.3.2)
    turns: Any = None  # the `Turns` where an operation of a batch took its turn
    upgrades: bool = False
    streamed: bool = False  # then `on_sent` and `on_head` are called as well
    stalled_at_s: float = math.inf  # since when nobody reads the answer, so that its connection stands still
    requested: bool = True  # all of the request has been handed to the connection
    attempt: int = 0
    sent_s: float = 0.0
    connection: Any = None  # the `Connection` that it is on
    status: int = 0
    reason: bytes = b""
    fields: RawFields = ()
    shown: Mapping[str, str | list[str]] | None = None  # `fields` as an outcome shows them, where that is known
    body: bytes = b""
    chunks: list[bytes] | None = None
    answer_bytes: int = 0
    trailers: RawFields = ()
    failure: Failure | None = None

    def begin(self) -> None:
        """Forget what an earlier attempt brought."""
        self.status = self.answer_bytes = 0
        self.reason = self.body = b""
        self.fields, self.shown = (), None
        self.chunks = None
        self.trailers = ()

    def on_sent(self) -> None:
        """The exchange is on a connection, and what is known of its request has been written."""

    def on_interim(self, status: int, reason: bytes, fields: RawFields) -> None:
        """A 1xx answer; an outcome does not show it."""

    def on_head(self) -> None:
        """`status`, `reason` and `fields` are there."""

    def on_data(self, data: bytes) -> Loss | None:
        """A part of the body; a loss ends the exchange."""
        self.answer_bytes += len(data)
        if self.answer_bytes > self.answer_bytes_max:
            return Loss.TOO_LARGE
        if self.chunks is not None:
            self.chunks.append(data)
        else:
            self.chunks = [self.body, data]
        return None

    def on_whole(self, body: bytes, passed: bytes) -> None:
        """The head and all of the body are there; `passed` is what `plain.Head` says."""
        self.body = body

    def on_end(self) -> None:
        """The answer is whole."""
        if self.chunks is not None:
            self.body = b"".join(self.chunks)
            self.chunks = None
        self.done(self)

    def on_give_up(self, status: int, failure: Failure) -> None:
        """There will be no answer."""
        self.begin()
        self.status, self.failure = status, failure
        self.done(self)

    def on_writable(self, writable: bool) -> None:
        """The connection's write buffer is full, or has room again."""
