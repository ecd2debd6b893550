"""PROMISES X3: `decide(lone) == decide(the same operation in a batch, at any index)`: routes, cost, buckets, caller.

Two gateways in the same state judge the same requests, one alone and one within batches; their buckets never part. What
the contract makes different stands in `_is_for_batches_alone`.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission import Admission, Caller, Limit
from gateway.batch.model import Batch, Failure, Operation
from gateway.batch.routes import EVERY_ROUTE, Route, Routes
from gateway.errors import GatewayError
from gateway.limiter.bucket import Bucket
from gateway.limiter.memory import MemoryLimiter
from tests.strategies import LAW

T = TypeVar("T")

_REFUSED = Operation("n", "DELETE", "/nowhere")  # no route below lets it into a batch, so it costs nothing
_TEMPLATES = ["/a", "/a/{x}", "/b/**", "/{x}"]
_CALLERS = [
    Caller(identity, ip, [(b"X-Tenant", tenant)])
    for identity, ip, tenant in (("me", "10.0.0.1", b"t"), ("you", "10.0.0.1", b"u"), ("me", "10.0.0.2", b"t"))
]


class Step(NamedTuple):
    """A request, and where in a batch of operations that are refused it stands."""

    method: str
    target: str
    caller: Caller
    before: int
    behind: int
    later_us: int


_routes = st.none() | st.lists(
    st.builds(
        Route,
        st.sampled_from(_TEMPLATES),
        st.sampled_from([frozenset({"GET"}), frozenset({"GET", "POST"})]),
        cost=st.integers(1, 3),
        batchable=st.booleans(),
    ),
    max_size=4,
)
_limits = st.lists(
    st.builds(
        Limit,
        st.builds(
            Bucket,
            st.sampled_from(["first", "second"]),
            st.integers(1, 3),
            st.just(1_000_000),
            st.integers(1, 6),
            st.sampled_from(["reject", "partial", "wait"]),
        ),
        st.sampled_from(["caller", "ip", "global", "header:X-Tenant"]),
        st.none() | st.sets(st.sampled_from(_TEMPLATES), min_size=1).map(frozenset),
    ),
    max_size=2,
    unique_by=lambda limit: limit.bucket.name,
)
_steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["GET", "POST"]),
        st.sampled_from(["/a", "/a/1", "/b/1/2", "/c", "/c/d", "/"]),
        st.sampled_from(_CALLERS),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 1_500_000),
    ),
    min_size=4,
    max_size=8,
)


@settings(max_examples=500)  # of four to eight requests each: 2 000 and more
@given(_routes, _limits, _steps)
def test_an_operation_meets_the_same_policy_as_the_same_request_alone(
    routes: Sequence[Route] | None, limits: Sequence[Limit], steps: Sequence[Step]
) -> None:
    now_us = [0]
    alone, batched = (Admission(Routes(routes), limits, MemoryLimiter(lambda: now_us[0])) for _ in range(2))
    for step in steps:
        now_us[0] += step.later_us
        neighbours = 0 if routes is None else 1
        operation = Operation("op", step.method, step.target)
        batch = [*[_REFUSED] * step.before * neighbours, operation, *[_REFUSED] * step.behind * neighbours]

        in_batch = _verdict(batched, batch, step.before * neighbours, step.caller, batched=True)
        if _is_for_batches_alone(in_batch[0], alone.route_of(step.method, step.target)):
            continue
        assert in_batch == _verdict(alone, [operation], 0, step.caller, batched=False)
        for caller in _CALLERS:
            assert _now(alone.readings(caller)) == _now(batched.readings(caller))


@LAW
@given(_routes, _limits, _steps)
def test_a_rehearsal_says_what_admission_then_does(
    routes: Sequence[Route] | None, limits: Sequence[Limit], steps: Sequence[Step]
) -> None:
    now_us = [0]
    admission = Admission(Routes(routes), limits, MemoryLimiter(lambda: now_us[0]))
    for step in steps:
        now_us[0] += step.later_us
        batch = [*[_REFUSED] * step.before, *[Operation("op", step.method, step.target)] * (step.behind + 1)]
        before = _now(admission.readings(step.caller))

        told = _now(admission.rehearse(Batch(batch), step.caller, wait_max_us=2_000_000, in_background=False))

        assert told.readings == before == _now(admission.readings(step.caller))
        last = len(batch) - 1
        verdict = _verdict(admission, batch, last, step.caller, batched=True)
        if told.refusal is not None:
            assert verdict == _told(told.refusal)
        else:
            delay_us = told.admitted.delays_us[last] if told.admitted.delays_us else 0
            assert verdict[:2] == (told.admitted.routes[last], delay_us)
            assert verdict[3] == list(told.costs.values()) or any(
                limit.bucket.on_exhausted == "partial" for limit in limits
            )


def _is_for_batches_alone(route: object, lone: Route) -> bool:
    """CONTRACT 1b: `routes` is an allow-list for batches. Alone the request passes, and takes its own tokens."""
    match route:
        case Failure(slug="route-not-allowed"):
            assert lone is EVERY_ROUTE
            return True
        case Failure(slug="route-not-batchable"):
            assert not lone.batchable
            return True
    return False


def _verdict(
    admission: Admission, operations: Sequence[Operation], index: int, caller: Caller, *, batched: bool
) -> tuple[Any, ...]:
    """The operation's route or refusal, its delay, and what was taken of which buckets."""
    try:
        admitted = _now(admission.admit(operations, caller, batched=batched, wait_max_us=2_000_000))
    except GatewayError as refusal:
        return _told(refusal)
    delay_us = admitted.delays_us[index] if admitted.delays_us else 0
    return admitted.routes[index], delay_us, [*admitted.readings], [*admitted.tokens]


def _told(refusal: GatewayError) -> tuple[Any, ...]:
    return refusal.problem.slug, refusal.detail, refusal.headers, refusal.members


def _now(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("it waited")
