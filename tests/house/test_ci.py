"""What the workflows' scripts do with what strangers leave, and what they ask of GitHub, docker and registries."""

import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra import images
from inventory.capacity import capacity
from inventory.permissions import Grant
from inventory.resources import Inventory
from mlops.changes.comment import LIMIT
from mlops.changes.diff import difference
from mlops.changes.report import Comparison, Plan
from tests.conftest import CHECKOUT

TOOLS = CHECKOUT / "tools" / "ci"
SHA = "a" * 40
# Answers from `answers.json` by the path asked for; keeps what was asked. Filters are run by the real jq.
GH = """
import json, os, subprocess, sys
from pathlib import Path
here = Path(__file__).parent
arguments = sys.argv[2:]
named = {"--method", "--jq", "-f", "-F"}
at, path = 0, None
while path is None:
    if arguments[at] in named:
        at += 2
    elif arguments[at].startswith("-"):
        at += 1
    else:
        path = arguments[at]
body = next((Path(each[6:]).read_text() for each in arguments if each.startswith("body=@")), None)
with (here / "asked").open("a") as asked:
    asked.write(json.dumps({"path": path, "arguments": arguments, "body": body}) + "\\n")
answer = json.loads((here / "answers.json").read_text()).get(path.partition("?")[0])
if isinstance(answer, str):
    sys.stdout.buffer.write(bytes.fromhex(answer))
elif "--jq" in arguments:
    filter = arguments[arguments.index("--jq") + 1]
    sys.exit(subprocess.run(["jq", "-r", filter], input=json.dumps(answer), text=True).returncode)
else:
    print(json.dumps(answer))
"""


class GitHub:
    """The program `gh`, which answers as it is told and keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program(folder, "gh", GH)
        self.answers: dict[str, Any] = {}

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script with it on PATH."""
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
        path = f"{self.folder}:{os.environ['PATH']}"
        environment = {"PATH": path, "GITHUB_REPOSITORY": "example/mlops", **variables}
        return subprocess.run(list(map(str, command)), env=environment, cwd=self.folder, capture_output=True, text=True)

    def asked(self) -> list[dict[str, Any]]:
        """What it was asked to write: path, method and body."""
        lines = [json.loads(line) for line in (self.folder / "asked").read_text().splitlines()]
        return [
            {"path": line["path"], "method": line["arguments"][line["arguments"].index("--method") + 1], **line}
            for line in lines
            if "--method" in line["arguments"] and "GET" not in line["arguments"]
        ]


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\n{text}")
    (folder / name).chmod(stat.S_IRWXU)


@pytest.fixture
def github(tmp_path: Path) -> GitHub:
    return GitHub(tmp_path / "bin")


# What a run for a change left


def packed(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def received(github: GitHub, archive: bytes, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Take an artifact as comment.yml does."""
    head = {"sha": SHA, "repo": {"full_name": "stranger/fork"}}
    artifact = {"id": 9, "size_in_bytes": len(archive)}
    github.answers = {
        "repos/example/mlops/pulls": [{"number": 7, "head": head}],
        "repos/example/mlops/actions/runs/5/artifacts": {"artifacts": [artifact]},
        "repos/example/mlops/actions/artifacts/9/zip": archive.hex(),
        **changes,
    }
    variables = {"RUN_ID": "5", "HEAD_SHA": SHA, "HEAD_REPOSITORY": "stranger/fork", "HEAD_BRANCH": "a&b=$(id)"}
    return github.run(sys.executable, TOOLS / "received.py", "received", **variables)


def test_what_a_run_left_is_taken_for_the_pull_request_whose_commit_it_was(github: GitHub) -> None:
    done = received(github, packed({"dev.json": b"{}", "prod.json": b"[]"}))
    assert (done.returncode, done.stdout) == (0, "number=7\n"), done.stderr
    taken = {path.name: path.read_bytes() for path in (github.folder / "received").iterdir()}
    assert taken == {"dev.json": b"{}", "prod.json": b"[]"}


@pytest.mark.parametrize(
    "pulls",
    [
        [],
        # A newer commit has its own run; another's commit is not the run's.
        [{"number": 7, "head": {"sha": "b" * 40, "repo": {"full_name": "stranger/fork"}}}],
        [{"number": 8, "head": {"sha": SHA, "repo": {"full_name": "other/fork"}}}],
        [{"number": 9, "head": {"sha": SHA, "repo": None}}],
    ],
)
def test_a_run_whose_pull_request_went_on_says_nothing(github: GitHub, pulls: list[Any]) -> None:
    done = received(github, packed({"dev.json": b"{}"}), **{"repos/example/mlops/pulls": pulls})
    assert (done.returncode, done.stdout) == (0, "number=\n")
    assert not (github.folder / "received").exists()


BOMB = packed({"dev.json": bytes(9 * 1024 * 1024)})


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        (packed({"../../dev.json": b"{}"}), "other files"),
        (packed({"/etc/passwd": b"{}"}), "other files"),
        (packed({"dev.json": b"{}", "a/b.json": b"{}"}), "other files"),
        (packed({"dev.md": b"hello"}), "other files"),
        (packed({f"s{number}.json": b"{}" for number in range(21)}), "other files"),
        (packed({"dev.json": b"{}"}, zipfile.ZIP_LZMA), "other files"),
        (BOMB, "unpacks to more"),
        (BOMB[:-200], "no archive"),
        (b"PK nothing", "no archive"),
    ],
)
def test_an_artifact_of_another_form_is_not_taken(github: GitHub, archive: bytes, says: str) -> None:
    done = received(github, archive)
    assert done.returncode == 1
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list((github.folder / "received").iterdir()) == []


@pytest.mark.parametrize(
    ("artifacts", "says"),
    [
        ([], "0 artifacts"),
        ([{"id": 9, "size_in_bytes": 1}, {"id": 10, "size_in_bytes": 1}], "2 artifacts"),
        ([{"id": 9, "size_in_bytes": 9 * 1024 * 1024}], "9,437,184 bytes"),
    ],
)
def test_more_than_one_artifact_or_too_large_a_one_is_not_downloaded(
    github: GitHub, artifacts: list[Any], says: str
) -> None:
    done = received(github, b"", **{"repos/example/mlops/actions/runs/5/artifacts": {"artifacts": artifacts}})
    assert done.returncode == 1
    assert says in done.stderr
    assert "zip" not in (github.folder / "asked").read_text()


# Plans as one comment

HOSTILE = "@everyone ![x](https://example.org/x.png) <img src=x> ` ``` \n# Approved </details>"


def plan(stack: str, principal: str = "group:a@example.com", count: int = 1) -> bytes:
    grants = [
        Grant(principal=f"{principal}{number}", role="roles/owner", resource="project x", urn="u")
        for number in range(count)
    ]
    empty = Inventory(stack=stack, mode="preview", resources=[], outputs={})
    made = Plan(
        stack=stack,
        unconfined=principal,
        resources=[],
        capacity=capacity(empty),
        permissions=grants,
        exposure=[],
        policies=None,
        comparison=None,
    )
    return made.model_dump_json().encode()


def comment(folder: Path, **plans: bytes) -> str:
    files = []
    for stack, text in plans.items():
        files.append(folder / f"{stack}.json")
        files[-1].write_bytes(text)
    done = subprocess.run([sys.executable, TOOLS / "plans.py", *files], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_strangers_plan_is_shown_as_code_and_begins_with_the_marker(tmp_path: Path) -> None:
    from markdown_it import MarkdownIt

    text = comment(tmp_path, dev=plan("dev", HOSTILE))
    assert text.startswith("<!-- mlops-plan -->\n")
    told = [token for block in MarkdownIt("commonmark").enable("table").parse(text) for token in block.children or []]
    shown = "".join(token.content for token in told if token.type == "text")
    assert "everyone" in text
    assert "everyone" not in shown
    assert {token.type for token in told} <= {"text", "code_inline", "softbreak", "strong_open", "strong_close"}


def test_a_plan_is_shown_as_the_changes_own_claim(tmp_path: Path) -> None:
    """A made-up plan without changes cannot be told from a real one, so each is labelled before it is shown."""
    text = comment(tmp_path, dev=plan("dev"))
    assert text.index("The change's own claim") < text.index("Stack dev")


def test_a_long_plan_takes_no_other_plans_room(tmp_path: Path) -> None:
    text = comment(tmp_path, dev=plan("dev", "dev", 1000), prod=plan("prod", "prod", 500))
    assert len(text.encode()) <= LIMIT
    assert "is too long to be shown here" in text
    assert "`dev999`" not in text
    assert "`prod499`" in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"not JSON", "cannot be read"),
        (b'{"stack": "dev"}', "cannot be read"),
        (plan("dev").replace(b'"stack":"dev"', b'"stack":"dev","more":1'), "cannot be read"),
        (plan("prod"), "of another stack, `prod`"),
    ],
)
def test_a_plan_that_is_none_is_named_and_not_shown(tmp_path: Path, text: bytes, says: str) -> None:
    shown = comment(tmp_path, dev=text, staging=plan("staging"))
    assert f"### `dev`\n\nIts plan {'is' if says.startswith('of') else says}" in shown
    assert says in shown
    assert "roles/owner" in shown


@pytest.mark.parametrize(
    ("edit", "stacks"),
    [
        (None, []),
        # An encrypted value, which no plan shows.
        ("stacks/Pulumi.prod.yaml", ["prod"]),
        # The providers' versions, which no plan shows either.
        ("requirements/platform.txt", ["dev", "staging", "prod"]),
        ("README.md", []),
    ],
)
def test_a_stack_counts_as_changed_where_a_plan_tells_nothing(
    tmp_path: Path, edit: str | None, stacks: list[str]
) -> None:
    assert changed(tmp_path, {stack: differing(stack, {}) for stack in ("dev", "staging", "prod")}, edit) == stacks


def test_a_stack_is_changed_if_its_plan_differs_or_there_is_none(tmp_path: Path) -> None:
    plans = {"dev": differing("dev", {}), "prod": differing("prod", {"models": 1})}
    assert changed(tmp_path, plans, None) == ["staging", "prod"]


def differing(stack: str, outputs: Mapping[str, Any]) -> bytes:
    """A plan against another commit, since which these outputs are new."""
    empty = Inventory(stack=stack, mode="preview", resources=[], outputs={})
    found = difference(empty, empty.model_copy(update={"outputs": outputs}))
    against = Comparison(base="main", commit=SHA, new_stack=False, difference=found, policies=None)
    return Plan.model_validate_json(plan(stack)).model_copy(update={"comparison": against}).model_dump_json().encode()


def changed(folder: Path, plans: Mapping[str, bytes], edit: str | None) -> list[str]:
    """Ask in a repository whose last commit edits a file."""
    for name in ("README.md", "requirements/platform.txt", *(f"stacks/Pulumi.{each}.yaml" for each in plans)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("one\n")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    if edit:
        (folder / edit).write_text("two\n")
    subprocess.run([*git, "commit", "-qam", "two", "--allow-empty"], check=True)
    (folder / "plans").mkdir()
    for stack, text in plans.items():
        (folder / "plans" / f"{stack}.json").write_bytes(text)
    command = [sys.executable, TOOLS / "changed.py", "plans", "HEAD^1", '["dev", "staging", "prod"]']
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, _, value = done.stdout.partition("=")
    assert name == "stacks"
    return json.loads(value)


# The comment, and the issue


BOT = {"login": "github-actions[bot]"}
COMMENTS = "repos/example/mlops/issues/7/comments"


@pytest.mark.parametrize(
    ("there", "method", "path"),
    [
        ([], "POST", COMMENTS),
        # A person's, and one of the other kind, are left alone.
        ([{"id": 1, "user": {"login": "a"}, "body": "<!-- mlops-plan -->"}], "POST", COMMENTS),
        ([{"id": 1, "user": BOT, "body": "<!-- mlops-review -->"}], "POST", COMMENTS),
        ([{"id": 1, "user": BOT, "body": "Of <!-- mlops-plan -->"}], "POST", COMMENTS),
        (
            [{"id": 1, "user": BOT, "body": "x"}, {"id": 2, "user": BOT, "body": "<!-- mlops-plan -->\nold"}],
            "PATCH",
            "repos/example/mlops/issues/comments/2",
        ),
    ],
)
def test_one_comment_is_posted_or_replaced(github: GitHub, there: list[Any], method: str, path: str) -> None:
    (github.folder / "comment.md").write_text("<!-- mlops-plan -->\nnew\n")
    github.answers = {COMMENTS: there}
    done = github.run(TOOLS / "comment", "7", "comment.md")
    assert done.returncode == 0, done.stderr
    (asked,) = github.asked()
    assert (asked["method"], asked["path"], asked["body"]) == (method, path, "<!-- mlops-plan -->\nnew\n")


@pytest.mark.parametrize("first", ["Hello", '<!-- " or true or " -->', ""])
def test_a_text_without_a_marker_is_not_posted(github: GitHub, first: str) -> None:
    (github.folder / "comment.md").write_text(f"{first}\n")
    done = github.run(TOOLS / "comment", "7", "comment.md")
    assert done.returncode == 2
    assert "does not begin with a marker" in done.stderr
    assert not (github.folder / "asked").exists()


ISSUES = "repos/example/mlops/issues"
OPEN = [
    {"number": 1, "user": {"login": "a"}, "body": "<!-- mlops-review -->"},
    {"number": 2, "user": BOT, "body": None},
    {"number": 3, "user": BOT, "body": "<!-- mlops-review -->\nold"},
    {"number": 4, "user": BOT, "body": "<!-- mlops-review -->", "pull_request": {}},
]


@pytest.mark.parametrize(
    ("result", "there", "method", "path"),
    [
        ("failure", [], "POST", ISSUES),
        ("failure", OPEN, "PATCH", f"{ISSUES}/3"),
        ("success", OPEN, "PATCH", f"{ISSUES}/3"),
        ("success", [], None, None),
    ],
)
def test_drift_has_one_issue_until_there_is_none(
    github: GitHub, result: str, there: list[Any], method: str | None, path: str | None
) -> None:
    (github.folder / "drift.md").write_text("<!-- mlops-review -->\nnew\n")
    github.answers = {ISSUES: there}
    done = github.run(TOOLS / "issue", result, "drift.md", RUN_URL="https://example.org/run")
    assert done.returncode == 0, done.stderr
    assert [(asked["method"], asked["path"]) for asked in github.asked()] == ([(method, path)] if method else [])
    if result == "failure":
        assert github.asked()[0]["body"] == "<!-- mlops-review -->\nnew\n\nFound by https://example.org/run\n"
    elif method:
        assert "state=closed" in github.asked()[0]["arguments"]


def test_a_search_that_found_nothing_to_review_is_told_of(github: GitHub) -> None:
    (github.folder / "drift.md").write_text("")
    github.answers = {ISSUES: []}
    assert github.run(TOOLS / "issue", "failure", "drift.md").returncode == 0
    assert github.asked()[0]["body"].startswith("<!-- mlops-review -->\n\nThe search for drift failed")


# Images

REGISTRY = """
import json, sys
from pathlib import Path
here = Path(__file__).parent
known = json.loads((here / "known.json").read_text())
with (here / "done").open("a") as done:
    done.write(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
verb, last = sys.argv[1], sys.argv[-1].removeprefix("docker://")
if verb == "inspect":
    if last not in known:
        sys.exit("manifest unknown")
    print(known[last])
elif verb == "push":
    known[last] = "sha256:built"
elif verb == "copy":
    known[last] = sys.argv[-2].partition("@")[2] if known.get("honest", True) else "sha256:rebuilt"
(here / "known.json").write_text(json.dumps(known))
"""


@pytest.fixture
def registries(tmp_path: Path, scratch_checkout: Path) -> "Registries":
    return Registries(tmp_path / "bin", scratch_checkout)


class Registries:
    """docker, skopeo and gcloud, with what the registries of dev and staging hold."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.folder, self.checkout = folder, checkout
        for name in ("docker", "skopeo", "gcloud"):
            program(folder, name, REGISTRY)
        for stack in ("dev", "staging"):
            path = checkout / "stacks" / f"Pulumi.{stack}.yaml"
            path.write_text(
                path.read_text().replace("hybrid-mlops:gcp:\n", f"hybrid-mlops:gcp:\n    project: my-{stack}\n")
            )
        folders = sorted(path.parent.name for path in checkout.glob("images/*/Dockerfile"))
        self.names = {
            stack: [images.name(checkout, each, f"europe-west1-docker.pkg.dev/my-{stack}/images") for each in folders]
            for stack in ("dev", "staging")
        }

    def run(self, *stacks: str, holding: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run the script, where registries hold these names, and what digests they have."""
        (self.folder / "known.json").write_text(json.dumps(holding))
        (self.folder / "done").unlink(missing_ok=True)
        environment = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "PYTHONPATH": str(self.checkout)}
        command = [sys.executable, str(self.checkout / "tools/ci/images.py"), *stacks]
        return subprocess.run(command, env=environment, cwd=self.checkout, capture_output=True, text=True)

    def done(self, *verbs: str) -> list[str]:
        """What the programs were told, of some verbs."""
        lines = (self.folder / "done").read_text().splitlines()
        return [line for line in lines if line.split()[1] in verbs]


def test_images_are_built_where_they_are_missing_and_copied_by_digest_elsewhere(registries: Registries) -> None:
    dev, staging = registries.names["dev"], registries.names["staging"]
    done = registries.run("dev", holding=dict.fromkeys(dev[1:], "sha256:old"))
    assert done.returncode == 0, done.stderr
    # The one that is missing, and no other.
    assert [line.split()[-1] for line in registries.done("push")] == [dev[0]]
    (build,) = registries.done("build")
    folder = dev[0].rpartition("/")[2].partition(":")[0]
    assert f"--tag {dev[0]} --file images/{folder}/Dockerfile ." in build
    assert registries.done("auth") == ["gcloud auth configure-docker --quiet europe-west1-docker.pkg.dev"]

    held = {name: f"sha256:{number}" for number, name in enumerate(dev)}
    done = registries.run("staging", "dev", holding={**held, staging[0]: "sha256:0"})
    assert done.returncode == 0, done.stderr
    assert registries.done("build", "push") == []
    origin = f"{dev[1].rpartition(':')[0]}@sha256:1"
    assert registries.done("copy")[0].split()[-2:] == [
        f"docker://{origin}",
        f"docker://{staging[1]}",
    ]
    assert len(registries.done("copy")) == len(dev) - 1


def test_an_image_is_never_another_than_the_stack_before_ran(registries: Registries) -> None:
    dev, staging = registries.names["dev"], registries.names["staging"]
    held = dict.fromkeys(dev, "sha256:a")
    for holding, says in [
        (dict.fromkeys(dev[1:], "sha256:a"), f"{dev[0]} is not there, so it cannot be copied"),
        ({**held, staging[0]: "sha256:b"}, f"{staging[0]} is sha256:b and not sha256:a"),
        ({**held, "honest": False}, f"{staging[0]} is sha256:rebuilt and not sha256:a"),
    ]:
        done = registries.run("staging", "dev", holding=holding)
        assert done.returncode == 1
        assert says in done.stderr
        assert registries.done("build", "push") == []
    done = registries.run("prod", holding={})
    assert done.returncode == 1
    assert "hybrid-mlops:gcp.project is not in stacks/Pulumi.prod.yaml" in done.stderr
