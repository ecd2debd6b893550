"""Who callers are and where they come from, under one configuration. What verifies tokens loads only where some are."""

import ipaddress
import time
from functools import lru_cache, partial
from pathlib import Path

import structlog

from gateway import wiring
from gateway.config import ClientCert, Config, ConfigError, Jwt, Problem
from gateway.server.callers import Bearer, Callers, Certificate
from gateway.server.client_cert import named_by_certificate, named_by_envoy
from gateway.server.origin import Origins

Logger = structlog.typing.FilteringBoundLogger

_NAMED_MAX = 4096  # certificates that are remembered: reading one takes longer than a batch of ten


def origins(config: Config) -> Origins:
    proxies = [ipaddress.ip_network(network) for network in config.listen.trusted_proxies]
    certificate = config.identity.client_cert
    if certificate is None:
        return Origins(proxies)
    theirs = {certificate.header} | ({"Client-Cert-Chain"} if certificate.header == "Client-Cert" else set())
    return Origins(proxies, frozenset(name.lower().encode() for name in theirs))


def callers(config: Config, origins: Origins, logger: Logger) -> Callers:
    identity = config.identity
    return Callers(
        origins,
        wiring.identity_names(config),
        bearer=None if identity.jwt is None else _bearer(identity.jwt, logger),
        certificate=None if identity.client_cert is None else _certificate(identity.client_cert, origins),
        required=identity.required,
    )


def _bearer(settings: Jwt, logger: Logger) -> Bearer:
    from gateway.server.key_set import KeySet, KeySetError, fetching, keys_of  # with it comes joserfc, an extra
    from gateway.server.tokens import TokenRules, Tokens

    if settings.keys_file is not None:
        try:
            keys = KeySet(keys_of(Path(settings.keys_file).read_bytes()), logger, time.monotonic)
        except (OSError, KeySetError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            problem = Problem("", None, None, "identity.jwt.keys_file", f"cannot be used: {said}", "unusable-file")
            raise ConfigError([problem]) from None
    else:
        keys = KeySet({}, logger, time.monotonic, fetching(settings.keys_url or ""), settings.refresh)
    rules = TokenRules(settings.issuer, settings.audience, settings.claim, settings.algorithms, int(settings.leeway))
    return Bearer(settings.header, Tokens(rules, keys, time.time))


def _certificate(settings: ClientCert, origins: Origins) -> Certificate:
    name = named_by_envoy if settings.header == "X-Forwarded-Client-Cert" else named_by_certificate
    return Certificate(settings.header, origins, lru_cache(_NAMED_MAX)(partial(name, by=settings.by)))
