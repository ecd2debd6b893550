"""Idempotency keys in batches whose operations wait for each other: what a key answers is sent no more."""

from random import Random

import pytest

from tests.integration.server.api import Api
from tests.integration.server.gateways import Gateway, gateway
from tests.integration.server.test_order import drawn, judge, outcomes_of
from tests.integration.server.wire import post_batch


async def test_what_is_replayed_is_not_sent_when_its_parents_have_run(api: Api, keeping: Gateway) -> None:
    parent = {"id": "p", "method": "GET", "path": "/p"}
    child = {"id": "c", "method": "POST", "path": "/c", "dependsOn": ["p"], "idempotencyKey": "k"}

    await post_batch(keeping.port, [parent, child])
    again = await outcomes_of(keeping.port, [parent, child])

    assert [again[id_].get("replayed") for id_ in "pc"] == [None, True]
    assert api.targets == ["/p", "/c", "/p"]


@pytest.mark.parametrize("seed", range(3))
async def test_of_random_graphs_all_is_sent_again_but_what_a_key_answers(seed: int) -> None:
    random = Random(seed)
    async with Api(judge) as judging, gateway(judging.url) as running:
        for number in range(10):
            operations, expected = drawn(random, 40)
            for operation in random.sample(operations, len(operations) // 2):
                operation["idempotencyKey"] = f"{number}-{operation['id']}"
            kept = {each["id"] for each in operations if "idempotencyKey" in each and expected[each["id"]][0] == 200}

            for answered in (set[str](), kept, kept):
                began = len(judging.received)
                outcomes = await outcomes_of(running.port, random.sample(operations, len(operations)))
                sent = [received.target for received in judging.received[began:]]

                assert {id_: each["status"] for id_, each in outcomes.items()} == {
                    i: s for i, (s, _) in expected.items()
                }
                assert {id_ for id_, each in outcomes.items() if each.get("replayed")} == answered
                assert sorted(sent) == sorted(t for i, (_, t) in expected.items() if t and i not in answered)
