"""What an outcome means for its key (CONTRACT 3, PROMISES X8). Pure.

- What surely had no effect frees the key: it was not sent, or the upstream turned it away (425; 429 and 503 with
  Retry-After).
- What failed, or may be repeated without a second effect, may run again under the key, by the same request only.
- What succeeded is kept, and so is what may have had an effect that nobody saw: that is never sent again.
"""

from gateway.batch.model import Outcome
from gateway.replay.port import End

_NOT_SENT = frozenset({"upstream-connect", "upstream-tls", "upstream-unavailable", "overloaded", "draining"})
_REPEATABLE = frozenset({"upstream-reset", "upstream-timeout"})
_KEEP = End.KEEP  # to look it up in an enumeration each time takes longer than all the rest
_TURNED_AWAY = frozenset({429, 503})
_TOO_EARLY = 425


def end_of(outcome: Outcome, *, repeatable: bool) -> End:
    """`repeatable`: sending the request again cannot repeat an effect."""
    failure = outcome.failure
    if failure is None and outcome.status < 400:
        return _KEEP  # nearly always
    if failure is not None:
        if not outcome.attempts or failure.slug in _NOT_SENT:
            return End.FORGET
        return End.FAIL if repeatable or failure.slug in _REPEATABLE else End.KEEP
    turned_away = outcome.status in _TURNED_AWAY and "Retry-After" in outcome.headers
    return End.FORGET if turned_away or outcome.status == _TOO_EARLY else End.FAIL
