"""Who sent a request: the identity whose bucket pays and whose batches these are, and where the request came from."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp.web import BaseRequest

from gateway.admission import ANONYMOUS, Caller
from gateway.admission import identity_of as digest_of
from gateway.errors import GatewayError
from gateway.server.heads import Asked
from gateway.server.origin import Origins
from gateway.server.steps import in_task

if TYPE_CHECKING:  # it brings joserfc with it, which only verified tokens need
    from gateway.server.tokens import Tokens

Name = Callable[[tuple[str, ...]], str | None]


class Bearer:
    """Reads a caller's name off the token in one header field, `Authorization: Bearer` or a field of its own."""

    def __init__(self, header: str, tokens: "Tokens") -> None:
        self._header = header
        self._tokens = tokens
        self._has_scheme = header.lower() == "authorization"
        self.close = tokens.close

    async def ready(self, request: BaseRequest) -> None:
        token = self._token(request)
        if token is not None:
            await self._tokens.ready(token)

    def name_of(self, request: BaseRequest | Asked) -> str | None:
        token = self._token(request)
        bearer = None if token is None else self._tokens.bearer_of(token)
        return None if bearer is None else f"jwt:{bearer}"

    def _token(self, request: BaseRequest | Asked) -> str | None:
        said = request.headers.getall(self._header, ())
        if len(said) != 1:
            return None
        if not self._has_scheme:
            return said[0]
        scheme, _, token = said[0].partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None


class Certificate:
    """Reads a caller's name off the certificate that a trusted proxy tells in a header field."""

    def __init__(self, header: str, origins: Origins, name: Name) -> None:
        self._header = header
        self._origins = origins
        self._name = name

    def name_of(self, request: BaseRequest | Asked) -> str | None:
        if not self._origins.is_trusted(request):
            return None
        name = self._name(tuple(request.headers.getall(self._header, ())))
        return None if name is None else f"cert:{name}"


class Callers:
    """Tells who sent a request. Where there is a `bearer` or a `certificate`, only these say who; else `names` do."""

    def __init__(
        self,
        origins: Origins,
        names: frozenset[bytes],
        *,
        bearer: Bearer | None = None,
        certificate: Certificate | None = None,
        required: bool = False,
    ) -> None:
        self._origins = origins
        self._names = names
        self._bearer = bearer
        self._certificate = certificate
        self._required = required

    @property
    def is_ready(self) -> bool:
        """Whether nobody has to await `ready`."""
        return self._bearer is None

    async def ready(self, request: BaseRequest) -> None:
        """To be awaited once before `of`: a key may have to be fetched."""
        if self._bearer is not None:
            await in_task()
            await self._bearer.ready(request)

    def of(self, request: BaseRequest) -> Caller:
        """The caller, anonymous where nothing that is believed says more."""
        fields = self._origins.fields_of(request)
        return Caller(self.identity_of(request), self._origins.ip_of(request), fields)

    def check(self, caller: Caller) -> None:
        """Raise 401 where somebody unknown may not come."""
        if self._required and caller.identity == ANONYMOUS:
            scheme = "Certificate" if self._bearer is None and self._certificate is not None else "Bearer"
            raise GatewayError("unauthenticated", headers={"WWW-Authenticate": f'{scheme} realm="batch-gateway"'})

    def known(self, request: BaseRequest) -> Caller:
        """The caller, or 401."""
        caller = self.of(request)
        self.check(caller)
        return caller

    async def close(self) -> None:
        if self._bearer is not None:
            await self._bearer.close()

    def identity_of(self, request: BaseRequest | Asked) -> str:
        if self._bearer is None and self._certificate is None:
            return digest_of(request.raw_headers, self._names)
        name = None if self._bearer is None else self._bearer.name_of(request)
        if name is None and self._certificate is not None:
            name = self._certificate.name_of(request)
        if name is None:
            return ANONYMOUS
        return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
