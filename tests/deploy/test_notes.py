"""NOTES: the snippet is what a chart would include, the commands name what was rendered."""

import pytest
import yaml

from tests.deploy.helm import Helm, Tree
from tests.deploy.value_sets import STANDALONE, VALUE_SETS, WORKER, every_value_set


@pytest.mark.parametrize("native", [True, False])
def test_the_snippet_in_the_notes_is_what_a_chart_includes(helm: Helm, native: bool) -> None:
    everything = {**VALUE_SETS["sidecar with everything"], "nativeSidecar": native}
    rendered = helm.umbrella(everything)

    notes = rendered.one("ConfigMap", "notes")["data"]["notes"]
    key = "initContainers" if native else "containers"
    snippet = yaml.safe_load(notes[notes.index(f"\n{key}:\n") : notes.index("\n2. ")])
    assert snippet[key] == [rendered.gateway()]
    assert snippet["volumes"] == rendered.pod()["volumes"]
    assert snippet["imagePullSecrets"] == [{"name": "pull"}]
    assert snippet["enableServiceLinks"] is False
    assert snippet["terminationGracePeriodSeconds"] == 60


@every_value_set
def test_the_commands_in_the_notes_name_what_was_rendered(helm: Helm, values: Tree) -> None:
    rendered = helm.umbrella(values)

    notes = rendered.one("ConfigMap", "notes")["data"]["notes"]
    service = rendered.one("Service")
    (port,) = service["spec"]["ports"]
    listen, path = port["targetPort"], values.get("config", {}).get("batch", {}).get("path", "/batch")
    name = service["metadata"]["name"]
    assert f"kubectl --namespace default port-forward service/{name} {listen}:{port['port']} &" in notes
    assert f"curl -sS http://127.0.0.1:{listen}{path} -H 'Content-Type: application/json' -d '" in notes
    if values.get("mode") == "standalone":
        assert f"rollout status deployment/{rendered.one('Deployment')['metadata']['name']}\n" in notes


def test_the_notes_warn_of_a_gateway_in_front_of_itself(helm: Helm) -> None:
    itself = helm.umbrella({"mode": "standalone"}).one("ConfigMap", "notes")
    elsewhere = helm.umbrella(STANDALONE).one("ConfigMap", "notes")

    assert "WARNING: config.upstream.url points at the gateway's own Pod" in itself["data"]["notes"]
    assert "WARNING" not in elsewhere["data"]["notes"]


@pytest.mark.parametrize(
    ("config", "env", "alone"),
    [
        ({}, [], True),
        ({"async": {"ledger": "sqlite:/data/ledger.db"}}, [], True),
        ({"async": {"ledger": "redis://redis:6379"}}, [], False),
        ({"async": {"ledger": "none"}}, [], False),
        ({}, [{"name": "BATCH_GATEWAY__ASYNC__LEDGER", "value": "redis://redis:6379"}], False),
    ],
)
def test_the_notes_say_where_replicas_keep_batches_each_for_itself(
    helm: Helm, config: Tree, env: list[Tree], alone: bool
) -> None:
    values: Tree = {"config": {**STANDALONE["config"], **config}, "extraEnv": env}
    sidecar = helm.umbrella(values).one("ConfigMap", "notes")["data"]["notes"]
    one = helm.umbrella({**values, "mode": "standalone"}).one("ConfigMap", "notes")["data"]["notes"]
    three = helm.umbrella({**values, "mode": "standalone", "replicas": 3}).one("ConfigMap", "notes")["data"]["notes"]

    assert ("is on record in the Pod that took it" in sidecar) is alone
    assert ("WARNING: 3 replicas keep batches on record each for itself" in three) is alone
    assert "on record" not in one


def test_the_notes_of_a_worker_name_no_service(helm: Helm) -> None:
    notes = helm.umbrella(WORKER).one("ConfigMap", "notes")["data"]["notes"]

    assert "works on batches for http://shop:8080" in notes
    assert "rollout status deployment/rel-batch-gateway\n\n2. Let gateways leave batches to it" in notes
    assert "service/" not in notes
