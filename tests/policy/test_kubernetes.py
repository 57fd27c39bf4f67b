"""Rules on containers, pods, namespaces, rights and releases: one changed line of a real stack breaks each."""

from typing import Any

import pytest

from tests.policy.cases import Case, check, put
from tests.policy.templates import added, manifest, template

REFIT = "workflow-templates-eu-model-refit"
NAMESPACE = "kubernetes-eu-namespaces-workloads"
OPERATORS = "kubernetes-eu-namespaces-spark-operator"
OUTSIDE = "kubernetes-eu-namespaces-policy-outside"
QUOTA = "kubernetes-eu-namespaces-quota"
LIMITS = "kubernetes-eu-namespaces-limits"
ROLE = "kubernetes-eu-accounts-registry-role"
BINDING = "kubernetes-eu-accounts-trainer-binding"
ARGO = "kubernetes-eu-operators-argo-workflows"
SPARK = "kubernetes-eu-operators-spark-operator"
IN = "template train, container main"
DRIVER = "template baseline-spark, SparkApplication, driver"
EXECUTOR = "template baseline-spark, SparkApplication, executor"
# Another container, as the platform's own are.
_BESIDE = {
    "name": "beside",
    "command": ["mlops-registry"],
    "image": "europe-west1-docker.pkg.dev/stand-in-project/images/registry:fb262ac9a522f9ed2632",
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}


def _beside(kind: str, **changed: Any) -> Any:
    """A template with one container more."""
    return template("train", kind, to=[{**_BESIDE, **changed}])


_CONTAINERS = (
    Case("container-root", REFIT, template("train", "securityContext", "runAsNonRoot", to=None), f"{IN}: runAsNonRoot"),
    Case(
        "container-root",
        REFIT,
        template("train", "container", "securityContext", "runAsUser", to=0),
        f"{IN}: runAsUser",
    ),
    Case(
        "container-root",
        REFIT,
        manifest("baseline-spark", "runAsNonRoot: true", "runAsNonRoot: false"),
        f"{DRIVER}: runAsNon",
    ),
    Case(
        "container-root",
        REFIT,
        template("train", "podSpecPatch", to='{"containers":[{"name":"main","securityContext":{"runAsUser":0}}]}'),
        f"{IN}: runAsUser is 0",
    ),
    Case(
        "container-root",
        REFIT,
        put(
            "spec",
            "templateDefaults",
            to={
                "initContainers": [
                    {**_BESIDE, "securityContext": {**_BESIDE["securityContext"], "runAsNonRoot": False}}
                ]
            },
        ),
        "init container beside: runAsNonRoot",
    ),
    Case(
        "container-privilege",
        REFIT,
        template("train", "container", "securityContext", "privileged", to=True),
        f"{IN}: privileged",
    ),
    Case(
        "container-privilege",
        REFIT,
        template("train", "container", "securityContext", "allowPrivilegeEscalation", to=None),
        f"{IN}: allowPrivilegeEscalation is not false",
    ),
    Case(
        "container-privilege",
        REFIT,
        template("train", "container", "securityContext", "procMount", to="Unmasked"),
        f"{IN}: procMount is Unmasked",
    ),
    Case(
        "container-privilege",
        REFIT,
        _beside("sidecars", securityContext={**_BESIDE["securityContext"], "privileged": True}),
        "template train, container beside: privileged",
    ),
    Case(
        "container-privilege",
        REFIT,
        manifest("baseline-spark", "allowPrivilegeEscalation: false", "privileged: false"),
        DRIVER,
    ),
    Case(
        "container-capabilities", REFIT, template("train", "container", "securityContext", "capabilities", to=None), IN
    ),
    Case(
        "container-capabilities",
        REFIT,
        template("train", "container", "securityContext", "capabilities", "add", to=["SYS_ADMIN"]),
        f"{IN}: capabilities.add has SYS_ADMIN",
    ),
    Case(
        "container-seccomp", REFIT, template("train", "securityContext", "seccompProfile", "type", to="Unconfined"), IN
    ),
    Case("container-seccomp", REFIT, manifest("baseline-spark", "type: RuntimeDefault", "type: Unconfined"), DRIVER),
    Case(
        "container-read-only",
        REFIT,
        template("train", "container", "securityContext", "readOnlyRootFilesystem", to=None),
        IN,
    ),
    Case(
        "pod-host",
        REFIT,
        template("train", "podSpecPatch", to="hostNetwork: true"),
        "template train: hostNetwork is on",
    ),
    Case("pod-host", REFIT, put("spec", "hostNetwork", to=True), "hostNetwork is on"),
    Case(
        "pod-host",
        REFIT,
        template("train", "container", "ports", to=[{"containerPort": 54321, "hostPort": 54321}]),
        "container main has hostPort 54321",
    ),
    Case(
        "pod-volumes",
        REFIT,
        put("spec", "volumes", to=[{"name": "run", "hostPath": {"path": "/run"}}]),
        "hostPath /run",
    ),
    Case(
        "pod-volumes",
        REFIT,
        manifest("baseline-spark", "  driver:\n", "  volumes:\n  - name: run\n    hostPath: {path: /run}\n  driver:\n"),
        "SparkApplication, ",
    ),
    Case("container-resources", REFIT, template("train", "container", "resources", "requests", "cpu", to=None), IN),
    Case(
        "container-resources",
        REFIT,
        template("train", "container", "resources", "limits", to=None),
        f"{IN}: resources.limits",
    ),
    Case("container-resources", REFIT, manifest("baseline-spark", "    memory: 1536m\n", ""), f"{DRIVER}: resources."),
    Case(
        "container-image",
        REFIT,
        template("train", "container", "image", to="docker.io/library/python:3.11.9"),
        "none of",
    ),
    Case(
        "container-image",
        REFIT,
        template("train", "container", "image", to="europe-west1-docker.pkg.dev/stand-in-project/images/h2o-trainer"),
        f"{IN}: image europe-west1-docker.pkg.dev/stand-in-project/images/h2o-trainer is not pinned",
    ),
    Case(
        "container-image",
        REFIT,
        template("train", "container", "image", to="{{workflow.parameters.model}}"),
        "submitter",
    ),
    Case(
        "container-image",
        REFIT,
        manifest("baseline-spark", "spark-features:", "spark-features:latest #"),
        "is not pinned",
    ),
    Case(
        "container-credential",
        REFIT,
        template("train", "container", "env", to=[{"name": "SALESFORCE_PASSWORD", "value": "a"}]),
        f"{IN}: environment variable SALESFORCE_PASSWORD holds a credential",
    ),
    Case(
        "container-credential",
        REFIT,
        template("train", "container", "args", 1, to="--access-token=abc"),
        f"{IN}: --access-token holds a credential",
    ),
    Case(
        "container-credential",
        REFIT,
        template("publish", "container", "args", 4, to="https://robot:hunter2@maven.example.org/"),
        "template publish, container main: an argument holds a credential",
    ),
    Case(
        "pod-service-account",
        REFIT,
        template("train", "serviceAccountName", to="default"),
        "template train: serviceAccountName is default",
    ),
    Case(
        "container-credential",
        REFIT,
        template("train", "script", to={**_BESIDE, "source": f"token = '{'ghp_' + 36 * 'a'}'"}),
        "template train, container main: its script holds a credential",
    ),
    Case(
        "pod-service-account",
        REFIT,
        template("train", "serviceAccountName", to="{{workflow.parameters.model}}"),
        "whatever a run's submitter says",
    ),
    Case(
        "pod-service-account",
        REFIT,
        manifest("baseline-spark", "    serviceAccount: spark\n", ""),
        "serviceAccountName is not set, which is default",
    ),
    Case(
        "pod-service-account",
        REFIT,
        put("spec", "serviceAccountName", to=None),
        "serviceAccountName is not set, which is default",
    ),
    Case(
        "pod-fits",
        REFIT,
        template("train", "container", "resources", "requests", "memory", to="64Gi"),
        "template train: it asks for 1 CPU and 64 GiB",
    ),
    Case(
        "pod-fits", REFIT, template("train", "container", "resources", "requests", "cpu", to="96500m"), "for 96.5 CPU"
    ),
    Case("pod-fits", REFIT, template("train", "container", "resources", "requests", "cpu", to="much"), "no quantity"),
    Case(
        "pod-fits",
        REFIT,
        manifest("baseline-spark", "memory: 1536m", "memory: 100g"),
        f"{DRIVER}: it asks for 1 CPU and 14",
    ),
    Case(
        "pod-fits",
        REFIT,
        _beside("sidecars", resources={"requests": {"cpu": "1", "memory": "1Ti"}, "limits": {"memory": "1Ti"}}),
        "template train: it asks for 2 CPU and 1026 GiB",
    ),
    Case("pod-placed", REFIT, template("select", "nodeSelector", to=None), "template select: nodeSelector is not set"),
    Case(
        "pod-placed", REFIT, template("select", "nodeSelector", "hybrid-mlops/pool", to="gpu"), "label of no node pool"
    ),
    Case(
        "pod-placed",
        REFIT,
        template("select", "tolerations", to=[]),
        "does not tolerate hybrid-mlops/pool=workflows:NoSchedule",
    ),
    Case(
        "pod-placed", REFIT, manifest("baseline-spark", "value: spark", "value: h2o"), f"{DRIVER}: it does not tolerate"
    ),
)
_CLUSTER = (
    Case(
        "namespace-pod-security",
        NAMESPACE,
        put("metadata", "labels", "pod-security.kubernetes.io/enforce", to="baseline"),
        "enforce is baseline, not restricted",
    ),
    Case(
        "namespace-pod-security",
        OPERATORS,
        put("metadata", "labels", "pod-security.kubernetes.io/enforce", to=None),
        "enforce is not set",
    ),
    Case("namespace-network-refused", OUTSIDE, put("spec", "policyTypes", to=["Ingress"]), "Egress", verdict=NAMESPACE),
    Case(
        "namespace-network-refused",
        OUTSIDE,
        put("spec", "podSelector", "matchLabels", "app", to="h2o"),
        "policyTypes",
        verdict=NAMESPACE,
    ),
    Case(
        "network-policy-open",
        OUTSIDE,
        put("spec", "ingress", to=[{}]),
        "ingress from anywhere is allowed on every port",
    ),
    Case("network-policy-open", OUTSIDE, put("spec", "egress", 1, "ports", 0, "port", to=22), "egress to anywhere is"),
    Case(
        "network-policy-open",
        OUTSIDE,
        put("spec", "ingress", to=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 54321}]}]),
        "54321",
    ),
    Case("namespace-quota", QUOTA, put("spec", "hard", "requests.cpu", to=None), "requests.cpu", verdict=NAMESPACE),
    Case("namespace-quota", QUOTA, put("spec", "hard", "services.loadbalancers", to="1"), "way in", verdict=NAMESPACE),
    Case("namespace-own", LIMITS, put("metadata", "namespace", to=None), "not set, which is default"),
    Case(
        "namespace-own",
        SPARK,
        put("namespace", to="kube-system"),
        "its namespace is kube-system",
    ),
    Case(
        "rbac-escalation",
        ROLE,
        added("rules", to={"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
        "a rule has get on secrets",
    ),
    Case(
        "rbac-escalation",
        ROLE,
        added("rules", to={"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}),
        "a rule has impersonate on users",
    ),
    Case(
        "rbac-binding",
        BINDING,
        put("roleRef", "name", to="cluster-admin"),
        "it grants cluster-admin",
    ),
    Case(
        "rbac-binding",
        BINDING,
        added("subjects", to={"kind": "Group", "name": "system:authenticated"}),
        "trainer to system:authenticated",
        also=("iam-public",),
    ),
    Case(
        "rbac-binding",
        BINDING,
        added("subjects", to={"kind": "ServiceAccount", "name": "default", "namespace": "mlops"}),
        "the default service account of mlops",
    ),
    Case(
        "service-account-token",
        BINDING,
        put("subjects", 0, "name", to="registry"),
        "no binding gives it a right",
        verdict="kubernetes-eu-accounts-trainer",
    ),
)
_RELEASES = (
    Case("release-version", ARGO, put("version", to=None), "version is not set"),
    Case("release-version", ARGO, put("values", "images", "tag", to="latest"), "values.images.tag is latest"),
    Case(
        "release-images", ARGO, put("values", "executor", "image", to=None), "values.executor.image.registry is not set"
    ),
    Case("release-images", SPARK, put("values", "image", "registry", to="ghcr.io"), "values.image.registry ghcr.io"),
    Case(
        "release-resources", SPARK, put("values", "webhook", "resources", "limits", to=None), "values.webhook.resources"
    ),
    Case(
        "release-security",
        SPARK,
        put("values", "controller", "podSecurityContext", to={"runAsUser": 0}),
        "runAsUser is 0",
    ),
    Case(
        "release-security",
        SPARK,
        put("values", "controller", "volumes", to=[{"name": "run", "hostPath": {"path": "/run"}}]),
        "values.controller.volumes.hostPath.path mounts a path of the node",
    ),
    Case("release-security", ARGO, put("values", "server", "hostNetwork", to=True), "values.server.hostNetwork"),
    Case(
        "release-security",
        ARGO,
        put("values", "executor", "securityContext", "capabilities", to=None),
        "values.executor.securityContext: capabilities.drop",
    ),
    Case("release-security", ARGO, put("values", "server", "sso", to={"clientSecret": "abc"}), "holds a credential"),
    Case(
        "argo-restricted",
        ARGO,
        put("values", "controller", "workflowRestrictions", to=None),
        "templateReferencing is not set",
    ),
    Case("argo-restricted", ARGO, put("values", "singleNamespace", to=False), "singleNamespace is not true"),
    Case("argo-restricted", ARGO, put("values", "controller", "parallelism", to=None), "parallelism is not set"),
    Case("argo-server-closed", ARGO, put("values", "server", "authModes", to=["server"]), "has server"),
    Case("argo-server-closed", ARGO, put("values", "server", "ingress", to={"enabled": True}), "ingress.enabled is on"),
    Case("argo-server-closed", ARGO, put("values", "server", "serviceType", to="LoadBalancer"), "is LoadBalancer"),
    Case(
        "spark-operator-scope",
        SPARK,
        put("values", "spark", "jobNamespaces", to=[""]),
        "jobNamespaces is every namespace",
    ),
    Case(
        "spark-operator-scope", SPARK, put("values", "webhook", "failurePolicy", to="Ignore"), "failurePolicy is Ignore"
    ),
    Case("spark-operator-scope", SPARK, put("values", "webhook", "enable", to=False), "webhook.enable is false"),
)
CASES = (*_CONTAINERS, *_CLUSTER, *_RELEASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)
