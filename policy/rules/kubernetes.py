"""Rules on what is in a cluster beside workloads: namespaces, the network in them, and who may do what.

"CIS GKE" is the CIS Google Kubernetes Engine Benchmark 1.6.0, "NSA/CISA" the Kubernetes Hardening Guide of both.
Wildcards in roles are `iam.py`'s.
"""

from collections.abc import Iterator
from typing import Any

from policy.parts.workflows import SPARK, WORKFLOWS
from policy.rule import Level, Part, Rule, Stack, whole

_NAMESPACE = "kubernetes:core/v1:Namespace"
_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
_QUOTA = "kubernetes:core/v1:ResourceQuota"
_ACCOUNT = "kubernetes:core/v1:ServiceAccount"
_RBAC = "kubernetes:rbac.authorization.k8s.io/v1:"
_BINDINGS = (f"{_RBAC}RoleBinding", f"{_RBAC}ClusterRoleBinding")
_RELEASE = "kubernetes:helm.sh/v3:Release"
_OF_NO_NAMESPACE = (
    *("Namespace", "ClusterRole", "ClusterRoleBinding", "ClusterWorkflowTemplate", "CustomResourceDefinition"),
    *("PersistentVolume", "PriorityClass", "StorageClass", "RuntimeClass", "IngressClass"),
    *("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "ValidatingAdmissionPolicy"),
)
# Where GKE's own firewall rule lets the control plane in: the operators' webhooks answer there.
_WEBHOOK_PORTS = (443, 10250)
_OUT_PORTS = (443,)
_EVERYWHERE = ("0.0.0.0/0", "::/0")
# Roles that hold nearly everything of a namespace, its secrets among it.
_GREAT_ROLES = ("cluster-admin", "admin", "edit", "system:masters")
_EVERYONE = ("system:anonymous", "system:unauthenticated", "system:authenticated", "system:masters")
_GREAT_VERBS = ("bind", "escalate", "impersonate")
_GREAT_RESOURCES = (
    *("secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "serviceaccounts/token", "nodes/proxy"),
    *("roles", "rolebindings", "clusterroles", "clusterrolebindings", "certificatesigningrequests/approval"),
    *("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "serviceaccounts"),
)


def _parts(stack: Stack, *types: str) -> Iterator[Part]:
    for resource in stack.inventory.resources:
        if resource.type in types or ("sparkoperator" in resource.type and SPARK in types):
            yield from whole(resource)


def _in(stack: Stack, namespace: Any, *types: str) -> list[Part]:
    """What there is of some kinds in a namespace."""
    return [one for one in _parts(stack, *types) if one.get("metadata", "namespace") == namespace]


def _runs(stack: Stack, namespace: Any) -> bool:
    """Whether workloads run in a namespace."""
    return bool(_in(stack, namespace, *WORKFLOWS, SPARK))


def _security(part: Part, stack: Stack) -> Iterator[str]:
    level = part.get("metadata", "labels", "pod-security.kubernetes.io/enforce")
    # What a chart renders is its maker's; what the project writes has no excuse.
    wanted = ("restricted",) if _runs(stack, part.get("metadata", "name")) else ("restricted", "baseline")
    if level not in wanted:
        yield f"pod-security.kubernetes.io/enforce is {level or 'not set'}, not {' or '.join(wanted)}"


def _refuses(part: Part, stack: Stack) -> Iterator[str]:
    refused: set[str] = set()
    for policy in _in(stack, part.get("metadata", "name"), _POLICY):
        selector = policy.get("spec", "podSelector") or {}
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            refused |= set(policy.each("spec", "policyTypes"))
    for direction in ("Ingress", "Egress"):
        if direction not in refused:
            yield f"no NetworkPolicy of all its pods has policyTypes {direction}, so that what is not said is allowed"


def _open(policy: Part, _: Stack) -> Iterator[str]:
    for direction, peers, allowed in (("ingress", "from", _WEBHOOK_PORTS), ("egress", "to", _OUT_PORTS)):
        for one in policy.each("spec", direction):
            rule = policy.inner(one, "")
            anyone = [str(peer) for peer in rule.each(peers) if _is_anyone(rule.inner(peer, ""))]
            ports = [rule.inner(port, "").get("port") for port in rule.each("ports")]
            strange = [str(port) for port in ports if port not in allowed] or ([] if ports else ["every port"])
            if (anyone or not rule.each(peers)) and strange:
                yield f"{direction} {peers} anywhere is allowed on {', '.join(strange)}"


def _is_anyone(peer: Part) -> bool:
    return peer.get("ipBlock", "cidr") in _EVERYWHERE or (
        peer.get("namespaceSelector") == {} and not peer.get("podSelector")
    )


def _bounded(part: Part, stack: Stack) -> Iterator[str]:
    name = part.get("metadata", "name")
    if not _runs(stack, name):
        return
    quotas = _in(stack, name, _QUOTA)
    for key in ("requests.cpu", "requests.memory", "count/workflows.argoproj.io"):
        if not any(quota.get("spec", "hard", key) for quota in quotas):
            yield f"no ResourceQuota bounds {key}"
    for key in ("services.loadbalancers", "services.nodeports"):
        if not any(str(quota.get("spec", "hard", key)) == "0" for quota in quotas):
            yield f"no ResourceQuota sets {key} to 0, so that a step may open a way in"


def _placed(part: Part, _: Stack) -> Iterator[str]:
    kind = str(part.resource.type if part.resource else "").rpartition(":")[2]
    if kind in _OF_NO_NAMESPACE:
        return
    path = ("namespace",) if kind == "Release" else ("metadata", "namespace")
    namespace = part.get(*path)
    if namespace in (None, "", "default") or str(namespace).startswith("kube-"):
        yield f"its namespace is {namespace or 'not set, which is default'}"


def _great(role: Part, _: Stack) -> Iterator[str]:
    for rule in role.each("rules"):
        one = role.inner(rule, "")
        resources = one.each("resources")
        if found := sorted(set(_GREAT_VERBS) & set(one.each("verbs"))):
            yield f"a rule has {', '.join(found)} on {', '.join(map(str, resources))}"
        if found := sorted(set(_GREAT_RESOURCES) & set(resources)):
            yield f"a rule has {', '.join(map(str, one.each('verbs')))} on {', '.join(found)}"


def _bound(binding: Part, _: Stack) -> Iterator[str]:
    if (role := binding.get("roleRef", "name")) in _GREAT_ROLES:
        yield f"it grants {role}"
    for one in binding.each("subjects"):
        subject = binding.inner(one, "")
        name = subject.get("name")
        if name in _EVERYONE or str(name).startswith("system:serviceaccounts"):
            yield f"it grants {role} to {name}"
        elif subject.get("kind") == "ServiceAccount" and name == "default":
            yield f"it grants {role} to the default service account of {subject.get('namespace')}"


def _token(account: Part, stack: Stack) -> Iterator[str]:
    name, namespace = account.get("metadata", "name"), account.get("metadata", "namespace")
    bound = any(
        binding.inner(one, "").get("name") == name and binding.inner(one, "").get("namespace") in (None, namespace)
        for binding in _parts(stack, *_BINDINGS)
        for one in binding.each("subjects")
    )
    if not bound and account.get("automountServiceAccountToken") is not False:
        yield "its token is mounted into every pod of it, and no binding gives it a right"


RULES = (
    Rule(
        id="namespace-pod-security",
        level=Level.MANDATORY,
        holds="Every namespace enforces the pod security standard baseline, and one with workloads restricted.",
        why="CIS GKE 4.2.1: what no rule here sees, such as a pod that someone makes by hand, the cluster refuses.",
        fix="Set the label pod-security.kubernetes.io/enforce.",
        types=(_NAMESPACE,),
        check=_security,
        across=True,
    ),
    Rule(
        id="namespace-network-refused",
        level=Level.MANDATORY,
        holds="In every namespace, connections that no policy allows are refused, in both directions.",
        why="CIS GKE 4.3.2; NSA/CISA, Network policies: without a policy of all pods each may reach each, and send "
        "data anywhere.",
        fix="Keep a NetworkPolicy with an empty podSelector and policyTypes Ingress and Egress.",
        types=(_NAMESPACE,),
        check=_refuses,
        across=True,
    ),
    Rule(
        id="network-policy-open",
        level=Level.MANDATORY,
        holds="A network policy lets nobody in from anywhere but to webhooks, and out to anywhere on 443 alone.",
        why="NSA/CISA, Network policies: explicitly allow what is needed. H2O answers whoever reaches it, without a "
        "password.",
        fix="Name the peers by podSelector, namespaceSelector or ipBlock.",
        types=(_POLICY,),
        check=_open,
    ),
    Rule(
        id="namespace-quota",
        level=Level.MANDATORY,
        holds="A namespace with workloads has a quota of CPU, memory and workflows, and none of ways in.",
        why="NSA/CISA, Resource policies: a loop that submits workflows fills every pool and the control plane's "
        "database; a Service of type LoadBalancer would be a public address.",
        fix="Keep the ResourceQuota of infra/kubernetes/namespaces.py.",
        types=(_NAMESPACE,),
        check=_bounded,
        across=True,
    ),
    Rule(
        id="namespace-own",
        level=Level.MANDATORY,
        holds="Nothing is in the namespace default or in one of Kubernetes' own.",
        why="CIS GKE 4.6.4: there no quota, network policy or pod security standard of the stack holds.",
        fix="Set metadata.namespace to a namespace of the stack's.",
        types=("kubernetes:*",),
        check=_placed,
    ),
    Rule(
        id="rbac-escalation",
        level=Level.MANDATORY,
        holds="No role can read secrets, get into other pods, or give itself or others more rights.",
        why="CIS GKE 4.1.2 and 4.1.7; Kubernetes, RBAC Good Practices, Privilege escalation risks.",
        fix="Remove it from the rule; what needs a secret reads Secret Manager with its own identity.",
        types=(f"{_RBAC}Role", f"{_RBAC}ClusterRole"),
        check=_great,
    ),
    Rule(
        id="rbac-binding",
        level=Level.MANDATORY,
        holds="No binding grants an administrator's role, or grants one to everybody or to a default service account.",
        why="CIS GKE 4.1.1, 4.1.4, 4.1.6 and 4.1.8 to 4.1.10: on GKE system:authenticated is everybody with a Google "
        "account.",
        fix="Bind a role of its own to a service account of its own.",
        types=_BINDINGS,
        check=_bound,
    ),
    Rule(
        id="service-account-token",
        level=Level.ADVISORY,
        holds="A service account without a right in the cluster mounts no token.",
        why="CIS GKE 4.1.5; NSA/CISA, Protecting Pod service account tokens: whoever gets into a pod has its token.",
        fix="Set automountServiceAccountToken: false, or bind the role that it is for.",
        types=(_ACCOUNT,),
        check=_token,
        across=True,
    ),
)
