"""Operations and outcomes as bytes: what is sealed into a slice or a part (MessagePack). Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.batch.model import Failure, Operation, Outcome


class Context(msgspec.Struct, frozen=True, gc=False):
    """What the caller's request gives to every operation: its raw fields, the caller, and how the batch is to run."""

    fields: Sequence[tuple[bytes, bytes]]
    identity: str
    ip: str
    scheme: str = "http"
    on_failure: str = "continue"
    trace_seed: bytes = b""
    paid: bool = False  # tokens of all operations were taken when the batch began to run in place
    may_be_ordered: bool = True  # False: no operation waits for another, whatever its texts look like
    fails_from: int = 400  # of the batch's graph, as the next one
    refers: bool = True


class Recorded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An outcome under the id that the caller gave its operation."""

    id: str
    index: int
    status: int
    headers: Mapping[str, str | list[str]] = {}
    body: bytes = b""
    failure: Failure | None = None
    upstream_s: float = 0.0
    attempts: int = 0
    replayed: bool = False

    @classmethod
    def of(cls, id_: str, index: int, outcome: Outcome) -> "Recorded":
        """`index` is the operation's in the batch, where the outcome's may be in a slice."""
        return cls(
            id_,
            index,
            outcome.status,
            outcome.headers,
            outcome.body,
            outcome.failure,
            outcome.upstream_s,
            outcome.attempts,
            outcome.replayed,
        )

    @property
    def outcome(self) -> Outcome:
        return Outcome(
            self.index,
            self.status,
            self.headers,
            self.body,
            self.failure,
            self.upstream_s,
            self.attempts,
            self.replayed,
        )


CONTEXT = "context"
"""What a sealed context is for. The purposes below are what callers' and workers' sides agree on."""

MEMO = "memo"
"""What its dialect wants to know again of a batch; it stands sealed in the label under this name, in base64."""

WHY = "why"
"""Why a batch is refused: in place of its only slice, so that it cannot be run; the label tells."""


FAILS_FROM = "failsFrom"
"""In the label of a batch without references whose operations wait: from which status on they do so in vain."""


def of_operations(slice_: int) -> str:
    """What the sealed operations of a slice are for."""
    return f"operations/{slice_}"


def of_outcomes(slice_: int) -> str:
    """What the sealed outcomes of a part of a slice are for."""
    return f"outcomes/{slice_}"


_encode = msgspec.msgpack.Encoder().encode
_operations = msgspec.msgpack.Decoder(list[Operation])
_outcomes = msgspec.msgpack.Decoder(list[Recorded])
_context = msgspec.msgpack.Decoder(Context)


def operations_to_bytes(operations: Sequence[Operation]) -> bytes:
    return _encode(operations)


def operations_from_bytes(data: bytes) -> list[Operation]:
    """Raises `msgspec.DecodeError` where the bytes are no operations."""
    return _operations.decode(data)


def outcomes_to_bytes(outcomes: Sequence[Recorded]) -> bytes:
    return _encode(outcomes)


def outcomes_from_bytes(data: bytes) -> list[Recorded]:
    """Raises `msgspec.DecodeError` where the bytes are no outcomes."""
    return _outcomes.decode(data)


def context_to_bytes(context: Context) -> bytes:
    return _encode(context)


def context_from_bytes(data: bytes) -> Context:
    """Raises `msgspec.DecodeError` where the bytes are no context."""
    return _context.decode(data)
