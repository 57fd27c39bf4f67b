"""Rules on GKE: who reaches a control plane, what nodes are, and what happens to a cluster without anyone's doing.

What holds for any machine (n1, shielded, own account, disk keys, scaling to zero) is in `machines.py` and `cost.py`.
Maintenance windows and exclusions are no rule's: whoever operates a cluster sets them (docs/runbooks/upgrade-gke.md).
"CIS GKE" is the CIS Google Kubernetes Engine Benchmark 1.6.0.
"""

from collections.abc import Iterator

from policy.parts.google import CLUSTER, NODE_POOL
from policy.rule import Check, Level, Part, Rule, Stack


def _private(part: Part, _: Stack) -> Iterator[str]:
    path = ("privateClusterConfig",) if _is_cluster(part) else ("networkConfig",)
    if part.get(*path, "enablePrivateNodes") is not True:
        yield f"{path[0]}.enablePrivateNodes is not true"


def _control_plane(cluster: Part, _: Stack) -> Iterator[str]:
    by_address = cluster.get("controlPlaneEndpointsConfig", "ipEndpointsConfig", "enabled") is not False
    if not by_address:
        return
    if cluster.get("privateClusterConfig", "enablePrivateEndpoint") is not True:
        yield "its control plane has a public address: ipEndpointsConfig.enabled and not enablePrivateEndpoint"
    networks = cluster.get("masterAuthorizedNetworksConfig")
    blocks = cluster.each("masterAuthorizedNetworksConfig", "cidrBlocks")
    if networks is None:
        yield "its control plane answers every address: masterAuthorizedNetworksConfig is not set"
    for block in blocks:
        if cluster.inner(block, "").get("cidrBlock") in ("0.0.0.0/0", "::/0"):
            yield "masterAuthorizedNetworksConfig allows every address"


def _identity(part: Part, _: Stack) -> Iterator[str]:
    if _is_cluster(part):
        if not part.get("workloadIdentityConfig", "workloadPool"):
            yield "workloadIdentityConfig.workloadPool is not set"
    elif (mode := part.get("nodeConfig", "workloadMetadataConfig", "mode")) != "GKE_METADATA":
        yield f"nodeConfig.workloadMetadataConfig.mode is {mode or 'not set'}"


def _updates(part: Part, _: Stack) -> Iterator[str]:
    if _is_cluster(part):
        if (channel := part.get("releaseChannel", "channel")) not in ("RAPID", "REGULAR", "STABLE", "EXTENDED"):
            yield f"releaseChannel.channel is {channel or 'not set'}"
        if part.get("enableKubernetesAlpha") is True:
            yield "enableKubernetesAlpha is on: an alpha cluster is never upgraded, and deleted after 30 days"
        return
    for key in ("autoUpgrade", "autoRepair"):
        if part.get("management", key) is not True:
            yield f"management.{key} is not true"


def _legacy(cluster: Part, _: Stack) -> Iterator[str]:
    if cluster.get("enableLegacyAbac") is True:
        yield "enableLegacyAbac is on"
    if cluster.get("masterAuth", "clientCertificateConfig", "issueClientCertificate") is not False:
        yield "masterAuth.clientCertificateConfig.issueClientCertificate is not false"
    if (mode := cluster.get("anonymousAuthenticationConfig", "mode")) != "LIMITED":
        yield f"anonymousAuthenticationConfig.mode is {mode or 'not set, which is ENABLED'}"
    for who in ("Authenticated", "Unauthenticated"):
        if cluster.get("rbacBindingConfig", f"enableInsecureBindingSystem{who}") is not False:
            yield f"rbacBindingConfig.enableInsecureBindingSystem{who} is not false"


def _enforced(cluster: Part, _: Stack) -> Iterator[str]:
    dataplane = cluster.get("datapathProvider")
    if dataplane != "ADVANCED_DATAPATH" and cluster.get("networkPolicy", "enabled") is not True:
        yield f"datapathProvider is {dataplane or 'not set'}, so that no NetworkPolicy has an effect"


def _secrets(cluster: Part, _: Stack) -> Iterator[str]:
    if cluster.get("databaseEncryption", "state") != "ENCRYPTED" or not cluster.get("databaseEncryption", "keyName"):
        yield "databaseEncryption has no key, so that secrets are in the control plane's database in clear"


def _seen(cluster: Part, _: Stack) -> Iterator[str]:
    logs = cluster.each("loggingConfig", "enableComponents")
    for component in ("SYSTEM_COMPONENTS", "WORKLOADS"):
        if component not in logs:
            yield f"loggingConfig.enableComponents is without {component}"
    if "SYSTEM_COMPONENTS" not in cluster.each("monitoringConfig", "enableComponents"):
        yield "monitoringConfig.enableComponents is without SYSTEM_COMPONENTS"
    if (mode := cluster.get("securityPostureConfig", "mode")) not in ("BASIC", "ENTERPRISE"):
        yield f"securityPostureConfig.mode is {mode or 'not set'}"


def _image(pool: Part, _: Stack) -> Iterator[str]:
    if (image := str(pool.get("nodeConfig", "imageType") or "not set")).upper() != "COS_CONTAINERD":
        yield f"nodeConfig.imageType is {image}"
    port = pool.get("nodeConfig", "kubeletConfig", "insecureKubeletReadonlyPortEnabled")
    if str(port).upper() != "FALSE":
        yield "nodeConfig.kubeletConfig.insecureKubeletReadonlyPortEnabled is not FALSE"


def _tainted(pool: Part, stack: Stack) -> Iterator[str]:
    if pool.get("name") in stack.parameters.always_on:
        return
    if not pool.each("nodeConfig", "taints"):
        yield "nodeConfig.taints is empty, so that any pod may land there and keep a node"


def _is_cluster(part: Part) -> bool:
    return part.resource is not None and part.resource.type == CLUSTER


def _rule(id_: str, holds: str, why: str, fix: str, check: Check, *types: str) -> Rule:
    return Rule(id_, Level.MANDATORY, holds, why, fix, check, types or (CLUSTER,))


RULES = (
    _rule(
        "gke-private-nodes",
        "No node of a cluster has a public address.",
        "CIS GKE 5.6.5: a node's kubelet and whatever a pod opens on it would be found by scanners within minutes.",
        "Set enablePrivateNodes, of the cluster and of each pool.",
        _private,
        CLUSTER,
        NODE_POOL,
    ),
    _rule(
        "gke-control-plane",
        "The control plane has no public address; it is reached by its DNS name, past IAM, or from listed networks.",
        "CIS GKE 5.6.3 and 5.6.4: an address that the internet reaches is one flaw in Kubernetes away from everyone.",
        "Keep ipEndpointsConfig.enabled false, or a private endpoint with authorized networks.",
        _control_plane,
    ),
    _rule(
        "gke-workload-identity",
        "Pods have identities of their own, and cannot ask the machine for its.",
        "CIS GKE 5.2.2 and 5.4.1: on a node with another metadata mode, every pod is the node's service account.",
        "Set workloadIdentityConfig of the cluster, and workloadMetadataConfig.mode GKE_METADATA of the pool.",
        _identity,
        CLUSTER,
        NODE_POOL,
    ),
    _rule(
        "gke-updates",
        "A cluster follows a release channel, and its nodes are upgraded and repaired by GKE.",
        "CIS GKE 5.5.2, 5.5.3, 5.5.4 and 5.10.2: nodes of an old version keep flaws that are public.",
        "Set releaseChannel.channel, management.autoUpgrade and autoRepair; never enableKubernetesAlpha.",
        _updates,
        CLUSTER,
        NODE_POOL,
    ),
    _rule(
        "gke-legacy-access",
        "IAM and RBAC alone decide: no ABAC, no client certificate, no binding of everybody, no anonymous requests.",
        "CIS GKE 5.8.1, 5.8.3, 4.1.8 to 4.1.10: a client certificate cannot be taken back, and system:authenticated is "
        "everybody with a Google account.",
        "Keep them as infra/kubernetes/cluster.py sets them.",
        _legacy,
    ),
    _rule(
        "gke-network-policy",
        "A cluster enforces network policies.",
        "CIS GKE 4.3.1: without it they are accepted and have no effect.",
        "Set datapathProvider ADVANCED_DATAPATH.",
        _enforced,
    ),
    _rule(
        "gke-secrets-key",
        "Secrets in a cluster's database are encrypted with a key of the stack's.",
        "CIS GKE 5.3.1.",
        "Set databaseEncryption with the stack's key `kubernetes`.",
        _secrets,
    ),
    _rule(
        "gke-observed",
        "Logs and metrics of a cluster are kept outside of it, and Google checks what runs in it.",
        "CIS GKE 5.7.1 and 5.10.5: the alerts on failed runs read these logs, and pods are gone when one asks why.",
        "Set loggingConfig, monitoringConfig and securityPostureConfig as infra/kubernetes/cluster.py does.",
        _seen,
    ),
    _rule(
        "gke-node-image",
        "Nodes run Container-Optimized OS, and their kubelets tell nothing to whoever asks.",
        "CIS GKE 5.5.1 and 3.2.4: the read-only port lists pods with their environment, without asking who it is.",
        "Set imageType COS_CONTAINERD and insecureKubeletReadonlyPortEnabled FALSE.",
        _image,
        NODE_POOL,
    ),
    _rule(
        "gke-pool-taint",
        "A pool that is to become empty has a taint.",
        "Kubernetes, Taints and Tolerations, Dedicated Nodes: a pod that asked for no pool may land on any without a "
        "taint, and its node stays for as long as it does.",
        "Set a taint, as infra/kubernetes/node_pools.py does, or name the pool under always_on in policy/stacks/.",
        _tainted,
        NODE_POOL,
    ),
)
