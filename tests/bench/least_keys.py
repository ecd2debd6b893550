"""What limits and keys in Redis cost at least: a Python that makes digests, one seal and the calls, and nothing else.

Its calls carry about as many bytes as the gateway's, one after the other over a blocking socket. It looks for no
earlier answer, serves nobody else meanwhile, and cannot be cancelled.
"""

import os
import socket
import time
from hashlib import blake2b

import hiredis
import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.replay.port import DIGEST_BYTES, FENCE_BYTES
from tests.bench.closed_loop import Measure, Sample
from tests.bench.once import TIMEOUT_S, send
from tests.bench.subjects import SHARED, Stage, port_of
from tests.bench.workloads import NEW, Workload

_TAKE_BYTES = 200  # numbers of one bucket
_OK = b"+OK\r\n"
_SECRET = bytes(32)
_BEGUN = blake2b(digest_size=DIGEST_BYTES, key=_SECRET)


def least_added(workload: Workload) -> Measure:
    """CPU µs by operation: one call for the limits; one call before and one behind for the keys, where it has any."""

    def measure(stage: Stage, subject: str) -> Sample:
        running = stage.running(subject)
        _, answer = send(stage.running(SHARED).url, workload.path, workload.body)
        batch = _Batch(workload, answer)
        with socket.create_connection(("127.0.0.1", port_of(running)), TIMEOUT_S) as redis:
            batches, began_s, spent_s = 0, time.monotonic(), time.process_time()
            while time.monotonic() - began_s < stage.seconds:
                batch.pay(redis)
                batches += 1
            spent_s = time.process_time() - spent_s
        return Sample(spent_s * 1e6 / (batches * workload.operations))

    return measure


class _Batch:
    """What is to be done for one batch."""

    def __init__(self, workload: Workload, answer: bytes) -> None:
        self._is_keyed = workload.is_keyed
        self._request, self._answer = workload.body, answer
        self._operations: list[msgspec.Raw] = []
        if NEW.encode() in workload.body:
            self._operations = msgspec.json.decode(workload.body, type=dict[str, list[msgspec.Raw]])["operations"]
        self._outcomes = msgspec.json.decode(answer)["results"]

    def pay(self, redis: socket.socket) -> None:
        _call(redis, bytes(_TAKE_BYTES))
        if not self._is_keyed:
            return
        if self._operations:
            names = [_digest(b"%d" % number) for number in range(len(self._operations))]
            digests = [_digest(operation) for operation in self._operations]
            kept = msgspec.msgpack.encode(self._outcomes)
        else:
            names, digests = [_digest(os.urandom(16))], [_digest(self._request)]
            kept = self._answer
        fences = bytes(FENCE_BYTES)
        _call(redis, fences + b"".join(names) + b"".join(digests))
        sealed = AESGCM(_SECRET).encrypt(names[0][:12], kept, fences)
        _call(redis, fences + b"".join(names) + sealed)


def _digest(data: bytes | msgspec.Raw) -> bytes:
    digest = _BEGUN.copy()
    digest.update(data)
    return digest.digest()


def _call(redis: socket.socket, content: bytes) -> None:
    redis.sendall(hiredis.pack_command((b"SET", b"least", content, b"PX", b"60000")))  # type: ignore[arg-type]  # it says tuples of one
    assert redis.recv(64) == _OK
