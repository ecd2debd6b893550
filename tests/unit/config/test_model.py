"""The configuration as a value: frozen, with the contract's defaults."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from gateway.config import Config, Loaded, Rate, Upstream

Read = Callable[..., Loaded]


def test_a_single_upstream_is_the_default_of_all_upstreams(read: Read) -> None:
    config = read("upstream: {url: http://a/}").config

    assert dict(config.all_upstreams) == {"default": Upstream(url="http://a")}


def test_several_upstreams_keep_their_names(read: Read) -> None:
    config = read("upstreams: {default: {url: http://a}, b: {url: http://b}}").config

    assert config.upstream is None
    assert list(config.all_upstreams) == ["default", "b"]


def test_a_configuration_without_an_upstream_has_none() -> None:
    assert dict(Config().all_upstreams) == {}


def test_a_configuration_cannot_be_changed(read: Read) -> None:
    config = read("upstreams: {default: {url: http://a}}").config

    with pytest.raises(ValidationError):
        config.listen.port = 1
    with pytest.raises(TypeError):
        config.all_upstreams["b"] = Upstream(url="http://b")  # type: ignore[index]


def test_a_refused_value_is_not_in_the_error_either() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"listen": {"port": "hunter2"}})

    assert "hunter2" not in str(caught.value)


def test_values_are_in_seconds_bytes_and_tokens(read: Read) -> None:
    config = read("upstream: {url: http://a}\nlimits: [{name: a, key: ip, rate: 5/min}]").config

    assert config.upstream is not None
    assert (config.upstream.timeout, config.upstream.answer_max) == (30.0, 10_485_760)
    assert config.limits[0].rate == Rate(5, 60_000_000)
    assert config.limits[0].burst == 5


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (Config().listen, "0.0.0.0 8207 10 75 3600 1024 10 65536 () 8192 16384 65536 256 0"),
        (Config().admin, "127.0.0.1 9207 None"),
        (Config().batch, "/batch 1000 100 10485760 1048576 32 1000000 10 500 500 30 67108864 False False False"),
        (Config().drain, "5 1 25"),
        (Config().log, "info auto True"),
        (Upstream(url="http://a"), "http://a 2 30 100 80 50 10000 1000 1 4 10485760 2 10 1 True True"),
    ],
)
def test_defaults_are_the_contracts(section: object, expected: str) -> None:
    values = [value for name, value in vars(section).items() if name != "tls"]

    assert " ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in values) == expected
