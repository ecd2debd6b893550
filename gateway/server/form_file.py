"""A file that a caller uploads as a form: written to the state folder as it comes, a chunk in memory at a time."""

import asyncio

from aiohttp.web import BaseRequest, RequestPayloadError

from gateway.dialects.form import Form, Piece, boundary_of, broken
from gateway.errors import GatewayError
from gateway.ledger.files import CHUNK_BYTES, Files, Writing
from gateway.server.envelope import check_framing
from gateway.server.patience import body_refusal

_FIELDS_MAX = 20
_FIELD_BYTES_MAX = 4096
_AROUND_BYTES = 128 * 1024  # of a form: what is not its file


class FormFile:
    """One form on its way. After `receive`: its `fields`, and its file, which waits to be finished or given up."""

    def __init__(self, files: Files, owner: str, id_: str, bytes_max: int) -> None:
        self.fields: dict[str, str] = {}
        self.name = ""
        self.writing: Writing | None = None
        self._files, self._owner, self._id, self._bytes_max = files, owner, id_, bytes_max
        self._chunk = bytearray()
        self._size = 0
        self._values: dict[str, bytes] = {}

    async def receive(self, request: BaseRequest) -> Writing:
        """Read the whole form. Raises `GatewayError`: 400 for no form, 413 for a large one, 503 for a full disk."""
        form = Form(boundary_of(request.headers.get("Content-Type", "")))
        check_framing(request, self._bytes_max + _AROUND_BYTES)
        read = 0
        try:
            while not request.content.at_eof():
                data = await request.content.readany()
                read += len(data)
                if read > self._bytes_max + _AROUND_BYTES:
                    raise _too_large(self._bytes_max)
                for piece in form.feed(data):
                    await self._take(piece)
        except RequestPayloadError as error:
            raise body_refusal(error) from error
        if not form.is_whole:
            raise broken("the form has no end")
        if self.writing is None:
            raise broken("the form has no file")
        await self._write_out(self.writing)
        self.fields = {name: value.decode("utf-8", "replace") for name, value in self._values.items()}
        return self.writing

    async def give_up(self) -> None:
        """Nothing is left of the file."""
        if self.writing is not None:
            await asyncio.to_thread(self.writing.give_up)

    async def _take(self, piece: Piece) -> None:
        if piece.name != "file":
            self._keep(piece)
            return
        if piece.begins:
            if self.writing is not None:
                raise broken("the form has two files; send one")
            self.name = piece.filename or "upload"
            self.writing = await asyncio.to_thread(self._files.begin, self._owner, self._id)
        self._size += len(piece.data)
        if self._size > self._bytes_max:
            raise _too_large(self._bytes_max)
        self._chunk += piece.data
        while len(self._chunk) >= CHUNK_BYTES and self.writing is not None:
            chunk = bytes(self._chunk[:CHUNK_BYTES])
            del self._chunk[:CHUNK_BYTES]
            await asyncio.to_thread(self.writing.write, chunk)

    async def _write_out(self, writing: Writing) -> None:
        if self._chunk:
            await asyncio.to_thread(writing.write, bytes(self._chunk))
            self._chunk.clear()

    def _keep(self, piece: Piece) -> None:
        """A field of the form, as far as anybody could want to know."""
        value = b"" if piece.begins else self._values.get(piece.name, b"")
        if len(value) + len(piece.data) <= _FIELD_BYTES_MAX and len(self._values) < _FIELDS_MAX:
            self._values[piece.name] = value + piece.data


def _too_large(most: int) -> GatewayError:
    return GatewayError(
        "envelope-too-large", f"a file may have {most} bytes", headers={"X-Limit-Bytes": str(most)}, close=True
    )
