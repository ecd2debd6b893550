"""What every dialect shares, and what one is whose batches are answered in place; `on_record` has the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.batch.model import Batch, Outcome, Summary
from gateway.dialects.slices import Sliced
from gateway.errors import GatewayError


class EnvelopeError(GatewayError):
    """An envelope that cannot become a batch. The only error that `parse` raises, whatever the bytes."""


@dataclass(frozen=True, slots=True)
class EnvelopeLimits:
    """How large an envelope may be: operations, nesting, and JSON values."""

    operations_max: int = 1000
    depth_max: int = 32
    nodes_max: int = 1_000_000


class Call(NamedTuple):
    """A caller's request as a vendor's dialect sees it. `path` is raw, without its query; `host` is whom he asked.

    `prefer` and `agent` are his `Prefer` and `User-Agent`.
    """

    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    host: str = ""
    prefer: str = ""
    agent: str = ""


class Read(NamedTuple):
    """An envelope that was read: the batch, and what the dialect wants back when it writes the answer."""

    batch: Batch
    memo: object = None


class Page(NamedTuple):
    """A whole answer: `fields` without length and date."""

    status: int
    fields: Sequence[tuple[bytes, bytes]]
    body: bytes


class Pieces(Protocol):
    """An answer that is written outcome by outcome, in the order of the operations. `fields` are without its type."""

    content_type: bytes
    fields: Sequence[tuple[bytes, bytes]]

    def first(self) -> bytes:
        """What stands before all of them."""

    def piece(self, id_: str, outcome: Outcome) -> bytes:
        """The outcome of the operation `id_`."""

    def last(self) -> bytes:
        """What stands behind them."""


class LaterDialect(Protocol):
    """What a dialect that is answered in place says of batches whose callers prefer a later answer.

    Such a batch is on record and has a monitor: a URL that tells how it stands, and in the end answers it. `origin` is
    the scheme and host by which the caller reached the gateway.
    """

    def asked(self, call: Call) -> str | None:
        """The gateway's id of the batch whose monitor is asked; None for a call of another kind."""

    def memo(self, read: Read) -> bytes:
        """What is wanted again when the answer is written; kept sealed."""

    def accepted(self, call: Call, read: Read, batch_id: str, origin: str) -> Page:
        """The answer to a batch that was put on record."""

    def pending(self, call: Call, origin: str) -> Page:
        """What the monitor says while the batch runs."""

    def answer(self, memo: bytes, accept: str) -> Pieces:
        """What the monitor says in the end, to who sent this `Accept`."""


class InPlaceDialect(Protocol):
    """A vendor's format for batches that are answered in place. Made once from values; keeps nothing between calls.

    It is made of `rules` and of what its section of the configuration holds, each setting under its own name.
    """

    name: str

    @property
    def later(self) -> LaterDialect | None:
        """None where every batch is answered in place."""

    def reads(self, call: Call) -> bool | None:
        """Whether the call is an envelope of this dialect; what is none passes through. Looks at no body.

        None where only the body can tell: then it is read, up to the limit, and `parse` decides.
        """

    def parse(self, call: Call) -> Read | None:
        """The envelope; None for a call that turns out to be none, whole or not. Raises `EnvelopeError` only."""

    def answer(self, read: Read, outcomes: Sequence[Outcome]) -> Page:
        """The outcomes, in the order of the operations, as the vendor would write them."""

    def refusal(self, error: GatewayError, request_id: str) -> Page:
        """An error before anything ran, in the vendor's own shape. Fields that every refusal has are added to it."""


class Writer(Protocol):
    """Writes outcomes. `media_type` is what it answers."""

    media_type: str

    def whole(self, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> bytes:
        """The whole answer, outcomes in the order of the operations; `base` is the batch prefix for problem types."""

    def written(self, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> Sliced[bytes]:
        """The same, in slices of one outcome."""
