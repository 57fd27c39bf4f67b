"""Whether a Nomad job has a place on what a stack provisions: machines that it fits on, and an identity of its own.

Pure, over the jobspec and the settings. It deliberately says nothing of a Nomad that exists already: what its machines
are is its owner's.
"""

from collections.abc import Iterator

from definitions.nomad.jobspec import Job, Jobspec, JobspecError
from infra.nomad import agent
from infra.settings import PROJECT, JobSettings, Settings, SettingsError
from infra.settings.nomad import ClientPoolSettings, NomadRegionSettings

# "Cannot exceed 127 characters", says pulumi_gcp of google.subject (WorkloadIdentityPoolProvider), and Google refuses
# with "exceeds the 127 bytes limit".
_SUBJECT_BYTES = 127
# The pool of every client, whatever its own; and the one that a job is in which names none.
_ANY_POOL, _DEFAULT_POOL = "all", "default"


def check(spec: Jobspec, settings: Settings) -> None:
    """Hold a job to the regions that the stack provisions.

    Args:
        spec: The job.
        settings: The stack's settings.

    Raises:
        SettingsError: In some region it would never start, or could not prove who it is.
    """
    if not settings.nomad.regions:
        return  # an expression in place of a number is Nomad's to evaluate
    own = job(spec, settings)
    for name, region in settings.nomad.regions.items():
        problems = [*_unplaced(own, name, region), *_nameless(own, name)]
        if problems:
            raise SettingsError(f"{spec.origin}: {problems[0]}")


def job(spec: Jobspec, settings: Settings) -> Job:
    """A job with the stack's values for its variables.

    Raises:
        SettingsError: A size or a name in it is none.
    """
    try:
        return spec.job(settings.jobs.get(spec.id, JobSettings()).variables)
    except JobspecError as error:
        raise SettingsError(str(error)) from None


def pools(job: Job, region: NomadRegionSettings) -> dict[str, ClientPoolSettings]:
    """The pools of a region that a job may run in."""
    wanted = job.node_pool or _DEFAULT_POOL
    return {name: pool for name, pool in region.pools.items() if wanted in (name, _ANY_POOL)}


def _unplaced(job: Job, name: str, region: NomadRegionSettings) -> Iterator[str]:
    open_to = pools(job, region)
    path = f"{PROJECT}:nomad.regions.{name}.pools"
    if not open_to:
        yield (
            f"names the node pool {job.node_pool or _DEFAULT_POOL}, but {path} does not have it, so it would "
            f"never start; add that pool, or set node_pool in {PROJECT}:jobs.{job.id}.variables to one of: "
            f"{', '.join(region.pools)}"
        )
    for group in job.groups:
        cpu, memory = group.total
        if open_to and not any(_fits(cpu, memory, pool) for pool in open_to.values()):
            yield (
                f"group {group.name} asks for {cpu} MHz and {memory} MB, so it would wait for ever: no machine of "
                f"{path} ({', '.join(open_to)}) has as much; ask for less by {PROJECT}:jobs.{job.id}.variables, or "
                "choose a larger machine_type"
            )


def _fits(cpu: int, memory: int, pool: ClientPoolSettings) -> bool:
    free_cpu, free_memory = agent.capacity(pool)
    return cpu <= free_cpu and memory <= free_memory


def _nameless(job: Job, region: str) -> Iterator[str]:
    """Tasks whose identity Google would refuse."""
    for group in job.groups:
        for task in group.tasks:
            for identity in task.identities:
                subject = f"{region}:{job.namespace}:{job.id}:{group.name}:{task.name}:{identity.name}"
                if identity.aud and len(subject.encode()) > _SUBJECT_BYTES:
                    yield (
                        f"task {task.name} is {subject} to Google, {len(subject.encode())} bytes, so it would be "
                        f"refused there: {_SUBJECT_BYTES} are allowed; shorten a name"
                    )
