"""The batches of a run: which operations may not be sent twice, which the upstream refuses, and who waits for whom."""

import hashlib
import random
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from gateway.batch.model import Operation

_FAMILY = 12  # operations that follow one another; those of another family are no relatives
_CHAINED_EVERY = 4  # families
_REFUSED_EVERY = 24  # targets
_FLAWLESS_EVERY = 3  # batches


class Plan(NamedTuple):
    """`batches` batches of `size` operations each; where it `is_ordered`, most of them wait for others, and where
    it `cancels`, each is cancelled on its way."""

    batches: int
    size: int
    is_ordered: bool = False
    cancels: bool = False

    @classmethod
    def of(cls, words: Sequence[str]) -> "Plan":
        """The plan whose members were put into `words`."""
        batches, size, *flags = words
        return cls(int(batches), int(size), *(flag == str(True) for flag in flags))

    @property
    def ids(self) -> list[str]:
        return [hashlib.sha256(b"batch %d" % number).hexdigest()[:32] for number in range(self.batches)]

    def operations(self, batch_id: str) -> list[Operation]:
        """Every second one is a POST without any key."""
        return [
            Operation(
                str(index),
                method_of(index),
                target_of(batch_id, index),
                depends_on=tuple(map(str, self.parents(batch_id, index))),
            )
            for index in range(self.size)
        ]

    def parents(self, batch_id: str, index: int) -> Sequence[int]:
        """Up to three earlier ones of its family; in some families each waits for the one before it."""
        place = index % _FAMILY
        if not self.is_ordered or not place:
            return ()
        if index // _FAMILY % _CHAINED_EVERY == _CHAINED_EVERY - 1:
            return (index - 1,)
        chance = random.Random(f"{batch_id}/{index}")
        return sorted(chance.sample(range(index - place, index), min(chance.randrange(4), place)))

    def cancelled_at(self, batch_id: str) -> int | None:
        """With how many outcomes, all of them for some, its caller cancels the batch; None where it never does."""
        return 1 + crc32(batch_id.encode()) % self.size if self.cancels else None

    def hopeless(self, batch_id: str) -> frozenset[int]:
        """Who waits for one that is refused, or for one that is hopeless itself."""
        found: set[int] = set()
        for index in range(self.size):
            parents = self.parents(batch_id, index)
            if any(parent in found or is_refused(target_of(batch_id, parent)) for parent in parents):
                found.add(index)
        return frozenset(found)


def method_of(index: int) -> str:
    return "POST" if index % 2 else "GET"


def target_of(batch_id: str, index: int) -> str:
    return f"/{batch_id}/{index}"


def is_refused(target: str) -> bool:
    """Whether the upstream answers it with 422; of some batches it refuses nothing."""
    batch_id = target.split("/")[1]
    return int(batch_id, 16) % _FLAWLESS_EVERY != 0 and crc32(target.encode()) % _REFUSED_EVERY == 0
