"""How many tokens a round takes."""

from gateway.admission import Admission, Admitted, Caller, Limit
from gateway.batch.model import Operation
from gateway.batch.routes import EVERY_ROUTE, Route, Routes
from gateway.errors import GatewayError
from gateway.limiter.bucket import Bucket
from gateway.limiter.memory import MemoryLimiter
from gateway.worker.tokens import NotNow, Tokens

OPERATIONS = [Operation(str(number), "GET", f"/{number}") for number in range(8)]


def tokens(rates: dict[str, float], burst: int | None, cost: int = 1) -> Tokens:
    """Of a slice of batch `b`, two operations at a time, one second a turn; one token comes in a thousand seconds."""
    limits = [] if burst is None else [Limit(Bucket("b", 1, 1_000_000_000, burst), "global")]
    admission = Admission(Routes(None), limits, MemoryLimiter(lambda: 0))
    return Tokens(admission, Caller("", "", []), "b", rates, concurrency=2, turn_s=1.0, paid=False)


def test_without_a_limit_a_round_is_all_that_is_left() -> None:
    assert tokens({}, None).most(50, 1.0) == 50


def test_a_slice_begins_with_what_it_sends_at_once_and_goes_on_as_fast_as_its_batch_does() -> None:
    rates: dict[str, float] = {}
    first, second, other = (tokens(rates, 100) for _ in range(3))

    began = first.most(50, 1.0)
    first.sent(2, 0.1)

    assert began == 2
    assert second.most(50, 1.0) == 10
    assert second.most(50, 0.0) == 2
    assert second.most(7, 1.0) == 7
    assert other.most(50, 2.0) == 20


async def test_a_round_is_halved_until_there_are_tokens_for_it() -> None:
    routes = [EVERY_ROUTE] * 8
    scarce = tokens({}, 5)

    count, admitted = await scarce.take(OPERATIONS, routes)

    assert count == 4
    assert isinstance(admitted, Admitted)
    assert len(admitted.routes) == 4


async def test_where_there_are_tokens_for_nothing_the_slice_comes_back_when_they_do() -> None:
    routes = [EVERY_ROUTE] * 8
    scarce = tokens({}, 2)
    await scarce.take(OPERATIONS[:2], routes[:2])

    count, refused = await scarce.take(OPERATIONS[2:], routes[2:])

    assert count == 0
    assert isinstance(refused, NotNow)
    assert refused.wait_s > 60


async def test_what_never_fits_is_refused_alone() -> None:
    dear = Route("/**", cost=6)

    count, refused = await tokens({}, 5).take(OPERATIONS, [dear] * 8)

    assert count == 1
    assert isinstance(refused, GatewayError)
    assert refused.problem.slug == "cost-exceeds-capacity"
