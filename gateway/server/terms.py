"""What the fields of an envelope come to: who sent it, what its answer is to be, what its operations inherit.

A connection remembers it, for its envelopes mostly differ in their length and key only. Each part is made when it is
first asked for, and what was refused is no part.
"""

from typing import NamedTuple, cast

from aiohttp.web import BaseRequest

from gateway.admission import Caller
from gateway.server.connection import CallerConnection
from gateway.server.envelope import check_type, form_of
from gateway.server.preferences import Preferences, preferences_of
from gateway.upstream.headers import RawFields
from gateway.upstream.request import Inherited

_OF_ONE = frozenset({b"content-length", b"idempotency-key"})


class Wanted(NamedTuple):
    """The answer that a native envelope asks for: its `form` is a media type."""

    form: str
    preferences: Preferences


class Terms:
    """The terms on which `by` takes an envelope whose fields are `of`; `lasting` are those but its length and key."""

    __slots__ = ("by", "caller", "inherited", "lasting", "of", "wanted")

    def __init__(self, by: object, of: RawFields, lasting: RawFields) -> None:
        self.by = by
        self.of = of
        self.lasting = lasting
        self.caller: Caller | None = None
        self.inherited: Inherited | None = None
        self.wanted: Wanted | None = None


def terms_of(request: BaseRequest, by: object) -> Terms:
    """The terms for a request, with what is known of them from the connection's last one."""
    connection, fields = cast(CallerConnection, request.protocol), request.raw_headers
    known = connection.terms
    if isinstance(known, Terms) and known.by is by and known.of is fields:
        return known
    lasting = [field for field in fields if field[0].lower() not in _OF_ONE]
    terms = connection.terms = Terms(by, fields, lasting)
    if isinstance(known, Terms) and known.by is by and known.lasting == lasting:
        terms.inherited, terms.wanted = known.inherited, known.wanted
    return terms


def wanted_of(request: BaseRequest, terms: Terms) -> Wanted:
    """What a native envelope asks for. Raises 406 and 415 (PROMISES D.1, D.2)."""
    if terms.wanted is None:
        form = form_of(request.headers.getall("Accept", ()))
        check_type(request)
        terms.wanted = Wanted(form, preferences_of(request.headers.getall("Prefer", ())))
    return terms.wanted
