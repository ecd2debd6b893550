"""What every peer on uvloop begins with: enough connections to the upstream, a listener, the line that says where."""

import asyncio
from collections.abc import Callable

_CONNECTIONS = 200


async def serve(
    upstream: str, connection: Callable[[], asyncio.Protocol], caller: Callable[[], asyncio.Protocol]
) -> None:
    """`connection` is one to the upstream, `caller` one of somebody who asks."""
    await connected(upstream, connection)
    server = await asyncio.get_running_loop().create_server(caller, "127.0.0.1", 0)
    say_ready(server)
    await server.serve_forever()


async def connected(upstream: str, connection: Callable[[], asyncio.Protocol]) -> None:
    """Make the connections to the upstream."""
    host, _, port = upstream.removeprefix("http://").partition(":")
    for _ in range(_CONNECTIONS):
        await asyncio.get_running_loop().create_connection(connection, host, int(port))


def say_ready(server: asyncio.Server) -> None:
    """Tell who started this where it listens."""
    print(f"ready traffic=http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
