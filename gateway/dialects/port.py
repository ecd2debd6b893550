"""What every dialect shares: the error that an envelope ends in, its limits, and what writes an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.batch.model import Outcome, Summary
from gateway.errors import GatewayError


class EnvelopeError(GatewayError):
    """An envelope that cannot become a batch. The only error that `parse` raises, whatever the bytes."""


@dataclass(frozen=True, slots=True)
class EnvelopeLimits:
    """How large an envelope may be: operations, nesting, and JSON values."""

    operations_max: int = 1000
    depth_max: int = 32
    nodes_max: int = 1_000_000


class Writer(Protocol):
    """Writes outcomes. `media_type` is what it answers."""

    media_type: str

    def whole(self, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> bytes:
        """The whole answer, outcomes in the order of the operations; `base` is the batch prefix for problem types."""
