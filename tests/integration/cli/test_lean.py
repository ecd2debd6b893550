"""A lean import leaves no trace but what it spares: whom the process trusts, and what it can load, is as it was."""

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

import trustme

from gateway.dialects.registry import IN_PLACE, ON_RECORD
from tests.fakes.upstream import ScriptedUpstream, in_turn, plain
from tests.integration.cli.process import ROOT, WAIT_S

PROGRAM = """
import asyncio, os, ssl, sys
from gateway.cli.lean import lean_imports

with lean_imports():
    import gateway.app
print("rich" in sys.modules, os.environ["SSL_CERT_FILE"] == sys.argv[2])

import rich
from aiohttp import connector
print(len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()), len(ssl.create_default_context().get_ca_certs()))

from gateway.server.key_set import fetching
print(asyncio.run(fetching(sys.argv[1])()).decode())
"""

LOADED = """
import sys
import gateway.cli.commands
from gateway.cli.lean import lean_imports

with lean_imports():
    import gateway.app, gateway.lifecycle.keeping
print(*sys.modules)
"""
FOR_OTHERS = {"cryptography", "joserfc", "multiprocessing", "pygments", "redis", "rich"}


def test_a_gateway_with_an_embedded_ledger_loads_nothing_that_only_others_need() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())

    assert loaded & (FOR_OTHERS | {where.partition(":")[0] for where in {**IN_PLACE, **ON_RECORD}.values()}) == set()
    assert "gateway.ledger.sqlite.store" in loaded


async def test_an_issuer_is_trusted_whose_authority_the_machine_trusts(tmp_path: Path) -> None:
    authority, trusted = trustme.CA(), tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)

    async with ScriptedUpstream(in_turn(plain(b"the keys")), tls=tls) as issuer, asyncio.timeout(WAIT_S):
        url = f"https://localhost:{issuer.port}/jwks.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, url, str(trusted), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "SSL_CERT_FILE": str(trusted)},
        )  # fmt: skip
        said, _ = await process.communicate()

    hidden_and_restored, certificates, fetched = said.decode().splitlines()
    assert hidden_and_restored == "False True"
    assert certificates == "0 1"
    assert fetched == "the keys"
