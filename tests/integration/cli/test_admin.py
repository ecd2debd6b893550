"""The admin listener and the access log (CONTRACT 8, EXPERIENCE 4, 5 and 9)."""

import json
import re
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from tests.fakes.until import until
from tests.integration.cli.conftest import Serve
from tests.integration.cli.process import Process
from tests.integration.server.api import Api, answer
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import ask, get, post, post_batch, request

# What of EXPERIENCE 9 does not depend on a ledger or a breaker.
NAMES = {
    "envelopes": "counter",
    "envelope_operations": "histogram",
    "envelope_duration_seconds": "histogram",
    "overhead_seconds": "histogram",
    "operations": "counter",
    "operation_duration_seconds": "histogram",
    "forwarded_requests": "counter",
    "forwarded_duration_seconds": "histogram",
    "upstream_attempts": "counter",
    "upstream_requests_in_flight": "gauge",
    "upstream_concurrency_limit": "gauge",
    "tokens_taken": "counter",
    "tokens_denied": "counter",
    "event_loop_lag_seconds": "histogram",
    "draining": "gauge",
    "config_last_reload_successful": "gauge",
    "config_last_reload_success_timestamp_seconds": "gauge",
    "build_info": "gauge",
}
LIMIT = json.dumps({"limits": [{"name": "per-caller", "key": "global", "rate": "1/h", "burst": 3}]})
MIXED = [{"method": "GET", "path": "/x"}, {"method": "POST", "path": "/bad"}]


async def test_probes_are_open_whatever_the_host(api: Api) -> None:
    async with gateway(api.url) as running:
        for path in ("/livez", "/healthz", "/startupz", "/readyz"):
            answered = await ask(running.admin_port, request("GET", path, host="10.0.0.1:9207"))
            assert answered.status == 200, path
            assert (await ask(running.admin_port, request("HEAD", path), "HEAD")).status == 200


async def test_verbose_readiness_lists_every_check(api: Api) -> None:
    async with gateway(api.url, replay__store="none") as running:
        short = await get(running.admin_port, "/readyz")
        verbose = await get(running.admin_port, "/readyz?verbose")

    assert short.body == b"ready\n"
    assert verbose.body == b"[+] listening ok\n[+] not draining ok\nready\n"


@pytest.mark.parametrize("path", ["/", "/config", "/info", "/drain"])
@pytest.mark.parametrize(
    "host", ["evil.test", "10.0.0.1:9207", "localhost.evil.test", "127.0.0.1.evil.test:9207", "localhost@evil"]
)
async def test_guarded_pages_refuse_a_host_that_is_not_loopback(api: Api, path: str, host: str) -> None:
    method = "POST" if path == "/drain" else "GET"

    async with gateway(api.url) as running:
        answered = await ask(running.admin_port, request(method, path, host=host))
        ready = await get(running.admin_port, "/readyz")

    assert answered.status in (400, 403)
    assert ready.status == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:9207", "127.0.0.1", "127.0.0.1:1", "[::1]:9207", "[::1]"])
async def test_guarded_pages_are_open_to_loopback_by_a_loopback_name(api: Api, host: str) -> None:
    async with gateway(api.url) as running:
        answered = await ask(running.admin_port, request("GET", "/info", host=host))

    assert answered.status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.test", 403), ("null", 403), ("http://localhost:1", 403), ("http://[", 403),
     ("http://localhost:9207", 200)],
)  # fmt: skip
async def test_a_page_of_another_site_in_a_browser_here_is_not_trusted(api: Api, origin: str, status: int) -> None:
    async with gateway(api.url) as running:
        asked = request("POST", "/reload", (("Origin", origin),), host="localhost:9207")
        answered = await ask(running.admin_port, asked)

    assert answered.status == status


async def test_the_token_opens_guarded_pages_and_a_wrong_one_does_not(api: Api) -> None:
    async with gateway(api.url, json.dumps({"admin": {"token": {"value": "s3cret-token"}}})) as running:
        port = running.admin_port

        async def status(*fields: tuple[str, str]) -> int:
            return (await ask(port, request("GET", "/config", fields, host="evil.test"))).status

        right = await status(("Authorization", "Bearer s3cret-token"))
        wrong = [
            await status(("Authorization", said)) for said in ("Bearer s3cret", "Basic s3cret-token", "Bearer \xe4", "")
        ]
        nothing = await status()

    assert right == 200
    assert [*wrong, nothing] == [403] * 5


async def test_config_is_redacted_and_names_its_sources(api: Api) -> None:
    async with gateway(api.url, json.dumps({"admin": {"token": {"value": "s3cret-token"}}})) as running:
        answered = await local(running.admin_port, "/config")

    assert b"s3cret" not in answered.body
    assert f"url: {api.url}  # flag --upstream".encode() in answered.body
    assert b"# default" in answered.body


async def test_info_tells_version_state_and_digest(api: Api) -> None:
    async with gateway(api.url) as running:
        told = (await local(running.admin_port, "/info")).json()

    assert told["version"]
    assert told["state"] == "serving"
    assert re.fullmatch("[0-9a-f]{12}", told["configDigest"])


async def test_the_index_links_every_page_in_html_and_in_json(api: Api) -> None:
    async with gateway(api.url) as running:
        as_html = await local(running.admin_port, "/", ("Accept", "text/html"))
        as_json = await local(running.admin_port, "/")
        pages = [await local(running.admin_port, link) for link in as_json.json()["links"] if link.startswith("/")]

    assert b'<a href="/metrics">' in as_html.body
    assert as_json.json()["wrongNow"] == []
    assert {page.status for page in pages} == {200}


async def local(port: int, path: str, *fields: tuple[str, str]) -> Any:
    return await ask(port, request("GET", path, fields, host="localhost"))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_drain_is_post_only(api: Api, method: str) -> None:
    async with gateway(api.url) as running:
        answered = await ask(running.admin_port, request(method, "/drain", host="localhost"), method)
        ready = await get(running.admin_port, "/readyz")

    assert (answered.status, answered.header("Allow")) == (405, "POST")
    assert ready.status == 200


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/config"])
async def test_pages_that_change_nothing_take_no_post(api: Api, path: str) -> None:
    async with gateway(api.url) as running:
        answered = await post(running.admin_port, path, b"{}")

    assert (answered.status, answered.header("Allow")) == (405, "GET, HEAD")


async def test_an_unknown_page_is_a_problem_and_never_forwarded(api: Api) -> None:
    async with gateway(api.url) as running:
        answered = await local(running.admin_port, "/batch")

    assert (answered.status, answered.slug) == (404, "not-found")
    assert api.received == []


# Metrics.


async def used(api: Api, port: int) -> None:
    """Some of everything that is counted."""
    api.on("/bad", answer(500))
    await post_batch(port, MIXED)
    await post_batch(port, MIXED)  # denied: one token is left
    await get(port, "/x")
    await post_batch(port, b"{")


async def test_metrics_parse_in_both_formats_and_hold_every_name(api: Api) -> None:
    async with gateway(api.url, LIMIT) as running:
        await used(api, running.port)
        text = await get(running.admin_port, "/metrics")
        opened = await get(running.admin_port, "/metrics", ("Accept", "application/openmetrics-text; version=1.0.0"))

    by_text = {family.name: family for family in families(text.body.decode())}
    opened_families = open_families(opened.body.decode())  # type: ignore[no-untyped-call]  # ships no types
    by_open = {family.name: family for family in opened_families}
    assert (text.header("Content-Type") or "").startswith("text/plain; version=")
    assert (opened.header("Content-Type") or "").startswith("application/openmetrics-text; version=1.0.0")
    assert opened.body.endswith(b"# EOF\n")
    assert {name: by_text[f"batch_gateway_{name}"].type for name in NAMES} == NAMES
    assert by_open.keys() >= {f"batch_gateway_{name}" for name in NAMES}
    assert all(family.documentation for family in by_text.values())
    assert not [name for name in by_text if name.endswith("_created")]


async def test_metrics_count_what_happened(api: Api) -> None:
    async with gateway(api.url, LIMIT) as running:
        await used(api, running.port)
        text = (await get(running.admin_port, "/metrics")).body.decode()

    counted = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families(text)
        for sample in family.samples
    }
    prefix = "batch_gateway_"
    assert counted[f"{prefix}envelopes_total", "native", "sync", "partial"] == 1  # dialect, mode, outcome
    assert counted[f"{prefix}envelopes_total", "native", "sync", "rejected"] == 2
    assert counted[f"{prefix}operations_total", "native", "GET", "ok", "_other"] == 1
    assert counted[f"{prefix}operations_total", "native", "POST", "server_error", "_other"] == 1
    assert counted[f"{prefix}forwarded_requests_total", "2xx", "GET", "_other"] == 1
    assert counted[f"{prefix}tokens_taken_total", "per-caller"] == 3
    assert counted[f"{prefix}upstream_attempts_total", "answered", "_other"] == 2


async def test_refused_tokens_and_refused_lone_requests_are_counted(api: Api) -> None:
    async with gateway(api.url, LIMIT) as running:
        await used(api, running.port)
        await get(running.port, "/x")  # denied too
        text = (await get(running.admin_port, "/metrics")).body.decode()

    assert 'batch_gateway_tokens_denied_total{bucket="per-caller"} 3.0' in text
    assert 'batch_gateway_forwarded_requests_total{code_class="4xx",method="GET",route="_other"} 1.0' in text


async def test_series_stay_few_whatever_clients_send(api: Api) -> None:
    async with gateway(api.url) as running:
        for number in range(300):
            await ask(running.port, request("PURGE", f"/{number}", [("Authorization", str(number))]))
        envelope = [{"id": f"i{number}", "method": "GET", "path": f"/{number}"} for number in range(100)]
        await post_batch(running.port, envelope)
        text = (await get(running.admin_port, "/metrics")).body.decode()

    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) < 500
    assert not re.search(r'"/\d+"|PURGE|"i\d+"', text)


# The access log.


async def lines(process: Process, event: str, count: int) -> list[dict[str, Any]]:
    """The log lines of one event, once there are `count`."""
    found: list[dict[str, Any]] = []

    async def are_written() -> bool:
        found[:] = [line for line in map(json.loads, process.err.splitlines()) if line["event"] == event]
        return len(found) >= count

    await until(are_written)
    return found


async def test_each_envelope_is_one_json_line_without_bodies_queries_or_credentials(api: Api, serve: Serve) -> None:
    process = serve("--upstream", api.url)
    traffic, _ = process.ports()
    canary = [
        ("Authorization", "Bearer canary-a"),
        ("Cookie", "c=canary-b"),
        ("X-Api-Key", "canary-c"),
        ("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
    ]
    body = {"operations": [{"id": "canary-f", "method": "POST", "path": "/x?q=canary-d", "body": "canary-e"}]}

    await post_batch(traffic, body, *canary)
    await ask(traffic, request("GET", "/x?q=canary-g", canary))
    await post_batch(traffic, b'{"canary-h', *canary)
    (batch,), (forwarded,), (refused,) = [await lines(process, event, 1) for event in ("batch", "forwarded", "refused")]

    assert "canary" not in process.err
    assert batch.keys() >= {
        "ts", "level", "event", "batch_id", "dialect", "mode", "caller", "status", "operations_total", "operations_ok",
        "operations_failed", "upstream_s", "overhead_s", "duration_s", "bytes_in", "bytes_out", "attempts", "client_ip",
    }  # fmt: skip
    assert (batch["status"], batch["operations_total"], batch["operations_ok"], batch["attempts"]) == (207, 1, 1, 1)
    assert batch["caller"] == refused["caller"] != "anonymous"
    assert re.fullmatch("[0-9a-f]{9}", batch["caller"])
    assert forwarded.keys() >= {"ts", "level", "event", "route", "method", "status", "client_ip", "duration_s"}
    assert (refused["status"], refused["slug"]) == (400, "invalid-json")


async def test_probes_leave_no_line(api: Api, serve: Serve) -> None:
    process = serve("--upstream", api.url)
    traffic, admin = process.ports()

    for path in ("/livez", "/readyz", "/metrics"):
        await get(admin, path)
    await get(traffic, "/x")
    await lines(process, "forwarded", 1)

    assert len(process.err.splitlines()) == 1


async def test_a_forwarded_request_that_failed_says_why(serve: Serve) -> None:
    process = serve("--upstream", "http://127.0.0.1:1")
    traffic, _ = process.ports()

    await get(traffic, "/x")
    (line,) = await lines(process, "forwarded", 1)

    assert (line["status"], line["slug"]) == (502, "upstream-connect")


async def test_malformed_input_leaves_no_traceback(api: Api, serve: Serve) -> None:
    process = serve("--upstream", api.url)
    traffic, _ = process.ports()

    statuses = [
        (await ask(traffic, data)).status
        for data in (
            b"garbage\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            request("POST", "/batch", [("Content-Type", "application/json")], b"\xff"),
            request("POST", "/batch", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
            + b"zz\r\n",
            request("POST", "/x", [("Transfer-Encoding", "chunked")]) + b"zz\r\n",
        )
    ]
    alive = await get(traffic, "/x")

    assert all(400 <= status < 500 for status in statuses), statuses
    assert alive.status == 200
    assert "Traceback" not in process.err
    assert "never retrieved" not in process.err
