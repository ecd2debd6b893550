"""Signed tokens (JWT, RFC 7519): whether one is the issuer's and for us, and what it calls its bearer.

Which keys and algorithms count is ours to say, never the token's (RFC 8725 3.1). A token is verified once and then
remembered by its digest until it expires or the keys change.
"""

import hashlib
import json
import re
import warnings
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning

from gateway.server.key_set import KeySet

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KNOWN_MAX = 10_000
_NAME_MAX = 1024


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must be. `leeway_s` is how far the issuer's clock may be off."""

    issuer: str
    audience: Sequence[str]
    claim: str
    algorithms: Sequence[str]
    leeway_s: int


class _Known(NamedTuple):
    bearer: str
    expires_s: float


class Tokens:
    """Verifies tokens with the keys that `keys` holds. `now_s` is the wall clock."""

    def __init__(self, rules: TokenRules, keys: KeySet, now_s: Callable[[], float]) -> None:
        self._rules = rules
        self._keys = keys
        self._now_s = now_s
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._version = keys.version
        self._claims = jwt.JWTClaimsRegistry(
            lambda: int(now_s()),
            rules.leeway_s,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "values": list(rules.audience)},
            exp={"essential": True},
        )

    async def ready(self, token: str) -> None:
        """Wait until the key that the token names is here, where it may still come."""
        if self._found(token) is None:
            await self._keys.know(_key_id(token))

    async def close(self) -> None:
        await self._keys.close()

    def bearer_of(self, token: str) -> str | None:
        """What the token calls its bearer; None for a token that is not to be believed."""
        known = self._found(token)
        if known is None:
            known = self._verified(token)
            if known is None:
                return None
            self._known[_digest(token)] = known
            if len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        return known.bearer

    def _found(self, token: str) -> _Known | None:
        if self._version != self._keys.version:
            self._known.clear()
            self._version = self._keys.version
        known = self._known.get(_digest(token))
        return known if known is not None and known.expires_s + self._rules.leeway_s > self._now_s() else None

    def _verified(self, token: str) -> _Known | None:
        if _FORM.fullmatch(token) is None:
            return None
        key = self._keys.of(_key_id(token))
        if key is None:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # of the name EdDSA, which issuers still write
                claims = jwt.decode(token, key, algorithms=self._rules.algorithms).claims
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            return None
        bearer = claims.get(self._rules.claim)
        if not isinstance(bearer, str) or not 0 < len(bearer) <= _NAME_MAX:
            return None
        return _Known(bearer, claims["exp"])


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _key_id(token: str) -> str | None:
    """The `kid` of a token that is not verified yet: which key to try, nothing more."""
    head = token.partition(".")[0]
    try:
        said = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return None
    kid = said.get("kid") if isinstance(said, dict) else None
    return kid if isinstance(kid, str) else None
