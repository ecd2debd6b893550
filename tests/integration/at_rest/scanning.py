"""Looks for a secret in bytes: as it is, in base64 and hex, and in whatever of it can be inflated. Pure."""

import base64
import re
import zlib
from collections.abc import Iterable, Iterator

_INFLATED_MAX = 1 << 22
# Where a zlib stream (RFC 1950, 32 KiB window) or a gzip member (RFC 1952) may begin.
_COMPRESSED = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")


def forms(secret: bytes) -> Iterator[bytes]:
    """The secret, and every text that it becomes in base64, wherever it stands, and in hex."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            whole = encode(bytes(before) + secret)
            yield whole[4 if before else 0 : -4]  # what its neighbours do not change


def found(data: bytes, secrets: Iterable[bytes]) -> set[bytes]:
    """Which of the secrets are in `data`."""
    wanted = {secret: list(forms(secret)) for secret in secrets}
    hits = set()
    for text in (data, *_inflated(data)):
        hits |= {secret for secret, looks in wanted.items() if any(look in text for look in looks)}
    return hits


def _inflated(data: bytes) -> Iterator[bytes]:
    for start in _COMPRESSED.finditer(data):
        inflater = zlib.decompressobj(wbits=47)  # zlib or gzip, by its header
        try:
            yield inflater.decompress(data[start.start() :], _INFLATED_MAX)
        except zlib.error:
            continue
