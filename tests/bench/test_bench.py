"""The bench's own arithmetic: what it divides, how it judges, what it prints."""

import json
from pathlib import Path

import pytest

from tests.bench.closed_loop import Sample
from tests.bench.processes import NotMeasuredError, parse_cpu_s
from tests.bench.report import Measured, document, table, write_readme
from tests.bench.rows import ROWS, Fixed, Row, Side, Target
from tests.bench.verdict import Verdict, judge, percentile, span
from tests.bench.workloads import ITEM, ITEM_JSON, gets, mixed, outcomes, posts, transparent_post


def unused(*_: object) -> Sample:
    raise AssertionError("nothing is measured here")


GATEWAY, PEER = Side("gateway", unused), Side("peer", unused)
ROW = Row("work", "some work", "µs CPU", GATEWAY, (Target(PEER, 0.5), Target(Fixed("limit", 20.0), 1.0)))


def measured(gateway: list[float], peer: list[float]) -> Measured:
    return Measured(ROW, {"gateway": [Sample(v, 1000.0, 1.0, 2.0) for v in gateway], "peer": [Sample(v) for v in peer]})


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(0.75, Verdict.MET), (0.76, Verdict.NEAR), (0.825, Verdict.NEAR), (0.83, Verdict.MISSED)],
)
def test_a_target_is_missed_only_beyond_a_tenth(ratio: float, verdict: Verdict) -> None:
    assert judge(ratio, 0.75) is verdict


def test_a_ratio_without_a_target_is_never_judged() -> None:
    assert judge(99.0, None) is Verdict.UNKNOWN


def test_a_ratio_compares_medians_so_one_disturbed_round_changes_nothing() -> None:
    row = measured([10.0, 11.0, 900.0], [40.0, 44.0, 48.0])

    assert row.ratio(ROW.targets[0]) == 0.25
    assert row.verdict(ROW.targets[0]) is Verdict.MET


def test_the_span_of_rounds_keeps_the_extremes() -> None:
    assert span([3.0, 1.0, 2.0]) == span([1.0, 2.0, 3.0])
    assert (span([3.0, 1.0, 2.0]).least, span([3.0, 1.0, 2.0]).most) == (1.0, 3.0)


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (1, 1), (0, 1)])
def test_percentiles_are_by_nearest_rank(percent: int, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_cpu_time_is_user_and_system_whatever_the_process_is_called() -> None:
    stat = "1 (a) b (c) S 2 3 4 5 6 7 8 9 10 11 250 50 99 99 20 0 1 0 5"

    assert parse_cpu_s(stat) == pytest.approx(3.0)


def test_the_table_shows_title_and_gateway_once_and_each_target_on_its_line() -> None:
    lines = table([measured([10.0], [40.0])]).splitlines()

    assert lines[2] == (
        "| some work | 10 µs CPU (10–10) | peer 40 µs CPU (40–40) | 0.25 | ≤ 0.5 | yes | 1,000, 1 ms, 2 ms |  |"
    )
    assert lines[3] == "|  |  | limit 20 µs CPU | 0.50 | ≤ 1 | yes |  |  |"


@pytest.mark.parametrize(("broken", "verdict"), [(False, Verdict.UNKNOWN), (True, Verdict.MISSED)])
def test_a_missing_tool_is_named_but_only_a_broken_side_misses_its_target(broken: bool, verdict: Verdict) -> None:
    row = Measured(ROW, {"gateway": [Sample(1.0)]}, {"peer": NotMeasuredError("nginx missing", broken=broken)})

    assert "peer not measured: nginx missing" in table([row])
    assert row.verdict(ROW.targets[0]) is verdict


def test_a_peer_that_cannot_be_measured_leaves_the_other_targets_standing() -> None:
    row = Measured(ROW, {"gateway": [Sample(1.0)]}, {"peer": NotMeasuredError("wrong answer")})

    assert row.verdict(ROW.targets[1]) is Verdict.MET


def test_every_round_reaches_the_json() -> None:
    content = json.loads(json.dumps(document([measured([1.0, 2.0], [3.0])], rounds=2, seconds=1)))

    assert [sample["value"] for sample in content["rows"][0]["rounds"]["gateway"]] == [1.0, 2.0]


def test_the_readme_changes_between_its_markers_only(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")

    assert write_readme(readme, "| new |\n")
    assert readme.read_text() == "before\n<!-- bench -->\n| new |\n<!-- /bench -->\nafter\n"
    readme.write_text("no markers\n")
    assert not write_readme(readme, "| new |\n")


def test_the_answer_of_every_peer_reads_the_same() -> None:
    workload = gets(1)
    gateway = {"results": [{"id": "op0", "status": 200, "headers": {}, "result": ITEM}]}
    lua = {"responses": [{"id": "op0", "status": 200, "body": ITEM_JSON}]}
    aiohttp = {"results": [{"id": "op0", "status": 200, "headers": {}, "body": ITEM}]}

    for document_ in (gateway, lua, aiohttp):
        assert outcomes(workload, 207, json.dumps(document_).encode()) == workload.expected


def test_bodies_have_the_size_that_a_row_claims() -> None:
    assert len(ITEM_JSON) == 106
    operation = json.loads(posts(1, 1024).body)["operations"][0]
    assert len(json.dumps(operation["body"], separators=(",", ":"))) == 1024
    assert len(transparent_post(1024).body) == 1024


def test_the_mixed_row_pairs_every_method_with_every_size() -> None:
    operations = json.loads(mixed(35).body)["operations"]

    assert {operation["method"] for operation in operations} == {"GET", "POST", "PUT", "PATCH", "DELETE"}
    assert len({(operation["method"], operation["path"].startswith("/sized")) for operation in operations}) == 5


def test_row_names_and_labels_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(len({side.label for side in row.sides}) == len(row.sides) for row in ROWS)
