"""`Prefer` (RFC 7240)."""

import pytest

from gateway.server.preferences import Preferences, preferences_of


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], Preferences()),
        (["respond-async"], Preferences(True)),
        (["Respond-Async", "WAIT=5"], Preferences(True, 5)),
        (["wait = 5 ; foo=bar, respond-async"], Preferences(True, 5)),
        (['wait="7"'], Preferences(False, 7)),
        (["wait=5", "wait=9"], Preferences(False, 5)),
        (["wait=-1"], Preferences()),
        (["wait=1.5, return=minimal"], Preferences()),
        (["wait=99999999999"], Preferences()),
        ([",, ;x"], Preferences()),
    ],
)
def test_preferences_are_read_and_what_makes_no_sense_is_ignored(lines: list[str], expected: Preferences) -> None:
    assert preferences_of(lines) == expected
