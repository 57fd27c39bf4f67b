"""SparkApplications on one machine: a real `spark-submit`, its restarts, and what is said when its driver dies."""

import json
from pathlib import Path
from typing import Any

import pytest

from definitions.spark import SparkApplication
from definitions.typed import DefinitionError, parse
from mlops.engines.embedded.argo import spark
from mlops.engines.embedded.errors import EmbeddedError
from tests.argo.conftest import Engine, node_of, template

SPARK = Path(__file__).parents[2] / "images" / "spark-features"
PROGRAMS = {
    "count.py": """
import os, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
session = (spark.sparkContext.master, spark.conf.get("spark.sql.session.timeZone"))
print(os.environ["FROM_IMAGE"], *session, spark.range(10).count(), sys.argv[1:])
spark.stop()
""",
    "dies.py": """
import pathlib, sys
count = pathlib.Path(sys.argv[1])
attempts = len(count.read_text()) if count.exists() else 0
count.write_text("x" * (attempts + 1))
if attempts < int(sys.argv[2]):
    # As the image's programs do: spark-submit hands on both outputs of its Python as standard output.
    from pyspark.java_gateway import launch_gateway
    launch_gateway().jvm.java.lang.System.err.println(f"no column named Purchase, in attempt {attempts + 1}")
    sys.exit(1)
""",
}


def application(program: str, *arguments: str, **spec: Any) -> dict[str, Any]:
    """A template that creates a SparkApplication."""
    manifest = {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": {"generateName": "app-", "labels": {"kind": "test"}},
        "spec": {
            "type": "Python",
            "mode": "cluster",
            "sparkVersion": "4.0.5",
            "image": "test.local/spark:1",
            "mainApplicationFile": f"local:///app/src/{program}",
            "arguments": list(arguments),
            "sparkConf": {"spark.sql.session.timeZone": "Asia/Tokyo", "spark.ui.enabled": "false"},
            "driver": {"cores": 1, "coreRequest": "700m", "memory": "512m", "serviceAccount": "spark"},
            "executor": {"cores": 1, "coreRequest": "0.6", "memory": "600m"},
            "dynamicAllocation": {"enabled": True},
            "restartPolicy": {"type": "OnFailure", "onFailureRetries": 1, "onFailureRetryInterval": 0},
            **spec,
        },
    }
    return {
        "name": "main",
        "resource": {
            "action": "create",
            "setOwnerReference": True,
            "manifest": json.dumps(manifest),
            "successCondition": "status.applicationState.state == COMPLETED",
            "failureCondition": "status.applicationState.state == FAILED",
        },
        "outputs": {
            "parameters": [
                {"name": "run", "value": "{{workflow.uid}}"},
                {"name": "state", "valueFrom": {"jsonPath": "{.status.applicationState.state}"}},
            ]
        },
    }


def image(here: Engine) -> None:
    """An image whose environment is that of images/spark-features."""
    folder = here.machine.checkout / "images" / "spark"
    (folder / "src").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\nWORKDIR /app\nENV SPARK_HOME=/opt/spark FROM_IMAGE=yes\n")
    (folder / "requirements.txt").write_bytes((SPARK / "requirements.txt").read_bytes())
    (folder / ".venv").symlink_to(SPARK / ".venv")
    for name, text in PROGRAMS.items():
        (folder / "src" / name).write_text(text)


def test_it_asks_for_its_core_requests_or_else_its_cores() -> None:
    def asked(driver: dict[str, Any], executor: dict[str, Any]) -> int:
        spec = {"image": "i", "mainApplicationFile": "local:///app/x.py", "driver": driver, "executor": executor}
        return spark.amount(parse(SparkApplication, {"kind": "SparkApplication", "spec": spec}, "here")).cpu

    assert asked({}, {}) == 1000
    assert asked({"cores": 2}, {"coreRequest": "300m"}) == 2000
    assert asked({"cores": 2, "coreRequest": "1.5"}, {"coreRequest": "300m"}) == 1500
    with pytest.raises(DefinitionError, match=r"coreRequest is 'many', not a quantity: write it like 500m or 2"):
        asked({"coreRequest": "many"}, {})


@pytest.mark.whole
def test_it_becomes_spark_submit_with_the_same_arguments_and_conf(on_engine) -> None:
    async def work(here: Engine) -> None:
        image(here)
        workflow = await here.run(template("count", application("count.py", "--x", "a b; $(c)")))
        assert workflow["status"]["phase"] == "Succeeded", workflow["status"]["message"]
        assert here.said(workflow, "run").splitlines() == ["yes local[*] Asia/Tokyo 10 ['--x', 'a b; $(c)']"]
        node = node_of(workflow, "run")
        assert {one["name"]: one["value"] for one in node["outputs"]["parameters"]} == {
            "run": workflow["metadata"]["uid"],
            "state": "COMPLETED",
        }
        assert node["requests"] == {"cpu": 700, "memory": 840}
        assert node["usage"]["peakMemoryBytes"] > 50e6

    on_engine(work)


@pytest.mark.whole
@pytest.mark.parametrize(("deaths", "phase", "attempts"), [(1, "Succeeded", 2), (9, "Failed", 2)])
def test_a_driver_that_dies_is_tried_again_as_the_policy_says(
    on_engine, deaths: int, phase: str, attempts: int
) -> None:
    async def work(here: Engine) -> None:
        image(here)
        count = here.machine.state / "count"
        workflow = await here.run(template("dies", application("dies.py", str(count), str(deaths))))
        assert workflow["status"]["phase"] == phase
        assert len(count.read_text()) == attempts
        assert node_of(workflow, "run")["sparkAttempts"] == attempts
        if phase == "Failed":
            said = workflow["status"]["message"]
            assert "is FAILED (failure condition): exit code 1 in attempt 2" in said
            assert "no column named Purchase, in attempt 2" in said
            assert "in attempt 1" not in said

    on_engine(work)


def test_what_a_manifest_may_not_say_is_an_error_before_anything_runs(on_engine) -> None:
    async def work(here: Engine) -> None:
        image(here)
        for name, spec, said in (
            ("nowhere", {"mainApplicationFile": "s3a://bucket/x.py"}, "a file of the image"),
            ("always", {"restartPolicy": {"type": "Always"}}, "restartPolicy Always"),
            ("memory", {"driver": {"memory": "lots"}}, "not like 512m"),
            ("image", {"image": None}, r"spec\.image is missing"),
            ("volumes", {"volumes": [{"name": "x"}]}, r"spec\.volumes is not executed"),
        ):
            with pytest.raises(EmbeddedError, match=said):
                await here.run(template(name, application("count.py", **spec)), name)
        text = template("missing", application("count.py", mainApplicationFile="local:///app/src/none.py"))
        workflow = await here.run(text, "missing")
        assert workflow["status"]["phase"] == "Error"
        assert "there is no src/none.py in images/spark" in workflow["status"]["message"]

    on_engine(work)


def test_last_lines_are_the_drivers_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "WARNING: Using incubator modules\n25/11/20 10:00:00 INFO SparkContext: Running\n"
        "Traceback (most recent call last):\nValueError: it broke\n"
        "25/11/20 10:00:01 INFO ShutdownHookManager: Deleting directory /tmp/x\n"
    )
    assert spark.last_lines(log) == "Traceback (most recent call last): | ValueError: it broke"
    assert spark.last_lines(tmp_path / "none") == ""
