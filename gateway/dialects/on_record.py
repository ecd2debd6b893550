"""What a dialect is whose batches are put on record, and answered when they are asked about."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from gateway.batch.model import Batch, Outcome
from gateway.batch.states import State
from gateway.dialects.port import Call, Page
from gateway.errors import GatewayError

Verb = Literal["create", "list", "view", "results", "cancel", "delete", "upload", "files", "file", "content", "unfile"]
Part = Literal["", "output", "errors"]


class Window(NamedTuple):
    """A page of a list: at most `limit` batches, behind `after` or right before `before`, by the gateway's own ids."""

    limit: int
    after: str | None = None
    before: str | None = None


class Ask(NamedTuple):
    """What a call asks of batches on record, or of files. `id` is the gateway's own, of a batch or an uploaded file; ""
    where the vendor's is none of its. `part` names one of the two result files of a batch, whose `id` it then is.
    """

    verb: Verb
    id: str = ""
    window: Window = Window(0)
    part: Part = ""


class Order(NamedTuple):
    """What a `create` asks for: a batch; or the lines of a file of the caller's; or, where those are no batch, `why`.

    `memo` is what the dialect wants to know again, kept sealed. `lives_s` is how long the batch lives at most.
    """

    batch: Batch | None = None
    file_id: str | None = None
    why: bytes = b""
    memo: bytes = b""
    lives_s: float = math.inf


class Record(NamedTuple):
    """A batch on record as it stands; times in milliseconds since 1970.

    What has no outcome in a batch that has ended is in its state's own words. By `cancelled_ms` the caller had
    cancelled. `memo` and `why` are those of its order.
    """

    id: str
    state: State
    total: int
    succeeded: int
    failed: int
    accepted_ms: int
    started_ms: int | None
    expires_ms: int
    ended_ms: int | None
    kept_until_ms: int | None
    cancelled_ms: int | None
    memo: bytes = b""
    why: bytes = b""


class File(NamedTuple):
    """A caller's file. Times in whole seconds since 1970. `part` of a batch's result file: `id` is the batch's."""

    id: str
    name: str
    size: int
    created_s: int
    expires_s: int
    part: Part = ""


class Lines(Protocol):
    """Reads an order's file as it comes."""

    is_over: bool
    """Nothing further is read."""

    def feed(self, data: bytes) -> None:
        """More of the file."""

    def end(self, complaint: str = "") -> Order:
        """The order, now with a batch or with `why` there is none; `complaint` where the file cannot be read on."""


class FileDialect(Protocol):
    """What a dialect has to say of files. A file holds at most `bytes_max`, a caller has at most `files_max`."""

    bytes_max: int
    files_max: int

    def life_s(self, fields: Mapping[str, str]) -> float:
        """How long an upload is kept, by the fields of its form. Raises `EnvelopeError`."""

    def lines(self, order: Order) -> Lines:
        """Reads the file of an order."""

    def shown(self, file: File) -> Page:
        """The answer to `upload` and `file`."""

    def listed(self, files: Sequence[File], query: str) -> Page:
        """The answer to `files`: of all uploads, newest first, those that were asked for. Raises `EnvelopeError`."""

    def result(self, record: Record, part: Part) -> File | None:
        """A result file of a batch but for its size; None where it has none."""


class OnRecordDialect(Protocol):
    """A vendor's format for batches that are answered later. Made once from values; keeps nothing between calls.

    `body_bytes_max` bounds what a `create` may send. `request_id_field` is the name under which the vendor's answers
    carry their id, `lines_type` the media type of results. `origin` is the scheme and host by which the caller reached
    the gateway.
    """

    name: str
    body_bytes_max: int
    request_id_field: bytes
    lines_type: bytes

    @property
    def files(self) -> FileDialect | None:
        """None where batches are not made of files."""

    def reads(self, call: Call) -> bool:
        """Whether the call is about this dialect's batches or files; what is not passes through. Looks at no body."""

    def ask(self, call: Call) -> Ask:
        """Which of the calls it is. Raises `GatewayError` where the vendor has none such. Looks at no body."""

    def parse(self, call: Call) -> Order:
        """The body of a `create`. Raises `EnvelopeError` and nothing else, whatever the bytes."""

    def shown(self, record: Record, origin: str) -> Page:
        """The answer to `create`, `view` and `cancel`."""

    def listed(self, records: Sequence[Record], origin: str, *, has_more: bool) -> Page:
        """The answer to `list`, newest first."""

    def deleted(self, ask: Ask) -> Page:
        """The answer to `delete` and `unfile`."""

    def line(self, batch_id: str, id_: str, outcome: Outcome, part: Part) -> bytes:
        """One line of the results, its end included; nothing where it does not belong to this part."""

    def refusal(self, error: GatewayError, request_id: str) -> Page:
        """Every refusal, in the vendor's own shape."""
