"""What machines need to become part of Nomad or of a cluster.

Owns: reading it from boot scripts and from what machines are described as. Deliberately not: what is run on them.
"""

import re
from collections.abc import Iterator
from functools import partial

from inventory.resources import Resource
from inventory.values import at, every
from policy.needs.supply import KEY, ON_KEY, ON_PROJECT, ON_SECRET, Need, Supply, urns
from policy.parts.google import NODE_POOL

MACHINES = (
    "gcp:compute/instanceTemplate:InstanceTemplate",
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate",
)
# How a boot script is told what to fetch.
_SECRET = re.compile(r"^export \w+_SECRET=(\S+)$", re.MULTILINE)
_EXPORT = re.compile(r"^export (\w+)=(\S+)$", re.MULTILINE)


def needs(supply: Supply) -> Iterator[Need]:
    """What the machines of every node pool and of every template need."""
    for pool in supply.of(NODE_POOL):
        yield from _of_nodes(pool, supply)
    for machines in supply.of(*MACHINES):
        for group in list(groups(supply, machines)) or [machines.urn]:
            yield from _of_machines(machines, group, supply)


def groups(supply: Supply, *templates: Resource) -> Iterator[str]:
    """The URNs of the groups of machines that are made from some templates."""
    made_from = urns(templates)
    for group in supply.inventory.resources:
        if "InstanceGroupManager" in group.type and not made_from.isdisjoint(group.dependencies):
            yield group.urn


def email(machines: Resource) -> str:
    """The e-mail address of the service account that a template's machines act as."""
    return str(at(every(machines.inputs, "serviceAccount")[0], "email"))


def _of_nodes(pool: Resource, supply: Supply) -> Iterator[Need]:
    need = partial(Need, f"node pool {pool.name}", pool.urn)
    account = str(at(pool.inputs, "nodeConfig", "serviceAccount"))
    yield need("a service account of its own", urns(supply.accounts(account)))
    may = supply.find(ON_PROJECT, to=account, role="roles/container.defaultNodeServiceAccount")
    yield need("the right to log and to be monitored", may)


def _of_machines(machines: Resource, group: str, supply: Supply) -> Iterator[Need]:
    """What a boot script names: secrets, buckets, and the right to find the servers."""
    need = partial(Need, f"machines of {machines.name}", group)
    account = email(machines)
    script = "\n".join(str(value) for value in (machines.inputs.get("metadata") or {}).values())
    yield need("a service account of its own", urns(supply.accounts(account)))
    for name in sorted(set(_SECRET.findall(script))):
        secrets = supply.find("gcp:secretmanager/secret:Secret", secretId=name)
        readers = supply.find(ON_SECRET, to=account, on=secrets, role="roles/secretmanager.secretAccessor")
        yield need(f"to read the secret {name}", readers)
        versions = supply.find("gcp:secretmanager/secretVersion:SecretVersion", on=secrets)
        yield need(f"a version of the secret {name}", versions)
    settings = dict(_EXPORT.findall(script))
    for kind, action in {"PROGRAM": "get", "SNAPSHOT": "create"}.items():
        if bucket := settings.get(f"{kind}_BUCKET"):
            prefix = settings.get(f"{kind}_OBJECTS") or f"nomad/{settings['NOMAD_REGION']}/"
            yield need(f"to {action} gs://{bucket}/{prefix}", supply.on_bucket(action, bucket, prefix, account))
    if "monitoring.googleapis.com" in script:
        yield need("to write metrics", supply.find(ON_PROJECT, to=account, role="roles/monitoring.metricWriter"))
    if "provider=gce" in script:
        met = (
            supply.find(ON_PROJECT, to=account, role=name)
            for role in supply.of("gcp:projects/iAMCustomRole:IAMCustomRole")
            if "compute.instances.list" in every(role.inputs, "permissions")
            for name in (f"${{{role.name}.name}}", str(role.inputs.get("name")))
        )
        yield need("to list machines, by which servers are found", frozenset[str]().union(*met))
    # Nomad's servers wrap their own keys with one of the stack's, whose id is in their metadata.
    for key in sorted(urns(supply.of(KEY)).intersection(machines.property_dependencies.get("metadata", []))):
        for role in ("roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.viewer"):
            yield need(f"{role} on a key", supply.find(ON_KEY, to=account, on=frozenset({key}), role=role))
