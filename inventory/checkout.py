"""Checkouts to be planned: the files of a commit, or of the working tree, in a folder of their own.

Owns what of a repository a planned program sees: files, and an index that says which there are. Not the repository's
own `.git`: its configuration may hold a token, and its history is none of a plan's business.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inventory.recorder import PlanError


def commit(root: Path, ref: str) -> str:
    """The full id of the commit that a branch, a tag or an id names.

    Raises:
        PlanError: There is none.
    """
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").strip()
    except PlanError:
        raise PlanError(
            f"there is no commit {ref!r} in this repository, so there is nothing to compare with; name another one, or "
            "fetch it first (git fetch)"
        ) from None


@contextmanager
def checkout(root: Path, ref: str | None = None) -> Iterator[Path]:
    """A copy of a checkout: of a commit, or of the working tree with what git does not ignore.

    Raises:
        PlanError: git cannot read it, or a link leads out of it.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-checkout-") as folder:
        tree = Path(folder).resolve() / "tree"
        _git(Path(folder), "init", "--quiet", "--template=", str(tree))
        if ref is None:
            _copy(root, tree)
        else:
            index = {"GIT_INDEX_FILE": str(tree / ".git" / "index")}
            _git(root, "read-tree", commit(root, ref), environment=index)
            _git(root, "checkout-index", "--all", f"--prefix={tree}/", environment=index)
        _refuse_links_out(tree)
        yield tree


def digest(tree: Path) -> str:
    """What a checkout's files are, in one word: git's id of the tree."""
    return _git(tree, "write-tree", "--missing-ok").strip()


def _copy(root: Path, tree: Path) -> None:
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
    copied = []
    for name in filter(None, listed.split("\0")):
        source, target = root / name, tree / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target, follow_symlinks=False)
            copied.append(name)
    # The names and digests of all of them, one that is tracked and ignored too; git needs no second copy.
    _git(tree, "update-index", "--add", "--info-only", "-z", "--stdin", text="\0".join(copied))


def _refuse_links_out(tree: Path) -> None:
    """A stack file that is a link would be read here, outside of all confinement."""
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(tree):
                raise PlanError(
                    f"{path.relative_to(tree)} is a link that leads out of the checkout, so nothing of it is planned; "
                    "remove the link"
                )


def _git(root: Path, *arguments: str, environment: dict[str, str] | None = None, text: str | None = None) -> str:
    # Nothing that a configuration names is run: no hook, no monitor.
    command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"]
    try:
        done = subprocess.run(
            [*command, "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            input=text,
            env=os.environ | (environment or {}),
        )
    except FileNotFoundError:
        raise PlanError("git is not installed, so no checkout can be read; install it") from None
    except subprocess.CalledProcessError as error:
        raise PlanError(f"git {arguments[0]} failed: {' '.join(error.stderr.split())}") from None
    return done.stdout
