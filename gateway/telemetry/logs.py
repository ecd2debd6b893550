"""Structured logs on standard error: JSON for machines, aligned text for a terminal (EXPERIENCE 5).

Nothing that a caller sent is logged but what is named here: no bodies, no query strings, no credentials.
"""

import logging
import sys
import time
from typing import Any, TextIO

import msgspec
import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_CAUSES_MAX = 256


def configure(level: str, form: str, stream: TextIO | None = None) -> "structlog.typing.FilteringBoundLogger":
    """The process's logger. `form` is `json`, `pretty` or `auto`: pretty when `stream` is a terminal."""
    out = sys.stderr if stream is None else stream
    pretty = form == "pretty" or (form == "auto" and out.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if pretty
        else structlog.processors.JSONRenderer(lambda fields, **_: msgspec.json.encode(fields).decode())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # its server logs a traceback for each malformed request
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


class Throttle:
    """One line a second for each cause, so that a flood of errors is no flood of lines; the next counts the rest."""

    def __init__(self, every_s: float = 1.0) -> None:
        self._every_s = every_s
        self._last: dict[str, tuple[float, int]] = {}

    def admits(self, cause: str) -> int | None:
        """How many lines of `cause` were left out since the last one, or None if this one is to be left out."""
        now_s = time.monotonic()
        last_s, left_out = self._last.get(cause, (-self._every_s, 0))
        if now_s - last_s < self._every_s:
            self._last[cause] = (last_s, left_out + 1)
            return None
        if len(self._last) >= _CAUSES_MAX:
            self._last.clear()
        self._last[cause] = (now_s, 0)
        return left_out
