"""The refit lane's rendered objects: right for Argo v4 and the Spark Operator, and consistent with each other.

Every check is also shown objects with one thing wrong, and must find it.
"""

import copy
import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.model_refit.context import IMAGES, SERVICE_ACCOUNTS, Context, Pool, Resources, Toleration
from jobs.model_refit.parameters import DEFAULTS
from jobs.model_refit.templates import render
from mlops.engines.embedded.argo import tags
from tests.argo import checks

FOLDER = Path(__file__).parents[2] / "jobs" / "model_refit"
CONTEXT = Context(
    namespace="mlops-test",
    images={name: f"registry.test/project/{name}:{index:020x}" for index, name in enumerate(IMAGES, 1)},
    gcp_bucket_path="gs://test-models/models",
    data_bucket="test-data",
    artifact_bucket="test-artifacts",
    service_accounts={name: f"refit-{name}" for name in SERVICE_ACCOUNTS},
    resources={"train": Resources("2", "8Gi")},
    pools={
        kind: Pool({"pool": kind}, (Toleration("pool", kind), Toleration("spot")))
        for kind in ("workflows", "spark", "h2o")
    },
    maven_repository="https://maven.test/models",
    data_uri="gs://test-data/raw/0123",
    schedules=("0 3 * * 0",),
    labels={"stack": "test"},
)


def known(context: Context) -> checks.Known:
    """What a context names."""
    buckets = (context.artifact_bucket, context.data_bucket, context.gcp_bucket_path.split("/")[2])
    return checks.Known(context.namespace, context.images.values(), context.service_accounts.values(), buckets)


CHECKS = checks.every(known(CONTEXT))


def bare() -> Context:
    """The least that a stack gives."""
    return Context(
        namespace="small",
        images=CONTEXT.images,
        gcp_bucket_path="gs://test-models",
        data_bucket="test-data",
        artifact_bucket="test-artifacts",
        service_accounts=CONTEXT.service_accounts,
    )


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_rendered_holds(name: str) -> None:
    assert CHECKS[name](render(CONTEXT)) == []


def test_a_small_stack_renders_without_what_it_does_not_have() -> None:
    objects = render(bare())
    assert [one["metadata"]["name"] for one in objects] == ["package-mojo", "package-existing-mojo", "model-refit"]
    assert checks.typed(objects) == []
    assert checks.references(objects, known(bare())) == []
    assert "publish" not in json.dumps(objects)
    assert next(p for p in objects[2]["spec"]["arguments"]["parameters"] if p["name"] == "data_uri") == {
        "name": "data_uri"
    }


def _template(objects: list[Any], name: str) -> dict[str, Any]:
    return next(template for _, template in checks.templates(objects) if template["name"] == name)


def _task(objects: list[Any], name: str) -> dict[str, Any]:
    refit = _template(objects, "refit")
    return next(task for task in refit["dag"]["tasks"] if task["name"] == name)


def _manifest(objects: list[Any], change: Callable[[dict[str, Any]], Any]) -> None:
    resource = _template(objects, "transform-spark")["resource"]
    expressions = re.findall(r"\{\{=.*?\}\}", resource["manifest"])
    text = resource["manifest"]
    for index, expression in enumerate(expressions):
        text = text.replace(expression, f"EXPRESSION{index}X")
    manifest = yaml.safe_load(text)
    change(manifest)
    text = yaml.safe_dump(manifest)
    for index, expression in enumerate(expressions):
        text = text.replace(f"EXPRESSION{index}X", expression)
    resource["manifest"] = text


MUTATIONS: list[tuple[str, str, Callable[[list[Any]], Any]]] = [
    ("typed", "resorce", lambda o: o[2]["spec"].update(resorce=1)),
    ("typed", "limits", lambda o: _template(o, "train")["container"].update(limits={"cpu": "1"})),
    ("typed", "parallelism", lambda o: o[2]["spec"].update(parallelism="many")),
    ("typed", "schedule", lambda o: o[3]["spec"].update(schedule="@daily")),
    ("typed", "driver.memroy", lambda o: _manifest(o, lambda m: m["spec"]["driver"].update(memroy="1g"))),
    (
        "typed",
        "onFailureRetries",
        lambda o: _manifest(o, lambda m: m["spec"]["restartPolicy"].update(onFailureRetries="x")),
    ),
    ("removed", "schedules", lambda o: o[3]["spec"].update(schedule="@daily")),
    ("removed", "mutexes", lambda o: _template(o, "train").update(synchronization={"mutex": {"name": "x"}})),
    ("removed", "limit", lambda o: _template(o, "train")["retryStrategy"].update(limit=2)),
    (
        "spark",
        "successCondition",
        lambda o: _template(o, "transform-spark")["resource"].update(successCondition="status.x == Y"),
    ),
    ("spark", "setOwnerReference", lambda o: _template(o, "baseline-spark")["resource"].pop("setOwnerReference")),
    ("spark", "fixed name", lambda o: _manifest(o, lambda m: m["metadata"].update(name="transform"))),
    ("spark", "webhook", lambda o: _manifest(o, lambda m: m["spec"]["sparkConf"].update({"spark.master": "local"}))),
    ("spark", "dynamic", lambda o: _manifest(o, lambda m: m["spec"].pop("dynamicAllocation"))),
    ("spark", "restart", lambda o: _manifest(o, lambda m: m["spec"].pop("restartPolicy"))),
    ("spark", "Spark's user", lambda o: _manifest(o, lambda m: m["spec"]["executor"].pop("securityContext"))),
    ("references", "package-mojo/packagee", lambda o: _task(o, "package")["templateRef"].update(template="packagee")),
    (
        "references",
        "no WorkflowTemplate",
        lambda o: o[3]["spec"]["workflowSpec"]["workflowTemplateRef"].update(name="refit"),
    ),
    (
        "references",
        "takes no parameter",
        lambda o: _task(o, "transform")["arguments"]["parameters"][0].update(name="data"),
    ),
    (
        "references",
        "parameter data_uri is not given",
        lambda o: _task(o, "transform")["arguments"]["parameters"].pop(0),
    ),
    ("references", "artifact model is not given", lambda o: _task(o, "package")["arguments"]["artifacts"].pop(0)),
    ("references", "gives no such output", lambda o: _template(o, "trials")["outputs"]["artifacts"].pop(0)),
    ("references", "is absent when", lambda o: _task(o, "baseline").update(when="'a' == 'b'")),
    ("references", "does not wait for baseline", lambda o: _task(o, "store").update(dependencies=["package"])),
    ("references", "no service account someone", lambda o: _template(o, "train").update(serviceAccountName="someone")),
    (
        "references",
        "no service account other",
        lambda o: _manifest(o, lambda m: m["spec"]["driver"].update(serviceAccount="other")),
    ),
    (
        "references",
        "no image",
        lambda o: _template(o, "verify")["container"].update(
            image="registry.test/project/registry:0000000000000000ffff"
        ),
    ),
    ("references", "no bucket", lambda o: _manifest(o, lambda m: m["spec"]["arguments"].append("gs://somewhere/x"))),
    ("references", "key-only", lambda o: _template(o, "train")["outputs"]["artifacts"][0]["gcs"].update(bucket="b")),
    ("references", "archive", lambda o: _template(o, "train")["outputs"]["artifacts"][0].pop("archive")),
    ("references", "no slash", lambda o: _template(o, "train")["outputs"]["artifacts"][0]["gcs"].update(key="runs/x")),
    (
        "references",
        "not an argument",
        lambda o: _template(o, "store")["container"]["args"].append("{{workflow.parameters.x}}"),
    ),
    ("references", "namespace", lambda o: o[0]["metadata"].update(namespace="default")),
    ("references", "no deadline", lambda o: _template(o, "select").pop("activeDeadlineSeconds")),
    (
        "memoised",
        "inputs.parameters.more",
        lambda o: _template(o, "trials")["inputs"]["parameters"].append({"name": "more"}),
    ),
    (
        "memoised",
        "no hash",
        lambda o: _template(o, "transform")["memoize"].update(key="{{inputs.parameters.data_uri}}"),
    ),
    ("memoised", "which run", lambda o: _template(o, "transform")["outputs"]["parameters"].pop(0)),
    ("retries", "exit code 2", lambda o: _template(o, "train")["retryStrategy"].update(expression="true")),
    ("retries", "no retry", lambda o: _template(o, "verify").pop("retryStrategy")),
    (
        "retries",
        "failure condition",
        lambda o: _template(o, "transform-spark")["retryStrategy"].update(expression="true"),
    ),
    (
        "retries",
        "is never retried",
        lambda o: _template(o, "baseline-spark")["retryStrategy"].update(retryPolicy="OnError"),
    ),
    ("memoised", "retried", lambda o: _template(o, "transform").update(retryStrategy={"limit": "2"})),
    ("commands", "build", lambda o: _template(o, "build")["container"].pop("command")),
    ("embedded", "suspend", lambda o: o[2]["spec"].update(suspend=True)),
    ("embedded", "a value", lambda o: _template(o, "verify")["container"]["args"].append("{{inputs.parameters.none}}")),
]


@pytest.mark.parametrize(
    ("check", "said", "mutate"), MUTATIONS, ids=[f"{check}:{said}" for check, said, _ in MUTATIONS]
)
def test_every_check_finds_what_it_is_for(check: str, said: str, mutate: Callable[[list[Any]], Any]) -> None:
    objects = copy.deepcopy(render(CONTEXT))
    mutate(objects)
    problems = CHECKS[check](objects)
    assert problems, "not found"
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("data_uri", "memoise", "found_again"),
    [
        (f"gs://b/raw/sha256/{'0a' * 32}", "true", True),
        (f"gs://b/raw/sha256/{'0a' * 32}/", "true", True),
        (f"gs://b/raw/sha256/{'0a' * 32}", "false", False),
        ("gs://b/raw/latest", "true", False),
        (f"gs://b/raw/sha256/{'0a' * 32}/edited", "true", False),
        ("gs://b/raw/sha256/0a0a", "true", False),
    ],
)
def test_features_are_found_again_only_where_the_uri_fixes_what_they_were_made_of(
    data_uri: str, memoise: str, found_again: bool
) -> None:
    """Other URIs may hold other data by the next run, which would then train on features of the old."""
    key = _template(render(CONTEXT), "transform")["memoize"]["key"]
    given = {"inputs.parameters.data_uri": data_uri, "inputs.parameters.memoise": memoise}
    first, second = (tags.fill(key, {**given, "workflow.uid": uid}) for uid in ("one", "two"))
    assert (first == second) is found_again
    assert first != tags.fill(key, {**given, "inputs.parameters.data_uri": f"x{data_uri}", "workflow.uid": "one"})


def test_no_value_of_a_parameter_can_add_to_a_manifest() -> None:
    hostile = "x\"\n  driver: {serviceAccount: admin}\n- '#: {{workflow.uid}}"
    resource = _template(render(CONTEXT), "transform-spark")["resource"]
    scope = {"workflow.uid": "u", "inputs.parameters.data_uri": hostile}
    filled = yaml.safe_load(tags.fill(resource["manifest"], scope))
    plain = yaml.safe_load(tags.fill(resource["manifest"], {**scope, "inputs.parameters.data_uri": "plain"}))
    assert filled["spec"]["arguments"][1] == f"{hostile}/areas.csv"
    for manifest in (filled, plain):
        del manifest["spec"]["arguments"]
    assert filled == plain


def test_parameters_stand_in_one_place() -> None:
    declared = yaml.safe_load((FOLDER / "parameters.yaml").read_text())["parameters"]
    spec = render(bare())[2]["spec"]
    assert {one["name"]: one.get("value") for one in spec["arguments"]["parameters"]} == DEFAULTS
    assert set(declared) == set(DEFAULTS)
    table = (FOLDER / "README.md").read_text()
    assert [name for name in declared if f"| `{name}` |" not in table] == []
    other = yaml.safe_load((FOLDER / "package-mojo.yaml").read_text())["parameters"]
    for one in render(bare())[:2]:
        assert {p["name"]: p.get("value") for p in one["spec"]["arguments"]["parameters"]} == {
            name: value.get("default") for name, value in other.items()
        }


def test_the_most_trials_that_a_run_may_ask_for_end_before_its_deadline() -> None:
    declared = yaml.safe_load((FOLDER / "parameters.yaml").read_text())["parameters"]
    spec = render(bare())[2]["spec"]
    train = next(one for one in spec["templates"] if one["name"] == "train")
    rounds = math.ceil(declared["trials"]["maximum"] / spec["parallelism"])
    assert rounds * train["activeDeadlineSeconds"] <= spec["activeDeadlineSeconds"]


def test_a_stack_that_lacks_an_image_or_names_an_unknown_step_is_told() -> None:
    with pytest.raises(ValueError, match="a scheduled refit would have no data"):
        dataclasses.replace(CONTEXT, data_uri="")
    with pytest.raises(ValueError, match="images: registry missing"):
        Context("n", {name: "x" for name in IMAGES if name != "registry"}, "gs://b", "d", "a", CONTEXT.service_accounts)
    with pytest.raises(ValueError, match="nothing of jobs/model_refit is called trian"):
        Context(
            "n",
            CONTEXT.images,
            "gs://b",
            "d",
            "a",
            CONTEXT.service_accounts,
            resources={"trian": Resources("1", "1Gi")},
        )


@pytest.mark.engine
@pytest.mark.skipif(shutil.which("argo") is None, reason="argo is not on PATH")
def test_argos_own_linter_passes_and_would_not_pass_anything(tmp_path: Path) -> None:
    for name, context in (("full", CONTEXT), ("bare", bare())):
        done = checks.lint(render(context), tmp_path / name)
        assert done.returncode == 0, done.stdout + done.stderr
    broken = copy.deepcopy(render(CONTEXT))
    _task(broken, "package")["templateRef"]["template"] = "packagee"
    assert checks.lint(broken, tmp_path / "broken").returncode != 0
