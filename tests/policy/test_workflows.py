"""Rules on Argo's workflows: one changed line of a real template breaks each."""

from typing import Any

import pytest

from definitions.argo.views import given
from inventory.resources import UNKNOWN
from jobs.model_refit import context, templates
from policy.judge import judge
from policy.parts import pods
from policy.parts.workflows import CRON, WORKFLOWS, read
from policy.rules import ALL, workflows
from policy.settings import PolicySettings, load
from tests.policy.cases import Case, check, put
from tests.policy.conftest import TODAY, changed, stack
from tests.policy.templates import manifest, template

ROLES = ("driver", "executor")
REFIT = "workflow-templates-eu-model-refit"
PACKAGE = "workflow-templates-eu-package-mojo"
# No stack has a schedule, and nothing needs this: the place where one is put.
METRICS = "kubernetes-eu-operators-metrics-argo-controller"
_RETRY = ("retryStrategy", "limit")


def _shell(text: str) -> Any:
    """A step that runs a text in a shell."""

    def edit(inputs: dict[str, Any]) -> None:
        template("train", "container", "command", to=["sh", "-ec"])(inputs)
        template("train", "container", "args", to=[text])(inputs)

    return edit


def _script(source: str) -> Any:
    """A step that is a script."""

    def edit(inputs: dict[str, Any]) -> None:
        train = next(one for one in inputs["spec"]["templates"] if one["name"] == "train")
        train["script"] = {**train.pop("container"), "source": source}

    return edit


def _task(name: str, **values: Any) -> Any:
    """A task of the refit's DAG with some values changed."""

    def edit(inputs: dict[str, Any]) -> None:
        refit = next(one for one in inputs["spec"]["templates"] if one["name"] == "refit")
        next(one for one in refit["dag"]["tasks"] if one["name"] == name).update(values)

    return edit


def _schedule(*path: str, to: Any) -> Any:
    """The schedule of refits, as a stack that sets one registers it, with one value changed."""

    def edit(_: dict[str, Any]) -> dict[str, Any]:
        made = _cron()
        put(*path, to=to)(made)
        return {"type": CRON, "inputs": made}

    return edit


def _cron() -> dict[str, Any]:
    labels = {"app.kubernetes.io/part-of": "hybrid-mlops", "app.kubernetes.io/managed-by": "pulumi"}
    return templates.cron(
        context.Context(
            namespace="mlops",
            images=dict.fromkeys(context.IMAGES, "image"),
            gcp_bucket_path="gs://models/models",
            data_bucket="data",
            artifact_bucket="artifacts",
            service_accounts={role: role for role in context.SERVICE_ACCOUNTS},
            data_uri="gs://data/2026",
            schedules=("0 3 * * 0",),
            labels=labels,
        )
    ).to_dict()


CASES = (
    Case(
        "workflow-artifact-key",
        REFIT,
        template("select", "outputs", "artifacts", 0, "gcs", "key", to="runs/latest/model/"),
        "template select: artifact model has the key runs/latest/model/",
    ),
    Case(
        "workflow-artifact-key",
        REFIT,
        template("train", "outputs", "artifacts", 0, "gcs", "key", to="runs/{{inputs.parameters.trial}}/"),
        "template train: artifact trial has the key runs/{{inputs",
    ),
    Case(
        "workflow-artifact-key",
        REFIT,
        template("train", "outputs", "artifacts", 0, "gcs", to=None),
        "has the key of the artifact repository",
    ),
    Case(
        "workflow-deletes-own",
        REFIT,
        template("clear-spark", "resource", "flags", to=["sparkapplication", "--all"]),
        "template clear-spark: resource.flags has --all",
    ),
    Case(
        "workflow-deletes-own",
        REFIT,
        template("clear-spark", "resource", "flags", 2, to="app.kubernetes.io/part-of=hybrid-mlops"),
        "by no label that is {{workflow.uid}}",
    ),
    Case(
        "workflow-deletes-own",
        REFIT,
        template("clear-spark", "resource", "flags", 2, to="hybrid-mlops/run!={{workflow.uid}}"),
        "by no label that is {{workflow.uid}}",
    ),
    Case(
        "workflow-publishes-last",
        REFIT,
        _task("publish", dependencies=["package"]),
        "template refit: publish publishes without the success of baseline, fetch, score, store, verify",
    ),
    Case(
        "workflow-publishes-last",
        REFIT,
        _task("verify", continueOn={"failed": True}),
        "template refit: publish publishes without the success of verify",
    ),
    Case(
        "workflow-publishes-last",
        REFIT,
        _task("publish", dependencies=None, depends="package && (verify.Succeeded || verify.Failed)"),
        "without the success of baseline, fetch, score, store, verify",
    ),
    Case("workflow-publishes-last", REFIT, put("spec", "onExit", to="publish"), "onExit publish publishes, whatever"),
    Case(
        "workflow-publishes-last",
        REFIT,
        template("finish", "steps", 1, 1, "template", to="publish"),
        "template finish: record publishes without the success of clear-spark",
    ),
    *(
        Case("workflow-schedule-often", METRICS, _schedule("spec", "schedules", to=[each]), says)
        for each, says in (
            ("* * * * *", "schedule * * * * * starts runs 1 minutes apart; 60 are the least"),
            ("TZ=Etc/UTC 59,0 0,23 * * 0", "starts runs 1 minutes apart"),
            ("@every 90s", "1.5 minutes apart"),
            ("0,30 3 * * 0", "30 minutes apart"),
            ("61 * * * *", "schedule 61 * * * * cannot be read"),
        )
    ),
    Case("workflow-deadline", REFIT, put("spec", "activeDeadlineSeconds", to=None), "activeDeadlineSeconds is not set"),
    Case("workflow-deadline", REFIT, template("train", "activeDeadlineSeconds", to=None), "template train: active"),
    Case(
        "workflow-deadline",
        REFIT,
        template("transform-spark", "activeDeadlineSeconds", to=0),
        "template transform-spark: active",
    ),
    Case(
        "workflow-deadline",
        REFIT,
        template("finish", "steps", 0, 0, to={"name": "record", "inline": {"resource": {"action": "get"}}}),
        "template finish, task record: activeDeadlineSeconds is not set",
    ),
    Case("workflow-cleanup", REFIT, put("spec", "ttlStrategy", to={"secondsAfterSuccess": 60}), "ttlStrategy does not"),
    Case("workflow-cleanup", REFIT, put("spec", "podGC", to=None), "podGC.strategy is not set"),
    Case("workflow-parallelism", REFIT, put("spec", "parallelism", to=None), "parallelism is not set"),
    Case(
        "workflow-retry", REFIT, template("train", *_RETRY, to=None), "template train: retryStrategy.limit is not set"
    ),
    Case("workflow-retry", REFIT, template("train", *_RETRY, to="1000"), "limit is 1000"),
    Case(
        "workflow-retry", REFIT, template("train", *_RETRY, to="{{workflow.parameters.trials}}"), "which is no number"
    ),
    Case("workflow-retry", REFIT, template("train", "retryStrategy", "backoff", to=None), "repeated at once"),
    Case(
        "workflow-retry",
        REFIT,
        template("train", "retryStrategy", to={"limit": "2", "retryPolicy": "Always", "backoff": {"duration": "5s"}}),
        "template train: retryStrategy.retryPolicy is Always without an expression",
    ),
    *(
        Case("workflow-retry", REFIT, template("transform-spark", "retryStrategy", key, to=to), says)
        for key, to, says in (
            ("retryPolicy", "OnError", "transform-spark: retryStrategy.retryPolicy is OnError, so that what could not"),
            ("expression", None, "so that what failed is created again"),
            ("expression", "lastRetry.message matches 'failure condition'", "what failed is created again"),
        )
    ),
    Case(
        "workflow-memoise-retry",
        REFIT,
        template("transform", "retryStrategy", to={"limit": "2", "backoff": {"duration": "5s"}}),
        "template transform: it has both memoize and retryStrategy",
    ),
    Case(
        "workflow-memoise-retry",
        REFIT,
        put("spec", "templateDefaults", to={"retryStrategy": {"limit": "2", "backoff": {"duration": "5s"}}}),
        "template trials: it has both",
    ),
    Case(
        "workflow-loads-apart",
        REFIT,
        template("score", "serviceAccountName", to="registry"),
        "template score loads a model as registry, like other steps",
    ),
    Case("workflow-loads-apart", REFIT, template("score", "serviceAccountName", to=None), "as the workflow"),
    Case(
        "workflow-loads-apart",
        REFIT,
        template("verify", "container", "args", to=["verify"]),
        "template verify loads a model, and has the right to record",
    ),
    *(
        Case(
            "workflow-command", of, template(step, "container", "command", to=None), f"template {step}, container main"
        )
        for of, step in ((REFIT, "publish"), (PACKAGE, "build"), (PACKAGE, "evaluate"))
    ),
    Case(
        "workflow-left-over", REFIT, template("transform-spark", "resource", "setOwnerReference", to=None), "outlives"
    ),
    Case(
        "workflow-left-over",
        REFIT,
        template("transform-spark", "resource", "failureCondition", to=None),
        "failureCondition",
    ),
    Case(
        "workflow-left-over",
        REFIT,
        template("transform-spark", "resource", "successCondition", to="status.executorState.x == COMPLETED"),
        "asks for executorState",
    ),
    Case(
        "workflow-makes",
        REFIT,
        manifest("transform-spark", "kind: SparkApplication", "kind: RoleBinding"),
        "a RoleBinding",
    ),
    Case("workflow-makes", REFIT, manifest("transform-spark", "spec:\n", "spec: [\n"), "is no YAML"),
    Case("workflow-makes", REFIT, template("transform-spark", "resource", "manifest", to=None), "manifest is not set"),
    Case(
        "workflow-parameter-in-manifest",
        REFIT,
        manifest(
            "transform-spark",
            "{{=toJson(inputs.parameters.data_uri + '/areas.csv')}}",
            "'{{inputs.parameters.data_uri}}'",
        ),
        "template transform-spark: resource.manifest has {{inputs.parameters.data_uri}} as it is",
    ),
    Case(
        "workflow-parameter-in-manifest",
        REFIT,
        manifest(
            "transform-spark",
            "{{=toJson(inputs.parameters.data_uri + '/areas.csv')}}",
            "'{{=toJson(workflow.parameters)}}'",
        ),
        "as it is",
    ),
    Case(
        "workflow-parameter-in-manifest",
        REFIT,
        template("clear-spark", "resource", "flags", 2, to="{{workflow.parameters.model}}"),
        "template clear-spark: resource.flags has {{workflow.parameters.model}}",
        also=("workflow-deletes-own",),
    ),
    Case(
        "workflow-parameter-in-manifest",
        REFIT,
        template("train", "podSpecPatch", to="priorityClassName: '{{inputs.parameters.seed}}'"),
        "template train: podSpecPatch has",
    ),
    Case(
        "workflow-parameter-in-manifest",
        REFIT,
        put("spec", "podSpecPatch", to="priorityClassName: '{{workflow.parameters.model}}'"),
        ": podSpecPatch has {{workflow.parameters.model}}",
    ),
    Case(
        "workflow-parameter-in-code", REFIT, _shell("train --seed {{inputs.parameters.seed}}"), "the text that sh -ec"
    ),
    Case("workflow-parameter-in-code", REFIT, _script("print({{workflow.parameters.trials}})"), "part of its script"),
    Case(
        "workflow-parameter-in-code",
        REFIT,
        template("train", "container", "command", to=["{{inputs.parameters.seed}}"]),
        "says which program",
    ),
    Case(
        "workflow-schedule", METRICS, _schedule("spec", "concurrencyPolicy", to="Allow"), "concurrencyPolicy is Allow"
    ),
    Case("workflow-schedule", METRICS, _schedule("spec", "startingDeadlineSeconds", to=None), "a run is lost"),
    Case(
        "workflow-schedule",
        METRICS,
        _schedule("spec", "failedJobsHistoryLimit", to=500),
        "failedJobsHistoryLimit is 500",
    ),
    Case("workflow-schedule", METRICS, _schedule("spec", "timezone", to=None), "timezone is not set"),
)


def test_the_rules_look_at_every_container_of_the_refit():
    refit = next(one for one in stack("prod").resources if one.name == REFIT)
    assert {container.where for container in pods.containers(refit)} == {
        *(
            f"template {step}, container main"
            for step in ("train", "select", "store", "fetch", "score", "verify", "publish", "record", "driver-logs")
        ),
        *(
            f"template {step}, SparkApplication, {role}"
            for step in ("transform-spark", "baseline-spark")
            for role in ROLES
        ),
    }
    # The pods of resource templates have no container but Argo's own, yet an account and a place.
    assert {pod.where for pod in pods.pods(refit)} >= {
        f"template {step}" for step in ("transform-spark", "clear-spark")
    }


def test_a_manifest_is_read_with_its_expressions_as_they_are():
    assert read("a: {{=toJson(x)}}\nb: 'p-{{workflow.uid}}'\n{{k}}: 1\n") == [
        {"a": "{{=toJson(x)}}", "b": "p-{{workflow.uid}}", "{{k}}": 1}
    ]
    assert read("a: [") is None
    assert given("{{workflow.uid}} {{workflow.parameters.x}} {{pod.name}} {{=workflow.uid}} {{item}}") == [
        "{{workflow.parameters.x}}",
        "{{=workflow.uid}}",
        "{{item}}",
    ]


@pytest.mark.parametrize("patch", [UNKNOWN, "containers: ["])
def test_a_patch_of_pods_that_cannot_be_read_decides_nothing(patch: str):
    bad = changed(stack("prod"), WORKFLOWS[1], REFIT, put("spec", "podSpecPatch", to=patch))
    for rule in ("container-root", "container-privilege", "pod-host", "container-image"):
        found = [one for one in judge(bad, load("prod"), ALL, TODAY) if (one.rule, one.resource) == (rule, REFIT)]
        assert {(one.state, one.level) for one in found} == {("not decided", "mandatory")}


def test_a_schedule_as_it_is_rendered_keeps_the_rules():
    place = next(one for one in stack("prod").resources if one.name == METRICS)
    schedule = place.model_copy(update={"type": CRON, "inputs": _cron()})
    inventory = stack("prod").model_copy(update={"resources": [schedule]})
    assert judge(inventory, PolicySettings(), workflows.RULES, TODAY) == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)
