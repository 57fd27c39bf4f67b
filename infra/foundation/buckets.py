"""The buckets: models, data, artifacts, logs, and what a stack file names besides.

Owns the buckets and how a grant on one is written. Who is granted what stands beside the workload that needs it.
"""

import pulumi
from pulumi_gcp import storage

from infra import naming
from infra.foundation.keys import Keys
from infra.labels import labels
from infra.settings import PROJECT, Settings

_DAY = 86400


def lifecycle(settings: Settings, use: str) -> list[storage.BucketLifecycleRuleArgs]:
    """What is removed from a bucket by time."""

    def delete(**condition: int | str) -> storage.BucketLifecycleRuleArgs:
        return storage.BucketLifecycleRuleArgs(
            action=storage.BucketLifecycleRuleActionArgs(type="Delete"),
            condition=storage.BucketLifecycleRuleConditionArgs(**condition),  # pyright: ignore[reportArgumentType]
        )

    rules = [
        delete(days_since_noncurrent_time=settings.storage.noncurrent_days, with_state="ARCHIVED"),
        # What a killed upload left is invisible in listings, and paid for.
        storage.BucketLifecycleRuleArgs(
            action=storage.BucketLifecycleRuleActionArgs(type="AbortIncompleteMultipartUpload"),
            condition=storage.BucketLifecycleRuleConditionArgs(age=7),
        ),
    ]
    if use in settings.storage.delete_after_days:
        rules.append(delete(age=settings.storage.delete_after_days[use], with_state="LIVE"))
    return rules


CREATES = "roles/storage.objectCreator"
"""Creates objects, and never replaces or deletes one."""
_TITLE = 100
"""How long the title of a condition may be."""


def below(bucket: str, prefix: str) -> str:
    """The condition by which a grant on a bucket holds for the objects below a prefix, and for listing these."""
    return (
        f"{_named(bucket, prefix)} || "
        f'api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("{prefix}")'
    )


def below_but_aliases(bucket: str, prefix: str) -> str:
    """The condition by which a grant on a bucket holds for the objects below a prefix, except aliases of models.

    `extract` gives what follows its text, and nothing where the name does not have it.
    """
    return f'{_named(bucket, prefix)} && resource.name.extract("/{naming.MODEL_ALIASES}/{{alias}}") == ""'


def _named(bucket: str, prefix: str) -> str:
    if {'"', "\\"} & {*bucket, *prefix}:
        raise ValueError(f"{bucket}/{prefix} cannot stand in a condition; name it without quotes and backslashes")
    return f'resource.name.startsWith("projects/_/buckets/{bucket}/objects/{prefix}")'


class Buckets(pulumi.ComponentResource):
    """The buckets of a stack.

    Attributes:
        by_use: Each, by what it is for.
    """

    by_use: dict[str, storage.Bucket]

    def __init__(
        self, name: str, *, settings: Settings, keys: Keys, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:foundation:Buckets", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        self._names = settings.buckets.by_use()
        self.by_use = {}
        for use, bucket in self._names.items():
            retention = settings.storage.retention_days.get(use)
            self.by_use[use] = storage.Bucket(
                f"{name}-{use}",
                name=bucket,
                project=settings.gcp.project,
                location=settings.gcp.region.upper(),
                storage_class="STANDARD",
                uniform_bucket_level_access=True,
                public_access_prevention="enforced",
                # Under a retention policy nothing is replaced (https://cloud.google.com/storage/docs/bucket-lock), so
                # versions would add nothing; and a bucket with both has been refused
                # (terraform-google-modules/terraform-example-foundation#898).
                versioning=storage.BucketVersioningArgs(enabled=retention is None),
                retention_policy=storage.BucketRetentionPolicyArgs(retention_period=str(retention * _DAY))
                if retention
                else None,
                soft_delete_policy=storage.BucketSoftDeletePolicyArgs(
                    retention_duration_seconds=settings.storage.soft_delete_days * _DAY
                ),
                encryption=storage.BucketEncryptionArgs(default_kms_key_name=keys.storage.id),
                lifecycle_rules=lifecycle(settings, use),
                # A bucket with something in it is not deleted, whatever `protect` says: emptying it is a step of its
                # own.
                force_destroy=False,
                labels=labels(settings, "buckets", use=use),
                opts=pulumi.ResourceOptions(parent=self, protect=settings.gcp.protect, depends_on=keys.ready),
            )
        self.register_outputs({})

    def grant(
        self,
        name: str,
        use: str,
        role: str,
        member: pulumi.Input[str],
        *,
        prefix: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> storage.BucketIAMMember:
        """Grant a role on one bucket. What may only create objects, below a prefix, creates no alias of a model.

        Args:
            name: The grant's logical name.
            use: The bucket's use.
            role: The role, such as roles/storage.objectViewer.
            member: Who gets it.
            prefix: Objects that it is limited to, by what their names begin with; without one, all.
            opts: The grant's options; its parent is the workload that needs it.
        """
        condition = None
        if prefix:
            creates = role == CREATES
            title = f"below {prefix}, aliases excepted" if creates else f"below {prefix}"
            limit = below_but_aliases if creates else below
            condition = storage.BucketIAMMemberConditionArgs(
                title=title[:_TITLE], expression=limit(self._names[use], prefix)
            )
        return storage.BucketIAMMember(
            name, bucket=self.by_use[use].name, role=role, member=member, condition=condition, opts=opts
        )
