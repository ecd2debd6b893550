"""Coroutines that are stepped by hand: when they become tasks, and that nothing is lost when they do."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.batch.model import Failure
from gateway.server.steps import Steps, in_task
from gateway.upstream.stream import StreamedExchange, UpstreamError
from tests.fakes.until import PATIENCE_S


class _Stepped:
    """Steps outside of any task, as the loop's callbacks are; `ends` gathers what coroutines returned."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ends: list[bool] = []
        self.steps = Steps(self.loop, self._ended)
        self._more = asyncio.Event()

    def _ended(self, lives_on: bool) -> None:
        self.ends.append(lives_on)
        self._more.set()

    async def do(self, what: Callable[[], None]) -> None:
        """Call `what` from the loop, and return when it did."""
        done = asyncio.Event()
        self.loop.call_soon(what)
        self.loop.call_soon(done.set)
        await done.wait()

    async def run(self, work: Coroutine[Any, Any, bool]) -> None:
        await self.do(lambda: self.steps.run(work))

    async def end(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            await self._more.wait()
        return self.ends[-1]


def _exchange() -> StreamedExchange:
    loop = asyncio.get_running_loop()
    return StreamedExchange(method="GET", request=b"", deadline_s=0.0, repeatable=True, loop=loop)


async def test_what_waits_for_nothing_ends_at_once_and_never_is_a_task() -> None:
    stepped, tasks = _Stepped(), list[object]()

    async def work() -> bool:
        tasks.append(asyncio.current_task())
        return True

    await stepped.run(work())

    assert (stepped.ends, tasks, stepped.steps.task) == ([True], [None], None)


async def test_a_whole_answer_resumes_what_waits_for_it_in_the_same_turn_and_without_a_task() -> None:
    stepped, exchange, seen = _Stepped(), _exchange(), list[object]()

    async def work() -> bool:
        await exchange.arrival()
        seen.extend([exchange.ended, asyncio.current_task(), *exchange.taken()])
        return False

    def answered() -> None:
        exchange.on_whole(b"{}", b"")
        exchange.on_end()
        seen.append("back")

    await stepped.run(work())
    await stepped.do(answered)

    assert (seen, stepped.ends) == ([True, None, b"{}", "back"], [False])


async def test_an_answer_in_parts_resumes_in_a_turn_of_its_own_for_the_parser_still_runs() -> None:
    stepped, exchange, seen = _Stepped(), _exchange(), list[object]()

    async def work() -> bool:
        while not exchange.ended:
            await exchange.arrival()
            seen.extend(exchange.taken())
        return True

    def begun() -> None:
        exchange.on_head()
        exchange.on_data(b"a")
        seen.append("back")

    await stepped.run(work())
    await stepped.do(begun)
    await stepped.do(lambda: exchange.on_data(b"b") and None)
    await stepped.do(lambda: exchange.on_end())

    assert await stepped.end()
    assert seen == ["back", b"a", b"b"]


async def test_a_failure_is_raised_where_it_was_waited_for() -> None:
    stepped, exchange, seen = _Stepped(), _exchange(), list[int]()

    async def work() -> bool:
        try:
            await exchange.arrival()
        except UpstreamError as error:
            seen.append(error.status)
        return True

    await stepped.run(work())
    await stepped.do(lambda: exchange.on_give_up(502, _failure()))

    assert await stepped.end()
    assert seen == [502]


def _failure() -> Failure:
    return Failure("upstream-unavailable", "it is gone")


async def test_what_waits_for_anything_else_goes_on_as_a_task_from_where_it_stands() -> None:
    stepped, exchange, seen = _Stepped(), _exchange(), list[object]()
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> bool:
        seen.append(asyncio.current_task())
        seen.append(await future)
        seen.append(asyncio.current_task() is stepped.steps.task is not None)
        await exchange.arrival()
        return True

    await stepped.run(work())
    future.set_result("told")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await stepped.do(lambda: exchange.on_end())

    assert await stepped.end()
    assert (seen, stepped.steps.task) == ([None, "told", True], None)


async def test_a_timeout_works_behind_in_task() -> None:
    stepped = _Stepped()

    async def work() -> bool:
        await in_task()
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return True
        return False

    await stepped.run(work())

    assert await stepped.end()


async def test_whoever_is_cancelled_cleans_up_whether_a_task_or_not() -> None:
    for waits_in_task in (False, True):
        stepped, exchange, seen = _Stepped(), _exchange(), list[str]()

        async def work(
            exchange: StreamedExchange = exchange, seen: list[str] = seen, waits_in_task: bool = waits_in_task
        ) -> bool:
            if waits_in_task:
                await in_task()
            try:
                await exchange.arrival()
            finally:
                seen.append("cleaned up")
            return True

        await stepped.run(work())
        await asyncio.sleep(0)
        await stepped.do(stepped.steps.cancel)
        await asyncio.sleep(0)
        await stepped.do(lambda exchange=exchange: exchange.on_end())  # type: ignore[misc]

        assert (seen, stepped.ends) == (["cleaned up"], [])


async def test_cleaning_up_may_take_its_time() -> None:
    stepped, exchange, seen = _Stepped(), _exchange(), list[str]()

    async def work() -> bool:
        try:
            await exchange.arrival()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")
        return True

    await stepped.run(work())
    await stepped.do(stepped.steps.cancel)
    task = stepped.steps.task
    assert task is not None
    await asyncio.wait([task])

    assert (seen, stepped.ends, task.cancelled()) == (["cleaned up"], [], True)
