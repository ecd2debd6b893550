"""Open-loop load: requests leave when planned, and latency counts from the plan, so that a stall cannot hide itself."""

import asyncio
import selectors
from collections import deque

import httptools

from tests.bench.closed_loop import Measure, Sample
from tests.bench.once import prove
from tests.bench.processes import NotMeasuredError
from tests.bench.subjects import UPSTREAM, Stage
from tests.bench.verdict import percentile
from tests.bench.workloads import transparent

RATE_PER_S = 500
CONNECTIONS = 16
FIRST_S = 0.05
LAST_ANSWER_S = 5.0


def added_latency() -> Measure:
    """What the subject adds to the median of a small GET at RATE_PER_S, in ms; the percentiles are with the subject."""

    def measure(stage: Stage, subject: str) -> Sample:
        prove(stage.running(subject).url, transparent())
        direct_ms = latencies_ms(stage.running(UPSTREAM).url, stage.seconds)
        through_ms = latencies_ms(stage.running(subject).url, stage.seconds)
        p50_ms = percentile(through_ms, 50)
        return Sample(p50_ms - percentile(direct_ms, 50), RATE_PER_S, p50_ms, percentile(through_ms, 99))

    return measure


def latencies_ms(url: str, seconds: int) -> list[float]:
    """Send for so many seconds. Only select(2) takes microseconds; epoll would send up to 1 ms late."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(Sender(url, seconds * RATE_PER_S).send_all())


class Sender:
    """A plan of requests over a few connections; one that finds none idle waits, and its wait counts."""

    def __init__(self, url: str, requests: int) -> None:
        self._address = url.removeprefix("http://")
        self._requests = requests
        self._waiting: deque[float] = deque()
        self._idle: list[Connection] = []
        self._latencies_ms: list[float] = []
        self._done = asyncio.Event()

    async def send_all(self) -> list[float]:
        """Open the connections, plan every request, wait for the last answer."""
        loop = asyncio.get_running_loop()
        host, port = self._address.split(":")
        request = f"GET {transparent().path} HTTP/1.1\r\nHost: {self._address}\r\n\r\n".encode()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(lambda: Connection(self, request), host, int(port))
            self._idle.append(connection)
        first_s = loop.time() + FIRST_S
        for i in range(self._requests):
            loop.call_at(first_s + i / RATE_PER_S, self.send, first_s + i / RATE_PER_S)
        try:
            async with asyncio.timeout(FIRST_S + self._requests / RATE_PER_S + LAST_ANSWER_S):
                await self._done.wait()
        except TimeoutError:
            raise NotMeasuredError(f"{len(self._latencies_ms)} of {self._requests} answers came") from None
        for connection in self._idle:
            connection.close()
        return self._latencies_ms

    def send(self, planned_s: float) -> None:
        """Use an idle connection, or queue."""
        if self._idle:
            self._idle.pop().send(planned_s)
        else:
            self._waiting.append(planned_s)

    def answered(self, connection: "Connection", latency_s: float) -> None:
        """Note it; the connection takes the next request, if one waits."""
        self._latencies_ms.append(latency_s * 1000)
        self._idle.append(connection)
        if self._waiting:
            self.send(self._waiting.popleft())
        if len(self._latencies_ms) == self._requests:
            self._done.set()


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, sender: Sender, request: bytes) -> None:
        self._sender = sender
        self._request = request
        self._planned_s = 0.0
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, planned_s: float) -> None:
        """Write the request that was planned for `planned_s`."""
        self._planned_s = planned_s
        self._transport.write(self._request)

    def data_received(self, chunk: bytes) -> None:
        """Feed the parser, which calls on_message_complete."""
        self._parser.feed_data(chunk)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of an answer."""
        if self._parser.get_status_code() == 200:
            self._sender.answered(self, asyncio.get_running_loop().time() - self._planned_s)

    def close(self) -> None:
        """End the connection."""
        self._transport.close()
