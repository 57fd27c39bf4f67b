"""WorkflowTemplates and SparkApplications as types: a leaf of another type is refused by its path."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from kubeflow_spark_api.models import (
    SparkV1beta2DriverSpec,
    SparkV1beta2ExecutorSpec,
    SparkV1beta2RestartPolicy,
    SparkV1beta2SparkApplicationSpec,
)

from definitions import spark
from definitions.argo import manifests, parse_definition
from definitions.documents import DocumentError
from definitions.typed import DefinitionError, Typed, parse
from jobs.model_refit.templates import render
from mlops.engines.embedded.argo import support
from tests.argo.test_templates import CONTEXT

RENDERED = render(CONTEXT)


def definition(**template: Any) -> dict[str, Any]:
    """A WorkflowTemplate of one template."""
    templates = [{"name": "main", "container": {"image": "i", "command": ["true"]}, **template}]
    spec = {"entrypoint": "main", "templates": templates}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": {"name": "t"}, "spec": spec}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (definition(container={"image": "i", "args": [5]}), "container.args[0] is 5, not text; write it in quotes"),
        (definition(container={"image": "i", "args": "hello"}), "container.args is 'hello', not a list"),
        (definition(container={"args": []}), "container.image is missing"),
        (definition(container=None, steps=[{"name": "a"}]), "steps[a] is an object, not a list"),
        (definition(container=None, dag={"tasks": [{"template": "b"}]}), "dag.tasks[0].name is missing"),
        (definition(activeDeadlineSeconds="30s"), "activeDeadlineSeconds is '30s', not a whole number"),
        (definition(retryStrategy={"limit": "two"}), "retryStrategy.limit is 'two', not a whole number"),
        (
            definition(retryStrategy={"backoff": {"duration": "1s", "factor": 1.5}}),
            "retryStrategy.backoff.factor is 1.5, not a whole number",
        ),
        (definition(parallelism="many"), "parallelism is 'many', not a whole number"),
        (definition(inputs=[]), "inputs is a list, not an object"),
        (
            definition(inputs={"artifacts": [{"name": "a", "optional": "yes"}]}),
            "artifacts[a].optional is 'yes', not true",
        ),
        ({**definition(), "metadata": 5}, "WorkflowTemplate ?: metadata is 5, not an object"),
        ([], "None None: only WorkflowTemplates and CronWorkflows"),
    ],
)
def test_a_leaf_of_another_type_is_said_by_its_path(value: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        parse_definition(value)
    assert said in raised.value.problems[0]


def test_what_is_null_is_absent() -> None:
    parsed = parse_definition(definition(inputs={"parameters": None}, retryStrategy=None))
    assert parsed.workflow.templates[0].inputs.parameters == []
    assert support.validate(definition(inputs={"parameters": None}, retryStrategy=None)) == []


def changed(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all that is in a definition."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from changed(inner, (*path, key))


@pytest.mark.parametrize("other", [None, 5, 1.5, True, "", "x", [], [None], {}, {"x": 1}], ids=repr)
def test_no_change_of_a_type_makes_registration_fail_but_by_a_refusal(other: Any) -> None:
    for path in changed(RENDERED[2]):
        value = copy.deepcopy(RENDERED[2])
        inner: Any = value
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = other
        assert all("\n" not in problem for problem in support.validate(value)), path


@pytest.mark.parametrize(
    ("own", "api"),
    [
        (spark.SparkSpec, SparkV1beta2SparkApplicationSpec),
        (spark.SparkPod, SparkV1beta2DriverSpec),
        (spark.SparkPod, SparkV1beta2ExecutorSpec),
        (spark.RestartPolicy, SparkV1beta2RestartPolicy),
    ],
)
def test_the_types_of_spark_name_the_operators_own_fields(own: type[Typed], api: Any) -> None:
    names = {field.alias or name for name, field in own.model_fields.items()}
    assert names - {field.alias or name for name, field in api.model_fields.items()} <= {"instances"}


def test_a_manifest_is_read_before_its_tags_are_filled() -> None:
    text = (
        "kind: SparkApplication\nspec: {image: '{{x}}', mainApplicationFile: a, driver: {cores: {{n}}, memory: {{=m}}}}"
    )
    (manifest,) = manifests.read(text)
    driver = parse(spark.SparkApplication, manifest, "here").spec.driver
    assert (driver.cores, driver.memory) == ("{{n}}", "{{=m}}")
    with pytest.raises(DocumentError):
        manifests.read("a: [")
