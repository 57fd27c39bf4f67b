"""A Nomad job's groups as types: what they ask for together, and a leaf that has no value."""

import pytest

from definitions.nomad import jobspec
from mlops.engines.embedded.nomad.jobspec import parse

JOB = """
variable "cpu" {
  type    = number
  default = 700
}
job "hello" {
  type = "batch"
  parameterized {}
  group "training" {
    reschedule {
      attempts = 0
    }
%s
  }
}
"""
TASK = """
    task "%s" {
      driver = "exec"
      config {
        command = "true"
      }
      %s
      resources {
        cpu    = %s
        memory = %d
      }
    }
"""


def text(*tasks: tuple[str, str, object, int]) -> str:
    """A job with tasks: name, lifecycle block, cpu and memory."""
    return JOB % "".join(TASK % task for task in tasks)


def hook(name: str, more: str = "") -> str:
    return f'lifecycle {{\n hook = "{name}"\n {more}\n}}'


def asked(source: str, **given: object) -> tuple[int, int]:
    (group,) = jobspec.parse(source, "x").job(given).groups
    return group.total


PHASES = text(
    ("before", hook("prestart"), "var.cpu", 900),
    ("one", "", 300, 500),
    ("two", "", 300, 500),
    ("after", hook("poststop"), 100, 100),
)


def test_the_phase_that_asks_for_most_counts() -> None:
    assert asked(PHASES) == (700, 1000)
    assert asked(PHASES, cpu=500) == (600, 1000)


def test_the_embedded_engine_counts_the_same() -> None:
    job, _ = parse(PHASES, {})
    assert (job.amount().cpu, job.amount().memory) == asked(PHASES)


@pytest.mark.parametrize("name", ["prestart", "poststart"])
def test_a_sidecar_runs_beside_every_phase(name: str) -> None:
    beside = ("beside", hook(name, "sidecar = true"), 50, 60)
    assert asked(text(beside, ("before", hook("prestart"), 700, 10), ("main", "", 300, 500))) == (750, 560)


def test_a_task_after_the_start_runs_with_the_main_ones() -> None:
    assert asked(text(("main", "", 300, 500), ("later", hook("poststart"), 100, 100))) == (400, 600)


def test_an_expression_in_place_of_a_number_is_told_in_one_line() -> None:
    with pytest.raises(jobspec.JobspecError, match=r"^[^:]+: groups.0.tasks.0.resources.cpu is '\$\{var\.cpu \* 2\}'"):
        asked(text(("main", "", "var.cpu * 2", 500)))


def test_a_text_with_an_undecided_value_is_undecided() -> None:
    values = {"known": 1, "secret": "?"}
    body = {"a": "x${var.known}", "b": ["${var.secret}"], "c": "x${var.secret}${var.known}", "d": "${var.other}"}
    assert jobspec.filled(body, values, ("unknown", "?")) == {
        "a": "x1",
        "b": ["?"],
        "c": "unknown",
        "d": "${var.other}",
    }
