"""The two commands and what calls them: help is true, checks on a change run the same, and pins agree."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
MAKEFILE = (CHECKOUT / "Makefile").read_text()


def make(*arguments: str) -> str:
    # As a person calls it, also where these tests are called by make.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(
        ["make", *arguments], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_help_is_the_default_and_tells_every_target():
    targets = set(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[0].split())
    told = {line.split()[1] for line in make().splitlines()}
    assert {"help", "run", "test", "test-all", "check", "bench", "lock", "clean"} <= targets == told
    assert make() == make("help")


def test_run_and_test_set_up_first_and_test_ends_with_pytest():
    for target in ("run", "test", "test-all", "check", "bench"):
        commands = [line for line in make("-n", target).splitlines() if not line.startswith("#")]
        assert commands[0].endswith("tools/setup.py"), target
    assert re.fullmatch(
        r'\.venv/bin/python -m pytest -m "not whole" --numprocesses .*', make("-n", "test").splitlines()[-1]
    )
    assert re.fullmatch(r"\.venv/bin/python -m pytest +--numprocesses .*", make("-n", "test-all").splitlines()[-1])


def test_checks_of_a_change_are_the_fast_tests_and_all_of_them_before_it_lands():
    assert re.findall(r"^exec (.+)$", (CHECKOUT / ".ci/run").read_text(), re.MULTILINE) == ["make test-all"]
    assert (CHECKOUT / ".ci/run").stat().st_mode & 0o111
    for name, command in (("check", "make test"), ("check-all", ".ci/run")):
        workflow = yaml.safe_load((CHECKOUT / f".github/workflows/{name}.yml").read_text())
        assert workflow["permissions"] == {}
        (job,) = workflow["jobs"].values()
        assert job["permissions"] == {"contents": "read"}
        checkout, *_, run = job["steps"]
        assert re.fullmatch(r"actions/checkout@[0-9a-f]{40}", checkout["uses"])
        assert checkout["with"] == {"persist-credentials": False}
        assert run == {"run": command}


def test_people_who_deploy_get_the_pulumi_of_the_program():
    tools = tomllib.loads((CHECKOUT / "mise.toml").read_text())["tools"]
    assert set(tools) == {"pulumi", "nomad", "kubectl", "argo", "gcloud"}
    platform = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"pulumi=={tools['pulumi']}" in platform
