"""The configuration's values in the shape that each object wants: nothing else ever sees `Config`."""

import asyncio
import ipaddress
import resource
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway.admission import Limit
from gateway.batch.retry import REJECTIONS, TOO_EARLY
from gateway.batch.routes import Route, Routes
from gateway.batch.validation import Rules
from gateway.config import Config, ConfigError, Listen, Problem, Tls, contents_of
from gateway.config import Upstream as UpstreamSettings
from gateway.dialects.port import EnvelopeLimits
from gateway.limiter.bucket import Bucket
from gateway.server.batches import BatchSettings
from gateway.server.origin import Origins
from gateway.server.patience import Patience
from gateway.upstream.address import Address, PoolLimits
from gateway.upstream.headers import refusal_in_operation
from gateway.upstream.pool import Pool
from gateway.upstream.upstream import Upstream


def connections_max(listen: Listen) -> int:
    """Most connections of callers at once: as configured, or half of what the process may open."""
    return listen.connections_max or resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def upstream(settings: UpstreamSettings, pool: Pool) -> Upstream:
    return Upstream(pool, settings.timeout, settings.answer_max, settings.retries)


def origins(listen: Listen) -> Origins:
    return Origins([ipaddress.ip_network(network) for network in listen.trusted_proxies])


def patience(listen: Listen) -> Patience:
    return Patience(listen.header_timeout, listen.rate_min, listen.rate_grace, listen.stream_idle_timeout)


def pool(settings: UpstreamSettings, loop: asyncio.AbstractEventLoop, refused: Callable[[], None]) -> Pool:
    """`refused` is called for each repeat that the budget does not pay for."""
    return Pool(_address(settings), _pool_limits(settings), loop, refused)


def pool_identity(settings: UpstreamSettings) -> object:
    """Equal where one pool can serve both: same address, limits and TLS, the content of its files included."""
    tls = settings.tls
    files = contents_of(Path(name) for name in (tls.ca_file, tls.client_cert, tls.client_key) if name is not None)
    return settings.url, tls, files, _pool_limits(settings)


def _pool_limits(settings: UpstreamSettings) -> PoolLimits:
    return PoolLimits(
        connections_max=settings.connections,
        batched_max=settings.connections - settings.connections * (100 - settings.batch_percent) // 100,
        waiting_max=settings.waiting_max,
        pipelining_max=settings.pipelining,
        connect_timeout_s=settings.connect_timeout,
        idle_timeout_s=settings.idle_timeout,
        retries_percent=settings.retry_percent,
        retries_per_s=settings.retries_per_second,
        breaks=settings.breaker,
        adapts=settings.adaptive_concurrency,
    )


def _address(upstream: UpstreamSettings) -> Address:
    parts = urlsplit(upstream.url)
    if parts.scheme == "http+unix":
        return Address(path=unquote(parts.path))
    host = parts.hostname or ""
    if parts.scheme == "http":
        return Address(host, parts.port or 80)
    return Address(host, parts.port or 443, None, _tls(upstream.tls), upstream.tls.server_name or host)


def _tls(tls: Tls) -> ssl.SSLContext:
    """Verified always: certificate, name, TLS 1.2 or newer (PROMISES S17). Raises ConfigError for unusable files."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.client_cert is not None:
            context.load_cert_chain(tls.client_cert, tls.client_key)
    except OSError as error:  # ssl.SSLError is one
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror
        problem = Problem("", None, None, "upstream.tls", f"a file cannot be used: {reason}", "unusable-file")
        raise ConfigError([problem]) from None
    return context


def routes(config: Config) -> Routes:
    if config.routes is None:
        return Routes(None)
    return Routes(
        [
            Route(
                template=route.path,
                methods=frozenset(route.methods),
                cost=route.cost,
                idempotent=route.idempotent,
                rejections=REJECTIONS if route.retryable_rejection else TOO_EARLY,
                batchable=route.batch,
                timeout_s=route.timeout,
                upstream=route.upstream or "default",
            )
            for route in config.routes
        ]
    )


def limits(config: Config) -> list[Limit]:
    return [
        Limit(
            Bucket(limit.name, limit.rate.tokens, limit.rate.per_us, limit.burst, limit.on_exhausted),
            limit.key,
            None if limit.routes is None else frozenset(limit.routes),
        )
        for limit in config.limits
    ]


def identity_names(config: Config) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in config.identity.headers)


def identity_names_for_lone(config: Config) -> frozenset[bytes]:
    """Empty where no limit asks who the caller is: then nothing of a lone request is digested."""
    return identity_names(config) if any(limit.key == "caller" for limit in config.limits) else frozenset()


def batch_settings(config: Config, via: bytes) -> BatchSettings:
    batch = config.batch
    credentials = batch.operation_credentials
    return BatchSettings(
        base=batch.path,
        body_bytes_max=batch.body_max,
        concurrency=batch.concurrency,
        sync_timeout_s=batch.sync_timeout,
        answers_bytes_max=batch.answer_max,
        envelope=EnvelopeLimits(min(batch.operations_max, batch.sync_operations_max), batch.depth_max, batch.nodes_max),
        rules=Rules(
            own_paths=(batch.path,),
            body_bytes_max=batch.operation_body_max,
            fields_rule=lambda fields: refusal_in_operation(fields, credentials_allowed=credentials),
        ),
        identity_names=identity_names(config),
        via=via,
        origins=origins(config.listen),
        default_host=str(_address(config.all_upstreams["default"])).encode(),
    )
