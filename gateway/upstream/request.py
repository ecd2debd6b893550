"""The bytes of an operation's request: what it inherits from the outer request, what is its own, its trace. Pure."""

import re
from collections.abc import Sequence

from gateway.batch.model import Operation
from gateway.upstream.headers import RawFields, inherited, rendered

# version - trace id - parent id - flags (W3C Trace Context, section 3.2); later versions may append more.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_SPANS = 1 << 64


class RequestWriter:
    """Writes the requests of one batch. `vouched` are the gateway's own fields; `seed` makes trace and span ids.

    Each operation gets `traceparent` (the outer request's trace, or a new one that is not sampled, with a span of its
    own) and `X-Request-Id: <batch>.<operation>`, unless it brings these fields itself.
    """

    def __init__(self, fields: RawFields, vouched: RawFields, batch_id: str, seed: bytes) -> None:
        own = [*inherited(fields), *vouched]
        self._common = own
        self._lines = rendered(own).decode("latin-1")
        self._names = {name.lower() for name, _ in own} | {b"traceparent", b"x-request-id"}
        self._batch_id = batch_id
        self._trace, self._flags = _trace_of(fields, seed)
        self._span = int.from_bytes(seed[-8:], "big")

    def write(self, operation: Operation, index: int) -> bytes:
        """The request of the operation at `index`, head and body."""
        span = (self._span + index) % _SPANS or 1
        trace = f"traceparent: 00-{self._trace}-{span:016x}-{self._flags}\r\n"
        request_id = f"X-Request-Id: {self._batch_id}.{operation.id}\r\n"
        common = self._lines
        own = ""
        if operation.fields:
            overridden = {name.lower().encode() for name, _ in operation.fields} & self._names
            if overridden:
                kept = [field for field in self._common if field[0].lower() not in overridden]
                common = rendered(kept).decode("latin-1")
                trace = "" if b"traceparent" in overridden else trace
                request_id = "" if b"x-request-id" in overridden else request_id
            own = "".join([f"{name}: {value}\r\n" for name, value in operation.fields])
        if operation.has_body or operation.method in ("POST", "PUT", "PATCH"):  # RFC 9110 8.6
            own += f"Content-Length: {len(operation.body)}\r\n"
        head = f"{operation.method} {operation.target} HTTP/1.1\r\n{common}{trace}{request_id}{own}\r\n"
        return head.encode("latin-1") + operation.body


def _trace_of(fields: RawFields, seed: bytes) -> tuple[str, str]:
    said: Sequence[bytes] = [value for name, value in fields if name.lower() == b"traceparent"]
    found = _TRACEPARENT.fullmatch(said[0].strip()) if len(said) == 1 else None
    if found is None:
        return seed[:16].hex(), "00"
    return found[1].decode(), found[2].decode()
