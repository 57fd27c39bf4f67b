"""The refit as Argo templates: `render(context)` gives them as dicts, in the order in which they can be registered.

Owns: what runs after what, with which inputs, limits, retries and identities. Deliberately never submits anything, and
knows no stack: whatever differs between stacks comes from the `Context`. What the steps do is the images' business.

Where a step leaves its files in the artifact bucket: `runs/<uid of the workflow that made them>/...`. So a memoised
result names the run it came from, and nothing that one run wrote is ever overwritten by another. What is handed to the
step that loads a model, and back, lies apart, in `scoring/<uid>/` and `scored/<uid>/`: it may touch nothing else.
"""

from typing import Any

from hera.workflows import DAG, CronWorkflow, Parameter, WorkflowTemplate
from hera.workflows import models as m

from jobs.model_refit import library, trials, version
from jobs.model_refit.context import Context
from jobs.model_refit.finish import finish
from jobs.model_refit.parameters import DEFAULTS
from jobs.model_refit.spark import spark
from jobs.model_refit.steps import RUN, call, workflow_template

REFIT = "model-refit"

# What `mlops data push` makes: the folder is named by the digest of what it holds, so it can hold nothing else.
BY_DIGEST = "inputs.parameters.data_uri matches '/sha256/[0-9a-f]{64}/?$'"


def render(context: Context) -> list[dict[str, Any]]:
    """Every object of the lane: three WorkflowTemplates, and the CronWorkflow if the stack has a schedule."""
    made: list[WorkflowTemplate | CronWorkflow] = [
        library.package_mojo(context),
        library.package_existing_mojo(context),
        model_refit(context),
        *([cron(context)] if context.schedules else []),
    ]
    return [template.to_dict() for template in made]


def model_refit(context: Context) -> WorkflowTemplate:
    """Raw data to a stored, verified and published version."""
    runs = f"gs://{context.artifact_bucket}/runs/"
    given = {name: f"{{{{workflow.parameters.{name}}}}}" for name in DEFAULTS}
    arguments = _arguments(context)
    with workflow_template(context, REFIT, entrypoint="refit", arguments=arguments, on_exit="finish") as template:
        transform = spark(
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
        baseline = spark(
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
        tune = trials.trials(context)
        store, fetch = version.store(context), version.fetch(context)
        score, verify = version.score(context), version.verify(context)
        publish = library.publish(context)

        with DAG(name="refit"):
            call("transform", transform, parameters={"data_uri": given["data_uri"], "memoise": given["memoise"]})
            features = {"features": "{{tasks.transform.outputs.parameters.run}}"}
            # The longest way first: where not all fits side by side, the baseline waits.
            own = ("trials", "seed", *trials.TRIAL_PARAMETERS, "memoise")
            call("trials", tune, "transform", parameters=features | {name: given[name] for name in own})
            seeded = features | {"seed": given["seed"], "memoise": given["memoise"]}
            call("baseline", baseline, "transform", parameters=seeded)
            model = {"model": "{{tasks.trials.outputs.artifacts.model}}"}
            digest = "jsonpath(tasks.trials.outputs.parameters.trial, '$.model_digest')"
            coordinates = {
                "group": context.maven_group,
                "artifact": given["model"],
                # The packager puts the model's digest there: the same model has the same coordinates, others others.
                "version": f"{given['model_version']}-{{digest}}",
                "digest": f"{{{{={digest}}}}}",
                "memoise": given["memoise"],
            }
            call("package", library.PACKAGE_REFERENCE, "trials", artifacts=model, parameters=coordinates)
            packaged = {name: f"{{{{tasks.package.outputs.artifacts.{name}}}}}" for name in ("library", "evaluation")}
            made_by = {
                f"{name}_run": f"{{{{tasks.{name}.outputs.parameters.run}}}}"
                for name in ("transform", "baseline", "trials", "package")
            }
            call("store", store, "baseline", "package", artifacts=model | packaged, parameters=made_by)
            call("fetch", fetch, "store")
            call("score", score, "fetch", artifacts={"version": "{{tasks.fetch.outputs.artifacts.version}}"})
            call("verify", verify, "score", artifacts={"scored": "{{tasks.score.outputs.artifacts.scored}}"})
            if publish is not None:
                call("publish", publish, "verify", artifacts={"library": library.LIBRARY})
        finish(context, REFIT)
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


def _arguments(context: Context) -> list[Parameter]:
    values = {**DEFAULTS, **({"data_uri": context.data_uri} if context.data_uri else {})}
    return [
        Parameter(name=name) if value is None else Parameter(name=name, value=value) for name, value in values.items()
    ]
