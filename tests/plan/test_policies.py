"""`mlops plan` and the rules: what a reviewer reads of them, on the real stacks' own files."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import ROOT
from inventory.recorder import PlanError
from mlops.changes import render
from mlops.changes.report import plan
from policy.checkout import judged
from tests.conftest import Mlops
from tests.plan.test_plan import commit, edit, lines

JOB = "jobs/sales_close_prediction/job.nomad.hcl"
RULE = "nomad-task-privileged"
SETTINGS = "policy/stacks/local.yaml"
EXEMPTION = {
    "rule": RULE,
    "resource": "sales-close-prediction",
    "reason": "Only to see it told.",
    "until": "2999-01-01",
}


@pytest.fixture
def checkout(scratch_checkout: Path) -> Path:
    """The project's own, without the links to what is installed: a plan follows none that leads out."""
    for path in (scratch_checkout, *scratch_checkout.glob("images/*")):
        for link in path.iterdir():
            if link.is_symlink():
                link.unlink()
    commit(scratch_checkout)
    return scratch_checkout


def _privileged(checkout: Path) -> None:
    edit(checkout, JOB, '        args            = ["train"]', '        args = ["train"]\n        privileged = true')


def _settings(checkout: Path, **more: Any) -> None:
    """What the stack sets about policies, and more."""
    own = yaml.safe_load((ROOT / SETTINGS).read_text(encoding="utf-8")) or {}
    (checkout / SETTINGS).write_text(yaml.safe_dump(own | more), encoding="utf-8")


def test_a_change_of_machine_type_role_and_image_is_still_said_first_and_in_few_lines(checkout: Path) -> None:
    edit(
        checkout,
        "stacks/Pulumi.dev.yaml",
        "spark: {machine_type: n1-standard-4",
        "spark: {machine_type: n1-standard-8",
    )
    edit(checkout, "infra/nomad/clients.py", "roles/storage.objectViewer", "roles/storage.objectUser")
    with (checkout / "images" / "h2o-trainer" / "Dockerfile").open("a", encoding="utf-8") as file:
        file.write("LABEL changed=yes\n")
    found = lines(plan("dev", checkout, "HEAD", judged))
    assert len(found) < 15, found
    assert [line.split("  ")[0] for line in found[1:4]] == ["! permission", "! machine type", "! image"]


def test_a_broken_rule_is_said_before_all_else_with_its_fix(checkout: Path) -> None:
    _privileged(checkout)
    found = plan("local", checkout, "HEAD", judged)
    told = lines(found)
    assert told[1:4] == [
        "Policies: 1 rule is broken, so nothing of this may be deployed",
        f"! {RULE} sales-close-prediction, group training, task train: config.privileged is True",
        "    Remove `privileged` from the task's config, and add the one capability that it needs by `cap_add`.",
    ]
    assert render.markdown(found).index(RULE) < render.markdown(found).index("**Resources**")
    assert lines(plan("local", checkout, judge=judged))[1:4] == told[1:4]
    # What is broken already is not told as this change's doing, and stops it all the same.
    commit(checkout)
    edit(checkout, JOB, 'kill_timeout = "10s"', 'kill_timeout = "11s"')
    assert lines(plan("local", checkout, "HEAD", judged))[2] == f"{told[2]} (as before)"


def test_what_a_change_excuses_or_weakens_is_told(checkout: Path) -> None:
    _privileged(checkout)
    commit(checkout)
    _settings(checkout, exemptions=[EXEMPTION])
    found = plan("local", checkout, "HEAD", judged)
    assert found.policies is not None
    assert found.policies.broken == []
    what = f"{RULE}: sales-close-prediction, group training, task train: config.privileged is True"
    assert f"- broken        {what}" in lines(found)
    assert f"+ exempt        {what} (until 2999-01-01: Only to see it told.)" in lines(found)
    _settings(checkout, levels={RULE: "disabled"})
    assert f"~ level         {RULE}: mandatory -> disabled" in lines(plan("local", checkout, "HEAD", judged))


def test_settings_that_cannot_be_used_stop_the_plan_and_of_the_base_do_not(checkout: Path) -> None:
    _settings(checkout, levels={"no-such-rule": "disabled"})
    with pytest.raises(PlanError, match=r"^there is no rule no-such-rule, so no policy was applied"):
        plan("local", checkout, judge=judged)
    commit(checkout)
    _settings(checkout)
    found = plan("local", checkout, "HEAD", judged)
    assert found.comparison is not None
    assert found.comparison.policies is not None
    assert found.comparison.policies.new == []


def test_as_a_command_it_ends_with_1_if_a_rule_is_broken_and_2_if_none_can_be_applied(
    checkout: Path, tmp_path: Path
) -> None:
    mlops = Mlops(tmp_path / "state", checkout)
    _privileged(checkout)
    for form in ((), ("--markdown",), ("--json",)):
        done = mlops("plan", *form)
        assert done.returncode == 1
        assert RULE in done.stdout
        assert f"mlops: stack local breaks {RULE}, so it may not be deployed" in done.stderr
    _settings(checkout, exemptions="nonsense")
    done = mlops("plan")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
