"""The tasks of a Nomad job that are somebody to Google Cloud, and what each may do there.

Owns which tasks these are (those with an `identity` block for Google), where their models go, and the grants beside
them. It deliberately knows of no machine: the node that a task runs on has no right on a bucket.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_nomad

from definitions.nomad.jobspec import Jobspec
from infra import naming
from infra.nomad.place import Place
from infra.settings import PROJECT, JobSettings, Settings, SettingsError

ROLES = {
    # Only who may list a bucket is told that an object is not there. Names of versions are no secret.
    "lists": ("roles/storage.legacyBucketReader", False),
    "reads": ("roles/storage.objectViewer", True),
    # Creates and never overwrites, as the registry does: versions of its own model, and no alias of it.
    "writes": ("roles/storage.objectCreator", True),
}
"""What such a task may do with its job's models: the role, and whether it holds below the job's prefix alone."""


@dataclass(frozen=True)
class Task:
    """A task with an identity.

    Attributes:
        namespace: Its job's namespace.
        job: Its job.
        group: Its group.
        name: Its name.
        use: The use of the bucket that its job's models go to.
        prefix: What the names of these objects begin with.
    """

    namespace: str
    job: str
    group: str
    name: str
    use: str
    prefix: str


def tasks(spec: Jobspec, settings: Settings) -> list[Task]:
    """The tasks of a job that are somebody to Google Cloud.

    Raises:
        SettingsError: The job's models go to a bucket that is not the stack's.
    """
    given = settings.jobs.get(spec.id, JobSettings())
    job = spec.job(given.variables)
    named = [
        (group.name, task.name)
        for group in job.groups
        for task in group.tasks
        if any(naming.GOOGLE_AUDIENCE in identity.aud for identity in task.identities)
    ]
    if not named:
        return []
    path = given.parameters.get("gcp_bucket_path") or f"gs://{settings.buckets.models}/models"
    bucket, _, prefix = path.removeprefix("gs://").partition("/")
    uses = {name: use for use, name in settings.buckets.by_use().items()}
    if bucket not in uses:
        raise SettingsError(
            f"{PROJECT}:jobs.{spec.id}.parameters.gcp_bucket_path: {bucket} is no bucket of this stack, so tasks could "
            f"be given no right on it; use one of: {', '.join(sorted(uses))}"
        )
    # The registry puts a model below its name, which is the job's.
    below = "/".join(filter(None, (prefix.strip("/"), spec.id))) + "/"
    return [Task(job.namespace, spec.id, group, task, uses[bucket], below) for group, task in named]


def make(name: str, of: Sequence[Task], place: Place, opts: pulumi.ResourceOptions) -> Iterator[pulumi.Resource]:
    """Tell the tasks of a job who they are to Google Cloud, and grant what they need there.

    Args:
        name: What logical names begin with.
        of: The tasks.
        place: The Nomad region.
        opts: Options of what is made inside Nomad; what is made in Google Cloud has their parent.
    """
    for namespace, job, group in sorted({(task.namespace, task.job, task.group) for task in of}):
        yield pulumi_nomad.Variable(
            f"{name}-{group}-google",
            path=f"nomad/jobs/{job}/{group}",
            namespace=namespace,
            items={"google_credentials": place.identity.credentials(place.region)},
            opts=opts,
        )
    for task in of:
        member = place.identity.member(place.region, task.namespace, task.job, task.group, task.name)
        for what, (role, limited) in ROLES.items():
            yield place.foundation.buckets.grant(
                f"{name}-{task.name}-{what}-{task.use}",
                task.use,
                role,
                member,
                prefix=task.prefix if limited else None,
                opts=pulumi.ResourceOptions(parent=opts.parent),
            )
