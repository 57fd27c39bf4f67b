"""Rules on GKE: one changed line of a real cluster or node pool breaks each."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.policy.cases import Case, check, put

CLUSTER = "kubernetes-eu-cluster"
POOL = "kubernetes-eu-pools-h2o"


def _by_address(*networks: str, publicly: bool = False) -> Callable[[dict[str, Any]], object]:
    """A control plane that is reached by addresses too."""

    def edit(inputs: dict[str, Any]) -> None:
        put("controlPlaneEndpointsConfig", "ipEndpointsConfig", "enabled", to=True)(inputs)
        put("privateClusterConfig", "enablePrivateEndpoint", to=not publicly)(inputs)
        put("masterAuthorizedNetworksConfig", "cidrBlocks", to=[{"cidrBlock": one} for one in networks])(inputs)

    return edit


CASES = (
    Case(
        "gke-private-nodes",
        CLUSTER,
        put("privateClusterConfig", "enablePrivateNodes", to=False),
        "privateClusterConfig.enablePrivateNodes",
        also=("network-public",),
    ),
    Case(
        "gke-private-nodes",
        POOL,
        put("networkConfig", "enablePrivateNodes", to=None),
        "networkConfig.enablePrivateNodes",
    ),
    Case(
        "gke-control-plane",
        CLUSTER,
        put("controlPlaneEndpointsConfig", "ipEndpointsConfig", "enabled", to=True),
        "answers every address",
    ),
    Case("gke-control-plane", CLUSTER, _by_address(publicly=True), "has a public address"),
    Case("gke-control-plane", CLUSTER, _by_address("0.0.0.0/0"), "allows every address"),
    Case("gke-workload-identity", CLUSTER, put("workloadIdentityConfig", to=None), "workloadPool is not set"),
    Case(
        "gke-workload-identity", POOL, put("nodeConfig", "workloadMetadataConfig", "mode", to="GCE_METADATA"), "GCE_M"
    ),
    Case("gke-updates", CLUSTER, put("releaseChannel", "channel", to="UNSPECIFIED"), "channel is UNSPECIFIED"),
    Case("gke-updates", CLUSTER, put("enableKubernetesAlpha", to=True), "enableKubernetesAlpha is on"),
    Case("gke-updates", POOL, put("management", "autoUpgrade", to=False), "autoUpgrade is not true"),
    Case("gke-updates", POOL, put("management", "autoRepair", to=None), "autoRepair is not true"),
    Case("gke-legacy-access", CLUSTER, put("enableLegacyAbac", to=True), "enableLegacyAbac is on"),
    Case("gke-legacy-access", CLUSTER, put("masterAuth", to=None), "issueClientCertificate is not false"),
    Case("gke-legacy-access", CLUSTER, put("anonymousAuthenticationConfig", "mode", to="ENABLED"), "mode is ENABLED"),
    Case(
        "gke-legacy-access",
        CLUSTER,
        put("rbacBindingConfig", "enableInsecureBindingSystemAuthenticated", to=True),
        "enableInsecureBindingSystemAuthenticated is not false",
    ),
    Case("gke-network-policy", CLUSTER, put("datapathProvider", to="LEGACY_DATAPATH"), "LEGACY_DATAPATH"),
    Case("gke-secrets-key", CLUSTER, put("databaseEncryption", "state", to="DECRYPTED"), "has no key"),
    Case(
        "gke-observed", CLUSTER, put("loggingConfig", "enableComponents", to=["SYSTEM_COMPONENTS"]), "without WORKLOADS"
    ),
    Case(
        "gke-observed", CLUSTER, put("monitoringConfig", "enableComponents", to=[]), "monitoringConfig.enableComponents"
    ),
    Case("gke-observed", CLUSTER, put("securityPostureConfig", "mode", to="DISABLED"), "mode is DISABLED"),
    Case("gke-node-image", POOL, put("nodeConfig", "imageType", to="UBUNTU_CONTAINERD"), "UBUNTU_CONTAINERD"),
    Case("gke-node-image", POOL, put("nodeConfig", "kubeletConfig", to=None), "insecureKubeletReadonlyPortEnabled"),
    Case("gke-pool-taint", POOL, put("nodeConfig", "taints", to=[]), "taints is empty"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)
