"""Running Maven: one invocation, offline unless told otherwise, and its failure as one line.

Owns: where Maven keeps what it fetched (so that a step needs no network), and how a failed build is reported.
Deliberately not: what is built; the projects are in `library/` and `consumer/`.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from errors import PackagingError

IMAGE = Path(__file__).parent.parent
DEFAULT_REPOSITORY = IMAGE / "target" / "m2" / "repository"
# A build is a few seconds, mostly of cold JVM: these halve the warm-up.
JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"


@dataclass(frozen=True)
class Maven:
    """Maven with its local repository; `online` lets it fetch what is missing, `keep` lets it stay there."""

    repository: Path
    online: bool = False
    keep: bool = False

    def run(self, project: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Run goals in a project, with more in the environment than this process has.

        Raises:
          PackagingError: It failed; the message is Maven's own first error.
        """
        if shutil.which("mvn") is None:
            raise PackagingError(
                "no `mvn` on PATH; install maven and a Java 17 development kit (Debian: maven openjdk-17-jdk-headless)"
            )
        command = ["mvn", "-B", "-ntp", "-Dstyle.color=never", f"-Dmaven.repo.local={self.repository.absolute()}"]
        # Offline is about the network: repositories that are folders stay readable.
        command += [] if self.online else ["-o", "-Daether.offline.protocols=file"]
        options = f"{JVM} {os.environ.get('MAVEN_OPTS', '')}".strip()
        done = subprocess.run(
            [*command, *arguments],
            check=False,
            cwd=project,
            env={**os.environ, **(environment or {}), "MAVEN_OPTS": options},
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise PackagingError(self._reason(done.stdout + done.stderr))

    def _reason(self, output: str) -> str:
        errors = [line.removeprefix("[ERROR]").strip() for line in output.splitlines() if line.startswith("[ERROR]")]
        reason = next(
            (line.removesuffix(" -> [Help 1]") for line in errors if line),
            output.strip().splitlines()[-1] if output.strip() else "it said nothing",
        )
        # Where and on which threads Maven failed tells people nothing.
        reason = re.sub(
            r"^Failed to execute goal (?:\S+:)?([\w-]+):[\w.]+:([\w-]+) \([\w-]+\) on project \S+: ", r"\1:\2: ", reason
        )
        if "offline mode" in output and not self.online:
            reason += "; what it needs is not in the local repository: run `packager.py prime` once, with a network"
        return f"Maven failed: {reason}"

    @contextlib.contextmanager
    def borrowed(self) -> Iterator["Maven"]:
        """Lend itself with a local repository of hard links, so that what a build brings there is gone with it.

        Maven never asks twice for a released version, so a model's library must not stay in the repository that others
        use: the next one of these coordinates would silently be this one.
        """
        if self.keep:
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="mojo-packager-m2-") as folder:
            copy = Path(folder) / "repository"
            if self.repository.is_dir():
                shutil.copytree(self.repository, copy, copy_function=_link)
            yield replace(self, repository=copy)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or another owner's file
        shutil.copyfile(source, target)
