"""Forwarded requests, each at its planned time and on a connection of its own, and the upstream they are for.

Prints the upstream's address; told the port and the process id of a gateway that forwards `/x` to it, sends until its
input ends, and prints how many failed, and what the gateway did while each was on its way, in seconds of CPU: others on
the machine do not matter then. A process of its own, upstream included, for that of the test has much to do.
"""

import asyncio
import json
import sys
import time

from tests.fakes.upstream import ScriptedUpstream
from tests.integration.server.wire import get

PER_SECOND = 50


async def probe(port: int, pid: int) -> None:
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


async def main() -> None:
    async with ScriptedUpstream() as upstream:
        print(f"http://127.0.0.1:{upstream.port}", flush=True)
        port, pid = (await asyncio.to_thread(sys.stdin.readline)).split()
        await probe(int(port), int(pid))


if __name__ == "__main__":
    asyncio.run(main())
