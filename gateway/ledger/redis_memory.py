"""What this process has seen the store acknowledge: a store that went back in time is noticed (PROMISES 2.3, rule 5).

Bounded: the batches touched last, for half an hour, which is less than the mark of a deleted batch stays in the store.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence

_BATCHES_MAX = 10_000
_REMEMBERED_S = 1800.0


class _Seen:
    __slots__ = ("at_s", "intended", "is_final", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.at_s = 0.0
        self.is_final = False
        self.intended: set[int] = set()


class Memory:
    def __init__(self) -> None:
        self._batches: OrderedDict[str, _Seen] = OrderedDict()

    def seen(self, batch_id: str) -> int:
        """The highest sequence of the batch that was acknowledged; 0 where none is remembered."""
        known = self._batches.get(batch_id)
        if known is None or known.is_final or time.monotonic() - known.at_s > _REMEMBERED_S:
            return 0
        return known.seq

    def saw(self, batch_id: str, seq: int, *, is_final: bool = False) -> None:
        known = self._batches.get(batch_id)
        if known is None:
            known = self._batches[batch_id] = _Seen()
            if len(self._batches) > _BATCHES_MAX:
                self._batches.popitem(last=False)
        else:
            self._batches.move_to_end(batch_id)
        known.at_s = time.monotonic()
        known.seq = max(known.seq, seq)
        if is_final:
            known.is_final = True
            known.intended.clear()

    def intended(self, batch_id: str, indexes: Sequence[int]) -> None:
        known = self._batches.get(batch_id)
        if known is not None:
            known.intended.update(indexes)

    def retracted(self, batch_id: str, indexes: Sequence[int]) -> None:
        known = self._batches.get(batch_id)
        if known is not None:
            known.intended.difference_update(indexes)

    def intents(self, batch_id: str) -> list[int]:
        """Operations that this process has intended, by index, whether or not they have an outcome by now."""
        known = self._batches.get(batch_id)
        return sorted(known.intended) if known is not None else []

    def unfinished(self) -> list[str]:
        return [batch_id for batch_id in self._batches if self.seen(batch_id)]

    def forget(self, batch_id: str) -> None:
        self._batches.pop(batch_id, None)
