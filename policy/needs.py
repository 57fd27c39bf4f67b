"""What each workload of a stack needs before it can run, read from what the workload itself refers to.

A need is derived from a job's or a template's own text: the buckets, secrets, images, service accounts and namespaces
that it names. It is met by a resource of the same inventory which gives it, and which the workload waits for. So that a
grant which is forgotten is found by the workload that would fail, and not by a list that repeats the program.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import yaml

from infra.workloads import jobspec
from mlops.plan.inventory import Inventory, Resource
from mlops.plan.order import ancestors
from mlops.plan.values import at, every
from policy.parts import nomad
from policy.parts.google import ACCOUNT, NODE_POOL
from policy.parts.nomad import JOB

TEMPLATES = ("kubernetes:argoproj.io/v1alpha1:WorkflowTemplate", "kubernetes:argoproj.io/v1alpha1:CronWorkflow")
RELEASE = "kubernetes:helm.sh/v3:Release"
MACHINES = (
    "gcp:compute/instanceTemplate:InstanceTemplate",
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate",
)
_VERSION = "gcp:secretmanager/secretVersion:SecretVersion"

# What a role lets its holder do with objects; to be told that an object is not there needs `list` on the whole bucket.
_OBJECTS = {
    "roles/storage.legacyBucketReader": {"list"},
    "roles/storage.objectViewer": {"get", "list"},
    "roles/storage.objectCreator": {"create"},
    "roles/storage.objectUser": {"get", "list", "create", "delete"},
}
_BELOW = re.compile(r'resource\.name\.startsWith\("projects/_/buckets/([^/"]+)/objects/([^"]*)"\)')
_IMAGE = re.compile(r"\b([a-z0-9-]+)-docker\.pkg\.dev/([a-z0-9-]+)/([a-z0-9-]+)")
_LIBRARIES = re.compile(r"https://[a-z0-9-]+-maven\.pkg\.dev/[a-z0-9-]+/([a-z0-9-]+)")
_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9_-]+)/?([A-Za-z0-9_./-]*)")
# How a boot script is told what to fetch.
_SECRET = re.compile(r"^export (\w+)_SECRET=(\S+)$", re.MULTILINE)
_EXPORT = re.compile(r"^export (\w+)=(\S+)$", re.MULTILINE)
_VARIABLE = re.compile(r'nomadVar(?:Exists)?\s+\\*"([^"\\]+)\\*"')


@dataclass(frozen=True)
class Need:
    """One thing that one workload needs.

    Attributes:
        workload: Who needs it, as messages name it.
        of: The URN of what must wait for it.
        what: What is needed.
        met: The URNs of what gives it; any of them does.
        waits: Whether it must be there first; what is asked for later only has to be there.
    """

    workload: str
    of: str
    what: str
    met: frozenset[str]
    waits: bool = True


@dataclass
class Supply:
    """An inventory, to be asked who gives what.

    Attributes:
        inventory: The inventory, in update mode.
        salesforce: Whether the stack has credentials for Salesforce, which jobs can do without.
        models: Where a job stores its models, `gs://BUCKET/PREFIX` by job id, as far as that is known.
    """

    inventory: Inventory
    salesforce: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    by_type: dict[str, list[Resource]] = field(init=False)
    by_urn: dict[str, Resource] = field(init=False)
    _on_buckets: dict[tuple[str, str], list[Resource]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_urn = {resource.urn: resource for resource in self.inventory.resources}
        self.by_type = {}
        for resource in self.inventory.resources:
            self.by_type.setdefault(resource.type, []).append(resource)
        # Each job has grants of its own, and asks for them alone: by bucket, and by what the member ends in.
        self._on_buckets = {}
        for grant in self.of("gcp:storage/bucketIAMMember:BucketIAMMember"):
            key = str(grant.inputs.get("bucket")), _end(str(grant.inputs.get("member")))
            self._on_buckets.setdefault(key, []).append(grant)

    def of(self, *types: str) -> Iterator[Resource]:
        """All resources of some types."""
        for kind in types:
            yield from self.by_type.get(kind, ())

    def inside(self, kind: str, provider: str | None, name: str, namespace: str | None = None) -> Iterator[Resource]:
        """Objects of a cluster, by name."""
        for resource in self.of(kind):
            metadata = resource.inputs.get("metadata", {})
            own = (resource.provider, metadata.get("name"), metadata.get("namespace"))
            if own == (provider, name, namespace):
                yield resource

    def on_bucket(self, action: str, bucket: str, prefix: str | None, subject: str) -> frozenset[str]:
        """Grants that let a principal do something with the objects of a bucket; without a prefix, with all of them."""
        found = set()
        for grant in self._on_buckets.get((bucket, _end(subject)), ()):
            if not str(grant.inputs.get("member")).endswith(subject):
                continue
            if action not in _OBJECTS.get(str(grant.inputs.get("role")), ()):
                continue
            condition = at(grant.inputs, "condition", "expression")
            below = _BELOW.search(condition) if condition else None
            covers = prefix is not None and below and below[1] == bucket and prefix.startswith(below[2])
            if condition is None or covers:
                found.add(grant.urn)
        return frozenset(found)

    def on_repository(self, repository: str, members: set[str], *roles: str) -> frozenset[str]:
        """Grants on a repository of Artifact Registry."""
        return frozenset(
            grant.urn
            for grant in self.of("gcp:artifactregistry/repositoryIamMember:RepositoryIamMember")
            if grant.inputs.get("repository") == repository
            and grant.inputs.get("role") in roles
            and any(str(grant.inputs.get("member")).endswith(member) for member in members)
        )

    def members(self, email: str) -> set[str]:
        """What a service account of Google Cloud, known by its e-mail address, is called in a grant."""
        return {f"serviceAccount:{email}", *(f"${{{account.name}.member}}" for account in self._accounts(email))}

    def account(self, email: str) -> frozenset[str]:
        """The service account of an e-mail address."""
        return frozenset(account.urn for account in self._accounts(email))

    def _accounts(self, email: str) -> Iterator[Resource]:
        # In a plan an output is the name of it; in an update Pulumi says what it is.
        return (one for one in self.of(ACCOUNT) if email in (f"${{{one.name}.email}}", one.inputs.get("email")))


def _end(member: str) -> str:
    return member.rpartition("/")[2]


def unmet(supply: Supply) -> list[tuple[str, str]]:
    """What workloads need and do not have, or do not wait for.

    Returns:
        The URN of what should wait for it, and a line which begins with the workload.
    """
    before = ancestors(supply.inventory)
    found = []
    for need in needs(supply):
        if not need.met:
            found.append((need.of, f"{need.workload}: needs {need.what}, which nothing gives"))
        elif need.waits and not need.met & before[need.of]:
            found.append((need.of, f"{need.workload}: needs {need.what}, and does not wait for it"))
    return found


def needs(supply: Supply) -> Iterator[Need]:
    """Everything that every workload needs."""
    for job in supply.of(JOB):
        yield from _of_a_job(job, supply)
    for template in supply.of(*TEMPLATES):
        yield from _of_a_template(template, supply)
    for release in supply.of(RELEASE):
        yield from _of_a_release(release, supply)
    for pool in supply.of(NODE_POOL):
        yield from _of_nodes(pool, supply)
    for machines in supply.of(*MACHINES):
        yield from _of_machines(machines, supply)
    yield from _of_what_is_encrypted(supply)


# Nomad.


def _of_a_job(job: Resource, supply: Supply) -> Iterator[Need]:
    regions = {str(at(machines.inputs, "labels", "nomad-region")) for machines in supply.of(*MACHINES)}
    # A provider's name has its region's in it, which may begin like another's.
    region = next(
        (
            one
            for one in sorted(regions, key=len, reverse=True)
            if f"-{one}-" in f"{str(job.provider).rpartition('::')[2]}-"
        ),
        None,
    )
    if region is None:
        return  # a Nomad that exists: what is in it is its owner's
    # The very words of `parts.nomad`, so that each is parsed once.
    spec = jobspec.parse(job.inputs["jobspec"], "the jobspec")
    given = job.inputs["hcl2"]["vars"]
    namespace = str(spec.body.get("namespace", "default"))
    whole = f"job {spec.id} in {region}"

    def need(what: str, met: Iterator[Resource] | frozenset[str], who: str = whole) -> Need:
        urns = met if isinstance(met, frozenset) else frozenset(resource.urn for resource in met)
        return Need(who, job.urn, what, urns)

    pool = next(nomad.job(job)).get("node_pool") or "default"
    named = lambda kind, name: (one for one in supply.of(kind) if one.inputs.get("name") == name)  # noqa: E731
    yield need(f"the namespace {namespace}", named("nomad:index/namespace:Namespace", namespace))
    yield need(f"the node pool {pool}", named("nomad:index/nodePool:NodePool", pool))
    for path in sorted(set(_VARIABLE.findall(job.inputs["jobspec"]))):
        if path != f"nomad/jobs/{spec.id}" or supply.salesforce:
            variables = (one for one in supply.of("nomad:index/variable:Variable") if one.inputs.get("path") == path)
            yield need(f"the Variable {path}", (one for one in variables if one.provider == job.provider))

    clients = [
        machines
        for machines in supply.of(*MACHINES)
        if at(machines.inputs, "labels", "nomad-region") == region
        and at(machines.inputs, "labels", "nomad-pool") == pool
    ]
    groups = frozenset(_groups_of(clients, supply))
    # Runs are dispatched later, and wait for machines by themselves; a machine pulls images from its first day on.
    yield Need(whole, job.urn, f"machines of the pool {pool}", groups, waits=False)
    for image in sorted({found[2] for text in given.values() for found in _IMAGE.findall(text)}):
        for machines in clients:
            email = str(at(every(machines.inputs, "serviceAccount")[0], "email"))
            readers = supply.on_repository(image, supply.members(email), "roles/artifactregistry.reader")
            for group in _groups_of([machines], supply):
                yield Need(whole, group, f"that machines of the pool {pool} may pull from {image}", readers)
    for group, task, definition in _tasks(spec):
        for identity in definition.get("identity", []):
            if not identity.get("aud"):
                continue  # for Nomad itself
            who = f"{whole}: task {task}"
            subject = f"/subject/{region}:{namespace}:{spec.id}:{group}:{task}:{identity['name']}"
            trusted = (
                one
                for one in supply.of("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider")
                if one.inputs["attributeMapping"] == {"google.subject": "assertion.sub"}
                and f'"{region}:"' in one.inputs["attributeCondition"]
                and set(identity["aud"]) <= set(every(one.inputs, "oidc", "allowedAudiences"))
            )
            yield need("that Google Cloud trusts its identity", trusted, who)
            if "gcp_bucket_path" not in str(definition.get("env")):
                granted = (
                    one
                    for one in supply.of("gcp:projects/iAMMember:IAMMember")
                    if str(one.inputs.get("member")).endswith(subject)
                )
                yield need("some right in the project", granted, who)
                continue
            # What the registry's programs do: they look, read, and create what is not there.
            for action in ("get", "create", "list"):
                met = frozenset[str]()
                for bucket, prefix in _buckets_of(spec.id, supply):
                    below = None if action == "list" else f"{prefix.rstrip('/')}/{spec.id}/"
                    met |= supply.on_bucket(action, bucket, below, subject)
                yield need(f"to {action} objects of the bucket of models", met, who)


def _buckets_of(job_id: str, supply: Supply) -> Iterator[tuple[str, str]]:
    """Where a job stores its models: a dispatch says it, so without the stack's settings it may be any bucket."""
    if given := supply.models.get(job_id):
        bucket, _, prefix = given.removeprefix("gs://").partition("/")
        yield bucket, prefix
        return
    for one in supply.of("gcp:storage/bucket:Bucket"):
        yield str(one.inputs.get("name")), "models"


def _groups_of(machines: list[Resource], supply: Supply) -> Iterator[str]:
    urns = {template.urn for template in machines}
    for group in supply.inventory.resources:
        if "InstanceGroupManager" in group.type and urns & set(group.dependencies):
            yield group.urn


def _tasks(spec: jobspec.Jobspec) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for groups in spec.body.get("group", []):
        for group, body in groups.items():
            for tasks in body.get("task", []):
                for task, definition in tasks.items():
                    yield group, task, definition


# Kubernetes.


def _of_a_template(template: Resource, supply: Supply) -> Iterator[Need]:
    kind, name = template.inputs["kind"], template.inputs["metadata"]["name"]
    namespace = template.inputs["metadata"]["namespace"]
    cluster = template.provider
    operators = [one for one in supply.of(RELEASE) if one.provider == cluster]
    if not operators:
        return  # a cluster that exists: what is in it is its owner's
    where = str(cluster).rpartition("::")[2]
    whole = f"{kind} {name} in {where}"

    def need(what: str, met: Iterator[Resource] | frozenset[str], who: str = whole) -> Need:
        urns = met if isinstance(met, frozenset) else frozenset(resource.urn for resource in met)
        return Need(who, template.urn, what, urns)

    yield need(f"the namespace {namespace}", supply.inside("kubernetes:core/v1:Namespace", cluster, namespace))
    argo = [one for one in operators if one.inputs.get("chart") == "argo-workflows"]
    yield need("Argo Workflows", iter(argo))
    spec = template.inputs["spec"]
    if kind == "CronWorkflow":
        of = at(spec, "workflowSpec", "workflowTemplateRef", "name")
        yield need(f"the template {of}", supply.inside(TEMPLATES[0], cluster, of, namespace))
        return
    artifacts = at(argo[0].inputs, "values", "artifactRepository", "gcs") if argo else None
    for step in spec["templates"]:
        if not {"container", "resource", "script"} & step.keys():
            continue  # only orders others
        account = step.get("serviceAccountName") or spec["serviceAccountName"]
        who = f"{whole}: step {step['name']}"
        subject = f"/subject/ns/{namespace}/sa/{account}"
        yield need(
            f"the service account {account}",
            supply.inside("kubernetes:core/v1:ServiceAccount", cluster, account, namespace),
            who,
        )
        reports = ("argoproj.io", "workflowtaskresults", ("create", "patch"))
        yield from _rights(need, who, account, namespace, cluster, reports, supply)
        yield from _pulled(need, who, step, cluster, supply)
        if artifacts:
            prefix = str(artifacts["keyFormat"]).strip("{ `}").partition("{{")[0]
            for action in ("get", "create"):
                met = supply.on_bucket(action, artifacts["bucket"], prefix, subject)
                yield need(f"to {action} artifacts in gs://{artifacts['bucket']}/{prefix}", met, who)
        for variable in (step.get("container") or {}).get("env", []):
            found = _BUCKET.fullmatch(variable.get("value", "")) if variable["name"] == "GCP_BUCKET_PATH" else None
            if found:
                below = f"{found[2].rstrip('/')}/"
                for action, at_ in (("get", below), ("create", below), ("list", None)):
                    met = supply.on_bucket(action, found[1], at_, subject)
                    yield need(f"to {action} objects of gs://{found[1]}/{at_ or ''}", met, who)
        for repository in _LIBRARIES.findall(str((step.get("container") or {}).get("args", ""))):
            met = supply.on_repository(repository, {subject}, "roles/artifactregistry.writer")
            yield need(f"to publish to {repository}", met, who)
        if "resource" in step:
            yield from _of_a_resource(need, who, step["resource"], account, namespace, cluster, supply)


def _of_a_resource(
    need: Any, who: str, resource: Mapping[str, Any], account: str, namespace: str, cluster: str | None, supply: Supply
) -> Iterator[Need]:
    """A step that makes or deletes an object: the right to, and what is made needs itself."""
    if resource["action"] == "delete":
        what = ("sparkoperator.k8s.io", "sparkapplications", ("delete", "list"))
        yield from _rights(need, who, account, namespace, cluster, what, supply)
        return
    manifest = yaml.safe_load(re.sub(r"\{\{=(.*?)\}\}", lambda found: repr(f"={found[1]}"), resource["manifest"]))
    what = ("sparkoperator.k8s.io", "sparkapplications", ("create", "get"))
    yield from _rights(need, who, account, namespace, cluster, what, supply)
    operators = (
        one
        for one in supply.of(RELEASE)
        if one.provider == cluster
        and one.inputs.get("chart") == "spark-operator"
        and namespace in every(one.inputs, "values", "spark", "jobNamespaces")
    )
    yield need("a Spark Operator for its namespace", operators, who)
    driver = manifest["spec"]["driver"]["serviceAccount"]
    yield need(
        f"the service account {driver}",
        supply.inside("kubernetes:core/v1:ServiceAccount", cluster, driver, namespace),
        who,
    )
    yield from _rights(need, who, driver, namespace, cluster, ("", "pods", ("create", "delete", "watch")), supply)
    subject = f"/subject/ns/{namespace}/sa/{driver}"
    texts = " ".join(map(str, manifest["spec"]["arguments"]))
    for bucket, prefix in _BUCKET.findall(texts):
        for action in ("get", "create", "delete"):
            yield need(
                f"to {action} objects of gs://{bucket}/{prefix}", supply.on_bucket(action, bucket, prefix, subject), who
            )
    if "data_uri" in texts:
        (data,) = {
            str(bucket.inputs["name"])
            for bucket in supply.of("gcp:storage/bucket:Bucket")
            if bucket.name.endswith("-data")
        }
        for action in ("get", "list"):
            yield need(f"to {action} objects of gs://{data}", supply.on_bucket(action, data, None, subject), who)


def _rights(
    need: Any,
    who: str,
    account: str,
    namespace: str,
    cluster: str | None,
    what: tuple[str, str, tuple[str, ...]],
    supply: Supply,
) -> Iterator[Need]:
    """Rights in the cluster, each by a Role and by its binding."""
    group, kind, verbs = what
    bindings = [
        binding
        for binding in supply.of("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding")
        if binding.provider == cluster
        and at(binding.inputs, "metadata", "namespace") == namespace
        and any(
            (one.get("kind"), one.get("name"), one.get("namespace")) == ("ServiceAccount", account, namespace)
            for one in every(binding.inputs, "subjects")
        )
    ]
    for verb in verbs:
        roles, bound = set(), set()
        for binding in bindings:
            name = at(binding.inputs, "roleRef", "name")
            for role in supply.inside("kubernetes:rbac.authorization.k8s.io/v1:Role", cluster, name, namespace):
                if any(
                    group in every(rule, "apiGroups")
                    and kind in every(rule, "resources")
                    and verb in every(rule, "verbs")
                    for rule in every(role.inputs, "rules")
                ):
                    roles.add(role.urn)
                    bound.add(binding.urn)
        text = f"that {account} may {verb} {kind}"
        yield need(f"{text}, by a role", frozenset(roles), who)
        yield need(f"{text}, by its binding", frozenset(bound), who)


def _pulled(need: Any, who: str, what: Any, cluster: str | None, supply: Supply) -> Iterator[Need]:
    """That the nodes of a cluster may pull the images that are named somewhere."""
    pools = [pool for pool in supply.of(NODE_POOL) if _in(pool, cluster, supply)]
    emails = {str(at(pool.inputs, "nodeConfig", "serviceAccount")) for pool in pools}
    for _, _, repository in sorted(set(_IMAGE.findall(str(what)))):
        for email in sorted(emails):
            met = supply.on_repository(repository, supply.members(email), "roles/artifactregistry.reader")
            yield need(f"that nodes may pull from {repository}", met, who)


def _in(pool: Resource, cluster: str | None, supply: Supply) -> bool:
    """Whether a node pool is of the cluster that a provider speaks to."""
    provider = supply.by_urn.get(str(cluster))
    clusters = set(pool.property_dependencies.get("cluster", []))
    return bool(provider and clusters & set(provider.dependencies))


def _of_a_release(release: Resource, supply: Supply) -> Iterator[Need]:
    who = f"release {release.inputs.get('name')} in {str(release.provider).rpartition('::')[2]}"

    def need(what: str, met: Iterator[Resource] | frozenset[str], who: str = who) -> Need:
        urns = met if isinstance(met, frozenset) else frozenset(resource.urn for resource in met)
        return Need(who, release.urn, what, urns)

    namespace = release.inputs["namespace"]
    yield need(f"the namespace {namespace}", supply.inside("kubernetes:core/v1:Namespace", release.provider, namespace))
    for job_namespace in every(release.inputs, "values", "spark", "jobNamespaces"):
        met = supply.inside("kubernetes:core/v1:Namespace", release.provider, job_namespace)
        yield need(f"the namespace {job_namespace}", met)
    system = [
        pool
        for pool in supply.of(NODE_POOL)
        if _in(pool, release.provider, supply) and not at(pool.inputs, "nodeConfig", "taints")
    ]
    yield need("nodes without a taint", iter(system))
    yield from _pulled(need, who, release.inputs.get("values"), release.provider, supply)
    server = at(release.inputs, "values", "server", "serviceAccount", "name")
    artifacts = at(release.inputs, "values", "artifactRepository", "gcs")
    if server and artifacts:
        prefix = str(artifacts["keyFormat"]).strip("{ `}").partition("{{")[0]
        met = supply.on_bucket("get", artifacts["bucket"], prefix, f"/subject/ns/{namespace}/sa/{server}")
        yield Need(f"{who}: its server", release.urn, "to get artifacts", met, waits=False)


# Machines.


def _of_nodes(pool: Resource, supply: Supply) -> Iterator[Need]:
    who = f"node pool {pool.name}"
    email = str(at(pool.inputs, "nodeConfig", "serviceAccount"))
    yield Need(who, pool.urn, "a service account of its own", supply.account(email))
    yield Need(
        who,
        pool.urn,
        "the right to log and to be monitored",
        _on_project(email, "roles/container.defaultNodeServiceAccount", supply),
    )


def _of_machines(machines: Resource, supply: Supply) -> Iterator[Need]:
    """What a boot script names: secrets, buckets, and the right to find the servers."""
    who = f"machines of {machines.name}"
    email = str(at(every(machines.inputs, "serviceAccount")[0], "email"))
    groups = list(_groups_of([machines], supply)) or [machines.urn]
    script = "\n".join(str(value) for value in (machines.inputs.get("metadata") or {}).values())
    for group in groups:
        yield Need(who, group, "a service account of its own", supply.account(email))
        for name in sorted({secret for _, secret in _SECRET.findall(script)}):
            secrets = [one for one in supply.of("gcp:secretmanager/secret:Secret") if one.inputs["secretId"] == name]
            readers = frozenset[str]().union(*(_on_secret(one, email, supply) for one in secrets))
            yield Need(who, group, f"to read the secret {name}", readers)
            urns = {one.urn for one in secrets}
            versions = (one for one in supply.of(_VERSION) if urns & set(one.dependencies))
            yield Need(who, group, f"a version of the secret {name}", frozenset(one.urn for one in versions))
        settings = dict(_EXPORT.findall(script))
        for kind, action in {"PROGRAM": "get", "SNAPSHOT": "create"}.items():
            if bucket := settings.get(f"{kind}_BUCKET"):
                prefix = unquote(settings.get(f"{kind}_OBJECT") or f"nomad/{settings['NOMAD_REGION']}/")
                found = (supply.on_bucket(action, bucket, prefix, member) for member in supply.members(email))
                yield Need(who, group, f"to {action} gs://{bucket}/{prefix}", frozenset[str]().union(*found))
        if "monitoring.googleapis.com" in script:
            yield Need(who, group, "to write metrics", _on_project(email, "roles/monitoring.metricWriter", supply))
        if "provider=gce" in script:
            lists = (
                name
                for role in supply.of("gcp:projects/iAMCustomRole:IAMCustomRole")
                if "compute.instances.list" in every(role.inputs, "permissions")
                for name in (f"${{{role.name}.name}}", str(role.inputs.get("name")))
            )
            met = frozenset[str]().union(*(_on_project(email, name, supply) for name in lists))
            yield Need(who, group, "to list machines, by which servers are found", met)
        # Nomad's servers wrap their own keys with one of the stack's, whose id is in their metadata.
        for key in sorted(set(machines.property_dependencies.get("metadata", [])) & supply.by_urn.keys()):
            if supply.by_urn[key].type == "gcp:kms/cryptoKey:CryptoKey":
                for role in ("roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.viewer"):
                    yield Need(who, group, f"{role} on a key", _on_key(key, role, supply.members(email), supply))


def _on_key(key: str, role: str, members: set[str], supply: Supply) -> frozenset[str]:
    return frozenset(
        grant.urn
        for grant in supply.of("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember")
        if key in grant.dependencies and grant.inputs.get("role") == role and grant.inputs.get("member") in members
    )


def _on_project(email: str, role: str, supply: Supply) -> frozenset[str]:
    return frozenset(
        grant.urn
        for grant in supply.of("gcp:projects/iAMMember:IAMMember")
        if grant.inputs.get("role") == role and grant.inputs.get("member") in supply.members(email)
    )


def _on_secret(secret: Resource, email: str, supply: Supply) -> frozenset[str]:
    return frozenset(
        grant.urn
        for grant in supply.of("gcp:secretmanager/secretIamMember:SecretIamMember")
        if secret.urn in grant.dependencies
        and grant.inputs.get("role") == "roles/secretmanager.secretAccessor"
        and grant.inputs.get("member") in supply.members(email)
    )


def _of_what_is_encrypted(supply: Supply) -> Iterator[Need]:
    """A service of Google's must hold a key before the first thing that it is to encrypt with it."""
    keys = {key.urn for key in supply.of("gcp:kms/cryptoKey:CryptoKey")}
    for resource in supply.inventory.resources:
        if not resource.custom or "IAMMember" in resource.type or resource.type == RELEASE:
            continue
        # What only names a key for others to use waits for these where they start.
        starts = list(_groups_of([resource], supply)) if resource.type in MACHINES else [resource.urn]
        for key in sorted(keys.intersection(_named_by(resource))):
            grants = frozenset(
                one.urn
                for one in supply.of("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember")
                if key in one.property_dependencies.get("cryptoKeyId", [])
            )
            what = f"that someone may use the key {supply.by_urn[key].inputs.get('name')}"
            for urn in starts:
                yield Need(f"{resource.type.rpartition(':')[2]} {resource.name}", urn, what, grants)


def _named_by(resource: Resource) -> set[str]:
    return {urn for urns in resource.property_dependencies.values() for urn in urns}
