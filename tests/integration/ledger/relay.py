"""A TCP relay in front of a Redis: it resets, swallows, refuses, or stands still at a given script."""

import asyncio
from collections import deque

from hiredis import Reader


class Relay:
    """Relays to `port` of loopback; `swallows` what comes while that is set. `exchanges` are all commands so far, each
    with the first of its answer: words between line ends."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._stops_at = b""
        self._stops_before = False
        self.swallows = False
        self.port = 0
        self.exchanges: list[tuple[bytes, bytes]] = []
        self.stopped = asyncio.Event()
        self.released = asyncio.Event()

    def stop_at(self, script: str, *, before: bool) -> None:
        """Stand still once at the script of this digest: with its request, `before` it runs, or with its answer.

        `stopped` is set then; it goes on when `released` is. An empty digest: do not stop.
        """
        self._stops_at, self._stops_before = script.encode(), before

    async def open(self) -> "Relay":
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._to)
            talk = _Talk()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(reader, far, talk))
                both.create_task(self._answer(far_reader, writer, talk))
        except* OSError:
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, talk: "_Talk") -> None:
        while data := await reader.read(65536):
            talk.ask(data)
            if self._stops_at and self._stops_at in data:
                self._stops_at = b""
                if self._stops_before:
                    await self._stand()
                else:
                    talk.answer_waits = True
            await self._pass(data, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, talk: "_Talk") -> None:
        while data := await reader.read(65536):
            self.exchanges += talk.answered(data)
            if talk.answer_waits:
                talk.answer_waits = False
                await self._stand()
            await self._pass(data, writer)
        writer.close()

    async def _stand(self) -> None:
        self.stopped.set()
        await self.released.wait()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if not self.swallows:
            writer.write(data)
            await writer.drain()


class _Talk:
    """One connection's commands without an answer, and whether what is answered next has to wait."""

    def __init__(self) -> None:
        self._asked: deque[bytes] = deque()
        self._commands, self._answers = Reader(), Reader()
        self.answer_waits = False

    def ask(self, data: bytes) -> None:
        self._commands.feed(data)
        while (command := self._commands.gets()) is not False:
            self._asked.append(_in_lines(command))

    def answered(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The commands whose answers are whole now."""
        found = []
        self._answers.feed(data)
        while (answer := self._answers.gets()) is not False:
            found.append((self._asked.popleft(), _in_lines(answer)))
        return found


def _in_lines(said: object) -> bytes:
    words = said if isinstance(said, list) else [said]
    return b"".join(b"\r\n%b\r\n" % (word if isinstance(word, bytes) else str(word).encode()) for word in words)
