"""What every engine on this machine shares: processes, resources, images, a task's clean environment, Variables.

Owns: which variables of the outside a task sees. Deliberately not: what is run.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops.engines.embedded.images import Images
from mlops.engines.embedded.scheduler import Scheduler
from mlops.engines.embedded.tasks import Processes

_INHERITED = ("LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_FRESH_SECONDS = 2.0


@dataclass
class Machine:
    """One state folder on one checkout.

    Attributes:
        given: Environment that every task gets: where the bucket is, whom to trust for the feed.
        credentials: Of the feed, in memory only: what a job's own Nomad Variable, `nomad/jobs/<id>`, holds.
    """

    state: Path
    checkout: Path
    processes: Processes
    scheduler: Scheduler
    images: Images
    given: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)
    _code: tuple[float, dict[str, str]] = (float("-inf"), {})
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def environment(self, home: Path, temporary: Path, path: Iterable[Path] = ()) -> dict[str, str]:
        """A task's environment before its own: nothing of the caller's but what is named here."""
        system = os.environ.get("PATH", os.defpath)
        return {
            "LANG": "C.UTF-8",
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "PATH": ":".join([*map(str, path), str(Path(sys.prefix) / "bin"), system]),
            **self.given,
        }

    async def code(self) -> dict[str, str]:
        """CODE_COMMIT and CODE_DIRTY of the checkout; nothing where there is no git."""
        async with self._lock:
            at, code = self._code
            if time.monotonic() - at > _FRESH_SECONDS:
                code = await asyncio.to_thread(_code, self.checkout)
                self._code = (time.monotonic(), code)
        return code


def _code(checkout: Path) -> dict[str, str]:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(checkout), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return {
            "CODE_COMMIT": git("rev-parse", "HEAD"),
            "CODE_DIRTY": "true" if git("status", "--porcelain") else "false",
        }
    except (OSError, subprocess.CalledProcessError):
        return {}
