"""The client's side of the embedded platform: start it, find it, end it, register what it is to run.

Owns: where a running platform says how it is reached. Deliberately imports nothing but the standard library, so that
every command is quick. Killing who called `up` harms nothing: the platform is a process of its own.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlops.engines.embedded import private
from mlops.paths import CHECKOUT

_END_SECONDS = 30
_START_SECONDS = 120
_REQUEST_SECONDS = 60
_DEFINITIONS = {
    "WorkflowTemplate": ("workflow-templates", "template"),
    "CronWorkflow": ("cron-workflows", "cronWorkflow"),
}
_REGISTER_SECONDS = 1800  # the job's images are installed meanwhile


class PlatformError(Exception):
    """The platform does not start or refuses; the message is one line that says what to do."""

    exit_code = 1


class UnsafeError(PlatformError):
    """It would not be safe to start or to use the platform; a definite no."""

    exit_code = 2


@dataclass(frozen=True)
class Platform:
    """A running platform.

    Attributes:
        nomad_address: Base URL of Nomad's API.
        storage_address: What STORAGE_EMULATOR_HOST is to be.
        feed_url: `https://localhost:PORT`, or empty where it was started without the feed.
        ca_file: Certificate authority of the feed.
    """

    pid: int
    nomad_address: str
    storage_address: str
    feed_url: str
    ca_file: str
    checkout: str

    @property
    def argo_address(self) -> str:
        """Base URL of Argo Server's API."""
        return self.nomad_address


def up(
    state: Path,
    buckets: Iterable[str] = (),
    *,
    checkout: Path = CHECKOUT,
    feed: bool = True,
    progress: Callable[[str], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Platform:
    """Start the platform of a state folder, unless it runs, and make its buckets.

    Interrupted, it ends what it has started.

    Args:
      state: The state folder; made if missing.
      buckets: Names of buckets to make if missing.
      checkout: The project whose `images/` are run.
      feed: Whether to serve the data set as Salesforce would.
      progress: Is told what is being started.
      notice: Is told what the user should know, such as that nothing can be confined here.

    Raises:
      PlatformError: It does not start; the message names its log.
    """
    try:
        private.folder(state)
        with private.locked(state / "up.lock"):
            found = find(state)
            platform = found or _start(
                state, checkout, feed=feed, progress=progress or (lambda _: None), notice=notice or (lambda _: None)
            )
    except private.UnsafeError as error:
        raise _unsafe(state, error) from error
    except OSError as error:
        raise PlatformError(
            f"cannot use the state folder {state}: {error.strerror}; free it, or name another by MLOPS_STATE"
        ) from error
    if Path(platform.checkout) != checkout.resolve():
        raise PlatformError(
            f"{state} serves another checkout, {platform.checkout}; end that by `mlops down` there, or name another"
            " folder by MLOPS_STATE"
        )
    try:
        for bucket in buckets:
            _make_bucket(platform, bucket)
    except KeyboardInterrupt:
        if not found:
            _end(platform.pid)
        raise
    return platform


def down(state: Path) -> bool:
    """End the platform; runs that are under way are lost. Whether there was one."""
    platform = find(state)
    if platform is None:
        return False
    _end(platform.pid)
    return True


def find(state: Path) -> Platform | None:
    """The platform that runs for a state folder, or None.

    Raises:
      UnsafeError: The folder, or the file in it that says so, may be somebody else's work.
    """
    try:
        private.check(state)
        with private.opened(state / "platform.json", "rb") as file:
            found = json.load(file)
        born = found.pop("born")
        platform = Platform(**found)
    except private.UnsafeError as error:
        raise _unsafe(state, error) from error
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return platform if born == _born(platform.pid) else None


def register(platform: Platform, jobspec: str, variables: Mapping[str, str]) -> str:
    """Register a Nomad job and give its id.

    Raises:
      PlatformError: It was refused, in the engine's own words.
    """
    submission = {"Source": jobspec, "Format": "hcl2", "VariableFlags": dict(variables)}
    address = f"{platform.nomad_address}/v1/jobs"
    return _send("PUT", address, {"Submission": submission}, _REGISTER_SECONDS)["JobID"]


def register_definition(platform: Platform, definition: Mapping[str, Any]) -> str:
    """Register a WorkflowTemplate or CronWorkflow and give its kind and name."""
    kind, name = definition["kind"], definition["metadata"]["name"]
    path, member = _DEFINITIONS[kind]
    namespace = definition["metadata"].get("namespace", "default")
    _send("POST", f"{platform.argo_address}/api/v1/{path}/{namespace}", {member: dict(definition)})
    return f"{kind}/{name}"


def artifacts_in(platform: Platform, bucket: str) -> None:
    """Say in which bucket the steps of workflows leave what they hand on."""
    _send("PUT", f"{platform.argo_address}/api/v1/artifact-repository", {"bucket": bucket})


def write(state: Path, platform: Platform) -> None:
    """Say, as the supervisor, how it is reached."""
    temporary = state / "platform.json.new"
    with private.opened(temporary, "wb") as file:
        file.write(json.dumps({**asdict(platform), "born": _born(platform.pid)}).encode())
    temporary.replace(state / "platform.json")


def forget(state: Path) -> None:
    """Take back what `write` said."""
    (state / "platform.json").unlink(missing_ok=True)


def _born(pid: int) -> str | None:
    """When a process started, in the kernel's clock: a number that was given to another process is told from it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _unsafe(state: Path, error: OSError) -> UnsafeError:
    return UnsafeError(
        f"the state folder {state} is not safe to use: {error}; correct that, or name another folder by MLOPS_STATE"
    )


def _end(pid: int) -> None:
    """End a supervisor, and so all that it runs."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            if not select.select([process], [], [], _END_SECONDS)[0]:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                select.select([process], [], [], _END_SECONDS)
        finally:
            os.close(process)


def _start(
    state: Path, checkout: Path, *, feed: bool, progress: Callable[[str], None], notice: Callable[[str], None]
) -> Platform:
    log = state / "supervisor.log"
    command = [
        sys.executable,
        "-P",
        "-m",
        "mlops.engines.embedded.supervisor",
        str(state.resolve()),
        str(checkout.resolve()),
    ]
    if feed:
        data_file = checkout / ".cache" / "data" / "Caravan.csv"
        if not data_file.is_file():
            raise PlatformError(
                f"the data set {data_file} is missing, so there is nothing to serve; `make run` or `make test`"
                " fetches it"
            )
        command += ["--data-file", str(data_file)]
    reader, writer = os.pipe()
    with private.opened(log, "ab") as output, os.fdopen(reader, "rb") as report:
        try:
            process = subprocess.Popen(
                [*command, "--report", str(writer)],
                pass_fds=[writer],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=state,
                start_new_session=True,
            )
        finally:
            os.close(writer)
        error = "it ended while starting"
        try:
            while select.select([report], [], [], _START_SECONDS)[0]:
                if not (line := report.readline()):
                    break
                said = json.loads(line)
                if "progress" in said:
                    progress(said["progress"])
                elif "notice" in said:
                    notice(said["notice"])
                elif "ready" in said and (platform := find(state)):
                    process.returncode = 0  # it lives on without us
                    return platform
                elif "refused" in said:
                    raise UnsafeError(f"the embedded platform does not start: {said['refused']}")
                elif "error" in said:
                    error = said["error"]
            else:
                error = f"it said nothing for {_START_SECONDS} s"
        finally:
            if process.returncode is None:  # interrupted, or never ready: nothing of it is left behind
                _end(process.pid)
                process.wait()
    raise PlatformError(f"the embedded platform does not start: {error}; its log is {log}")


def _make_bucket(platform: Platform, name: str) -> None:
    try:
        _send("POST", f"{platform.storage_address}/storage/v1/b?project=local", {"name": name})
    except _RefusedError as error:
        if error.status != 409:  # it is there already
            raise PlatformError(f'bucket "{name}" cannot be made: {error}') from error


class _RefusedError(PlatformError):
    status = 0

    @property
    def exit_code(self) -> int:
        """As a definite no, 2; the platform's own trouble may pass."""
        return 2 if self.status < 500 else 1


def _send(method: str, url: str, body: Any, seconds: float = _REQUEST_SECONDS) -> Any:
    request = urllib.request.Request(  # noqa: S310 - the address is our own
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is nobody's business
    try:
        with opener.open(request, timeout=seconds) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        refused = _RefusedError(" ".join(error.read().decode(errors="replace").split()) or str(error))
        refused.status = error.code
        raise refused from error
    except OSError as error:
        raise PlatformError(
            f"the embedded platform does not answer at {url}: {error}; start it with `mlops up`"
        ) from error
