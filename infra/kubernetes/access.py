"""What workloads may touch: their service accounts, what each may do in its cluster, and what in Google Cloud.

Owns one table, by role. A service account is its own principal in IAM: there is no key, no account of Google's between,
and no annotation. What each role needs is said in the README of the pipeline that uses it; a role that is not in the
table gets what every step needs: its artifacts, and to report its results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_gcp import artifactregistry, container, storage
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.rbac.v1 import Role, RoleBinding

from infra.foundation.foundation import Foundation
from infra.kubernetes import names
from infra.kubernetes.namespaces import LABELS
from infra.settings import PROJECT, Settings

_READ = "roles/storage.objectViewer"
_CREATE = "roles/storage.objectCreator"
_WRITE = "roles/storage.objectUser"
_LIST = "roles/storage.legacyBucketReader"


@dataclass(frozen=True)
class Objects:
    """A role on the objects of a bucket whose names begin with a prefix."""

    use: str
    role: str
    prefix: str | None = None


ARTIFACTS = "runs"
"""What everything begins with that a run leaves in the artifact bucket, logs among it. Without a slash: before Spark's
connector writes `runs/x` it asks whether there is an object `runs`, and a refusal would fail it."""
_ARTIFACTS = Objects("artifacts", _WRITE, ARTIFACTS)
_SCORING, _SCORED = "scoring/", "scored/"
"""What is handed to the step that loads a model, and what it gives back: apart from all else in the artifact bucket."""


@dataclass(frozen=True)
class Needs:
    """What a role needs beside its artifacts."""

    executor: bool = True
    """Whether it runs steps of Argo, which report their results to the cluster."""
    artifacts: bool = True
    """Whether it reads and writes artifacts and logs of runs."""
    rules: tuple[Mapping[str, list[str]], ...] = ()
    """Rules in the workloads' namespace."""
    objects: tuple[Objects, ...] = ()
    libraries: bool = False
    """Whether it publishes Java libraries."""


NEEDS: Mapping[str, Needs] = {
    "workflows": Needs(
        rules=(
            {
                "apiGroups": ["sparkoperator.k8s.io"],
                "resources": ["sparkapplications"],
                "verbs": ["create", "delete", "get", "list"],
            },
            # Spark's drivers are deleted when a run ends; of one that failed their logs are kept.
            {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
        )
    ),
    "spark": Needs(
        executor=False,
        rules=(
            # What Spark's driver does to its executors, as the operator's chart has it (templates/spark/rbac.yaml of
            # v2.5.2); claims are among it because a driver that ends deletes whatever claims there are of its own.
            {
                "apiGroups": [""],
                "resources": ["pods", "configmaps", "persistentvolumeclaims", "services"],
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            },
        ),
        objects=(Objects("data", _READ),),
    ),
    "trainer": Needs(),
    "registry": Needs(
        # To read and to add, never to replace or delete: what was stored stays as it is.
        # Only who may list a bucket is told that an object is not there, which the registry asks before it adds one.
        objects=(
            Objects("models", _LIST),
            Objects("models", _READ, "models/"),
            Objects("models", _CREATE, "models/"),
            Objects("artifacts", _WRITE, _SCORING),
            Objects("artifacts", _READ, _SCORED),
        ),
        libraries=True,
    ),
    # A model is code: whatever it does, it has no more than the version that it is of, and adds its predictions.
    "scorer": Needs(
        artifacts=False, objects=(Objects("artifacts", _READ, _SCORING), Objects("artifacts", _CREATE, _SCORED))
    ),
}

_EXECUTOR = {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
"""https://argo-workflows.readthedocs.io/en/release-4.0/workflow-rbac/."""


class CloudAccess(pulumi.ComponentResource):
    """What the workloads of all clusters of a stack may do in Google Cloud.

    Attributes:
        grants: Everything that was granted.
    """

    grants: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        foundation: Foundation,
        clusters: list[container.Cluster],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Grant it.

        Args:
            name: The component's name.
            settings: The stack's settings.
            foundation: Buckets and registry.
            clusters: The clusters; before the first of them, the principals are of a pool that does not exist.
            opts: Its options; the provider of Google Cloud is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:CloudAccess", name, None, opts)
        assert settings.kubernetes, "the settings were checked"  # noqa: S101
        below = pulumi.ResourceOptions(parent=self, depends_on=clusters)
        self.grants = []
        for role, account in settings.kubernetes.service_accounts.items():
            needs, member = NEEDS.get(role, Needs()), names.principal(settings, account)
            for objects in (*([_ARTIFACTS] if needs.artifacts else []), *needs.objects):
                self.grants.append(_granted(f"{name}-{role}", objects, member, foundation, below))
            if needs.libraries:
                maven = foundation.registry.maven
                self.grants.append(
                    artifactregistry.RepositoryIamMember(
                        f"{name}-{role}-libraries",
                        project=maven.project,
                        location=maven.location,
                        repository=maven.repository_id,
                        role="roles/artifactregistry.writer",
                        member=member,
                        opts=below,
                    )
                )
        # To show artifacts, and logs of pods that are gone.
        shown = Objects("artifacts", _READ, ARTIFACTS)
        server = names.principal(settings, names.ARGO_SERVER)
        self.grants.append(_granted(f"{name}-argo-server", shown, server, foundation, below))
        self.register_outputs({})


class ClusterAccess(pulumi.ComponentResource):
    """The service accounts of one cluster's workloads, and what they may do in it.

    Attributes:
        ready: Everything that must exist before a workload starts.
    """

    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        namespace: pulumi.Input[str],
        of: container.Cluster,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them.

        Args:
            name: The component's name.
            settings: The stack's settings.
            namespace: The workloads' namespace.
            of: The cluster, with which everything in it goes.
            opts: Its options; the provider of the cluster is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:ClusterAccess", name, None, opts)
        assert settings.kubernetes, "the settings were checked"  # noqa: S101
        below = pulumi.ResourceOptions(parent=self, deleted_with=of)
        self.ready = []
        for role, account in settings.kubernetes.service_accounts.items():
            metadata: Any = {"name": account, "namespace": namespace, "labels": LABELS}
            self.ready.append(ServiceAccount(f"{name}-{role}", metadata=metadata, opts=below))
            needs = NEEDS.get(role, Needs())
            rules: Any = [*([_EXECUTOR] if needs.executor else []), *needs.rules]
            allowed = Role(f"{name}-{role}-role", metadata=metadata, rules=rules, opts=below)
            bound = RoleBinding(
                f"{name}-{role}-binding",
                metadata=metadata,
                role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
                subjects=[{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
                opts=pulumi.ResourceOptions.merge(below, pulumi.ResourceOptions(depends_on=[allowed])),
            )
            self.ready += [allowed, bound]
        self.register_outputs({})


def _granted(
    name: str, objects: Objects, member: str, foundation: Foundation, opts: pulumi.ResourceOptions
) -> storage.BucketIAMMember:
    kind = objects.role.rpartition(".")[2].removeprefix("object").removeprefix("legacyBucket").lower()
    place = f"-{objects.prefix.rstrip('/')}" if objects.prefix in (_SCORING, _SCORED) else ""
    return foundation.buckets.grant(
        f"{name}-{objects.use}-{kind}{place}", objects.use, objects.role, member, prefix=objects.prefix, opts=opts
    )
