"""Who a forwarded client certificate is of: Envoy's `X-Forwarded-Client-Cert`, and `Client-Cert` of RFC 9440. Pure."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Literal

By = Literal["subject", "uri", "dns", "hash"]

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PAIR = re.compile(rf'([A-Za-z]+)=({_QUOTED}|[^",;]*)')
_ELEMENT = re.compile(rf"{_PAIR.pattern}(?:;{_PAIR.pattern})*")
_GAP = re.compile(r"[ \t]*,[ \t]*")
_DER = re.compile(r":([A-Za-z0-9+/]*={0,2}):")


def named_by_envoy(lines: Sequence[str], by: By) -> str | None:
    """What the last element says, the certificate that the nearest proxy has checked; None where it says nothing."""
    said, at = ",".join(lines), 0
    while True:
        element = _ELEMENT.match(said, at)
        if element is None:
            return None
        if element.end() == len(said):
            break
        gap = _GAP.match(said, element.end())
        if gap is None:
            return None
        at = gap.end()
    found = [_unquoted(value) for key, value in _PAIR.findall(element[0]) if key.lower() == by]
    return "\n".join(filter(None, found)) or None


def named_by_certificate(lines: Sequence[str], by: By) -> str | None:
    """The same of the certificate itself; None where the field is not one Byte Sequence (RFC 8941) of one."""
    from cryptography import x509  # nobody else in front of a batch needs it
    from cryptography.hazmat.primitives.hashes import SHA256

    found = _DER.fullmatch(lines[0].strip()) if len(lines) == 1 else None
    if found is None:
        return None
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(found[1], validate=True))
        if by == "hash":
            return certificate.fingerprint(SHA256()).hex()
        if by == "subject":
            return certificate.subject.rfc4514_string() or None
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, binascii.Error, x509.ExtensionNotFound):
        return None
    kind = x509.UniformResourceIdentifier if by == "uri" else x509.DNSName
    return "\n".join(names.get_values_for_type(kind)) or None


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
