"""PROMISES S5 as a table: forty names in seven ways, and what of each the upstream sees, however the name is spelled.

| word | what the upstream sees under the name |
| --- | --- |
| `came` | what the caller said there |
| `ours` | something, and nothing of what the caller said there |
| `gone` | nothing |
| a slug | no request at all |
| `-` | the name has no hyphen to be replaced |

The columns: twice; in another case; with `_` for `-`; named by `Connection`; as a trailer; among an operation's own
headers; on an envelope.
"""

import pytest

from tests.integration.server.api import Api, Received
from tests.integration.server.gateways import Gateway
from tests.integration.server.wire import Answer, ask, post_batch

OURS = "ours ours ours ours ours header-not-allowed ours"
GONE = "gone gone gone gone gone header-not-allowed gone"
CAME = "came came came came came came came"

POLICY = {
    # What the gateway vouches for. X-Real-IP is there only where it came, and no shadow of it counts.
    "X-Forwarded-For": OURS,
    "X-Forwarded-Proto": OURS,
    "X-Forwarded-Host": OURS,
    "Via": "ours ours - ours ours header-not-allowed ours",
    "X-Real-IP": "ours ours gone ours gone header-not-allowed ours",
    "Forwarded": "gone gone - gone gone header-not-allowed gone",
    "X-Forwarded-By": GONE,
    "X-Forwarded-Method": GONE,
    "X-Forwarded-Path": GONE,
    "X-Forwarded-Port": GONE,
    "X-Forwarded-Prefix": GONE,
    "X-Forwarded-Protocol": GONE,
    "X-Forwarded-Scheme": GONE,
    "X-Forwarded-Server": GONE,
    "X-Forwarded-Ssl": GONE,
    "X-Forwarded-Uri": GONE,
    # Of one hop (RFC 9110 7.6.1), and what frames a request.
    "Connection": "gone gone - gone gone header-not-allowed gone",
    "Keep-Alive": GONE,
    "Proxy-Authorization": GONE,
    "Proxy-Connection": GONE,
    "TE": "gone gone - gone gone header-not-allowed gone",
    "Trailer": "gone gone - gone gone header-not-allowed gone",
    "Upgrade": "gone gone - gone gone header-not-allowed gone",
    "Transfer-Encoding": "ambiguous-framing ambiguous-framing gone ambiguous-framing ours header-not-allowed "
    "ambiguous-framing",
    "Content-Length": "ambiguous-framing came gone came gone header-not-allowed ambiguous-framing",
    "Host": "bad-host came - came ours header-not-allowed came",
    "Expect": "came came - came gone header-not-allowed expectation-failed",
    # Who the caller is: of the whole batch. `identity.headers` names X-Api-Key.
    "Authorization": "came came - came gone per-op-credentials came",
    "Cookie": "came came - came gone per-op-credentials came",
    "X-Api-Key": "came came came came came per-op-credentials came",
    # What a login proxy in front says: passes, unless it comes where that proxy would not have looked.
    "X-Forwarded-User": "came came gone came gone header-not-allowed came",
    # About the envelope, where it stands on one; the gateway names and traces each operation itself.
    "Content-Type": "came came came came gone came unsupported-media-type",
    "Content-Encoding": "came came came came gone came unsupported-encoding",
    "Accept-Encoding": "came came came came came came gone",
    "Idempotency-Key": "came came came came came came gone",
    "Prefer": "came came - came came came gone",
    "X-Request-Id": "came came came came came came ours",
    "traceparent": "came came - came came came ours",
    # Everything else is between caller and upstream, whatever Connection says of it (CVE-2024-45410).
    "X-User": CAME,
    "X-Client-IP": CAME,
}
WAYS = ("twice", "case", "underscore", "connection", "trailer", "operation", "envelope")

SAID = {"Content-Length": "0", "Transfer-Encoding": "gzip", "Host": "canary.test"}


def said(name: str) -> str:
    return SAID.get(name, "canary")


def head(target: str, *fields: tuple[str, str]) -> bytes:
    return "\r\n".join([f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]).encode()


def lone(name: str, *fields: tuple[str, str]) -> bytes:
    """A request with these fields, and with Host where they are not about it."""
    return head("/x", *([] if name == "Host" else [("Host", "api.test")]), *fields)


def with_trailer(name: str) -> bytes:
    start = head("/x", ("Host", "api.test"), ("Transfer-Encoding", "chunked"))
    return start + f"0\r\n{name}: {said(name)}\r\n\r\n".encode()


async def fared(api: Api, running: Gateway, name: str, way: str) -> str:
    """What became of `name` sent this way, in the words of the table."""
    api.received.clear()
    answered = await sent(running.port, name, way)
    if answered.status in (200, 207):
        return seen(api.last, name)
    assert api.received == []
    return str(answered.json()["errors"][0]["code"]) if answered.slug == "validation-failed" else answered.slug


async def sent(port: int, name: str, way: str) -> Answer:
    value = said(name)
    match way:
        case "twice":
            return await ask(port, lone(name, (name, value), (name, value)))
        case "case":
            return await ask(port, lone(name, (name.swapcase(), value)))
        case "underscore":
            return await ask(port, lone(name, (name.replace("-", "_"), value)))
        case "connection":
            return await ask(port, lone(name, (name, value), ("Connection", name)))
        case "trailer":
            return await ask(port, with_trailer(name))
        case "operation":
            return await post_batch(port, [{"method": "POST", "path": "/x", "headers": {name: value}}])
    envelope = b'[{"method": "POST", "path": "/x"}]'
    about = {"Host": "api.test", "Content-Type": "application/json", "Content-Length": str(len(envelope))}
    if name != "Content-Length":
        about.pop(name, None)
    return await ask(port, head("/batch", (name, value), *about.items()) + envelope)


def seen(received: Received, name: str) -> str:
    trailers = [(n, v.strip(" \t")) for n, _, v in (line.partition(":") for line in received.trailers)]
    values = [v for own, v in (*received.fields, *trailers) if own.lower().replace("_", "-") == name.lower()]
    if not values:
        return "gone"
    return "came" if any(said(name) in v for v in values) else "ours"


@pytest.mark.parametrize("name", POLICY)
async def test_a_name_fares_as_the_table_says(api: Api, plain: Gateway, name: str) -> None:
    policy = dict(zip(WAYS, POLICY[name].split(), strict=True))
    ways = [way for way in WAYS if policy[way] != "-"]

    found = {way: await fared(api, plain, name, way) for way in ways}

    assert found == {way: policy[way] for way in ways}
    assert (policy["underscore"] == "-") == ("-" not in name)


def test_the_table_has_forty_names() -> None:
    assert len(POLICY) >= 40
