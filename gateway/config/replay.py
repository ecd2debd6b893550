"""Idempotency keys: where they are kept, for how long, and how many."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

from gateway.config.redis_url import SCHEMES_SHOWN, is_redis, redis_url, shown
from gateway.config.section import Section, Size, Text, Timeout

_STORE = re.compile(r"none|ledger|sqlite:.+")


def _store(url: str) -> str:
    if is_redis(url):
        return redis_url(url)
    if not _STORE.fullmatch(url):
        raise ValueError(f"must be ledger, sqlite:PATH, sqlite::memory:, none, or begin with {SCHEMES_SHOWN}")
    return url


StoreUrl = Annotated[Text, AfterValidator(_store), PlainSerializer(shown, return_type=str)]


class Replay(Section):
    """What makes a batch safe to send again: Idempotency-Key and idempotencyKey."""

    store: StoreUrl = Field(
        default="ledger",
        description="Where keys are kept: with the ledger (a file beside it, in memory without one), or elsewhere.",
        examples=["redis://redis:6379"],
    )
    keep: Timeout = Field(default=86400.0, description="How long a key stands for its request.")
    keys_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Keys of one caller; more are 429.")
    answer_max: Size = Field(
        default=1024**2, description="Largest answer that is kept; of a larger one only that it came."
    )
    envelope_answer_max: Size = Field(
        default=8 * 1024**2,
        description="The same for the answer to a whole envelope, under an Idempotency-Key of its own.",
    )

    @property
    def is_shared(self) -> bool:
        """Whether the store is a Redis of its own."""
        return is_redis(self.store)

    @property
    def is_local(self) -> bool:
        """Whether it is a file or memory of its own, which one process uses."""
        return self.store.startswith("sqlite:")
