"""The component of Nomad jobs: it finds every job, fills its variables, and tells where job and settings differ."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from definitions.nomad import jobspec
from definitions.nomad.jobspec import JobspecError
from infra import naming
from inventory.recorder import PlanError, record
from tests.stack_inventories import inventory

SECOND = """\
variable "image_tensornode" {
  type        = string
  description = "The image."
}

variable "greeting" {
  type        = string
  description = "What is said."
}

job "second-job" {
  type = "batch"
  parameterized {}
  group "g" {
    task "t" {
      driver = "docker"
      config {
        image = var.image_tensornode
        args  = [var.greeting]
      }
    }
  }
}
"""
JOB = "hybrid-mlops:jobs.sales-close-prediction"


def edit(tree: Path, **jobs: dict[str, Any]) -> None:
    """Merge settings of jobs, by folder, into the tree's stack file."""
    path = tree / "stacks" / "Pulumi.local.yaml"
    stack = yaml.safe_load(path.read_text())
    for folder, given in jobs.items():
        job = stack["config"]["hybrid-mlops:jobs"].setdefault(naming.job_id(folder), {})
        for key, value in given.items():
            job[key] = {**job.get(key, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(stack))


def add(tree: Path, text: str = SECOND, folder: str = "second_job") -> None:
    (tree / "jobs" / folder).mkdir(exist_ok=True)
    (tree / "jobs" / folder / "job.nomad.hcl").write_text(text)


def message(tree: Path) -> str:
    with pytest.raises(PlanError) as raised:
        record("local", root=tree)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def variables(tree: Path, job_id: str) -> dict[str, str]:
    jobs = {job.name: job for job in record("local", root=tree, preview=True).of_type("nomad:index/job:Job")}
    return jobs[job_id].inputs["hcl2"]["vars"]


def test_a_second_job_is_found_and_filled(tree: Path) -> None:
    add(tree)
    edit(tree, second_job={"variables": {"greeting": "hello ${not} a template"}})
    inventory = record("local", root=tree, preview=True)
    first, second = sorted(inventory.of_type("nomad:index/job:Job"), key=lambda job: job.name)
    assert (first.name, second.name) == ("sales-close-prediction", "second-job")
    assert second.inputs["jobspec"] == SECOND
    values = second.inputs["hcl2"]["vars"]
    assert values == {
        "greeting": "hello ${not} a template",
        "image_tensornode": first.inputs["hcl2"]["vars"]["image_tensornode"],
    }
    assert inventory.outputs["nomad_jobs"] == ["sales-close-prediction", "second-job"]


def test_values_are_passed_as_nomad_parses_them(tree: Path) -> None:
    edit(
        tree,
        sales_close_prediction={
            "count": 2,
            "variables": {
                "train_cpu": 2500,
                "salesforce_hosts": ["a.example.com:443", "${b}%{c}"],
                "restart_delay": "5s",
            },
        },
    )
    values = variables(tree, "sales-close-prediction")
    assert values.pop("image_tensornode").startswith("hybrid-mlops.local/tensornode:")
    assert values == {
        "count": "2",
        "train_cpu": "2500",
        # An expression to Nomad, unlike a variable of type string: what would begin a template is escaped.
        "salesforce_hosts": '["a.example.com:443", "$${b}%%{c}"]',
        "restart_delay": "5s",
    }


def test_a_required_variable_without_value_is_told(tree: Path) -> None:
    add(tree)
    assert message(tree) == (
        "hybrid-mlops:jobs.second-job.variables.greeting: is missing and has no default in "
        "jobs/second_job/job.nomad.hcl, so the job cannot be registered; add it (What is said.)"
    )


WRONG = {
    "train_cpuu: jobs/sales_close_prediction/job.nomad.hcl declares no such variable, so it would do nothing; "
    "did you mean 'train_cpu'?": {"train_cpuu": 1},
    "train_cpu: is 'plenty', not of the type number, so the job cannot be registered; correct it "
    "(CPU of the training in MHz.)": {"train_cpu": "plenty"},
    "train_cpu: is True, not of the type number, so the job cannot be registered; correct it "
    "(CPU of the training in MHz.)": {"train_cpu": True},
    "restart_delay: is 15, not of the type string, so the job cannot be registered; correct it "
    "(Pause before a failed task is started again.)": {"restart_delay": 15},
    "datacenters: is 'dc1', not of the type list(string), so the job cannot be registered; correct it "
    "(Datacenters whose clients may run this job.)": {"datacenters": "dc1"},
    f"count: the program sets it, so this would be lost; set {JOB}.count instead": {"count": 2},
    "image_tensornode: the program sets it, so this would be lost; change the image's folder instead": {
        "image_tensornode": "node:latest"
    },
}


@pytest.mark.parametrize(("expected", "given"), WRONG.items())
def test_a_wrong_variable_is_told(tree: Path, expected: str, given: dict[str, Any]) -> None:
    edit(tree, sales_close_prediction={"variables": given})
    assert message(tree) == f"{JOB}.variables.{expected}"


def test_settings_of_no_job_are_told(tree: Path) -> None:
    edit(tree, gone={"count": 2})
    assert message(tree) == (
        "hybrid-mlops:jobs.gone: there is no such job under jobs/, so it would do nothing; remove it, or use one of: "
        "sales-close-prediction"
    )


def test_a_count_that_the_job_has_not_is_told(tree: Path) -> None:
    add(tree)
    edit(tree, second_job={"count": 2, "variables": {"greeting": "x"}})
    assert message(tree) == (
        "hybrid-mlops:jobs.second-job.count: jobs/second_job/job.nomad.hcl declares no variable count, so it would do "
        "nothing; remove it"
    )


def test_an_image_that_is_not_there_is_told(tree: Path) -> None:
    add(tree, SECOND.replace("image_tensornode", "image_other"))
    assert message(tree) == (
        "jobs/second_job/job.nomad.hcl: variable image_other names no folder under images/, so the job has no image; "
        "there are: image_tensornode"
    )


def test_a_job_under_another_name_than_its_folder_is_told(tree: Path) -> None:
    add(tree, folder="other")
    assert message(tree) == (
        "jobs/other/job.nomad.hcl: the job's id is 'second-job', so its folder's settings and parameters would not be "
        "found; name it 'other'"
    )


@pytest.mark.parametrize(("stack", "hooks"), [("prod", {"beforeDelete": ["nomad-drain"]}), ("local", {})])
def test_runs_end_before_their_job_is_deleted_in_a_nomad_of_the_stacks(stack: str, hooks: dict[str, list[str]]) -> None:
    jobs = [
        job for job in inventory(stack).of_type("nomad:index/job:Job") if "parameterized {" in job.inputs["jobspec"]
    ]
    assert [job.hooks for job in jobs] == [hooks]


def test_without_a_nomad_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from infra import providers, settings

    monkeypatch.delenv("NOMAD_ADDR", raising=False)
    with pytest.raises(settings.SettingsError) as raised:
        providers.nomad(settings.load("local"))
    assert str(raised.value) == (
        "hybrid-mlops:nomad.address: this stack names no Nomad and NOMAD_ADDR is not set, so there is nothing to "
        "register jobs with; set either, or run `mlops up` for the embedded engine"
    )


def test_the_stacks_address_wins(tree: Path) -> None:
    path = tree / "stacks" / "Pulumi.local.yaml"
    text = path.read_text().replace(
        "hybrid-mlops:nomad: {}", "hybrid-mlops:nomad: {address: 'https://n.example.com:4646'}"
    )
    path.write_text(text)
    provider = record("local", root=tree).of_type("pulumi:providers:nomad")[0]
    assert provider.inputs["address"] == "https://n.example.com:4646"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("job {", "x: is not HCL2, so the job cannot be registered; correct it: "),
        ("", "x: holds 0 jobs, so there is nothing definite to register; write one"),
        ('job "a" {}\njob "b" {}', "x: holds 2 jobs, so there is nothing definite to register; write one"),
        (
            'variable "v" {}\njob "a" {}',
            "x: variable v has the type 'none', so its values cannot be checked; give it one of: ",
        ),
        (
            'variable "v" {\n  type = map(string)\n}\njob "a" {}',
            "x: variable v has the type 'map(string)', so its values cannot be checked; give it one of: ",
        ),
    ],
)
def test_a_jobspec_that_cannot_be_read_is_told(text: str, expected: str) -> None:
    with pytest.raises(JobspecError) as raised:
        jobspec.parse(text, "x")
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)
