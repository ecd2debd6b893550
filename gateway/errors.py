"""What can go wrong on purpose: every problem's slug, status and words, and the one exception that carries them.

The table is the single source for refusals, for failed operations and for the pages under `/batch/problems/<slug>`.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Problem(NamedTuple):
    """One kind of problem (RFC 9457): `slug` names it for machines, `title` and `cure` explain it to people."""

    slug: str
    status: int
    title: str
    cure: str


def _table(*rows: tuple[str, int, str, str]) -> Mapping[str, Problem]:
    return {row[0]: Problem(*row) for row in rows}


PROBLEMS = _table(
    # The connection and HTTP itself.
    ("malformed-http", 400, "Malformed HTTP", "Send a request that follows RFC 9112; the connection was closed."),
    ("ambiguous-framing", 400, "Ambiguous framing", "Send one Content-Length or one Transfer-Encoding: chunked."),
    ("http-version", 505, "HTTP version not supported", "Speak HTTP/1.1 or HTTP/1.0."),
    ("bad-host", 400, "Bad Host", "Send exactly one Host field with a host and an optional port."),
    ("bad-target", 400, "Bad request target", "Send the target as a path that begins with a single slash."),
    ("method-not-supported", 501, "Method not supported", "Use a method that the gateway knows."),
    ("target-too-long", 414, "Request target too long", "Shorten the request line below the configured limit."),
    ("headers-too-large", 431, "Header fields too large", "Send fewer or smaller header fields."),
    ("request-timeout", 408, "Request timeout", "Send the whole request head, and the body, without pauses."),
    ("envelope-too-large", 413, "Envelope too large", "Split the batch; X-Limit-Bytes tells the limit."),
    ("length-required", 411, "Length required", "Send Content-Length with an HTTP/1.0 request that has a body."),
    ("expectation-failed", 417, "Expectation failed", "Send Expect: 100-continue or no Expect at all."),
    ("unsupported-encoding", 415, "Unsupported content encoding", "Send the envelope without Content-Encoding."),
    ("overloaded", 503, "Overloaded", "Come back after Retry-After; nothing was sent upstream."),
    ("draining", 503, "Draining", "Send it again; this replica goes away, and another one answers."),
    ("loop-detected", 508, "Loop detected", "The request came back to this gateway; look at the upstream's address."),
    ("internal-error", 500, "Internal error", "A defect of the gateway; its log has the request id."),
    ("not-found", 404, "Not found", "Look at the path; the gateway owns only what stands under its batch prefix."),
    ("forbidden", 403, "Forbidden", "Ask from loopback, or with the admin token."),
    ("unauthenticated", 401, "Unauthenticated", "Send a credential that WWW-Authenticate names, and that is valid."),
    # The envelope.
    ("method-not-allowed", 405, "Method not allowed", "Use a method that Allow names."),
    ("unsupported-media-type", 415, "Unsupported media type", "Send Content-Type: application/json."),
    ("not-acceptable", 406, "Not acceptable", "Accept application/json, application/x-ndjson or application/xml."),
    ("invalid-envelope", 400, "Invalid envelope", "Write the batch as the vendor's own documentation has it."),
    ("invalid-json", 400, "Invalid JSON", "Send one JSON text in UTF-8 without a byte order mark (RFC 8259)."),
    ("duplicate-key", 400, "Duplicate member", "Name each member of the envelope once."),
    ("json-too-complex", 400, "JSON too complex", "Nest less deeply, send fewer values or shorter numbers."),
    (
        "validation-failed",
        422,
        "Validation failed",
        "Mend every entry of errors; nothing was sent and nothing charged. ?dryRun=true only checks.",
    ),
    # What `validation-failed` may find, as the codes of its errors.
    ("path-ambiguous", 422, "Ambiguous path", "Write a plain path: one reader could take this one for another's."),
    ("nested-batch", 422, "Nested batch", "Send what this batch holds by itself; a batch cannot hold a batch."),
    (
        "header-not-allowed",
        422,
        "Field not allowed",
        "Leave out what the gateway sets; write names and values plainly.",
    ),
    ("per-op-credentials", 422, "Credentials of an operation", "Send the credential on the batch, for all it holds."),
    ("body-not-allowed", 422, "Body not allowed", "Leave the body out, or write it as the media type asks."),
    ("dependency-invalid", 422, "Dependency invalid", "Name operations of this batch, and let none wait for itself."),
    ("too-many-operations", 413, "Too many operations", "Split the batch; max tells how many operations fit."),
    # Admission.
    ("rate-limited", 429, "Rate limited", "Wait for Retry-After and send again; ?dryRun=true tells cost and tokens."),
    (
        "cost-exceeds-capacity",
        413,
        "Cost exceeds capacity",
        "Split the batch so that its cost fits the bucket's burst, or send it with Prefer: respond-async, to run as "
        "tokens come; ?dryRun=true tells its cost.",
    ),
    ("limiter-unavailable", 503, "Limiter unavailable", "Nothing was sent; come back after Retry-After."),
    ("route-not-allowed", 403, "Route not allowed", "Use a method and path that the configured routes allow."),
    ("route-not-batchable", 403, "Route not batchable", "Send this request alone; its route is closed to batches."),
    # One operation.
    (
        "upstream-error",
        502,
        "Upstream error",
        "The upstream answered this operation with an error; body has its words.",
    ),
    ("upstream-connect", 502, "Upstream unreachable", "No connection could be made; the operation was not sent."),
    (
        "upstream-tls",
        502,
        "Upstream TLS failure",
        "The upstream's certificate was refused; the operation was not sent.",
    ),
    (
        "upstream-unavailable",
        503,
        "Upstream unavailable",
        "The upstream fails too often; come back after Retry-After. Nothing was sent.",
    ),
    ("upstream-reset", 502, "Upstream connection lost", "The connection broke; the operation is safe to repeat."),
    ("upstream-timeout", 504, "Upstream timeout", "No answer in time; the operation is safe to repeat."),
    (
        "outcome-unknown",
        502,
        "Outcome unknown",
        "The operation may have run; look at the upstream before repeating it.",
    ),
    ("upstream-malformed", 502, "Upstream answer malformed", "The upstream's answer broke HTTP; the operation ran."),
    (
        "upstream-response-too-large",
        502,
        "Upstream answer too large",
        "The operation ran; its answer is above the cap.",
    ),
    ("response-budget-exceeded", 507, "Answers too large", "The operation ran; fetch its answer alone or batch fewer."),
    ("halted", 424, "Halted", "An earlier operation failed and onFailure is halt; this one was not sent."),
    ("dependency-failed", 424, "Dependency failed", "An operation that this one waits for did not succeed; not sent."),
    (
        "reference-unresolved",
        424,
        "Reference unresolved",
        "A reference found nothing that fits in the outcome that it names; not sent.",
    ),
    ("credential-refused", 401, "Credential refused", "The upstream answered 401 to an earlier operation; not sent."),
    # Idempotency keys.
    ("idempotency-in-progress", 409, "Idempotency key in use", "An operation under this key is on its way; ask again."),
    (
        "idempotency-key-invalid",
        400,
        "Idempotency key malformed",
        'Write one field of 1 to 255 visible ASCII characters without " and \\, bare or in quotes.',
    ),
    ("idempotency-key-reused", 422, "Idempotency key reused", "The key stands for another request; use a new one."),
    # Asynchronous batches.
    ("async-disabled", 422, "Asynchronous batches are off", "Send fewer operations, or configure a ledger."),
    ("ledger-unavailable", 503, "Ledger unavailable", "Nothing was accepted; come back after Retry-After."),
    ("too-many-batches", 429, "Too many batches", "Wait until one of your unfinished batches has ended."),
    ("batch-not-found", 404, "Batch not found", "Look at the id; a batch is shown to the caller who sent it."),
    ("results-not-ready", 409, "Results not ready", "Wait for the batch to end, or ask with ?partial=true."),
    ("results-expired", 410, "Results expired", "Results are kept for async.retention; send the batch again."),
    ("batch-terminal", 409, "Batch ended", "The batch has ended; nothing was changed."),
    ("batch-running", 409, "Batch running", "Cancel the batch or wait for its end, then delete it."),
    ("bad-cursor", 400, "Bad cursor", "Use a number of operations, and the `next` that the last answer gave."),
    ("cancelled", 409, "Cancelled", "The batch was cancelled; this was not sent, or is safe to repeat."),
    ("expired", 410, "Expired", "The batch's time was up; this was not sent, or is safe to repeat."),
    ("quarantined", 500, "Quarantined", "Workers died while running this operation; it may have run. Look at it."),
    ("payload-corrupt", 500, "Payload corrupt", "The record of this operation is damaged; it was not sent."),
    # A synchronous batch.
    ("batch-deadline", 408, "Batch deadline", "The batch ran out of time; this was not sent. Send what is left again."),
)


LEFT_ALONE = frozenset(
    {
        "batch-deadline",
        "results-not-ready",
        "batch-terminal",
        "batch-running",
        "outcome-unknown",
        "response-budget-exceeded",
        "payload-corrupt",
    }
)
"""Refusals of whole requests that a repeat cannot mend, or must not. SDKs repeat 408, 409 and whatever is above 499 by
themselves, and leave alone what carries `x-should-retry: false` (PROMISES 1.1, 6)."""


class GatewayError(Exception):
    """A request that is refused as a whole; `server.problem` turns it into problem+json.

    `detail` may quote input through `quoted` only. `members` become extension members of the document, `headers` are
    added to the answer, `close` ends the connection after it.
    """

    def __init__(
        self,
        slug: str,
        detail: str = "",
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(f"{slug}: {detail}")
        self.problem = PROBLEMS[slug]
        self.status = self.problem.status if status is None else status
        self.detail = detail or self.problem.cure
        self.headers = dict(headers or {})
        if slug in LEFT_ALONE:
            self.headers["x-should-retry"] = "false"
        self.members = dict(members or {})
        self.close = close
        self.request_id: str | None = None  # where one was given out before the refusal


class DrainingError(GatewayError):
    """No batch begins here any more."""

    def __init__(self) -> None:
        super().__init__("draining", headers={"Retry-After": "5"})


def quoted(text: str, length_max: int = 64) -> str:
    """Input as it may stand in an error: printable ASCII, escaped, at most `length_max` characters."""
    escaped = ascii(text[: length_max + 1])[1:-1]
    return f'"{escaped}"' if len(escaped) <= length_max else f'"{escaped[: length_max - 3]}..."'
