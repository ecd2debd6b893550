"""What has its outcome: counted by route and method, and with the recorder."""

from gateway.batch.model import Failure, Operation, Outcome
from gateway.batch.routes import Route
from gateway.ledger.port import Lease
from gateway.telemetry.metrics import Metrics
from gateway.worker.recorder import Recorder
from gateway.worker.settled import Settled

OPERATIONS = [Operation(id_, "PUT" if id_ == "b" else "GET", f"/{id_}") for id_ in "abcd"]
ROUTES: list[Route | Failure] = [Route("/a"), Route("/a"), Route("/a"), Failure("route-not-allowed", "none allows it")]
LEASE = Lease("batch", 3, 1, 0, "owner", "native", 40, 4, b"", b"", b"")


class Given(Recorder):
    """A recorder that is only given outcomes."""

    def __init__(self) -> None:
        self.given: list[tuple[str, int, int]] = []

    def add(self, outcomes: object) -> None:
        assert isinstance(outcomes, list)
        self.given += [(each.id, each.index, each.status) for each in outcomes]


def test_outcomes_of_one_kind_are_recorded_under_their_ids_and_counted_by_route_and_method() -> None:
    recorder, metrics = Given(), Metrics("0")
    settled = Settled(LEASE, OPERATIONS, ROUTES, recorder, metrics)

    settled.add([2, 0, 1], [Outcome(0, 200), Outcome(1, 201), Outcome(2, 204)])
    settled.add([3], [Outcome(3, 403, failure=Failure("route-not-allowed", "none allows it"))])

    assert recorder.given == [("c", 42, 200), ("a", 40, 201), ("b", 41, 204), ("d", 43, 403)]
    assert settled.positions == {0, 1, 2, 3}
    assert metrics.operations.value("native", "/a", "GET", "ok") == 2
    assert metrics.operations.value("native", "/a", "PUT", "ok") == 1
    assert metrics.operations.value("native", "_other", "GET", "client_error") == 1
