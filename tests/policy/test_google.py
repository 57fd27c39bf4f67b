"""Rules on machines, storage, grants, networks and cost: one changed line in a real stack breaks each."""

import pytest

from tests.policy.cases import Case, becomes, check, put

TEMPLATE = "nomad-eu-clients-train-template"
BUCKET = "foundation-buckets-models"
GRANT = "nomad-secrets-accounts-eu-server-reports"
POOL = "kubernetes-eu-pools-h2o"
CREATES = "eu-sales-close-prediction-store-writes-models"
SSH = "nomad-eu-firewall-ssh"
_PROJECT = "gcp:projects/iAMMember:IAMMember"

CASES = (
    Case("machine-n1", TEMPLATE, put("machineType", to="e2-standard-8"), "e2-standard-8, which is no n1"),
    Case("machine-n1", POOL, put("nodeConfig", "minCpuPlatform", to=None), "nodeConfig: minCpuPlatform is not set"),
    Case("machine-login", TEMPLATE, put("metadata", "enable-oslogin", to="FALSE"), "enable-oslogin is FALSE"),
    Case("machine-login", TEMPLATE, put("metadata", "serial-port-enable", to="TRUE"), "serial-port-enable is TRUE"),
    Case("machine-login", TEMPLATE, put("metadata", "block-project-ssh-keys", to=None), "is not set, not TRUE"),
    Case("machine-shielded", TEMPLATE, put("shieldedInstanceConfig", "enableVtpm", to=False), "enableVtpm"),
    Case(
        "machine-shielded",
        POOL,
        put("nodeConfig", "shieldedInstanceConfig", "enableSecureBoot", to=False),
        "nodeConfig",
    ),
    Case("machine-service-account", TEMPLATE, put("serviceAccount", to=None), "not set, the default account"),
    Case("machine-service-account", POOL, put("nodeConfig", "serviceAccount", to="default"), "default, the default"),
    Case(
        "machine-private",
        TEMPLATE,
        put("networkInterfaces", 0, "accessConfigs", to=[{}]),
        "accessConfigs gives it a public address",
        also=("network-public",),
    ),
    Case("machine-forwarding", TEMPLATE, put("canIpForward", to=True), "canIpForward is true"),
    Case("machine-disk-key", TEMPLATE, put("disks", 0, "diskEncryptionKey", to=None), "disk boot has no key"),
    Case("machine-disk-key", POOL, put("nodeConfig", "bootDiskKmsKey", to=None), "bootDiskKmsKey is not set"),
    Case(
        "machine-metadata-credential",
        TEMPLATE,
        put("metadata", "token", to="ghp_" + 36 * "a"),
        "metadata.token holds what looks like a credential",
    ),
    Case("bucket-public", BUCKET, put("publicAccessPrevention", to="inherited"), "publicAccessPrevention is inherited"),
    Case("bucket-public", BUCKET, put("uniformBucketLevelAccess", to=False), "single objects can be given away"),
    Case("bucket-recoverable", BUCKET, put("versioning", "enabled", to=False), "keeps no former versions"),
    Case("bucket-recoverable", BUCKET, put("softDeletePolicy", "retentionDurationSeconds", to=0), "for 0 days only"),
    Case("bucket-recoverable", BUCKET, put("forceDestroy", to=True), "deletes all objects with the bucket"),
    Case(
        "bucket-keeps",
        BUCKET,
        put("lifecycleRules", 0, to={"action": {"type": "Delete"}, "condition": {"age": 90}}),
        "deleted after 90 days",
        also=("bucket-lifecycle",),
    ),
    Case(
        "bucket-keeps", "foundation-buckets-data", put("retentionPolicy", "retentionPeriod", to="86400"), "for 1 days"
    ),
    Case(
        "server-disk-kept",
        "nomad-eu-servers-0",
        put("statefulDisks", 0, "deleteRule", to="ON_PERMANENT_INSTANCE_DELETION"),
        "its disk data is deleted with the machine",
    ),
    Case("location-elsewhere", BUCKET, put("location", to="US"), "it is kept in us"),
    Case("zones-too-few", "kubernetes-eu-cluster", put("location", to="europe-west1-b"), "asks for 3 zones"),
    Case("zones-too-few", POOL, put("nodeLocations", to=["europe-west1-b"]), "in europe-west1-b alone"),
    Case("zones-of-servers", "nomad-eu-servers-0", put("zone", to="europe-west1-c"), "asks for 3 zones"),
    Case("bucket-lifecycle", BUCKET, put("lifecycleRules", to=[]), "paid for without end"),
    Case("storage-key", BUCKET, put("encryption", to=None), "a key of Google's alone"),
    Case("registry-immutable", "foundation-registry-images", put("dockerConfig", "immutableTags", to=False), "a tag"),
    Case("key-rotation", "foundation-keys-europe-west1-storage", put("rotationPeriod", to="31536000s"), "31536000s"),
    Case("stateful-protected", BUCKET, becomes(protect=False), "it is not protected"),
    Case("stateful-protected", "kubernetes-eu-cluster", put("deletionProtection", to=False), "deletionProtection"),
    Case("iam-primitive-role", GRANT, put("role", to="roles/editor"), "roles/editor, which is of everything"),
    Case(
        "iam-public",
        "eu-sales-close-prediction-store-reads-models",
        put("member", to="allUsers"),
        "allUsers gets",
        also=("network-public",),
    ),
    Case("iam-administers", GRANT, put("role", to="roles/compute.admin"), "administers project stand-in-project"),
    Case(
        "iam-administers",
        "foundation-keys-europe-west1-storage-agent",
        put("role", to="roles/cloudkms.admin"),
        "by roles/cloudkms.admin",
    ),
    Case(
        "iam-custom-role",
        "nomad-secrets-accounts-discover",
        put("permissions", to=["iam.serviceAccounts.getAccessToken"]),
        "by iam.serviceAccounts.getAccessToken",
    ),
    Case("iam-project-wide", GRANT, put("role", to="roles/storage.objectAdmin"), "on all of the project"),
    Case("iam-creates-versions", CREATES, put("role", to="roles/storage.objectUser"), "replaces and deletes versions"),
    Case("iam-creates-versions", CREATES, put("condition", to=None), "its condition is not set"),
    Case(
        "iam-creates-versions",
        CREATES,
        put(
            "condition",
            "expression",
            to='resource.name.startsWith("projects/_/buckets/hybrid-mlops-prod-models/objects/models/") || true',
        ),
        "it holds for more than versions",
    ),
    Case(
        "iam-creates-versions",
        CREATES,
        put(
            "condition",
            "expression",
            to='resource.name.startsWith("projects/_/buckets/hybrid-mlops-prod-models/objects/") && '
            'resource.name.extract("/aliases/{alias}") == ""',
        ),
        "it holds for more than versions",
    ),
    Case("iam-impersonation", GRANT, put("role", to="roles/iam.serviceAccountTokenCreator"), "every service account"),
    Case("iam-every-right", "kubernetes-eu-accounts-trainer-role", put("rules", 0, "verbs", to=["*"]), "every right"),
    Case(
        "iam-key-file",
        "nomad-secrets-accounts-eu-server",
        becomes(type="gcp:serviceaccount/key:Key"),
        "works from anywhere",
    ),
    Case("iam-authoritative", GRANT, becomes(type="gcp:projects/iAMBinding:IAMBinding"), "what others granted"),
    Case("iam-federation-condition", "nomad-identity-eu", put("attributeCondition", to=None), "takes every token"),
    Case(
        "iam-federation-condition",
        "nomad-identity-eu",
        put("oidc", "issuerUri", to="https://token.actions.githubusercontent.com"),
        "names no owner",
    ),
    Case("network-public", SSH, put("sourceRanges", to=["0.0.0.0/0"]), "from 0.0.0.0/0 by tcp:22"),
    Case("firewall-narrow", SSH, put("sourceRanges", to=["10.0.0.0/8"]), "lets in 10.0.0.0/8"),
    Case("firewall-aimed", SSH, put("targetServiceAccounts", to=None), "every machine of the network"),
    Case(
        "firewall-aimed",
        SSH,
        put("allows", to=[{"protocol": "tcp"}]),
        "every port of tcp",
        also=("nomad-gossip-ports",),
    ),
    Case("network-default", "foundation-network-vpc", put("autoCreateSubnetworks", to=True), "in every region"),
    Case("subnetwork-logs", "foundation-network-europe-west1", put("logConfig", to=None), "no flow logs"),
    Case(
        "cost-scale-to-zero",
        POOL,
        put("autoscaling", "totalMinNodeCount", to=1),
        "fewer than 1 machines",
    ),
    Case(
        "cost-vcpu-cap",
        POOL,
        put("autoscaling", "totalMaxNodeCount", to=80),
        "more than vcpu_cap 300",
        verdict="stack",
    ),
    Case(
        "cost-idle",
        "kubernetes-eu-pools-system",
        put("autoscaling", "totalMinNodeCount", to=4),
        "more than idle_vcpu_cap 14",
        verdict="stack",
    ),
    Case(
        "cost-budget",
        "foundation-notices-budget",
        put("amount", "specifiedAmount", "units", to="300000"),
        "more than budget_cap 3000",
        verdict="stack",
    ),
    Case("cost-budget", "foundation-notices-budget", put("thresholdRules", to=[]), "no budget", verdict="stack"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)
