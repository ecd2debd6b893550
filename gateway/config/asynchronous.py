"""Asynchronous batches: where they are kept, for how long, and how they are worked off."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

from gateway.config.redis_url import SCHEMES_SHOWN, is_redis, redis_url, shown
from gateway.config.secret import Secret
from gateway.config.section import Section, Size, Text, Timeout

_KEY_CHARACTERS_MIN = 16  # 32 random bytes in any spelling are longer
_LEDGER = re.compile(r"none|sqlite(?::.+)?")


def _ledger(url: str) -> str:
    if is_redis(url):
        return redis_url(url)
    if not _LEDGER.fullmatch(url):
        raise ValueError(f"must be sqlite, sqlite:PATH, sqlite::memory:, none, or begin with {SCHEMES_SHOWN}")
    return url


def _long(secret: Secret) -> Secret:
    if len(secret.reveal()) < _KEY_CHARACTERS_MIN:
        raise ValueError(
            f"must have at least {_KEY_CHARACTERS_MIN} characters; `openssl rand -base64 32` makes a good one"
        )
    return secret


LedgerUrl = Annotated[Text, AfterValidator(_ledger), PlainSerializer(shown, return_type=str)]


class Retry(Section):
    """How an operation that failed for now is tried again, where a repeat is safe."""

    attempts: int = Field(default=3, ge=1, le=100, description="Tries of one operation, the first included.")


class Asynchronous(Section):
    """Batches that are answered with 202 and worked off in the background."""

    ledger: LedgerUrl = Field(
        default="sqlite",
        description="Where batches are kept: a file in the state folder, a Redis that replicas share, or none.",
        examples=["sqlite:/var/lib/batch-gateway/ledger.db", "redis://redis:6379/0", "none"],
    )
    state_folder: Text | None = Field(
        default=None,
        description="Folder of the embedded ledger and its key; by default the first that can be made.",
        examples=["/var/lib/batch-gateway"],
    )
    key: Annotated[Secret, AfterValidator(_long)] | None = Field(
        default=None,
        description="Secret that seals what is kept; without it one is made in the state folder. Redis needs it.",
        examples=[{"fromEnv": "BATCH_KEY"}],
    )
    worker: bool = Field(
        default=True, description="Whether serve runs batches as well; false leaves them to batch-gateway work."
    )
    require_durable: bool = Field(
        default=True, description="Accept nothing while Redis writes no append-only file: a restart would lose it."
    )
    expiry: Timeout = Field(default=86400.0, description="From acceptance until what was not sent expires.")
    retention: Timeout = Field(default=29 * 86400.0, description="How long results are kept after the end.")
    unfinished_max: int = Field(default=100, ge=1, le=100_000, description="Batches of one caller that have not ended.")
    slice: int = Field(default=100, ge=1, le=10_000, description="Operations that are leased together.")
    slices: int = Field(default=4, ge=1, le=1000, description="Slices that one replica works on at once.")
    concurrency: int = Field(
        default=40, ge=1, le=10_000, description="Asynchronous operations of one replica in flight at once."
    )
    lease: Timeout = Field(default=15.0, description="Until a silent worker's slice goes to another.")
    poll: Timeout = Field(default=1.0, description="How often a worker without work looks for some.")
    files_room: Size = Field(
        default=10 * 1024**3, description="What callers' files may take beside the embedded ledger; read at the start."
    )
    retry: Retry = Field(default=Retry(), description="Trying again what failed for now.")

    @property
    def is_shared(self) -> bool:
        """Whether replicas work off the same ledger."""
        return is_redis(self.ledger)
