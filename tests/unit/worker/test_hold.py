import asyncio

from gateway.ledger.port import Lease
from gateway.worker.hold import STOPPED, Hold

LEASE = Lease("b", 0, 1, 0, "o", "native", 0, 1, b"", b"", b"")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def held(clock: Clock) -> Hold:
    return Hold(LEASE, 15.0, 100.0, clock, asyncio.get_running_loop().create_future())


async def test_a_lease_is_trusted_for_four_fifths_of_its_time_from_before_it_was_asked_for() -> None:
    clock = Clock()
    hold = held(clock)

    clock.now_s = 111.9
    before = hold.refusal()
    clock.now_s = 112.0

    assert before is None
    assert hold.refusal() is STOPPED
    assert hold.stopped.done()


async def test_a_renewal_counts_from_before_it_was_asked_for() -> None:
    clock = Clock()
    hold = held(clock)

    hold.extend(105.0)
    clock.now_s = 116.9

    assert hold.refusal() is None


async def test_what_ran_out_once_is_not_trusted_again() -> None:
    clock = Clock()
    hold = held(clock)
    clock.now_s = 140.0
    hold.refusal()

    hold.extend(140.0)

    assert hold.refusal() is STOPPED


async def test_stopping_twice_is_stopping() -> None:
    hold = held(Clock())

    hold.stop()
    hold.stop()

    assert hold.refusal() is STOPPED
