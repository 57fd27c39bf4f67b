"""What a person does after `pulumi up`: the commands, with the stack's own names in them. Pure.

Owns the stack output `next_steps`: lines for a shell, comments among them. Why each is done, and what it prints, is in
docs/how-to/first-hour.md.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from definitions import documents
from infra import naming, pipelines
from infra.kubernetes import names
from infra.settings import Settings
from infra.settings.kubernetes import ClusterSettings


def next_steps(stack: str, settings: Settings, root: Path) -> list[str]:
    """The commands; none for a stack that provisions nothing.

    Args:
        stack: The stack's name.
        settings: Its settings.
        root: The checkout, with its `jobs/`.
    """
    if not settings.gcp:
        return []
    return [*_push(settings), *_nomad(stack, settings, root), *_kubernetes(stack, settings, root)]


def _push(settings: Settings) -> Iterator[str]:
    repository = naming.image_repository(settings)
    yield "# Build and push the images: the engines pull them when the first run needs them."
    yield f"gcloud auth configure-docker {repository.partition('/')[0]}"
    yield f".venv/bin/python -m infra.images {repository} | while read -r folder name; do"
    yield '  docker build --platform linux/amd64 --tag "$name" --file "images/$folder/Dockerfile" . &&'
    yield '  docker push "$name" || break'
    yield "done"


def _nomad(stack: str, settings: Settings, root: Path) -> Iterator[str]:
    if not settings.nomad.regions:
        return
    yield "# Offer Nomad on this machine until Ctrl-C, its UI among it; it prints the addresses."
    yield f".venv/bin/mlops tunnel --stack {stack}"
    if jobs := pipelines.files(root, pipelines.NOMAD):
        yield "# The first training; the token that NOMAD_TOKEN must hold is of docs/runbooks/reach-nomad.md."
        yield f".venv/bin/mlops tunnel --stack {stack} -- {_run(jobs[0].parent, stack, settings)}"


def _kubernetes(stack: str, settings: Settings, root: Path) -> Iterator[str]:
    for cluster, own in settings.kubernetes.clusters.items() if settings.kubernetes else ():
        yield from _argo(cluster, own, settings)
        folders = [file.parent for file in pipelines.files(root, pipelines.ARGO)]
        if refit := next((folder for folder in folders if "data_uri" in _declared(folder)), None):
            yield "# Raw data, under its digest, and the first refit of it."
            yield f".venv/bin/mlops data push areas.csv customers.csv --stack {stack}"
            yield _run(refit, stack, settings)


def _run(folder: Path, stack: str, settings: Settings) -> str:
    """The first run of a pipeline; what a run must give and the stack does not is named in capitals."""
    job = naming.job_id(folder.name)
    declared = _declared(folder)
    given = {"model_version", *(settings.jobs[job].parameters if job in settings.jobs else ())}
    left = [name for name, parameter in declared.items() if parameter.get("required") and name not in given]
    version = ["-p model_version=1"] if "model_version" in declared else []
    values = [*version, *(f"-p {name}={name.upper()}" for name in left)]
    return " ".join([f".venv/bin/mlops run {job} --stack {stack}", *values])


def _declared(folder: Path) -> Mapping[str, Any]:
    return documents.load((folder / "parameters.yaml").read_text(encoding="utf-8"))["parameters"]


def _argo(cluster: str, own: ClusterSettings, settings: Settings) -> Iterator[str]:
    assert settings.gcp and settings.kubernetes, "the caller has looked"  # noqa: S101, PT018
    name, port = names.cluster_name(cluster), names.ARGO_SERVER_PORT
    namespace = settings.kubernetes.namespace
    yield f"# Offer the Argo Server of cluster {cluster} on this machine: its UI is http://127.0.0.1:{port}"
    yield (
        f"gcloud container clusters get-credentials {name} --dns-endpoint --location {own.region} "
        f"--project {settings.gcp.project}"
    )
    yield f"kubectl port-forward --namespace {namespace} service/{names.ARGO_SERVER_SERVICE} {port}:{port} &"
    yield f"export ARGO_SERVER=127.0.0.1:{port} ARGO_SECURE=false ARGO_NAMESPACE={namespace}"
    yield 'export ARGO_TOKEN="Bearer $(gcloud auth print-access-token)"'
