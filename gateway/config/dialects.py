"""The vendors' formats for many calls in one request: each is spoken where its section stands."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, WithJsonSchema

from gateway.config.batch import Prefix
from gateway.config.section import Section, Size, Timeout

ORIGIN_PATTERN = r"^https?://[A-Za-z0-9._~-]+(:[0-9]{1,5})?$"


def _origin(origin: str) -> str:
    if not re.fullmatch(ORIGIN_PATTERN, origin):
        raise ValueError("must be a scheme and a host, such as https://www.googleapis.com, without a path")
    return origin


Origin = Annotated[str, AfterValidator(_origin), WithJsonSchema({"type": "string", "pattern": ORIGIN_PATTERN})]
Origins = Annotated[tuple[Origin, ...], Strict(False)]


class Google(Section):
    """Google's multipart/mixed batches."""

    path: Prefix = Field(
        default="/batch", description="POST multipart/mixed here, or below it, is a batch of Google's clients."
    )
    operations_max: int = Field(default=1000, ge=1, le=100_000, description="Most calls of one batch.")
    origins: Origins = Field(
        default=("https://www.googleapis.com",),
        description="Hosts that a call may name in a whole URL; it goes to the upstream all the same.",
    )


class Facebook(Section):
    """Facebook's Graph batches: POST on / , /v26.0/ or /me with `batch` among its parameters."""

    operations_max: int = Field(default=50, ge=1, le=100_000, description="Most calls of one batch.")
    origins: Origins = Field(
        default=("https://graph.facebook.com",),
        description="Hosts that a relative_url may name after all; the call goes to the upstream all the same.",
    )


class Graph(Section):
    """Microsoft Graph's JSON batches, which are those of OData 4.01."""

    path: Prefix = Field(
        default="/$batch",
        description="POST of JSON here, below any service root, is a batch of Graph's clients; monitors of those that "
        "are answered later stand below it.",
    )
    operations_max: int = Field(default=20, ge=1, le=100_000, description="Most requests of one batch.")
    origins: Origins = Field(
        default=("https://graph.microsoft.com",),
        description="Hosts that a request may name in a whole URL; it goes to the upstream all the same.",
    )
    bodies: Literal["object", "base64", "auto"] = Field(
        default="object",
        description="How JSON bodies are answered: as objects, as Graph does; in base64, the only form that Python's "
        "msgraph-core reads; or auto, base64 for that client only.",
    )
    slash: Literal["host", "root"] = Field(
        default="host",
        description="Where a URL with a slash in front begins: at the host, as in OData, or at the service root, as in "
        "Graph.",
    )


class Anthropic(Section):
    """Anthropic's Message Batches."""

    path: Prefix = Field(default="/v1/messages/batches", description="Where its clients look for batches.")
    target: Prefix = Field(default="/v1/messages", description="Path of the upstream that each request of one goes to.")
    operations_max: int = Field(default=10_000, ge=1, le=100_000, description="Most requests of one batch.")
    body_max: Size = Field(default=32 * 1024**2, description="Largest body that makes a batch.")


class OpenAI(Section):
    """OpenAI's files, and batches that are made of them."""

    base: Prefix = Field(
        default="/v1", description="What clients have as base URL; files and batches below it are the gateway's."
    )
    lines_max: int = Field(default=50_000, ge=1, le=100_000, description="Most requests of one batch.")
    file_max: Size = Field(default=200 * 1024**2, description="Largest file.")
    files_max: int = Field(default=1000, ge=1, le=10_000, description="Most files of one caller.")
    file_life: Timeout = Field(default=30 * 86400.0, description="How long an uploaded file is kept.")


class Dialects(Section):
    """The vendors' formats that are spoken; what is absent is not."""

    anthropic: Anthropic | None = Field(
        default=None, description="Anthropic's Message Batches.", examples=[{"path": "/v1/messages/batches"}]
    )
    google: Google | None = Field(
        default=None, description="Google's multipart/mixed batches.", examples=[{"path": "/batch"}]
    )
    facebook: Facebook | None = Field(
        default=None, description="Facebook's Graph batches.", examples=[{"operations_max": 50}]
    )
    graph: Graph | None = Field(
        default=None, description="Microsoft Graph's JSON batches.", examples=[{"path": "/$batch"}]
    )
    openai: OpenAI | None = Field(
        default=None,
        description="OpenAI's files and batches; they need an embedded ledger.",
        examples=[{"base": "/v1"}],
    )
