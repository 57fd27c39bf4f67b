"""Clusters as they are planned: nothing is missing from a preview, no address, the order, and who touches what."""

import json
from collections import defaultdict
from typing import Any

import pytest

from infra.kubernetes import access, names
from infra.kubernetes.cluster import kubeconfig
from infra.settings import ROOT
from infra.settings.kubernetes import KubernetesSettings
from inventory.permissions import permissions
from inventory.resources import UNKNOWN
from tests.infra.kubernetes.conftest import ADMINISTRATOR, Recorded

CLUSTERS = ("eu", "us")


def test_a_preview_shows_all_that_an_update_makes_though_no_cluster_exists(recorded: Recorded) -> None:
    preview, update = ({r.urn for r in inventory.resources} for inventory in (recorded.preview, recorded.update))
    assert preview == update
    for cluster in CLUSTERS:
        (provider,) = [
            r for r in recorded.preview.of_type("pulumi:providers:kubernetes") if r.name.endswith(f"-{cluster}")
        ]
        assert provider.inputs["kubeconfig"] == UNKNOWN
        # Known, and so unchanged, whatever the kubeconfig is: otherwise each change of it would replace all below.
        assert provider.inputs["clusterIdentifier"] == names.cluster_name(cluster)
        kinds = {r.type.rpartition(":")[2] for r in recorded.inside(cluster)}
        assert kinds >= {"Namespace", "ResourceQuota", "LimitRange", "NetworkPolicy", "ServiceAccount", "Role"}
        assert kinds >= {"RoleBinding", "Release", "PodMonitoring", "WorkflowTemplate"}
        unknown = [r.name for r in recorded.inside(cluster) if UNKNOWN in json.dumps(r.inputs)]
        assert unknown == [], "what goes into a cluster is readable in a preview"


def test_a_kubeconfig_names_the_control_plane_and_no_ca() -> None:
    config = json.loads(kubeconfig("mlops-eu", "gke-0123-456.europe-west1.gke.goog"))
    assert config["clusters"][0]["cluster"] == {"server": "https://gke-0123-456.europe-west1.gke.goog"}
    assert config["users"][0]["user"]["exec"]["command"] == "gke-gcloud-auth-plugin"
    assert config["current-context"] == config["contexts"][0]["name"]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_cluster_has_no_address_and_a_key_of_its_region(recorded: Recorded, cluster: str) -> None:
    made = recorded.named(f"kubernetes-{cluster}-cluster")
    assert made.protect
    assert made.inputs["deletionProtection"]
    assert made.inputs["privateClusterConfig"] == {"enablePrivateEndpoint": True, "enablePrivateNodes": True}
    assert made.inputs["controlPlaneEndpointsConfig"]["ipEndpointsConfig"] == {"enabled": False}
    # Most of Google's services take a key of their own region only, and use it once they were let.
    region = {"eu": "europe-west1", "us": "us-east1"}[cluster]
    (key,) = made.property_dependencies["databaseEncryption"]
    assert key.endswith(f"::foundation-keys-{region}-kubernetes")
    assert f"foundation-keys-{region}-kubernetes-agent" in recorded.before(made)
    assert {"initialNodeCount", "nodeConfig", "nodePools"} <= set(made.ignore_changes)


def test_nodes_are_n1_of_their_own_account_and_pools_keep_strangers_off(recorded: Recorded) -> None:
    pools = recorded.preview.of_type("gcp:container/nodePool:NodePool")
    assert {(pool.name.split("-")[1], pool.inputs["name"]) for pool in pools} >= {("eu", "h2o"), ("us", "batch")}
    for pool in pools:
        config, name = pool.inputs["nodeConfig"], pool.inputs["name"]
        assert config["machineType"].startswith("n1-")
        assert config["minCpuPlatform"]
        assert config["serviceAccount"] == UNKNOWN, "an account that the program makes, not the project's default"
        assert config["labels"] == {"hybrid-mlops/pool": name}
        taints = [{"key": "hybrid-mlops/pool", "value": name, "effect": "NO_SCHEDULE"}]
        assert config.get("taints", []) == ([] if name == "system" else taints)
        assert (pool.inputs["autoscaling"]["totalMinNodeCount"] > 0) == (name == "system")
    spot = {pool.name for pool in pools if pool.inputs["nodeConfig"].get("spot")}
    assert spot == {"kubernetes-eu-pools-spark", "kubernetes-us-pools-batch"}
    granted = [
        r.inputs["role"]
        for r in recorded.preview.resources
        if r.name.startswith("kubernetes-eu-nodes-") and "role" in r.inputs
    ]
    assert set(granted) == {"roles/container.defaultNodeServiceAccount", "roles/artifactregistry.reader"}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_everything_comes_after_what_it_needs(recorded: Recorded, cluster: str) -> None:
    namespaces, accounts = f"kubernetes-{cluster}-namespaces", f"kubernetes-{cluster}-accounts"
    operators = [f"kubernetes-{cluster}-operators-{name}" for name in ("spark-operator", "argo-workflows")]
    for operator in operators:
        before = recorded.before(recorded.named(operator))
        assert before >= {f"{namespaces}-workloads", f"{namespaces}-spark-operator", f"{namespaces}-policy-operator"}
        assert before >= {f"{namespaces}-quota", f"{accounts}-spark-binding", f"kubernetes-{cluster}-pools-system"}
    template = recorded.named(f"templates-{cluster}-model-refit", "WorkflowTemplate")
    assert recorded.before(template) >= {
        *operators,
        *(f"{accounts}-{role}-binding" for role in access.NEEDS),
        "kubernetes-access-registry-models-creator",
        "kubernetes-access-spark-data-viewer",
    }
    # The pool of identities is made with the first cluster: a grant before it is refused.
    assert f"kubernetes-{cluster}-cluster" in recorded.before(recorded.named("kubernetes-access-spark-data-viewer"))
    left = [r.name for r in recorded.inside(cluster) if r.deleted_with is None and "templates" not in r.name]
    assert left == [], "what is in a cluster goes with it, without a request to each"


def test_workloads_touch_what_they_need_and_nobody_can_undo_a_stored_version(recorded: Recorded) -> None:
    touched: dict[str, set[tuple[str, str]]] = defaultdict(set)
    handed: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for grant in recorded.preview.of_type("gcp:storage/bucketIAMMember:BucketIAMMember"):
        _, of_a_cluster, account = grant.inputs["member"].rpartition("/sa/")
        if not of_a_cluster:
            continue
        bucket = grant.inputs["bucket"].removeprefix("hybrid-mlops-dev-")
        touched[account].add((bucket, grant.inputs["role"].removeprefix("roles/storage.")))
        if bucket != "data" and not grant.inputs["role"].endswith("legacyBucketReader"):
            expression = grant.inputs["condition"]["expression"]
            parts = {"artifacts": ("runs", "scoring/", "scored/"), "models": ("models/",)}[bucket]
            (below,) = [part for part in parts if f'/objects/{part}")' in expression]
            handed[account].add((below, grant.inputs["role"].removeprefix("roles/storage.")))
    artifacts = ("artifacts", "objectUser")
    assert touched == {
        "workflows": {artifacts},
        "spark": {artifacts, ("data", "objectViewer")},
        "trainer": {artifacts},
        "registry": {
            artifacts,
            ("artifacts", "objectViewer"),
            *(("models", role) for role in ("legacyBucketReader", "objectViewer", "objectCreator")),
        },
        "scorer": {("artifacts", "objectViewer"), ("artifacts", "objectCreator")},
        "argo-server": {("artifacts", "objectViewer")},
    }
    # What loads a model reads what was fetched for it, adds what it predicts, and has nothing else.
    assert handed["scorer"] == {("scoring/", "objectViewer"), ("scored/", "objectCreator")}
    assert handed["registry"] == {
        *(("runs", "objectUser"), ("scoring/", "objectUser"), ("scored/", "objectViewer")),
        *(("models/", role) for role in ("objectViewer", "objectCreator")),
    }
    rules: dict[str, list[Any]] = {
        r.inputs["metadata"]["name"]: r.inputs["rules"] for r in recorded.inside("eu") if r.type.endswith(":Role")
    }
    reports = {name for name, own in rules.items() if any("workflowtaskresults" in r["resources"] for r in own)}
    assert reports == {"workflows", "trainer", "registry", "scorer"}, "Spark's pods are no steps of Argo"
    assert [rule["resources"] for rule in rules["scorer"]] == [["workflowtaskresults"]]
    assert [rule for rule in rules["workflows"] if "pods/log" in rule["resources"]] == [
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}
    ]
    submits = {name for name, own in rules.items() if any("sparkapplications" in r["resources"] for r in own)}
    assert submits == {"workflows"}
    verbs = {verb for own in rules.values() for rule in own for verb in rule["verbs"]}
    assert "*" not in verbs
    # The README says the same of the same roles.
    readme = (ROOT / "jobs" / "model_refit" / "README.md").read_text()
    assert all(f"| `{role}` |" in readme for role in access.NEEDS)


def test_administrators_may_do_in_clusters_what_the_runbooks_ask_of_them_and_no_more(recorded: Recorded) -> None:
    granted = [grant for grant in permissions(recorded.update) if "kubernetes-administrators" in grant.urn]
    held = {
        (grant.principal, grant.resource) for grant in granted if grant.role == "kubernetes-administrators-role-name"
    }
    assert held == {(ADMINISTRATOR, "project stand-in-project")}, "of all clusters, which are the stack's own"
    (may,) = [
        role.inputs["permissions"] for role in recorded.update.of_type("gcp:projects/iAMCustomRole:IAMCustomRole")
    ]
    # To connect by the DNS endpoint and to make a kubeconfig; to bring Argo Server's port to one's machine.
    assert {"container.clusters.connect", "container.clusters.get", "container.services.get"} <= set(may)
    assert {"container.pods.get", "container.pods.list", "container.pods.portForward"} <= set(may)
    # Verbs of `argo` and `mlops`, which Argo Server uses the person's own token for.
    for verb in ("create", "delete", "get", "list", "update"):
        assert f"container.thirdPartyObjects.{verb}" in may
    kinds = {permission.split(".")[1] for permission in may}
    assert kinds == {"clusters", "events", "namespaces", "nodes", "pods", "services", "thirdPartyObjects"}
    changing = {one for one in may if one.split(".")[2] not in ("connect", "get", "getLogs", "list", "portForward")}
    assert {one.split(".")[1] for one in changing} == {"thirdPartyObjects"}, "what the program registered stays"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_pods_go_to_the_pool_of_their_kind_where_the_cluster_has_one(recorded: Recorded, cluster: str) -> None:
    template = recorded.named(f"templates-{cluster}-model-refit", "WorkflowTemplate").inputs["spec"]["templates"]
    placed = {one["name"]: (one.get("nodeSelector"), one.get("tolerations")) for one in template}
    spark = next(one["resource"]["manifest"] for one in template if one["name"] == "transform-spark")

    def on(pool: str) -> Any:
        taint = {"key": "hybrid-mlops/pool", "operator": "Equal", "value": pool, "effect": "NoSchedule"}
        return {"hybrid-mlops/pool": pool}, [taint]

    assert placed["store"] == on("workflows")
    assert placed["train"] == (on("h2o") if cluster == "eu" else (None, None))
    assert ("hybrid-mlops/pool: spark" in spark) == (cluster == "eu")


def test_a_schedule_is_kept_by_one_cluster(recorded: Recorded) -> None:
    kept = [r.name for r in recorded.preview.resources if r.type.endswith(":CronWorkflow")]
    assert kept == ["templates-eu-model-refit"], "in each cluster it would start as many runs"


def test_failed_runs_are_told_to_the_channels_of_the_stack(recorded: Recorded) -> None:
    (told,) = recorded.preview.of_type("gcp:monitoring/notificationChannel:NotificationChannel")
    assert told.inputs["labels"] == {"email_address": "platform@example.com"}
    alerts = [r for r in recorded.preview.of_type("gcp:monitoring/alertPolicy:AlertPolicy") if "-us-" in r.name]
    filters = [alert.inputs["conditions"][0]["conditionMatchedLog"]["filter"] for alert in alerts]
    assert len(filters) == 2
    for text in filters:
        assert 'resource.labels.cluster_name="mlops-us"' in text
        assert 'jsonPayload.involvedObject.namespace="mlops"' in text
    assert '"WorkflowFailed" OR "WorkflowTimedOut"' in "".join(filters)
    assert '"SparkApplicationFailed"' in "".join(filters)
    assert all(told.urn in alert.dependencies for alert in alerts)


def test_the_namespace_of_the_workloads_keeps_the_name_that_it_was_made_with(recorded: Recorded) -> None:
    """So that a preview can compare it with the setting; under its logical name of before it is the same resource."""
    for cluster in CLUSTERS:
        namespace = recorded.named(f"kubernetes-{cluster}-namespaces-workloads")
        assert namespace.ignore_changes == ["metadata.name"]
        assert any(f"kubernetes-{cluster}-namespaces-mlops" in alias for alias in namespace.aliases)


def test_a_stack_file_from_before_the_role_of_the_scorer_gives_it_an_account_of_its_own() -> None:
    old = {"namespace": "mlops", "service_accounts": {"workflows": "workflows", "registry": "registry"}}
    assert KubernetesSettings.model_validate(old).service_accounts == {**old["service_accounts"], "scorer": "scorer"}
    old["service_accounts"]["scorer"] = "refit-scorer"
    assert KubernetesSettings.model_validate(old).service_accounts["scorer"] == "refit-scorer"
