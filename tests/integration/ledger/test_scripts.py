"""The Lua files: their headers, the commands that they use, and their table of states against the one in Python."""

import re
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from gateway.batch.states import FINAL, STATES, Event, State, advance
from gateway.ledger import keys, scripts
from tests.contract.stores import STORES, running

_LUA = Path(str(files("gateway.ledger") / "lua"))
_SCRIPTS = sorted(_LUA.glob("*.lua"))
_PRELUDES = {"batch", "index"}
_EVENTS: tuple[Event, ...] = ("lease", "cancel", "settle", "expire", "break")
_ABSENT_IN_7_0 = re.compile(r"\b(?:IFEQ|DELIFEQ|HEXPIRE|HPEXPIRE|WAITAOF|HGETEX|HSETEX|DELEX|MSETEX)\b", re.I)


@pytest.fixture(scope="module", params=STORES)
def client(request: pytest.FixtureRequest) -> "Iterator[redis.Redis]":
    with (
        tempfile.TemporaryDirectory() as folder,
        running(request.param, Path(folder)) as (_, url),
        redis.Redis.from_url(url) as client,
    ):
        yield client


def test_every_lua_file_is_a_script_that_the_ledger_knows() -> None:
    known = {*scripts.OF_BATCH, *(f"index_{name}" for name in scripts.OF_INDEX)}

    assert {path.stem for path in _SCRIPTS} == known | _PRELUDES


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.stem)
def test_every_script_opens_with_what_it_takes_and_answers(path: Path) -> None:
    head = re.match(r"(?:-- .*\n)+", path.read_text())

    assert head is not None
    assert path.stem in _PRELUDES or re.search(r"^-- KEYS .*\n-- ARGV (?:.*\n)+?-- answer", head[0], re.M)


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.stem)
def test_every_command_of_a_script_is_one_that_the_server_has(path: Path, client: "redis.Redis") -> None:
    text = path.read_text()
    used = set(re.findall(r"redis\.call\(\s*'(\w+)'", text))

    known = {
        name.decode().upper() for name in cast("list[bytes]", client.eval("return redis.call('COMMAND', 'LIST')", 0))
    }

    assert used - known == set()
    assert not _ABSENT_IN_7_0.search(text)
    assert len(re.findall(r"redis\.p?call\(", text)) == len(re.findall(r"redis\.call\(\s*'\w+'", text))


@pytest.mark.parametrize("event", _EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_the_table_in_lua_equals_the_one_in_python(state: State, event: Event, client: "redis.Redis") -> None:
    names = keys.of_batch("pair")
    fields = {"state": state, "seq": 1, "total": 4, "slice_size": 2, "kept": 1000, "gone": 9**15}
    client.flushall()
    for name, value in fields.items():
        client.hset(names[0], name, cast("str | int", value))
    text = (_LUA / "batch.lua").read_text() + "load() return {advance(ARGV[2]) and 1 or 0, batch.state}"

    [moved, now] = cast("list[Any]", client.eval(text, len(names), *names, "0", event))

    after = advance(state, event)
    assert moved == (after is not None)
    assert now.decode() == (after or state)
    assert cast("bytes", client.hget(names[0], "state")).decode() == (after or state)
    assert (client.hget(names[0], "ended") is not None) == (after in FINAL)


def test_all_keys_of_a_batch_and_of_the_index_stand_in_one_slot_each() -> None:
    slots = {re.findall(r"\{.*\}", key)[0] for key in keys.of_batch("x")}

    assert slots == {"{bg:x}"}
    assert {re.findall(r"\{.*\}", key)[0] for key in keys.INDEX} == {"{bg:index}"}
    assert keys.batch_of(keys.meta("x").encode()) == "x"
    assert keys.meta("x") == keys.of_batch("x")[0]
    assert keys.operations("x") == keys.of_batch("x")[1]
