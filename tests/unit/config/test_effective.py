"""The effective configuration: readable, sourced, and a configuration itself."""

from collections.abc import Callable

import pytest
import yaml

from gateway.config import Loaded, effective

Read = Callable[..., Loaded]

_TEXT = """\
upstreams:
  default: {url: "http://a:1", timeout: 90s, answer_max: 10MB}
  b: {url: http+unix:///run/app.sock}
routes:
  - {path: "/users/{id}", methods: [GET, PUT], upstream: b}
  - {path: "/0777/**", timeout: 250ms}
limits: [{name: "123", key: "header:X-T", rate: 60/min, routes: ["/users/{id}"]}]
identity: {headers: ["on", "1e3", "X-Y"]}
"""


def test_it_reads_back_as_the_same_configuration(read: Read) -> None:
    loaded = read(_TEXT)

    again = read(effective(loaded))

    assert again.config == loaded.config
    assert again.digest == loaded.digest


def test_every_yaml_reader_finds_the_same_words_in_it(read: Read) -> None:
    found = yaml.safe_load(effective(read(_TEXT)))

    assert found["identity"]["headers"] == ["on", "1e3", "X-Y"]
    assert found["limits"][0]["name"] == "123"


@pytest.mark.parametrize(
    "line",
    [
        "    timeout: 90s  # <stdin>:2:41",
        "    answer_max: 10MB  # <stdin>:2:58",
        "    connections: 100  # default",
        '  - path: "/users/{id}"  # <stdin>:5:12',
        "    methods: [GET, PUT]  # <stdin>:5:36",
        "    rate: 60/min  # <stdin>:7:49",
        "    burst: 60  # default",
        "    timeout: 250ms  # <stdin>:6:33",
        "  access: true  # default",
        "    tls: {}  # default",
    ],
)
def test_each_value_stands_in_the_files_words_with_its_source(read: Read, line: str) -> None:
    assert line in effective(read(_TEXT)).splitlines()
