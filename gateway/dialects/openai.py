"""OpenAI's batches (WIRE 4): each line of an uploaded file is a request, and the results are files again.

What is wrong with the call refuses it. What is wrong with the file does not: the batch is made, and has failed.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from gateway.batch.model import Outcome
from gateway.batch.validation import Rules, wrong_target
from gateway.dialects import openai_answer
from gateway.dialects.on_record import Ask, Order, Part, Record, Verb, Window
from gateway.dialects.openai_create import create_of, invalid, limit_of, memo_of, said_in
from gateway.dialects.openai_files import FileSettings, OpenAIFiles
from gateway.dialects.openai_lines import LineRules
from gateway.dialects.openai_results import line_of
from gateway.dialects.port import Call, Page
from gateway.errors import GatewayError, quoted

_LIMIT, _LIMIT_MAX = 20, 100
_COMPLAINTS_MAX = 100  # of one batch in a list; the batch itself shows all

# What may be asked, by what stands behind the collection's path, its id and the verb, by method.
_Verbs = Mapping[str, Verb]
_OF_BATCHES: _Verbs = {"POST": "create", "GET": "list", "HEAD": "list"}
_OF_BATCH: Mapping[str, _Verbs] = {"": {"GET": "view", "HEAD": "view"}, "cancel": {"POST": "cancel"}}
_OF_FILES: _Verbs = {"POST": "upload", "GET": "files", "HEAD": "files"}
_OF_FILE: Mapping[str, _Verbs] = {
    "": {"GET": "file", "HEAD": "file", "DELETE": "unfile"},
    "content": {"GET": "content", "HEAD": "content"},
}


class OpenAI:
    """Speaks for `batches` and `files` below `base`, which is what clients have as their base URL."""

    name = "openai"
    body_bytes_max = 64 * 1024
    request_id_field = b"X-Request-Id"
    lines_type = b"application/octet-stream"

    def __init__(
        self,
        *,
        base: str,
        lines_max: int,
        file_max: int,
        files_max: int,
        file_life: float,
        depth_max: int,
        nodes_max: int,
        rules: Rules,
    ) -> None:
        self._batches, self._files = f"{base}/batches", f"{base}/files"
        self._rules = rules
        line_rules = LineRules(lines_max, rules.body_bytes_max, depth_max, nodes_max)
        self.files = OpenAIFiles(FileSettings(file_max, files_max, file_life), line_rules)

    def reads(self, call: Call) -> bool:
        return any(call.path == each or call.path.startswith(f"{each}/") for each in (self._batches, self._files))

    def ask(self, call: Call) -> Ask:
        is_of_files = call.path.startswith(self._files)
        root, whole, single = (
            (self._files, _OF_FILES, _OF_FILE) if is_of_files else (self._batches, _OF_BATCHES, _OF_BATCH)
        )
        named, _, what = call.path.removeprefix(root).removeprefix("/").partition("/")
        verbs = single.get(what) if named else whole
        if verbs is None:
            raise GatewayError("not-found", f"nothing stands at {quoted(what)}")
        verb = verbs.get(call.method)
        if verb is None:
            raise GatewayError("method-not-allowed", headers={"Allow": ", ".join(verbs)})
        if verb == "list":
            return Ask(verb, window=_window(call.query))
        if not is_of_files:
            return Ask(verb, openai_answer.own_id(unquote(named)))
        own, part = openai_answer.own_file_id(unquote(named))
        return Ask(verb, own, part=part)

    def parse(self, call: Call) -> Order:
        create = create_of(call.body)
        wrong = wrong_target(create.endpoint, self._rules.own_paths)
        if wrong is not None:
            raise invalid(wrong[1], "endpoint")
        file_id, part = openai_answer.own_file_id(create.input_file_id)
        return Order(file_id="" if part else file_id, memo=memo_of(create), lives_s=float(create.window_s))

    def shown(self, record: Record, origin: str) -> Page:
        return openai_answer.page(openai_answer.batch(record))

    def listed(self, records: Sequence[Record], origin: str, *, has_more: bool) -> Page:
        shown = [openai_answer.batch(record, complaints_max=_COMPLAINTS_MAX) for record in records]
        return openai_answer.page(openai_answer.listed(shown, has_more=has_more))

    def deleted(self, ask: Ask) -> Page:
        return openai_answer.page({"id": openai_answer.file_id(ask.id, ask.part), "object": "file", "deleted": True})

    def line(self, batch_id: str, id_: str, outcome: Outcome, part: Part) -> bytes:
        return line_of(batch_id, id_, outcome, part)

    def refusal(self, error: GatewayError, request_id: str) -> Page:
        return openai_answer.refusal(error)


def _window(query: str) -> Window:
    """Other parameters are ignored. Raises 400."""
    said = said_in(query)
    after = said.get("after")
    own = None if after is None else openai_answer.own_id(after)
    if own == "":
        raise invalid("after is not the id of a batch", "after")
    return Window(limit_of(said, _LIMIT, _LIMIT_MAX), own)
