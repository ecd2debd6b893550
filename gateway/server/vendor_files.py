"""Callers' files in a vendor's words: uploads, which batches are made of, and the results of batches.

An upload lies sealed beside the ledger. A result file is written from the batch's outcomes when it is asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

from aiohttp.web import BaseRequest

from gateway.dialects.on_record import Ask, File, FileDialect, Lines, OnRecordDialect, Order, Part, Verb
from gateway.errors import GatewayError
from gateway.ledger.files import Files, StoredFile
from gateway.ledger.port import View
from gateway.ledger.seal import PayloadCorruptError
from gateway.server import results
from gateway.server.answer import Answer
from gateway.server.chunks import Chunks
from gateway.server.custody import Custody
from gateway.server.form_file import FormFile
from gateway.server.vendor_record import ResultLines, answered, fields_of, record_of

IsLast = Callable[[], bool]

_SIZES_MAX = 4096  # of result files whose size is remembered


class VendorFiles:
    """The calls about files of one dialect; `speech` is what it has to say of them."""

    def __init__(self, dialect: OnRecordDialect, speech: FileDialect, files: Files, custody: Custody) -> None:
        self._dialect = dialect
        self._speech = speech
        self._files = files
        self._custody = custody
        self._sizes: dict[tuple[str, Part], int] = {}
        self.calls: Mapping[Verb, Callable[[BaseRequest, Ask, IsLast], Awaitable[Answer]]] = {
            "upload": self._upload,
            "files": self._list,
            "file": self._view,
            "content": self._content,
            "unfile": self._delete,
        }

    async def filled(self, request: BaseRequest, order: Order) -> Order:
        """The order with what its file asks for. Raises 404 where the caller has no such file."""
        owner = self._custody.owner_of(request)
        file = await self._find(owner, order.file_id or "")
        return await asyncio.to_thread(_read, self._files.read(owner, file), self._speech.lines(order))

    async def _upload(self, request: BaseRequest, _: Ask, __: IsLast) -> Answer:
        """The file, once it is durable."""
        files, owner, speech = self._files, self._custody.owner_of(request), self._speech
        if await asyncio.to_thread(files.count, owner) >= speech.files_max:
            raise GatewayError("validation-failed", f"you have {speech.files_max} files; delete some", status=400)
        form = FormFile(files, owner, self._custody.new_id(owner), speech.bytes_max)
        try:
            writing = await form.receive(request)
            life_s = speech.life_s(form.fields)
            created_s = int(self._custody.clock.now_s())
            stored = await asyncio.to_thread(writing.finish, form.name, created_s, int(created_s + life_s))
        except BaseException:
            await form.give_up()
            raise
        return answered(self._dialect, request, speech.shown(_file(stored)))

    async def _list(self, request: BaseRequest, _: Ask, __: IsLast) -> Answer:
        owner, now_s = self._custody.owner_of(request), self._custody.clock.now_s()
        found = await asyncio.to_thread(self._files.browse, owner, now_s)
        page = self._speech.listed([_file(each) for each in found], request.raw_path.partition("?")[2])
        return answered(self._dialect, request, page)

    async def _view(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        if ask.part:
            view, file = await self._result(request, ask)
            file = file._replace(size=await self._size(view, ask.part))
        else:
            file = _file(await self._find(self._custody.owner_of(request), ask.id))
        return answered(self._dialect, request, self._speech.shown(file))

    async def _content(self, request: BaseRequest, ask: Ask, is_last: IsLast) -> Answer:
        """The file's bytes, streamed."""
        fields = fields_of(self._dialect, request)
        if ask.part:
            view = (await self._result(request, ask))[0]
            page, form = results.Page(0, view.total), ResultLines(self._dialect, view.id, ask.part)
            records = self._custody.records
            return await results.stream(request, view, records, form, page, fields, keep_alive=not is_last())
        owner = self._custody.owner_of(request)
        chunks = self._files.read(owner, await self._find(owner, ask.id))
        head = [*fields, (b"Content-Type", self._dialect.lines_type)]
        return await _send(request, chunks, head, keep_alive=not is_last())

    async def _delete(self, request: BaseRequest, ask: Ask, _: IsLast) -> Answer:
        """The file is gone; a batch that was made of it, or that it holds the results of, is not touched."""
        owner = self._custody.owner_of(request)
        if ask.part:
            view = (await self._result(request, ask))[0]
            await asyncio.to_thread(self._files.mark, owner, view.id, ask.part)
        else:
            file = await self._find(owner, ask.id)
            await asyncio.to_thread(self._files.delete, owner, file.id)
        return answered(self._dialect, request, self._dialect.deleted(ask))

    async def _find(self, owner: str, id_: str) -> StoredFile:
        """An upload. Raises 404, also for what is another's."""
        file = await asyncio.to_thread(self._files.find, owner, id_, self._custody.clock.now_s())
        if file is None:
            raise _no_such_file()
        return file

    async def _result(self, request: BaseRequest, ask: Ask) -> tuple[View, File]:
        """A result file but for its size, and its batch. Raises 404 where the batch has no such file, or it is gone."""
        view = await self._custody.find(request, ask.id, dialect=self._dialect.name)
        record = await record_of(view, self._custody)
        file = self._speech.result(record, ask.part)
        is_deleted = await asyncio.to_thread(self._files.is_marked, view.owner, view.id, ask.part)
        if file is None or is_deleted or file.expires_s <= self._custody.clock.now_s():
            raise _no_such_file()
        return view, file

    async def _size(self, view: View, part: Part) -> int:
        """Of a result file; it is written to be counted, and that once."""
        if (view.id, part) not in self._sizes:
            form, size = ResultLines(self._dialect, view.id, part), 0
            async for outcomes in self._custody.records.outcomes(view, first=0, most=view.total):
                size += len(form.pieces(outcomes))
            while len(self._sizes) >= _SIZES_MAX:
                del self._sizes[next(iter(self._sizes))]
            self._sizes[view.id, part] = size
        return self._sizes[view.id, part]


def _read(chunks: Iterator[bytes], lines: Lines) -> Order:
    """For a thread."""
    try:
        for chunk in chunks:
            lines.feed(chunk)
            if lines.is_over:
                break
    except PayloadCorruptError:
        return lines.end("The input file is damaged; upload it again.")
    return lines.end()


async def _send(
    request: BaseRequest, chunks: Iterator[bytes], head: list[tuple[bytes, bytes]], *, keep_alive: bool
) -> Answer:
    pieces = _in_threads(chunks)
    try:
        first = await anext(pieces, b"")  # what cannot be read at all is an error, not a broken body
    except PayloadCorruptError:
        raise GatewayError("payload-corrupt", "the file is damaged; upload it again") from None
    body = Chunks(request)
    await body.begin(200, head, keep_alive=keep_alive)
    if request.method == "HEAD":
        return Answer.already_written(200, keep_alive=False)
    try:
        await body.piece(first)
        async for piece in pieces:
            await body.piece(piece)
    except (GatewayError, PayloadCorruptError):
        return body.break_off(200)
    return await body.end(200)


async def _in_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


def _file(stored: StoredFile) -> File:
    return File(stored.id, stored.name, stored.size, stored.created_s, stored.expires_s)


def _no_such_file() -> GatewayError:
    return GatewayError("not-found", "you have no such file, or its time is up")
