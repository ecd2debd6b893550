"""What a caller prefers of the answer to a batch: `Prefer` (RFC 7240). Pure."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from gateway.batch.model import Batch

_SECONDS = re.compile(r"[0-9]{1,6}")


class Preferences(NamedTuple):
    """`respond_async`: 202 at once. `wait_s`: so many seconds for a whole answer before a 202."""

    respond_async: bool = False
    wait_s: int | None = None


def preferences_of(lines: Iterable[str]) -> Preferences:
    """The preferences of all `Prefer` fields. Of a preference that is given twice the first counts (RFC 7240 2); what
    is unknown or cannot be read is ignored, as every preference may be."""
    said: dict[str, str] = {}
    for part in (part for line in lines for part in line.split(",")):
        name, _, value = part.partition(";")[0].partition("=")
        said.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = said.get("wait", "")
    return Preferences("respond-async" in said, int(wait) if _SECONDS.fullmatch(wait) else None)


def goes_on_record(batch: Batch, preferences: Preferences, sync_operations_max: int) -> bool:
    """Whether a gateway with a ledger answers the batch with 202 at once (CONTRACT 2)."""
    at_once = preferences.wait_s == 0 or (preferences.respond_async and preferences.wait_s is None)
    return at_once or batch.schedule.waits or len(batch.operations) > sync_operations_max
