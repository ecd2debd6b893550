"""Forwarded requests, each at its planned time and on a connection of its own: `probing PORT PID`, until told to stop.

Prints how many failed, and what the gateway PID did while each was on its way, in seconds of CPU: others on the machine
do not matter then. A process of its own, for that of the test has much to send.
"""

import asyncio
import json
import sys
import time

from tests.integration.server.wire import get

PER_SECOND = 50


async def probed(port: int, pid: int) -> None:
    clock = (~pid << 3) | 2  # clock_getcpuclockid(3)
    took_s: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        began_s = time.clock_gettime(clock)
        try:
            failed += (await get(port, "/x")).status != 200
        except (OSError, EOFError, TimeoutError):
            failed += 1
        took_s.append(time.clock_gettime(clock) - began_s)

    loop = asyncio.get_running_loop()
    stopped = loop.run_in_executor(None, sys.stdin.read)
    began_s, calls = loop.time(), list[asyncio.Task[None]]()
    while not stopped.done():
        calls.append(loop.create_task(one()))
        await asyncio.wait([stopped], timeout=max(0.0, began_s + len(calls) / PER_SECOND - loop.time()))
    await asyncio.gather(*calls)
    sys.stdout.write(json.dumps({"failed": failed, "took_s": took_s}))


if __name__ == "__main__":
    asyncio.run(probed(int(sys.argv[1]), int(sys.argv[2])))
