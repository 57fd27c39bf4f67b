"""A version of the registry: stored, then fetched, scored and verified apart."""

from typing import Any

from hera.workflows import Artifact, Container, Env, Parameter
from hera.workflows import models as m

from jobs.model_refit.context import IMAGES, Context
from jobs.model_refit.steps import UID, container, folder

SCORING, SCORED = f"scoring/{UID}", f"scored/{UID}"
"""What the scorer reads, and what it leaves."""


def version_env(context: Context) -> list[Env]:
    """The environment that gives a step of the registry its version and its run."""
    version_id = "{{workflow.parameters.model}}_v{{workflow.parameters.model_version}}_{{workflow.uid}}"
    return [
        Env(name="GCP_BUCKET_PATH", value=context.gcp_bucket_path),
        Env(name="MODEL", value="{{workflow.parameters.model}}"),
        Env(name="VERSION_ID", value=version_id),
        Env(name="LANE", value="argo"),
        Env(name="ENGINE_RUN", value="{{workflow.name}}"),
        Env(name="ALLOC_ID", value=UID),
        Env(name="RUN_DIR", value=f"/outputs/{version_id}"),
    ]


def store(context: Context) -> Container:
    """The version in the bucket, not verified yet."""
    made_by = ("transform", "baseline", "trials", "package")
    return _registry(
        context,
        "store",
        command=["python", "src/refit.py"],
        args=[
            "store",
            "--model", "/inputs/model",
            "--library", "/inputs/library",
            "--evaluation", "/inputs/evaluation.json",
            "--features", "/inputs/features",
            "--baseline", "/inputs/baseline",
            "--parameters", "{{workflow.parameters.json}}",
            *(word for name in made_by for word in ("--made-by", f"{name}={{{{inputs.parameters.{name}_run}}}}")),
        ],
        inputs=[
            *(Parameter(name=f"{name}_run") for name in made_by),
            Artifact(name="model", path="/inputs/model"),
            Artifact(name="library", path="/inputs/library"),
            Artifact(name="evaluation", path="/inputs/evaluation.json"),
            folder("features", "/inputs/features", "runs/{{inputs.parameters.transform_run}}/features"),
            folder("baseline", "/inputs/baseline", "runs/{{inputs.parameters.baseline_run}}/baseline"),
        ],
        env=[*version_env(context), Env(name="IMAGE", value=" ".join(context.images[name] for name in IMAGES))],
    )  # fmt: skip


def fetch(context: Context) -> Container:
    """The stored version, checked file by file, for the step that loads it."""
    return _registry(
        context,
        "fetch",
        args=["fetch", "--output", "/outputs/version"],
        outputs=[folder("version", "/outputs/version", f"{SCORING}/{{{{pod.name}}}}")],
        env=version_env(context),
    )


def score(context: Context) -> Container:
    """The one step that loads a model. Whatever that does, its account reads what was fetched, and adds predictions."""
    return _registry(
        context,
        "score",
        account="scorer",
        args=["score", "--input", "/inputs/version", "--output", "/outputs/scored"],
        inputs=[Artifact(name="version", path="/inputs/version")],
        outputs=[folder("scored", "/outputs/scored", f"{SCORED}/{{{{pod.name}}}}")],
        env=[Env(name="MLOPS_CONFINEMENT", value="container")],
        # Its account may not write where logs are kept. What became of the version is what `verify` says.
        archive_location=m.ArtifactLocation(archive_logs=False),
    )


def verify(context: Context) -> Container:
    """The outcome of the scoring, recorded beside the version."""
    return _registry(
        context,
        "verify",
        args=["record", "--input", "/inputs/scored"],
        inputs=[Artifact(name="scored", path="/inputs/scored")],
        env=version_env(context),
    )


def _registry(context: Context, name: str, **more: Any) -> Container:
    defaults = {"account": "registry", "command": ["mlops-registry"], "deadline": 1800}
    return container(context, name, image="registry", step="registry", **{**defaults, **more})
