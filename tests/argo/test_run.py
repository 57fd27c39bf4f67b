"""Argo's rules, one by one, as the embedded engine runs WorkflowTemplates: real processes and a real bucket."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mlops.engines.embedded.argo.workflows import ExistsError
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.scheduler import Resources
from tests.argo.conftest import BUCKET, IMAGE, Engine, engine, node_of, phases, sh, template


def dag(name: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "dag": {"tasks": list(tasks), **more.pop("dag", {})}, **more}


def task(name: str, uses: str | None = None, after: list[str] | None = None, **more: Any) -> dict[str, Any]:
    waits = {"dependencies": after} if after else {}
    parameters = more.pop("parameters", None)
    arguments = (
        {"arguments": {"parameters": [{"name": k, "value": v} for k, v in parameters.items()]}} if parameters else {}
    )
    return {"name": name, "template": uses or name, **waits, **arguments, **more}


def takes(*names: str) -> dict[str, Any]:
    return {"parameters": [{"name": name} for name in names]}


def gives(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"parameters": [{"name": name, "valueFrom": {"path": path, **more}}]}


OUT = {"volumes": [{"name": "out", "emptyDir": {}}]}
MOUNT = {"volumeMounts": [{"name": "out", "mountPath": "/out"}]}


def test_values_go_from_task_to_task_and_stay_data(on_engine) -> None:
    hostile = 'it\'s "x" $(touch /tmp/x); {{workflow.uid}}\\n'

    async def work(here: Engine) -> dict[str, Any]:
        text = template(
            "values",
            dag(
                "main",
                task("make", parameters={"word": "{{workflow.parameters.word}}"}),
                task("show", after=["make"], parameters={"got": "{{tasks.make.outputs.parameters.made}}"}),
            ),
            sh(
                "make",
                'printf "%s" "$WORD" > "$WHERE"',
                inputs=takes("word"),
                outputs=gives("made", "/out/made"),
                **OUT,
                container={
                    "env": [
                        {"name": "WORD", "value": "{{inputs.parameters.word}}"},
                        {"name": "WHERE", "value": "/out/made"},
                    ],
                    **MOUNT,
                },
            ),
            sh(
                "show",
                'printf "%s" "$1"',
                inputs=takes("got"),
                container={"args": ['printf "%s" "$1"', "-", "{{inputs.parameters.got}}"]},
            ),
            arguments={"parameters": [{"name": "word"}]},
        )
        workflow = await here.run(text, word=hostile)
        assert workflow["status"]["phase"] == "Succeeded", workflow["status"]
        return {"said": here.said(workflow, "show"), "image": node_of(workflow, "make")}

    # A tag inside a value is data: it is never filled in again on its way.
    assert on_engine(work)["said"] == hostile


def test_artifacts_pass_through_the_bucket_as_files_and_folders(on_engine) -> None:
    async def work(here: Engine) -> None:
        none = {"archive": {"none": {}}}
        text = template(
            "files",
            dag(
                "main",
                task("make"),
                task(
                    "read",
                    after=["make"],
                    arguments={
                        "artifacts": [
                            {"name": "tree", "from": "{{tasks.make.outputs.artifacts.tree}}"},
                            {"name": "word", "raw": {"data": "raw"}},
                        ]
                    },
                ),
            ),
            sh(
                "make",
                'mkdir -p "$0/deep" && echo one > "$0/a" && echo two > "$0/deep/b" && echo f > "$1"',
                container={
                    "args": [
                        'mkdir -p "$0/deep" && echo one > "$0/a" && echo two > "$0/deep/b" && echo f > "$1"',
                        "/out/tree",
                        "/out/file",
                    ],
                    **MOUNT,
                },
                **OUT,
                outputs={
                    "artifacts": [
                        {"name": "tree", "path": "/out/tree", "gcs": {"key": "runs/{{workflow.uid}}/tree/"}, **none},
                        {"name": "file", "path": "/out/file", "gcs": {"key": "runs/{{workflow.uid}}/file"}, **none},
                    ]
                },
            ),
            sh(
                "read",
                "",
                container={"args": ['cat "$0/a" "$0/deep/b" "$1" "$2"', "/in/tree", "/in/word", "/in/again"]},
                inputs={
                    "artifacts": [
                        {"name": "tree", "path": "/in/tree"},
                        {"name": "word", "path": "/in/word"},
                        {"name": "again", "path": "/in/again", "gcs": {"key": "runs/{{workflow.uid}}/file"}},
                        {"name": "none", "path": "/in/none", "gcs": {"key": "nowhere"}, "optional": True},
                    ]
                },
            ),
        )
        workflow = await here.run(text)
        assert workflow["status"]["phase"] == "Succeeded", workflow["status"]["message"]
        assert here.said(workflow, "read") == "one\ntwo\nrawf\n"
        uid = workflow["metadata"]["uid"]
        names = await asyncio.to_thread(lambda: sorted(blob.name for blob in here.bucket().list_blobs()))
        assert names == [f"runs/{uid}/{name}" for name in ("file", "tree/a", "tree/deep/b")]

    on_engine(work)


def test_a_missing_artifact_or_output_is_an_error_that_names_it(on_engine) -> None:
    async def work(here: Engine) -> None:
        lacks = {"artifacts": [{"name": "data", "path": "/in/data", "gcs": {"key": "never/was"}}]}
        workflow = await here.run(template("lacks", sh("main", "echo ran", inputs=lacks)), "lacks")
        assert workflow["status"]["phase"] == "Error"
        assert "input artifact data" in workflow["status"]["message"]
        assert "never/was" in workflow["status"]["message"]
        workflow = await here.run(template("forgets", sh("main", "true", outputs=gives("x", "/out/x"))), "forgets")
        assert workflow["status"]["phase"] == "Error"
        assert "did not write /out/x" in workflow["status"]["message"]
        defaulted = gives("x", "/out/x", default="d")
        workflow = await here.run(template("defaults", sh("main", "true", outputs=defaulted)), "defaults")
        assert node_of(workflow, "defaults")["outputs"]["parameters"] == [{"name": "x", "value": "d"}]

    on_engine(work)


def test_loops_fan_out_and_their_outputs_come_back_as_a_list(on_engine) -> None:
    async def work(here: Engine) -> None:
        square = sh(
            "square",
            "",
            inputs=takes("n"),
            outputs=gives("squared", "/out/s"),
            **OUT,
            container={"args": ['echo $(($1 * $1)) > "$0"', "/out/s", "{{inputs.parameters.n}}"], **MOUNT},
        )
        show = sh("show", "", inputs=takes("list"), container={"args": ['echo "$0"', "{{inputs.parameters.list}}"]})
        text = template(
            "loops",
            dag(
                "main",
                task(
                    "count",
                    "square",
                    withSequence={"start": "1", "count": "{{workflow.parameters.count}}"},
                    parameters={"n": "{{item}}"},
                ),
                task("items", "square", withItems=[{"v": 5}, {"v": 6}], parameters={"n": "{{item.v}}"}),
                task(
                    "again",
                    "square",
                    after=["count"],
                    withParam="{{tasks.count.outputs.parameters.squared}}",
                    parameters={"n": "{{item}}"},
                ),
                task("none", "square", withParam="[]", parameters={"n": "{{item}}"}),
                task(
                    "show",
                    after=["count", "items", "none"],
                    parameters={"list": "{{tasks.count.outputs.parameters.squared}}"},
                ),
                task(
                    "last",
                    "show",
                    after=["again"],
                    parameters={"list": "{{=jsonpath(tasks.again.outputs.parameters.squared, '$[2]')}}"},
                ),
            ),
            square,
            show,
            arguments={"parameters": [{"name": "count", "value": "3"}]},
        )
        workflow = await here.run(text)
        assert workflow["status"]["phase"] == "Succeeded", workflow["status"]
        assert here.said(workflow, "show") == '["1","4","9"]\n'
        assert here.said(workflow, "last") == "81\n"
        found = phases(workflow)
        assert {"count(0:1)", "count(2:3)", "items(1:v:6)"} <= set(found)
        assert found["none"] == "Skipped"

    on_engine(work)


@pytest.mark.whole
def test_independent_tasks_run_side_by_side_as_far_as_the_machine_allows(on_engine) -> None:
    # Each waits for the other's file: they end only if they run at the same time.
    meet = 'touch "$0/$1"; while [ ! -e "$0/$2" ]; do sleep 0.02; done'

    def text(folder: Path, memory: str) -> str:
        requests = {"resources": {"requests": {"cpu": "100m", "memory": memory}}}
        return template(
            "meet",
            dag(
                "main",
                task("a", "meet", parameters={"own": "a", "other": "b"}),
                task("b", "meet", parameters={"own": "b", "other": "a"}),
            ),
            sh(
                "meet",
                "",
                inputs=takes("own", "other"),
                activeDeadlineSeconds=5,
                container={
                    "args": [meet, str(folder), "{{inputs.parameters.own}}", "{{inputs.parameters.other}}"],
                    **requests,
                },
            ),
        )

    async def work(here: Engine) -> None:
        fits, tight = here.machine.state / "fits", here.machine.state / "tight"
        fits.mkdir()
        tight.mkdir()
        assert (await here.run(text(fits, "1Gi"), "fits"))["status"]["phase"] == "Succeeded"
        workflow = await here.run(text(tight, "3Gi"), "tight")
        assert workflow["status"]["phase"] == "Failed"
        assert "activeDeadlineSeconds (5)" in workflow["status"]["message"]
        workflow = await here.run(text(tight, "5Gi"), "never")
        assert workflow["status"]["phase"] == "Error"
        assert "5120 MiB" in workflow["status"]["message"]

    on_engine(work, capacity=Resources(2000, 4096))


def test_when_skips_and_a_skipped_output_is_absent_unless_it_has_a_default(on_engine) -> None:
    async def work(here: Engine) -> None:
        def text(producer: dict[str, Any], value: str, consumer: dict[str, Any]) -> str:
            return template(
                "skips",
                dag(
                    "main",
                    task("maybe", when="'{{workflow.parameters.go}}' == 'yes'"),
                    task("use", after=["maybe"], parameters={"v": value}),
                ),
                sh(
                    "maybe",
                    'echo made > "$0"',
                    outputs=producer,
                    container={"args": ['echo made > "$0"', "/out/v"], **MOUNT},
                    **OUT,
                ),
                sh(
                    "use",
                    "",
                    inputs={"parameters": [consumer]},
                    container={"args": ['echo "got $0"', "{{inputs.parameters.v}}"]},
                ),
                arguments={"parameters": [{"name": "go", "value": "no"}]},
            )

        plain, tag = {"name": "v"}, "{{tasks.maybe.outputs.parameters.v}}"
        cases = {
            "ran": (text(gives("v", "/out/v"), tag, plain), "yes", "made"),
            "producer-default": (text(gives("v", "/out/v", default="p"), tag, plain), "no", "p"),
            "consumer-default": (text(gives("v", "/out/v"), tag, {"name": "v", "value": "c"}), "no", "c"),
            "coalesce": (text(gives("v", "/out/v"), "{{=tasks.maybe.outputs.parameters.v ?? 'e'}}", plain), "no", "e"),
        }
        for name, (definition, go, expected) in cases.items():
            workflow = await here.run(definition, name, go=go)
            assert workflow["status"]["phase"] == "Succeeded", (name, workflow["status"])
            assert here.said(workflow, "use") == f"got {expected}\n", name
            assert phases(workflow)["maybe"] == ("Succeeded" if go == "yes" else "Skipped")
        workflow = await here.run(text(gives("v", "/out/v"), tag, plain), "absent", go="no")
        assert workflow["status"]["phase"] == "Error"
        assert "has no value" in node_of(workflow, "use")["message"]

    on_engine(work)


def test_where_not_all_fit_the_longest_way_goes_first_however_deep_it_lies(on_engine) -> None:
    """On one core, with the short way listed first: what is listed, or asks, first would go first otherwise."""

    def task(name: str, *after: str) -> dict[str, Any]:
        return {"name": name, "template": name, "dependencies": list(after)}

    def noted(name: str) -> dict[str, Any]:
        args = ['echo "$1" >> "$0"', "{{workflow.parameters.order}}", name]
        return sh(name, "", container={"args": args, "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}})

    async def work(here: Engine) -> None:
        order = here.machine.state / "order"
        text = template(
            "ways",
            dag("main", task("short"), task("inner"), task("end", "short", "inner")),
            dag("inner", task("deep")),
            dag("deep", task("one"), task("two", "one"), task("three", "two")),
            *map(noted, ("short", "one", "two", "three", "end")),
            arguments={"parameters": [{"name": "order", "value": str(order)}]},
        )
        assert (await here.run(text))["status"]["phase"] == "Succeeded"
        # `three` and `short` have as far to go, and `short` asked before.
        assert order.read_text().split() == ["one", "two", "short", "three", "end"]

    on_engine(work, capacity=Resources(1000, 1000))


COUNTED = 'echo x >> "$0"; n=$(wc -l < "$0"); echo "said in attempt $n" >&2; [ "$n" -ge {succeeds} ] || exit {code}'


@pytest.mark.parametrize(
    ("strategy", "code", "succeeds", "attempts", "phase", "reason"),
    [
        ({"limit": "2"}, 1, 3, 3, "Succeeded", ""),
        ({"limit": "1"}, 1, 3, 2, "Failed", "No more retries left"),
        (
            {"limit": "5", "expression": "asInt(lastRetry.exitCode) != 2"},
            2,
            3,
            1,
            "Failed",
            "expression evaluated to false",
        ),
        ({"limit": "5", "expression": "asInt(lastRetry.exitCode) != 2"}, 7, 3, 3, "Succeeded", ""),
        ({"limit": "5", "retryPolicy": "OnError"}, 1, 3, 1, "Failed", "retryPolicy OnError"),
        (
            {"limit": "9", "backoff": {"duration": "1s", "factor": "10", "maxDuration": "3s"}},
            1,
            9,
            2,
            "Failed",
            "max duration",
        ),
    ],
)
def test_retries_by_kind_of_failure(on_engine, strategy, code, succeeds, attempts, phase, reason) -> None:
    async def work(here: Engine) -> None:
        count = here.machine.state / "count"
        script = COUNTED.format(succeeds=succeeds, code=code)
        workflow = await here.run(
            template("again", sh("main", "", retryStrategy=strategy, container={"args": [script, str(count)]}))
        )
        assert workflow["status"]["phase"] == phase
        assert len(count.read_text().splitlines()) == attempts
        assert reason in workflow["status"]["message"]
        if phase == "Failed":
            assert f"exit code {code}: said in attempt {attempts}" in workflow["status"]["message"]
        root = node_of(workflow, "run")
        assert root["type"] == "Retry"
        assert len(root["children"]) == attempts

    on_engine(work)


def test_the_exit_handler_runs_whatever_happened_and_knows_it(on_engine) -> None:
    async def work(here: Engine) -> None:
        bye = sh(
            "bye", "", container={"args": ['echo "$0"; echo "$1"', "{{workflow.status}}", "{{workflow.failures}}"]}
        )
        text = template("ends", sh("main", "echo no >&2; exit 3"), bye, onExit="bye")
        workflow = await here.run(text, "bad")
        assert workflow["status"]["phase"] == "Failed"
        status, failures = here.said(workflow, "onExit").splitlines()
        assert status == "Failed"
        # Quoted once more, as Argo does.
        assert json.loads(json.loads(failures))[0]["message"] == "exit code 3: no"
        workflow = await here.run(template("fine", sh("main", "true"), bye, onExit="bye"), "good")
        assert workflow["status"]["phase"] == "Succeeded"
        assert here.said(workflow, "onExit").splitlines()[0] == "Succeeded"
        broken = sh("bye", "exit 4")
        workflow = await here.run(template("fails", sh("main", "true"), broken, onExit="bye"), "exit-fails")
        assert workflow["status"]["phase"] == "Failed"
        assert "exit handler" in workflow["status"]["message"]

    on_engine(work)


def test_deadlines_and_stopping_end_processes_and_still_run_the_exit_handler(on_engine) -> None:
    async def work(here: Engine) -> None:
        def text(**spec: Any) -> str:
            bye = sh("bye", "", container={"args": ['echo "$0"', "{{workflow.status}}"]})
            return template(
                "slow", dag("main", task("slow")), sh("slow", "echo on; sleep 60"), bye, onExit="bye", **spec
            )

        workflow = await here.run(text(activeDeadlineSeconds=1), "late")
        assert workflow["status"]["phase"] == "Failed"
        assert "activeDeadlineSeconds (1)" in workflow["status"]["message"]
        assert here.said(workflow, "onExit") == "Failed\n"

        here.workflows.register(json.loads(text()))
        for name, terminate in (("stopped", False), ("terminated", True)):
            wanted = {"metadata": {"name": name}, "spec": {"workflowTemplateRef": {"name": "slow"}}}
            body = here.workflows.submit(wanted)
            while phases(body).get("slow") != "Running":  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
            here.workflows.stop(name, terminate=terminate)
            workflow = await here.workflows.wait(name)
            assert workflow["status"]["phase"] == "Failed"
            assert "Stopped with strategy" in workflow["status"]["message"]
            assert ("onExit" in phases(workflow)) is not terminate
            assert here.machine.scheduler._free == here.machine.scheduler.capacity
        with pytest.raises(EmbeddedError, match="has ended already"):
            here.workflows.stop("stopped")

    on_engine(work)


def test_a_failed_task_omits_its_dependents_and_dag_phases_are_argos(on_engine) -> None:
    async def work(here: Engine) -> None:
        ok, bad = sh("ok", "true"), sh("bad", "exit 1")
        cases: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str, dict[str, str | None]]] = {
            "omitted": (
                [task("a", "bad"), task("b", "ok", ["a"]), task("c", "ok", ["b"])],
                {},
                "Failed",
                {"a": "Failed", "b": "Omitted", "c": "Omitted"},
            ),
            "handled": ([task("a", "bad"), task("b", "ok", depends="a.Failed")], {}, "Succeeded", {"b": "Succeeded"}),
            "either": (
                [task("a-x", "bad"), task("b", "ok"), task("c", "ok", depends="(a-x.Succeeded || b) && !a-x.Errored")],
                {},
                "Succeeded",
                {"c": "Succeeded"},
            ),
            "continues": (
                [task("a", "bad", continueOn={"failed": True}), task("b", "ok", ["a"])],
                {},
                "Succeeded",
                {"b": "Succeeded"},
            ),
            "leaf-continues": ([task("a", "bad", continueOn={"failed": True})], {}, "Succeeded", {"a": "Failed"}),
            "no-fail-fast": (
                [task("a", "bad"), task("s", "slow"), task("t", "ok", ["s"])],
                {"failFast": False},
                "Failed",
                {"t": "Succeeded"},
            ),
            "fail-fast": (
                [task("a", "bad"), task("s", "slow"), task("t", "ok", ["s"])],
                {},
                "Failed",
                {"s": "Succeeded", "t": None},
            ),
        }
        for name, (tasks, more, phase, expected) in cases.items():
            text = template(name, dag("main", *tasks, dag=more), ok, bad, sh("slow", "sleep 0.3"))
            workflow = await here.run(text, name)
            assert workflow["status"]["phase"] == phase, (name, phases(workflow))
            assert {key: phases(workflow).get(key) for key in expected} == expected, name
        assert "a: exit code 1" in here.workflows.get("omitted")["status"]["message"]

    on_engine(work)


def test_of_a_loop_that_fails_in_one_turn_the_others_go_on_and_what_waits_for_all_is_omitted(on_engine) -> None:
    """One of several trials: the others' work is not lost while they are at it, and the one is told by its number."""

    async def work(here: Engine) -> None:
        done = here.machine.state / "done"
        done.mkdir()
        script = 'test "$0" != 1 || { echo "turn $0 says no" >&2; exit 2; }; sleep 0.3; touch "$1/$0"'
        turn = sh(
            "turn",
            "",
            inputs=takes("n"),
            retryStrategy={"limit": "2", "expression": "asInt(lastRetry.exitCode) != 2"},
            container={"args": [script, "{{inputs.parameters.n}}", str(done)]},
        )
        loop = task("turns", "turn", withSequence={"start": "0", "count": "3"}, parameters={"n": "{{item}}"})
        workflow = await here.run(
            template("one", dag("main", loop, task("all", "ok", ["turns"])), turn, sh("ok", "true"))
        )
        assert workflow["status"]["phase"] == "Failed"
        assert workflow["status"]["message"].startswith("turns: turns(1:1): exit code 2: turn 1 says no")
        assert sorted(path.name for path in done.iterdir()) == ["0", "2"]
        found = phases(workflow)
        assert [found[f"turns({n}:{n})"] for n in range(3)] == ["Succeeded", "Failed", "Succeeded"]
        assert found["all"] == "Omitted"

    on_engine(work)


def test_steps_run_group_after_group(on_engine) -> None:
    async def work(here: Engine) -> None:
        say = sh(
            "say", "", inputs=takes("what"), container={"args": ['printf "%s" "$0"', "{{inputs.parameters.what}}"]}
        )
        steps = {
            "name": "main",
            "steps": [
                [task("a", "say", parameters={"what": "1"}), task("b", "say", parameters={"what": "2"})],
                [
                    task(
                        "c",
                        "say",
                        parameters={"what": "{{steps.a.outputs.result}}{{steps.b.outputs.result}}"},
                        when="{{steps.a.outputs.result}} == 1",
                    )
                ],
            ],
            "outputs": {"parameters": [{"name": "all", "valueFrom": {"expression": "steps.c.outputs.result + '!'"}}]},
        }
        workflow = await here.run(template("groups", steps, say))
        assert workflow["status"]["phase"] == "Succeeded", workflow["status"]
        assert node_of(workflow, "run")["outputs"]["parameters"] == [{"name": "all", "value": "12!"}]

    on_engine(work)


def test_template_references_resolve_in_the_referenced_template_as_it_was_at_submission(on_engine) -> None:
    async def work(here: Engine) -> None:
        def library(word: str) -> str:
            inner = sh(
                "inner",
                "",
                container={"args": ['echo "$0" > "$1"', word, "/out/w"], **MOUNT},
                outputs=gives("w", "/out/w"),
                **OUT,
            )
            outputs = {
                "parameters": [{"name": "w", "valueFrom": {"parameter": "{{tasks.inner.outputs.parameters.w}}"}}]
            }
            return template("library", dag("entry", task("inner"), outputs=outputs), inner)

        caller = template(
            "caller",
            dag(
                "main",
                task("wait"),
                {"name": "call", "templateRef": {"name": "library", "template": "entry"}, "dependencies": ["wait"]},
            ),
            sh("wait", f"until [ -e {here.machine.state}/go ]; do sleep 0.02; done"),
            # The same name as one in the library: each stays in its own scope.
            sh("inner", "exit 9"),
        )
        with pytest.raises(EmbeddedError, match="no WorkflowTemplate library"):
            await here.run(caller)
        here.workflows.register(json.loads(library("before")))
        here.workflows.register(json.loads(caller))
        here.workflows.submit({"metadata": {"name": "run"}, "spec": {"workflowTemplateRef": {"name": "caller"}}})
        here.workflows.register(json.loads(library("after")))
        (here.machine.state / "go").touch()
        workflow = await here.workflows.wait("run")
        assert node_of(workflow, "call")["outputs"]["parameters"] == [{"name": "w", "value": "before"}]

    on_engine(work)


def test_memoised_results_are_found_again_by_key_and_name_their_source(on_engine) -> None:
    async def work(here: Engine) -> None:
        def text(max_age: str = "1h") -> str:
            salt = "inputs.parameters.memoise == 'true' ? '' : workflow.uid"
            key = f"{{{{=sprig.sha256sum(toJson([inputs.parameters.v, {salt}]))}}}}"
            memoize = {"key": key, "maxAge": max_age, "cache": {"configMap": {"name": "c"}}}
            outputs = {
                "parameters": [{"name": "run", "value": "{{workflow.uid}}"}],
                "artifacts": [
                    {
                        "name": "file",
                        "path": "/out/f",
                        "gcs": {"key": "runs/{{workflow.uid}}/f"},
                        "archive": {"none": {}},
                    }
                ],
            }
            make = sh(
                "make",
                "",
                inputs=takes("v", "memoise"),
                outputs=outputs,
                memoize=memoize,
                **OUT,
                container={
                    "args": [
                        'echo x >> "$0"; echo "$1" > "$2"',
                        str(here.machine.state / "count"),
                        "{{inputs.parameters.v}}",
                        "/out/f",
                    ],
                    **MOUNT,
                },
            )
            show = sh(
                "show",
                "",
                container={"args": ['cat "$0"; echo "$1"', "/in/f", "{{inputs.parameters.run}}"]},
                inputs={"artifacts": [{"name": "file", "path": "/in/f"}], **takes("run")},
            )
            call = task(
                "show",
                after=["make"],
                arguments={
                    "artifacts": [{"name": "file", "from": "{{tasks.make.outputs.artifacts.file}}"}],
                    "parameters": [{"name": "run", "value": "{{tasks.make.outputs.parameters.run}}"}],
                },
            )
            given = {name: f"{{{{workflow.parameters.{name}}}}}" for name in ("v", "memoise")}
            parameters = [{"name": "v", "value": "1"}, {"name": "memoise", "value": "true"}]
            return template(
                "memo",
                dag("main", task("make", parameters=given), call),
                make,
                show,
                arguments={"parameters": parameters},
            )

        async def runs(definition: str, name: str, **given: str) -> tuple[dict[str, Any], int]:
            workflow = await here.run(definition, name, None, **given)
            assert workflow["status"]["phase"] == "Succeeded", workflow["status"]
            return workflow, len((here.machine.state / "count").read_text().splitlines())

        first, count = await runs(text(), "first")
        assert count == 1
        again, count = await runs(text(), "again")
        assert count == 1
        node = node_of(again, "make")
        assert node["memoizationStatus"]["hit"] is True
        assert "made by workflow first" in node["message"]
        assert here.said(again, "show") == f"1\n{first['metadata']['uid']}\n"
        assert (await runs(text(), "other", v="2"))[1] == 2
        assert (await runs(text(), "fresh", memoise="false"))[1] == 3
        assert (await runs(text(), "still", v="1"))[1] == 3
        assert (await runs(text("0s"), "aged", v="1"))[1] == 4

    on_engine(work)


def test_a_failure_is_not_memoised_and_a_bad_key_is_an_error(on_engine) -> None:
    async def work(here: Engine) -> None:
        memoize = {"key": "k", "cache": {"configMap": {"name": "c"}}}
        script = COUNTED.format(succeeds=2, code=1)
        text = template(
            "memo", sh("main", "", memoize=memoize, container={"args": [script, str(here.machine.state / "count")]})
        )
        assert (await here.run(text, "one"))["status"]["phase"] == "Failed"
        assert (await here.run(text, "two"))["status"]["phase"] == "Succeeded"
        assert len((here.machine.state / "count").read_text().splitlines()) == 2
        text = template("memo", sh("main", "true", memoize={**memoize, "key": "gs://x"}))
        assert "invalid cache key" in (await here.run(text, "three"))["status"]["message"]

    on_engine(work)


@pytest.mark.whole
def test_parallelism_holds_pods_back(on_engine) -> None:
    async def work(here: Engine) -> None:
        alone = 'mkdir "$0/lock" || exit 9; sleep 0.1; rmdir "$0/lock"'
        one = sh(
            "one",
            "",
            container={
                "args": [alone, str(here.machine.state)],
                "resources": {"requests": {"cpu": "10m", "memory": "1Mi"}},
            },
        )
        loop = task("one", withItems=[1, 2, 3])
        for name, inner, outer in (("workflow", {}, {"parallelism": 1}), ("template", {"parallelism": 1}, {})):
            workflow = await here.run(template(name, dag("main", loop, **inner), one, **outer), name)
            assert workflow["status"]["phase"] == "Succeeded", name
        workflow = await here.run(template("free", dag("main", loop), one), "free")
        assert workflow["status"]["phase"] == "Failed"

    on_engine(work)


def test_commands_and_arguments_follow_kubernetes_and_the_dockerfile(on_engine) -> None:
    async def work(here: Engine) -> None:
        cases = {
            "cmd": ({}, "cmd\n"),
            "args": ({"args": ["echo args $FROM_IMAGE"]}, "args yes\n"),
            "command": ({"command": ["printf", "%s"]}, ""),
            "both": ({"command": ["printf"], "args": ["%s", "x"]}, "x"),
        }
        for name, (container, said) in cases.items():
            workflow = await here.run(
                template(name, {"name": "main", "container": {"image": IMAGE, **container}}), name
            )
            assert here.said(workflow, name) == said, name
        script = {"image": IMAGE, "command": ["python3"], "source": "print('{{workflow.name}}')"}
        workflow = await here.run(template("script", {"name": "main", "script": script}), "a-script")
        assert here.said(workflow, "a-script") == "a-script\n"
        changed = {"name": "main", "container": {"image": "test.local/small:2"}}
        assert "has changed since" in (await here.run(template("old", changed), "old"))["status"]["message"]

    on_engine(work)


def test_a_workflow_is_named_once_and_a_repeat_starts_nothing(on_engine) -> None:
    async def work(here: Engine) -> None:
        text = template("once", sh("main", "true"), arguments={"parameters": [{"name": "p", "value": "1"}]})
        first = await here.run(text, "same", p="1")
        assert (await here.run(text, "same", p="1"))["metadata"]["uid"] == first["metadata"]["uid"]
        with pytest.raises(ExistsError, match="other arguments"):
            await here.run(text, "same", p="2")
        with pytest.raises(EmbeddedError, match="no parameter q; it has p"):
            await here.run(text, "more", q="2")
        with pytest.raises(EmbeddedError, match=r"spec\.templates"):
            here.workflows.submit({"spec": {"workflowTemplateRef": {"name": "once"}, "templates": []}})
        needs = template("needs", sh("main", "true"), arguments={"parameters": [{"name": "p"}]})
        with pytest.raises(EmbeddedError, match="parameter p of needs was not given"):
            await here.run(needs, "needs")
        assert [body["metadata"]["name"] for body in here.workflows.all()] == ["same"]

    on_engine(work)


@pytest.mark.whole
def test_what_ran_when_the_engine_ended_is_lost_and_says_so(tmp_path: Path) -> None:
    async def begin() -> None:
        async with engine(tmp_path) as here:
            here.workflows.register(json.loads(template("slow", sh("main", "sleep 60"))))
            body = here.workflows.submit(
                {"metadata": {"name": "run"}, "spec": {"workflowTemplateRef": {"name": "slow"}}}
            )
            while phases(body).get("run") != "Running":  # noqa: ASYNC110 - it has no event to wait for
                await asyncio.sleep(0.01)
            # As it is on disk when the engine is killed.
            here.store.put(
                "workflow", "killed", {**body, "metadata": {**body["metadata"], "name": "killed"}}, parent="slow"
            )

    async def later() -> None:
        async with engine(tmp_path) as here:
            for name in ("run", "killed"):
                body = here.workflows.get(name)
                assert body["status"]["phase"] == "Error", name
                assert body["status"]["message"].startswith("lost"), name
                assert node_of(body, "run")["phase"] in ("Error", "Failed"), name
                assert any(each["type"] == "Lost" for each in body["status"]["conditions"]), name

    asyncio.run(begin())
    asyncio.run(later())


def test_what_means_nothing_here_is_said_once_a_run(on_engine) -> None:
    async def work(here: Engine) -> None:
        pools = {"tolerations": [{"key": "a"}], "serviceAccountName": "b"}
        workflow = await here.run(
            template(
                "pools",
                dag("main", task("one"), task("two", "one")),
                sh("one", "true", **pools),
                serviceAccountName="c",
            )
        )
        said = [each["message"] for each in workflow["status"]["conditions"] if each["type"] == "Ignored"]
        assert said == [
            "serviceAccountName: everything runs as the user who started the platform",
            "tolerations: there is one machine",
        ]
        assert workflow["status"]["phase"] == "Succeeded"

    on_engine(work)


def test_artifact_paths_of_the_bucket_cannot_leave_the_steps_folder(on_engine) -> None:
    async def work(here: Engine) -> None:
        def put() -> None:
            here.bucket().blob("tree/a").upload_from_string("fine")

        await asyncio.to_thread(put)
        assert BUCKET
        escape = {"artifacts": [{"name": "t", "path": "/in/../../x", "gcs": {"key": "tree/"}}]}
        workflow = await here.run(template("escape", sh("main", "true", inputs=escape)))
        assert "not an absolute path" in workflow["status"]["message"]

    on_engine(work)


def test_a_folder_in_the_bucket_holds_the_last_attempt_alone(on_engine) -> None:
    async def work(here: Engine) -> None:
        def text(name: str) -> str:
            artifact = {"name": "tree", "path": "/out/tree", "gcs": {"key": "tree/"}, "archive": {"none": {}}}
            args = ['mkdir -p "$0" && touch "$0/$1"', "/out/tree", name]
            make = sh("main", "", container={"args": args, **MOUNT}, outputs={"artifacts": [artifact]}, **OUT)
            return template("tree", make)

        for name in ("first", "second"):
            assert (await here.run(text(name), name))["status"]["phase"] == "Succeeded"
        names = await asyncio.to_thread(lambda: [blob.name for blob in here.bucket().list_blobs()])
        assert names == ["tree/second"]

    on_engine(work)


def test_no_step_is_told_that_a_container_confines_it(on_engine) -> None:
    """There is none, whatever its definition says: a model that it loads is then confined by namespaces."""

    async def work(here: Engine) -> None:
        said = {"env": [{"name": "MLOPS_CONFINEMENT", "value": "container"}]}
        workflow = await here.run(template("confined", sh("main", 'echo "$MLOPS_CONFINEMENT"', container=said)))
        assert here.said(workflow, "run") == "namespaces\n"

    on_engine(work)
