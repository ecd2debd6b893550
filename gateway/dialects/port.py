"""What a dialect is: a wire format that can be read into a batch and written from outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.batch.model import Batch, Outcome, Summary
from gateway.batch.validation import Rules
from gateway.errors import GatewayError


class EnvelopeError(GatewayError):
    """An envelope that cannot become a batch. The only error that `parse` raises, whatever the bytes."""


@dataclass(frozen=True, slots=True)
class EnvelopeLimits:
    """How large an envelope may be: operations, nesting, and JSON values."""

    operations_max: int = 1000
    depth_max: int = 32
    nodes_max: int = 1_000_000


class Reader(Protocol):
    """Reads envelopes."""

    def parse(self, data: bytes, limits: EnvelopeLimits, rules: Rules) -> Batch:
        """The batch that `data` describes, every operation valid; else `EnvelopeError` with all violations."""


class Writer(Protocol):
    """Writes outcomes. `media_type` is what it answers; where `streams` is true, pieces may be sent as they come."""

    media_type: str
    streams: bool

    def whole(self, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> bytes:
        """The whole answer, outcomes in the order of the operations; `base` is the batch prefix for problem types."""

    def piece(self, id_: str, outcome: Outcome, base: str) -> bytes:
        """One outcome of a streamed answer."""

    def last(self, summary: Summary) -> bytes:
        """What ends a streamed answer."""

    def preview(self, ids: Sequence[str], outcomes: Sequence[Outcome], base: str) -> Mapping[str, object]:
        """The outcomes as members of a problem document, for a batch that ran out of time."""
