"""The refit as Argo templates: `render(context)` gives them as dicts, in the order in which they can be registered.

Owns: what runs after what, with which inputs, limits, retries and identities. Deliberately never submits anything, and
knows no stack: whatever differs between stacks comes from the `Context`. What the steps do is the images' business.

Where a step leaves its files in the artifact bucket: `runs/<uid of the workflow that made them>/...`. So a memoised
result names the run it came from, and nothing that one run wrote is ever overwritten by another. What is handed to the
step that loads a model, and back, lies apart, in `scoring/<uid>/` and `scored/<uid>/`: it may touch nothing else.
"""

import re
from typing import Any

import yaml
from hera.workflows import (
    DAG,
    Artifact,
    Container,
    CronWorkflow,
    EmptyDirVolume,
    Env,
    GCSArtifact,
    NoneArchiveStrategy,
    Parameter,
    Resource,
    Steps,
    Task,
    WorkflowTemplate,
)
from hera.workflows import models as m
from hera.workflows.models.io.k8s.apimachinery.pkg.api.resource import Quantity
from hera.workflows.models.io.k8s.apimachinery.pkg.util.intstr import IntOrString

from definitions.quantities import quantity
from jobs.model_refit.context import IMAGES, Context, Toleration
from jobs.model_refit.parameters import DEFAULTS

REFIT = "model-refit"
PACKAGE = "package-mojo"
PACKAGE_EXISTING = "package-existing-mojo"
CACHE = "model-refit-cache"
"""The ConfigMap that memoised results are kept in; Argo makes it."""

UID = "{{workflow.uid}}"
RUN = f"runs/{UID}"
SCORING, SCORED = f"scoring/{UID}", f"scored/{UID}"
"""What the scorer reads, and what it leaves."""
RUN_LABEL = "hybrid-mlops/run"
STEP_LABEL = "hybrid-mlops/step"
SPARK_API = "sparkoperator.k8s.io/v1beta2"

# 2 is "no, and repeating would say the same" of every image; a container over its memory limit would be over it again.
# -1 is "unknown": the pod was lost, and is worth another try.
RETRY = "asInt(lastRetry.exitCode) != 2 && !(lastRetry.message matches 'OOMKilled')"
# A resource template's exit code is 64 whatever happened, so only its message tells what did. A repeat says the same
# where Spark failed, the cluster refused the object, or the deadline has passed.
RETRY_SPARK = (
    "!(lastRetry.message matches 'failure condition|denied the request|is forbidden|is invalid|specified deadline')"
)

# What `mlops data push` makes: the folder is named by the digest of what it holds, so it can hold nothing else.
BY_DIGEST = "inputs.parameters.data_uri matches '/sha256/[0-9a-f]{64}/?$'"

PACKAGER = ["python", "src/packager.py"]
"""The entry point of its image. Every step names its command: else Argo's controller asks the image's registry for it,
which it may have no right to read."""

TRIAL_PARAMETERS = ("ntrees", "max_depth", "min_rows", "learn_rate", "sample_rate", "col_sample_rate")


def render(context: Context) -> list[dict[str, Any]]:
    """Every object of the lane: three WorkflowTemplates, and the CronWorkflow if the stack has a schedule."""
    made: list[WorkflowTemplate | CronWorkflow] = [
        package_mojo(context),
        package_existing_mojo(context),
        model_refit(context),
    ]
    if context.schedules:
        made.append(cron(context))
    return [template.to_dict() for template in made]


def model_refit(context: Context) -> WorkflowTemplate:
    """Raw data to a stored, verified and published version."""
    runs = f"gs://{context.artifact_bucket}/runs/"
    given = {name: f"{{{{workflow.parameters.{name}}}}}" for name in DEFAULTS}
    with _template(context, REFIT, entrypoint="refit", arguments=_arguments(context), on_exit="finish") as template:
        transform = _spark(
            context,
            "transform",
            inputs=["data_uri", "memoise"],
            arguments=[
                "--areas", "{{=toJson(inputs.parameters.data_uri + '/areas.csv')}}",
                "--customers", "{{=toJson(inputs.parameters.data_uri + '/customers.csv')}}",
                "--output", f"gs://{context.artifact_bucket}/{RUN}/features",
            ],
            key=["inputs.parameters.data_uri"],
            only_if=BY_DIGEST,
        )  # fmt: skip
        baseline = _spark(
            context,
            "baseline",
            inputs=["features", "seed", "memoise"],
            arguments=[
                "--features", f"{{{{=toJson('{runs}' + inputs.parameters.features + '/features')}}}}",
                "--output", f"gs://{context.artifact_bucket}/{RUN}/baseline",
                "--seed", "{{=toJson(inputs.parameters.seed)}}",
            ],
            key=["inputs.parameters.features", "inputs.parameters.seed"],
            program="gbt.py",
        )  # fmt: skip
        trials = _trials(context)
        store = _store(context)
        fetch, score, verify = _fetch(context), _score(context), _verify(context)
        publish = _publish(context)

        with DAG(name="refit"):
            Task(
                name="transform",
                template=transform,
                arguments={"data_uri": given["data_uri"], "memoise": given["memoise"]},
            )
            features = "{{tasks.transform.outputs.parameters.run}}"
            # The longest way first: where not all fits side by side, the baseline waits.
            Task(
                name="trials",
                template=trials,
                arguments={
                    "features": features,
                    **{name: given[name] for name in ("trials", "seed", *TRIAL_PARAMETERS, "memoise")},
                },
                dependencies=["transform"],
            )
            Task(
                name="baseline",
                template=baseline,
                arguments={"features": features, "seed": given["seed"], "memoise": given["memoise"]},
                dependencies=["transform"],
            )
            digest = "jsonpath(tasks.trials.outputs.parameters.trial, '$.model_digest')"
            Task(
                name="package",
                template_ref=m.TemplateRef(name=PACKAGE, template="package"),
                arguments=[
                    Artifact(name="model", from_="{{tasks.trials.outputs.artifacts.model}}"),
                    Parameter(name="group", value=context.maven_group),
                    Parameter(name="artifact", value=given["model"]),
                    # The packager puts the model's digest there: the same model has the same coordinates, others
                    # others.
                    Parameter(name="version", value=f"{given['model_version']}-{{digest}}"),
                    Parameter(name="digest", value=f"{{{{={digest}}}}}"),
                    Parameter(name="memoise", value=given["memoise"]),
                ],
                dependencies=["trials"],
            )
            made_by = {
                f"{name}_run": f"{{{{tasks.{name}.outputs.parameters.run}}}}"
                for name in ("transform", "baseline", "trials", "package")
            }
            Task(
                name="store",
                template=store,
                arguments=[
                    Artifact(name="model", from_="{{tasks.trials.outputs.artifacts.model}}"),
                    Artifact(name="library", from_="{{tasks.package.outputs.artifacts.library}}"),
                    Artifact(name="evaluation", from_="{{tasks.package.outputs.artifacts.evaluation}}"),
                    *(Parameter(name=name, value=value) for name, value in made_by.items()),
                ],
                dependencies=["baseline", "package"],
            )
            Task(name="fetch", template=fetch, dependencies=["store"])
            Task(
                name="score",
                template=score,
                arguments=[Artifact(name="version", from_="{{tasks.fetch.outputs.artifacts.version}}")],
                dependencies=["fetch"],
            )
            Task(
                name="verify",
                template=verify,
                arguments=[Artifact(name="scored", from_="{{tasks.score.outputs.artifacts.scored}}")],
                dependencies=["score"],
            )
            if publish is not None:
                Task(
                    name="publish",
                    template=publish,
                    arguments=[
                        Artifact(name="library", from_="{{tasks.package.outputs.artifacts.library}}"),
                    ],
                    dependencies=["verify"],
                )
        _finish(context)
    return template


def package_mojo(context: Context) -> WorkflowTemplate:
    """A model artifact (model/model.zip, examples.json, test.csv) to a Java library and its test metrics."""
    arguments = [
        *_package_arguments(context),
        GCSArtifact(name="model", key="{{workflow.parameters.model_key}}/", archive=NoneArchiveStrategy()),
    ]
    with _template(context, PACKAGE, entrypoint="package", arguments=arguments) as template:
        _package(context)
    return template


def package_existing_mojo(context: Context) -> WorkflowTemplate:
    """`package-mojo` for a model that is already in the artifact bucket."""
    with _template(
        context, PACKAGE_EXISTING, entrypoint="package-existing", arguments=_package_arguments(context)
    ) as template:
        publish = _publish(context)
        with DAG(name="package-existing"):
            Task(
                name="package",
                template_ref=m.TemplateRef(name=PACKAGE, template="package"),
                arguments=[
                    # A folder's key ends with a slash.
                    GCSArtifact(name="model", key="{{workflow.parameters.model_key}}/", archive=NoneArchiveStrategy()),
                    *(
                        Parameter(name=name, value=f"{{{{workflow.parameters.{name}}}}}")
                        for name in ("group", "artifact", "version")
                    ),
                ],
            )
            if publish is not None:
                Task(
                    name="publish",
                    template=publish,
                    arguments=[
                        Artifact(name="library", from_="{{tasks.package.outputs.artifacts.library}}"),
                    ],
                    dependencies=["package"],
                )
    return template


def cron(context: Context) -> CronWorkflow:
    """Refits on the stack's schedule; a refit still under way is not overtaken by the next."""
    with CronWorkflow(
        name=REFIT,
        namespace=context.namespace,
        labels=dict(context.labels) or None,
        schedules=list(context.schedules),
        timezone=context.timezone,
        concurrency_policy="Forbid",
        starting_deadline_seconds=3600,
        successful_jobs_history_limit=3,
        failed_jobs_history_limit=3,
        workflow_template_ref=m.WorkflowTemplateRef(name=REFIT),
    ) as made:
        pass
    return made


def _template(
    context: Context, name: str, *, arguments: list[Any], entrypoint: str, on_exit: str | None = None
) -> WorkflowTemplate:
    return WorkflowTemplate(
        name=name,
        namespace=context.namespace,
        labels=dict(context.labels) or None,
        entrypoint=entrypoint,
        on_exit=on_exit,
        arguments=arguments,
        service_account_name=context.service_accounts["workflows"],
        security_context=_pod_security(),
        active_deadline_seconds=context.deadline_seconds,
        parallelism=context.parallelism,
        archive_logs=True,
        pod_gc=m.PodGC(strategy="OnPodSuccess"),
        ttl_strategy=m.TTLStrategy(seconds_after_completion=context.retention_seconds),
        workflow_metadata=m.WorkflowMetadata(labels={**context.labels, "hybrid-mlops/pipeline": name}),
    )


def _arguments(context: Context) -> list[Parameter]:
    values = {**DEFAULTS, **({"data_uri": context.data_uri} if context.data_uri else {})}
    return [
        Parameter(name=name) if value is None else Parameter(name=name, value=value) for name, value in values.items()
    ]


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


def _spark(
    context: Context,
    name: str,
    *,
    inputs: list[str],
    arguments: list[str],
    key: list[str],
    only_if: str | None = None,
    program: str | None = None,
) -> DAG:
    """A SparkApplication: made, waited for, and memoised.

    The memoised template is one around the template that is retried. If one template has both, Argo starts nothing that
    waits for it once a result was found: what waits is linked to the attempts, and there are none.
    """
    driver, executor = context.sized("spark-driver"), context.sized("spark-executor")
    pool = context.pool("spark")
    placed: dict[str, Any] = {
        "nodeSelector": dict(pool.node_selector),
        "tolerations": [_toleration(t) for t in pool.tolerations],
    }
    placed = {field: value for field, value in placed.items() if value}
    security = {
        "runAsUser": 185,
        "runAsGroup": 185,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    labels = {**context.labels, RUN_LABEL: UID, STEP_LABEL: name}
    pods = {"labels": labels, "securityContext": security, **placed}
    manifest = {
        "apiVersion": SPARK_API,
        "kind": "SparkApplication",
        # A name of its own for every attempt: a fixed one would exist already.
        "metadata": {"generateName": f"{name}-", "namespace": context.namespace, "labels": labels},
        "spec": {
            "type": "Python",
            "pythonVersion": "3",
            "mode": "cluster",
            "sparkVersion": context.spark_version,
            "image": context.images["spark-features"],
            "imagePullPolicy": "IfNotPresent",
            "mainApplicationFile": f"local:///app/src/{program or f'{name}.py'}",
            "arguments": arguments,
            "sparkConf": {"spark.sql.session.timeZone": "UTC"},
            "driver": {
                "cores": 1,
                "coreRequest": driver.cpu,
                "memory": driver.memory,
                "serviceAccount": context.service_accounts["spark"],
                **pods,
            },
            "executor": {"cores": 1, "coreRequest": executor.cpu, "memory": executor.memory, **pods},
            "dynamicAllocation": {
                "enabled": True,
                "initialExecutors": 1,
                "minExecutors": 1,
                "maxExecutors": context.spark_max_executors,
                "shuffleTrackingEnabled": True,
            },
            "restartPolicy": {
                "type": "OnFailure",
                "onFailureRetries": 2,
                "onFailureRetryInterval": 10,
                "onSubmissionFailureRetries": 3,
                "onSubmissionFailureRetryInterval": 20,
            },
            # The exit handler deletes it; this is for the day when that could not run.
            "timeToLiveSeconds": 86400,
        },
    }
    given = [each for each in inputs if each != "memoise"]
    application = Resource(
        name=f"{name}-spark",
        inputs=[Parameter(name=each) for each in given],
        action="create",
        set_owner_reference=True,
        manifest=_manifest(manifest),
        # Only these two states are final: the others the operator turns into one of them, after its own retries.
        success_condition="status.applicationState.state == COMPLETED",
        failure_condition="status.applicationState.state == FAILED",
        service_account_name=context.service_accounts["workflows"],
        active_deadline_seconds=3600,
        # The operator repeats what fails. This repeats what could not be asked of the cluster, for four minutes: an
        # operator that is being replaced answers again by then.
        retry_strategy=m.RetryStrategy(
            limit=IntOrString(root="4"),
            retry_policy="Always",
            expression=RETRY_SPARK,
            backoff=m.Backoff(duration="15s", factor=IntOrString(root="2")),
        ),
        **_placed(context, "workflows"),
    )
    with DAG(
        name=name,
        inputs=[Parameter(name=each) for each in inputs],
        outputs=[Parameter(name="run", value_from=m.ValueFrom(expression=f"'{UID}'"))],
        memoize=_memoise(context, name, context.images["spark-features"], key, only_if),
    ) as memoised:
        Task(
            name=name,
            template=application,
            arguments={each: f"{{{{inputs.parameters.{each}}}}}" for each in given},
        )
    return memoised


class _Plain(yaml.SafeDumper):
    """No anchors: people read these."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _manifest(manifest: dict[str, Any]) -> str:
    """YAML in which `{{=toJson(...)}}` stands bare: it gives a quoted scalar, so no value can add to the manifest."""
    text = yaml.dump(manifest, Dumper=_Plain, sort_keys=False, width=10**6)
    return re.sub(r"'(\{\{=toJson\(.*\)\}\})'$", lambda found: found[1].replace("''", "'"), text, flags=re.MULTILINE)


def _trials(context: Context) -> DAG:
    """All trials side by side and the choice among them, memoised as one, since the choice depends on all."""
    resources = context.sized("train")
    train = _container(
        context,
        "train",
        image="h2o-trainer",
        account="trainer",
        pool="h2o",
        command=["python", "src/train.py"],
        args=[
            "train",
            "--features", "/inputs/features",
            "--output", "/outputs/trial",
            "--trial", "{{inputs.parameters.trial}}",
            "--seed", "{{inputs.parameters.seed}}",
            "--nthreads", str(context.threads),
            "--memory", _half(resources.memory),
            *(word for name in TRIAL_PARAMETERS for word in (_option(name), f"{{{{inputs.parameters.{name}}}}}")),
        ],
        inputs=[
            *(Parameter(name=name) for name in ("features", "trial", "seed", *TRIAL_PARAMETERS)),
            _folder("features", "/inputs/features", "runs/{{inputs.parameters.features}}/features"),
        ],
        outputs=[_folder("trial", "/outputs/trial", f"{RUN}/trials/{{{{inputs.parameters.trial}}}}")],
        deadline=3600,
    )  # fmt: skip
    select = _container(
        context,
        "select",
        image="h2o-trainer",
        account="trainer",
        pool="workflows",
        command=["python", "src/train.py"],
        args=["select", "/inputs/trials", "--output", "/outputs/model"],
        inputs=[_folder("trials", "/inputs/trials", f"{RUN}/trials")],
        outputs=[
            _folder("model", "/outputs/model", f"{RUN}/model"),
            Parameter(name="trial", value_from=m.ValueFrom(path="/outputs/model/trial.json")),
        ],
        deadline=600,
    )
    inputs = ("features", "trials", "seed", *TRIAL_PARAMETERS, "memoise")
    with DAG(
        name="trials",
        inputs=[Parameter(name=name) for name in inputs],
        outputs=[
            Parameter(name="run", value_from=m.ValueFrom(expression=f"'{UID}'")),
            Parameter(name="trial", value_from=m.ValueFrom(parameter="{{tasks.select.outputs.parameters.trial}}")),
            Artifact(name="model", from_="{{tasks.select.outputs.artifacts.model}}"),
        ],
        memoize=_memoise(
            context, "trials", context.images["h2o-trainer"], [f"inputs.parameters.{name}" for name in inputs[:-1]]
        ),
    ) as trials:
        Task(
            name="train",
            template=train,
            with_sequence=m.Sequence(
                start=IntOrString(root="0"), count=IntOrString(root="{{inputs.parameters.trials}}")
            ),
            arguments={
                "trial": "{{item}}",
                **{name: f"{{{{inputs.parameters.{name}}}}}" for name in ("features", "seed", *TRIAL_PARAMETERS)},
            },
        )
        Task(name="select", template=select, dependencies=["train"])
    return trials


def _package(context: Context) -> DAG:
    coordinates = "{{inputs.parameters.group}}:{{inputs.parameters.artifact}}:{{inputs.parameters.version}}"
    build = _container(
        context,
        "build",
        image="mojo-packager",
        account="workflows",
        pool="workflows",
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
        outputs=[_folder("library", "/outputs/library", f"{RUN}/{{{{pod.name}}}}/library")],
        deadline=1800,
    )  # fmt: skip
    evaluate = _container(
        context,
        "evaluate",
        image="mojo-packager",
        account="workflows",
        pool="workflows",
        command=PACKAGER,
        args=[
            "evaluate",
            "--package", "/inputs/library",
            "--test", "/inputs/model/test.csv",
            "--output", "/outputs/evaluation.json",
        ],
        inputs=[
            Artifact(name="model", path="/inputs/model"),
            Artifact(name="library", path="/inputs/library"),
        ],
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
    inputs = ("group", "artifact", "version")
    with DAG(
        name="package",
        inputs=[
            *(Parameter(name=name) for name in inputs),
            Parameter(
                name="digest",
                value="",
                description="The model's digest, by which a library is found again; empty: never memoised.",
            ),
            Parameter(name="memoise", value="true"),
            Artifact(name="model"),
        ],
        outputs=[
            Parameter(name="run", value_from=m.ValueFrom(expression=f"'{UID}'")),
            Artifact(name="library", from_="{{tasks.build.outputs.artifacts.library}}"),
            Artifact(name="evaluation", from_="{{tasks.evaluate.outputs.artifacts.evaluation}}"),
        ],
        memoize=_memoise(
            context,
            "package",
            context.images["mojo-packager"],
            [f"inputs.parameters.{name}" for name in (*inputs, "digest")],
            only_if="inputs.parameters.digest != ''",
        ),
    ) as package:
        model = Artifact(name="model", from_="{{inputs.artifacts.model}}")
        Task(name="build", template=build, arguments=[Parameter(name="coordinates", value=coordinates), model])
        Task(
            name="evaluate",
            template=evaluate,
            arguments=[
                model,
                Artifact(name="library", from_="{{tasks.build.outputs.artifacts.library}}"),
            ],
            dependencies=["build"],
        )
    return package


def _version_env(context: Context) -> list[Env]:
    version_id = "{{workflow.parameters.model}}_v{{workflow.parameters.model_version}}_{{workflow.uid}}"
    return [
        Env(name="GCP_BUCKET_PATH", value=context.gcp_bucket_path),
        Env(name="MODEL", value="{{workflow.parameters.model}}"),
        Env(
            name="VERSION_ID",
            value="{{workflow.parameters.model}}_v{{workflow.parameters.model_version}}_{{workflow.uid}}",
        ),
        Env(name="LANE", value="argo"),
        Env(name="ENGINE_RUN", value="{{workflow.name}}"),
        Env(name="ALLOC_ID", value=UID),
        Env(name="RUN_DIR", value=f"/outputs/{version_id}"),
    ]


def _store(context: Context) -> Container:
    made_by = ("transform", "baseline", "trials", "package")
    return _container(
        context,
        "store",
        image="registry",
        account="registry",
        pool="workflows",
        step="registry",
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
            _folder("features", "/inputs/features", "runs/{{inputs.parameters.transform_run}}/features"),
            _folder("baseline", "/inputs/baseline", "runs/{{inputs.parameters.baseline_run}}/baseline"),
        ],
        env=[
            *_version_env(context),
            Env(name="IMAGE", value=" ".join(context.images[name] for name in IMAGES)),
        ],
        deadline=1800,
    )  # fmt: skip


def _fetch(context: Context) -> Container:
    """The stored version, checked file by file, for the step that loads it."""
    return _container(
        context,
        "fetch",
        image="registry",
        account="registry",
        pool="workflows",
        step="registry",
        command=["mlops-registry"],
        args=["fetch", "--output", "/outputs/version"],
        outputs=[_folder("version", "/outputs/version", f"{SCORING}/{{{{pod.name}}}}")],
        env=_version_env(context),
        deadline=1800,
    )


def _score(context: Context) -> Container:
    """The one step that loads a model. Whatever that does, its account reads what was fetched, and adds predictions."""
    return _container(
        context,
        "score",
        image="registry",
        account="scorer",
        pool="workflows",
        step="registry",
        command=["mlops-registry"],
        args=["score", "--input", "/inputs/version", "--output", "/outputs/scored"],
        inputs=[Artifact(name="version", path="/inputs/version")],
        outputs=[_folder("scored", "/outputs/scored", f"{SCORED}/{{{{pod.name}}}}")],
        env=[Env(name="MLOPS_CONFINEMENT", value="container")],
        deadline=1800,
        # Its account may not write where logs are kept. What became of the version is what `verify` says.
        archive_location=m.ArtifactLocation(archive_logs=False),
    )


def _verify(context: Context) -> Container:
    return _container(
        context,
        "verify",
        image="registry",
        account="registry",
        pool="workflows",
        step="registry",
        command=["mlops-registry"],
        args=["record", "--input", "/inputs/scored"],
        inputs=[Artifact(name="scored", path="/inputs/scored")],
        env=_version_env(context),
        deadline=1800,
    )


def _publish(context: Context) -> Container | None:
    if not context.maven_repository:
        return None
    return _container(
        context,
        "publish",
        image="mojo-packager",
        account="registry",
        pool="workflows",
        step="evaluate",
        command=PACKAGER,
        args=[
            "publish",
            "--package", "/inputs/library",
            "--url", context.maven_repository,
        ],
        inputs=[Artifact(name="library", path="/inputs/library")],
        deadline=900,
    )  # fmt: skip


def _finish(context: Context) -> None:
    """What happens however the refit ended: Spark is cleared away, and what became of the run is written down.

    Before that, where it did not succeed, the drivers' logs are taken: they go with the drivers.
    """
    logs = _container(
        context,
        "driver-logs",
        image="spark-features",
        account="workflows",
        pool="workflows",
        step="control",
        command=["python", "src/driver_logs.py"],
        args=[
            "--namespace", context.namespace,
            "--selector", f"{RUN_LABEL}={UID}",
            "--step-label", STEP_LABEL,
            "--output", "/outputs/causes.json",
        ],
        outputs=[Parameter(name="causes", value_from=m.ValueFrom(path="/outputs/causes.json", default="{}"))],
        deadline=300,
    )  # fmt: skip
    clear = Resource(
        name="clear-spark",
        action="delete",
        flags=["sparkapplication", "--selector", f"{RUN_LABEL}={UID}", "--ignore-not-found"],
        service_account_name=context.service_accounts["workflows"],
        active_deadline_seconds=300,
        retry_strategy=m.RetryStrategy(
            limit=IntOrString(root="3"),
            retry_policy="Always",
            backoff=m.Backoff(duration="5s", factor=IntOrString(root="2")),
        ),
        **_placed(context, "workflows"),
    )
    record = _container(
        context,
        "record",
        image="registry",
        account="registry",
        pool="workflows",
        step="registry",
        command=["python", "src/lineage.py"],
        args=[
            "--status", "{{workflow.status}}",
            "--failures", "{{workflow.failures}}",
            "--started", "{{workflow.creationTimestamp.RFC3339}}",
            "--parameters", "{{workflow.parameters.json}}",
            "--namespace", context.namespace,
            "--job", REFIT,
        ],
        env=_version_env(context),
        deadline=600,
    )  # fmt: skip
    with Steps(name="finish") as finish:
        logs(
            name="driver-logs",
            when="{{workflow.status}} != Succeeded",
            continue_on=m.ContinueOn(failed=True, error=True),
        )
        with finish.parallel():
            clear(name="clear-spark")
            record(name="record")


def _container(
    context: Context,
    name: str,
    *,
    image: str,
    account: str,
    pool: str,
    command: list[str],
    args: list[str],
    deadline: int,
    step: str | None = None,
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    env: list[Env] | None = None,
    **more: Any,
) -> Container:
    size = context.sized(step or name)
    return Container(
        name=name,
        image=context.images[image],
        image_pull_policy="IfNotPresent",
        command=command,
        args=args,
        env=[*(env or []), Env(name="HOME", value="/tmp")],  # noqa: S108 - in the container, on a volume of its own
        inputs=inputs or [],
        outputs=outputs or [],
        # The images' own file systems stay as they were built.
        volumes=[EmptyDirVolume(name="outputs", mount_path="/outputs"), EmptyDirVolume(name="tmp", mount_path="/tmp")],  # noqa: S108
        resources=m.ResourceRequirements(
            requests={"cpu": Quantity(root=size.cpu), "memory": Quantity(root=size.memory)},
            limits={"memory": Quantity(root=size.memory)},
        ),
        service_account_name=context.service_accounts[account],
        security_context=m.SecurityContext(
            allow_privilege_escalation=False, read_only_root_filesystem=True, capabilities=m.Capabilities(drop=["ALL"])
        ),
        pod_security_context=_pod_security(),
        active_deadline_seconds=deadline,
        retry_strategy=m.RetryStrategy(
            limit=IntOrString(root="2"),
            expression=RETRY,
            backoff=m.Backoff(duration="5s", factor=IntOrString(root="2"), max_duration="5m"),
        ),
        **_placed(context, pool),
        **more,
    )


def _folder(name: str, path: str, key: str) -> GCSArtifact:
    """A folder as it is, not as an archive; the key of one ends with a slash."""
    return GCSArtifact(name=name, path=path, key=f"{key}/", archive=NoneArchiveStrategy())


def _memoise(context: Context, name: str, image: str, inputs: list[str], only_if: str | None = None) -> m.Memoize:
    # Cache keys have few characters, hence the hash. With `memoise` off the run's own uid goes in: nothing is found,
    # and what is made takes no earlier result's place.
    reused = "inputs.parameters.memoise == 'true'" + (f" && {only_if}" if only_if else "")
    parts = [f"'{name}'", f"'{image}'", *inputs, f"({reused}) ? '' : workflow.uid"]
    return m.Memoize(
        key=f"{{{{=sprig.sha256sum(toJson([{', '.join(parts)}]))}}}}",
        max_age=context.cache_max_age,
        cache=m.Cache(config_map=m.LocalObjectReference(name=CACHE)),
    )


def _placed(context: Context, kind: str) -> dict[str, Any]:
    pool = context.pool(kind)
    return {
        "node_selector": dict(pool.node_selector) or None,
        "tolerations": [m.Toleration(**_toleration(each)) for each in pool.tolerations] or None,
    }


def _toleration(toleration: Toleration) -> dict[str, Any]:
    if toleration.value is None:
        return {"key": toleration.key, "operator": "Exists", "effect": toleration.effect}
    return {"key": toleration.key, "operator": "Equal", "value": toleration.value, "effect": toleration.effect}


def _pod_security() -> m.PodSecurityContext:
    return m.PodSecurityContext(
        run_as_non_root=True,
        run_as_user=65534,
        run_as_group=65534,
        fs_group=65534,
        seccomp_profile=m.SeccompProfile(type="RuntimeDefault"),
    )


def _option(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


def _half(memory: str) -> str:
    """Half of a memory request, as a JVM's heap: the other half is Python's and the JVM's own."""
    size = quantity(memory)
    if size is None:
        raise ValueError(f"resources: train: memory {memory!r} is not like 512Mi or 2Gi")
    return f"{int(size / 2**20 / 2)}m"
