"""The rendered chart: what must hold for every way of using it, and what each value does."""

import base64
import functools
import hashlib
import json
import re

import kubernetes_validate
import pytest
import yaml

from gateway.config.model import Config
from gateway.version import VERSION
from tests.deploy.helm import CHART, Helm, Tree
from tests.deploy.value_sets import STANDALONE, VALUE_SETS, WORKER, every_value_set

KUBERNETES = ["1.29", "1.30", "1.33", "1.37"]
RECOMMENDED_LABELS = {
    f"app.kubernetes.io/{word}" for word in ("name", "instance", "version", "component", "managed-by")
}

CONFIGURED = {name: values for name, values in VALUE_SETS.items() if "existingConfigMap" not in values}
every_own_configuration = pytest.mark.parametrize("values", CONFIGURED.values(), ids=CONFIGURED.keys())


@functools.cache  # both helms render the same objects, and a schema takes long to read
def known(version: str, manifest: str) -> str:
    """The version of Kubernetes whose strict schema accepted the object."""
    accepted: str = kubernetes_validate.validate(json.loads(manifest), version, strict=True)
    return accepted


def merged(values: Tree, over: Tree) -> Tree:
    return {**values, **over, "config": {**values.get("config", {}), **over.get("config", {})}}


@every_value_set
def test_lint_has_nothing_to_say(helm: Helm, values: Tree) -> None:
    report = helm.lint(values)

    assert "0 chart(s) failed" in report
    assert "[WARNING]" not in report


@every_value_set
def test_what_is_rendered_is_what_kubernetes_knows(helm: Helm, values: Tree) -> None:
    rendered = helm.umbrella(values)

    for version in KUBERNETES:
        assert {known(version, json.dumps(o)) for o in rendered.objects} == {version}


@every_value_set
def test_the_container_satisfies_the_restricted_standard_in_any_pod(helm: Helm, values: Tree) -> None:
    rendered = helm.umbrella(values)

    assert rendered.gateway()["securityContext"] == {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert "runAsUser" not in yaml.safe_dump(rendered.pod())


@every_value_set
def test_a_read_only_root_has_a_temporary_folder_with_a_limit(helm: Helm, values: Tree) -> None:
    rendered = helm.umbrella(values)

    mounts = {m["mountPath"]: m for m in rendered.gateway()["volumeMounts"]}
    volumes = {v["name"]: v for v in rendered.pod()["volumes"]}
    assert volumes[mounts["/tmp"]["name"]]["emptyDir"] == {"sizeLimit": "64Mi"}
    assert {m["name"] for m in mounts.values()} <= volumes.keys()
    assert not [m for m in mounts.values() if "subPath" in m]


@every_value_set
def test_the_gateway_reads_the_file_that_is_mounted(helm: Helm, values: Tree) -> None:
    rendered = helm.umbrella(values)

    container = rendered.gateway()
    assert container["args"] == ["serve", "--config", "/etc/batch-gateway/gateway.yaml"]
    (mount,) = (m for m in container["volumeMounts"] if m["mountPath"] == "/etc/batch-gateway")
    (volume,) = (v for v in rendered.pod()["volumes"] if v["name"] == mount["name"])
    held = {o["metadata"]["name"] for o in rendered.ours() if o["kind"] == "ConfigMap"}
    assert volume["configMap"]["name"] in held | {values.get("existingConfigMap")}
    assert len(held) == (0 if "existingConfigMap" in values else 1)


@every_value_set
def test_probes_ask_the_admin_listener_where_kubelet_can_reach_it(helm: Helm, values: Tree) -> None:
    container = helm.umbrella(values).gateway()

    port = values.get("config", {}).get("admin", {}).get("port", 9207)
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {
        "startup": {"path": "/livez", "port": port},
        "liveness": {"path": "/livez", "port": port},
        "readiness": {"path": "/readyz", "port": port},
    }
    assert {"name": "BATCH_GATEWAY__ADMIN__HOST", "value": "0.0.0.0"} in container["env"]


@every_value_set
def test_the_service_leads_to_the_listening_port_by_number(helm: Helm, values: Tree) -> None:
    rendered = helm.umbrella(values)

    (port,) = rendered.one("Service")["spec"]["ports"]
    assert port["targetPort"] == values.get("config", {}).get("listen", {}).get("port", 8207)
    assert port["targetPort"] in [p["containerPort"] for p in rendered.gateway()["ports"]]
    assert port["port"] == values.get("service", {}).get("port", 80)


@every_value_set
def test_every_object_carries_the_recommended_and_the_common_labels(helm: Helm, values: Tree) -> None:
    rendered = helm.template(values)

    for object_ in rendered.objects:
        labels = object_["metadata"]["labels"]
        assert labels.keys() >= RECOMMENDED_LABELS | {"helm.sh/chart"}
        assert labels.items() >= values.get("commonLabels", {}).items()


@every_own_configuration
def test_the_configuration_arrives_as_it_was_written(helm: Helm, values: Tree) -> None:
    text = helm.template(values).gateway_yaml()

    written = {"version": 1, "upstream": {"url": "http://127.0.0.1:8080"}, **values.get("config", {})}
    assert yaml.safe_load(text) == {word: value for word, value in written.items() if value is not None}
    assert not re.search(r"\de\+\d", text)


@every_own_configuration
def test_the_gateway_accepts_what_the_chart_renders(helm: Helm, values: Tree) -> None:
    written = yaml.safe_load(helm.template(values).gateway_yaml())
    secrets = {variable["name"]: base64.b64encode(bytes(32)).decode() for variable in values.get("extraEnv", [])}

    assert written.keys() <= {field.alias or name for name, field in Config.model_fields.items()}
    config = Config.model_validate(written, context={"environ": secrets})
    assert config.all_upstreams.keys() >= {"default"}


def test_sidecar_mode_renders_nothing_that_runs(helm: Helm) -> None:
    assert helm.template({}).kinds() == ["ConfigMap", "Service"]


def test_standalone_mode_renders_what_runs(helm: Helm) -> None:
    assert helm.template(STANDALONE).kinds() == ["ConfigMap", "Deployment", "Service", "ServiceAccount"]


def test_a_worker_runs_batches_and_serves_nobody(helm: Helm) -> None:
    rendered = helm.template(WORKER)

    gateway = rendered.gateway()
    assert rendered.kinds() == ["ConfigMap", "Deployment", "ServiceAccount"]
    assert gateway["args"] == ["work", "--config", "/etc/batch-gateway/gateway.yaml"]
    assert [port["name"] for port in gateway["ports"]] == ["batch-admin"]
    assert {volume["name"] for volume in rendered.pod()["volumes"]} == {"batch-gateway-config", "batch-gateway-tmp"}
    assert gateway["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 9207}
    assert "0 chart(s) failed" in helm.lint(WORKER)
    for version in KUBERNETES:
        assert {known(version, json.dumps(o)) for o in rendered.objects} == {version}


@pytest.mark.parametrize(
    ("target", "selector"),
    [
        ({"name": "shop"}, {"app.kubernetes.io/name": "shop"}),
        ({"name": "shop", "selector": {"app": "web"}}, {"app": "web"}),
    ],
)
def test_the_second_service_stands_beside_the_apps_own(helm: Helm, target: Tree, selector: Tree) -> None:
    service = helm.template({"target": target}).one("Service")

    assert service["metadata"]["name"] == "shop-batch"
    assert service["spec"]["selector"] == selector


def test_a_native_sidecar_is_an_init_container_that_stays(helm: Helm) -> None:
    (sidecar,) = helm.umbrella({}).pod()["initContainers"]

    assert sidecar["restartPolicy"] == "Always"


def test_a_plain_sidecar_differs_from_the_native_one_by_its_place_alone(helm: Helm) -> None:
    native = helm.umbrella({}).gateway()
    plain = helm.umbrella({"nativeSidecar": False})

    assert "initContainers" not in plain.pod()
    assert {**plain.gateway(), "restartPolicy": "Always"} == native


def test_a_plain_sidecar_is_known_to_clusters_that_know_no_native_one(helm: Helm) -> None:
    plain = helm.umbrella({"nativeSidecar": False}, kube_version="1.25")
    native = helm.umbrella({}).one("Deployment")

    for object_ in plain.objects:
        kubernetes_validate.validate(object_, "1.25", strict=True)
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolicy"):
        kubernetes_validate.validate(native, "1.25", strict=True)


def test_a_standalone_pod_holds_no_token_and_sees_no_service_variables(helm: Helm) -> None:
    rendered = helm.template(STANDALONE)

    pod = rendered.pod()
    assert pod["automountServiceAccountToken"] is False
    assert rendered.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize(
    ("values", "name", "made"),
    [
        ({}, "rel-batch-gateway", True),
        ({"name": "gateway"}, "gateway", True),
        ({"create": False}, "default", False),
        ({"create": False, "name": "theirs"}, "theirs", False),
    ],
)
def test_the_pod_runs_under_the_account_that_was_asked_for(helm: Helm, values: Tree, name: str, made: bool) -> None:
    rendered = helm.template({**STANDALONE, "serviceAccount": values})

    assert rendered.pod()["serviceAccountName"] == name
    assert [o["metadata"]["name"] for o in rendered.objects if o["kind"] == "ServiceAccount"] == [name] * made


def test_the_standalone_service_selects_the_standalone_pods(helm: Helm) -> None:
    rendered = helm.template(VALUE_SETS["standalone with everything"])

    deployment = rendered.one("Deployment")["spec"]
    selector = rendered.one("Service")["spec"]["selector"]
    assert selector == deployment["selector"]["matchLabels"]
    assert deployment["template"]["metadata"]["labels"].items() >= {**selector, "team": "shop"}.items()


def test_pod_values_arrive_in_the_pod(helm: Helm) -> None:
    values = VALUE_SETS["standalone with everything"]
    rendered = helm.template(values)

    pod, container = rendered.pod(), rendered.gateway()
    for word in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"):
        assert pod[word] == values[word]
    assert rendered.one("Deployment")["spec"]["replicas"] == 3
    assert rendered.one("Deployment")["spec"]["template"]["metadata"]["annotations"]["linkerd.io/inject"] == "enabled"
    assert rendered.one("Service")["spec"]["type"] == "LoadBalancer"
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "512Mi"}
    assert values["extraEnv"][0] in container["env"]
    assert values["extraVolumes"][0] in pod["volumes"]
    assert values["extraVolumeMounts"][0] in container["volumeMounts"]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "batch-gateway:0.1.0"),
        ({"repository": "images.internal/gw", "tag": "7"}, "images.internal/gw:7"),
        ({"tag": "7", "digest": "sha256:" + "0a" * 32}, "batch-gateway@sha256:" + "0a" * 32),
    ],
)
def test_the_digest_wins_over_the_tag_and_the_tag_over_the_release(helm: Helm, image: Tree, reference: str) -> None:
    assert helm.template({**STANDALONE, "image": image}).gateway()["image"] == reference


def test_the_hook_before_the_end_drains_by_the_mounted_configuration(helm: Helm) -> None:
    gateway = helm.template(STANDALONE).gateway()
    folders = {mount["mountPath"] for mount in gateway["volumeMounts"]}

    command = gateway["lifecycle"]["preStop"]["exec"]["command"]

    assert command[:2] == ["batch-gateway", "drain"]
    assert command[-1].rpartition("/")[0] in folders


def test_only_what_the_gateway_cannot_reload_rolls_the_pods(helm: Helm) -> None:
    def checksum(config: Tree, **more: object) -> str | None:
        rendered = helm.template({**merged(STANDALONE, {"config": config}), **more})
        annotations = rendered.one("Deployment")["spec"]["template"]["metadata"]["annotations"]
        return (annotations or {}).get("checksum/config")

    off: Tree = {"reload": {"interval": "0s"}}
    before = checksum({})
    assert before is not None
    assert len(before) == len(hashlib.sha256().hexdigest())
    assert checksum({}, replicas=2) == before
    assert checksum({"batch": {"concurrency": 20}}) == before
    assert checksum({"listen": {"idle_timeout": "80s"}}) != before
    assert checksum({"async": {"slice": 20}}) != before
    assert checksum({"limiter": {"url": "redis://redis"}}) != before
    assert checksum({"replay": {"store": "none"}}) != before
    assert checksum({**off, "batch": {"concurrency": 20}}) != checksum(off)
    assert checksum({}, existingConfigMap="theirs") is None


@pytest.mark.parametrize("mode", ["sidecar", "standalone"])
def test_what_is_on_record_outlives_the_container(helm: Helm, mode: str) -> None:
    def kept(state: Tree) -> Tree | None:
        rendered = helm.umbrella({"mode": mode, "state": state})
        volumes = {volume["name"]: volume for volume in rendered.pod()["volumes"]}
        mounts = [m for m in rendered.gateway()["volumeMounts"] if m["mountPath"] == "/var/lib/batch-gateway"]
        return {**volumes[mounts[0]["name"]], "name": None} if mounts else None

    assert kept({}) == {"name": None, "emptyDir": {"sizeLimit": "1Gi"}}
    assert kept({"sizeLimit": "20Gi"}) == {"name": None, "emptyDir": {"sizeLimit": "20Gi"}}
    assert kept({"claim": "batches"}) == {"name": None, "persistentVolumeClaim": {"claimName": "batches"}}
    assert kept({"enabled": False}) is None


def test_two_pods_never_have_one_ledger_file(helm: Helm) -> None:
    def rollout(state: Tree) -> tuple[str | None, int | None]:
        rendered = helm.template({**STANDALONE, "state": state})
        strategy = rendered.one("Deployment")["spec"].get("strategy", {})
        return strategy.get("type"), rendered.pod()["securityContext"].get("fsGroup")

    assert rollout({}) == (None, None)
    assert rollout({"claim": "batches"}) == ("Recreate", 65532)
    assert rollout({"claim": "batches", "fsGroup": None}) == ("Recreate", None)
    assert rollout({"claim": "batches", "enabled": False}) == (None, None)


def test_large_numbers_are_written_out(helm: Helm) -> None:
    rendered = helm.template(VALUE_SETS["large numbers"])

    # By their text: 3e+07 would arrive as a float, which equals its integer.
    assert str(rendered.pod()["terminationGracePeriodSeconds"]) == "31536000"
    assert str(rendered.one("Deployment")["spec"]["replicas"]) == "2000000"
    assert "burst: 123456789\n" in rendered.gateway_yaml()
    assert "nodes_max: 100000000\n" in rendered.gateway_yaml()


def test_the_chart_is_named_as_its_release_is() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (CHART.parent / "pyproject.toml").read_text()

    assert f'\nname = "{chart["name"]}"\n' in project
    assert chart["appVersion"] == VERSION
