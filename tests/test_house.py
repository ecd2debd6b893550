"""The rules of the house that a machine can hold (STYLE, ARCHITECTURE)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_GATEWAY = sorted((_ROOT / "gateway").rglob("*.py"))
_TESTS = sorted((_ROOT / "tests").rglob("*.py"))
_ROOMS = sorted({path.parent for path in _GATEWAY} - {_ROOT / "gateway"})
_REQUIREMENTS = [_ROOT / "config/requirements.txt", _ROOT / "tests/requirements.txt"]

_LINES_OF_A_MODULE_MAX = 300
_LINES_OF_A_FUNCTION_MAX = 40
_LINES_OF_A_FUNCTION_MEDIAN_MAX = 8
_SAY_NOTHING = {
    "utils", "helpers", "common", "shared", "misc", "base", "core", "types", "manager", "handlers", "service", "impl",
}  # fmt: skip
_MAY_SLEEP = {"faults", "bench"}  # they wait for the real world
_POLL_S_MAX = 0.05
_PURE = [
    "batch", "dialects", "limiter/bucket.py", "upstream/headers.py", "upstream/plain.py", "upstream/request.py",
    "upstream/window.py", "upstream/budget.py", "upstream/breaker.py", "upstream/adaptive.py",
    "worker/decision.py",
]  # fmt: skip
_IMPURE = {"aiohttp", "redis", "sqlite3", "asyncio", "time", "random", "os", "logging", "uvloop", "httptools", "socket"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return str(path.relative_to(_ROOT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _functions(path: Path) -> Iterator[_Function]:
    return (node for node in ast.walk(_tree(path)) if isinstance(node, _Function))


def _lines(function: _Function) -> int:
    """Lines of the body, its docstring not counted."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", _GATEWAY, ids=_name)
def test_no_module_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= _LINES_OF_A_MODULE_MAX


@pytest.mark.parametrize("path", _GATEWAY, ids=_name)
def test_no_function_is_longer_than_40_lines(path: Path) -> None:
    lengths = [(function.name, function.lineno, _lines(function)) for function in _functions(path)]

    assert [each for each in lengths if each[-1] > _LINES_OF_A_FUNCTION_MAX] == []


def test_half_of_all_functions_are_short() -> None:
    lengths = [_lines(function) for path in _GATEWAY for function in _functions(path)]

    assert median(lengths) <= _LINES_OF_A_FUNCTION_MEDIAN_MAX


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [_name(path) for path in _GATEWAY if {path.stem, path.parent.name} & _SAY_NOTHING] == []


@pytest.mark.parametrize("path", _GATEWAY, ids=_name)
def test_every_module_opens_with_a_sentence(path: Path) -> None:
    first = (ast.get_docstring(_tree(path)) or "").partition("\n\n")[0]

    assert re.search(r"[.:]$", first)


@pytest.mark.parametrize("room", _ROOMS, ids=_name)
def test_the_map_of_a_room_names_every_module_in_it(room: Path) -> None:
    map_ = ast.get_docstring(_tree(room / "__init__.py")) or ""
    modules = {path.stem for path in room.glob("*.py")} - {"__init__"}

    unnamed = {module for module in modules if not re.search(rf"\b{module}\b", map_)}

    assert len(modules) < 2 or unnamed == set()


@pytest.mark.parametrize("path", _GATEWAY, ids=_name)
def test_product_code_asserts_nothing(path: Path) -> None:
    assert [node.lineno for node in ast.walk(_tree(path)) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize("path", _GATEWAY + _TESTS, ids=_name)
def test_nothing_is_left_to_do(path: Path) -> None:
    markers = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")

    assert markers.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", _TESTS, ids=_name)
def test_no_test_patches_what_it_tests(path: Path) -> None:
    tree = _tree(path)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert not {name for name in imported if name.split(".")[-1] == "mock"}


def _sleeps(path: Path) -> Iterator[int]:
    """Lines that wait for a fixed time; a loop that polls what another process does is none."""
    tree = _tree(path)
    loops = [node for node in ast.walk(tree) if isinstance(node, (ast.While, ast.For, ast.AsyncFor))]
    polls = {id(node) for loop in loops for node in ast.walk(loop)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(r"(?:(?:time|asyncio)\.)?sleep", ast.unparse(node.func)):
            duration = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            most_s = _POLL_S_MAX if id(node) in polls else 0  # zero only gives the others a turn
            if not isinstance(duration, (int, float)) or duration > most_s:
                yield node.lineno


@pytest.mark.parametrize("path", [path for path in _TESTS if not _MAY_SLEEP & set(path.parts)], ids=_name)
def test_no_test_waits_for_a_fixed_time(path: Path) -> None:
    assert list(_sleeps(path)) == []


@pytest.mark.parametrize("path", _REQUIREMENTS, ids=_name)
def test_requirements_record_no_address(path: Path) -> None:
    assert re.findall(r".*(?:https?://|--index|--find-links).*", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "path", [path for path in _GATEWAY if any(_name(path).startswith(f"gateway/{pure}") for pure in _PURE)], ids=_name
)
def test_a_pure_module_imports_nothing_of_the_world(path: Path) -> None:
    nodes = list(ast.walk(_tree(path)))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}

    assert {name.partition(".")[0] for name in imported} & _IMPURE == set()


def test_every_unit_test_mirrors_a_module() -> None:
    rooms = [_ROOT / "tests/unit" / room for room in ("batch", "dialects", "limiter", "upstream", "telemetry")]
    tests = {path for room in rooms for path in room.glob("test_*.py")} - {
        _ROOT / "tests/unit/dialects/test_json_suite.py"
    }

    missing = [
        _name(test)
        for test in sorted(tests)
        if not (_ROOT / "gateway" / test.parent.name / f"{test.stem.removeprefix('test_')}.py").exists()
    ]

    assert missing == []
