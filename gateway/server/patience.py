"""How long a caller may be slow: with a head, with a body, and with reading the answer (PROMISES P9).

Slack is what a caller has left. Each second costs one; each `rate_bytes_min` bytes that moved give one back, up to the
grace. So a stall ends after the grace, a drip soon after it, and whoever keeps the rate is never cut off.
"""

import fcntl
import socket
import struct
import sys
from asyncio import Transport
from dataclasses import dataclass

from aiohttp.web import RequestPayloadError

from gateway.errors import GatewayError

_SIOCOUTQ = 0x5411  # Linux, tcp(7): bytes that the other side has not acknowledged
_UNSENT_BYTES_MAX = 256 * 1024  # of one connection in the kernel, which would take megabytes; a window is extra
_NO_LINGER = struct.pack("ii", 1, 0)
_LOOK_S_MAX = 0.25  # a stall is noticed at one look and ended at another: within a second of its limit, with room


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds, rates in bytes a second. `stream_idle_s` 0: a stream may be silent for ever."""

    head_s: float
    rate_bytes_min: int
    grace_s: float
    stream_idle_s: float

    @property
    def look_s(self) -> float:
        """How often to look at every connection."""
        limits_s = (self.head_s, self.grace_s, self.stream_idle_s or self.grace_s)
        return min(_LOOK_S_MAX, min(limits_s) / 4)


class Slack:
    """What one direction of one exchange has left."""

    __slots__ = ("_left_s", "_patience", "_seen_bytes")

    def __init__(self, patience: Patience, seen_bytes: int) -> None:
        self._patience = patience
        self._left_s = patience.grace_s
        self._seen_bytes = seen_bytes

    def is_gone(self, passed_s: float, seen_bytes: int) -> bool:
        """Whether none is left, now that `seen_bytes` moved in all and `passed_s` passed since the last call."""
        earned_s = (seen_bytes - self._seen_bytes) / self._patience.rate_bytes_min
        self._seen_bytes = seen_bytes
        self._left_s = min(self._patience.grace_s, self._left_s - passed_s + earned_s)
        return self._left_s <= 0


def unread_bytes(transport: Transport) -> int:
    """How much of what was written waits to be read, in our buffer and the kernel's; 0 while ours is empty.

    The kernel lets us write on only when a third of its megabytes is free: a slow reader's progress shows in there.
    """
    ours = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if not ours or sock is None or sys.platform != "linux":
        return ours
    return ours + int.from_bytes(fcntl.ioctl(sock.fileno(), _SIOCOUTQ, bytes(4)), sys.byteorder)


def hold_little(listening: socket.socket) -> None:
    """Let the kernel keep little of what the callers of this listener do not read; connections inherit it."""
    if sys.platform == "linux":
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)


def cut_off(transport: Transport) -> None:
    """Reset the connection; a mere close would leave what is unread in the kernel, waiting for a window."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class BodyLateError(RequestPayloadError):
    """The request's body came too slowly."""


def body_refusal(broken: RequestPayloadError) -> GatewayError:
    """The problem behind a body that could not be read to its end."""
    if isinstance(broken, BodyLateError):
        return GatewayError("request-timeout", "the body came too slowly", close=True)
    return GatewayError("malformed-http", "the body's framing is broken", close=True)
