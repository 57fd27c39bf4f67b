"""Where jobs are registered in a Nomad that the stack provisions: one region, and what goes with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
import pulumi_nomad

if TYPE_CHECKING:
    # Stacks without a project import nothing of Google Cloud.
    from infra.foundation.foundation import Foundation
    from infra.nomad.identity import WorkloadIdentity


@dataclass(frozen=True)
class Place:
    """One Nomad region, for jobs.

    Attributes:
        region: Its name.
        provider: Its provider.
        ready: What a job depends on.
        engine: What a job is gone with.
        drain: The hook that stops a job's runs before the job is deleted.
        identity: Who tasks are to Google Cloud.
        foundation: What tasks are granted rights on.
    """

    region: str
    provider: pulumi_nomad.Provider
    ready: Sequence[pulumi.Resource]
    engine: pulumi.Resource
    drain: pulumi.ResourceHook
    identity: "WorkloadIdentity"
    foundation: "Foundation"

    def options(self) -> pulumi.ResourceOptions:
        """Options of a component whose children are registered here, with grants on Google Cloud beside them."""
        google = self.foundation.get_provider("gcp:storage/bucketIAMMember:BucketIAMMember")
        assert google, "the foundation was made with one"  # noqa: S101
        return pulumi.ResourceOptions(providers=[self.provider, google], depends_on=list(self.ready))
