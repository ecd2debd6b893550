"""The bytes of an operation's request: what it inherits from the outer request, what is its own, its trace. Pure."""

import re
from collections.abc import Sequence

from gateway.batch.idempotency import FIELD
from gateway.batch.model import Fields, Operation
from gateway.upstream.headers import RawFields, inherited, rendered

# version - trace id - parent id - flags (W3C Trace Context, section 3.2); later versions may append more.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_SPANS = 1 << 64
_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})  # even without a body (RFC 9110 8.6)


class Inherited:
    """What the requests of a batch have from the outer one, whose fields are `fields`; `vouched` are the gateway's own.

    `trace` is the outer request's trace id and flags, None where it has none.
    """

    __slots__ = ("fields", "lines", "names", "trace")

    def __init__(self, fields: RawFields, vouched: RawFields, default_host: bytes = b"") -> None:
        self.fields = [*inherited(fields), *vouched]
        if not self.fields or self.fields[0][0].lower() != b"host":  # an HTTP/1.0 caller may have sent none
            self.fields.insert(0, (b"Host", default_host))
        self.lines = rendered(self.fields).decode("latin-1")
        self.names = {name.lower() for name, _ in self.fields} | {b"traceparent", b"x-request-id"}
        self.trace = _trace_of(fields)


class RequestWriter:
    """Writes the requests of one batch; `seed` makes trace and span ids.

    Each operation gets `traceparent` (the outer request's trace, or a new one that is not sampled, with a span of its
    own) and `X-Request-Id: <batch>.<operation>`, unless it brings these fields itself.
    """

    def __init__(self, outer: Inherited, batch_id: str, seed: bytes) -> None:
        self._common, self._names = outer.fields, outer.names
        self._request_id = f"X-Request-Id: {batch_id}."
        trace, self._flags = outer.trace or (seed[:16].hex(), "00")
        self._trace = f"traceparent: 00-{trace}-"
        self._span = int.from_bytes(seed[-8:], "big")
        # What stands around the span's id and the operation's id in nearly every head.
        self._before_span = f" HTTP/1.1\r\n{outer.lines}{self._trace}"
        self._after_span = f"-{self._flags}\r\n{self._request_id}"
        # The fields that an operation brought, and most that follow; their lines; whether they replace inherited ones.
        self._own: tuple[Fields, str, bool] = ((), "", False)

    def write(self, operation: Operation, index: int) -> bytes:
        """The request of the operation at `index`, head and body."""
        method = operation.method
        span = (self._span + index) % _SPANS or 1
        fields = operation.fields
        if fields != self._own[0]:
            replaces = not self._names.isdisjoint([name.lower().encode() for name, _ in fields])
            self._own = fields, "".join([f"{name}: {value}\r\n" for name, value in fields]), replaces
        _, own, replaces = self._own
        if operation.key:
            own = f"{own}{FIELD}: {operation.key}\r\n"
        if replaces:
            start = f"{self._overridden(operation, span)}{own}"
        else:
            before, after = self._before_span, self._after_span
            start = f"{method} {operation.target}{before}{span.to_bytes(8).hex()}{after}{operation.id}\r\n{own}"
        if operation.has_body or method in _WITH_LENGTH:
            return f"{start}Content-Length: {len(operation.body)}\r\n\r\n".encode("latin-1") + operation.body
        return f"{start}\r\n".encode("latin-1")

    def _overridden(self, operation: Operation, span: int) -> str:
        """The start of a head in which the operation's own fields stand in place of inherited ones."""
        own = {name.lower().encode() for name, _ in operation.fields}
        kept = rendered([field for field in self._common if field[0].lower() not in own]).decode("latin-1")
        trace = "" if b"traceparent" in own else f"{self._trace}{span:016x}-{self._flags}\r\n"
        request_id = "" if b"x-request-id" in own else f"{self._request_id}{operation.id}\r\n"
        return f"{operation.method} {operation.target} HTTP/1.1\r\n{kept}{trace}{request_id}"


def _trace_of(fields: RawFields) -> tuple[str, str] | None:
    said: Sequence[bytes] = [value for name, value in fields if name.lower() == b"traceparent"]
    found = _TRACEPARENT.fullmatch(said[0].strip()) if len(said) == 1 else None
    return None if found is None else (found[1].decode(), found[2].decode())
