"""Settings of Kubernetes: a cluster that exists, or the clusters that the stack provisions."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from infra.settings.fields import (
    CpuPlatform,
    DnsLabel,
    LabelKey,
    LabelValue,
    MachineType,
    Model,
    Region,
    ShortName,
    VariableName,
    Zone,
)


class TolerationSettings(Model):
    """A taint that pods accept."""

    key: LabelKey = Field(description="The taint's key.")
    value: LabelValue | None = Field(default=None, description="The taint's value; without one, any.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="NoSchedule", description="The taint's effect."
    )


class PoolSettings(Model):
    """Where pods of a kind are placed."""

    node_selector: Mapping[LabelKey, LabelValue] = Field(default={}, description="Labels that the nodes have.")
    tolerations: tuple[TolerationSettings, ...] = Field(default=(), description="Taints that the pods accept.")


class NodePoolSettings(Model):
    """A node pool of a cluster that the stack provisions; its name is the label and the taint of its nodes."""

    machine_type: MachineType = Field(description="An n1 machine type, such as n1-standard-4.")
    min_cpu_platform: CpuPlatform = Field(default="Intel Skylake", description="Oldest CPU that nodes may have.")
    min: int = Field(default=0, ge=0, le=1000, description="Fewest nodes, over all zones.")
    max: int = Field(ge=1, le=1000, description="Most nodes, over all zones.")
    spot: bool = Field(default=False, description="Nodes that Google may take back at any time.")
    disk_gb: int = Field(default=50, ge=20, le=2000, description="Size of a node's boot disk, in GB.")


class ClusterSettings(Model):
    """A GKE cluster that the stack provisions."""

    region: Region = Field(description="Region of Google Cloud, one of `network.subnets`, with pods and services.")
    zones: tuple[Zone, ...] = Field(min_length=1, description="Zones of that region in which nodes are made.")
    release_channel: Literal["RAPID", "REGULAR", "STABLE"] = Field(
        default="REGULAR", description="How early the cluster gets releases of Kubernetes."
    )
    node_pools: Mapping[ShortName, NodePoolSettings] = Field(
        min_length=1,
        description="Node pools by name. `system` has no taint and at least one node; of the others, those named like "
        "a kind of pod (`workflows`, `spark`, `h2o`) take these pods.",
    )


class KubernetesSettings(Model):
    """The cluster that workflow templates are registered with."""

    context: Annotated[str, StringConstraints(pattern=r"^\S+$")] | None = Field(
        default=None,
        description="Name of a context in the kubeconfig: an existing cluster. Without one, and without `clusters`, it "
        "is the current context of the one file that KUBECONFIG names, and for `mlops` the embedded engine.",
    )
    clusters: Mapping[ShortName, ClusterSettings] = Field(
        default={}, description="Clusters that the stack provisions, by name; templates are registered with each."
    )
    namespace: DnsLabel = Field(
        description="Namespace of templates, workflows and SparkApplications; it exists, or is made in `clusters`."
    )
    service_accounts: Mapping[VariableName, DnsLabel] = Field(
        description="Kubernetes service accounts by role; every pipeline's README says what its roles need. Where "
        "none is given for `scorer`, it is `scorer`."
    )
    pools: Mapping[VariableName, PoolSettings] = Field(
        default={},
        description="Where pods go, by kind; a kind without an entry goes to the node pool of its name, or anywhere.",
    )
    maven_repository: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")] | None = Field(
        default=None,
        description="URL of the Maven repository that Java libraries are published to; without one it is the stack's "
        "own in Artifact Registry, beside `gcp`, and else they are stored with their version only.",
    )

    @field_validator("service_accounts")
    @classmethod
    def _scorer(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        """The role that loads models is newer than stack files that do not name it, and is never another one's."""
        return {"scorer": "scorer", **given}
