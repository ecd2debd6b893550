"""An upstream that nobody here wrote: nginx with static files, behind `serve --upstream URL` and no file."""

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.fakes.ports import free_port
from tests.integration.cli.process import Process
from tests.integration.server.wire import ask, get, post_batch, request

CONF = """
daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; {user}
events {{ worker_connections 256; }}
http {{
    access_log off; default_type text/plain; keepalive_requests 50;
    types {{ application/json json; text/html html; image/png png; }}
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port}; root {folder}/files; }}
}}
"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not shutil.which("nginx"):
        if os.environ.get("CI"):
            pytest.fail("nginx is not installed; `make tools` installs it")
        pytest.skip("nginx is not installed; `make tools` installs it")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "files").mkdir()
    (folder / "files/user.json").write_bytes(b'{ "id" : 1e2 }\n')
    (folder / "files/page.html").write_text("<p>ä</p>")
    (folder / "files/dot.png").write_bytes(bytes(range(256)))
    (folder / "files/large.json").write_text('["' + "x" * 500_000 + '"]')
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(CONF.format(folder=folder, port=port, user=user))
    server = Process(folder, ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")])
    server.listens(port)
    yield f"http://127.0.0.1:{port}"
    server.signal(signal.SIGTERM)  # a killed master would leave its worker behind
    server.ended()


@pytest.fixture(scope="module")
def gateway_port(nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    started = Process.command(
        tmp_path_factory.mktemp("gateway"),
        "serve",
        "--upstream",
        nginx,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    )
    yield started.ports()[0]
    started.kill()


async def test_static_files_come_through_a_batch(gateway_port: int) -> None:
    paths = ["/user.json", "/page.html", "/dot.png", "/large.json", "/missing"]

    answered = await post_batch(gateway_port, [{"method": "GET", "path": path} for path in paths])

    results = answered.json()["results"]
    assert [result["status"] for result in results] == [200, 200, 200, 200, 404]
    assert b'"result":{ "id" : 1e2 }\n' in answered.body
    assert (results[1]["result"], results[1]["encoding"]) == ("<p>ä</p>", "text")
    assert results[2]["encoding"] == "base64"
    assert results[3]["result"] == ["x" * 500_000]
    assert results[4]["error"]["origin"] == "upstream"
    assert {result["headers"]["Server"].partition("/")[0] for result in results} == {"nginx"}


async def test_a_thousand_operations_survive_the_end_of_keep_alive(gateway_port: int) -> None:
    envelope = [{"method": "GET", "path": "/user.json"}] * 100

    answers = [await post_batch(gateway_port, envelope) for _ in range(10)]  # nginx closes after each 50 requests

    assert {answered.header("Batch-Summary") for answered in answers} == {"total=100, succeeded=100, failed=0"}


async def test_ranges_and_conditions_mean_what_they_mean_to_nginx(gateway_port: int) -> None:
    whole = await get(gateway_port, "/dot.png")
    headers = [{"Range": "bytes=1-3"}, {"If-None-Match": whole.header("ETag")}, {"If-Match": '"no"'}]

    answered = await post_batch(
        gateway_port, [{"method": "GET", "path": "/dot.png", "headers": each} for each in headers]
    )

    assert [result["status"] for result in answered.json()["results"]] == [206, 304, 412]


async def test_methods_that_nginx_refuses_are_its_own_refusals(gateway_port: int) -> None:
    answered = await post_batch(
        gateway_port, [{"method": "DELETE", "path": "/user.json"}, {"method": "HEAD", "path": "/dot.png"}]
    )

    refused, head = answered.json()["results"]
    assert (refused["status"], refused["error"]["type"]) == (405, "/batch/problems/upstream-error")
    assert (head["status"], head["headers"]["Content-Length"]) == (200, "256")
    assert "result" not in head


async def test_a_file_passes_through_as_nginx_gives_it(gateway_port: int, nginx: str) -> None:
    direct = await get(int(nginx.rpartition(":")[2]), "/large.json")
    through = await get(gateway_port, "/large.json")
    head = await ask(gateway_port, request("HEAD", "/large.json"), "HEAD")

    assert hashlib.sha256(through.body).digest() == hashlib.sha256(direct.body).digest()
    kept = [field for field in direct.fields if field[0] not in ("Connection", "Date")]
    assert [field for field in through.fields if field[0] not in ("Via", "Date")] == kept
    assert head.header("Content-Length") == direct.header("Content-Length")
