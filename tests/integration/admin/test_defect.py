"""A page of the admin listener that breaks is told to the log, and to its reader as a problem."""

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from gateway.admin.pages import AdminPages, AdminSettings
from gateway.server.body import NO_BODY
from gateway.server.connection import CallerConnection
from gateway.server.heads import HeadLimits, Heads
from gateway.server.listening import CallerServer
from gateway.server.patience import Patience
from gateway.server.problem import answer_for
from gateway.server.request import Request


class _Broken(Collector):
    def collect(self) -> Iterable[Metric]:
        raise ZeroDivisionError


def unconnected(pages: AdminPages, head: bytes) -> Request:
    """A request of a caller whom nobody can reach."""
    limits, patience = HeadLimits(1024, 1024, 16, 1024), Patience(1.0, 1, 1.0, 1.0, 1.0)
    server = CallerServer(
        pages,
        lambda error: answer_for(error, base="", request_id=""),
        limits=limits,
        connections_max=1,
        patience=patience,
    )
    return Request(Heads(limits).judged(head), NO_BODY, CallerConnection(server, asyncio.get_running_loop(), patience))


async def test_a_defect_of_a_page_is_reported_and_answered_as_a_problem() -> None:
    registry, reported = CollectorRegistry(auto_describe=False), list[Exception]()
    registry.register(_Broken())

    async def done() -> tuple[bool, str]:
        return True, ""

    settings = AdminSettings(
        registry, {}, dict, str, dict, done, done, list, reported.append, lambda: "/bulk", lambda: None
    )
    pages = AdminPages(settings)

    answer = await pages(unconnected(pages, b"GET /metrics HTTP/1.1\r\nHost: localhost"))

    assert [type(defect) for defect in reported] == [ZeroDivisionError]
    assert answer.status == 500
    assert b'"type":"/bulk/problems/internal-error"' in answer.body
