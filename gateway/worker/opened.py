"""What was sealed into a lease, ready to run: operations, and what the caller's request gives to each of them."""

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gateway.batch.model import Operation
from gateway.ledger.port import Lease
from gateway.ledger.seal import BatchKey, PayloadCorruptError, Sealer
from gateway.ledger.segments import CONTEXT, Context, context_from_bytes, of_operations, operations_from_bytes
from gateway.upstream.headers import via_of, vouched
from gateway.upstream.request import Inherited, RequestWriter

_AT_ONCE_BYTES = 65_536  # more is opened in a thread: the loop has others to serve


@dataclass(frozen=True, slots=True)
class Opened:
    """A slice in clear. Never logged: credentials are in it."""

    operations: Sequence[Operation]
    context: Context

    @property
    def halts(self) -> bool:
        """Whether nothing further is sent once an operation has failed."""
        return self.context.on_failure == "halt"

    def writer(self, batch_id: str, via: bytes, default_host: bytes) -> RequestWriter:
        fields = self.context.fields
        host = next((value for name, value in fields if name.lower() == b"host"), None)
        real_ip = self.context.ip if any(name.lower() == b"x-real-ip" for name, _ in fields) else None
        said = vouched(host, self.context.ip, self.context.scheme, via_of(fields, via), real_ip)
        return RequestWriter(Inherited(fields, said, default_host), batch_id, self.context.trace_seed)


async def opened(lease: Lease, key: BatchKey, sealer: Sealer) -> Opened:
    """Raises `PayloadCorruptError` where a seal does not match or what is in it is no slice of this length."""
    if len(lease.operations) < _AT_ONCE_BYTES:
        return _open(lease, key, sealer)
    return await asyncio.to_thread(_open, lease, key, sealer)


def key_of(lease: Lease, sealer: Sealer) -> BatchKey:
    """Raises `PayloadCorruptError` where the batch's key does not open: then nothing of the batch does."""
    return sealer.key(lease.batch, lease.key)


def _open(lease: Lease, key: BatchKey, sealer: Sealer) -> Opened:
    try:
        operations = operations_from_bytes(key.open(lease.operations, of_operations(lease.slice)))
        context = context_from_bytes(sealer.open_apart(lease.batch, lease.context, CONTEXT))
    except (msgspec.DecodeError, zlib.error) as broken:
        raise PayloadCorruptError(str(broken)) from broken
    if len(operations) != lease.count:
        raise PayloadCorruptError(f"{len(operations)} operations where the lease says {lease.count}")
    return Opened(operations, context)
