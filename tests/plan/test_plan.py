"""`mlops plan`: what a reviewer reads of a change, made to a small checkout's HCL, Python and YAML."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from infra.settings import ROOT
from inventory.recorder import PlanError
from mlops.changes import render
from mlops.changes.report import Plan, plan

MORE = """
import pulumi_gcp as gcp
google = pulumi.ResourceOptions(provider=gcp.Provider('google', project='example', region='europe-west1'))
models = gcp.storage.Bucket(
    'models', name='example-models', location='EU', public_access_prevention='enforced', opts=google
)
reader = gcp.serviceaccount.Account('reader', account_id='reader', opts=google)
gcp.storage.BucketIAMMember(
    'reader', bucket=models.name, role='roles/storage.objectViewer', member=reader.member, opts=google
)
train = gcp.compute.InstanceTemplate(
    'train',
    machine_type='n1-standard-4',
    labels={'mlops-min': '0', 'mlops-max': '4'},
    disks=[{'boot': True, 'disk_size_gb': 50}],
    opts=google,
)
gcp.compute.InstanceGroupManager(
    'train', base_instance_name='train', versions=[{'instance_template': train.id}], opts=google
)
kubernetes = pulumi.ResourceOptions(provider=__import__('pulumi_kubernetes').Provider('cluster', kubeconfig='x'))
"""
WORKFLOW = """
from pulumi_kubernetes.apiextensions import CustomResource
CustomResource(
    'nightly',
    api_version='argoproj.io/v1alpha1',
    kind='WorkflowTemplate',
    metadata={'name': 'nightly', 'namespace': 'mlops'},
    spec=__import__('yaml').safe_load((root / 'nightly.yaml').read_text()),
    opts=kubernetes,
)
"""
NIGHTLY = """
entrypoint: main
templates:
- name: main
  activeDeadlineSeconds: 600
  script:
    image: registry.example/tools:1.0
    source: |
      set -eu
      echo first
      echo second
"""


@pytest.fixture
def repository(tree: Path) -> Path:
    """The small checkout with machines, a grant and a workflow, committed."""
    program = tree / "__main__.py"
    program.write_text(program.read_text() + MORE + WORKFLOW)
    (tree / "nightly.yaml").write_text(NIGHTLY)
    commit(tree)
    return tree


def commit(root: Path) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    subprocess.run(["git", *identity, "commit", "-q", "-m", "x"], cwd=root, check=True)


def edit(root: Path, path: str, old: str, new: str) -> None:
    text = (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new))


def lines(found: Plan) -> list[str]:
    console = Console(file=io.StringIO(), width=10_000)
    console.print(render.terminal(found))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_machine_type_a_role_and_an_image_are_said_first_and_in_few_lines(repository: Path) -> None:
    edit(repository, "__main__.py", "n1-standard-4", "n1-standard-8")
    edit(repository, "__main__.py", "storage.objectViewer", "storage.objectAdmin")
    (repository / "images" / "tensornode" / "Dockerfile").write_text("FROM node:22\nCOPY images/tensornode ./\n")
    found = lines(plan("local", repository, "HEAD"))
    assert len(found) < 15
    assert found[0].startswith("Stack local against HEAD (")
    assert found[0].endswith("): 3 changed")
    grant = "${reader.member}: roles/storage.objectViewer -> roles/storage.objectAdmin on bucket example-models"
    assert found[1] == f"! permission    {grant}"
    assert found[2] == (
        "! machine type  train: n1-standard-4 -> n1-standard-8; 0 to 4 machines; at most 16 -> 32 vCPU, "
        "60 -> 120 GB memory"
    )
    image = "! image         hybrid-mlops.local/tensornode: "
    assert found[3].startswith(image)
    assert found[3].endswith(" in Job sales-close-prediction")
    assert found[4:] == [
        "Capacity: maximum 16 -> 32 vCPU, 60 -> 120 GB memory",
        "Resources",
        "~ storage.BucketIAMMember reader: role: roles/storage.objectViewer -> roles/storage.objectAdmin",
        "~ what is said above, and nothing else, of compute.InstanceTemplate train, Job sales-close-prediction",
    ]


def test_a_job_and_a_workflow_are_compared_as_people_write_them(repository: Path) -> None:
    job = "jobs/sales_close_prediction/job.nomad.hcl"
    edit(repository, job, "kill_timeout", "# how long a task may take to end\n      kill_timeout")
    edit(repository, "nightly.yaml", "echo second", "echo third")
    edit(repository, "nightly.yaml", "600", "900")
    edit(repository, "stacks/Pulumi.local.yaml", "restart_delay: 1s", "restart_delay: 2s")
    found = lines(plan("local", repository, "HEAD"))
    assert "    hcl2.vars.restart_delay: 1s -> 2s" in found
    assert "    +      # how long a task may take to end" in found
    assert "    -  activeDeadlineSeconds: 600" in found
    assert "    +  activeDeadlineSeconds: 900" in found
    assert "     - name: main" in found
    # A script is the lines that it is, not one with escapes.
    assert "    -      echo second" in found
    assert "    +      echo third" in found
    assert "           echo first" in found


def test_what_is_lost_comes_first_and_a_rename_needs_an_alias(repository: Path) -> None:
    edit(repository, "__main__.py", "'models', name=", "'versions', name=")
    edit(repository, "__main__.py", "'reader', account_id", "'user', account_id")
    edit(repository, "__main__.py", "account_id='reader', opts=google", "account_id='reader', opts=renamed")
    edit(
        repository,
        "__main__.py",
        "models = gcp",
        "renamed = pulumi.ResourceOptions(aliases=[pulumi.Alias(name='reader')]).merge(google)\nmodels = gcp",
    )
    found = lines(plan("local", repository, "HEAD"))
    assert found[1] == "! deletion      storage.Bucket models is deleted, and with it the objects in it"
    hint = "deletes models and creates this; if it is the same one, add aliases=[pulumi.Alias(name='models')]"
    assert f"+ storage.Bucket versions: {hint}" in found
    assert "- storage.Bucket models" in found
    assert "> serviceaccount.Account user, which was reader" in found


def test_a_stack_that_the_base_has_not_is_new(repository: Path) -> None:
    (repository / "stacks" / "Pulumi.other.yaml").write_text((repository / "stacks" / "Pulumi.local.yaml").read_text())
    found = plan("other", repository, "HEAD")
    assert lines(found)[0].endswith(" added; the stack is new")
    assert found.comparison
    assert {change.action for change in found.comparison.difference.changes} == {"added"}


def test_a_base_whose_program_fails_is_named(repository: Path) -> None:
    program = (repository / "__main__.py").read_text()
    (repository / "__main__.py").write_text("import nothing_of_this_name\n")
    commit(repository)
    (repository / "__main__.py").write_text(program)
    with pytest.raises(PlanError) as raised:
        plan("local", repository, "HEAD")
    assert str(raised.value) == (
        "HEAD cannot be planned with the Python environment of this checkout: the program failed: "
        "ModuleNotFoundError: No module named 'nothing_of_this_name' (__main__.py:1)"
    )


def test_what_a_program_says_is_code_and_commands_no_terminal(repository: Path) -> None:
    """A name or a value is a fork's to choose: it is no heading, no link, no mention, no escape sequence."""
    evil = "\\x1b[2J`](https://evil.example) @everyone <img src=x>|\\n# Approved"
    edit(repository, "__main__.py", "role='roles/storage.objectViewer'", f"role='{evil}'")
    found = plan("local", repository, "HEAD")
    text = render.markdown(found) + render.markdown(found.model_copy(update={"comparison": None}))
    assert "\x1b" not in "\n".join(lines(found))
    assert "\x1b" not in text
    assert "# Approved" in text
    assert not [line for line in text.splitlines() if line.startswith("# Approved")]
    told = [line for line in text.splitlines() if "@everyone" in line]
    # It has a backtick itself, so a span of code has two; the others are in a fenced block.
    assert len([line for line in told if "``" in line]) == 2
    assert [line[:3] for line in told if "``" not in line] == ["  +"]


def test_markdown_fits_and_names_what_it_leaves_out(repository: Path) -> None:
    edit(repository, "__main__.py", "n1-standard-4", "n1-standard-8")
    edit(repository, "nightly.yaml", "echo second", "echo " + "`" * 900)
    found = plan("local", repository, "HEAD")
    whole = render.markdown(found)
    # A fence that is longer than what is in it.
    assert "`" * 901 + "diff" in whole
    short = render.markdown(found, limit=1_500)
    assert len(short.encode()) <= 1_500
    assert "n1-standard-4 -> n1-standard-8" in short
    assert "**Resources** is too long to be shown here" in short


def test_as_a_command_it_prints_table_markdown_or_json() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("mlops")), "plan", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    table = run("--stack", "local")
    assert (table.returncode, table.stdout.partition(":")[0]) == (0, "Stack local")
    assert "Job sales-close-prediction" in table.stdout
    document = json.loads(run("--stack", "local", "--json").stdout)
    assert Plan.model_validate(document).stack == "local"
    assert "- `workloads`" in run("--stack", "local", "--markdown").stdout
    for wrong in (["--stack", "nowhere"], ["--base", "nowhere"], ["--json", "--markdown"]):
        told = run(*wrong)
        assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1), told.stderr
