"""Who may do what on which resource: every grant of a stack, in Google's IAM, Kubernetes' RBAC and Nomad's ACLs.

Owns reading grants out of an inventory, one row each. It deliberately judges none, and follows none across resources: a
binding to a role is one row, and what the role allows is rows of its own (principal "holders of ..."), so that a change
of either shows once.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from definitions.nomad import hcl
from inventory.resources import UNKNOWN, Inventory, Model, Resource
from inventory.values import at, every


class Grant(Model):
    """One principal, one role, one resource."""

    principal: str = Field(description="Who, as the system that decides writes it.")
    role: str = Field(description="What they may do: a role, or verbs on kinds of objects.")
    resource: str = Field(description="On what.")
    condition: str | None = Field(default=None, description="The IAM condition that limits it.")
    urn: str = Field(description="The resource that makes the grant.")

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a grant is, whichever resource makes it."""
        return self.principal, self.role, self.resource, self.condition or ""


def permissions(inventory: Inventory) -> list[Grant]:
    """Every grant of a stack, by what it is on."""
    grants = [grant for resource in inventory.resources for grant in _grants(resource)]
    return sorted(grants, key=lambda grant: (grant.resource, grant.role, grant.principal, grant.urn))


def _grants(resource: Resource) -> Iterator[Grant]:
    for principal, role, target, condition in _rows(resource):
        yield Grant(principal=principal, role=role, resource=target, condition=condition, urn=resource.urn)


_Row = tuple[str, str, str, str | None]
_IAM = re.compile(r"gcp:(\w+)/\w+:(\w*?)(?:IAM|Iam)(Member|Binding|Policy)")
_ACCESS_CONTROL = re.compile(
    r"gcp:storage/\w+:(Default)?(Bucket|Object)(?:AccessControl|ACL|DefaultObjectAccessControl)"
)
# Resource types without a name of their own before IAMMember.
_MODULES = {"projects": "project", "serviceaccount": "service account", "organizations": "organization"}
_NO_TARGET = {"role", "member", "members", "condition", "policyData", "etag"}
_PLACE = ("project", "location", "region", "zone")


def _rows(resource: Resource) -> Iterator[_Row]:
    inputs = resource.inputs
    if match := _IAM.fullmatch(resource.type):
        yield from _iam(match, inputs)
    elif _ACCESS_CONTROL.fullmatch(resource.type):
        target = f"bucket {at(inputs, 'bucket')}"
        if "object" in inputs:
            target += f" object {at(inputs, 'object')}"
        for entry in every(inputs, "roleEntities"):
            role, _, entity = str(entry).partition(":")
            yield entity, role, target, None
        if "entity" in inputs:
            yield str(at(inputs, "entity")), str(at(inputs, "role")), target, None
    elif resource.type == "gcp:projects/iAMCustomRole:IAMCustomRole":
        holders = f"holders of custom role {at(inputs, 'roleId')}"
        for permission in every(inputs, "permissions"):
            yield holders, str(permission), "what the role is granted on", None
    elif resource.type in ("gcp:serviceaccount/key:Key", "gcp:storage/hmacKey:HmacKey"):
        account = at(inputs, "serviceAccountId") or at(inputs, "serviceAccountEmail")
        yield f"whoever has the key {resource.name}", "acts as", f"service account {account}", None
    elif resource.type.startswith("kubernetes:rbac.authorization.k8s.io/"):
        yield from _rbac(resource.type.rpartition(":")[2], inputs)
    elif resource.type.startswith("nomad:index/acl"):
        yield from _nomad(resource.type.rpartition(":")[2], resource.name, inputs)


def _iam(match: re.Match[str], inputs: dict[str, Any]) -> Iterator[_Row]:
    module, kind, form = match.groups()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", kind).lower() or _MODULES.get(module, module)
    own = [str(at(inputs, key)) for key in sorted(inputs) if key not in _NO_TARGET and key not in _PLACE]
    target = f"{words} {'/'.join(own) or at(inputs, 'project') or 'of the provider'}"
    if form == "Policy":
        yield from _policy(at(inputs, "policyData"), target)
        return
    for member in every(inputs, "members" if form == "Binding" else "member"):
        yield str(member), str(at(inputs, "role")), target, _condition(at(inputs, "condition"))


def _policy(data: Any, target: str) -> Iterator[_Row]:
    try:
        bindings = json.loads(data)["bindings"]
    except (TypeError, ValueError, KeyError, RecursionError):
        bindings = None
    if not isinstance(bindings, list) or not all(isinstance(binding, dict) for binding in bindings):
        # What cannot be read may allow anything.
        yield UNKNOWN, UNKNOWN, target, None
        return
    for binding in bindings:
        for member in every(binding, "members"):
            yield str(member), str(at(binding, "role")), target, _condition(at(binding, "condition"))


def _condition(condition: Any) -> str | None:
    if condition is None:
        return None
    expression = at(condition, "expression")
    return str(expression if expression is not None else condition)


def _rbac(kind: str, inputs: dict[str, Any]) -> Iterator[_Row]:
    name, namespace = at(inputs, "metadata", "name"), at(inputs, "metadata", "namespace")
    where = f"namespace {namespace}" if namespace is not None else "the cluster"
    if kind in ("Role", "ClusterRole"):
        holders = f"holders of {kind} {f'{namespace}/' if namespace is not None else ''}{name}"
        scope = where if kind == "Role" else "where the role is bound"
        for rule in every(inputs, "rules"):
            verbs = ",".join(sorted(map(str, every(rule, "verbs"))))
            groups = [group for group in every(rule, "apiGroups") if group]
            of = f" ({','.join(map(str, groups))})" if groups else ""
            named = every(rule, "resourceNames")
            only = f" named {','.join(map(str, named))}" if named else ""
            # One row a kind of object: rules that are merged or split change nothing.
            for what in every(rule, "resources"):
                yield holders, f"{verbs} {what}{of}{only}", scope, None
            for url in every(rule, "nonResourceURLs"):
                yield holders, f"{verbs} {url}", scope, None
    elif kind in ("RoleBinding", "ClusterRoleBinding"):
        role = f"{at(inputs, 'roleRef', 'kind')} {at(inputs, 'roleRef', 'name')}"
        for subject in every(inputs, "subjects"):
            of = at(subject, "namespace")
            yield (
                f"{at(subject, 'kind')} {f'{of}/' if of is not None else ''}{at(subject, 'name')}",
                role,
                where if kind == "RoleBinding" else "the cluster",
                None,
            )


def _nomad(kind: str, name: str, inputs: dict[str, Any]) -> Iterator[_Row]:
    named = at(inputs, "name") or name
    if kind == "AclPolicy":
        policy = f"policy {named}"
        for job in every(inputs, "jobAcl"):
            # Workload identities: of a namespace's, a job's, a group's or a task's allocations.
            parts = [at(job, key) for key in ("namespace", "jobId", "group", "task")]
            workload = "/".join(str(part) for part in parts if part is not None)
            yield f"workload {workload}", policy, "Nomad", None
        yield from _rules(at(inputs, "rulesHcl"), f"holders of {policy}")
    elif kind == "AclRole":
        for policy in every(inputs, "policies"):
            yield f"role {named}", f"policy {at(policy, 'name')}", "Nomad", None
    elif kind == "AclToken":
        token = f"whoever has the token {named}"
        if at(inputs, "type") != "client":
            yield token, str(at(inputs, "type")), "Nomad", None
        for policy in every(inputs, "policies"):
            yield token, f"policy {policy}", "Nomad", None
        for role in every(inputs, "roles"):
            yield token, f"role {at(role, 'id')}", "Nomad", None
    elif kind == "AclBindingRule":
        selector = at(inputs, "selector")
        yield (
            f"login by {at(inputs, 'authMethod')}",
            f"{at(inputs, 'bindType')} {at(inputs, 'bindName') or ''}".strip(),
            "Nomad",
            None if selector is None else str(selector),
        )


def _rules(text: Any, holders: str) -> Iterator[_Row]:
    """What an ACL policy's HCL allows: a row a capability."""
    try:
        tree = hcl.plain(text)
    except hcl.HclError:  # what cannot be read is not decided
        yield holders, UNKNOWN, "Nomad", None
        return
    for block, bodies in tree.items():
        for body in every(bodies):
            yield from _block(block, body, holders, f"Nomad {block}")


def _block(block: str, body: Any, holders: str, target: str) -> Iterator[_Row]:
    if not isinstance(body, dict):
        return
    for key, value in body.items():
        if key == "policy":
            yield holders, f"{value}", target, None
        elif key == "capabilities":
            for capability in every(value):
                yield holders, str(capability), target, None
        else:
            # A block's label, or a block within one: a namespace's variables, and their paths.
            for inner in every(value):
                yield from _block(block, inner, holders, f"{target} {key}")
