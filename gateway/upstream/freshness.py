"""Whether an idle connection may be used again: the keep-alive race, in which a server closes as we send."""

import select

from gateway.upstream.http1 import Connection

ASK_AFTER_IDLE_S = 0.25  # asking costs a system call; a server's idle timeout is never this short


class Freshness:
    """Connections idle for longer than `idle_timeout_s`, or than their server announced, are not used.

    One that has been idle for a while is first asked for a waiting FIN or stray bytes.
    """

    def __init__(self, idle_timeout_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._poll = select.poll()

    def holds(self, connection: Connection, now_s: float) -> bool:
        idle_s = now_s - connection.idle_since_s
        if not connection.is_reusable or idle_s > self.idle_max_s(connection):
            return False
        return idle_s < ASK_AFTER_IDLE_S or self._is_silent(connection)

    def idle_max_s(self, connection: Connection) -> float:
        announced_s = connection.idle_max_s
        limit_s = self._idle_timeout_s
        return limit_s if announced_s is None else min(limit_s, max(announced_s - 1.0, 0.0))

    def _is_silent(self, connection: Connection) -> bool:
        """No FIN and no stray byte waits to be read: the loop may not have come round to it yet."""
        socket = connection.get_extra_info("socket")
        if socket is None:
            return False
        self._poll.register(socket.fileno(), select.POLLIN | select.POLLHUP)
        try:
            return not self._poll.poll(0)
        finally:
            self._poll.unregister(socket.fileno())
