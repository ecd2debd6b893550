"""The durable record of asynchronous batches: what a store promises. Two faces of one store: callers' and workers'.

A batch is cut into slices; a slice is a run of consecutive operations that one worker leases, runs and settles. All
payloads are sealed bytes (gateway.ledger.seal): a store never looks inside. Times are milliseconds of the store's own
clock since 1970; indexes count a batch's operations from 0.

Every method may raise `LedgerUnavailableError` (nothing was changed, or nobody can know), and each is idempotent: the
same call again, after an answer that was lost, has no further effect. What is counted is not stored: a view is made
from the slices and parts on record.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from gateway.batch.states import State
from gateway.errors import GatewayError

Command = Literal["cancel", "pause", "resume", "break", "delete"]

FIRST_EPOCH = 1
"""Of the lease that a batch comes with; later ones have higher epochs."""

OnEnd = Callable[[str, float], None]
"""Told the dialect of a batch and its age in seconds, once, by the store through which it ended."""


def on_end_ignored(dialect: str, age_s: float) -> None:
    """For who does not want to know."""


class LedgerUnavailableError(GatewayError):
    """The store cannot promise durability now: 503 `ledger-unavailable`, nothing was accepted."""

    def __init__(self, detail: str) -> None:
        super().__init__("ledger-unavailable", detail, headers={"Retry-After": "5"})


class Part(msgspec.Struct, frozen=True, gc=False):
    """Outcomes that were recorded in one step: `indexes` in ascending order, all of one slice, and their counts.

    Without a seal it is the store's own: what was announced, by a lost worker as a rule, in a batch that has ended.
    """

    slice: int
    indexes: Sequence[int]
    sealed: bytes
    succeeded: int
    failed: int
    unknown: int = 0


class Begun(msgspec.Struct, frozen=True, gc=False):
    """What of a new batch is on its way: `indexes`, in ascending order, may have been sent. The slices that they stand
    in are leased to `worker` from acceptance on, for `lasts_ms`, under `FIRST_EPOCH`."""

    worker: str
    indexes: Sequence[int]
    lasts_ms: int


class NewBatch(msgspec.Struct, frozen=True, gc=False):
    """A batch to put on record. `slices[i]` holds the sealed operations `i * slice_size ...`.

    `owner` is a keyed digest of the caller. `context` is what the caller's request gives to all operations, credentials
    among it; it is erased when the batch ends, with the key of its own that it brings along. `key` is the wrapped key
    of all else. `priority` 0 to 9, higher first, within one owner. `begins_after_ms`, `lives_ms` and `kept_ms` count
    from acceptance, from acceptance and from the end. `label` is what the dialect wants to know again, in clear: small
    and without secrets. `parts` are outcomes that it comes with, as a synchronous batch does that ran out of time:
    never all of them, and never run again. `begun` is what had no outcome yet when it did.
    """

    id: str
    owner: str
    dialect: str
    total: int
    slice_size: int
    slices: Sequence[bytes]
    context: bytes
    key: bytes
    lives_ms: int
    kept_ms: int
    unfinished_max: int
    begins_after_ms: int = 0
    priority: int = 5
    retry_of: str | None = None
    label: Mapping[str, str] = {}
    parts: Sequence[Part] = ()
    begun: Begun | None = None


class View(msgspec.Struct, frozen=True, gc=False):
    """A batch as it stands. `completed = succeeded + failed`; `unknown` counts those of `failed` nobody can know.

    In a final state what has no outcome is cancelled, expired or (failed) never run: `total - completed`. What is in
    doubt then and in no lease is unknown (see `Part`).
    """

    id: str
    owner: str
    dialect: str
    state: State
    paused: bool
    total: int
    slice_size: int
    succeeded: int
    failed: int
    unknown: int
    accepted_ms: int
    started_ms: int | None
    ended_ms: int | None
    expires_ms: int
    kept_until_ms: int | None
    key: bytes
    retry_of: str | None = None
    label: Mapping[str, str] = {}

    @property
    def completed(self) -> int:
        return self.succeeded + self.failed


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right to run a slice until `until_ms`. `epoch` grows with each lease of the slice; an older one is refused.

    The slice holds `count` operations from index `first` on. `done` are those with an outcome, `in_doubt` those that
    were intended and have none. `losses` counts the leases of this slice that ended without a word from their worker;
    `lost_ago_ms` is how long ago that was last found, `others_lost` whether another worker was found lost since.
    `tries` is what its workers have put there with `Queue.record`, at first 0.
    """

    batch: str
    slice: int
    epoch: int
    until_ms: int
    owner: str
    dialect: str
    first: int
    count: int
    operations: bytes
    context: bytes
    key: bytes
    done: Sequence[int] = ()
    in_doubt: Sequence[int] = ()
    losses: int = 0
    lost_ago_ms: int = 0
    others_lost: bool = False
    tries: int = 0
    expires_ms: int = 0


class Swept(msgspec.Struct, frozen=True, gc=False):
    """What one sweep did."""

    expired: int = 0
    rescued: int = 0
    forgotten: int = 0


class Ledger(Protocol):
    """The callers' face."""

    async def accept(self, batch: NewBatch) -> View:
        """Durable when this returns, whole or not at all; the same id again answers what is on record.

        Raises `GatewayError` 429 `too-many-batches` where `owner` has `unfinished_max` batches that have not ended.
        """

    async def view(self, batch_id: str) -> View | None:
        """The batch, with every acknowledged `record` in it; None where there is none, or it was deleted."""

    async def browse(self, owner: str, *, limit: int, after: str | None, state: State | None) -> Sequence[View]:
        """The owner's batches, newest first, at most `limit`, behind the batch `after`."""

    async def parts(self, batch_id: str, *, after: int, limit: int) -> Sequence[Part]:
        """Parts whose slice is at least `after`, whole slices at a time, in order of slice, of at least `limit`
        operations where there are so many. A slice may have several parts; no index stands in two."""

    async def operations(self, batch_id: str, slice_: int) -> bytes | None:
        """A slice's sealed operations; None once they are erased (see `Queue.record`)."""

    async def command(self, batch_id: str, command: Command) -> View | None:
        """Do what the caller asks where TRANSITIONS allows it; the batch afterwards, which tells whether it did.

        `delete` removes a batch in a final state with all that belongs to it. `cancel` settles at once where nothing is
        leased. `break` fails a batch whose record cannot be read.
        """

    async def health(self) -> Mapping[str, float]:
        """`batches_<state>` counts, `oldest_waiting_ms` (when the longest waiting batch was accepted, 0 for none),
        `stored_bytes`, `capacity_bytes` (0: unknown)."""

    async def close(self) -> None:
        """Give back every resource; leases are left to expire."""


class Queue(Protocol):
    """The workers' face."""

    async def lease(self, worker: str, *, most: int, lasts_ms: int) -> Sequence[Lease]:
        """Take up to `most` slices that nobody holds, whose batch is accepted or processing, not paused, begun by the
        clock and not expired. Fair: owners take turns by operations served, so that a small batch waits for nobody's
        backlog; within an owner by priority, then age. An expired lease counts as a loss and its slice is free again.
        """

    async def renew(self, leases: Sequence[Lease], *, lasts_ms: int) -> Sequence[bool]:
        """Hold the leases for `lasts_ms` from now. False: stop, the lease is lost or its batch runs no further
        (cancelling, paused, expired); such a lease may still `record` what was sent, as long as nobody took it, and
        one that is not lost is held on all the same, so that nobody takes it before."""

    async def intend(self, lease: Lease, indexes: Sequence[int]) -> None:
        """Durable before the first byte of any of `indexes` leaves. Raises `LostLeaseError` for an old epoch, for a
        lease that was found lost, and where the batch has ended."""

    async def record(
        self,
        lease: Lease,
        part: Part | None,
        *,
        ends: bool,
        again_after_ms: int | None = None,
        retracts: Sequence[int] = (),
        tries: int | None = None,
    ) -> None:
        """Put outcomes on record. An index that has an outcome keeps the first one: a part that holds such an index is
        refused whole with `LostLeaseError`, unless it is the very same part again, which adds nothing.

        `retracts` are intended operations that are in doubt no longer: nothing of them was sent, or the retry law lets
        them be sent again. `tries` replaces the slice's count, where it is given.

        `ends`: the worker lets go of the slice: done if every operation of it has an outcome, else free for a lease
        after `again_after_ms`. The last slice settles its batch; then the context is erased, and so are the operations
        of every slice that succeeded whole: what failed or never ran may be tried again until the batch is forgotten.
        Raises `LostLeaseError` for an old epoch, unless the very same part is on record.
        """

    async def sweep(self) -> Swept:
        """Expire, settle and forget what is due. Cheap to call often, by every replica."""

    async def wait(self, timeout_s: float) -> None:
        """Return when new work may be there, or after `timeout_s`."""


class LostLeaseError(Exception):
    """Another worker holds the slice, or the batch is gone: nothing was changed."""
