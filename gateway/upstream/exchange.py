"""One request and its answer, as a connection drives it; this base class is the buffered kind that a batch uses.

A connection calls, in this order: `on_interim` (any number), `on_head`, `on_data` (any number), and then either
`on_end` or `on_loss`. The pool sends an exchange again by itself where the retry law allows it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.batch.model import Failure
from gateway.batch.retry import Loss
from gateway.upstream.headers import RawFields

if TYPE_CHECKING:
    from gateway.upstream.http1 import Connection


class Exchange:
    """A request whose bytes are all known; its answer is collected, at most `answer_bytes_max` of it.

    `done(exchange)` is called once, when `status` or `failure` is set. `deadline_s` is a time of the loop's clock.
    """

    __slots__ = (
        "answer_bytes",
        "answer_bytes_max",
        "attempt",
        "body",
        "chunks",
        "connection",
        "deadline_s",
        "done",
        "failure",
        "fields",
        "index",
        "method",
        "reason",
        "repeatable",
        "request",
        "retries_max",
        "sent_s",
        "status",
        "upgrades",
    )

    def __init__(
        self,
        method: str,
        request: bytes,
        *,
        deadline_s: float,
        repeatable: bool,
        done: Callable[["Exchange"], None],
        index: int = 0,
        answer_bytes_max: int = 10 << 20,
        retries_max: int = 2,
        upgrades: bool = False,
    ) -> None:
        self.method = method
        self.request = request
        self.deadline_s = deadline_s
        self.repeatable = repeatable
        self.done = done
        self.index = index
        self.answer_bytes_max = answer_bytes_max
        self.retries_max = retries_max
        self.upgrades = upgrades
        self.attempt = 0
        self.connection: Connection | None = None
        self.failure: Failure | None = None
        self.sent_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Forget what an earlier attempt brought."""
        self.status = 0
        self.reason = b""
        self.fields: RawFields = ()
        self.body = b""
        self.chunks: list[bytes] | None = None
        self.answer_bytes = 0

    @property
    def may_share(self) -> bool:
        """Whether the request may stand behind others on one connection (pipelining, RFC 9112 9.3.2)."""
        return self.method == "GET" or self.method == "OPTIONS"

    @property
    def is_requested(self) -> bool:
        """Whether all of the request has been handed to the connection."""
        return True

    def on_interim(self, status: int, fields: RawFields) -> None:
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
        elif self.body:
            self.chunks = [self.body, data]
        else:
            self.body = data
        return None

    def on_end(self, trailers: RawFields) -> None:
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
