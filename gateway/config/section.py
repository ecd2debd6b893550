"""What every section of the configuration is, and the kinds of values that sections are made of."""

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
)

from gateway.config import units

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # RFC 9110 5.6.2; the length is ours


class Section(BaseModel):
    """Frozen, closed and strict. Dumps speak the file's words (`30s`, `10MiB`), so a dump can be a file again."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        # A key with nothing after it could mean "off" or "as usual"; for `routes` the difference is who gets in.
        if value is None:
            raise ValueError(EMPTY)
        return value


EMPTY = "is empty; give a value or leave it out"


def _more_than_none(value: float) -> float:
    if value <= 0:
        raise ValueError("must be more than 0")
    return value


def _text(value: str) -> str:
    if not value or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
        raise ValueError("must be text without control characters, and not empty")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:%-]{1,255}", value):
        raise ValueError("must be an address or a host name alone, such as 0.0.0.0, ::1 or localhost")
    return value


def _header(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError("must be the name of a header, such as X-Api-Key")
    return value


Duration = Annotated[
    float,
    BeforeValidator(units.parse_duration),
    PlainSerializer(units.render_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": units.DURATION_PATTERN}),
]
Timeout = Annotated[Duration, AfterValidator(_more_than_none)]
Size = Annotated[
    int,
    BeforeValidator(units.parse_size),
    AfterValidator(_more_than_none),
    PlainSerializer(units.render_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": units.SIZE_PATTERN}),
]
PerTime = Annotated[
    units.Rate,
    BeforeValidator(units.parse_rate),
    PlainSerializer(units.render_rate, return_type=str),
    WithJsonSchema({"type": "string", "pattern": units.RATE_PATTERN}),
]
Text = Annotated[str, AfterValidator(_text)]
Host = Annotated[str, AfterValidator(_host)]
HeaderName = Annotated[str, AfterValidator(_header)]
