"""nginx and haproxy as reverse proxies, each before an upstream of the test's own."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.ports import free_port
from tests.integration.cli.process import Process

_NGINX = """
daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1; {user}
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 100000; lingering_close off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_set_header Connection "";
                     proxy_request_buffering off; }}
    }}
}}
"""
_HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 2s
    timeout http-request 2s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server one 127.0.0.1:{upstream}
"""


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[int]:
    """A running nginx; its port."""
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    conf = folder / "nginx.conf"
    conf.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream, user=user))
    with _running(folder, ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(conf)], port):
        yield port


@contextmanager
def haproxy(folder: Path, upstream: int) -> Iterator[int]:
    """A running haproxy; its port."""
    port = free_port()
    conf = folder / "haproxy.cfg"
    conf.write_text(_HAPROXY.format(port=port, upstream=upstream))
    with _running(folder, ["haproxy", "-db", "-f", str(conf)], port):
        yield port


@contextmanager
def _running(folder: Path, command: list[str], port: int) -> Iterator[None]:
    if not shutil.which(command[0]):
        if os.environ.get("CI"):
            pytest.fail(f"{command[0]} is not installed; `make tools` installs it")
        pytest.skip(f"{command[0]} is not installed; `make tools` installs it")
    process = Process(folder, command)
    try:
        process.listens(port)
        yield
    finally:
        process.signal(signal.SIGTERM)  # a killed master would leave its worker behind
        process.ended()
