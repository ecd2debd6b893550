"""Who a caller is: a verified token, a forwarded certificate, and nobody whose word is not believed (PROMISES D.3)."""

import asyncio
import hmac
import json
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.config import ConfigError
from gateway.server.key_set import KeySet, KeySetError, fetching, keys_of
from gateway.server.tokens import TokenRules, Tokens
from tests.fakes.until import until
from tests.integration.asynchronous.calls import ASYNC
from tests.integration.server.api import Api, Talk, answer, chunked
from tests.integration.server.gateways import gateway
from tests.integration.server.wire import get, post, post_batch

RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
ISSUER = "https://idp.example"
RULES = TokenRules(ISSUER, ["api", "other"], "sub", ["RS256", "ES256", "EdDSA"], 30)
LOGGER: structlog.typing.FilteringBoundLogger = structlog.get_logger()
Key = RSAKey | ECKey | OKPKey


def jwks(*keys: Key | OctKey, private: bool = False) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=private) for key in keys]}).encode()


def token(key: Key = EC, alg: str = "ES256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    said = {"sub": "ada", "iss": ISSUER, "aud": "api", "exp": int(time.time()) + 600, **claims}
    said = {name: value for name, value in said.items() if value is not None}
    head = {"alg": alg, "kid": key.kid} if headers is None else {"alg": alg, **headers}
    return jwt.encode(head, said, key, algorithms=[alg])


def bearer(value: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {value}"


def settings(api: Api, *, limit: bool = True, required: bool = False, **of_jwt: Any) -> str:
    """YAML (JSON is YAML): tokens verified with the keys that the API itself serves, and a bucket that fills slowly."""
    said = {"keys_url": f"{api.url}/jwks.json", "issuer": ISSUER, "audience": ["api"], **of_jwt}
    bucket = [{"name": "b", "key": "caller", "rate": "1/h", "burst": 10}] if limit else []
    return json.dumps({"identity": {"jwt": said, "required": required}, "limits": bucket})


async def left(port: int, *fields: tuple[str, str]) -> int:
    """Tokens that the caller has left after a batch of one."""
    answered = await post_batch(port, [{"method": "GET", "path": "/x"}], *fields)
    assert answered.status == 207, answered.body
    return int((answered.header("RateLimit") or "").partition("r=")[2].partition(";")[0])


# Which tokens are believed.


def tokens(*keys: Key, now_s: Callable[[], float] = time.time) -> Tokens:
    return Tokens(RULES, KeySet(keys_of(jwks(*keys)), LOGGER, time.monotonic), now_s)


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # of signing, which the test does
@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_a_good_token_names_its_bearer(key: Key, alg: str) -> None:
    found = tokens(RSA, EC, ED)
    now_s = int(time.time())

    assert found.bearer_of(token(key, alg)) == "ada"
    assert found.bearer_of(token(key, alg, aud=["x", "other"])) == "ada"
    assert found.bearer_of(token(key, alg, exp=now_s - 20, nbf=now_s + 20, iat=now_s + 20)) == "ada"


def forged(header: dict[str, Any], signature: bytes = b"") -> str:
    claims = {"sub": "ada", "iss": ISSUER, "aud": "api", "exp": int(time.time()) + 600}
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed_with_a_public_key() -> str:
    """RFC 8725 2.1: what everybody may read, taken for a shared secret."""
    unsigned = forged({"alg": "HS256", "kid": "rsa"}).rstrip(".")
    mac = hmac.digest(RSA.as_pem(private=False), unsigned.encode(), "sha256")
    return f"{unsigned}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


BAD: dict[str, Callable[[], str]] = {
    "expired": lambda: token(exp=int(time.time()) - 31),
    "no end": lambda: token(exp=None),
    "not yet": lambda: token(nbf=int(time.time()) + 100),
    "of tomorrow": lambda: token(iat=int(time.time()) + 100),
    "another issuer": lambda: token(iss="https://evil.example"),
    "no issuer": lambda: token(iss=None),
    "another audience": lambda: token(aud="them"),
    "no audience": lambda: token(aud=None),
    "no subject": lambda: token(sub=None),
    "a subject that is no text": lambda: token(sub=7),
    "an empty subject": lambda: token(sub=""),
    "a long subject": lambda: token(sub="x" * 1025),
    "another key": lambda: token(ECKey.generate_key("P-256", {"kid": "ec"})),
    "an unknown key": lambda: token(ECKey.generate_key("P-256", {"kid": "who"})),
    "no key named among several": lambda: token(headers={}),
    "a key of another kind": lambda: token(RSA, "RS256", {"kid": "ec"}),
    "an algorithm that is not listed": lambda: token(RSA, "PS256"),
    "none": lambda: forged({"alg": "none", "kid": "ec"}),
    "none, but signed": lambda: forged({"alg": "none", "kid": "ec"}, b"x"),
    "a public key as a secret": lambda: signed_with_a_public_key(),
    "its own key": lambda: forged({"alg": "ES256", "jwk": EC.as_dict(private=False)}, b"x" * 64),
    "critical words": lambda: forged({"alg": "ES256", "kid": "ec", "crit": ["x"], "x": 1}, b"x" * 64),
    "encrypted": lambda: "a.b.c.d.e",
    "words": lambda: "not-a-token",
    "nothing": lambda: "",
    "a broken head": lambda: "e30x.e30.e30",
    "a head that is no object": lambda: "W10.e30.e30",
    "not ASCII": lambda: "ä.ö.ü",
    "cut": lambda: token()[:-4],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("made", BAD.values(), ids=BAD)
def test_any_other_token_names_nobody(made: Callable[[], str]) -> None:
    assert tokens(RSA, EC).bearer_of(made()) is None


def test_a_token_that_names_no_key_is_tried_with_the_only_one() -> None:
    assert tokens(EC).bearer_of(token(headers={})) == "ada"


def test_a_remembered_token_ends_when_it_expires() -> None:
    now_s = time.time()
    found = tokens(EC, now_s=lambda: now_s)
    ours = token(exp=int(now_s) + 5)

    names = [found.bearer_of(ours)]
    now_s += 34
    names.append(found.bearer_of(ours))
    now_s += 2
    names.append(found.bearer_of(ours))

    assert names == ["ada", "ada", None]


# Keys.


def test_keys_that_verify_nothing_are_left_out() -> None:
    mixed = json.loads(jwks(EC, RSA))["keys"]
    odd: Sequence[object] = [
        OctKey.generate_key(256).as_dict(), EC.as_dict(private=True) | {"kid": "private"}, mixed[0] | {"kid": "enc",
        "use": "enc"}, {"kty": "EC", "kid": "broken"}, {"kty": "??"}, 7, None, mixed[0] | {"kid": None},
    ]  # fmt: skip

    assert set(keys_of(json.dumps({"keys": [*odd, *mixed]}).encode())) == {"ec", "rsa"}


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'{"keys": 7}', b'{"keys": []}', b'{"keys": [{}]}', b"[" * 9999]
)
def test_a_document_without_keys_is_refused(document: bytes) -> None:
    with pytest.raises(KeySetError):
        keys_of(document)


class Issuer:
    """An issuer over HTTP whose keys change, seen by a key set on a clock that is told."""

    def __init__(self, api: Api, *keys: Key) -> None:
        self.now_s = 100.0
        self.api = api
        self.publish(*keys)
        self.keys = KeySet({}, LOGGER, lambda: self.now_s, fetching(f"{api.url}/jwks.json"), 300.0)
        self.tokens = Tokens(RULES, self.keys, time.time)

    def publish(self, *keys: Key) -> None:
        self.api.on("/jwks.json", answer(200, jwks(*keys)))

    async def name_of(self, value: str) -> str | None:
        await self.tokens.ready(value)
        return self.tokens.bearer_of(value)


async def test_a_new_key_is_found_at_once_and_a_withdrawn_one_is_believed_no_more(api: Api) -> None:
    issuer = Issuer(api, EC)
    old, new = token(), token(RSA, "RS256")

    first = [await issuer.name_of(old) for _ in range(5)]
    issuer.publish(RSA)
    issuer.now_s += 11
    second = [await issuer.name_of(new), await issuer.name_of(old)]

    assert (first, second) == (["ada"] * 5, ["ada", None])
    assert len(api.received) == 2


async def test_tokens_that_name_invented_keys_ask_the_issuer_once_in_ten_seconds(api: Api) -> None:
    issuer = Issuer(api, EC)
    for number in range(50):
        invented = ECKey.generate_key("P-256", {"kid": f"k{number}"})
        assert await issuer.name_of(token(invented)) is None
    issuer.now_s += 10
    await asyncio.gather(*(issuer.name_of(token(RSA, "RS256", {"kid": str(number)})) for number in range(20)))

    assert len(api.received) == 2
    assert await issuer.name_of(token()) == "ada"


async def test_keys_that_are_old_are_fetched_while_they_are_used(api: Api) -> None:
    issuer = Issuer(api, EC)
    await issuer.name_of(token())
    issuer.publish(EC, RSA)
    issuer.now_s += 301
    held = asyncio.Event()

    async def slow(talk: Talk) -> None:
        await held.wait()
        await talk.send(answer(200, jwks(EC, RSA)))

    api.on("/jwks.json", slow)
    name = await issuer.name_of(token(sub="grace"))
    held.set()

    async def knows() -> bool:
        return issuer.keys.of("rsa") is not None

    await until(knows)
    assert name == "grace"


AWAY = [
    answer(500, b"{}"),
    answer(302, b"", ("Location", "/jwks2.json")),
    answer(200, b"{"),
    answer(200, b'{"keys": []}'),
    answer(200, b" " * (300 << 10)),
    chunked(*[b" " * 65536] * 5),
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
]


@pytest.mark.parametrize("bad", AWAY)
async def test_while_the_issuer_is_away_the_keys_that_are_known_stay(api: Api, bad: bytes) -> None:
    issuer = Issuer(api, EC)
    await issuer.name_of(token())

    async def wrong(talk: Talk) -> None:
        await talk.send(bad)
        talk.writer.close()

    api.on("/jwks.json", wrong)
    issuer.now_s += 400
    names = [await issuer.name_of(token(sub="grace")), await issuer.name_of(token(RSA, "RS256"))]
    await issuer.keys.close()

    assert names == ["grace", None]
    assert [target for target in api.targets if target == "/jwks2.json"] == []


# In front of batches.


async def test_tokens_of_one_subject_are_one_caller_and_others_are_others(api: Api) -> None:
    api.on("/jwks.json", answer(200, jwks(EC, RSA)))
    signers: Sequence[tuple[Key, str]] = [(EC, "ES256"), (RSA, "RS256"), (EC, "ES256")]
    async with gateway(api.url, settings(api)) as running:
        ada = [await left(running.port, bearer(token(key, alg, jti=str(n))))
               for n, (key, alg) in enumerate(signers)]  # fmt: skip
        grace = await left(running.port, bearer(token(sub="grace")))
        lone = await get(running.port, "/x", bearer(token(jti="lone")))
        named = await get(running.port, "/batch/limits", bearer(token()))

    assert (ada, grace) == ([9, 8, 7], 9)
    assert (lone.header("RateLimit") or "").startswith('"b";r=6')
    assert named.json()["limits"][0]["remaining"] == 6
    assert len([target for target in api.targets if target == "/jwks.json"]) == 1


async def test_a_rotated_token_finds_the_batches_and_the_keys_of_the_one_before(api: Api, tmp_path: Path) -> None:
    api.on("/jwks.json", answer(200, jwks(EC)))
    keyed = [{"id": "a", "method": "POST", "path": "/x", "idempotencyKey": "k"}]
    ledger = f"sqlite:{tmp_path}/ledger.db"
    async with gateway(api.url, settings(api, limit=False, required=True), async__ledger=ledger) as running:
        accepted = await post_batch(running.port, [{"method": "GET", "path": "/x"}], ASYNC, bearer(token(jti="1")))
        await post_batch(running.port, keyed, bearer(token(jti="2")))
        replayed = await post_batch(running.port, keyed, bearer(token(jti="3")))
        place = accepted.header("Location") or ""
        mine = await get(running.port, place, bearer(token(jti="4")))
        theirs = await get(running.port, place, bearer(token(sub="grace")))
        nobodys = await get(running.port, place)

    assert replayed.json()["results"][0]["replayed"] is True
    assert (mine.status, theirs.status, nobodys.status) == (200, 404, 401)


async def test_who_is_not_verified_is_one_anonymous_caller(api: Api) -> None:
    api.on("/jwks.json", answer(200, jwks(EC)))
    async with gateway(api.url, settings(api)) as running:
        found = [
            await left(running.port),
            await left(running.port, bearer("made-up-1")),
            await left(running.port, bearer(token(exp=1))),
            await left(running.port, ("Authorization", "Basic YTpi")),
            await left(running.port, bearer(token()), bearer(token())),
            await left(running.port, ("X-Api-Key", "k")),
        ]

    assert found == [9, 8, 7, 6, 5, 4]


async def test_where_it_is_required_a_batch_without_a_good_token_is_401_and_nothing_is_sent(api: Api) -> None:
    api.on("/jwks.json", answer(200, jwks(EC)))
    async with gateway(api.url, settings(api, required=True), dialects__google="{}") as running:
        refused = [
            await post_batch(running.port, [{"method": "GET", "path": "/x"}]),
            await post_batch(running.port, [{"method": "GET", "path": "/x"}], bearer("x")),
            await post(running.port, "/batch?dryRun=true", b"[]", ("Content-Type", "application/json")),
            await get(running.port, "/batch/limits"),
        ]
        page = await get(running.port, "/batch/problems/unauthenticated")
        lone = await get(running.port, "/x")
        metrics = (await get(running.admin_port, "/metrics")).body.decode()

    assert [(each.status, each.slug) for each in refused] == [(401, "unauthenticated")] * 4
    assert {each.header("WWW-Authenticate") for each in refused} == {'Bearer realm="batch-gateway"'}
    assert (page.status, lone.status) == (200, 200)
    assert api.targets == ["/jwks.json", "/x"] or api.targets == ["/x"]
    assert 'batch_gateway_envelopes_total{dialect="native",mode="sync",outcome="rejected"} 3.0' in metrics


async def test_a_token_may_stand_alone_in_a_field_of_its_own_that_no_operation_may_bring(api: Api) -> None:
    api.on("/jwks.json", answer(200, jwks(EC)))
    async with gateway(api.url, settings(api, header="X-Token", claim="client")) as running:
        found = [await left(running.port, ("X-Token", token(client="c", sub=str(n)))) for n in range(2)]
        own = await post_batch(running.port, [{"method": "GET", "path": "/x", "headers": {"X-Token": "t"}}])

    assert found == [9, 8]
    assert own.json()["errors"][0]["code"] == "per-op-credentials"


async def test_keys_of_a_file_are_read_and_a_bad_file_is_refused_by_name(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(EC))
    text = settings(api, keys_file=str(file)).replace(f'"keys_url": "{api.url}/jwks.json", ', "")
    async with gateway(api.url, text) as running:
        found = [await left(running.port, bearer(token(jti=str(n)))) for n in range(2)]
    file.write_bytes(b"{}")
    with pytest.raises(ConfigError) as refused:
        async with gateway(api.url, text):
            pass

    assert found == [9, 8]
    assert "identity.jwt.keys_file" in str(refused.value)


def test_what_verifies_tokens_is_not_loaded_where_none_are() -> None:
    code = (
        "import io, sys; from pathlib import Path; from gateway.app import App; from gateway.config import load\n"
        "import gateway.lifecycle.callers\n"
        "load(Path('-'), {}, {'upstream.url': 'http://127.0.0.1:1'}, io.StringIO(''))\n"
        "print([name for name in sys.modules if name.startswith('joserfc')])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Forwarded certificates.

CERT = "X-Forwarded-Client-Cert"


def certified(header: str = CERT, trusted: str = "127.0.0.0/8") -> str:
    return json.dumps({
        "listen": {"trusted_proxies": [trusted]}, "identity": {"client_cert": {"header": header}, "required": True},
        "limits": [{"name": "b", "key": "caller", "rate": "1/h", "burst": 10}],
    })  # fmt: skip


async def test_a_trusted_proxy_is_believed_about_a_certificate_whatever_else_it_says(api: Api) -> None:
    async with gateway(api.url, certified()) as running:
        ada = [await left(running.port, (CERT, f'Hash={n};Subject="CN=ada"')) for n in range(2)]
        grace = await left(running.port, (CERT, 'Subject="CN=ada",Subject="CN=grace"'))
        none = await post_batch(running.port, [{"method": "GET", "path": "/x"}], (CERT, "By=x"))

    assert (ada, grace) == ([9, 8], 9)
    assert (none.status, none.header("WWW-Authenticate")) == (401, 'Certificate realm="batch-gateway"')
    assert api.last.header(CERT) == 'Subject="CN=ada",Subject="CN=grace"'


@pytest.mark.parametrize("header", [CERT, "Client-Cert"])
async def test_nobody_else_is_believed_and_the_upstream_never_hears_of_it(api: Api, header: str) -> None:
    spoofs = [(header, 'Subject="CN=ada"'), (header.replace("-", "_"), "x"), ("Client-Cert-Chain", ":AAAA:")]
    async with gateway(api.url, certified(header, "10.0.0.0/8").replace('"required": true', '"required": false')) as it:
        refused = await left(it.port, *spoofs)
        forwarded = await get(it.port, "/x", *spoofs)
        own = await post_batch(it.port, [{"method": "GET", "path": "/x", "headers": {"Client-Cert": "x"}}])

    assert (refused, forwarded.status) == (9, 200)
    heard = {name.lower().replace("_", "-") for received in api.received for name, _ in received.fields}
    assert header.lower() not in heard
    assert ("client-cert-chain" in heard) is (header == CERT)
    assert own.json()["errors"][0]["code"] == "header-not-allowed"
