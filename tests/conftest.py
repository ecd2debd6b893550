"""What every test shares: how Hypothesis looks for counterexamples, and what a host that takes the machine away means.

Tests of limits on time run real processes. Where the machine's host ran others instead of them, a failure may be its
doing: such a test is run again, at most twice, and is named at the end. Where nothing was taken, a failure is one.
"""

import os

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import settings

from tests.fakes.machine import STOLEN_MAX, Machine

settings.register_profile("ci", derandomize=True, deadline=None)  # the same examples on every run
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

_TRIES_MAX = 3
_AGAIN = "run again"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for tries_left in reversed(range(_TRIES_MAX)):
        machine = Machine()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports) or machine.stolen <= STOLEN_MAX or not tries_left:
            break
        item.user_properties.append((_AGAIN, f"for the host took {machine.stolen:.0%} of the time that was to be run"))
        item._initrequest()  # type: ignore[attr-defined]  # fixtures anew
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in (each for outcome in ("passed", "failed") for each in terminalreporter.stats.get(outcome, ())):
        for name, why in report.user_properties if report.when == "call" else ():
            if name == _AGAIN:
                terminalreporter.write_line(f"{_AGAIN}, {why}: {report.nodeid}")
