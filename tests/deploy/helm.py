"""A real helm, and what tests ask of it: lint, render, refuse."""

import functools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
UMBRELLA = Path(__file__).parent / "umbrella"

Tree = dict[str, Any]  # a YAML mapping: values, or a manifest


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of one release."""

    objects: tuple[Tree, ...]

    def one(self, kind: str, name: str | None = None) -> Tree:
        """The only object of this kind (and name)."""
        (found,) = (o for o in self.objects if o["kind"] == kind and name in (None, o["metadata"]["name"]))
        return found

    def ours(self) -> list[Tree]:
        """The objects of the gateway's chart, without those of the chart around it."""
        return [o for o in self.objects if o["metadata"]["name"] not in ("shop", "notes")]

    def kinds(self) -> list[str]:
        return sorted(o["kind"] for o in self.objects)

    def pod(self) -> Tree:
        spec: Tree = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    def gateway(self) -> Tree:
        """The gateway's container, wherever in the Pod it stands."""
        pod = self.pod()
        (found,) = (c for c in pod.get("initContainers", []) + pod["containers"] if c["name"] == "batch-gateway")
        container: Tree = found
        return container

    def gateway_yaml(self) -> str:
        text: str = self.one("ConfigMap")["data"]["gateway.yaml"]
        return text


@dataclass(frozen=True, slots=True)
class Helm:
    """One helm binary with a folder of its own for a home, so that no cluster and no user's settings are found.

    Values travel as a file does, by YAML on standard input: `--set` would hide how helm reads large numbers.
    """

    binary: Path
    folder: Path

    def lint(self, values: Tree) -> str:
        return run(self, yaml.safe_dump(values), "lint", "--strict", "--values", "-", str(CHART))

    def template(self, values: Tree, chart: Path = CHART, kube_version: str = "1.33") -> Rendered:
        arguments = ("template", "rel", str(chart), "--values", "-", "--kube-version", kube_version)
        return parse(run(self, yaml.safe_dump(values), *arguments))

    def refusal(self, values: Tree, kube_version: str = "1.33") -> str:
        """What helm says when it refuses to render; an error when it renders."""
        try:
            self.template(values, kube_version=kube_version)
        except subprocess.CalledProcessError as error:
            return str(error.stderr)
        raise AssertionError(f"rendered, though it should have been refused: {values}")

    def umbrella(self, values: Tree, kube_version: str = "1.33") -> Rendered:
        """The chart as a dependency of somebody else's, which includes the sidecar in its own Deployment.

        In standalone mode that chart has no Deployment, so that there is exactly one Pod template in both modes. The
        notes come as the ConfigMap `notes`.
        """
        chart = self.folder / "shop"
        if not chart.exists():
            shutil.copytree(UMBRELLA, chart)
            shutil.copytree(CHART, chart / "charts" / "batch-gateway")
            shutil.copy(CHART / "templates" / "NOTES.txt", chart)
        return self.template({"batch-gateway": values}, chart, kube_version)


@functools.cache  # many claims are about the same rendering
def run(helm: Helm, values: str, *arguments: str) -> str:
    return subprocess.run(
        [str(helm.binary), *arguments],
        input=values,
        env={"HOME": str(helm.folder)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@functools.cache
def parse(manifests: str) -> Rendered:
    return Rendered(tuple(o for o in yaml.safe_load_all(manifests) if o))
