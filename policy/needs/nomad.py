"""What Nomad's jobs need.

Owns: reading it from a jobspec and the values of its variables. Deliberately not: how a jobspec is looked into, which
is `policy.parts.nomad`'s, and whatever is in a Nomad that exists, which is its owner's.
"""

import re
from collections.abc import Iterator
from functools import partial

from definitions.nomad import jobspec
from inventory.resources import Resource
from inventory.values import at, every
from policy.needs.machines import MACHINES, email, groups
from policy.needs.supply import BUCKET, ON_PROJECT, ON_REPOSITORY, READER, Need, Supply, images, urns
from policy.parts import nomad

_VARIABLE = re.compile(r'nomadVar(?:Exists)?\s+\\*"([^"\\]+)\\*"')


def needs(supply: Supply) -> Iterator[Need]:
    """What every job needs."""
    for job in supply.of(nomad.JOB):
        yield from _of_a_job(job, supply)


def _of_a_job(job: Resource, supply: Supply) -> Iterator[Need]:
    regions = {str(at(machines.inputs, "labels", "nomad-region")) for machines in supply.of(*MACHINES)}
    provider = f"{str(job.provider).rpartition('::')[2]}-"
    # A provider's name has its region's in it, which may begin like another's.
    region = max((one for one in regions if f"-{one}-" in provider), key=len, default=None)
    if region is None:
        return
    # The very words of `parts.nomad`, so that each is parsed once.
    job_id = jobspec.parse(job.inputs["jobspec"], "the jobspec").id
    whole = next(nomad.job(job))
    namespace, pool = str(whole.get("namespace") or "default"), whole.get("node_pool") or "default"
    who = f"job {job_id} in {region}"
    need = partial(Need, who, job.urn)

    yield need(f"the namespace {namespace}", supply.find("nomad:index/namespace:Namespace", name=namespace))
    yield need(f"the node pool {pool}", supply.find("nomad:index/nodePool:NodePool", name=pool))
    for path in sorted(set(_VARIABLE.findall(job.inputs["jobspec"]))):
        if path != f"nomad/jobs/{job_id}" or supply.salesforce:
            variables = (one for one in supply.of("nomad:index/variable:Variable") if one.provider == job.provider)
            yield need(f"the Variable {path}", urns(one for one in variables if one.inputs.get("path") == path))

    clients = [
        machines
        for machines in supply.of(*MACHINES)
        if at(machines.inputs, "labels", "nomad-region") == region
        and at(machines.inputs, "labels", "nomad-pool") == pool
    ]
    # Runs are dispatched later, and wait for machines by themselves; a machine pulls images from its first day on.
    yield need(f"machines of the pool {pool}", frozenset(groups(supply, *clients)), waits=False)
    for image in images(job.inputs["hcl2"]["vars"]):
        for machines in clients:
            readers = supply.find(ON_REPOSITORY, to=email(machines), role=READER, repository=image)
            for group in groups(supply, machines):
                yield Need(who, group, f"that machines of the pool {pool} may pull from {image}", readers)
    for task in nomad.tasks(job):
        group, name = nomad.names(task)
        need = partial(Need, f"{who}: task {name}", job.urn)
        for identity in task.each("identity"):
            if not identity.get("aud"):
                continue  # for Nomad itself
            trusted = (
                one
                for one in supply.of("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider")
                if one.inputs["attributeMapping"] == {"google.subject": "assertion.sub"}
                and f'"{region}:"' in one.inputs["attributeCondition"]
                and set(identity["aud"]) <= set(every(one.inputs, "oidc", "allowedAudiences"))
            )
            yield need("that Google Cloud trusts its identity", urns(trusted))
            subject = f"/subject/{region}:{namespace}:{job_id}:{group}:{name}:{identity['name']}"
            if "gcp_bucket_path" not in str(task.get("env")):
                yield need("some right in the project", supply.find(ON_PROJECT, to=subject))
                continue
            # What the registry's programs do: they look, read, and create what is not there.
            for action in ("get", "create", "list"):
                found = (
                    # To be told that an object is not there needs `list` on the whole bucket.
                    supply.on_bucket(
                        action, bucket, None if action == "list" else f"{prefix.rstrip('/')}/{job_id}/", subject
                    )
                    for bucket, prefix in _buckets_of(job_id, supply)
                )
                yield need(f"to {action} objects of the bucket of models", frozenset[str]().union(*found))


def _buckets_of(job_id: str, supply: Supply) -> Iterator[tuple[str, str]]:
    """Where a job stores its models: a dispatch says it, so without the stack's settings it may be any bucket."""
    if given := supply.models.get(job_id):
        bucket, _, prefix = given.removeprefix("gs://").partition("/")
        yield bucket, prefix
        return
    for one in supply.of(BUCKET):
        yield str(one.inputs.get("name")), "models"
