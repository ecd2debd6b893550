"""How much two counters that only grow have grown of late. Pure: whole numbers, the time is an argument."""

from collections import deque

WINDOW_S = 10  # long enough for a ratio to mean something, short enough to forget an outage


class Window:
    """What two counters gained in the last `WINDOW_S` seconds, or up to one more: it keeps one mark a second."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int, int]] = deque()

    def growth(self, first: int, second: int, now_s: float) -> tuple[int, int]:
        """The counters stand at `first` and `second`: what each gained. Ask once a second, or the window is longer."""
        marks, at_s = self._marks, int(now_s)
        if not marks or marks[-1][0] != at_s:
            marks.append((at_s, first, second))
        while len(marks) > 1 and marks[1][0] <= at_s - WINDOW_S:
            marks.popleft()
        return first - marks[0][1], second - marks[0][2]
