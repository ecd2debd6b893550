"""State machines that do the same to a store and to its model, here or on a server whose clock they move."""

import redis
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.contract.ledger.frozen import FrozenClock, frozen


class OnServer:
    """Half of a machine whose store is a Redis or Valkey with a clock that stands still."""

    url: str
    clock_of_server: FrozenClock

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


def run(machine: type[RuleBasedStateMachine], examples: int) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None))


def run_on(store: str, machine: type[RuleBasedStateMachine], examples: int) -> None:
    """The machine is an `OnServer` as well."""
    with frozen(store) as (url, clock):
        run(type("Here", (machine,), {"url": url, "clock_of_server": clock}), examples)
