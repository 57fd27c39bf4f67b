"""A fork's program, planned: what it tries to take with it, and what it gets."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from infra.settings import ROOT
from inventory.checkout import checkout, commit
from inventory.recorder import PlanError, record
from mlops_registry import confinement

HOSTILE = """
import os
import socket
import pulumi


def tried(attempt):
    try:
        return attempt()
    except OSError as error:
        return f'refused: {{type(error).__name__}}'


def processes():
    # An environment that is no one's but a process's own is in /proc, for whoever runs as the same user.
    pids = [pid for pid in os.listdir('/proc') if pid.isdigit()]
    return ' '.join(tried(lambda: open(f'/proc/{{pid}}/environ').read()) for pid in pids)


pulumi.export('environment', dict(os.environ))
pulumi.export('processes', tried(processes))
pulumi.export('credentials', tried(lambda: open({credentials!r}).read()))
pulumi.export('file', tried(lambda: open({marker!r}).read()))
pulumi.export('network', tried(lambda: socket.create_connection(('127.0.0.1', {port}), 2).recv(100).decode()))
pulumi.export('checkout', tried(lambda: open({written!r}, 'w').write('planted')))
pulumi.export('own', open('secret-free.txt').read())
"""


@pytest.fixture
def listener() -> int:
    """A port on which something answers."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"reached")

    threading.Thread(target=answer, daemon=True).start()
    return server.getsockname()[1]


@pytest.mark.parametrize("confine", [False, True])
def test_a_forks_program_gets_nothing_that_is_not_in_its_checkout(
    tmp_path: Path, listener: int, monkeypatch: pytest.MonkeyPatch, confine: bool
) -> None:
    """Unconfined it gets files and network, so the attempts are real; the environment it gets in neither case."""
    if confine and (why := confinement.problem()):
        pytest.skip(f"nothing can be confined here: {why}")
    home, tree = tmp_path / "home", tmp_path / "tree"
    credentials = home / ".config" / "gcloud" / "application_default_credentials.json"
    credentials.parent.mkdir(parents=True)
    credentials.write_text("refresh-token")
    marker = tmp_path / "hostname"
    marker.write_text("the-host")
    (tree / "stacks").mkdir(parents=True)
    (tree / "stacks" / "Pulumi.local.yaml").write_text("config: {}\n")
    (tree / "secret-free.txt").write_text("its own")
    (tree / "__main__.py").write_text(
        HOSTILE.format(
            credentials=str(credentials), marker=str(marker), port=listener, written=str(tree / "planted.py")
        )
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "ya29.of-the-caller")
    # What a running process was started with stays in /proc, whatever it does later.
    holder = subprocess.Popen(["sleep", "60"], env=os.environ | {"TOKEN": "of-the-holder"})
    try:
        got = record("local", root=tree, confine=confine).outputs
    finally:
        holder.kill()
        holder.wait()

    assert "of-the-caller" not in str(got["environment"])
    assert got["environment"]["HOME"] != str(home)
    assert got["own"] == "its own"
    if not confine:
        assert (got["credentials"], got["file"], got["network"]) == ("refresh-token", "the-host", "reached")
        assert "of-the-holder" in got["processes"]
        return
    assert got["credentials"] == got["file"] == "refused: FileNotFoundError"
    assert got["network"].startswith("refused: ")
    assert got["checkout"] == "refused: OSError"
    assert not (tree / "planted.py").exists()
    assert "of-the-holder" not in got["processes"]
    assert "of-the-caller" not in got["processes"]


@pytest.mark.parametrize("answer", ["not JSON", "[1]", '{"stack": "a-secret-of-somewhere"}'])
def test_an_answer_that_is_no_inventory_is_not_repeated(tmp_path: Path, answer: str) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.local.yaml").write_text("config: {}\n")
    (tmp_path / "__main__.py").write_text(
        "import os, stat\n"
        "pipes = [fd for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "pipes = [fd for fd in pipes if stat.S_ISFIFO(os.fstat(fd).st_mode)]\n"
        f"for fd in pipes:\n    try:\n        os.write(fd, {answer.encode()!r})\n    except OSError:\n        pass\n"
        "os._exit(0)\n"
    )
    with pytest.raises(PlanError) as raised:
        record("local", root=tmp_path)
    assert str(raised.value) == (
        "the program of stack local wrote an inventory that is none, so it cannot be planned; a program only registers "
        "resources"
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of two commits and a changed working tree."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "http.extraheader", "AUTHORIZATION: basic of-the-caller")
    (root / ".gitignore").write_text("ignored\n")
    (root / "file").write_text("first")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    (root / "file").write_text("second")
    git(root, "commit", "-q", "-a", "-m", "second")
    (root / "file").write_text("third")
    (root / "new").write_text("new")
    (root / "ignored").write_text("ignored")
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, "-C", str(root), *arguments], check=True)


def test_a_checkout_is_a_commits_files_or_the_working_trees_and_no_configuration(repository: Path) -> None:
    with checkout(repository) as tree:
        assert (tree / "file").read_text() == "third"
        assert (tree / "new").exists()
        assert not (tree / "ignored").exists()
        assert "of-the-caller" not in (tree / ".git" / "config").read_text()
    with checkout(repository, "HEAD~1") as tree:
        assert (tree / "file").read_text() == "first"
        assert not (tree / "new").exists()
        assert "of-the-caller" not in (tree / ".git" / "config").read_text()
    # The repository is as it was.
    status = subprocess.run(["git", "status", "--short"], cwd=repository, capture_output=True, text=True).stdout
    assert status.splitlines() == [" M file", "?? new"]


def test_a_link_that_leads_out_of_a_checkout_is_refused(repository: Path, tmp_path: Path) -> None:
    """Its stack file is read by the command itself, with the rights of whoever runs it."""
    (tmp_path / "credentials.yaml").write_text("config: {hybrid-mlops:token: secret}")
    (repository / "stacks").mkdir()
    (repository / "stacks" / "Pulumi.dev.yaml").symlink_to("../../credentials.yaml")
    with pytest.raises(PlanError, match=r"stacks/Pulumi.dev.yaml is a link that leads out of the checkout"):
        checkout(repository).__enter__()
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "link")
    with pytest.raises(PlanError, match=r"stacks/Pulumi.dev.yaml is a link that leads out of the checkout"):
        checkout(repository, "HEAD").__enter__()


@pytest.mark.parametrize("ref", ["nothing", "--output=x", "HEAD:file"])
def test_a_commit_that_is_none_is_told_in_one_line(repository: Path, ref: str) -> None:
    with pytest.raises(PlanError) as raised:
        commit(repository, ref)
    assert str(raised.value).startswith(f"there is no commit {ref!r} in this repository, so ")


@pytest.mark.parametrize("command", [["mlops", "plan"], ["python", "-m", "inventory"]], ids=["plan", "inventory"])
def test_where_nothing_can_be_confined_nothing_is_planned_unless_that_is_allowed(command: list[str]) -> None:
    """The kernel refuses here for real: in a user namespace that may have none below it."""
    if why := confinement.problem():
        pytest.skip(f"no namespace can be made here, to forbid others in: {why}")
    command = [str(Path(sys.executable).with_name(command[0])), *command[1:], "--stack", "local"]
    forbid = ["unshare", "--user", "--map-root-user", "sh", "-euc", 'echo 0 > "$0"; exec "$@"', LIMIT, *command]

    refused = subprocess.run(forbid, cwd=ROOT, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "--allow-unconfined" in refused.stderr

    allowed = subprocess.run([*forbid, "--allow-unconfined"], cwd=ROOT, capture_output=True, text=True)
    assert allowed.returncode == 0, allowed.stderr
    assert "unconfined" in allowed.stdout or command[-3] == "inventory"


LIMIT = "/proc/sys/user/max_user_namespaces"
