from gateway.worker.pauses import Pauses


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_pause_ends_by_itself() -> None:
    clock = Clock()
    pauses = Pauses(clock)
    pauses.add("a", 5.0)

    before, clock.now_s = pauses.left_s(["a", "b"]), 105.0

    assert before == 5.0
    assert pauses.left_s(["a", "b"]) == 0.0


def test_the_longest_pause_counts_and_only_for_its_upstream() -> None:
    pauses = Pauses(Clock())
    pauses.add("a", 5.0)
    pauses.add("a", 1.0)

    assert pauses.left_s(["a"]) == 5.0
    assert pauses.left_s(["b"]) == 0.0
