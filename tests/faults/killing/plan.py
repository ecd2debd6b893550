"""The batches of a run: names, sizes, and which operations may not be sent twice."""

import hashlib
from typing import NamedTuple

from gateway.batch.model import Operation


class Plan(NamedTuple):
    """`batches` batches of `size` operations each."""

    batches: int
    size: int

    @property
    def ids(self) -> list[str]:
        return [hashlib.sha256(b"batch %d" % number).hexdigest()[:32] for number in range(self.batches)]

    def operations(self, batch_id: str) -> list[Operation]:
        """Every second one is a POST without any key."""
        return [Operation(str(index), method_of(index), target_of(batch_id, index)) for index in range(self.size)]


def method_of(index: int) -> str:
    return "POST" if index % 2 else "GET"


def target_of(batch_id: str, index: int) -> str:
    return f"/{batch_id}/{index}"
