from gateway.worker.pauses import Pauses


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def nothing(*_: object) -> None:
    """Who hears of pauses, where that is not the subject."""


def test_a_pause_ends_by_itself() -> None:
    clock = Clock()
    pauses = Pauses(clock, nothing).of("me")
    pauses.add("a", 5.0)

    before, clock.now_s = pauses.left_s(["a", "b"]), 105.0

    assert before == 5.0
    assert pauses.left_s(["a", "b"]) == 0.0


def test_the_longest_pause_counts_and_only_for_its_upstream_and_caller() -> None:
    pauses = Pauses(Clock(), nothing)
    mine, yours = pauses.of("me"), pauses.of("you")
    mine.add("a", 5.0)
    mine.add("a", 1.0)

    assert mine.left_s(["a"]) == 5.0
    assert mine.left_s(["b"]) == mine.left_s([]) == 0.0
    assert yours.left_s(["a"]) == 0.0


def test_a_pause_of_everybody_is_each_caller_s() -> None:
    pauses = Pauses(Clock(), nothing)
    mine, yours = pauses.of("me"), pauses.of("you")
    mine.add("a", 5.0, everybody=True)
    mine.add("a", 1.0)

    assert mine.left_s(["a"]) == yours.left_s(["a"]) == 5.0


def test_a_long_pause_is_told_once_and_again_where_it_gets_much_longer() -> None:
    clock, told = Clock(), []
    pauses = Pauses(clock, lambda *words: told.append(words))
    mine = pauses.of("me")

    for wait_s in (1.0, 4.9, 30.0, 31.0, 60.0):
        mine.add("a", wait_s)
    clock.now_s += 60.0
    mine.add("a", 6.0, everybody=True)
    pauses.of("you").add("a", 7.0)

    assert told == [("a", "me", 30.0), ("a", "me", 60.0), ("a", "", 6.0), ("a", "you", 7.0)]
