"""`GET /batch/limits`: every limit that applies to a caller, with what is left. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.limiter.bucket import Reading


def limits_page(readings: Sequence[Reading], figures: Mapping[str, int]) -> bytes:
    """The document: a bucket each, and `figures` that are the same for all callers."""
    limits = [
        {
            "name": reading.bucket.name,
            "tokens": reading.bucket.tokens,
            "perSeconds": reading.bucket.per_us / 1_000_000,
            "burst": reading.bucket.burst,
            "onExhausted": reading.bucket.on_exhausted,
            "remaining": reading.remaining,
            "fullInSeconds": reading.full_in_s,
        }
        for reading in readings
    ]
    return msgspec.json.encode({"limits": limits, **figures})
