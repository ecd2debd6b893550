"""The values that operators write, one set for each way of using the chart."""

import pytest

from tests.deploy.helm import Tree

STANDALONE: Tree = {"mode": "standalone", "config": {"upstream": {"url": "http://shop:8080"}}}

# In a release of its own, beside one whose gateways put batches into the same Redis.
WORKER: Tree = {
    "mode": "worker",
    "config": {
        "upstream": {"url": "http://shop:8080"},
        "async": {"ledger": "redis://redis:6379/0", "key": {"fromEnv": "BATCH_KEY"}},
    },
}

VALUE_SETS: dict[str, Tree] = {
    "nothing set": {},
    "sidecar of a named app": {"target": {"name": "shop", "selector": {"app": "shop", "tier": "web"}}},
    "sidecar as a plain container": {"nativeSidecar": False, "target": {"name": "shop"}},
    "sidecar with everything": {
        "target": {"name": "shop"},
        "image": {"repository": "images.internal/batch-gateway", "tag": "0.1.0-7"},
        "imagePullSecrets": [{"name": "pull"}],
        "commonLabels": {"team": "shop"},
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi", "ephemeral-storage": "1Gi"}},
        "extraEnv": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "token"}}}],
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    },
    "standalone": STANDALONE,
    "standalone with everything": {
        **STANDALONE,
        "replicas": 3,
        "imagePullSecrets": [{"name": "pull"}],
        "commonLabels": {"team": "shop"},
        "podAnnotations": {"linkerd.io/inject": "enabled"},
        "service": {"type": "LoadBalancer", "port": 8080},
        "resources": {"limits": {"cpu": "2"}},
        "serviceAccount": {"name": "gateway"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "extraEnv": [{"name": "BATCH_GATEWAY__BATCH__CONCURRENCY", "value": "20"}],
        "extraVolumes": [{"name": "state", "emptyDir": {"sizeLimit": "2Gi"}}],
        "extraVolumeMounts": [{"name": "state", "mountPath": "/var/lib/batch-gateway"}],
        "state": {"enabled": False},
    },
    "standalone with a claim": {**STANDALONE, "state": {"claim": "shop-batches"}},
    "replicas that share a Redis": {
        **STANDALONE,
        "replicas": 3,
        "state": {"enabled": False},
        "config": {
            **STANDALONE["config"],
            "async": {"ledger": "redis://redis:6379/0", "key": {"fromEnv": "BATCH_KEY"}},
            "limiter": {"url": "redis://redis:6379/1"},
            "dialects": {"google": {}},
        },
        "extraEnv": [{"name": "BATCH_KEY", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "batch"}}}],
    },
    "by digest": {**STANDALONE, "image": {"digest": "sha256:" + "0a" * 32}},
    "without a service account": {**STANDALONE, "serviceAccount": {"create": False}},
    "names of one's own": {**STANDALONE, "nameOverride": "gw", "fullnameOverride": "shop-gw"},
    "a configuration of one's own": {**STANDALONE, "existingConfigMap": "shop-gateway"},
    "sidecar with a configuration of one's own": {"existingConfigMap": "shop-gateway"},
    "other ports and another path": {
        "config": {"listen": {"port": 18207}, "admin": {"port": 19207}, "batch": {"path": "/v2/batch"}},
        "service": {"port": 8000},
    },
    "a long drain": {
        **STANDALONE,
        "config": {**STANDALONE["config"], "drain": {"delay": "500ms", "timeout": "1m30s"}},
        "terminationGracePeriodSeconds": 100,
    },
    "several upstreams": {
        "mode": "standalone",
        "config": {
            "upstream": None,
            "upstreams": {"default": {"url": "http://shop:8080"}, "pay": {"url": "http://pay:8080", "timeout": "5s"}},
            "routes": [{"path": "/pay/**", "methods": ["POST"], "upstream": "pay"}],
        },
    },
    "large numbers": {
        **STANDALONE,
        "replicas": 2000000,
        "terminationGracePeriodSeconds": 31536000,
        "config": {
            **STANDALONE["config"],
            "batch": {"nodes_max": 100000000},
            "limits": [{"name": "all", "key": "global", "rate": "100/s", "burst": 123456789}],
        },
    },
    "inside an umbrella": {"global": {"imageRegistry": "images.internal", "deep": {"er": 1}}, "enabled": True},
}

every_value_set = pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
