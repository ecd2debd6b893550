"""A batch on record, and its results, in the shape in which vendors' dialects are told of them."""

from collections.abc import Sequence

from aiohttp.web import BaseRequest

from gateway.dialects.on_record import OnRecordDialect, Part, Record
from gateway.dialects.port import Page
from gateway.ledger.port import View
from gateway.ledger.segments import Recorded
from gateway.server.answer import Answer
from gateway.server.custody import Custody
from gateway.server.edge import request_id_of
from gateway.server.in_place import ALWAYS, Fields


async def record_of(view: View, custody: Custody) -> Record:
    return Record(
        id=view.id,
        state=view.state,
        total=view.total,
        succeeded=view.succeeded,
        failed=view.failed,
        accepted_ms=view.accepted_ms,
        started_ms=view.started_ms,
        expires_ms=view.expires_ms,
        ended_ms=view.ended_ms,
        kept_until_ms=view.kept_until_ms,
        cancelled_ms=_cancelled_ms(view, int(custody.clock.now_s() * 1000)),
        memo=custody.records.memo(view),
        why=await custody.records.why(view),
    )


def _cancelled_ms(view: View, now_ms: int) -> int | None:
    """The ledger keeps no such time: the latest that it can have been."""
    return {"cancelling": now_ms, "cancelled": view.ended_ms}.get(view.state)


class ResultLines:
    """Results in the dialect's lines: those of one batch that belong to `part`."""

    def __init__(self, dialect: OnRecordDialect, batch_id: str, part: Part) -> None:
        self.content_type = dialect.lines_type
        self._line = dialect.line
        self._batch_id = batch_id
        self._part = part

    def first(self) -> bytes:
        return b""

    def pieces(self, recorded: Sequence[Recorded]) -> bytes:
        return b"".join([self._line(self._batch_id, each.id, each.outcome, self._part) for each in recorded])

    def last(self, next_: int | None) -> bytes:
        return b""


def answered(dialect: OnRecordDialect, request: BaseRequest, page: Page) -> Answer:
    return Answer(page.status, [*page.fields, *fields_of(dialect, request)], page.body)


def fields_of(dialect: OnRecordDialect, request: BaseRequest) -> Fields:
    """What every answer carries."""
    return [(dialect.request_id_field, request_id_of(request).encode()), *ALWAYS]
