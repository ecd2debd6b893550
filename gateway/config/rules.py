"""Rules between settings: what each one allows alone, but not together."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from gateway.config.draft import Draft
from gateway.config.model import DEFAULT_UPSTREAM
from gateway.config.problem import KeyPath
from gateway.config.refusals import missing_message
from gateway.config.upstream import Upstream
from gateway.limiter.bucket import Bucket, is_exact

_EVERY_ADDRESS = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that does not hold. It says nothing new where a setting that it is `about` is wrong by itself."""

    path: KeyPath
    message: str
    about: tuple[KeyPath, ...] = ()
    code: str = "conflict"


def findings(draft: Draft) -> Iterator[Finding]:
    """Everything outside routes and limits that does not fit together."""
    yield from _upstream_choice(draft)
    for path, upstream in draft.upstreams.items():
        yield from _tls(path, upstream)
    yield from _ports(draft)
    yield from _head(draft)
    yield from _envelope(draft)
    yield from _key(draft)
    yield from _worker(draft)
    yield from _exact(draft)
    yield from _keys_shared(draft)
    yield from _identity(draft)
    yield from _places(draft)


def _upstream_choice(draft: Draft) -> Iterator[Finding]:
    if {"upstream", "upstreams"} <= draft.given:
        yield Finding(("upstreams",), "give either upstream or upstreams; move the single one to upstreams.default")
    elif "upstreams" not in draft.given and "upstream" not in draft.given:
        yield Finding(("upstream", "url"), missing_message(("upstream", "url")), code="missing")
    elif draft.upstream_names is not None and DEFAULT_UPSTREAM not in draft.upstream_names:
        yield Finding(("upstreams",), f"needs an entry {DEFAULT_UPSTREAM}, for what no route sends elsewhere")


def _tls(path: KeyPath, upstream: Upstream) -> Iterator[Finding]:
    tls, at = upstream.tls, (*path, "tls")
    files = {"ca_file": tls.ca_file, "client_cert": tls.client_cert, "client_key": tls.client_key}
    if (tls.server_name or any(files.values())) and not upstream.url.startswith("https://"):
        yield Finding(at, "needs an upstream url with https://", about=((*path, "url"),))
    for given, absent in (("client_cert", "client_key"), ("client_key", "client_cert")):
        if files[given] and not files[absent]:
            yield Finding((*at, given), f"needs {absent} as well", about=((*at, absent),))
    for key, name in files.items():
        if name is not None and not Path(name).is_file():
            yield Finding((*at, key), "no such file")


def _ports(draft: Draft) -> Iterator[Finding]:
    listen, admin = draft.listen, draft.admin
    if listen is None or admin is None or listen.port != admin.port or listen.port == 0:
        return
    if listen.host == admin.host or _EVERY_ADDRESS & {listen.host, admin.host}:
        about = tuple(product(("listen", "admin"), ("port", "host")))
        yield Finding(("admin", "port"), f"listen.port is {listen.port} as well; choose another", about=about)


def _head(draft: Draft) -> Iterator[Finding]:
    if draft.listen is None:
        return
    for key, size in (("line_max", draft.listen.line_max), ("field_max", draft.listen.field_max)):
        if size > draft.listen.head_max:
            about = (("listen", "head_max"),)
            yield Finding(("listen", key), "is above head_max, the limit of the whole head", about=about)


def _envelope(draft: Draft) -> Iterator[Finding]:
    batch = draft.batch
    if batch is None:
        return
    if batch.sync_operations_max > batch.operations_max:
        message = f"{batch.sync_operations_max} is above operations_max ({batch.operations_max})"
        yield Finding(("batch", "sync_operations_max"), message, about=(("batch", "operations_max"),))
    if batch.operation_body_max > batch.body_max:
        message = "is above body_max, the limit of the whole envelope"
        yield Finding(("batch", "operation_body_max"), message, about=(("batch", "body_max"),))


def _key(draft: Draft) -> Iterator[Finding]:
    if draft.async_ is not None and draft.async_.is_shared and "key" not in draft.async_given:
        message = (
            "a ledger in Redis needs it, the same for all replicas: {fromEnv: BATCH_KEY} or {fromFile: PATH};"
            " `openssl rand -base64 32` makes a good one"
        )
        yield Finding(("async", "key"), message, about=(("async", "ledger"),), code="missing")


def _worker(draft: Draft) -> Iterator[Finding]:
    if draft.async_ is not None and not draft.async_.worker and not draft.async_.is_shared:
        message = "false needs a ledger in Redis: nobody else can work off this one"
        yield Finding(("async", "worker"), message, about=(("async", "ledger"),))


def _exact(draft: Draft) -> Iterator[Finding]:
    if draft.limiter is None or draft.limiter.url is None:
        return
    for path, limit in draft.limits.items():
        if not is_exact(Bucket(limit.name, limit.rate.tokens, limit.rate.per_us, limit.burst)):
            message = "Redis cannot count it exactly; round it, such as 999999000/h, or give it per s or min"
            yield Finding((*path, "rate"), message, about=(("limiter", "url"), (*path, "burst")))


def _keys_shared(draft: Draft) -> Iterator[Finding]:
    if draft.replay is None:
        return
    if draft.replay.is_shared and "key" not in draft.async_given:
        message = "needs async.key, the same in every replica: keys are named and sealed with it"
        yield Finding(("replay", "store"), message, about=(("async", "key"),))
    if draft.replay.is_local and draft.async_ is not None and draft.async_.is_shared:
        message = (
            "keeps keys of one process, but whoever shares the ledger runs its batches; leave it out, and they are kept"
            " in the ledger's Redis"
        )
        yield Finding(("replay", "store"), message, about=(("async", "ledger"),))


def _identity(draft: Draft) -> Iterator[Finding]:
    identity = draft.identity
    if identity is None:
        return
    if identity.client_cert is not None and draft.listen is not None and not draft.listen.trusted_proxies:
        message = "needs listen.trusted_proxies: nobody else's word about a certificate counts"
        yield Finding(("identity", "client_cert"), message, about=(("listen", "trusted_proxies"),))
    if identity.jwt is None:
        return
    at, jwt = ("identity", "jwt"), identity.jwt
    if (jwt.keys_url is None) == (jwt.keys_file is None):
        yield Finding(at, "give either keys_url or keys_file")
    if jwt.keys_file is not None and not Path(jwt.keys_file).is_file():
        yield Finding((*at, "keys_file"), "no such file")
    if find_spec("joserfc") is None:
        yield Finding(at, "needs the extra jwt: pip install 'batch-gateway[jwt]'", code="missing-extra")


def _places(draft: Draft) -> Iterator[Finding]:
    if draft.batch is None or draft.dialects is None:
        return
    taken: dict[str, KeyPath] = {draft.batch.path: ("batch", "path")}  # by those who read JSON there
    for name, section in (("anthropic", draft.dialects.anthropic), ("graph", draft.dialects.graph)):
        if section is None:
            continue
        path = ("dialects", name, "path")
        other = taken.setdefault(section.path, path)
        if other != path:
            message = f"{section.path} is {'.'.join(map(str, other))} as well, and both read JSON there; choose another"
            yield Finding(path, message, about=(other,))
