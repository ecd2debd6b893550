"""What a worker runs slices with: what the configuration in force gives, and what all slices share."""

from collections.abc import Callable, MutableMapping
from typing import NamedTuple

import structlog

from gateway.admission import Admission
from gateway.batch.validation import Rules
from gateway.executor import Executor
from gateway.ledger.port import Queue
from gateway.replay.replay import Replay
from gateway.telemetry.metrics import Metrics
from gateway.worker.floor import Floor
from gateway.worker.pauses import Pauses


class Means(NamedTuple):
    """What the configuration in force gives to a slice. Without `replay` nobody asks what idempotency keys stand for;
    `operation_s_max` is the longest time that a route or an upstream leaves to an operation."""

    admission: Admission
    executor: Executor
    via: bytes
    default_host: bytes
    answers_bytes_max: int
    rules: Rules
    replay: Replay | None = None
    operation_s_max: float = 30.0


class Surroundings(NamedTuple):
    """What all slices of a worker share. `turn_s`: how long a slice may start operations while others wait for it.

    Outcomes wait for company for `patience_s`. A suspected slice waits until its loss is `quiet_s` ago and the worker
    has lived since `calm_from_s` (monotonic). `rates`: see `Tokens`.
    """

    queue: Queue
    pauses: Pauses
    metrics: Metrics
    logger: structlog.typing.FilteringBoundLogger
    monotonic_s: Callable[[], float]
    now_s: Callable[[], float]
    jitter: Callable[[], float]
    turn_s: float
    patience_s: float
    tries_max: int
    floor: Floor
    quiet_s: float
    calm_from_s: float
    rates: MutableMapping[str, float]

    def until_quiet_s(self, lost_ago_s: float) -> float:
        """How long what lost its worker so long ago still waits; 0 or less for not at all."""
        return max(self.quiet_s - lost_ago_s, self.calm_from_s - self.monotonic_s())
