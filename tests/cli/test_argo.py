"""Pipelines of both engines, side by side in one command: a small one of workflow templates beside the real ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.images import name as image_name
from mlops.engines.embedded import platform
from tests.conftest import Mlops

DOCKERFILE = 'FROM debian\nWORKDIR /app\nENTRYPOINT ["sh", "-c"]\n'
PARAMETERS = """\
description: Says a word.
parameters:
  word: {type: string, pattern: '[a-z]+', required: true, description: The word.}
  code: {type: integer, minimum: 0, maximum: 9, default: 0, description: How it ends.}
"""
ALONE = """\
description: Only shouts.
parameters:
  word: {type: string, pattern: '[a-z]+', default: hey, description: The word.}
"""


def template(image: str, name: str, script: str, *parameters: str) -> dict[str, Any]:
    """A WorkflowTemplate with one container."""
    given = [{"name": each} for each in parameters]
    container = {"image": image, "args": [script]}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": name, "namespace": "mlops"},
        "spec": {
            "entrypoint": "say",
            "arguments": {"parameters": given},
            "templates": [{"name": "say", "container": container}],
        },
    }


@pytest.fixture
def mlops(scratch_checkout: Path, tmp_path: Path) -> Iterator[Mlops]:
    """A platform with a pipeline `says`, whose template `shouts` can be run by itself."""
    image, jobs = scratch_checkout / "images" / "say", scratch_checkout / "jobs" / "says"
    image.mkdir()
    (image / "Dockerfile").write_text(DOCKERFILE)
    jobs.mkdir()
    (jobs / "parameters.yaml").write_text(PARAMETERS)
    (jobs / "shouts.yaml").write_text(ALONE)
    (jobs / "templates.py").write_text("def render(context):\n    return []\n")
    state = tmp_path / "state"
    running = platform.up(state, ["hybrid-mlops-local-models"], checkout=scratch_checkout, feed=False)
    says = "echo '{{workflow.parameters.word}}'; echo that was it >&2; exit {{workflow.parameters.code}}"
    full = image_name(scratch_checkout, "say", "hybrid-mlops.local")
    for definition in (
        template(full, "says", says, "word", "code"),
        template(full, "shouts", "sleep 600", "word"),
    ):
        platform.register_definition(running, definition)
    source = (
        'job "nomads" {\n  type = "batch"\n  parameterized {}\n  group "g" {\n    task "t" {\n      driver = "exec"\n'
        '      config {\n        command = "true"\n      }\n    }\n  }\n}\n'
    )
    (scratch_checkout / "jobs" / "nomads").mkdir()
    (scratch_checkout / "jobs" / "nomads" / "job.nomad.hcl").write_text(source)
    (scratch_checkout / "jobs" / "nomads" / "parameters.yaml").write_text("description: Nothing.\nparameters: {}\n")
    platform.register(running, source, {})
    yield Mlops(state, scratch_checkout)
    platform.down(state)


def test_both_engines_runs_are_started_listed_shown_and_stopped_alike(mlops: Mlops) -> None:
    done = mlops("run", "says", "-p", "word=hello", "--idempotency-token", "t")
    assert done.returncode == 0, done.stderr
    assert ": complete" in done.stderr
    assert mlops("run", "nomads").returncode == 0
    mlops("run", "says", "-p", "word=hello", "--idempotency-token", "t")
    runs = mlops.json("runs", "list")
    assert [(run["pipeline"], run["status"]) for run in runs] == [("nomads", "complete"), ("says", "complete")]
    said = runs[1]["id"]

    shown = mlops("runs", "show", said).stdout
    assert "-p word" in shown
    assert "hello" in shown
    logs = mlops("runs", "logs", said[-8:])
    assert logs.stdout == "hello\nthat was it\n"
    assert mlops("runs", "logs", runs[0]["id"]).returncode == 0

    (running,) = mlops.json("run", "shouts", "--detach")["runs"]
    stopped = mlops("runs", "stop", running)
    assert stopped.returncode == 0, stopped.stderr
    assert mlops("runs", "stop", said).returncode == 2
    assert "there is no run 'nobody'" in mlops("runs", "show", "nobody").stderr


def test_a_failed_step_is_told_with_its_last_line_and_exit_code(mlops: Mlops) -> None:
    for code, expected in ((2, 2), (3, 1)):
        done = mlops("run", "says", "-p", "word=no", "-p", f"code={code}")
        assert done.returncode == expected
        assert ": failed: say: that was it\n" in done.stderr
    refused = mlops("run", "says", "-p", "word=NO")
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
    assert len(mlops.json("runs", "list")) == 2


def test_a_template_is_run_by_itself_and_listed_in_the_help(mlops: Mlops) -> None:
    shown = mlops("run", "--help").stdout
    assert "says: Says a word." in shown
    assert "shouts: Only shouts." in shown
    assert "package-mojo: " in shown
    assert "did you mean 'shouts'?" in mlops("run", "shout").stderr


def test_an_engine_without_an_address_is_said(mlops: Mlops) -> None:
    elsewhere = "http://127.0.0.1:9"
    done = mlops("run", "says", "-p", "word=a", NOMAD_ADDR=elsewhere)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "says runs on Argo Server, of which stack local has no address" in done.stderr
    assert "ARGO_SERVER" in done.stderr
    done = mlops("run", "says", "-p", "word=a", ARGO_SERVER="127.0.0.1:9", ARGO_SECURE="false")
    assert f"Argo Server at {elsewhere} does not answer" in done.stderr
    assert "https://127.0.0.1:9" in mlops("run", "says", "-p", "word=a", ARGO_SERVER="127.0.0.1:9").stderr
    assert json.loads(mlops("runs", "list", "--json").stdout) == []
