"""The workflows: what protects people in them holds, what they call exists, and the linters find nothing."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from infra.foundation import ci
from tests.conftest import CHECKOUT

FOLDER = CHECKOUT / ".github"
FILES = {path.stem: path for path in sorted(FOLDER.glob("workflows/*.yml"))}
# YAML 1.1 reads the key `on` as true.
WORKFLOWS: dict[str, Any] = {
    name: {"on": (loaded := yaml.safe_load(path.read_text())).pop(True), **loaded} for name, path in FILES.items()
}
ACTION = yaml.safe_load((FOLDER / "actions/cloud/action.yml").read_text())
JOBS = {(name, key): job for name, workflow in WORKFLOWS.items() for key, job in workflow["jobs"].items()}
CLOUD = {("preview", "preview"), ("images", "images"), ("stack", "plan"), ("stack", "apply"), ("drift", "drift")}
"""Jobs that get an identity of Google Cloud."""
CALLS = {("stack", "images"), ("up", "dev"), ("up", "staging"), ("up", "prod")}
"""Jobs that are another workflow."""
WRITES = {
    ("comment", "comment"): {"pull-requests"},
    ("preview", "comment"): {"pull-requests"},
    ("drift", "issue"): {"issues"},
    **{key: {"id-token"} for key in CLOUD | CALLS},
}
"""Everything that any job may write."""
TOOLS = {"make", "mkdir", "jq", "sha256sum", "sed", "echo", "sudo"}
"""What a runner has of itself."""


def steps(job: Any) -> list[dict[str, Any]]:
    return job.get("steps", [])


def commands(name: str | None = None) -> Iterator[list[str]]:
    """Every command of a workflow, or of all and the action, as its words, without where its output goes."""
    jobs = [job for key, job in JOBS.items() if name in (None, key[0])]
    for job in jobs if name else [*jobs, ACTION["runs"]]:
        for text in [step["run"] for step in steps(job) if "run" in step]:
            words = shlex.shlex(text.strip(), posix=True, punctuation_chars=True)
            words.whitespace_split = True
            found: list[list[str]] = [[]]
            redirected = False
            for word in words:
                if word in (">", ">>", "|", ";", "&&"):
                    redirected = word in (">", ">>")
                    found += [] if redirected else [[]]
                elif not redirected:
                    found[-1].append(word)
            yield from found


def checkouts(job: Any) -> list[dict[str, Any]]:
    return [step["with"] for step in steps(job) if step.get("uses", "").startswith("actions/checkout@")]


def of_a_change(name: str, job: Any) -> bool:
    """Whether a job runs what a pull request brings: code, or a workflow's own file."""
    return "pull_request" in (WORKFLOWS[name]["on"] or {}) and not any("ref" in each for each in checkouts(job))


def test_every_action_is_pinned_by_its_commit_which_is_the_same_everywhere_and_says_its_tag() -> None:
    pins: dict[str, set[str]] = {}
    for path in [*FILES.values(), FOLDER / "actions/cloud/action.yml"]:
        for line in path.read_text().splitlines():
            if match := re.match(r"\s*(?:- )?uses: (.+)$", line):
                used = match[1]
                if used.startswith("./.github/"):
                    assert (CHECKOUT / used).exists(), used
                    continue
                pinned = re.fullmatch(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+)", used)
                assert pinned, f"{path.name}: {used}"
                pins.setdefault(pinned[1], set()).add(pinned[2])
    assert {name for name, found in pins.items() if len(found) > 1} == set()
    # Beside a pin, at least once, where it was read.
    told = "\n".join(path.read_text() for path in [*FILES.values(), FOLDER / "actions/cloud/action.yml"])
    for name in pins:
        assert re.search(rf"# .*(?:\n\s*#.*)*github\.com/{name}\b", told), name


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_job_may_do_what_is_listed_and_nothing_by_default(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    for key, job in WORKFLOWS[name]["jobs"].items():
        writes = {what for what, level in job["permissions"].items() if level != "read"}
        assert writes == WRITES.get((name, key), set()), key


def test_what_a_change_brings_runs_without_secrets_and_without_a_right_to_write() -> None:
    ran = [(name, key, job) for (name, key), job in JOBS.items() if of_a_change(name, job)]
    assert {(name, key) for name, key, _ in ran} == {
        ("check", "test"),
        ("check-all", "test"),
        ("plan", "plan"),
        ("preview", "changed"),
        ("preview", "preview"),
    }
    for name, key, job in ran:
        # An identity of the cloud only in an environment, whose reviewers are asked first.
        rights = {"contents": "read"} | ({"id-token": "write"} if "environment" in job else {})
        assert job["permissions"] == rights, (name, key)
        assert "github.token" not in str(job), (name, key)
    assert [key for name, key, job in ran if "environment" in job] == ["preview"]
    # Of forks not even that: their runs have no identity, so the job would only fail.
    assert "head.repo.full_name == github.repository" in WORKFLOWS["preview"]["jobs"]["changed"]["if"]
    assert WORKFLOWS["preview"]["jobs"]["preview"]["needs"] == "changed"


def test_no_workflow_knows_a_secret_or_runs_a_change_with_the_target_branchs_rights() -> None:
    for name, path in FILES.items():
        text = path.read_text()
        assert not re.search(r"\bsecrets\b", text), name
        assert "pull_request_target" not in text, name


def test_who_comments_checks_out_the_target_branch_alone() -> None:
    assert set(WORKFLOWS["comment"]["on"]) == {"workflow_run"}
    assert WORKFLOWS["comment"]["on"]["workflow_run"]["workflows"] == [WORKFLOWS["plan"]["name"]]
    (own,) = checkouts(JOBS["comment", "comment"])
    assert own == {"persist-credentials": False}
    (base,) = checkouts(JOBS["preview", "comment"])
    assert base["ref"] == "${{ github.event.pull_request.base.sha }}"
    # Which pull request it is, is asked of GitHub for the commit of the run.
    received = next(step for step in steps(JOBS["comment", "comment"]) if step.get("id") == "received")
    assert set(received["env"]) == {"GH_TOKEN", "RUN_ID", "HEAD_SHA", "HEAD_REPOSITORY", "HEAD_BRANCH"}
    assert not [step for step in steps(JOBS["comment", "comment"]) if "artifact" in step.get("uses", "")]


def test_no_text_of_others_becomes_part_of_a_command() -> None:
    for key, job in [*JOBS.items(), (("action", "cloud"), ACTION["runs"])]:
        for step in steps(job):
            assert "${{" not in step.get("run", ""), key


def test_no_checkout_leaves_its_token_behind() -> None:
    found = [each for job in JOBS.values() for each in checkouts(job)]
    assert found
    assert all(each["persist-credentials"] is False for each in found)


def test_stacks_are_brought_up_in_turn_and_images_are_handed_on() -> None:
    up = WORKFLOWS["up"]
    assert up["on"]["push"] == {"branches": ["main"]}
    assert up["concurrency"] == {"group": "up", "cancel-in-progress": False}
    jobs = up["jobs"]
    assert list(jobs) == ["dev", "staging", "prod"]
    assert [job["with"] for job in jobs.values()] == [
        {"stack": "dev"},
        {"stack": "staging", "images_from": "dev"},
        {"stack": "prod", "images_from": "staging"},
    ]
    assert [job.get("needs") for job in jobs.values()] == [None, "dev", ["dev", "staging"]]
    for later in ("staging", "prod"):
        # A stack that is left out lets the next one on; one that failed, or was not approved, does not.
        assert {"!failure()", "!cancelled()"} <= {*re.findall(r"!\w+\(\)", jobs[later]["if"])}


def test_what_is_applied_is_the_plan_that_was_reviewed() -> None:
    jobs = WORKFLOWS["stack"]["jobs"]
    assert jobs["plan"]["needs"] == "images"
    assert jobs["apply"]["needs"] == "plan"
    assert jobs["apply"]["environment"] == {"name": "${{ inputs.stack }}"}
    assert jobs["apply"]["concurrency"] == {"group": "stack-${{ inputs.stack }}", "cancel-in-progress": False}
    planned, applied = ("\n".join(step.get("run", "") for step in steps(jobs[key])) for key in ("plan", "apply"))
    assert "--save-plan plan/plan.json" in planned
    assert 'mlops review plan/preview.json --plan plan/plan.json >> "$GITHUB_STEP_SUMMARY"' in planned
    assert jobs["plan"]["outputs"]["sha256"] == "${{ steps.digest.outputs.sha256 }}"
    # What was handed over is what was reviewed: checked before anything is applied.
    order = [step.get("run", "") for step in steps(jobs["apply"])]
    (check,) = [number for number, text in enumerate(order) if "sha256sum --check" in text]
    (apply,) = [number for number, text in enumerate(order) if "pulumi up" in text]
    assert check < apply
    assert steps(jobs["apply"])[check]["env"] == {"SHA256": "${{ needs.plan.outputs.sha256 }}"}
    assert "--plan plan/plan.json" in applied
    assert "--skip-preview" in applied


def test_pulumi_reaches_nomad_and_judges_by_the_policies_whenever_a_change_may_come_of_it() -> None:
    found = [(name, words) for name in WORKFLOWS for words in commands(name) if "pulumi" in words]
    assert [name for name, _ in found] == ["drift", "preview", "stack", "stack"]
    for name, words in found:
        assert words[:5] == [".venv/bin/mlops", "tunnel", "--stack", "$STACK", "--"], words
        if name != "drift":
            assert words[words.index("--policy-pack") + 1] == "policy"
    drift = next(words for name, words in found if name == "drift")
    assert drift[5:7] == ["pulumi", "preview"], "a refresh would write what it found into the state"
    assert {"--refresh", "--expect-no-changes"} <= {*drift}
    assert (CHECKOUT / "policy/PulumiPolicy.yaml").is_file()


def test_environments_are_those_that_have_an_account() -> None:
    named = {
        re.sub(r"\$\{\{ (?:inputs|matrix)\.stack \}\}", "dev", JOBS[key]["environment"]["name"]): key for key in CLOUD
    }
    # `plan` and `drift` share one.
    assert set(named) == {ci.environment("dev", job) for job in ci.JOBS.values()}
    assert {key for key, job in JOBS.items() if "environment" in job} == CLOUD
    applied = {ci.environment("dev", job) for job in ci.JOBS.values() if job.applied}
    for key in CLOUD:
        name = re.sub(r"\$\{\{ (?:inputs|matrix)\.stack \}\}", "dev", JOBS[key]["environment"]["name"])
        assert (name in applied) is not ("pull_request" in WORKFLOWS[key[0]]["on"]), key


def test_every_command_exists() -> None:
    helps: dict[str, str] = {}
    for words in commands():
        program, *rest = words
        if program == ".venv/bin/mlops":
            own = rest[: rest.index("--")] if "--" in rest else rest
            verb = own[0]
            if verb not in helps:
                helps[verb] = help_of(verb)
            for option in [word for word in own if word.startswith("--")]:
                assert re.search(rf"{option}\b", helps[verb]), words
            if "--" in rest:
                assert rest[rest.index("--") + 1] == "pulumi"
        elif program == ".venv/bin/python":
            assert (CHECKOUT / rest[0]).is_file(), words
        elif program == ".ci/run" or program.startswith("tools/ci/"):
            assert os.access(CHECKOUT / program, os.X_OK), words
        else:
            assert program in TOOLS, words
    # What the page names for another CI is there too.
    page = (CHECKOUT / "docs/how-to/run-in-ci.md").read_text()
    named = set(re.findall(r"^[^|#\n]*?(tools/ci/[\w.]+)", page, re.MULTILINE))
    assert len(named) >= 5
    assert [name for name in named if not (CHECKOUT / name).is_file()] == []


def help_of(verb: str) -> str:
    program = [str(CHECKOUT / ".venv/bin/mlops"), verb, "--help"]
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout


@pytest.mark.engine
@pytest.mark.skipif(
    not shutil.which("pulumi"), reason="the program `pulumi` is not on PATH, so its options are not checked"
)
def test_every_option_of_pulumi_exists() -> None:
    for words in commands():
        if "pulumi" in words:
            _, verb, *options = words[words.index("pulumi") :]
            told = subprocess.run(
                ["pulumi", verb, "--help"],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "PULUMI_EXPERIMENTAL": "true"},
            ).stdout
            for option in [word for word in options if word.startswith("--")]:
                assert re.search(rf"{option}\b", told), option


def test_tools_are_of_the_versions_that_people_use() -> None:
    tools = tomllib.loads((CHECKOUT / "mise.toml").read_text())["tools"]
    own = {step["uses"].partition("@")[0]: step["with"] for step in steps(ACTION["runs"]) if "uses" in step}
    assert own["google-github-actions/setup-gcloud"]["version"] == tools["gcloud"]
    # mise takes Pulumi's from mise.toml.
    assert own["jdx/mise-action"]["install_args"] == "pulumi"
    assert re.fullmatch(r"[0-9a-f]{64}", own["jdx/mise-action"]["sha256"])
    assert own["jdx/mise-action"]["cache"] is False


def test_zizmor_finds_nothing() -> None:
    found = subprocess.run(
        [str(CHECKOUT / ".venv/bin/zizmor"), "--offline", "--quiet", "--no-progress", str(FOLDER)],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.skipif(not shutil.which("actionlint"), reason="the program `actionlint` is not on PATH")
def test_actionlint_finds_nothing() -> None:
    found = subprocess.run(["actionlint"], cwd=CHECKOUT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
