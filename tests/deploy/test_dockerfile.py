"""The Dockerfile as text: what hadolint says, and the promises that a build alone would not break."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from gateway.version import VERSION
from tests.deploy.helm import ROOT

DOCKERFILE = ROOT / "Dockerfile"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage as (word, arguments), continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]
    found: list[list[tuple[str, str]]] = []
    for line in lines:
        word, _, arguments = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, arguments))
    return found


def arguments_of(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [arguments for name, arguments in stage if name == word]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    report = subprocess.run([str(hadolint), str(DOCKERFILE)], capture_output=True, text=True)

    assert (report.returncode, report.stdout) == (0, "")


def test_both_stages_stand_on_the_python_image_that_can_be_replaced() -> None:
    assert "\nARG PYTHON_IMAGE=python:3.13-slim\n\nFROM ${PYTHON_IMAGE} AS build\n" in DOCKERFILE.read_text()

    assert [arguments_of(stage, "FROM") for stage in stages()] == [["${PYTHON_IMAGE} AS build"], ["${PYTHON_IMAGE}"]]


def test_every_package_is_installed_by_hash_or_without_an_index() -> None:
    build, _ = stages()
    installs = [
        command
        for run in arguments_of(build, "RUN")
        for command in run.split("&&")
        if re.search(r"\bpip\b.* (install|wheel|download) ", command)
    ]

    assert len(installs) == 4
    assert [c for c in installs if "--require-hashes -r " not in c and "--no-index --no-deps" not in c] == []
    assert any("--require-hashes -r config/requirements.txt" in c for c in installs)


def test_the_hashed_build_backend_is_complete() -> None:
    (names,) = re.findall(r"/\^\(([a-z|-]+)\)==/", DOCKERFILE.read_text())

    needed, waiting = set(), ["hatchling"]
    while waiting:
        name = waiting.pop()
        needed.add(name)
        requirements = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        waiting += [r.name for r in requirements if r.name not in needed and (not r.marker or r.marker.evaluate())]
    assert set(names.split("|")) == needed


def test_the_runtime_stage_runs_no_command_and_takes_the_environment_alone() -> None:
    _, runtime = stages()

    assert arguments_of(runtime, "RUN") == []
    assert arguments_of(runtime, "COPY") == ["--from=build /opt/batch-gateway /opt/batch-gateway"]


def test_bytecode_is_compiled_and_assertions_stay_on() -> None:
    build, runtime = stages()

    assert any("compileall" in run for run in arguments_of(build, "RUN"))
    assert "PYTHONDONTWRITEBYTECODE=1" in " ".join(arguments_of(runtime, "ENV"))
    assert "PYTHONOPTIMIZE" not in DOCKERFILE.read_text()


def test_the_user_is_a_number_and_not_root() -> None:
    _, runtime = stages()

    assert arguments_of(runtime, "USER") == ["65532:65532"]


def test_entry_point_command_and_health_check_need_no_shell() -> None:
    _, runtime = stages()

    (health,) = arguments_of(runtime, "HEALTHCHECK")
    assert [json.loads(a) for a in arguments_of(runtime, "ENTRYPOINT")] == [["batch-gateway"]]
    assert [json.loads(a) for a in arguments_of(runtime, "CMD")] == [["serve"]]
    assert json.loads(health.partition(" CMD ")[2]) == ["batch-gateway", "healthcheck"]


def test_no_instruction_is_a_heredoc() -> None:
    assert "<<" not in DOCKERFILE.read_text()


def test_both_ports_are_exposed() -> None:
    _, runtime = stages()

    assert arguments_of(runtime, "EXPOSE") == ["8207 9207"]


def test_the_image_is_labelled_with_the_projects_version() -> None:
    _, runtime = stages()

    (version,) = (a.removeprefix("VERSION=") for a in arguments_of(runtime, "ARG") if a.startswith("VERSION="))
    (labels,) = arguments_of(runtime, "LABEL")
    assert version == VERSION
    assert set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", labels)) == {
        *("title", "description", "licenses", "version", "revision", "base.name"),
    }


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    build, _ = stages()
    ignored, *allowed = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]

    copied = {source for copy in arguments_of(build, "COPY") for source in copy.split()[:-1]}
    assert ignored == "*"
    assert {line.removeprefix("!") for line in allowed if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
