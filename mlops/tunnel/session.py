"""A command beside tunnels: listens, runs it with Nomad's variables set, and ends with it.

Owns the command's environment, the signals that are its, and that nothing is left running.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra import naming
from mlops.tunnel import gcloud
from mlops.tunnel.gcloud import TunnelError
from mlops.tunnel.listener import Listener

_OF_TLS = ("NOMAD_CACERT", "NOMAD_CAPATH", "NOMAD_CLIENT_CERT", "NOMAD_CLIENT_KEY", "NOMAD_TLS_SERVER_NAME")
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True)
class Offer:
    """One Nomad region at a port of this machine."""

    region: str
    port: int

    @property
    def address(self) -> str:
        """What NOMAD_ADDR is for it."""
        return f"https://127.0.0.1:{self.port}"


def environment(offers: Sequence[Offer], ca_folder: str | None) -> dict[str, str]:
    """What a command is told of the first of some regions, in the variables of Nomad's own command.

    NOMAD_CAPATH and not NOMAD_CACERT: where that is set, Pulumi's provider refuses to be given the CA by the program
    (`ca_file` and `ca_pem` exclude each other in its schema, and the variable is `ca_file`'s default).
    NOMAD_TLS_SERVER_NAME only where there is one region: the provider of another would check for that name too.
    """
    first = offers[0]
    variables = {"NOMAD_ADDR": first.address, "NOMAD_REGION": first.region}
    if ca_folder:
        variables["NOMAD_CAPATH"] = ca_folder
    if len(offers) == 1:
        variables["NOMAD_TLS_SERVER_NAME"] = naming.nomad_server_name(first.region)
    return variables


def run(
    project: str,
    offers: Sequence[Offer],
    command: Sequence[str],
    *,
    ready: Callable[[Mapping[str, str]], None],
    tell: Callable[[str], None],
) -> int:
    """Listen, and run a command; without one, until a signal ends it.

    Args:
        project: Id of the project.
        offers: The Nomad regions; the command is told of the first.
        command: The program and its arguments; empty for none.
        ready: Called with the variables of `environment` when all ports are listened on.
        tell: Is given a line for each kind of failure.

    Returns:
        The command's exit code; 128 and the signal's number, if a signal ended it.

    Raises:
        TunnelError: A port is taken, the command is not to be found, or there is no gcloud.
    """
    gcloud.check()
    return asyncio.run(_run(project, offers, command, ready, tell))


async def _run(
    project: str,
    offers: Sequence[Offer],
    command: Sequence[str],
    ready: Callable[[Mapping[str, str]], None],
    tell: Callable[[str], None],
) -> int:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for sign in _FORWARDED:
        asyncio.get_running_loop().add_signal_handler(sign, signals.put_nowait, sign)
    listeners = [Listener(project, offer.region, offer.port, tell) for offer in offers]
    with tempfile.TemporaryDirectory(prefix="mlops-tunnel-") as folder:
        for listener in listeners:
            await listener.start()
        asking = asyncio.create_task(_ca_folder(project, Path(folder)))
        interrupted = asyncio.create_task(signals.get())
        await asyncio.wait({asking, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            return 128 + interrupted.result()
        variables = environment(offers, asking.result())
        if "NOMAD_CAPATH" not in variables:
            tell(
                f"the certificate of Nomad's CA cannot be read in project {project}, as before the stack's first "
                "update, so NOMAD_CAPATH is not set"
            )
        ready(variables)
        if not command:
            return 128 + await interrupted
        return await _command(command, variables, signals, interrupted)


async def _ca_folder(project: str, folder: Path) -> str | None:
    pem = await gcloud.ca_certificate(project)
    if pem is None:
        return None
    (folder / "nomad-ca.pem").write_text(pem, encoding="utf-8")
    return str(folder)


async def _command(
    command: Sequence[str],
    variables: Mapping[str, str],
    signals: "asyncio.Queue[signal.Signals]",
    first: "asyncio.Task[signal.Signals]",
) -> int:
    # What the caller's own environment says of TLS is of another Nomad.
    own = {name: value for name, value in os.environ.items() if name not in _OF_TLS}
    try:
        process = await asyncio.create_subprocess_exec(*command, env={**own, **variables})
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise TunnelError(f"{command[0]} cannot be run ({problem}), so nothing was done; correct it") from None
    ended = asyncio.create_task(process.wait())
    arrived = first
    while not ended.done():
        await asyncio.wait({ended, arrived}, return_when=asyncio.FIRST_COMPLETED)
        if arrived.done():
            sign = arrived.result()
            if not (sign in (signal.SIGINT, signal.SIGQUIT) and _typed()) and process.returncode is None:
                process.send_signal(sign)
            arrived = asyncio.create_task(signals.get())
    arrived.cancel()
    code = ended.result()
    return code if code >= 0 else 128 - code


def _typed() -> bool:
    """Whether an interrupt comes from the terminal, which sends it to the command too."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
