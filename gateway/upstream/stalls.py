"""Answers that their callers do not read. Each holds a connection once the gateway's own buffer is full. Pure.

They may keep what nobody else needs. Where connections run short they may keep their share, and those that have stood
still for longest are ended.
"""

from collections.abc import Iterable

from gateway.upstream.exchange import Exchange

STALLED_S = 0.25  # shorter is a caller's round trip, or a full buffer of its kernel
_SHORT = 5  # connections run short when fewer than one in five is free


def to_end(
    exchanges: Iterable[Exchange], now_s: float, *, free: int, connections_max: int, streams_max: int
) -> list[Exchange]:
    """Which of `exchanges` to end, now that `free` connections are free or could be opened."""
    lacking = max(1, connections_max // _SHORT) - free
    if lacking <= 0:
        return []
    stalled = [exchange for exchange in exchanges if exchange.stalled_at_s <= now_s - STALLED_S]
    stalled.sort(key=_stalled_at_s)
    return stalled[: max(0, min(lacking, len(stalled) - streams_max))]


def _stalled_at_s(exchange: Exchange) -> float:
    return exchange.stalled_at_s
