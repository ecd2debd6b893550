"""An issuer's public keys (JWKS, RFC 7517): those of a file, or of a URL that is asked again when they are old.

A key that nobody knows is looked for at once, since issuers rotate them, but not more often than every ten seconds:
what a token says of its key is anybody's word. While the URL is away the keys that are known stay.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jwk
from joserfc.errors import JoseError

KEYS_MAX = 100
_BYTES_MAX = 256 * 1024
_AGAIN_S = 10.0
_TIMEOUT_S = 5.0
_KINDS = ("RSA", "EC", "OKP")
_RSA_BITS_MIN = 2048  # RFC 7518 3.3

Fetch = Callable[[], Awaitable[bytes]]


class KeySetError(ValueError):
    """No usable key is in it."""


class KeySet:
    """Keys by id, on the clock `monotonic_s`. Without `fetch` they stay as they are; `version` counts their changes."""

    def __init__(
        self,
        keys: Mapping[str, Any],
        logger: structlog.typing.FilteringBoundLogger,
        monotonic_s: Callable[[], float],
        fetch: Fetch | None = None,
        refresh_s: float = 0.0,
    ) -> None:
        self._keys = keys
        self._logger = logger
        self._monotonic_s = monotonic_s
        self._fetch = fetch
        self._refresh_s = refresh_s
        self._asked_s = self._fresh_s = -float("inf")
        self._fetching: asyncio.Task[None] | None = None
        self.version = 0

    def of(self, kid: str | None) -> Any | None:
        """The key of this id; for a token that names none the only one there is."""
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def know(self, kid: str | None) -> None:
        """Wait for the key, if it is not here and may come; keys that have become old are fetched meanwhile."""
        if self._fetch is None:
            return
        now_s = self._monotonic_s()
        is_known = self.of(kid) is not None
        is_due = now_s - self._asked_s >= _AGAIN_S and (not is_known or now_s - self._fresh_s >= self._refresh_s)
        if self._fetching is None and is_due:
            self._asked_s = now_s
            self._fetching = asyncio.create_task(self._fetched(self._fetch))
        if self._fetching is not None and not is_known:
            await asyncio.wait([self._fetching])

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetched(self, fetch: Fetch) -> None:
        """Ask once; never raises but when it is cancelled."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                found = keys_of(await fetch())
        except (OSError, TimeoutError, KeySetError) as error:
            self._logger.warning("keys", listener="identity", known=len(self._keys), error=type(error).__name__)
        else:
            self._fresh_s = self._asked_s
            if {kid: key.as_dict(private=False) for kid, key in found.items()} != {
                kid: key.as_dict(private=False) for kid, key in self._keys.items()
            }:
                self._keys = found
                self.version += 1
        finally:
            self._fetching = None


def keys_of(document: bytes) -> dict[str, Any]:
    """The keys of a JWKS that verify signatures; others are left out, as RFC 7517 5 wants it. Raises `KeySetError`."""
    try:
        listed = json.loads(document)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeySetError('is no JWKS: {"keys": [...]}') from None
    keys = [_key(each) for each in listed[:KEYS_MAX]] if isinstance(listed, list) else []
    found = {key.kid or key.thumbprint(): key for key in keys if key is not None}
    if not found:
        raise KeySetError("holds no public key that verifies signatures")
    return found


def fetching(url: str) -> Fetch:
    """Fetches a document. Redirects are not followed: the keys are where the configuration says, or nowhere."""
    trusted = ssl.create_default_context()  # aiohttp's own was never filled: see `cli.lean`

    async def fetch() -> bytes:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(url, ssl=trusted, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise KeySetError(f"answered {answer.status}")
                document = b""
                async for piece in answer.content.iter_any():
                    document += piece
                    if len(document) > _BYTES_MAX:
                        raise KeySetError("is too large")
                return document
        except aiohttp.ClientError as error:
            raise KeySetError(type(error).__name__) from error

    return fetch


def _key(said: Any) -> Any | None:
    if not isinstance(said, dict) or said.get("kty") not in _KINDS or said.get("use", "sig") != "sig":
        return None
    try:
        key = jwk.import_key(said)
        verifier = key.get_op_key("verify")
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    is_short = isinstance(verifier, RSAPublicKey) and verifier.key_size < _RSA_BITS_MIN
    return None if is_short or key.is_private else key
