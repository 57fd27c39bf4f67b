"""The policy pack on the real `pulumi`: what a person reads before anything is registered, and what is not."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.judge import FAILED
from policy.pack import UNDECIDED
from tests.engine.stack import ENGINES, Stack, initialised, needs_pulumi

pytestmark = [pytest.mark.engine, pytest.mark.whole, needs_pulumi, pytest.mark.timeout(600)]

PACK = ("--policy-pack", "policy")
CREDENTIAL = "consumer-secret-9d2c44"
RULE = "nomad-task-privileged"


@pytest.fixture
def local(scratch_checkout: Path, tmp_path: Path) -> Iterator[Stack]:
    """Stack `local`, initialised and empty, in a checkout to be edited."""
    with initialised("local", scratch_checkout, tmp_path) as one:
        yield one


def _edit(stack: Stack, file: str, old: str, new: str) -> None:
    path = stack.checkout / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _privileged(stack: Stack) -> None:
    _edit(
        stack,
        "jobs/sales_close_prediction/job.nomad.hcl",
        "      config {",
        "      config {\n        privileged = true",
    )


def test_a_stack_that_keeps_the_rules_is_previewed_and_made(scratch_checkout: Path, tmp_path: Path) -> None:
    """Every rule, on what the engine really hands over: first nothing is there yet, then all is known."""
    with initialised("dev", scratch_checkout, tmp_path) as stack:
        first = stack.must("preview", *PACK)
        made = stack.must("up", "--yes", "--skip-preview", *PACK)
        again = stack.must("preview", *PACK)
    assert "[mandatory]" not in first
    assert f"[advisory]  {UNDECIDED}" in first
    assert FAILED not in first
    for said in (made, again):
        assert "✅ hybrid-mlops@" in said
        assert f"[advisory]  {UNDECIDED}" not in said


def test_what_breaks_a_rule_fails_the_preview_and_is_named(local: Stack) -> None:
    _privileged(local)
    done = local.pulumi("preview", *PACK, **ENGINES)
    assert done.returncode != 0
    told = [line.strip() for line in done.stdout.splitlines()]
    assert f"- [mandatory]  {RULE}  (nomad:index:Job: sales-close-prediction)" in told
    assert any(
        "sales-close-prediction, group training, task train: config.privileged is True. Remove `privileged`" in line
        for line in told
    ), done.stdout


def test_an_update_without_a_preview_does_not_register_it(local: Stack) -> None:
    _privileged(local)
    done = local.pulumi("up", "--yes", "--skip-preview", *PACK, **ENGINES)
    assert done.returncode != 0
    assert not [urn for _, urn in local.changes() if urn.endswith("sales-close-prediction")]


def test_no_rule_sees_a_secret_and_what_needs_one_is_told_as_not_decided(local: Stack) -> None:
    for key in ("client_id", "client_secret"):
        local.must("config", "set", "--secret", "--path", f"hybrid-mlops:salesforce.{key}", CREDENTIAL)
    curious = textwrap.dedent("""
        def _tell(part, _):
            yield str(part.value)
            yield str(part.get("items"))

        for across in (False, True):
            name = f"tells-all-{across}".lower()
            types = ("nomad:index/variable:Variable",)
            ALL += (Rule(name, Level.ADVISORY, "holds", "why", "fix", _tell, types, across=across),)
    """)
    _edit(local, "policy/rules/__init__.py", "from policy.rule import Rule\n", "from policy.rule import Level, Rule\n")
    with (local.checkout / "policy/rules/__init__.py").open("a", encoding="utf-8") as file:
        file.write(curious)
    said = local.must("preview", *PACK)
    assert "[secret]" in said, "the rule told what it saw"
    for across in ("false", "true"):
        assert f"tells-all-{across}: sales-close-prediction-salesforce (items is not known yet)" in said
    assert CREDENTIAL not in said


def test_policies_that_cannot_be_applied_are_told_in_one_line(local: Stack) -> None:
    (local.checkout / "policy/stacks/local.yaml").write_text("levels: {no-such-rule: disabled}\n", encoding="utf-8")
    done = local.pulumi("preview", *PACK, **ENGINES)
    assert done.returncode != 0
    assert "there is no rule no-such-rule, so no policy was applied" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
