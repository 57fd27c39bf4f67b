"""What the embedded engine executes, ignores and refuses: three lists, each field of which does what its list says."""

import json
from typing import Any

import pytest
from hera.workflows import models as m

from definitions.argo import models
from definitions.typed import DefinitionError, Typed, parse
from mlops.engines.embedded.argo import expressions, support
from mlops.engines.embedded.argo.expressions import ExpressionError
from mlops.engines.embedded.argo.pods import requested
from mlops.engines.embedded.argo.retries import duration
from mlops.engines.embedded.errors import EmbeddedError
from tests.argo.conftest import sh, template

MODELS: dict[type[Typed], Any] = {
    models.Spec: m.WorkflowSpec,
    models.Template: m.Template,
    models.Container: m.Container,
    models.Script: m.ScriptTemplate,
    models.Task: m.DAGTask,
    models.Step: m.WorkflowStep,
    models.Artifact: m.Artifact,
    models.Parameter: m.Parameter,
    models.ValueFrom: m.ValueFrom,
    models.RetryStrategy: m.RetryStrategy,
    models.Manifest: m.ResourceTemplate,
    models.Memoize: m.Memoize,
    models.CronSpec: m.CronWorkflowSpec,
}


def names(kind: type[Typed]) -> set[str]:
    """Every field that Argo knows of a kind."""
    return {field.alias or name for name, field in MODELS[kind].model_fields.items()}


@pytest.mark.parametrize("kind", MODELS)
def test_the_types_name_argos_own_fields(kind: type[Typed]) -> None:
    assert {*support.executed(kind), *support.NO_MEANING.get(kind, {})} - names(kind) - {"description"} == set()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in MODELS for name in sorted(names(kind))], ids=str)
def test_every_other_field_of_argo_is_refused_by_name(kind: type[Typed], name: str) -> None:
    checked = support.Checked()
    support.check_fields(kind.model_construct(None, **{name: {}}), "here", checked)
    if name in support.executed(kind):
        assert not any(f"{name} is not executed" in refusal for refusal in checked.refused)
    elif name in support.NO_MEANING.get(kind, {}):
        assert checked.refused == []
        assert name in set().union(*checked.ignored.values())
    else:
        assert any(f"{name} is not executed" in refusal for refusal in checked.refused)


def broken(**changes: Any) -> dict[str, Any]:
    main = {
        "name": "main",
        "dag": {"tasks": [{"name": "a", "template": "one", **changes.pop("task", {})}, *changes.pop("tasks", [])]},
    }
    one = sh("one", "true", **changes.pop("one", {}))
    return json.loads(template("t", main, one, **changes))


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (broken(), None),
        ({**broken(), "kind": "Workflow"}, "only WorkflowTemplates and CronWorkflows"),
        (broken(suspend=True), "suspend is not executed"),
        (broken(task={"hooks": {}}), "WorkflowTemplate t: spec.templates[main].dag.tasks[a].hooks is not executed"),
        (broken(task={"template": "two"}), "there is no template two"),
        (broken(task={"templateRef": {"name": "x", "template": "y"}}), "one of template and templateRef"),
        (
            broken(task={"templateRef": {"name": "x", "template": "y", "clusterScope": True}}),
            "clusterScope is not executed",
        ),
        (broken(task={"withItems": [1], "withParam": "[]"}), "more than one of"),
        (broken(task={"dependencies": ["b"]}), "depends on b, which there is not"),
        (
            broken(task={"dependencies": ["b"]}, tasks=[{"name": "b", "template": "one", "dependencies": ["a"]}]),
            "wait for each other: a -> b -> a",
        ),
        (broken(task={"depends": "b.Succeeded +"}), "is not expected there"),
        (broken(task={"when": "{{tasks.zzz.status}} == x"}), "nothing gives {{tasks.zzz.status}} a value"),
        (
            broken(one={"inputs": {"parameters": [{"name": "p"}]}, "container": {"args": ["{{inputs.parameters.q}}"]}}),
            "{{inputs.parameters.q}}",
        ),
        (broken(one={"container": {"args": ["{{=sprig.env('HOME')}}"]}}), "function sprig.env is not understood"),
        (broken(one={"container": {"args": ["{{=map([1], {# + 1})}}"]}}), "not understood"),
        (
            broken(
                one={"container": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}}
            ),
            "env[A].valueFrom is not executed",
        ),
        (broken(one={"container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}}), "there is no volume v"),
        (broken(one={"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}), "volumes[v].secret is not executed"),
        (broken(one={"retryStrategy": {"retryPolicy": "OnTransientError"}}), "OnTransientError is not executed"),
        (broken(one={"retryStrategy": {"expression": "lastRetry.exitCode ="}}), "retryStrategy"),
        (
            broken(
                one={
                    "retryStrategy": {"limit": "1"},
                    "memoize": {"key": "k", "cache": {"configMap": {"name": "c"}}},
                }
            ),
            "template one has both memoize and retryStrategy",
        ),
        (broken(one={"dag": {"tasks": []}}), "must be exactly one of"),
        (broken(entrypoint="none"), "there is no template none"),
        (broken(onExit="none"), "spec.onExit: there is no template none"),
        (
            broken(templates=[{"name": "r", "resource": {"action": "patch"}}], entrypoint="r"),
            "action patch is not executed",
        ),
        (
            broken(
                templates=[{"name": "r", "resource": {"action": "create", "manifest": "kind: Job\nspec: {}"}}],
                entrypoint="r",
            ),
            "creates a Job",
        ),
        (
            broken(templates=[{"name": "r", "resource": {"action": "delete", "flags": ["pod", "x"]}}], entrypoint="r"),
            "sparkapplication",
        ),
    ],
)
def test_a_definition_that_would_not_run_as_written_is_refused(definition: dict[str, Any], said: str | None) -> None:
    refused = support.validate(definition)
    if said is None:
        assert refused == []
    else:
        assert any(said in refusal for refusal in refused), refused


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("'a' + \"b\\n\"", "ab\n"),
        ("a.b == 'x' ? 1 : 2", 1),
        ("a['b'] == 'x' && !(a.n > 3)", True),
        ("missing ?? 'd'", "d"),
        ("a.n in [1, 2, 3]", True),
        ("'x' not in ['y'] || false", True),
        ("'pod deleted' matches 'del.*d$'", True),
        ("not (1 > 2) and 'abc' startsWith 'ab'", True),
        ("asInt('12') + int('1')", 13),
        ("asFloat('1.5') > 1", True),
        ("string(3) + 'x'", "3x"),
        ("toJson(['a<', 1, true, nil])", '["a\\u003c",1,true,null]'),
        ("jsonpath('{\"a\": [{\"b\": 5}]}', '$.a[0].b')", 5),
        ("sprig.trunc(3, 'abcdef')", "abc"),
        ("'abcdef'[1:3]", "bc"),
        ("len(sprig.sha256sum('a'))", 64),
        ("join(['a', 'b'], '-')", "a-b"),
    ],
)
def test_expressions(text: str, value: Any) -> None:
    assert expressions.parse(text).evaluate({"a.b": "x", "a.n": 2}) == value


@pytest.mark.parametrize(
    "text", ["1 +", "a b", "'x", "env('HOME')", "__import__('os')", "a.b(1)", "filter([1], {# > 1})", "1 ? 2", "[1"]
)
def test_expressions_that_are_wrong_or_not_understood_are_refused_when_parsed(text: str) -> None:
    with pytest.raises(ExpressionError, match="expression"):
        expressions.parse(text)


@pytest.mark.parametrize(
    "text", ["asInt('x')", "1 + 'a'", "'a' && true", "jsonpath('{', '$')", "jsonpath('{}', '$.a')", "nil.x", "1 / 0"]
)
def test_expressions_that_cannot_be_computed_say_why(text: str) -> None:
    with pytest.raises(ExpressionError, match="expression"):
        expressions.parse(text).evaluate({})


def test_durations_and_amounts() -> None:
    assert [duration(text) for text in ("10", "10s", "2m", "1h30m", "1.5s")] == [10, 10, 120, 5400, 1.5]
    container = {"image": "i", "resources": {"requests": {"cpu": "1.5", "memory": "1Gi"}}}
    amounts = requested(parse(models.Container, container, "here"))
    assert (amounts.cpu, amounts.memory) == (1500, 1024)
    for text in ("", "x", "10 s", "-1s"):
        with pytest.raises(EmbeddedError, match="duration"):
            duration(text)
    with pytest.raises(DefinitionError, match=r"requests.cpu is 'lots', not a quantity: write it like 500m or 2"):
        parse(models.Container, {"image": "i", "resources": {"requests": {"cpu": "lots"}}}, "here")
