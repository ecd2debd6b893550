"""Where a request came from, and what the upstream is told of it: from the peer, or from a proxy that is trusted.

- A peer that is not trusted says nothing about itself: whatever it sent of `X-Forwarded-*` is replaced or left out.
- A trusted one is believed: its `X-Forwarded-For` is kept and the peer added at its end, its `-Proto`, `-Host`, `-Port`
  and their like stay. The caller is the right-most address that is not trusted: left of it everything can be made up.
- `X-Real-IP` is there only where it came, and then with the caller's address, or with what a trusted proxy said it is.
- `Forwarded` (RFC 7239) is never passed on: two lists of the same thing are two truths.
"""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

from aiohttp.web import BaseRequest
from multidict import istr

from gateway.server.heads import Asked
from gateway.upstream.headers import TOLD_BY_PROXIES, RawFields, via_of, vouched

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REAL_IP = istr("X-Real-IP")
_SCHEME = re.compile(r"https?|wss?")
_HOST = re.compile(r"[A-Za-z0-9._~-]{1,255}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_JUDGED_MAX = 4096


class Origins:
    """Tells where requests come from. `trusted`: the networks of proxies whose word counts; `theirs`: lower-case names
    of fields that only they may send, in that spelling alone."""

    def __init__(self, trusted: Sequence[Network] = (), theirs: frozenset[bytes] = frozenset()) -> None:
        self._trusted = tuple(trusted)
        self._theirs = theirs
        self._is_trusted = lru_cache(_JUDGED_MAX)(self._judged)

    def ip_of(self, request: BaseRequest | Asked) -> str:
        """The caller's address, empty where the peer has none."""
        peer = request.remote or ""
        if not self._trusted or not self._is_trusted(peer):
            return peer
        ip = peer
        for said in reversed(_chain(request)):
            address = _address(said)
            if address is None:  # not an address: who is in front of it cannot be known
                break
            ip = str(address)
            if not self._is_trusted(ip):
                break
        return ip

    def goes_by_host(self, request: BaseRequest | Asked) -> bool:
        """Whether a request that says nothing of what the gateway vouches for is told of by its `Host` alone."""
        return not self._theirs and not self.is_trusted(request)

    def is_trusted(self, request: BaseRequest | Asked) -> bool:
        """Whether the peer is a proxy whose word counts."""
        return bool(self._trusted) and self._is_trusted(request.remote or "")

    def fields_of(self, request: BaseRequest | Asked) -> RawFields:
        """The request's fields, without those that the peer may not send. An underscore is a hyphen to CGI and WSGI."""
        fields, theirs = request.raw_headers, self._theirs
        if not theirs:
            return fields
        allowed: frozenset[bytes] = theirs if self.is_trusted(request) else frozenset()
        return [
            field for field in fields if (name := field[0].lower()) in allowed or name.replace(b"_", b"-") not in theirs
        ]

    def vouched(self, request: BaseRequest | Asked, via: bytes) -> list[tuple[bytes, bytes]]:
        """The fields by which the upstream is told."""
        peer, scheme, host = request.remote or "", "http", self.host_of(request)
        chain = [peer]
        told: list[tuple[bytes, bytes]] = []
        real_ip = self.ip_of(request) if _REAL_IP in request.headers else None
        if self.is_trusted(request):
            chain = [*_chain(request), peer]
            scheme = _single(request, "X-Forwarded-Proto", _SCHEME) or scheme
            told = [field for field in request.raw_headers if field[0].lower() in TOLD_BY_PROXIES]
            said = request.headers.getall(_REAL_IP, ())
            if len(said) == 1 and (address := _address(said[0])) is not None:
                real_ip = str(address)
        if "Via" in request.headers:
            via = via_of(request.raw_headers, via)
        authority = None if host is None else host.encode("utf-8", "surrogateescape")
        return [*told, *vouched(authority, ", ".join(chain), scheme, via, real_ip)]

    def host_of(self, request: BaseRequest | Asked) -> str | None:
        """Whom the caller asked; None where an HTTP/1.0 caller does not say."""
        host = request.headers.get("Host")
        if self.is_trusted(request):
            return _single(request, "X-Forwarded-Host", _HOST) or host
        return host

    def origin_of(self, request: BaseRequest | Asked) -> str:
        """Scheme and host by which the caller reached us; "" where an HTTP/1.0 caller does not say."""
        host = self.host_of(request)
        return "" if host is None else f"{self._scheme_of(request)}://{host}"

    def _scheme_of(self, request: BaseRequest | Asked) -> str:
        return (_single(request, "X-Forwarded-Proto", _SCHEME) if self.is_trusted(request) else None) or "http"

    def _judged(self, ip: str) -> bool:
        address = _address(ip)
        return address is not None and any(address in network for network in self._trusted)


def _chain(request: BaseRequest | Asked) -> list[str]:
    """The addresses of all `X-Forwarded-For` fields, the farthest first."""
    said = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return [address for part in said.split(",") if (address := part.strip(" \t")) and address.isascii()]


def _address(said: str) -> Address | None:
    """An address as proxies write it: bare, in brackets, or with a port."""
    bare = said
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _single(request: BaseRequest | Asked, name: str, form: re.Pattern[str]) -> str | None:
    """The field's value where it stands once and is what it should be."""
    said = request.headers.getall(name, ())
    return said[0] if len(said) == 1 and form.fullmatch(said[0]) else None
