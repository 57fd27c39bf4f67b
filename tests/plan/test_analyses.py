"""Capacity, permissions and exposure of one recorded program, in preview and in update mode."""

import pytest

from inventory.capacity import Amount, capacity, machine
from inventory.exposure import exposure
from inventory.permissions import permissions
from inventory.resources import UNKNOWN, Inventory
from inventory.values import with_references
from tests.plan.google import recorded


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    return with_references(recorded(tmp_path_factory.mktemp("update")))


@pytest.fixture(scope="module")
def preview(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    return with_references(recorded(tmp_path_factory.mktemp("preview"), preview=True))


def amount(machines: int | None, vcpu: float | None, memory: float | None, disk: float | None) -> Amount:
    return Amount(machines=machines, vcpu=vcpu, memory_gb=memory, disk_gb=disk)


def test_each_pool_has_its_smallest_and_its_largest_size(update: Inventory) -> None:
    found = capacity(update)
    assert {pool.name: (pool.scaled_by, pool.spot, pool.minimum, pool.maximum) for pool in found.pools} == {
        "scratch": (None, False, amount(0, 0, 0, 100), amount(0, 0, 0, 100)),
        "server-0": (None, False, amount(1, 2, 1.8, 30), amount(1, 2, 1.8, 30)),
        "server-1": (None, False, amount(1, 2, 1.8, 30), amount(1, 2, 1.8, 30)),
        # The target size is nobody's input: the labels say what Nomad Autoscaler keeps to.
        "train": ("Nomad Autoscaler", False, amount(0, 0, 0, 0), amount(4, 16, 60, 200)),
        # No n1, and a boot disk of its image's size: counted, the rest unknown.
        "web": ("Compute Engine", False, amount(1, None, None, None), amount(3, None, None, None)),
        # A node in each of a region's three zones.
        "system": ("GKE", False, amount(3, 6, 24, 150), amount(6, 12, 48, 300)),
        # A total is no count a zone.
        "spark": ("GKE", True, amount(0, 0, 0, 0), amount(10, 80, 520, 1000)),
    }
    assert found.minimum == amount(6, 10, 27.6, 310)
    assert found.maximum == amount(25, 112, 631.6, 1660)
    assert found.unknown == ["web"]


def test_capacity_is_the_same_before_anything_exists(update: Inventory, preview: Inventory) -> None:
    assert capacity(preview) == capacity(update)


@pytest.mark.parametrize(
    ("name", "size"),
    {
        "n1-standard-1": (1, 3.75),
        "n1-highmem-96": (96, 624),
        "n1-highcpu-64": (64, 57.6),
        "custom-4-5120": (4, 5),
        "n1-custom-2-15360-ext": (2, 15),
        "zones/z/machineTypes/n1-standard-8": (8, 30),
        "n1-standard-3": None,
        "n1-highmem-1": None,
        "e2-standard-4": None,
        "n1-standard-4x": None,
        UNKNOWN: None,
    }.items(),
)
def test_sizes_of_machines_are_those_of_n1_and_no_others(name: str, size: tuple[float, float] | None) -> None:
    assert machine(name) == size


def test_every_grant_is_a_row(update: Inventory) -> None:
    expires = 'request.time < timestamp("2027-01-01T00:00:00Z")'
    workload = "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/s"
    old = "service account old@example.iam.gserviceaccount.com"
    assert {grant.key for grant in permissions(update)} == {
        ("${clients.member}", "roles/storage.objectViewer", "bucket example-models", ""),
        ("serviceAccount:${clients.email}", "roles/logging.logWriter", "project example", ""),
        ("group:ops@example.com", "roles/logging.logWriter", "project example", ""),
        ("group:ops@example.com", "roles/secretmanager.secretAccessor", "secret nomad-token", expires),
        ("user:a@x.com", "roles/cloudkms.cryptoKeyEncrypterDecrypter", "crypto key ${data.id}", ""),
        (workload, "roles/iam.workloadIdentityUser", "service account ${clients.name}", ""),
        ("allUsers", "roles/storage.admin", "bucket other", ""),
        ("user:a@x.com", "roles/storage.admin", "bucket other", ""),
        ("holders of custom role tunnel", "compute.instances.get", "what the role is granted on", ""),
        ("whoever has the key leaked", "acts as", old, ""),
        ("ServiceAccount mlops/spark", "Role spark", "namespace mlops", ""),
        ("holders of Role mlops/spark", "create,get pods", "namespace mlops", ""),
        ("holders of Role mlops/spark", "create,get services", "namespace mlops", ""),
        ("holders of Role mlops/spark", "* sparkapplications (sparkoperator.k8s.io)", "namespace mlops", ""),
        ("role dispatcher", "policy dispatch", "Nomad", ""),
        ("workload default/train", "policy dispatch", "Nomad", ""),
        ("holders of policy dispatch", "dispatch-job", "Nomad namespace default", ""),
        ("holders of policy dispatch", "read", "Nomad namespace default variables path nomad/jobs/*", ""),
        ("holders of policy dispatch", "read", "Nomad agent", ""),
    }


def test_a_grant_to_somebody_unknown_is_still_a_row(preview: Inventory) -> None:
    keys = {grant.key for grant in permissions(preview)}
    assert (UNKNOWN, "roles/storage.objectViewer", "bucket example-models", "") in keys
    assert (UNKNOWN, "roles/logging.logWriter", "project example", "") in keys


@pytest.mark.parametrize(
    "data",
    ["", "5", "[]", "null", "{}", '{"bindings": 5}', '{"bindings": {}}', '{"bindings": [5]}', "[" * 100_000, 5, {}],
)
def test_a_policy_that_cannot_be_read_is_a_row_that_decides_nothing(update: Inventory, data: object) -> None:
    policy = next(resource for resource in update.resources if resource.name == "all-of-it")
    changed = policy.model_copy(update={"inputs": policy.inputs | {"policyData": data}})
    inventory = update.model_copy(update={"resources": [changed]})
    assert [grant.key for grant in permissions(inventory)] == [(UNKNOWN, UNKNOWN, "bucket other", "")]
    assert exposure(inventory) == []


def test_every_way_in_is_a_row_and_says_whether_it_is_public(update: Inventory) -> None:
    assert {(*row.key, row.public) for row in exposure(update)} == {
        ("35.235.240.0/20 (IAP)", "service account ${clients.email}", "tcp:22", False),
        # A rule without sources is for all of them.
        ("0.0.0.0/0", "all machines in n", "icmp", True),
        ("anywhere", "machines of server-1", "public address", True),
        ("anywhere, by IAM", "control plane of gke", "DNS endpoint", True),
        ("the network", "load balancer lb", "4646 (INTERNAL)", False),
        ("anywhere", "Service ui", "LoadBalancer 80", True),
        ("anywhere", "bucket example-open", "publicAccessPrevention inherited", None),
        ("anywhere", "bucket other", "roles/storage.admin for allUsers", True),
    }


def test_unknown_values_anywhere_decide_nothing_and_break_nothing(update: Inventory) -> None:
    """Whatever a provider computes, the analyses answer."""
    for depth in range(3):
        resources = [
            resource.model_copy(update={"inputs": {k: _unknown_below(v, depth) for k, v in resource.inputs.items()}})
            for resource in update.resources
        ]
        hidden = update.model_copy(update={"resources": resources})
        found = capacity(hidden)
        assert [pool.name for pool in found.pools if pool.maximum.vcpu] == []
        assert not {"tcp:22"} & {row.way for row in exposure(hidden)}
        permissions(hidden)


def _unknown_below(value: object, depth: int) -> object:
    if isinstance(value, dict) and depth:
        return {key: _unknown_below(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, list) and depth:
        return [_unknown_below(inner, depth - 1) for inner in value]
    return UNKNOWN
