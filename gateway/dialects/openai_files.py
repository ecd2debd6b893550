"""OpenAI's files: what an upload may say, the objects, and the result files of a batch (WIRE 4.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.dialects import openai_answer
from gateway.dialects.on_record import File, Order, Part, Record
from gateway.dialects.openai_create import LIFE_S, created, invalid, limit_of, said_in
from gateway.dialects.openai_lines import InputLines, LineRules
from gateway.dialects.port import Page
from gateway.errors import quoted

_LIMIT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class FileSettings:
    """The largest file in bytes, how many a caller may have, how long they live in seconds."""

    bytes_max: int
    files_max: int
    life_s: float


class OpenAIFiles:
    """The vendor's words about files. `line_rules` are those of a batch's input."""

    def __init__(self, settings: FileSettings, line_rules: LineRules) -> None:
        self.bytes_max = settings.bytes_max
        self.files_max = settings.files_max
        self._life_s = settings.life_s
        self._line_rules = line_rules

    def life_s(self, fields: Mapping[str, str]) -> float:
        if fields.get("purpose") != "batch":
            raise invalid(f"purpose is {quoted(fields.get('purpose', ''))}; files here are for batch", "purpose")
        said = fields.get("expires_after[seconds]")
        if said is None:
            return self._life_s
        least, most = LIFE_S
        if fields.get("expires_after[anchor]", "created_at") != "created_at":
            raise invalid("the anchor of expires_after is created_at", "expires_after[anchor]")
        if not said.isascii() or not said.isdecimal() or len(said) > 9 or not least <= int(said) <= most:
            raise invalid(f"expires_after is {least} to {most} seconds", "expires_after[seconds]")
        return min(float(said), self._life_s)

    def lines(self, order: Order) -> InputLines:
        return InputLines(order, created(order.memo).endpoint, self._line_rules)

    def shown(self, file: File) -> Page:
        return openai_answer.page(_object(file))

    def listed(self, files: Sequence[File], query: str) -> Page:
        said = said_in(query)
        limit = limit_of(said, _LIMIT_MAX, _LIMIT_MAX)
        wanted = list(files) if said.get("purpose", "batch") == "batch" else []
        if said.get("order") == "asc":
            wanted.reverse()
        if "after" in said:
            own, _ = openai_answer.own_file_id(said["after"])
            places = [place for place, file in enumerate(wanted, start=1) if file.id == own]
            if not places:
                raise invalid("after is not the id of one of your files", "after")
            wanted = wanted[places[0] :]
        shown = [_object(file) for file in wanted[:limit]]
        return openai_answer.page(openai_answer.listed(shown, has_more=len(wanted) > limit))

    def result(self, record: Record, part: Part) -> File | None:
        if not openai_answer.holds(record, part):
            return None
        name = f"batch_{record.id}_{part}.jsonl"
        expires_s = openai_answer.results_expire_s(record, created(record.memo))
        return File(record.id, name, 0, (record.ended_ms or 0) // 1000, expires_s, part)


def _object(file: File) -> dict[str, Any]:
    return {
        "id": openai_answer.file_id(file.id, file.part),
        "object": "file",
        "bytes": file.size,
        "created_at": file.created_s,
        "filename": file.name,
        "purpose": "batch_output" if file.part else "batch",
        "status": "processed",
        "status_details": None,
        "expires_at": file.expires_s,
    }
