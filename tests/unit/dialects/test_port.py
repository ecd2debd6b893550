"""The one error of a dialect is a refusal that the server can answer."""

from gateway.dialects.port import EnvelopeError
from gateway.errors import GatewayError


def test_an_envelope_error_is_a_refusal_with_the_status_of_its_slug() -> None:
    error = EnvelopeError("too-many-operations", "1001 operations")

    assert isinstance(error, GatewayError)
    assert error.status == 413
