"""Both helms, fetched once by `tests/kube`; without them the chart's tests skip and say why, or fail where CI runs."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.helm import ROOT, Helm


@pytest.fixture(scope="session")
def kube() -> Path:
    """The folder of the binaries. A lock, because every xdist worker comes by."""
    folder = Path(sys.prefix) / "kube"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        script = subprocess.run(
            [str(ROOT / "tests" / "kube")], env={**os.environ, "VENV": sys.prefix}, capture_output=True, text=True
        )
    if script.returncode == 0:
        return folder
    reason = f"tests/kube could not install helm: {script.stderr.strip()[-500:]}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", params=["helm-3", "helm-4"])
def helm(request: pytest.FixtureRequest, kube: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(kube / request.param, tmp_path_factory.mktemp(request.param))
