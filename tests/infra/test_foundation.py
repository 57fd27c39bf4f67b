"""The foundation: quotas, conditions of grants, names of public images, and what stack settings alone add to it."""

import re
from pathlib import Path

import pulumi
import pytest
import yaml

from infra import naming, settings
from infra.foundation import apis, buckets, keys, quota
from infra.foundation.quota import Demand
from inventory.permissions import permissions
from inventory.recorder import record
from mlops_registry.names import BucketPath
from tests.stack_inventories import inventory

DEV = settings.load("dev")
TEMPLATE = "gcp:compute/instanceTemplate:InstanceTemplate"


def test_a_stack_asks_for_the_cpus_of_all_its_machines_by_region() -> None:
    clusters = dict(DEV.kubernetes.clusters) if DEV.kubernetes else {}
    moved = clusters["eu"].model_copy(update={"region": "europe-west4"})
    pools = dict(DEV.nomad.regions["eu"].pools)
    big = {"machine_type": "n1-highmem-8", "size": {"min": 1, "max": 5}, "spot": True}
    nomad = DEV.nomad.regions["eu"].model_copy(update={"pools": {**pools, "big": pools["train"].model_validate(big)}})
    stack = DEV.model_copy(
        update={
            "nomad": DEV.nomad.model_copy(update={"regions": {"eu": nomad}}),
            "kubernetes": DEV.kubernetes.model_copy(update={"clusters": {"eu": moved}}) if DEV.kubernetes else None,
        }
    )
    bigger = nomad.pools["big"]
    server, client, node = DEV.nomad.regions["eu"].servers, pools["train"], clusters["eu"].node_pools
    assert quota.demand(stack) == {
        # A server with 1, a client with 2, and 1 to 5 spot machines with 8.
        "europe-west1": Demand(
            least=1 + 2 + 8,
            most=1 + 2 + 40,
            most_spot=40,
            least_gb=server.boot_disk_gb + server.data_disk_gb + client.boot_disk_gb + bigger.boot_disk_gb,
            most_gb=server.boot_disk_gb + server.data_disk_gb + client.boot_disk_gb + 5 * bigger.boot_disk_gb,
        ),
        # The pool that GKE makes with the cluster has 1.
        "europe-west4": Demand(
            least=1 + 2,
            most=2 * 2 + 3 * 2 + 4 * 4 + 3 * 2,
            most_spot=16,
            least_gb=node["system"].disk_gb,
            most_gb=sum(pool.max * pool.disk_gb for pool in node.values()),
        ),
    }


def test_a_pool_of_nodes_begins_with_one_a_zone() -> None:
    staging = settings.load("staging")
    assert staging.kubernetes
    (cluster,) = staging.kubernetes.clusters.values()
    assert cluster.node_pools["system"].min < len(cluster.zones)
    alone = staging.model_copy(update={"nomad": staging.nomad.model_copy(update={"regions": {}})})
    assert quota.demand(alone)[cluster.region].least_gb == cluster.node_pools["system"].disk_gb * len(cluster.zones)


@pytest.mark.parametrize("stack", [stack for stack in settings.stacks() if settings.load(stack).gcp])
def test_disks_and_machines_are_what_the_quotas_are_asked_for(stack: str) -> None:
    found = inventory(stack)
    disks = [disk["diskType"] for one in found.of_type(TEMPLATE) for disk in one.inputs["disks"]]
    disks += [one.inputs["nodeConfig"]["diskType"] for one in found.of_type("gcp:container/nodePool:NodePool")]
    assert set(disks) <= {"pd-balanced", "pd-ssd"}, "others count against other quotas"
    for cluster in found.of_type("gcp:container/cluster:Cluster"):
        first = cluster.inputs["nodeConfig"]
        assert (first["machineType"], first["diskType"]) == (quota.DEFAULT_POOL, "pd-standard")
        assert cluster.inputs["initialNodeCount"] == 1
        # GKE's API no longer supports it.
        assert "vulnerabilityMode" not in cluster.inputs["securityPostureConfig"]


ASKED = Demand(7, 37, 16, 130, 680)


@pytest.mark.parametrize(
    ("where", "asked", "quotas", "stops", "says"),
    [
        ("region europe-west1", ASKED, {"CPUS": (100.0, 0.0)}, [], ""),
        # What others of the project use is not free.
        ("region europe-west1", ASKED, {"CPUS": (40.0, 34.0)}, [True], "6 vCPU are free and the stack needs 7 at once"),
        ("region europe-west1", ASKED, {}, [True], "0 vCPU are free"),
        (
            "region europe-west1",
            ASKED,
            {"CPUS": (36.0, 0.0)},
            [False],
            "36 vCPU are free and the stack's pools grow to 37",
        ),
        # Spot machines have a quota of their own as soon as the project was given one.
        ("region europe-west1", ASKED, {"CPUS": (24.0, 0.0), "PREEMPTIBLE_CPUS": (16.0, 0.0)}, [], ""),
        ("region europe-west1", ASKED, {"CPUS": (24.0, 0.0), "PREEMPTIBLE_CPUS": (0.0, 0.0)}, [False], "grow to 37"),
        ("region europe-west1", ASKED, {"CPUS": (24.0, 0.0), "PREEMPTIBLE_CPUS": (8.0, 0.0)}, [False], "grow to 16"),
        # What new projects have.
        (
            "region europe-west1",
            ASKED,
            {"CPUS": (24.0, 0.0), "SSD_TOTAL_GB": (250.0, 200.0)},
            [False, True],
            "50 GB are free and the stack needs 130 at once",
        ),
        ("region europe-west1", ASKED, {"CPUS": (99.0, 0.0), "SSD_TOTAL_GB": (500.0, 0.0)}, [False], "grow to 680"),
        ("project example", ASKED, {"CPUS_ALL_REGIONS": (12.0, 6.0)}, [True], "6 vCPU are free and the stack needs 7"),
        ("project example", ASKED, {"CPUS_ALL_REGIONS": (12.0, 0.0)}, [False], "grow to 37"),
        ("project example", ASKED, {"CPUS_ALL_REGIONS": (64.0, 0.0)}, [], ""),
    ],
)
def test_too_small_a_quota_stops_what_cannot_come_up_and_tells_of_what_would_wait(
    where: str, asked: Demand, quotas: dict[str, tuple[float, float]], stops: list[bool], says: str
) -> None:
    found = list(quota.problems(where, asked, quotas))
    assert [stop for stop, _ in found] == stops
    assert says in "\n".join(line for _, line in found)
    for _, line in found:
        assert "; ask for more: https://console.cloud.google.com/iam-admin/quotas, metric " in line
        assert where in line


@pytest.mark.usefixtures("loop")
def test_region_and_project_are_both_asked_before_the_first_subnet(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Demand]] = []
    monkeypatch.setattr(quota, "check", lambda _, where, demand: asked.append((where, demand)))
    hook = quota.hook("quota", DEV)
    (region,) = quota.demand(DEV)
    hook.callback(pulumi.ResourceHookArgs("", "", "", "", new_inputs={"region": region}))
    project = DEV.gcp.project if DEV.gcp else ""
    assert asked == [(where, quota.demand(DEV)[region]) for where in (f"project {project}", f"region {region}")]


def test_a_quota_that_cannot_be_read_is_told_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/credentials.json")
    quota.check("stand-in-project", "region europe-west1", Demand(7, 37, 0))
    told = capfd.readouterr().err
    assert "the quotas of region europe-west1 could not be read, so they were not checked: " in told
    assert "/nowhere/credentials.json" in told


@pytest.mark.parametrize("stack", [stack for stack in settings.stacks() if settings.load(stack).gcp])
def test_a_service_agent_is_granted_a_key_once_it_is_made(stack: str) -> None:
    """By a request where Google takes one; Compute Engine's, which has none, after the API was used."""
    found = {one.urn: one for one in inventory(stack).resources}
    makers = {
        "artifactregistry": "gcp:projects/serviceIdentity:ServiceIdentity",
        "secretmanager": "gcp:projects/serviceIdentity:ServiceIdentity",
        "container-engine-robot": "gcp:projects/serviceIdentity:ServiceIdentity",
        "compute-system": "gcp:compute/network:Network",
    }
    seen = set()
    for grant in inventory(stack).of_type("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember"):
        if grant.name.endswith("-agent"):
            types = {found[urn].type for urn in grant.dependencies}
            kind = grant.name.removesuffix("-agent").rpartition("-")[2]
            agent = {"disks": "compute-system", "kubernetes": "container-engine-robot"}.get(kind, kind)
            wanted = makers.get({"artifacts": "artifactregistry", "secrets": "secretmanager"}.get(agent, agent))
            seen.add(kind)
            assert wanted is None or wanted in types, grant.name
    assert {"disks", "kubernetes", "artifacts", "secrets", "storage"} == seen
    services = {
        one.inputs["service"] for one in inventory(stack).of_type("gcp:projects/serviceIdentity:ServiceIdentity")
    }
    assert "container.googleapis.com" in services
    assert "compute.googleapis.com" not in services, "Google refuses the request"


def test_every_api_of_any_stack_is_among_all() -> None:
    for stack in settings.stacks():
        assert set(apis.needed(settings.load(stack))) <= set(apis.ALL)
    assert {"billingbudgets", "container"} <= set(apis.ALL)


def test_a_grant_below_a_prefix_holds_for_reading_and_for_listing_there() -> None:
    assert buckets.below("example-models", "models/a/") == (
        'resource.name.startsWith("projects/_/buckets/example-models/objects/models/a/") || '
        'api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("models/a/")'
    )


def holds(expression: str, name: str) -> bool:
    """Whether a condition of a grant holds for an object, by Google's definitions of the two functions."""
    begins, also, rest = expression.partition(" && ")
    if not name.startswith(re.findall(r'^resource\.name\.startsWith\("([^"]*)"\)$', begins)[0]):
        return False
    (before,) = re.findall(r'^resource\.name\.extract\("([^"{]*)\{\w+\}"\) == ""$', rest) if also else ("",)
    return not also or not name.partition(before)[2]


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("models/a/a_v1_x/manifest.json", True),
        ("models/a/a_v1_x/model/weights.bin", True),
        ("models/a/aliases/champion.json", False),
        ("models/a/aliases/x/../champion.json", False),
        ("models/b/b_v1_x/manifest.json", False),
        ("models/ab/manifest.json", False),
    ],
)
def test_what_creates_versions_of_a_model_creates_no_alias(name: str, may: bool) -> None:
    expression = buckets.below_but_aliases("example-models", "models/a/")
    assert holds(expression, f"projects/_/buckets/example-models/objects/{name}") is may


@pytest.mark.parametrize("stack", [stack for stack in settings.stacks() if settings.load(stack).gcp])
def test_nobody_but_people_writes_an_alias(stack: str) -> None:
    models = settings.load(stack).buckets.models
    written = 0
    for grant in inventory(stack).of_type("gcp:storage/bucketIAMMember:BucketIAMMember"):
        if grant.inputs["bucket"] == models and grant.inputs["role"] == "roles/storage.objectCreator":
            written += 1
            path = BucketPath.parse(f"gs://{models}/models")
            for name in (path.alias("sales-close-prediction", "champion"), path.alias("m", "a")):
                named = f"projects/_/buckets/{models}/objects/{name}"
                assert not holds(grant.inputs["condition"]["expression"], named), grant.name
    assert written


@pytest.mark.parametrize("prefix", ['a") || true || ("', "a\\"])
def test_a_prefix_cannot_widen_its_condition(prefix: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a condition"):
        buckets.below("example-models", prefix)


def test_public_images_are_pulled_through_the_stack_where_it_has_a_registry() -> None:
    image = "quay.io/argoproj/argocli:v4.0.10"
    assert naming.public_image(settings.load("local"), image) == image
    mirrored = naming.public_image(DEV, image)
    assert mirrored == "europe-west1-docker.pkg.dev/stand-in-project/quay-io/argoproj/argocli:v4.0.10"


def test_keys_and_apis_are_those_of_the_engines_that_a_stack_has() -> None:
    alone = DEV.model_copy(update={"kubernetes": None})
    assert "container" in apis.needed(DEV)
    assert "container" not in apis.needed(alone)
    assert keys.uses(alone) == {"europe-west1": ("artifacts", "disks", "nomad", "secrets", "storage")}
    eu = DEV.nomad.regions["eu"]
    regions = {"eu": eu, "us": eu.model_copy(update={"region": "us-central1"})}
    # Secrets are in the stack's own region alone.
    federated = alone.model_copy(update={"nomad": DEV.nomad.model_copy(update={"regions": regions})})
    assert keys.uses(federated)["us-central1"] == ("disks", "nomad")
    existing = DEV.model_copy(update={"nomad": DEV.nomad.model_copy(update={"regions": {}})})
    assert keys.uses(existing) == {"europe-west1": ("artifacts", "disks", "kubernetes", "storage")}


def test_a_bucket_is_added_and_kept_by_settings_alone(scratch_checkout: Path) -> None:
    path = scratch_checkout / "stacks" / "Pulumi.dev.yaml"
    stack = yaml.safe_load(path.read_text())
    stack["config"]["hybrid-mlops:buckets"]["more"] = {"exports": "example-exports"}
    storage = stack["config"]["hybrid-mlops:storage"]
    storage["retention_days"] = {"exports": 10}
    storage["delete_after_days"]["exports"] = 20
    stack["config"]["hybrid-mlops:gcp"]["protect"] = True
    path.write_text(yaml.safe_dump(stack))

    made = {
        bucket.inputs["name"]: bucket
        for bucket in record("dev", root=scratch_checkout).of_type("gcp:storage/bucket:Bucket")
    }
    exports, models = made["example-exports"], made["hybrid-mlops-dev-models"]
    # Whatever every other bucket has, it has: how it is reached, encrypted, restored, protected.
    differing = {name for name in exports.inputs if exports.inputs[name] != models.inputs.get(name)}
    assert differing == {"name", "labels", "lifecycleRules", "retentionPolicy", "versioning"}
    assert exports.protect
    assert exports.dependencies == models.dependencies
    assert exports.inputs["retentionPolicy"] == {"retentionPeriod": "864000"}
    # Cloud Storage refuses a bucket with both.
    assert exports.inputs["versioning"] == {"enabled": False}
    assert models.inputs["versioning"] == {"enabled": True}
    assert {"action": {"type": "Delete"}, "condition": {"age": 20, "withState": "LIVE"}} in (
        exports.inputs["lifecycleRules"]
    )


def test_administrators_reach_machines_by_ssh_and_nomad_alone(scratch_checkout: Path) -> None:
    who = "group:platform@example.com"
    path = scratch_checkout / "stacks" / "Pulumi.dev.yaml"
    stack = yaml.safe_load(path.read_text())
    stack["config"]["hybrid-mlops:gcp"]["administrators"] = [who]
    path.write_text(yaml.safe_dump(stack))

    granted = [grant for grant in permissions(record("dev", root=scratch_checkout)) if grant.principal == who]
    account = "service account projects/stand-in-project/serviceAccounts/mlops-nomad-eu-{}@stand-in-project.iam"
    assert {(grant.role, grant.resource.partition(".gserviceaccount")[0]) for grant in granted} == {
        ("roles/compute.viewer", "project stand-in-project"),
        ("roles/compute.osAdminLogin", "project stand-in-project"),
        ("roles/iap.tunnelResourceAccessor", "project stand-in-project"),
        ("roles/secretmanager.secretAccessor", "secret mlops-nomad-ca"),
        ("roles/iam.serviceAccountUser", account.format("server")),
        ("roles/iam.serviceAccountUser", account.format("client")),
        # And clusters, by a role of the program's own.
        ("kubernetes-administrators-role-name", "project stand-in-project"),
    }
    tunnel = next(grant for grant in granted if grant.role == "roles/iap.tunnelResourceAccessor")
    assert tunnel.condition == "destination.port == 22 || destination.port == 4646"
