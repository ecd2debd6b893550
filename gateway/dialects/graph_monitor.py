"""Graph's batches whose callers prefer a later answer (OData Protocol 4.01, 11.6; OData JSON 4.01, 19.7).

The monitor of a batch stands below the `$batch` that it was sent to. It is 202 while the batch runs and then 200 with
the answer, as it is or, for who accepts `application/http`, as the whole message that it would have been.
"""

from collections.abc import Sequence

import msgspec

from gateway.batch.model import Outcome
from gateway.dialects import graph_answer
from gateway.dialects.graph_entries import entry_id
from gateway.dialects.port import Call, Page, Read

_MONITORS = "/monitors/"
_RETRY_AFTER = (b"Retry-After", b"1")
_ASYNC_RESULT = (b"AsyncResult", b"200")
_WHOLE = b"application/http"
_MEMO = msgspec.msgpack.Decoder(graph_answer.Memo)
_ENCODER = msgspec.msgpack.Encoder()


class GraphMonitors:
    """`endings`: how the paths of batches end."""

    def __init__(self, endings: Sequence[str]) -> None:
        self._endings = tuple(endings)

    def asked(self, call: Call) -> str | None:
        batches, mark, id_ = call.path.rpartition(_MONITORS)
        return id_ if mark and batches.endswith(self._endings) else None

    def memo(self, read: Read) -> bytes:
        return _ENCODER.encode(read.memo)

    def accepted(self, call: Call, read: Read, batch_id: str, origin: str) -> Page:
        applied = graph_answer.applied(read.memo, "respond-async")  # type: ignore[arg-type]  # it is Graph's own
        location = f"{origin}{call.path}{_MONITORS}{batch_id}".encode()
        return Page(202, [(b"Location", location), _RETRY_AFTER, *applied], b"")

    def pending(self, call: Call, origin: str) -> Page:
        return Page(202, [(b"Location", f"{origin}{call.path}".encode()), _RETRY_AFTER], b"")

    def answer(self, memo: bytes, accept: str) -> "GraphAnswer":
        ranges = [each.partition(";")[0].strip().lower() for each in accept.split(",")]
        return GraphAnswer(_MEMO.decode(memo), is_whole=_WHOLE.decode() in ranges)


class GraphAnswer:
    """The answer to a batch, entry by entry."""

    def __init__(self, memo: graph_answer.Memo, *, is_whole: bool) -> None:
        self._entries = graph_answer.Entries(memo)
        self._comma = b""
        fields = [graph_answer.JSON_FIELD, *graph_answer.applied(memo)]
        self._head = b""
        if is_whole:
            self._head = b"HTTP/1.1 200 OK\r\n" + b"".join([b"%b: %b\r\n" % field for field in fields]) + b"\r\n"
            fields = [(b"Content-Type", _WHOLE)]
        self.content_type = fields[0][1]
        self.fields: Sequence[tuple[bytes, bytes]] = [_ASYNC_RESULT, *fields[1:]]

    def first(self) -> bytes:
        return self._head + b'{"responses":['

    def piece(self, id_: str, outcome: Outcome) -> bytes:
        return self._written(self._entries.of(entry_id(id_), outcome))

    def last(self) -> bytes:
        return self._written(self._entries.unsent()) + b"]}"

    def _written(self, answered: Sequence[graph_answer.Answered]) -> bytes:
        text = b""
        for each in answered:
            text += self._comma + graph_answer.encoded(each)
            self._comma = b","
        return text
