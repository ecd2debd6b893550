"""The command line (CONTRACT 1): what is printed where, and with which exit code."""

import json
import re
import resource
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest

from gateway.version import VERSION
from tests.integration.cli.conftest import Serve
from tests.integration.cli.process import run
from tests.integration.server.api import Api
from tests.integration.server.wire import get, post_batch

BROKEN = """\
version: 1
upstream: {url: "ftp://x", timout: 3s}
listen: {port: 99999}
limits:
  - {name: a, key: nobody, rate: 5}
drain: {delay: 5}
"""


def config(folder: Path, text: str) -> str:
    file = folder / "gateway.yaml"
    file.write_text(text)
    return str(file)


async def test_serve_prints_exactly_one_ready_line_and_then_serves(api: Api, serve: Serve) -> None:
    process = serve("--upstream", api.url)

    traffic, admin = process.ports()
    answered = await post_batch(traffic, [{"method": "GET", "path": "/x"}])
    alive = await get(admin, "/livez")

    assert re.fullmatch(r"ready traffic=http://127\.0\.0\.1:\d+ admin=http://127\.0\.0\.1:\d+\n", process.out)
    assert traffic not in (0, admin)
    assert (answered.status, alive.status) == (207, 200)


async def test_serve_takes_ledger_none_and_a_file_and_the_environment(api: Api, serve: Serve, tmp_path: Path) -> None:
    file = config(tmp_path, "version: 1\nbatch: {path: /bulk}\nlog: {access: false}\n")
    process = serve("--config", file, "--ledger", "none", environ={"BATCH_GATEWAY__UPSTREAM__URL": api.url})

    refused = await get(process.ports()[0], "/bulk")

    assert refused.json()["type"] == "/bulk/problems/method-not-allowed"


def test_serve_without_an_upstream_is_a_configuration_problem() -> None:
    done = run("serve")

    assert done.returncode == 3
    assert "upstream" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("taken", ["--listen", "--admin"])
def test_a_taken_port_is_named_with_its_setting(taken: str) -> None:
    other = {"--listen": "--admin", "--admin": "--listen"}[taken]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])

        done = run("serve", "--upstream", "http://127.0.0.1:1", taken, f"127.0.0.1:{port}", other, "127.0.0.1:0")

    assert done.returncode == 1
    assert port in done.stderr
    assert "another process has the port" in done.stderr
    assert taken.removeprefix("--") in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_address_of_another_host_is_not_called_taken() -> None:
    done = run("serve", "--upstream", "http://127.0.0.1:1", "--listen", "192.0.2.1:0", "--admin", "127.0.0.1:0")

    assert done.returncode == 1
    assert "192.0.2.1" in done.stderr
    assert "set host and port of listen or admin" in done.stderr
    assert "another process" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["serv"],
        ["serve", "--nope"],
        ["serve", "--listen", "8207"],
        ["serve", "--listen", "127.0.0.1:http"],
        ["serve", "--upstream"],
        ["config"],
        ["config", "shw"],
        [],
    ],
)
def test_bad_usage_exits_2_and_says_so_on_standard_error(arguments: list[str]) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert done.stderr or not arguments or arguments == ["config"]
    assert "Traceback" not in done.stderr


def test_help_exits_0_on_standard_output() -> None:
    done = run("--help")

    assert done.returncode == 0
    assert {"serve", "check", "demo", "config", "healthcheck", "drain", "reload", "version"} <= set(
        re.findall(r"\w+", done.stdout)
    )


@pytest.mark.parametrize("command", [["check"], ["serve"], ["config", "show"], ["validate"]])
def test_every_problem_of_a_configuration_is_told_at_once_with_its_place(command: list[str], tmp_path: Path) -> None:
    file = config(tmp_path, BROKEN)

    done = run(*command, "--config", file)

    assert done.returncode == 3
    assert done.stdout == ""
    places = re.findall(rf"^{re.escape(file)}:(\d+):(\d+): (\S+):", done.stderr, re.MULTILINE)
    assert {path for _, _, path in places} == {
        "upstream.url",
        "upstream.timout",
        "listen.port",
        "limits[0].key",
        "limits[0].rate",
        "drain.delay",
    }
    assert 'did you mean "timeout"?' in done.stderr
    assert [int(line) for line, _, _ in places] == sorted(int(line) for line, _, _ in places)


def test_check_says_that_a_good_file_is_good(tmp_path: Path) -> None:
    done = run("check", "--config", config(tmp_path, "version: 1\nupstream: {url: http://127.0.0.1:1}\n"))

    assert done.returncode == 0
    assert "good" in done.stdout


def test_check_reads_standard_input() -> None:
    done = run("check", "--config", "-", said="version: 2\nupstream: {url: http://127.0.0.1:1}\n")

    assert done.returncode == 3
    assert "<stdin>:1:10: version" in done.stderr


def test_a_variable_that_means_nothing_is_a_problem() -> None:
    done = run("check", "--upstream", "http://127.0.0.1:1", environ={"BATCH_GATEWAY__LISTEN__PROT": "1"})

    assert done.returncode == 3
    assert "BATCH_GATEWAY__LISTEN__PROT" in done.stderr


def test_config_show_hides_secrets_and_names_sources(tmp_path: Path) -> None:
    file = config(
        tmp_path, "version: 1\nupstream: {url: http://127.0.0.1:1}\nadmin: {token: {value: hunter2-secret}}\n"
    )

    done = run("config", "show", "--config", file, environ={"BATCH_GATEWAY__BATCH__CONCURRENCY": "7"})

    assert done.returncode == 0
    assert "hunter2" not in done.stdout + done.stderr
    assert "token: " in done.stdout
    assert re.search(r"concurrency: 7 +# environment BATCH_GATEWAY__BATCH__CONCURRENCY", done.stdout)
    assert re.search(rf"url: http://127.0.0.1:1 +# {re.escape(file)}:2:", done.stdout)
    assert re.search(r"depth_max: 32 +# default", done.stdout)


def test_what_config_show_prints_is_a_configuration(tmp_path: Path) -> None:
    shown = run("config", "show", "--upstream", "http://127.0.0.1:1")

    again = run("check", "--config", config(tmp_path, shown.stdout))

    assert again.returncode == 0, again.stderr


def test_config_schema_is_a_json_schema() -> None:
    done = run("config", "schema")

    schema = json.loads(done.stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate({"version": 1, "upstream": {"url": "http://127.0.0.1:8080"}})
    assert not jsonschema.Draft7Validator(schema).is_valid({"upstrem": {}})


@pytest.mark.parametrize("word", ["version", "--version"])
def test_version_prints_the_version(word: str) -> None:
    done = run(word)

    assert (done.returncode, done.stdout) == (0, f"batch-gateway {VERSION}\n")


async def test_healthcheck_is_0_when_ready_and_1_when_nobody_listens(api: Api, serve: Serve) -> None:
    process = serve("--upstream", api.url)
    _, admin = process.ports()

    by_flag = run("healthcheck", "--admin", f"127.0.0.1:{admin}")
    by_variable = run("healthcheck", environ={"BATCH_GATEWAY__ADMIN__PORT": str(admin)})
    process.kill()
    gone = run("healthcheck", "--admin", f"127.0.0.1:{admin}")

    assert (by_flag.returncode, by_variable.returncode, gone.returncode) == (0, 0, 1)
    assert len(gone.stderr.splitlines()) == 1
    assert "Traceback" not in gone.stderr


@pytest.mark.parametrize("address", ["", "host: 0.0.0.0, ", "host: 127.0.0.1, "])
async def test_healthcheck_finds_the_listener_in_the_configuration(
    api: Api, serve: Serve, tmp_path: Path, address: str
) -> None:
    _, admin = serve("--upstream", api.url).ports()
    file = config(tmp_path, f"upstream: {{url: http://a}}\nadmin: {{{address}port: {admin}}}\n")

    assert run("healthcheck", "--config", file).returncode == 0


@pytest.mark.parametrize("text", ["[1]", "{", "admin: {port: x}", "\x00"])
def test_a_configuration_that_is_none_is_told_in_a_line(tmp_path: Path, text: str) -> None:
    done = run("healthcheck", "--config", config(tmp_path, text))

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


async def test_drain_waits_and_says_that_all_has_ended(api: Api, serve: Serve) -> None:
    process = serve("--upstream", api.url, environ={"BATCH_GATEWAY__DRAIN__DELAY": "50ms"})
    traffic, admin = process.ports()

    done = run("drain", "--admin", f"127.0.0.1:{admin}")

    assert (done.returncode, done.stdout) == (0, "drained\n")
    with pytest.raises(ConnectionRefusedError):
        await get(traffic, "/x")
    process.signal(signal.SIGTERM)
    assert process.ended() == 0


async def test_reload_says_what_has_changed_or_what_is_wrong(api: Api, serve: Serve, tmp_path: Path) -> None:
    text = f"upstream: {{url: '{api.url}'}}\nreload: {{interval: 0s}}\n"
    file = config(tmp_path, text)
    _, admin = serve("--config", file).ports()

    config(tmp_path, f"{text}batch: {{concurrency: 3}}\n")
    good = run("reload", "--admin", f"127.0.0.1:{admin}")
    config(tmp_path, "upstream: {}\nnonsense: 1\n")
    bad = run("reload", "--admin", f"127.0.0.1:{admin}")

    assert (good.returncode, good.stdout) == (0, "reloaded\nchanged: batch.concurrency\n")
    assert bad.returncode == 1
    assert f"{file}:1:1: upstream.url" in bad.stderr
    assert f"{file}:2:1: nonsense" in bad.stderr


@pytest.mark.parametrize("how", ["value", "fromEnv", "fromFile", "variable"])
def test_guarded_pages_are_asked_with_the_token_of_the_configuration(how: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    reference = {"value": "s3cret", "fromEnv": "ADMIN_TOKEN", "fromFile": str(tmp_path / "token"), "variable": ""}[how]
    token = "" if how == "variable" else f", token: {{{how}: {reference}}}"
    environ = {"BATCH_GATEWAY__ADMIN__TOKEN__VALUE": "s3cret"} if how == "variable" else {"ADMIN_TOKEN": "s3cret"}

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        file = config(tmp_path, f"admin: {{port: {server.getsockname()[1]}{token}}}\n")
        running = pool.submit(run, "drain", "--config", file, environ=environ)
        connection, _ = server.accept()
        with connection:
            asked = connection.recv(4096)
            connection.sendall(b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nlate")
        done = running.result()

    assert asked.startswith(b"POST /drain HTTP/1.1\r\n")
    assert b"Authorization: Bearer s3cret\r\n" in asked
    assert done.returncode == 1
    assert "answered 503: late" in done.stderr


@pytest.mark.parametrize("arguments", [["--admin"], ["--nope"], ["--admin", "nonsense"]])
def test_healthcheck_that_is_called_wrongly_fails_and_says_so(arguments: list[str]) -> None:
    done = run("healthcheck", *arguments)

    assert done.returncode in (1, 2)
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_healthcheck_says_how_an_address_is_written() -> None:
    assert "HOST:PORT" in run("healthcheck", "--admin", "nonsense").stderr


@pytest.mark.parametrize("command", [["version"], ["healthcheck", "--admin", "127.0.0.1:1"]])
def test_what_probes_run_takes_less_than_150_ms(command: list[str]) -> None:
    def cpu_s() -> float:
        """Of the processor, not of the clock: other tests run beside this one."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(*command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_s() for _ in range(5)) < 0.150
