"""One request and its answer, and the proof that a subject answers rightly before it is measured."""

from http.client import HTTPConnection, HTTPException

from tests.bench.processes import NotMeasuredError
from tests.bench.workloads import Workload, outcomes

TIMEOUT_S = 30.0


def prove(url: str, workload: Workload) -> None:
    """A subject that answers wrongly is never measured."""
    status, answer = send(url, workload.path, workload.body)
    try:
        right = outcomes(workload, status, answer) == workload.expected
    except (ValueError, KeyError, TypeError):
        right = False
    if not right:
        raise NotMeasuredError(f"wrong answer {status}: {answer[:100]!r}")


def send(url: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """POST a JSON body, or GET where there is none; the status and the body that come back."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        connection.request("POST" if body else "GET", path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException) as error:
        raise NotMeasuredError(f"no answer: {error!r}") from error
    finally:
        connection.close()
