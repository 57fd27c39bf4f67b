"""A model as a verified Java library: built, evaluated, published; in the refit, and for a model that exists."""

from typing import Any

from hera.workflows import DAG, Artifact, Container, GCSArtifact, NoneArchiveStrategy, Parameter, Task, WorkflowTemplate
from hera.workflows import models as m

from jobs.model_refit.context import Context
from jobs.model_refit.steps import RUN, UID, call, container, folder, memoised, workflow_template

PACKAGE = "package-mojo"
PACKAGE_EXISTING = "package-existing-mojo"

PACKAGE_REFERENCE = m.TemplateRef(name=PACKAGE, template="package")
LIBRARY = "{{tasks.package.outputs.artifacts.library}}"
"""What a task `package` of a DAG gives."""
COORDINATES = ("group", "artifact", "version")

PACKAGER = ["python", "src/packager.py"]
"""The entry point of its image. Every step names its command: else Argo's controller asks the image's registry for it,
which it may have no right to read."""


def package_mojo(context: Context) -> WorkflowTemplate:
    """A model artifact (model/model.zip, examples.json, test.csv) to a Java library and its test metrics."""
    arguments = [*_package_arguments(context), _model()]
    with workflow_template(context, PACKAGE, entrypoint="package", arguments=arguments) as template:
        _package(context)
    return template


def package_existing_mojo(context: Context) -> WorkflowTemplate:
    """`package-mojo` for a model that is already in the artifact bucket."""
    arguments = _package_arguments(context)
    with workflow_template(context, PACKAGE_EXISTING, entrypoint="package-existing", arguments=arguments) as template:
        step = publish(context)
        with DAG(name="package-existing"):
            given = [Parameter(name=name, value=f"{{{{workflow.parameters.{name}}}}}") for name in COORDINATES]
            Task(name="package", template_ref=PACKAGE_REFERENCE, arguments=[_model(), *given])
            if step is not None:
                call("publish", step, "package", artifacts={"library": LIBRARY})
    return template


def publish(context: Context) -> Container | None:
    """The library in the stack's Maven repository; None if it has none."""
    if not context.maven_repository:
        return None
    return container(
        context,
        "publish",
        image="mojo-packager",
        account="registry",
        step="evaluate",
        command=PACKAGER,
        args=["publish", "--package", "/inputs/library", "--url", context.maven_repository],
        inputs=[Artifact(name="library", path="/inputs/library")],
        deadline=900,
    )


def _package(context: Context) -> None:
    coordinates = "{{inputs.parameters.group}}:{{inputs.parameters.artifact}}:{{inputs.parameters.version}}"
    build = container(
        context,
        "build",
        image="mojo-packager",
        account="workflows",
        step="package",
        command=PACKAGER,
        args=[
            "package",
            "--mojo", "/inputs/model/model/model.zip",
            "--examples", "/inputs/model/examples.json",
            "--coordinates", "{{inputs.parameters.coordinates}}",
            "--output", "/outputs/library",
        ],
        inputs=[Parameter(name="coordinates"), Artifact(name="model", path="/inputs/model")],
        outputs=[folder("library", "/outputs/library", f"{RUN}/{{{{pod.name}}}}/library")],
        deadline=1800,
    )  # fmt: skip
    evaluate = container(
        context,
        "evaluate",
        image="mojo-packager",
        account="workflows",
        command=PACKAGER,
        args=[
            "evaluate",
            "--package", "/inputs/library",
            "--test", "/inputs/model/test.csv",
            "--output", "/outputs/evaluation.json",
        ],
        inputs=[Artifact(name="model", path="/inputs/model"), Artifact(name="library", path="/inputs/library")],
        outputs=[
            GCSArtifact(
                name="evaluation",
                path="/outputs/evaluation.json",
                key=f"{RUN}/{{{{pod.name}}}}/evaluation.json",
                archive=NoneArchiveStrategy(),
            )
        ],
        deadline=600,
    )  # fmt: skip
    digest = "The model's digest, by which a library is found again; empty: never memoised."
    with DAG(
        name="package",
        inputs=[
            *(Parameter(name=name) for name in COORDINATES),
            Parameter(name="digest", value="", description=digest),
            Parameter(name="memoise", value="true"),
            Artifact(name="model"),
        ],
        outputs=[
            Parameter(name="run", value_from=m.ValueFrom(expression=f"'{UID}'")),
            Artifact(name="library", from_="{{tasks.build.outputs.artifacts.library}}"),
            Artifact(name="evaluation", from_="{{tasks.evaluate.outputs.artifacts.evaluation}}"),
        ],
        memoize=memoised(
            context,
            "package",
            context.images["mojo-packager"],
            [f"inputs.parameters.{name}" for name in (*COORDINATES, "digest")],
            only_if="inputs.parameters.digest != ''",
        ),
    ):
        model = {"model": "{{inputs.artifacts.model}}"}
        call("build", build, artifacts=model, parameters={"coordinates": coordinates})
        library = {"library": "{{tasks.build.outputs.artifacts.library}}"}
        call("evaluate", evaluate, "build", artifacts=model | library)


def _model() -> GCSArtifact:
    # A folder's key ends with a slash.
    return GCSArtifact(name="model", key="{{workflow.parameters.model_key}}/", archive=NoneArchiveStrategy())


def _package_arguments(context: Context) -> list[Any]:
    return [
        Parameter(
            name="model_key",
            description="Folder in the artifact bucket that holds model/model.zip, examples.json and test.csv.",
        ),
        Parameter(name="group", value=context.maven_group),
        Parameter(name="artifact", description="The library's artifact id."),
        Parameter(name="version", description="The library's version."),
    ]
