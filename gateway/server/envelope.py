"""An envelope's head and body: what it must declare, which form of answer it accepts, its bytes up to the limit."""

from collections.abc import Iterable, Sequence
from io import BytesIO

from aiohttp.web import BaseRequest, RequestPayloadError

from gateway.errors import GatewayError, quoted
from gateway.server.patience import body_refusal

FORMS = ("application/json", "application/x-ndjson", "application/xml", "text/xml")
_ACCEPT_POST = {"Accept-Post": "application/json"}
_RANGES = {"*/*": FORMS, "application/*": FORMS[:3], "text/*": FORMS[3:]}


def check_type(request: BaseRequest) -> None:
    """Raise 415 unless the body is called JSON in UTF-8 (PROMISES D.1, D.2)."""
    said = ", ".join(request.headers.getall("Content-Type", ()))  # two of them are none (RFC 9110 8.3)
    essence, _, parameters = said.partition(";")
    named = (parameter.strip().lower().partition("=") for parameter in parameters.split(";"))
    charsets = {value.strip('"') for name, _, value in named if name == "charset"}
    if essence.strip().lower() != "application/json" or not charsets <= {"utf-8", "utf8"}:
        detail = f"{quoted(said)} is not Content-Type: application/json"
        raise GatewayError("unsupported-media-type", detail, headers=_ACCEPT_POST)


def check_framing(request: BaseRequest, body_bytes_max: int) -> None:
    """Raise what is wrong with any envelope's coding or length, and answer `Expect: 100-continue` where nothing is."""
    check_coding(request, body_bytes_max)
    expect = request.headers.get("Expect")
    if expect is None:
        return
    if expect.lower() != "100-continue":
        raise GatewayError("expectation-failed", close=True)
    invite(request)


def check_coding(request: BaseRequest, body_bytes_max: int) -> None:
    """Raise what is wrong with an envelope's coding or length."""
    headers = request.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise GatewayError("unsupported-encoding", headers={"Accept-Encoding": "identity"})
    length = headers.get("Content-Length")
    if length is None and "Transfer-Encoding" not in headers and request.version == (1, 0):
        raise GatewayError("length-required")
    if length is not None and int(length) > body_bytes_max:
        raise too_large(body_bytes_max)


def invite(request: BaseRequest) -> None:
    """Tell a caller that waits for it to send the body (RFC 9110 10.1.1)."""
    waits = request.headers.get("Expect", "").lower() == "100-continue"
    if waits and request.transport is not None and request.version == (1, 1):
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def body_of(request: BaseRequest, body_bytes_max: int) -> bytes:
    """The whole body. Stops reading at the limit: 413, exact at the byte."""
    data = await begun(request, body_bytes_max)
    if len(data) > body_bytes_max:
        raise too_large(body_bytes_max)
    return data


async def begun(request: BaseRequest, body_bytes_max: int) -> bytes:
    """The whole body, or what came of it once that was above the limit."""
    content = request.content
    if content.is_eof() and content.exception() is None:  # nearly always
        return content.read_nowait()
    whole = BytesIO()  # joining 10 MiB at the end would hold the loop for 10 ms, and take them twice
    try:
        while whole.tell() <= body_bytes_max and not content.at_eof():
            whole.write(await content.readany())
    except RequestPayloadError as broken:
        raise body_refusal(broken) from broken
    return whole.getvalue()


def form_of(accept: Sequence[str]) -> str:
    """The media type to answer in (RFC 9110 12.5.1): the most wanted of `FORMS`, JSON where nothing is said."""
    weights = weights_of(accept)
    if not accept or accept == ["*/*"]:
        return FORMS[0]
    best, best_weight = "", 0.0
    for essence, weight in weights.items():
        covered = (essence,) if essence in FORMS else _RANGES.get(essence, ())
        # A form that is named has its own weight, whatever a range says.
        form = next((form for form in covered if form == essence or form not in weights), "")
        if form and weight > best_weight:
            best, best_weight = form, weight
    if weights and not best:
        raise GatewayError("not-acceptable", headers=_ACCEPT_POST)
    return best or FORMS[0]


def weights_of(lines: Iterable[str]) -> dict[str, float]:
    """What a caller accepts, each with its weight (RFC 9110 12.4.2)."""
    return dict(_weighed(part) for line in lines for part in line.split(",") if part.strip())


def _weighed(part: str) -> tuple[str, float]:
    essence, *parameters = (piece.strip().lower() for piece in part.split(";"))
    return essence, _weight(parameters)


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def too_large(most: int) -> GatewayError:
    return GatewayError(
        "envelope-too-large",
        f"the envelope is above {most} bytes; split the batch",
        headers={"X-Limit-Bytes": str(most)},
        members={"max": most},
        close=True,
    )
