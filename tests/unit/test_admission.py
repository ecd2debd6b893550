"""The same answer for a request alone or in a batch, and every token taken in one step before anything is sent."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Admission, Caller, Limit, identity_of
from gateway.batch.model import Failure, Operation
from gateway.batch.routes import EVERY_ROUTE, Route, Routes
from gateway.errors import GatewayError
from gateway.limiter.bucket import Bucket, Charge, Denied, Granted, OnExhausted
from gateway.limiter.memory import MemoryLimiter
from tests.strategies import LAW

_CALLER = Caller("me", "10.0.0.1", [(b"X-Tenant", b"t")])


class _Recorded(MemoryLimiter):
    """A limiter whose clock stands still, that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.asked: list[Sequence[Charge]] = []

    async def take(self, charges: Sequence[Charge], *, wait_max_us: int) -> Granted | Denied:
        self.asked.append(charges)
        return await super().take(charges, wait_max_us=wait_max_us)


def _bucket(burst: int = 10, on_exhausted: OnExhausted = "reject", name: str = "b", tokens: int = 1) -> Bucket:
    return Bucket(name, tokens, 1_000_000, burst, on_exhausted)


def _limit(burst: int = 10, on_exhausted: OnExhausted = "reject", **rest: str) -> Limit:
    return Limit(_bucket(burst, on_exhausted), rest.get("key", "caller"))


def _gets(*paths: str) -> list[Operation]:
    return [Operation(str(index), "GET", path) for index, path in enumerate(paths)]


async def _refusal(admission: Admission, operations: list[Operation]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await admission.admit(operations, _CALLER, batched=True, wait_max_us=0, pointer="/operations")
    return caught.value


_routes = st.none() | st.lists(
    st.builds(
        Route,
        st.sampled_from(["/a", "/{x}", "/a/**", "/a/{x}"]),
        st.sampled_from([frozenset({"GET"}), frozenset({"GET", "POST"})]),
        batchable=st.booleans(),
    ),
    max_size=4,
)
_requests = st.tuples(st.sampled_from(["GET", "POST"]), st.sampled_from(["/a", "/b", "/a/b", "/a/b/c", "/"]))


@LAW
@given(_routes, _requests)
def test_an_operation_takes_the_route_that_the_request_takes_alone_or_none(
    routes: list[Route] | None, request: tuple[str, str]
) -> None:
    admission = Admission(Routes(routes), [], MemoryLimiter(lambda: 0))

    alone, batched = (admission.decide(*request, batched=batched) for batched in (False, True))

    assert isinstance(alone, Route)
    assert isinstance(batched, Failure) or batched is alone


@pytest.mark.parametrize(
    ("routes", "decision"),
    [
        (None, EVERY_ROUTE),
        ([], "route-not-allowed"),
        ([Route("/b")], "route-not-allowed"),
        ([Route("/a", frozenset({"POST"}))], "route-not-allowed"),
        ([Route("/a", batchable=False)], "route-not-batchable"),
        ([Route("/a")], Route("/a")),
    ],
)
def test_configured_routes_are_an_allow_list_for_batches(routes: list[Route] | None, decision: Route | str) -> None:
    decided = Admission(Routes(routes), [], MemoryLimiter(lambda: 0)).decide("GET", "/a", batched=True)

    assert (decided.slug if isinstance(decided, Failure) else decided) == decision


async def test_without_limits_nothing_is_asked_of_the_limiter() -> None:
    limiter = _Recorded()

    admitted = await Admission(Routes(None), [], limiter).admit(_gets("/a"), _CALLER, batched=True, wait_max_us=0)

    assert (admitted.routes, admitted.readings, limiter.asked) == ([EVERY_ROUTE], (), [])


async def test_all_operations_are_charged_in_one_step() -> None:
    limiter = _Recorded()
    routes = Routes([Route("/a", cost=3), Route("/b")])
    limits = [_limit(), Limit(_bucket(name="b2"), "ip", frozenset({"/b"}))]

    admitted = await Admission(routes, limits, limiter).admit(
        _gets("/a", "/b", "/no"), _CALLER, batched=True, wait_max_us=0
    )

    ((first, second),) = limiter.asked
    assert (first.key, list(first.costs)) == ("me", [3, 1, 0])
    assert (second.key, list(second.costs)) == ("10.0.0.1", [0, 1, 0])
    assert list(admitted.tokens) == [4, 1]


async def test_what_no_route_allows_costs_nothing_and_does_not_run() -> None:
    limiter = _Recorded()

    admitted = await Admission(Routes([]), [_limit()], limiter).admit(_gets("/a"), _CALLER, batched=True, wait_max_us=0)

    assert limiter.asked == []
    assert isinstance(admitted.routes[0], Failure)


async def test_too_few_tokens_refuse_the_batch_and_take_none() -> None:
    admission = Admission(Routes(None), [_limit(burst=3)], MemoryLimiter(lambda: 0))
    await admission.admit(_gets("/a", "/a"), _CALLER, batched=True, wait_max_us=0)

    refusal = await _refusal(admission, _gets("/a", "/a"))

    assert (refusal.problem.slug, refusal.headers["Retry-After"]) == ("rate-limited", "1")
    assert refusal.members == {"limit": "b", "cost": 2, "retryAfter": 1}
    assert [reading.remaining for reading in await admission.readings(_CALLER)] == [1]


@pytest.mark.parametrize("on_exhausted", ["reject", "wait"])
async def test_a_batch_that_can_never_pay_is_refused_for_good(on_exhausted: OnExhausted) -> None:
    admission = Admission(Routes(None), [_limit(2, on_exhausted)], MemoryLimiter(lambda: 0))

    refusal = await _refusal(admission, _gets("/a", "/a", "/a"))

    assert (refusal.status, refusal.problem.slug) == (413, "cost-exceeds-capacity")
    assert "Retry-After" not in refusal.headers
    assert refusal.members == {"max": 2, "cost": 3, "limit": "b"}


async def test_a_partial_limit_runs_what_has_tokens_and_tells_the_rest_when_to_come_back() -> None:
    admission = Admission(Routes([Route("/a")]), [_limit(2, "partial")], MemoryLimiter(lambda: 0))

    admitted = await admission.admit(_gets("/a", "/no", "/a", "/a", "/no"), _CALLER, batched=True, wait_max_us=0)

    slugs = [route.slug if isinstance(route, Failure) else "runs" for route in admitted.routes]
    last = admitted.routes[3]
    assert slugs == ["runs", "route-not-allowed", "runs", "rate-limited", "route-not-allowed"]
    assert isinstance(last, Failure)
    assert last.members == {"retryAfter": 1}


async def test_a_waiting_limit_says_when_each_operation_may_start() -> None:
    admission = Admission(Routes(None), [_limit(3, "wait")], MemoryLimiter(lambda: 0))
    await admission.admit(_gets("/a", "/a"), _CALLER, batched=True, wait_max_us=0)

    admitted = await admission.admit(_gets("/a", "/a"), _CALLER, batched=True, wait_max_us=5_000_000)

    assert list(admitted.delays_us) == [0, 1_000_000]


async def test_strict_routes_refuse_the_whole_batch_with_every_reason() -> None:
    admission = Admission(Routes([Route("/a")]), [], MemoryLimiter(lambda: 0), strict=True)

    refusal = await _refusal(admission, _gets("/a", "/b", "/c"))

    errors: object = refusal.members["errors"]
    assert refusal.problem.slug == "validation-failed"
    assert isinstance(errors, list)
    assert [(error["pointer"], error["code"]) for error in errors] == [
        ("/operations/1/path", "route-not-allowed"),
        ("/operations/2/path", "route-not-allowed"),
    ]


@pytest.mark.parametrize(("count", "truncated"), [(100, False), (101, True)])
async def test_strict_routes_list_at_most_100_reasons_and_announce_more(count: int, truncated: bool) -> None:
    admission = Admission(Routes([]), [], MemoryLimiter(lambda: 0), strict=True)

    refusal = await _refusal(admission, _gets(*["/a"] * count))

    errors: object = refusal.members["errors"]
    assert isinstance(errors, list)
    assert (len(errors), "truncated" in refusal.members) == (100, truncated)


async def test_strict_routes_let_a_good_batch_through() -> None:
    admission = Admission(Routes([Route("/a")]), [], MemoryLimiter(lambda: 0), strict=True)

    assert (await admission.admit(_gets("/a"), _CALLER, batched=True, wait_max_us=0)).routes == [Route("/a")]


@pytest.mark.parametrize(
    ("key", "other", "shared"),
    [
        ("caller", Caller("you", "10.0.0.1", _CALLER.fields), False),
        ("caller", Caller("me", "10.0.0.2", []), True),
        ("ip", Caller("me", "10.0.0.2", _CALLER.fields), False),
        ("ip", Caller("you", "10.0.0.1", []), True),
        ("global", Caller("you", "10.0.0.2", []), True),
        ("header:x-tenant", Caller("me", "10.0.0.1", [(b"x-tenant", b"u")]), False),
        ("header:X-Tenant", Caller("you", "10.0.0.2", [(b"x-TENANT", b"t")]), True),
    ],
)
async def test_a_limits_key_says_who_shares_its_bucket(key: str, other: Caller, shared: bool) -> None:
    admission = Admission(Routes(None), [_limit(key=key)], MemoryLimiter(lambda: 0))
    await admission.admit(_gets("/a"), _CALLER, batched=True, wait_max_us=0)

    (reading,) = await admission.readings(other)

    assert (reading.remaining == 9) is shared


def test_a_caller_is_a_digest_of_its_own_fields_and_never_the_credential() -> None:
    names = frozenset({b"authorization", b"x-api-key"})
    mine = identity_of([(b"Authorization", b"Bearer secret"), (b"X-A", b"1")], names)

    assert mine == identity_of([(b"x-a", b"2"), (b"AUTHORIZATION", b"Bearer secret")], names)
    assert mine != identity_of([(b"Authorization", b"Bearer other")], names)
    assert mine != identity_of([(b"X-Api-Key", b"Bearer secret")], names)
    assert "secret" not in mine
    assert identity_of([(b"X-A", b"1")], names) == "anonymous"
