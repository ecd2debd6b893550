"""A batch, its operations and their outcomes: the one model that every dialect is read into and written from."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Literal

import msgspec

from gateway.batch.ordering import Graph

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 9.2.1, without TRACE

Fields = tuple[tuple[str, str], ...]


class Operation(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One request of a batch. `target` is the path with its query; `fields` are its own header fields, in order.

    `depends_on` are the ids of operations that must have succeeded before. `key` is the idempotency key that the
    gateway keeps for it, as it was said, in quotes or bare; it is not among `fields`.
    """

    id: str
    method: str
    target: str
    fields: Fields = ()
    body: bytes = b""
    has_body: bool = False
    timeout_s: float | None = None
    depends_on: tuple[str, ...] = ()
    key: str = ""


class Schedule(msgspec.Struct, frozen=True, gc=False):
    """When an asynchronous batch may begin: `delay_s` from acceptance, or at `not_before_s` (seconds since 1970).

    `priority` 0 to 9: higher ones go first among batches of one caller.
    """

    priority: int = 5
    delay_s: float = 0.0
    not_before_s: float = 0.0

    @property
    def waits(self) -> bool:
        return self.delay_s > 0 or self.not_before_s > 0


AT_ONCE = Schedule()


_KEY = attrgetter("key")


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Operations that are validated, routed, counted and run together. `pointer`: where they stood on the wire.

    `graph` is there where one waits for another, by name or by a reference. `one_credential`: no operation brings
    another than its fields show, such as a token in its query.
    """

    operations: Sequence[Operation]
    on_failure: Literal["continue", "halt"] = "continue"
    pointer: str = "/operations"
    graph: Graph | None = None
    schedule: Schedule = AT_ONCE
    one_credential: bool = True

    @property
    def has_keys(self) -> bool:
        """Whether an operation has an idempotency key."""
        return any(map(_KEY, self.operations))


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why an operation has no answer of the upstream's: `slug` of gateway.errors, words, and further members."""

    slug: str
    detail: str
    retryable: bool = False
    members: Mapping[str, object] = {}


class Outcome(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of the operation at `index`: the upstream's answer, or the gateway's `failure`.

    `headers` are the upstream's end-to-end fields in HTTP's usual capitals; a repeated field is a list. `upstream_s` is
    the time that the last of `attempts` sends took, in seconds. `replayed`: it is that of an earlier operation under
    the same idempotency key.
    """

    index: int
    status: int
    headers: Mapping[str, str | list[str]] = {}
    body: bytes = b""
    failure: Failure | None = None
    upstream_s: float = 0.0
    attempts: int = 0
    replayed: bool = False

    @property
    def succeeded(self) -> bool:
        return self.failure is None and self.status < 400

    @property
    def unknown(self) -> bool:
        """Nobody can know whether the operation ran."""
        return self.failure is not None and self.failure.slug == "outcome-unknown"

    @property
    def kind(self) -> str:
        return kind_of(self.status, None if self.failure is None else self.failure.slug)


def kind_of(status: int, slug: str | None) -> str:
    """The word for an outcome in metrics (EXPERIENCE 9): one of ten, so that series stay few."""
    if slug is not None:
        return _KINDS.get(slug, "server_error")
    return "ok" if status < 400 else "client_error" if status < 500 else "server_error"


_KINDS = {
    "outcome-unknown": "unknown",
    "upstream-timeout": "timeout",
    "upstream-connect": "unreachable",
    "draining": "unreachable",
    "upstream-tls": "unreachable",
    "upstream-reset": "unreachable",
    "upstream-unavailable": "unreachable",
    "rate-limited": "limited",
    "route-not-allowed": "client_error",
    "route-not-batchable": "client_error",
    "halted": "skipped",
    "dependency-failed": "skipped",
    "reference-unresolved": "skipped",
    "credential-refused": "skipped",
    "batch-deadline": "timeout",
    "overloaded": "limited",
}


class Summary(msgspec.Struct, frozen=True, gc=False):
    """How a batch went: `total = succeeded + failed`; `unknown` counts those of `failed` that may have run."""

    total: int
    succeeded: int
    failed: int
    unknown: int = 0


def summarize(outcomes: Iterable[Outcome]) -> Summary:
    total = succeeded = unknown = 0
    for outcome in outcomes:
        total += 1
        if outcome.failure is None:
            succeeded += outcome.status < 400
        elif outcome.unknown:
            unknown += 1
    return Summary(total, succeeded, total - succeeded, unknown)
