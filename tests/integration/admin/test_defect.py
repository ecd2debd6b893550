"""A page of the admin listener that breaks is told to the log, and to its reader as a problem."""

from collections.abc import Iterable

from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from gateway.admin.pages import AdminPages, AdminSettings


class _Broken(Collector):
    def collect(self) -> Iterable[Metric]:
        raise ZeroDivisionError


async def test_a_defect_of_a_page_is_reported_and_answered_as_a_problem() -> None:
    registry, reported = CollectorRegistry(auto_describe=False), list[Exception]()
    registry.register(_Broken())

    async def done() -> tuple[bool, str]:
        return True, ""

    settings = AdminSettings(
        registry, {}, dict, str, dict, done, done, list, reported.append, lambda: "/bulk", lambda: None
    )
    answer = await AdminPages(settings)(make_mocked_request("GET", "/metrics"))

    assert [type(defect) for defect in reported] == [ZeroDivisionError]
    assert answer.status == 500
    assert b'"type":"/bulk/problems/internal-error"' in answer.body
