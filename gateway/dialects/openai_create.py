"""What a call that creates an OpenAI batch says, and what of it the batch has to know again."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from gateway.dialects.port import EnvelopeError
from gateway.errors import quoted

LIFE_S = (3600, 2_592_000)  # that a caller may give a file

_WINDOW = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MEMBER = re.compile(r"`\$\.(\w+)|field `(\w+)`")

_Key = Annotated[str, Meta(max_length=64)]
_Value = Annotated[str, Meta(max_length=512)]


class ExpiresAfter(msgspec.Struct, frozen=True):
    """How long a file lives, in seconds from its making."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=LIFE_S[0], le=LIFE_S[1])]


class Create(msgspec.Struct, frozen=True):
    """The body of the call."""

    input_file_id: str
    endpoint: Annotated[str, Meta(min_length=1, max_length=2048)]
    completion_window: str
    metadata: Annotated[dict[_Key, _Value], Meta(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None

    @property
    def window_s(self) -> int:
        """0 for what is no window."""
        found = _WINDOW.fullmatch(self.completion_window)
        return int(found[1]) * _SECONDS[found[2]] if found else 0


_CREATE = msgspec.json.Decoder(Create)


def create_of(data: bytes) -> Create:
    """Raises `EnvelopeError`, 400."""
    try:
        data.decode("utf-8")
        create = _CREATE.decode(data)
    except msgspec.ValidationError as error:
        found = _MEMBER.search(str(error))
        raise invalid(str(error), (found[1] or found[2]) if found else None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EnvelopeError("invalid-json") from None
    if not create.window_s:
        raise invalid("write completion_window as 24h, or another number of s, m, h or d", "completion_window")
    return create


def memo_of(create: Create) -> bytes:
    """What `created` reads."""
    return msgspec.json.encode(create)


def created(memo: bytes) -> Create:
    return _CREATE.decode(memo)


def said_in(query: str) -> Mapping[str, str]:
    return dict(parse_qsl(query, keep_blank_values=True))


def limit_of(said: Mapping[str, str], otherwise: int, most: int) -> int:
    """The page size that a query asks for. Raises 400."""
    limit = said.get("limit", str(otherwise))
    if not re.fullmatch("[0-9]{1,6}", limit) or not 1 <= int(limit) <= most:
        raise invalid(f"limit is {quoted(limit)}; write a whole number from 1 to {most}", "limit")
    return int(limit)


def invalid(detail: str, param: str | None = None, code: str | None = None) -> EnvelopeError:
    """400, about one parameter."""
    return EnvelopeError("validation-failed", detail, status=400, members={"param": param, "code": code})
