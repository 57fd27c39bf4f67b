"""What is told of a Spark that failed: the cause that stands in its driver's log, however the driver ended."""

import json
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

SRC = Path(__file__).parent.parent / "src"
sys.path.insert(0, str(SRC))

import driver_logs  # noqa: E402  # pyright: ignore[reportMissingImports] - the image's own

STEP = "hybrid-mlops/step"
# As Spark 4.0 on Kubernetes prints it; shortened.
LOG = """\
+ exec /usr/bin/tini -s -- /opt/spark/bin/spark-submit --deploy-mode client local:///app/src/transform.py
26/11/30 18:00:01 INFO SparkContext: Running Spark version 4.0.5
transform: gs://data/raw/areas.csv: no such file; push the raw data first
26/11/30 18:00:09 INFO ShutdownHookManager: Shutdown hook called
"""
TRACE = """\
26/11/30 18:00:01 WARN NativeCodeLoader: Unable to load native-hadoop library
Exception in thread "main" java.lang.IllegalArgumentException: basedir must be absolute: ?/.ivy2.5.2/local
\tat org.apache.ivy.util.Checks.checkAbsolute(Checks.java:48)
"""


def pod(app, container=None, phase="Failed", log: str | None = LOG, **status):
    state = {"containerStatuses": [{"state": container}]} if container else {}
    labels = {"sparkoperator.k8s.io/app-name": app}
    return {
        "metadata": {"name": f"{app}-driver", "labels": labels},
        "spec": {"containers": [{"name": "spark-kubernetes-driver"}]},
        "status": {"phase": phase, **state, **status},
        "log": log,
    }


def cluster(pods, state="FAILED", error=None, app="transform-abc"):
    """Answer as the API server does."""
    application = {
        "metadata": {"name": app, "labels": {STEP: "transform"}},
        "spec": {"mainApplicationFile": "local:///app/src/transform.py"},
        "status": {"applicationState": {"state": state, **({"errorMessage": error} if error else {})}},
    }

    def get(path):
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        if parts.path.endswith("/log"):
            (found,) = [one for one in pods if f"/{one['metadata']['name']}/log" in parts.path]
            assert query["container"] == ["spark-kubernetes-driver"]
            if found["log"] is None:
                raise urllib.error.HTTPError(path, 400, "Bad Request", Message(), None)
            return found["log"].encode()
        if parts.path.endswith("/sparkapplications"):
            assert query["labelSelector"] == ["run=u"]
            return json.dumps({"items": [application]}).encode()
        assert query["labelSelector"] == ["run=u,spark-role=driver"]
        return json.dumps({"items": [{k: v for k, v in one.items() if k != "log"} for one in pods]}).encode()

    return get


def ended(code, reason="Error"):
    return {"terminated": {"exitCode": code, "reason": reason}}


@pytest.mark.parametrize(
    ("get", "code", "said"),
    [
        (
            cluster([pod("transform-abc", ended(2))]),
            2,
            "exit code 2: transform: gs://data/raw/areas.csv: no such file; push the raw data first",
        ),
        (cluster([pod("transform-abc", ended(1), log=TRACE)]), 1, "basedir must be absolute: ?/.ivy2.5.2/local"),
        (cluster([pod("transform-abc", ended(137, "OOMKilled"), log="")]), 137, "exit code 137 (OOMKilled)"),
        (
            cluster([pod("transform-abc", {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}, log=None)]),
            None,
            "the driver does not start: ImagePullBackOff no",
        ),
        (cluster([], "FAILED", "failed to run spark-submit: no such image"), None, "failed to run spark-submit"),
    ],
    ids=["its own words", "a trace", "memory", "no image", "no driver"],
)
def test_the_cause_of_a_step_is_told_however_its_driver_ended(get, code, said):
    causes = driver_logs.collect(get, "mlops", "run=u", STEP)
    assert causes["transform"]["exit_code"] == code
    assert said in causes["transform"]["message"]


def test_the_whole_log_is_printed_and_of_what_completed_nothing_is_told(capsys):
    assert driver_logs.collect(cluster([pod("transform-abc", ended(0))], "COMPLETED"), "mlops", "run=u", STEP) == {}
    assert LOG in capsys.readouterr().out
    # Stopped while it ran: there is a log, and no cause.
    running = cluster([pod("transform-abc", {"running": {}}, "Running")], "RUNNING")
    assert driver_logs.collect(running, "mlops", "run=u", STEP) == {}


def test_outside_of_a_cluster_there_are_no_drivers(tmp_path):
    output = tmp_path / "causes.json"
    given = ("--namespace", "n", "--selector", "run=u", "--step-label", STEP, "--output", output)
    done = subprocess.run(
        [sys.executable, SRC / "driver_logs.py", *given], capture_output=True, text=True, env={}, check=False
    )
    assert (done.returncode, done.stderr.count("\n"), json.loads(output.read_text())) == (0, 1, {})
