"""The whole tree of a stack's settings."""

from collections.abc import Mapping

from pydantic import Field

from infra.settings.ci import CiSettings
from infra.settings.fields import JobId, Model
from infra.settings.google import BucketSettings, GoogleSettings, KeySettings, NetworkSettings, StorageSettings
from infra.settings.jobs import ImageSettings, JobSettings
from infra.settings.kubernetes import KubernetesSettings
from infra.settings.nomad import NomadSettings, SalesforceSettings


class Settings(Model):
    """All settings of one stack, without the namespace `hybrid-mlops:`."""

    gcp: GoogleSettings | None = Field(
        default=None, description="The project of Google Cloud that the stack provisions; without it, nothing is."
    )
    network: NetworkSettings | None = Field(default=None, description="The VPC; needed beside `gcp`.")
    storage: StorageSettings = Field(default=StorageSettings(), description="How buckets keep what is in them.")
    keys: KeySettings = Field(default=KeySettings(), description="Keys in Cloud KMS.")
    nomad: NomadSettings = Field(default=NomadSettings(), description="The Nomad that jobs are registered with.")
    salesforce: SalesforceSettings | None = Field(
        default=None,
        description="Credentials that jobs read Salesforce with; without them they read open addresses only.",
    )
    kubernetes: KubernetesSettings | None = Field(
        default=None,
        description="The cluster that workflow templates are registered with; without it the stack has none.",
    )
    ci: CiSettings | None = Field(
        default=None,
        description="The repository whose workflows preview and update the stack; without it, people do.",
    )
    images: ImageSettings = Field(default=ImageSettings(), description="Where container images are pulled from.")
    buckets: BucketSettings = Field(description="The stack's buckets: names are the world's, so choose your own.")
    jobs: Mapping[JobId, JobSettings] = Field(
        default={},
        description="What this stack sets for a job, by the job's id. A job without an entry has its defaults.",
    )
