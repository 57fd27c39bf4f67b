"""What Argo's templates, and the Helm releases that run them, need of their cluster and of Google Cloud.

Owns: reading it from templates, SparkApplications and values of charts. Deliberately not: how Argo puts a template
together, which is `policy.parts.workflows`', and whatever is in a cluster that exists, which is its owner's.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from inventory.resources import Resource
from inventory.values import at, every
from policy.needs.supply import BUCKET, ON_REPOSITORY, READER, Need, Supply, images, urns
from policy.parts import workflows
from policy.parts.google import NODE_POOL
from policy.rule import Part

TEMPLATES = ("kubernetes:argoproj.io/v1alpha1:WorkflowTemplate", workflows.CRON)
RELEASE = "kubernetes:helm.sh/v3:Release"
_NAMESPACE = "kubernetes:core/v1:Namespace"
_ACCOUNT = "kubernetes:core/v1:ServiceAccount"
_ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"
_LIBRARIES = re.compile(r"https://[a-z0-9-]+-maven\.pkg\.dev/[a-z0-9-]+/([a-z0-9-]+)")
_BUCKET = re.compile(r"gs://([a-z0-9][a-z0-9_-]+)/?([A-Za-z0-9_./-]*)")


def needs(supply: Supply) -> Iterator[Need]:
    """What every template and every release needs."""
    for template in supply.of(*TEMPLATES):
        yield from _of_a_template(template, supply)
    for release in supply.of(RELEASE):
        yield from _of_a_release(release, supply)


def _of_a_template(template: Resource, supply: Supply) -> Iterator[Need]:
    cluster, namespace, spec = template.provider, _namespace(template), template.inputs["spec"]
    operators = [one for one in supply.of(RELEASE) if one.provider == cluster]
    if not operators:
        return
    whole = f"{template.inputs['kind']} {template.inputs['metadata']['name']} in {str(cluster).rpartition('::')[2]}"
    need = partial(Need, whole, template.urn)

    yield need(f"the namespace {namespace}", supply.inside(_NAMESPACE, cluster, namespace))
    argo = [one for one in operators if one.inputs.get("chart") == "argo-workflows"]
    yield need("Argo Workflows", urns(argo))
    if template.inputs["kind"] == "CronWorkflow":
        of = at(spec, "workflowSpec", "workflowTemplateRef", "name")
        yield need(f"the template {of}", supply.inside(TEMPLATES[0], cluster, of, namespace))
        return
    artifacts = _artifacts(argo[0]) if argo else None
    apart = {
        artifact["name"]: _beginning(key)
        for step in workflows.templates(template)
        for artifact in step.each("outputs", "artifacts")
        if (key := at(artifact, "gcs", "key"))
    }
    for step in workflows.templates(template):
        if not {"container", "resource", "script"} & step.value.keys():
            continue  # only orders others
        account = step.get("serviceAccountName") or spec["serviceAccountName"]
        need = partial(Need, f"{whole}: step {step.where.removeprefix('template ')}", template.urn)
        subject = f"/subject/ns/{namespace}/sa/{account}"
        yield need(f"the service account {account}", supply.inside(_ACCOUNT, cluster, account, namespace))
        reports = ("argoproj.io", "workflowtaskresults", ("create", "patch"))
        yield from _rights(need, template, account, reports, supply)
        yield from _pulled(need, step.value, cluster, supply)
        if artifacts:
            bucket, kept = artifacts
            for action, prefix in _touched(step, kept, apart):
                met = supply.on_bucket(action, bucket, prefix, subject)
                yield need(f"to {action} artifacts in gs://{bucket}/{prefix}", met)
        for variable in step.each("container", "env"):
            found = _BUCKET.fullmatch(variable.get("value", "")) if variable["name"] == "GCP_BUCKET_PATH" else None
            if found:
                below = f"{found[2].rstrip('/')}/"
                for action, prefix in (("get", below), ("create", below), ("list", None)):
                    met = supply.on_bucket(action, found[1], prefix, subject)
                    yield need(f"to {action} objects of gs://{found[1]}/{prefix or ''}", met)
        for repository in _LIBRARIES.findall(str(step.get("container", "args"))):
            met = supply.find(ON_REPOSITORY, to=subject, role="roles/artifactregistry.writer", repository=repository)
            yield need(f"to publish to {repository}", met)
        if made := step.get("resource"):
            verbs = ("delete", "list") if made["action"] == "delete" else ("create", "get")
            what = ("sparkoperator.k8s.io", "sparkapplications", verbs)
            yield from _rights(need, template, account, what, supply)
            if made["action"] != "delete":
                (application,) = workflows.read(made["manifest"]) or []
                yield from _of_an_application(need, application["spec"], template, supply)


def _of_an_application(need: partial[Need], spec: dict[str, Any], template: Resource, supply: Supply) -> Iterator[Need]:
    """What a SparkApplication needs that a step makes."""
    cluster, namespace = template.provider, _namespace(template)
    operators = (
        one
        for one in supply.of(RELEASE)
        if one.provider == cluster
        and one.inputs.get("chart") == "spark-operator"
        and namespace in every(one.inputs, "values", "spark", "jobNamespaces")
    )
    yield need("a Spark Operator for its namespace", urns(operators))
    driver = spec["driver"]["serviceAccount"]
    yield need(f"the service account {driver}", supply.inside(_ACCOUNT, cluster, driver, namespace))
    yield from _rights(need, template, driver, ("", "pods", ("create", "delete", "watch")), supply)
    subject = f"/subject/ns/{namespace}/sa/{driver}"
    texts = " ".join(map(str, spec["arguments"]))
    for bucket, prefix in _BUCKET.findall(texts):
        for action in ("get", "create", "delete"):
            met = supply.on_bucket(action, bucket, prefix, subject)
            yield need(f"to {action} objects of gs://{bucket}/{prefix}", met)
    if "data_uri" in texts:
        (data,) = {str(bucket.inputs["name"]) for bucket in supply.of(BUCKET) if bucket.name.endswith("-data")}
        for action in ("get", "list"):
            yield need(f"to {action} objects of gs://{data}", supply.on_bucket(action, data, None, subject))


def _of_a_release(release: Resource, supply: Supply) -> Iterator[Need]:
    who = f"release {release.inputs.get('name')} in {str(release.provider).rpartition('::')[2]}"
    need = partial(Need, who, release.urn)
    own = release.inputs["namespace"]
    for namespace in (own, *every(release.inputs, "values", "spark", "jobNamespaces")):
        yield need(f"the namespace {namespace}", supply.inside(_NAMESPACE, release.provider, namespace))
    pools = _pools(release.provider, supply)
    yield need("nodes without a taint", urns(one for one in pools if not at(one.inputs, "nodeConfig", "taints")))
    yield from _pulled(need, release.inputs.get("values"), release.provider, supply)
    server, artifacts = at(release.inputs, "values", "server", "serviceAccount", "name"), _artifacts(release)
    if server and artifacts:
        met = supply.on_bucket("get", *artifacts, f"/subject/ns/{own}/sa/{server}")
        yield Need(f"{who}: its server", release.urn, "to get artifacts", met, waits=False)


def _rights(
    need: partial[Need], template: Resource, account: str, what: tuple[str, str, tuple[str, ...]], supply: Supply
) -> Iterator[Need]:
    """Rights in a template's cluster and namespace, each by a Role and by its binding."""
    group, kind, verbs = what
    cluster, namespace = template.provider, _namespace(template)
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
        roles, bound = set[str](), set[str]()
        for binding in bindings:
            for role in supply.inside(_ROLE, cluster, at(binding.inputs, "roleRef", "name"), namespace):
                if any(
                    group in every(rule, "apiGroups")
                    and kind in every(rule, "resources")
                    and verb in every(rule, "verbs")
                    for rule in every(supply.by_urn[role].inputs, "rules")
                ):
                    roles.add(role)
                    bound.add(binding.urn)
        text = f"that {account} may {verb} {kind}"
        yield need(f"{text}, by a role", frozenset(roles))
        yield need(f"{text}, by its binding", frozenset(bound))


def _pulled(need: partial[Need], what: Any, cluster: str | None, supply: Supply) -> Iterator[Need]:
    """That the nodes of a cluster may pull the images that are named somewhere."""
    emails = {str(at(pool.inputs, "nodeConfig", "serviceAccount")) for pool in _pools(cluster, supply)}
    for image in images(what):
        for email in sorted(emails):
            met = supply.find(ON_REPOSITORY, to=email, role=READER, repository=image)
            yield need(f"that nodes may pull from {image}", met)


def _pools(provider: str | None, supply: Supply) -> list[Resource]:
    """The node pools of the cluster that a provider speaks to."""
    known = supply.by_urn.get(str(provider))
    clusters = set(known.dependencies) if known else set[str]()
    return [one for one in supply.of(NODE_POOL) if clusters.intersection(one.property_dependencies.get("cluster", []))]


def _touched(step: Part, kept: str, apart: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What a step does with artifacts, and below which prefix.

    Args:
        step: The template.
        kept: Where artifacts and logs are that have no key of their own.
        apart: Where those are that have one, by the name of the artifact.
    """
    touched = {
        *(("get", apart.get(one["name"], kept)) for one in step.each("inputs", "artifacts")),
        *(("create", apart.get(one["name"], kept)) for one in step.each("outputs", "artifacts")),
    }
    if step.get("archiveLocation", "archiveLogs") is not False:
        touched |= {("get", kept), ("create", kept)}
    yield from sorted(touched)


def _beginning(key: str) -> str:
    return key.partition("{{")[0]


def _artifacts(release: Resource) -> tuple[str, str] | None:
    """The bucket, and the prefix in it, where Argo is told to keep artifacts."""
    kept = at(release.inputs, "values", "artifactRepository", "gcs")
    return (kept["bucket"], str(kept["keyFormat"]).strip("{ `}").partition("{{")[0]) if kept else None


def _namespace(template: Resource) -> str:
    return template.inputs["metadata"]["namespace"]
