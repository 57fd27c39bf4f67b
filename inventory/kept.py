"""Inventories of commits that were recorded before: a commit's files do not change, so neither does what they register.

Owns where they are kept, by the digest of all that a confined program reads, and what is believed when it is read back:
a file of this user that nobody else could have written. That is in the user's cache, never in the checkout, where a
change that is planned could bring one along. `MLOPS_CACHE` names another folder, and empty keeps none.
"""

import contextlib
import hashlib
import os
import stat
import sys
import sysconfig
import tempfile
from pathlib import Path

from pydantic import ValidationError

from infra.settings import ROOT
from inventory.checkout import digest
from inventory.recorder import PASSED_ON, record
from inventory.resources import Inventory

FOLDER = "MLOPS_CACHE"
_AT_MOST = 32
"""So many inventories of at most some megabytes are kept; the one that was not asked for longest goes first."""
_RECORDERS = ("inventory/*.py", "infra/settings/*.py", "infra/credentials.py", "registry/mlops_registry/*.py")
"""What of this checkout decides how a program is run, and what becomes of its answer."""


def recorded(stack: str, tree: Path, *, confine: bool) -> Inventory:
    """What the program of a commit registers for a stack, as it was kept or by running it.

    Args:
        stack: The stack's name.
        tree: A checkout of the commit.
        confine: Run it confined. Only then it is known what a program has read, so only then its inventory is kept.

    Raises:
        PlanError: The stack's settings cannot be used, or the program failed.
    """
    folder = _folder() if confine else None
    if folder is None:
        return record(stack, root=tree, confine=confine)
    path = folder / f"{_key(stack, tree)}.json"
    inventory = _read(path)
    if inventory is None or inventory.stack != stack:
        inventory = record(stack, root=tree, confine=confine)
        _write(path, inventory)
    return inventory


def _folder() -> Path | None:
    """The folder, if it is this user's alone."""
    named = os.environ.get(FOLDER)
    if named == "":
        return None
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = (Path(named) if named else cache / "hybrid-mlops") / "inventories"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except (OSError, RuntimeError):
        return None
    return folder if folder.is_absolute() and stat.S_ISDIR(status.st_mode) and _is_mine(status) else None


def _is_mine(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _key(stack: str, tree: Path) -> str:
    packages = sorted(each.name for each in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))
    environment = [f"{name}={os.environ.get(name)}" for name in PASSED_ON]
    parts = [stack, digest(tree), sys.version, *packages, *environment]
    files = sorted(path for pattern in _RECORDERS for path in ROOT.glob(pattern))
    parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _read(path: Path) -> Inventory | None:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not _is_mine(status):
                return None
            inventory = Inventory.model_validate_json(file.read())
        os.utime(path)
    except (OSError, ValidationError):
        return None
    return inventory


def _write(path: Path, inventory: Inventory) -> None:
    # A full disk keeps nobody from planning.
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(inventory.model_dump_json(exclude_defaults=True))
        Path(file.name).replace(path)
        newest = sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
        for each in newest[_AT_MOST:]:
            each.unlink()
