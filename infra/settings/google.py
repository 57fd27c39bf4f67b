"""Settings of what a stack has of Google Cloud beneath both engines: project, network, keys, buckets, registries."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from infra.settings.fields import (
    BucketName,
    Cidr,
    CloudLabelValue,
    Email,
    Member,
    Model,
    ProjectId,
    ProjectNumber,
    Region,
    ShortName,
    from_outside,
)


class BudgetSettings(Model):
    """When the project's costs are told by mail."""

    billing_account: Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$")] = from_outside(
        stand_in="000000-000000-000000",
        description="The billing account that pays for the project: `gcloud billing projects describe PROJECT`.",
    )
    monthly_amount: int = Field(ge=1, description="What a month may cost, in the currency of the billing account.")
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = Field(
        default=None,
        description="The billing account's currency, such as EUR, to be sure that the amount is one of it.",
    )
    thresholds: tuple[Annotated[float, Field(gt=0, le=2)], ...] = Field(
        default=(0.5, 0.9, 1.0), description="Parts of the amount at which the project's billing users are told."
    )


class GoogleSettings(Model):
    """The project that the stack provisions."""

    project: ProjectId = from_outside(
        stand_in="stand-in-project", description="Id of the project, which exists: `gcloud projects list`."
    )
    project_number: ProjectNumber = from_outside(
        stand_in="000000000000",
        description="Its number: `gcloud projects describe PROJECT --format='value(projectNumber)'`.",
    )
    region: Region = Field(description="Region of what is not an engine's: keys, buckets and registries.")
    labels: Mapping[ShortName, CloudLabelValue] = Field(
        default={}, description="Labels of every resource that takes some, beside the program's own."
    )
    administrators: tuple[Member, ...] = Field(
        default=(),
        description="Who may open tunnels to machines and log in to them, and reach clusters and the runs in them, "
        "such as group:platform@example.com.",
    )
    alert_emails: tuple[Email, ...] = Field(default=(), description="Where alerts are mailed.")
    budget: BudgetSettings | None = Field(default=None, description="When costs are told by mail; without it, never.")
    protect: bool = Field(
        default=True,
        description="Whether `pulumi destroy` and replacements are refused for what holds data; turn it off only to "
        "tear a stack down.",
    )


class SubnetSettings(Model):
    """One region's part of the network."""

    nodes: Cidr = Field(description="Addresses of machines, such as 10.10.0.0/20.")
    pods: Cidr | None = Field(default=None, description="Addresses of pods, where a cluster is in the region.")
    services: Cidr | None = Field(default=None, description="Addresses of services, where a cluster is in the region.")


class NetworkSettings(Model):
    """The stack's VPC."""

    subnets: Mapping[Region, SubnetSettings] = Field(min_length=1, description="One subnet a region, by the region.")


class BucketSettings(Model):
    """The stack's buckets."""

    models: BucketName = Field(description="Bucket of model versions, such as example-models.")
    data: BucketName = Field(description="Bucket of raw data, such as example-data.")
    artifacts: BucketName | None = Field(
        default=None,
        description="Bucket of what a workflow's steps hand on, such as example-artifacts; needed beside `kubernetes`.",
    )
    logs: BucketName | None = Field(
        default=None, description="Bucket of snapshots and logs of the platform; needed beside `gcp`."
    )
    more: Mapping[ShortName, BucketName] = Field(
        default={}, description="Further buckets, by what they are for; nothing writes into them by itself."
    )

    def by_use(self) -> dict[str, str]:
        """Every bucket's name, by its use."""
        named = {use: getattr(self, use) for use in ("models", "data", "artifacts", "logs")}
        return {use: name for use, name in named.items() if name} | dict(self.more)


class StorageSettings(Model):
    """How the stack's buckets keep what is in them. Without an entry for a bucket, nothing of it is removed by time."""

    retention_days: Mapping[ShortName, Annotated[int, Field(ge=1, le=3650)]] = Field(
        default={},
        description="Days before which no object of a bucket can be deleted or replaced, by the bucket's use. A bucket "
        "with it cannot be emptied earlier by anyone. Not for `models` and `artifacts`, where some are replaced.",
    )
    delete_after_days: Mapping[ShortName, Annotated[int, Field(ge=1, le=3650)]] = Field(
        default={}, description="Days after which objects of a bucket are deleted, by the bucket's use."
    )
    soft_delete_days: int = Field(
        default=7, ge=7, le=90, description="Days for which a deleted object can be restored."
    )
    noncurrent_days: int = Field(
        default=30, ge=1, le=3650, description="Days for which an overwritten version of an object is kept."
    )


class KeySettings(Model):
    """The stack's keys in Cloud KMS."""

    rotation_days: int = Field(default=90, ge=1, le=365, description="Days after which a key gets a new version.")
