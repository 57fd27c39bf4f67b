"""The recorder: what it keeps of a request, what it keeps out, and how a program's failures come back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import ROOT, stacks
from inventory.recorder import PlanError, record
from inventory.resources import SECRET, UNKNOWN, Inventory

OPTIONS = """
import pulumi_nomad
kept = pulumi_nomad.Namespace('kept', name='kept', opts=pulumi.ResourceOptions(provider=nomad, protect=True))
pulumi_nomad.Variable(
    'credentials',
    path='nomad/jobs/x',
    namespace=kept.name,
    items=pulumi.Output.secret({'password': 'hunter2'}),
    opts=pulumi.ResourceOptions(
        provider=nomad,
        parent=jobs,
        depends_on=[kept],
        deleted_with=kept,
        retain_on_delete=True,
        ignore_changes=['items'],
        replace_on_changes=['path'],
        aliases=[pulumi.Alias(name='old')],
        additional_secret_outputs=['path'],
        import_='nomad/jobs/x',
    ),
)
"""


def planned(tree: Path, more: str, *, preview: bool = False) -> Inventory:
    program = tree / "__main__.py"
    program.write_text(program.read_text() + more)
    return record("local", preview=preview, root=tree)


def test_all_options_of_a_resource_are_recorded(tree: Path) -> None:
    inventory = planned(tree, OPTIONS)
    kept = inventory.of_type("nomad:index/namespace:Namespace")[0]
    credentials = inventory.of_type("nomad:index/variable:Variable")[0]
    assert kept.protect
    assert kept.provider == "urn:pulumi:local::hybrid-mlops::pulumi:providers:nomad::nomad"
    assert credentials.urn == (
        "urn:pulumi:local::hybrid-mlops::hybrid-mlops:workloads:NomadJobs$nomad:index/variable:Variable::credentials"
    )
    assert credentials.parent == "urn:pulumi:local::hybrid-mlops::hybrid-mlops:workloads:NomadJobs::nomad-jobs"
    assert kept.urn in credentials.dependencies
    assert credentials.property_dependencies["namespace"] == [kept.urn]
    assert credentials.deleted_with == kept.urn
    assert credentials.retain_on_delete
    assert credentials.ignore_changes == ["items"]
    assert credentials.replace_on_changes == ["path"]
    assert credentials.import_id == "nomad/jobs/x"
    assert "path" in credentials.additional_secret_outputs
    assert len(credentials.aliases) == 1
    assert "old" in credentials.aliases[0]
    assert credentials.version


@pytest.mark.parametrize("preview", [False, True])
def test_secret_values_are_marked_and_nowhere_told(tree: Path, preview: bool) -> None:
    inventory = planned(tree, OPTIONS + "pulumi.export('made', kept.description)\n", preview=preview)
    credentials = inventory.of_type("nomad:index/variable:Variable")[0]
    assert credentials.inputs["items"] == SECRET
    assert credentials.outputs["path"] == SECRET
    assert "hunter2" not in inventory.model_dump_json()
    assert inventory.outputs["made"] == (UNKNOWN if preview else "kept-description")


def test_inputs_from_outputs_are_unknown_in_a_preview(tree: Path) -> None:
    more = """
import pulumi_nomad
first = pulumi_nomad.Namespace('first', name='first', opts=pulumi.ResourceOptions(provider=nomad))
pulumi_nomad.Namespace(
    'second',
    name='second',
    description=pulumi.Output.concat('beside ', first.id),
    meta={'first': first.id, 'fixed': 'x'},
    opts=pulumi.ResourceOptions(provider=nomad),
)
"""
    second = planned(tree, more, preview=True).resources[-1]
    assert second.inputs == {"name": "second", "description": UNKNOWN, "meta": {"first": UNKNOWN, "fixed": "x"}}


def test_encrypted_settings_never_reach_the_program(tree: Path) -> None:
    stack = tree / "stacks" / "Pulumi.local.yaml"
    stack.write_text(stack.read_text() + "  other:token:\n    secure: v1:ciphertext\n  other:plain: text\n")
    more = """
other = pulumi.Config('other')
pulumi.export('token', other.require_secret('token'))
pulumi.export('unmarked', other.require('token'))
pulumi.export('plain', other.require('plain'))
"""
    inventory = planned(tree, more)
    # One that the program forgets to mark shows up as the placeholder, so a test can find it.
    assert inventory.outputs["token"] == SECRET
    assert inventory.outputs["unmarked"] == "[secret other:token]"
    assert inventory.outputs["plain"] == "text"
    assert "ciphertext" not in inventory.model_dump_json()


def test_the_program_sees_only_listed_environment_variables(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_TOKEN", "of-the-caller")
    monkeypatch.setenv("NOMAD_ADDR", "https://nomad.of-the-caller.example")
    monkeypatch.setenv("KUBECONFIG", "/of-the-caller/kubeconfig")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/of-the-caller.json")
    inventory = planned(tree, "import os\npulumi.export('environment', dict(os.environ))\n")
    assert "of-the-caller" not in inventory.model_dump_json()
    assert set(inventory.outputs["environment"]) <= {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME", "TMPDIR", "PYTHONDONTWRITEBYTECODE"),
        *("NOMAD_ADDR", "KUBECONFIG"),
    }


def test_what_the_program_prints_is_no_part_of_the_answer(tree: Path) -> None:
    assert planned(tree, "print('{}', flush=True)\n").outputs["nomad_jobs"] == ["sales-close-prediction"]


FAILURES = {
    "raise pulumi.RunError('the quota is too small')": "the quota is too small",
    "1 / 0": "the program failed: ZeroDivisionError: division by zero (__main__.py:{line})",
    """
import pulumi_nomad
late = nomad.id.apply(lambda _: 1 / 0)
pulumi_nomad.Namespace('n', name=late, opts=pulumi.ResourceOptions(provider=nomad))
""": "the program failed: ZeroDivisionError: division by zero (__main__.py:{line})",
    "import sys\nsys.exit(3)": "the program ended itself with exit code 3",
    "import os\nos._exit(3)": "the program of stack local ended with exit code 3: it said nothing",
    """
import pulumi_nomad
pulumi_nomad.get_regions(opts=pulumi.InvokeOptions(provider=nomad))
""": "the program calls nomad:index/getRegions:getRegions, which only a cloud could answer, so the stack cannot be "
    "planned without one; make it a setting",
    """
import pulumi_nomad
for _ in range(2):
    pulumi_nomad.Namespace('n', name='n', opts=pulumi.ResourceOptions(provider=nomad))
""": "urn:pulumi:local::hybrid-mlops::nomad:index/namespace:Namespace::n is registered twice, so an update would "
    "refuse it; name one of them otherwise",
}


@pytest.mark.parametrize(("more", "message"), FAILURES.items())
def test_a_failing_program_is_told_in_one_line(tree: Path, more: str, message: str) -> None:
    with pytest.raises(PlanError) as raised:
        planned(tree, more)
    lines = (tree / "__main__.py").read_text().splitlines()
    line = next((number for number, text in enumerate(lines, 1) if "1 / 0" in text), 0)
    assert str(raised.value) == message.format(line=line)


def test_wrong_settings_are_told_as_the_settings_tell_them(tree: Path) -> None:
    stack = tree / "stacks" / "Pulumi.local.yaml"
    stack.write_text(stack.read_text().replace("    models: ", "    modles: "))
    with pytest.raises(PlanError) as raised:
        record("local", root=tree)
    assert [line.partition(", so ")[0] for line in str(raised.value).splitlines()] == [
        "stacks/Pulumi.local.yaml: hybrid-mlops:buckets.models: is missing",
        "stacks/Pulumi.local.yaml: hybrid-mlops:buckets.modles: is no setting",
    ]


def test_as_a_command_it_prints_json_or_one_line() -> None:
    command = [sys.executable, "-m", "inventory", "--stack"]
    good = subprocess.run([*command, "local"], cwd=ROOT, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["stack"] == "local"
    bad = subprocess.run([*command, "../local"], cwd=ROOT, capture_output=True, text=True)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == f"there is no stack '../local', so nothing was read; there are: {', '.join(stacks())}\n"


def test_a_file_is_recorded_by_what_it_holds_wherever_the_checkout_is(tree: Path, tmp_path: Path) -> None:
    more = """
import pulumi_gcp
pulumi_gcp.storage.BucketObject(
    'program',
    bucket='b',
    source=pulumi.AssetArchive({'program': pulumi.FileAsset(str(root / 'program.txt'))}),
    opts=pulumi.ResourceOptions(provider=pulumi_gcp.Provider('google', project='p')),
)
"""
    (tree / "program.txt").write_text("one")
    first = planned(tree, more).of_type("gcp:storage/bucketObject:BucketObject")[0].inputs["source"]
    moved = tree.rename(tmp_path / "elsewhere")
    assert record("local", root=moved).of_type("gcp:storage/bucketObject:BucketObject")[0].inputs["source"] == first
    (moved / "program.txt").write_text("two")
    assert record("local", root=moved).of_type("gcp:storage/bucketObject:BucketObject")[0].inputs["source"] != first


def test_inputs_that_the_program_names_as_secret_outputs_are_marked(tree: Path) -> None:
    credentials = planned(tree, OPTIONS).of_type("nomad:index/variable:Variable")[0]
    assert credentials.inputs["path"] == SECRET


def test_a_failure_repeats_no_credential(tree: Path) -> None:
    with pytest.raises(PlanError) as raised:
        planned(tree, "raise pulumi.RunError('https://me:hunter2@host/ refused; password=hunter2')")
    assert "hunter2" not in str(raised.value)
