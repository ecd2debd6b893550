"""What the scripts answer as the port's values, and the port's values as their arguments. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from gateway.batch.states import State
from gateway.ledger.port import Begun, Lease, NewBatch, Part, View

VIEWED = (
    "seq", "state", "paused", "owner", "dialect", "total", "slice_size", "succeeded", "failed", "unknown", "accepted",
    "started", "ended", "expires", "until", "key", "retry_of", "label",
)  # fmt: skip
"""Fields of the meta hash that a view is made of, in order."""

_label = msgspec.json.Decoder(dict[str, str])


class Hint(msgspec.Struct, frozen=True, gc=False):
    """What the index is to know of a batch (lua/index_note.lua), and whether it has ended just now."""

    seq: int
    owner: bytes
    accepted_ms: int
    priority: bytes
    operations: int
    state: bytes
    ready_ms: int
    due_ms: int
    gone_ms: int
    ended_age_ms: int  # of a batch that ended in this very step, else -1
    dialect: bytes

    def as_arguments(self) -> list[bytes | int]:
        return [
            self.seq, self.owner, self.accepted_ms, self.priority, self.operations, self.state, self.ready_ms,
            self.due_ms, self.gone_ms,
        ]  # fmt: skip

    @property
    def is_final(self) -> bool:
        return self.state in (b"completed", b"failed", b"cancelled", b"expired")


def hint(answer: Sequence[Any]) -> Hint:
    return Hint(*answer)


def accepted(batch: NewBatch) -> list[bytes | str | int]:
    """The arguments of lua/accept.lua behind the sequence."""
    fields: dict[str, bytes | str | int] = {
        "owner": batch.owner,
        "dialect": batch.dialect,
        "total": batch.total,
        "slice_size": batch.slice_size,
        "priority": batch.priority,
        "context": batch.context,
        "key": batch.key,
        "label": msgspec.json.encode(batch.label),
    }
    if batch.retry_of is not None:
        fields["retry_of"] = batch.retry_of
    arguments: list[bytes | str | int] = [batch.lives_ms, batch.kept_ms, batch.begins_after_ms]
    begun = batch.begun or Begun("", (), 0)
    held = sorted({index // batch.slice_size for index in begun.indexes})
    arguments += [begun.worker, mask(begun.indexes), by_comma(held), begun.lasts_ms]
    arguments += [len(batch.slices), len(batch.parts), len(fields), *batch.slices]
    for part in batch.parts:
        arguments += [part.slice, header(part), mask(part.indexes), part.sealed]
    for name, value in fields.items():
        arguments += [name, value]
    return arguments


def header(part: Part) -> str:
    """A part's counts and indexes, as they stand in front of its outcomes."""
    return f"{part.succeeded},{part.failed},{part.unknown},{by_comma(part.indexes)}"


def by_comma(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def mask(indexes: Sequence[int]) -> bytes:
    """Bits of a bitmap, as the scripts read them (lua/batch.lua)."""
    if not indexes:
        return b""
    first = min(indexes) >> 3
    found = bytearray((max(indexes) >> 3) - first + 1)
    for index in indexes:
        found[(index >> 3) - first] |= 0x80 >> (index & 7)
    return first.to_bytes(4, "big") + found


def part(slice_: int, stored: bytes) -> Part:
    head, _, sealed = stored.partition(b"\n")
    succeeded, failed, unknown, *indexes = map(int, head.split(b","))
    return Part(slice_, indexes, sealed, succeeded, failed, unknown)


def view(batch_id: str, fields: Sequence[bytes | None]) -> View | None:
    """A view of the fields VIEWED; None where the batch is gone."""
    found: Mapping[str, bytes | None] = dict(zip(VIEWED, fields, strict=True))
    state = found["state"]
    if state is None or state == b"deleted":
        return None
    return View(
        id=batch_id,
        owner=_text(found["owner"]) or "",
        dialect=_text(found["dialect"]) or "",
        state=cast(State, state.decode()),
        paused=found["paused"] == b"1",
        total=int(found["total"] or 0),
        slice_size=int(found["slice_size"] or 0),
        succeeded=int(found["succeeded"] or 0),
        failed=int(found["failed"] or 0),
        unknown=int(found["unknown"] or 0),
        accepted_ms=int(found["accepted"] or 0),
        started_ms=_number(found["started"]),
        ended_ms=_number(found["ended"]),
        expires_ms=int(found["expires"] or 0),
        kept_until_ms=_number(found["until"]),
        key=found["key"] or b"",
        retry_of=_text(found["retry_of"]),
        label=_label.decode(found["label"] or b"{}"),
    )


def view_of_new(batch: NewBatch, about: Hint) -> View:
    """The batch as it was put on record, without asking for it."""
    return View(
        id=batch.id,
        owner=batch.owner,
        dialect=batch.dialect,
        state=cast(State, about.state.decode()),
        paused=False,
        total=batch.total,
        slice_size=batch.slice_size,
        succeeded=sum(part.succeeded for part in batch.parts),
        failed=sum(part.failed for part in batch.parts),
        unknown=sum(part.unknown for part in batch.parts),
        accepted_ms=about.accepted_ms,
        started_ms=None if batch.begun is None else about.accepted_ms,
        ended_ms=None,
        expires_ms=about.accepted_ms + batch.lives_ms,
        kept_until_ms=None,
        key=batch.key,
        retry_of=batch.retry_of,
        label=batch.label,
    )


def any_lost(slices: Sequence[Sequence[Any]]) -> bool:
    """Whether a slice that lua/lease.lua has answered ever lost its worker."""
    return any(losses for _, _, _, losses, *_ in slices)


def leases(
    batch_id: str, about: Hint, facts: Sequence[bytes], slices: Sequence[Sequence[Any]], last_lost: bytes | None
) -> list[Lease]:
    """The leases that lua/lease.lua has answered; `last_lost` is the worker that was found lost last, None where that
    is not known."""
    if not slices:
        return []
    owner, dialect, expires_ms, total = about.owner.decode(), facts[0].decode(), int(facts[1]), int(facts[4])
    taken = []
    for number, epoch, until_ms, losses, ago_ms, lost, tries, operations, done_bits, intended_bits in slices:
        first = number * about.operations
        count = min(about.operations, total - first)
        done = _indexes(done_bits, first, count) if done_bits.strip(b"\0") else []
        sent = _indexes(intended_bits, first, count) if intended_bits.strip(b"\0") else []
        taken.append(
            Lease(
                batch=batch_id,
                slice=number,
                epoch=epoch,
                until_ms=until_ms,
                owner=owner,
                dialect=dialect,
                first=first,
                count=count,
                operations=operations,
                context=facts[2] or b"",
                key=facts[3],
                done=done,
                in_doubt=sorted(set(sent).difference(done)),
                losses=losses,
                lost_ago_ms=ago_ms if losses else 0,
                others_lost=losses > 0 and last_lost is not None and lost != last_lost,
                tries=tries,
                expires_ms=expires_ms,
            )
        )
    return taken


def _indexes(bits: bytes, first: int, count: int) -> list[int]:
    """Indexes whose bit is set, the highest of each byte being its first; `bits` begins with the byte of `first`."""
    start = first - first % 8
    end = min(first + count, start + 8 * len(bits))
    return [i for i in range(first, end) if bits[(i - start) >> 3] & (0x80 >> (i & 7))]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)
