"""Who a caller is: by header fields, by a verified token, or by a certificate that a proxy in front has checked."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from gateway.config.section import Duration, HeaderName, Section, Text, Timeout


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len({name.casefold() for name in names}) < len(names):
        raise ValueError("names a header twice")
    return names


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("must name at least one")
    return values


def _url(url: str) -> str:
    if not re.fullmatch(r"https?://[^@#?\s/]+(/[!-~]*)?", url):
        raise ValueError("must be a URL such as https://idp.example/.well-known/jwks.json, without a password")
    return url


# Signatures only: a key that is published can verify, and never be mistaken for a shared secret (RFC 8725 3.1).
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]  # fmt: skip


class Jwt(Section):
    """A signed token (RFC 7519), and the claim of it that names the caller."""

    keys_url: Annotated[str, AfterValidator(_url)] | None = Field(
        default=None,
        description="Where the issuer publishes its keys (JWKS); either this or keys_file.",
        examples=["https://idp.example/.well-known/jwks.json"],
    )
    keys_file: Text | None = Field(
        default=None, description="A JWKS file; a change takes effect at once.", examples=["/etc/gateway/jwks.json"]
    )
    issuer: Text = Field(description="What `iss` must be.", examples=["https://idp.example"])
    audience: Annotated[tuple[Text, ...], Strict(False), AfterValidator(_some)] = Field(
        description="One of these must be in `aud`.", examples=[["api"]]
    )
    claim: Text = Field(default="sub", description="The claim that names the caller.")
    header: HeaderName = Field(default="Authorization", description="Where the token stands, behind Bearer or alone.")
    algorithms: Annotated[tuple[Algorithm, ...], Strict(False), AfterValidator(_some)] = Field(
        default=("RS256", "ES256"), description="Signatures that are believed."
    )
    leeway: Duration = Field(default=30.0, description="How far the issuer's clock may be off.")
    refresh: Timeout = Field(
        default=300.0, description="How old keys of keys_url may become; unknown ones are looked for at once."
    )


class ClientCert(Section):
    """The certificate of the caller, as a proxy in `listen.trusted_proxies` tells it."""

    header: Literal["X-Forwarded-Client-Cert", "Client-Cert"] = Field(
        default="X-Forwarded-Client-Cert",
        description="Envoy's field, or that of RFC 9440; believed of trusted proxies.",
    )
    by: Literal["subject", "uri", "dns", "hash"] = Field(
        default="subject", description="What of it names the caller; hash changes with every renewal."
    )


class Identity(Section):
    """Who a caller is."""

    headers: Annotated[tuple[HeaderName, ...], Strict(False), AfterValidator(_distinct)] = Field(
        default=("Authorization", "X-Api-Key"),
        description="Headers that together make up the caller, where neither jwt nor client_cert is configured.",
    )
    jwt: Jwt | None = Field(
        default=None,
        description="A verified token says who the caller is.",
        examples=[{"keys_url": "https://idp.example/jwks", "issuer": "https://idp.example", "audience": ["api"]}],
    )
    client_cert: ClientCert | None = Field(
        default=None, description="A forwarded client certificate says who the caller is.", examples=[{}]
    )
    required: bool = Field(
        default=False, description="Batches of callers of whom this says nothing are 401; false: they are one caller."
    )
