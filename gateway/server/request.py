"""One request of a caller, as every room behind the front door sees it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from gateway.server.body import NO_BODY, Body
from gateway.server.heads import Head
from gateway.upstream.headers import RawFields

if TYPE_CHECKING:
    import asyncio

    from gateway.server.connection import CallerConnection


class Request:
    """`target` is as it came, `headers` finds fields by name. `upgrades`: the caller wants WebSocket next."""

    __slots__ = ("connection", "content", "headers", "keep_alive", "method", "target", "upgrades", "version")

    def __init__(self, head: Head, content: Body, connection: "CallerConnection") -> None:
        self.method, self.target, self.version, self.headers, _, self.keep_alive, self.upgrades = head
        self.content = content
        self.connection = connection

    @property
    def fields(self) -> RawFields:
        """Names and values in their order, as they came."""
        return self.headers.fields

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query_string(self) -> str:
        return self.target.partition("?")[2]

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query; of one that stands twice, the first."""
        return dict(reversed(parse_qsl(self.query_string, keep_blank_values=True)))

    def parameters(self, name: str) -> list[str]:
        """The values of all parameters of that name."""
        return [value for own, value in parse_qsl(self.query_string, keep_blank_values=True) if own == name]

    @property
    def has_body(self) -> bool:
        return self.content is not NO_BODY

    @property
    def remote(self) -> str:
        """The peer's address; empty where it has none."""
        return self.connection.peer

    @property
    def transport(self) -> "asyncio.Transport | None":
        """None once the caller is gone."""
        return self.connection.transport
