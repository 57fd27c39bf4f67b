"""The command's Argo engine on the running platform: what a person is told of a workflow, and what outlives what."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from mlops.engines.argo import ArgoEngine
from mlops.engines.base import EngineError, Run, Step, reason
from mlops.engines.embedded import platform
from tests.embedded.conftest import Engine, alive, eventually

BUCKET = "artifacts"


@pytest.fixture(scope="module")
def argo(engine: Engine) -> ArgoEngine:
    """Argo Server's API of the shared platform."""
    platform.up(engine.state, [BUCKET], checkout=engine.checkout, feed=False)
    platform.artifacts_in(engine.platform, BUCKET)
    return ArgoEngine(engine.platform.argo_address, "ns")


def definition(image: str, name: str, *templates: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A WorkflowTemplate; a template that is `{"sh": script}` is a container."""
    made = []
    for template in templates:
        rest, script = {key: value for key, value in template.items() if key != "sh"}, template.get("sh")
        shell = {"container": {"image": image, "command": ["sh", "-c"], "args": [script]}}
        made.append({**rest, **(shell if script else {})})
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"entrypoint": made[0]["name"], "templates": made, **spec},
    }


def last(runs: Iterator[Run]) -> Run:
    """How it ended."""
    return list(runs)[-1]


def steps(run: Run) -> dict[str, Step]:
    """Steps by name."""
    return {step.name: step for execution in run.executions for step in execution.steps}


def test_a_workflow_is_a_run_whose_steps_stand_in_the_order_of_their_start(
    engine: Engine, argo: ArgoEngine, toy: str
) -> None:
    tasks = [
        {"name": "loop", "template": "turn", "withItems": ["a", "b"], "arguments": parameter("{{item}}")},
        {"name": "zero", "template": "flaky", "dependencies": ["loop"]},
    ]
    platform.register_definition(
        engine.platform,
        definition(
            toy,
            "many",
            {"name": "main", "dag": {"tasks": tasks}},
            {"name": "turn", "inputs": {"parameters": [{"name": "p"}]}, "sh": "echo turn {{inputs.parameters.p}}"},
            {
                "name": "flaky",
                "sh": "echo tried {{retries}}; echo said {{retries}} >&2; exit $((7 * (1 - {{retries}})))",
                "retryStrategy": {"limit": "2"},
            },
            arguments={"parameters": [{"name": "model"}, {"name": "model_version", "value": "1"}]},
            serviceAccountName="nobody",
        ),
    )
    run = last(argo.wait([argo.submit("many", {"model": "m", "model_version": "3"}, None)]))
    assert (run.status, run.pipeline, run.finished) == ("complete", "many", True)
    assert run.parameters == {"model": "m", "model_version": "3"}
    assert any("serviceAccountName" in note for note in run.notes)
    (execution,) = run.executions
    assert execution.version_id == f"m_v3_{execution.id}"
    names = [step.name for step in execution.steps]
    assert sorted(names[:2]) == ["loop(0:a)", "loop(1:b)"]
    assert names[2:] == ["zero"]
    found = steps(run)
    assert [found[name].restarts for name in names] == [0, 0, 1]
    assert [found[name].exit_code for name in names] == [0, 0, 0]
    assert all(step.state == "dead" and not step.failed for step in execution.steps)
    assert found["zero"].memory_mb == 128
    assert (found["zero"].peak_memory_mb or 0) > 0.1
    # Of several attempts the last; another client, which has not seen the run, reads the same.
    for client in (argo, ArgoEngine(engine.platform.argo_address, "ns")):
        assert "".join(client.logs(execution.id, "zero", "stdout", follow=False)) == "tried 1\n"
        assert "".join(client.logs(execution.id, "zero", "stderr", follow=True)) == "said 1\n"
        assert "".join(client.logs(execution.id, "loop(1:b)", "stdout", follow=False)) == "turn b\n"
    listed = next(each for each in argo.runs() if each.id == run.id)
    assert (listed.status, listed.executions, listed.created) == ("complete", (), run.created)


def parameter(value: str) -> dict[str, Any]:
    """Arguments with the one parameter `p`."""
    return {"parameters": [{"name": "p", "value": value}]}


def test_a_failure_is_told_with_its_reason_and_its_exit_code(engine: Engine, argo: ArgoEngine, toy: str) -> None:
    given = {"name": "given", "path": "/in", "gcs": {"key": "not/there"}}
    templates = [
        {"name": "says-no", "sh": "echo why it does not >&2; exit 2"},
        {"name": "lacks", "sh": "true", "inputs": {"artifacts": [given]}},
        {"name": "slow", "sh": "echo working >&2; sleep 60", "activeDeadlineSeconds": 1},
    ]
    told = {}
    for template in templates:
        platform.register_definition(engine.platform, definition(toy, template["name"], template))
        run = last(argo.wait([argo.submit(template["name"], {}, None)]))
        assert run.status == "failed"
        assert run.failed_step is not None
        execution, step = run.failed_step
        assert execution.version_id is None
        told[template["name"]] = (step.exit_code, reason(argo, execution, step))
    assert told["says-no"] == (2, "why it does not")
    assert told["lacks"] == (None, "input artifact given: there is nothing at not/there in the bucket")
    assert told["slow"] == (None, "ran longer than its activeDeadlineSeconds (1)")


def test_a_memoised_step_is_a_step_that_names_its_source(engine: Engine, argo: ArgoEngine, toy: str) -> None:
    memoised = {"key": "same", "cache": {"configMap": {"name": "c"}}}
    tasks = [{"name": "once", "template": "inner"}, {"name": "main", "template": "work"}]
    inner = {"name": "inner", "memoize": memoised, "dag": {"tasks": [{"name": "main", "template": "work"}]}}
    platform.register_definition(
        engine.platform,
        definition(toy, "memo", {"name": "all", "dag": {"tasks": tasks}}, inner, {"name": "work", "sh": "echo done"}),
    )
    first, second = (last(argo.wait([argo.submit("memo", {}, None)])) for _ in range(2))
    assert sorted(steps(first)) == ["main", "once.main"]  # two steps of one name
    assert sorted(steps(second)) == ["main", "once"]
    assert steps(second)["once"].message == f"memoised: made by workflow {first.id}"
    assert "".join(argo.logs(second.executions[0].id, "once", "stdout", follow=False)) == ""


def test_a_token_starts_nothing_twice(engine: Engine, argo: ArgoEngine, toy: str) -> None:
    given = {"parameters": [{"name": "p", "value": "1"}]}
    platform.register_definition(
        engine.platform, definition(toy, "once-only", {"name": "main", "sh": "true"}, arguments=given)
    )
    first = argo.submit("once-only", {"p": "1"}, "token")
    assert argo.submit("once-only", {"p": "1"}, "token") == first
    assert argo.submit("once-only", {"p": "2"}, "token") == first
    assert argo.submit("once-only", {"p": "1"}, "another") != first
    assert argo.status(first).parameters == {"p": "1"}


def test_a_run_is_stopped_and_its_exit_handler_runs(engine: Engine, argo: ArgoEngine, toy: str) -> None:
    platform.register_definition(
        engine.platform,
        definition(
            toy,
            "long",
            {"name": "main", "sh": "echo began; sleep 600"},
            {"name": "bye", "sh": "echo bye"},
            onExit="bye",
        ),
    )
    run_id = argo.submit("long", {}, None)
    eventually(lambda: any(step.state == "running" for step in steps(argo.status(run_id)).values()), "it runs")
    argo.stop(run_id)
    run = last(argo.wait([run_id]))
    assert run.status == "stopped"
    assert "Stopped" in run.message
    uid = run.executions[0].id
    assert [step.failed for step in run.executions[0].steps] == [True, False]
    assert "".join(argo.logs(uid, run.executions[0].steps[1].name, "stdout", follow=False)) == "bye\n"
    with pytest.raises(EngineError, match=r"^workflow long-\S+ has ended already: Failed$"):
        argo.stop(run_id)


def test_what_the_engine_refuses_is_one_line(engine: Engine, argo: ArgoEngine, toy: str) -> None:
    with pytest.raises(platform.PlatformError, match=r"^WorkflowTemplate odd: spec.suspend is not executed by"):
        platform.register_definition(
            engine.platform, definition(toy, "odd", {"name": "main", "sh": "true"}, suspend=True)
        )
    with pytest.raises(EngineError, match=r"^there is no WorkflowTemplate none; registered are "):
        argo.submit("none", {}, None)
    with pytest.raises(EngineError, match=r"^there is no workflow none$"):
        argo.status("none")
    with pytest.raises(EngineError, match=r"^Argo Server at http://127.0.0.1:9 does not answer .*ARGO_SERVER"):
        ArgoEngine("http://127.0.0.1:9", "ns").runs()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_workflow_is_lost_with_its_engine_and_templates_stay(own: Engine, toy: str, number: int) -> None:
    slow = {"name": "main", "sh": "echo $$; exec sleep 600"}
    platform.register_definition(own.platform, definition(toy, "slow", slow))
    argo = ArgoEngine(own.platform.argo_address, "ns")
    run_id = argo.submit("slow", {}, None)
    eventually(lambda: any(step.state == "running" for step in steps(argo.status(run_id)).values()), "it runs")
    uid = argo.status(run_id).executions[0].id
    (name,) = steps(argo.status(run_id))
    pid = int(eventually(lambda: "".join(argo.logs(uid, name, "stdout", follow=False)).strip(), "its process id"))
    os.kill(own.platform.pid, number)
    eventually(lambda: not alive(own.platform.pid) and not alive(pid), "nothing of it runs")

    own.platform = platform.up(own.state, checkout=own.checkout, feed=False)
    argo = ArgoEngine(own.platform.argo_address, "ns")
    run = argo.status(run_id)
    assert (run.status, run.finished) == ("lost", True)
    assert run.message.startswith("lost: ")
    again = argo.submit("slow", {}, None)
    assert argo.status(again).pipeline == "slow"
