"""What the chart refuses to render, and how it says so."""

import pytest

from tests.deploy.helm import Helm, Tree
from tests.deploy.value_sets import STANDALONE, WORKER


@pytest.mark.parametrize("mode", ["sidecar", "standalone"])
@pytest.mark.parametrize(
    ("drain", "least"),
    [
        ({}, 32),
        ({"delay": "0s"}, 27),
        ({"timeout": "1m30s"}, 97),
        ({"delay": "1s", "timeout": "1500ms"}, 5),
        ({"delay": "1ms", "timeout": "1h"}, 3603),
        ({"delay": "0s", "timeout": "1d"}, 86402),
    ],
)
def test_a_grace_period_shorter_than_a_drain_is_refused(helm: Helm, mode: str, drain: Tree, least: int) -> None:
    values: Tree = {"mode": mode, "config": {"drain": drain}}
    message = helm.refusal({**values, "terminationGracePeriodSeconds": least - 1})

    assert f"terminationGracePeriodSeconds: {least - 1} is shorter than a drain" in message
    assert f"set it to {least} or more" in message
    helm.template({**values, "terminationGracePeriodSeconds": least})


@pytest.mark.parametrize("delay", [5, "5", "soon", "5 s", "-5s", "0.5s", ""])
def test_a_drain_without_a_unit_is_refused(helm: Helm, delay: object) -> None:
    message = helm.refusal({"config": {"drain": {"delay": delay}}})

    assert f'config.drain.delay: {delay} is no duration; write it with its unit, such as "5s"' in message


def test_a_default_upstream_beside_upstreams_is_refused(helm: Helm) -> None:
    message = helm.refusal({"config": {"upstreams": {"default": {"url": "http://shop:8080"}}}})

    assert "config.upstreams: the gateway takes either upstream or upstreams" in message
    assert "config.upstream: null" in message


def test_a_native_sidecar_on_a_cluster_that_knows_none_is_refused(helm: Helm) -> None:
    message = helm.refusal({}, kube_version="1.28")

    assert "does not know native sidecars (1.29 does); set nativeSidecar to false" in message
    helm.template({}, kube_version="1.29")
    helm.template({"nativeSidecar": False}, kube_version="1.28")
    helm.template(STANDALONE, kube_version="1.28")


def test_a_cluster_older_than_the_chart_supports_is_refused(helm: Helm) -> None:
    assert "chart requires kubeVersion: >=1.25.0-0" in helm.refusal({}, kube_version="1.24")


def test_replicas_that_would_share_one_ledger_file_are_refused(helm: Helm) -> None:
    message = helm.refusal({**STANDALONE, "replicas": 2, "state": {"claim": "batches"}})

    assert "state.claim: 2 replicas cannot share one ledger file; let them share a Redis" in message
    helm.template({**STANDALONE, "replicas": 2, "state": {"claim": "batches", "enabled": False}})
    helm.template({"replicas": 2, "state": {"claim": "batches"}})


@pytest.mark.parametrize("ledger", [{}, {"ledger": "sqlite:/data/ledger.db"}])
def test_a_worker_whose_ledger_nobody_shares_is_refused(helm: Helm, ledger: Tree) -> None:
    alone: Tree = {**WORKER, "config": {**WORKER["config"], "async": ledger}}
    told: Tree = {"extraEnv": [{"name": "BATCH_GATEWAY__ASYNC__LEDGER", "value": "redis://redis:6379"}]}

    assert "mode: a worker runs the batches that gateways put into a Redis" in helm.refusal(alone)
    helm.template({**alone, **told})


@pytest.mark.parametrize("path", ["/var/lib/batch-gateway", "/var/lib/batch-gateway/"])
def test_a_second_mount_where_the_state_is_kept_is_refused(helm: Helm, path: str) -> None:
    mounts: Tree = {"extraVolumeMounts": [{"name": "mine", "mountPath": path}]}

    assert "extraVolumeMounts: /var/lib/batch-gateway is the mount of state" in helm.refusal(mounts)
    helm.template({**mounts, "state": {"enabled": False}})


# Helm 3 says it by gojsonschema, helm 4 by santhosh-tekuri: the same refusal in two voices.
REFUSALS: dict[str, tuple[Tree, str, str]] = {
    "an unknown value": ({"replicaz": 1}, "Additional property replicaz is not allowed", "'replicaz' not allowed"),
    "an unknown word of the target": (
        {"target": {"nme": "x"}},
        "target: Additional property nme is not allowed",
        "at '/target': additional properties 'nme' not allowed",
    ),
    "an unknown word of the image": (
        {"image": {"tagg": "1"}},
        "image: Additional property tagg is not allowed",
        "at '/image': additional properties 'tagg' not allowed",
    ),
    "an unknown mode": ({"mode": "daemon"}, "mode: mode must be one of", "at '/mode': value must be one of"),
    "a removed mode": ({"mode": None}, "mode is required", "missing property 'mode'"),
    "a removed image": ({"image": None}, "image is required", "missing property 'image'"),
    "a removed configuration": ({"config": None}, "config is required", "missing property 'config'"),
    "a target without a name": ({"target": {"name": ""}}, "target.name: ", "at '/target/name': "),
    "a target's name with capitals": ({"target": {"name": "Shop"}}, "target.name: ", "at '/target/name': "),
    "replicas in words": (
        {"replicas": "two"},
        "replicas: Invalid type. Expected: integer, given: string",
        "at '/replicas': got string, want integer",
    ),
    "a port out of range": ({"service": {"port": 70000}}, "service.port: ", "at '/service/port': "),
    "a listening port out of range": (
        {"config": {"listen": {"port": 0}}},
        "config.listen.port: ",
        "at '/config/listen/port': ",
    ),
    "a tag for a digest": ({"image": {"digest": "latest"}}, "image.digest: ", "at '/image/digest': "),
    "a label that is no string": ({"commonLabels": {"a": 1}}, "commonLabels.a: ", "at '/commonLabels/a': "),
    "a claim with capitals": ({"state": {"claim": "Mine"}}, "state.claim: ", "at '/state/claim': "),
    "a size in words": ({"state": {"sizeLimit": "much"}}, "state.sizeLimit: ", "at '/state/sizeLimit': "),
    "an environment without names": ({"extraEnv": [{"value": "x"}]}, "name is required", "missing property 'name'"),
}


@pytest.mark.parametrize(("values", "helm_3", "helm_4"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_wrong_value_is_refused_by_its_name(helm: Helm, values: Tree, helm_3: str, helm_4: str) -> None:
    assert {"helm-3": helm_3, "helm-4": helm_4}[helm.binary.name] in helm.refusal(values)
