"""When a native envelope's batch is to begin, and which batches of a caller go first. Pure."""

from datetime import datetime

import msgspec
from msgspec import Raw, UnsetType

from gateway.batch.model import Schedule
from gateway.batch.validation import Violation

_PRIORITY = msgspec.json.Decoder(int)
_NOT_BEFORE = msgspec.json.Decoder(float | str)
_PRIORITY_MAX = 9
_DELAY_S_MAX = 365 * 86400.0


def schedule_of(priority: Raw | UnsetType, not_before: Raw | UnsetType, found: list[Violation]) -> Schedule:
    """The schedule; what cannot be read is added to `found`."""
    level = 5 if isinstance(priority, UnsetType) else _priority(priority, found)
    if isinstance(not_before, UnsetType):
        return Schedule(level)
    match _moment(not_before):
        case datetime() as moment:
            return Schedule(level, not_before_s=moment.timestamp())
        case float() as delay_s if 0 <= delay_s <= _DELAY_S_MAX:
            return Schedule(level, delay_s=delay_s)
    cure = "write a date and time with its offset (RFC 3339), or a number of seconds from now"
    found.append(Violation(-1, "notBefore", "not-before", cure))
    return Schedule(level)


def _priority(raw: Raw, found: list[Violation]) -> int:
    try:
        level = _PRIORITY.decode(raw)
    except msgspec.DecodeError:
        level = -1
    if not 0 <= level <= _PRIORITY_MAX:
        found.append(Violation(-1, "priority", "priority", f"write a whole number from 0 to {_PRIORITY_MAX}"))
    return level


def _moment(raw: Raw) -> datetime | float | None:
    try:
        said = _NOT_BEFORE.decode(raw)
        moment = msgspec.convert(said, datetime) if isinstance(said, str) else said
    except msgspec.DecodeError:
        return None
    return None if isinstance(moment, datetime) and moment.tzinfo is None else moment
