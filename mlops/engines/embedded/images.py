"""A container image run as a process: its code from `images/<folder>`, in the environment that its lock file describes.

Owns: from an image's name to folder, command and environment, and the installing of what the lock file names.
Deliberately not: building or pulling images, and how an image's content hash is computed (`infra.images`).
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops.engines.embedded import private
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.tasks import Command, Processes

_NAME = re.compile(
    r"(?:(?P<repository>[^\s@]+)/)?(?P<folder>[a-z0-9][a-z0-9._-]*):(?P<tag>[0-9A-Za-z_][0-9A-Za-z_.-]*)"
)
_FRESH_SECONDS = 2.0
_NODE_MARK = Path("node_modules", ".package-lock.sha256")
_PYTHON_MARK = Path(".venv", "requirements.sha256")


@dataclass(frozen=True)
class Image:
    """An image's code on this machine.

    Attributes:
        folder: `images/<folder>` of the checkout, where the process starts.
        entrypoint: The Dockerfile's ENTRYPOINT.
        cmd: The Dockerfile's CMD.
        env: The Dockerfile's ENV, with paths under WORKDIR turned into paths under `folder`.
        path: Folders of the image's own environment that come first on PATH.
    """

    folder: Path
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: Mapping[str, str]
    path: tuple[Path, ...]


class Images:
    """The images of one checkout."""

    def __init__(self, checkout: Path, content_hash: Callable[[Path, str], str] | None = None) -> None:
        self._checkout = checkout
        self._content_hash = content_hash or _content_hash
        self._locks: dict[str, asyncio.Lock] = {}
        self._hashes: dict[str, tuple[float, str]] = {}

    async def resolve(self, name: str) -> Image:
        """From an image's name to its code, which must be what the name says.

        Raises:
          EmbeddedError: There is no such image, its code has changed since it was registered, or its Dockerfile is
            not understood.
        """
        match = _NAME.fullmatch(name)
        if not match:
            raise EmbeddedError(
                f'image "{name}" is not <repository>/<folder>:<hash>; the stack\'s image_* variables give such names'
            )
        label = match["folder"]
        folder = self._checkout / "images" / label
        if not (folder / "Dockerfile").is_file():
            raise EmbeddedError(f'image "{name}": there is no images/{label}/Dockerfile in the checkout')
        async with self._locks.setdefault(label, asyncio.Lock()):
            at, present = self._hashes.get(label, (float("-inf"), ""))
            if time.monotonic() - at > _FRESH_SECONDS:
                present = await asyncio.to_thread(self._content_hash, self._checkout, label)
                self._hashes[label] = (time.monotonic(), present)
        if present != match["tag"]:
            raise EmbeddedError(
                f"images/{label} has changed since the job was registered (now {present}, registered {match['tag']});"
                " register it again: mlops up"
            )
        return _read(folder)

    async def prepare(self, image: Image, processes: Processes, log: Path, said: Callable[[str], None]) -> None:
        """Install what the image's lock file names, unless that is in place. Safe to interrupt and to run side by side.

        Its output goes to `log`; `said` is told when something is installed.
        """
        npm = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        sync = ("pip", "sync", "--compile-bytecode", "--require-hashes", "--allow-empty-requirements")
        installers = (
            # npm's copy leaves out linked packages in some releases (seen with npm 9): it cannot be the only sign.
            (_node_missing, "npm ci", [npm], _NODE_MARK, "package-lock.json"),
            (
                _python_missing,
                "uv pip sync",
                [
                    _uv("venv", "--quiet", "--allow-existing", ".venv"),
                    _uv(*sync, "--python", ".venv/bin/python", "requirements.txt"),
                ],
                _PYTHON_MARK,
                "requirements.txt",
            ),
        )
        for missing, what, commands, mark, lock in installers:
            if not missing(image.folder):
                continue
            async with self._locks.setdefault(str(image.folder), asyncio.Lock()), _file_lock(image.folder):
                if not missing(image.folder):
                    continue
                said(f"{what} in images/{image.folder.name}")
                for command in commands:
                    # An installer is set-up, not a task: it needs the user's proxy, registry and cache settings.
                    end = await processes.run(Command(command, dict(os.environ), image.folder, log, log))
                    if end.code:
                        raise EmbeddedError(
                            f"{what} failed in images/{image.folder.name} with exit code {end.code}; its output is in"
                            f" {log}"
                        )
                _mark(image.folder / mark, image.folder / lock)


def _content_hash(checkout: Path, folder: str) -> str:
    from infra.images import ImageError, content_hash

    try:
        return content_hash(checkout, folder)
    except ImageError as error:
        raise EmbeddedError(str(error)) from error


def _uv(*arguments: str) -> tuple[str, ...]:
    beside = Path(sys.prefix) / "bin" / "uv"
    return (str(beside) if beside.exists() else shutil.which("uv") or "uv", *arguments)


@asynccontextmanager
async def _file_lock(folder: Path) -> AsyncIterator[None]:
    """Across supervisors: another state folder may use the same checkout, and another checkout the same `.cache`."""
    locks = folder.parents[1] / ".cache" / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(private.locked(locks / f"image-{folder.name}", wait=False))
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield


def _node_missing(folder: Path) -> bool:
    """Whether node_modules is not what package-lock.json says, by our own mark or the copy that npm leaves."""
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if not lock.exists() or _marked(folder / _NODE_MARK, lock):
        return False
    try:
        have = json.loads(installed.read_bytes())["packages"]
        want = json.loads(lock.read_bytes())["packages"]
    except (OSError, ValueError, KeyError):
        return True

    def same(name: str) -> bool:
        installed_package = have.get(name, {})
        return all(installed_package.get(key) == want[name].get(key) for key in ("version", "integrity"))

    left_out = ("optional", "link", "dev")
    needed = [name for name, package in want.items() if name and not any(package.get(key) for key in left_out)]
    return not all(map(same, needed)) or any(name not in want for name in have)


def _python_missing(folder: Path) -> bool:
    lock = folder / "requirements.txt"
    return lock.exists() and not _marked(folder / _PYTHON_MARK, lock)


def _mark(mark: Path, lock: Path) -> None:
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(hashlib.sha256(lock.read_bytes()).hexdigest())


def _marked(mark: Path, lock: Path) -> bool:
    try:
        return mark.read_text() == hashlib.sha256(lock.read_bytes()).hexdigest()
    except OSError:
        return False


def _read(folder: Path) -> Image:
    where = f"images/{folder.name}/Dockerfile"
    text = re.sub(r"^\s*#.*\n?", "", (folder / "Dockerfile").read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\r?\n", " ", text)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = {}
    workdir = "/"
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        match word.upper():
            case "FROM":  # only the last stage is the image
                entrypoint, cmd, env, workdir = (), (), {}, "/"
            case "WORKDIR":
                workdir = rest
            case "ENTRYPOINT":
                entrypoint = _exec_form(rest, f"{where}: ENTRYPOINT")
            case "CMD":
                cmd = _exec_form(rest, f"{where}: CMD")
            case "ENV":
                env.update(_assignments(rest, where))
    inside = workdir.rstrip("/")

    def placed(value: str) -> str:
        return (
            str(folder) + value[len(inside) :]
            if inside and (value == inside or value.startswith(inside + "/"))
            else value
        )

    path = []
    if (folder / "package.json").exists():
        path.append(folder / "node_modules" / ".bin")
    if (folder / "requirements.txt").exists():
        path.append(folder / ".venv" / "bin")
    return Image(
        folder=folder,
        entrypoint=tuple(map(placed, entrypoint)),
        cmd=tuple(map(placed, cmd)),
        # PATH is this machine's matter.
        env={key: placed(value) for key, value in env.items() if key != "PATH"},
        path=tuple(path),
    )


def _exec_form(text: str, where: str) -> tuple[str, ...]:
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise EmbeddedError(f'{where} is not in exec form; write it as ["program", "argument"]')
    return tuple(words)


def _assignments(text: str, where: str) -> dict[str, str]:
    words = shlex.split(text)
    found = dict(word.split("=", 1) for word in words if "=" in word)
    if len(found) != len(words):
        raise EmbeddedError(f"{where}: ENV {text}: write ENV KEY=value")
    for key, value in found.items():
        if "$" in value and key != "PATH":
            raise EmbeddedError(
                f"{where}: ENV {key} refers to another variable, which the embedded engine does not do; write the"
                " value out"
            )
    return found
