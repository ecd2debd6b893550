"""What differs between two configurations, and what of it waits for a restart."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Loaded, changed_keys, effective, load, under_listeners_of, waiting_for_restart

Read = Callable[..., Loaded]

_PLAIN = "upstream: {url: http://a}\n"


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ("", "", []),
        ("batch: {concurrency: 10}", "# the default, and a comment", []),
        ("", "batch: {concurrency: 3}\ndrain: {delay: 1s}", ["batch.concurrency", "drain.delay"]),
        ("", "routes: [{path: /a}]", ["routes"]),
        ("routes: [{path: /a}]", "routes: [{path: /a, cost: 2}]", ["routes"]),
        ("admin: {token: {value: a}}", "admin: {token: {value: b}}", ["admin.token"]),
        ("admin: {token: {value: a}}", "", ["admin.token"]),
        ("", "listen: {port: 1}", ["listen.port"]),
        ("", "limiter: {url: 'redis://:a@r'}", ["limiter.url"]),
        ("limiter: {url: 'redis://:a@r'}", "limiter: {url: 'redis://:b@r'}", ["limiter.url"]),
    ],
)
def test_the_keys_whose_values_differ_are_named(read: Read, before: str, after: str, keys: list[str]) -> None:
    assert changed_keys(read(_PLAIN + before), read(_PLAIN + after)) == keys


def test_upstreams_are_named_one_by_one(read: Read) -> None:
    before = read("upstreams: {default: {url: http://a}, b: {url: http://b}}")
    after = read("upstreams: {default: {url: http://a}, b: {url: http://c}}")

    assert changed_keys(before, after) == ["upstreams.b.url"]


def test_a_certificate_that_is_renewed_in_its_file_is_a_change(tmp_path: Path) -> None:
    file, authority = tmp_path / "gateway.yaml", tmp_path / "ca.pem"
    file.write_text(f"upstream: {{url: 'https://a', tls: {{ca_file: {authority}}}}}")
    authority.write_text("old")
    before = load(file, {}, {})
    same = load(file, {}, {})

    authority.write_text("new")

    assert changed_keys(before, same) == []
    assert changed_keys(before, load(file, {}, {})) == ["upstream.tls.ca_file"]


def test_listeners_stay_and_the_token_and_the_rest_change(read: Read) -> None:
    before = read(_PLAIN + "listen: {port: 1}\nadmin: {token: {value: a}}")
    after = read(_PLAIN + "listen: {port: 2}\nadmin: {port: 3, token: {value: b}}\nbatch: {concurrency: 3}")

    taken = under_listeners_of(before, after)

    assert waiting_for_restart(before, after) == ["listen.port", "admin.port"]
    assert changed_keys(before, taken) == ["admin.token", "batch.concurrency"]
    assert changed_keys(taken, after) == ["listen.port", "admin.port"]
    assert taken.digest not in (before.digest, after.digest)
    assert "port: 1  # <stdin>:2:16" in effective(taken)
    assert "concurrency: 3  # <stdin>:4:22" in effective(taken)


def test_files_are_those_that_values_name_and_the_file_itself(tmp_path: Path) -> None:
    file, token = tmp_path / "gateway.yaml", tmp_path / "token"
    file.write_text(f"upstream: {{url: http://a}}\nadmin: {{token: {{fromFile: {token}}}}}")
    token.write_text("t")

    files = load(file, {}, {}).files

    assert set(files) == {file, token}
    assert None not in files.values()


def test_stores_stay_until_the_process_is_started_anew(read: Read) -> None:
    before = read(_PLAIN)
    after = read(_PLAIN + "limiter: {url: 'redis://r', fail: open}\nasync: {ledger: none}")

    assert waiting_for_restart(before, after) == ["limiter.fail", "async.ledger", "limiter.url"]
    assert changed_keys(before, under_listeners_of(before, after)) == []
