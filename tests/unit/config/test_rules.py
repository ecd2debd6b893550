"""Settings that are right alone and wrong together."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Loaded

Read = Callable[..., Loaded]
Refused = Callable[..., list[str]]

_UPSTREAM = "upstream: {url: http://a}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("admin: {port: 8207}", "2:15: admin.port: listen.port is 8207 as well; choose another"),
        ("listen: {port: 9207}", "2:16: admin.port: listen.port is 9207 as well; choose another"),
        ("listen: {line_max: 1MiB}", "2:20: listen.line_max: is above head_max, the limit of the whole head"),
        ("listen: {head_max: 9KiB}", "2:20: listen.field_max: is above head_max, the limit of the whole head"),
        ("batch: {sync_operations_max: 1001}", "2:30: batch.sync_operations_max: 1001 is above operations_max (1000)"),
        ("batch: {operations_max: 50}", "2:25: batch.sync_operations_max: 100 is above operations_max (50)"),
        ("batch: {body_max: 1KiB}", "2:19: batch.operation_body_max: is above body_max, the limit of the whole"
                                     " envelope"),
        ("limiter: {url: 'redis://r'}\nlimits: [{name: a, key: global, rate: 999999937/h}]",
         "3:39: limits[0].rate: Redis cannot count it exactly; round it, such as 999999000/h, or give it per s or min"),
        ("async: {ledger: 'redis://r'}",
         "2:17: async.key: a ledger in Redis needs it, the same for all replicas: {fromEnv: BATCH_KEY} or"
         " {fromFile: PATH}; `openssl rand -base64 32` makes a good one"),
        ("async: {worker: false}",
         "2:17: async.worker: false needs a ledger in Redis: nobody else can work off this one"),
        ("async: {ledger: 'redis://r', key: {value: 0123456789abcdef}}\nreplay: {store: 'sqlite:/keys.db'}",
         "3:17: replay.store: keeps keys of one process, but whoever shares the ledger runs its batches; leave it out,"
         " and they are kept in the ledger's Redis"),
        ("replay: {store: 'redis://r'}", "2:17: replay.store: needs async.key, the same in every replica: keys are"
                                         " named and sealed with it"),
        ("identity: {client_cert: {}}", "2:25: identity.client_cert: needs listen.trusted_proxies: nobody"
                                        " else's word about a certificate counts"),
        ("identity: {jwt: {issuer: i, audience: [a]}}", "2:17: identity.jwt: give either keys_url or keys_file"),
        ("identity: {jwt: {issuer: i, audience: [a], keys_file: /no/such.json}}",
         "2:55: identity.jwt.keys_file: no such file"),
        ("identity: {jwt: {issuer: i, audience: [], keys_url: https://a}}",
         "2:39: identity.jwt.audience: must name at least one"),
        ("identity: {jwt: {issuer: i, audience: [a], keys_url: 'https://u:p@a'}}",
         "2:54: identity.jwt.keys_url: must be a URL such as https://idp.example/.well-known/jwks.json, without a"
         " password"),
        ("dialects: {anthropic: {path: /batch}}",
         "2:30: dialects.anthropic.path: /batch is batch.path as well, and both read JSON there; choose another"),
        ("batch: {path: /$batch}\ndialects: {graph: {}}", "2:15: dialects.graph.path: /$batch is batch.path as well,"
                                                          " and both read JSON there; choose another"),
        ("dialects: {anthropic: {path: /a}, graph: {path: /a}}",
         "2:49: dialects.graph.path: /a is dialects.anthropic.path as well, and both read JSON there; choose another"),
        ("upstreams: {default: {url: http://a}}",
         "2:12: upstreams: give either upstream or upstreams; move the single one to upstreams.default"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_reported_where_one_was_given(refused: Refused, text: str, line: str) -> None:
    assert refused(_UPSTREAM + text) == [f"<stdin>:{line}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("upstreams: {b: {url: http://b}}",
         "1:12: upstreams: needs an entry default, for what no route sends elsewhere"),
        ("upstream: {url: http://a, tls: {server_name: b}}", "1:32: upstream.tls: needs an upstream url with https://"),
        ("upstream: {url: https://a, tls: {client_cert: /dev/null/x}}",
         "1:47: upstream.tls.client_cert: needs client_key as well"),
        ("upstream: {url: https://a, tls: {client_key: /dev/null/x}}",
         "1:46: upstream.tls.client_key: needs client_cert as well"),
        ("upstream: {url: https://a, tls: {ca_file: /no/such.pem}}", "1:43: upstream.tls.ca_file: no such file"),
        ("upstreams: {default: {url: https://a, tls: {ca_file: /no/such.pem}}}",
         "1:54: upstreams.default.tls.ca_file: no such file"),
    ],
)  # fmt: skip
def test_an_upstream_that_does_not_fit_is_reported(refused: Refused, text: str, line: str) -> None:
    assert f"<stdin>:{line}" in refused(text)


def test_tls_files_that_exist_are_accepted(read: Read, tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("")

    tls = read(f"upstream: {{url: https://a, tls: {{ca_file: '{file}', client_cert: '{file}', client_key: '{file}'}}}}")

    assert tls.config.all_upstreams["default"].tls.ca_file == str(file)


def test_one_port_on_two_addresses_and_free_ports_are_accepted(read: Read) -> None:
    read(f"{_UPSTREAM}listen: {{host: 127.0.0.2, port: 9207}}")
    read(f"{_UPSTREAM}listen: {{port: 0}}\nadmin: {{port: 0}}")


def test_a_rule_about_a_setting_that_is_wrong_by_itself_says_nothing(refused: Refused) -> None:
    lines = refused(f"{_UPSTREAM}batch: {{operations_max: x, sync_operations_max: 5000}}")

    assert lines == ["<stdin>:2:25: batch.operations_max: must be a whole number"]


def test_a_rule_is_checked_although_another_setting_of_its_section_is_wrong(refused: Refused) -> None:
    lines = refused(f"{_UPSTREAM}batch: {{concurrency: x, sync_operations_max: 5000}}")

    assert [line.split(": ")[1] for line in lines] == ["batch.concurrency", "batch.sync_operations_max"]
