"""One upstream as those who send to it see it: its connections, and how patiently it is asked."""

from dataclasses import dataclass

from gateway.upstream.pool import Pool


@dataclass(frozen=True, slots=True)
class Upstream:
    """Times in seconds, the largest answer in bytes. Batches and forwarded requests share it."""

    pool: Pool
    timeout_s: float
    answer_bytes_max: int
    retries_max: int
