"""What is asked of `gcloud`: the live servers of a Nomad region, a tunnel to one, and the certificate of Nomad's CA.

Owns its command lines and what its failures are called. Every child has a session of its own: an interrupt at the
terminal is for the command that works through the tunnels, which may still need them to end in order.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from infra import naming

PORT = 4646
"""Nomad's HTTP port on a server."""
_SECONDS_TO_END = 5


class TunnelError(Exception):
    """No tunnel is to be had; the message says why in one line."""


@dataclass(frozen=True)
class Server:
    """A machine that runs a Nomad server."""

    name: str
    zone: str


def check() -> None:
    """Make sure that there is a `gcloud`.

    Raises:
        TunnelError: There is none.
    """
    if not shutil.which("gcloud"):
        raise TunnelError(
            "gcloud is not on PATH, so no tunnel can be opened; install the Google Cloud CLI "
            "(https://cloud.google.com/sdk/docs/install) and run `gcloud auth login`"
        )


async def live_servers(project: str, region: str) -> list[Server]:
    """The servers of a Nomad region whose machines run, found by their labels.

    Raises:
        TunnelError: gcloud does not tell.
    """
    labels = [f"labels.{label}={value}" for label, value in naming.nomad_server_labels(region).items()]
    text = await _answer(
        "compute",
        "instances",
        "list",
        f"--project={project}",
        f"--filter={' AND '.join([*labels, 'status=RUNNING'])}",
        "--format=json(name,zone)",
    )
    try:
        return [Server(found["name"], found["zone"].rpartition("/")[2]) for found in json.loads(text or "[]")]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TunnelError("gcloud compute instances list answers something else than a list of instances") from None


async def ca_certificate(project: str) -> str | None:
    """The certificate of Nomad's CA as PEM; None if it cannot be read, as before the stack's first update."""
    try:
        return await _answer(
            "secrets", "versions", "access", "latest", f"--secret={naming.NOMAD_CA_SECRET}", f"--project={project}"
        )
    except TunnelError:
        return None


@asynccontextmanager
async def tunnel(project: str, server: Server) -> AsyncIterator[asyncio.subprocess.Process]:
    """A tunnel to a server's Nomad: what is written to the process's input comes out there, and back."""
    process = await asyncio.create_subprocess_exec(
        *_command(
            *("compute", "start-iap-tunnel", server.name, str(PORT), "--listen-on-stdin"),
            *(f"--zone={server.zone}", f"--project={project}"),
        ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        await asyncio.shield(_end(process))


def reason(stderr: bytes) -> str:
    """The last thing that gcloud said, in one line."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "gcloud said nothing"


async def _answer(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *_command(*arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = await process.communicate()
    finally:
        await asyncio.shield(_end(process))
    if process.returncode:
        raise TunnelError(f"gcloud {' '.join(arguments[:3])} failed: {reason(errors)}")
    return output.decode("utf-8", "replace")


def _command(*arguments: str) -> list[str]:
    # --quiet: nobody is there to answer a question.
    return ["gcloud", *arguments, "--quiet"]


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process and all that it started: gcloud may be a script around another program."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        try:
            await asyncio.wait_for(process.wait(), _SECONDS_TO_END)
        except TimeoutError:
            continue
        return
