"""The gate before the first object in a Nomad region: waits until Nomad has a leader and takes the program's token.

Owns what is waited for, and what is said when it does not come. Pulumi's provider of Nomad tries nothing twice, and
machines that were just made take minutes. Deliberately a hook and no resource: it leaves nothing behind, and does
nothing in a preview or in an update that finds the object there.
"""

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import pulumi

from infra.nomad import console
from infra.nomad.api import Api, Later, NotFound, RefusedError

PATIENCE = 900
"""Seconds for which a Nomad is waited for: machines boot, elect a leader and bootstrap ACLs in a few minutes."""
_PATIENCE_WITHOUT_TUNNEL = 30
_POLL = 3


def gate(later: Later, stack: str, servers: Sequence[console.Server]) -> pulumi.ResourceHook:
    """A hook for before the creation of the first object in a region.

    Args:
        later: The region.
        stack: The stack's name, for what is said.
        servers: Its servers, which are asked what they last said if it does not become ready.
    """

    async def before(args: pulumi.ResourceHookArgs) -> None:
        del args
        api = await later.api()
        if api:
            pulumi.log.info(f"waiting for Nomad region {api.region} at {api.address}", ephemeral=True)
            await asyncio.to_thread(wait, api, stack, servers=servers)

    return pulumi.ResourceHook(f"nomad-gate-{later.region}", before)


def wait(api: Api, stack: str, patience: float = PATIENCE, *, servers: Sequence[console.Server] = ()) -> None:
    """Wait for a region.

    Raises:
        RuntimeError: It did not become ready; the message says what it lacked, what follows and what to do.
    """
    started = time.monotonic()
    while lack := _lack(api):
        waited = time.monotonic() - started
        # `mlops tunnel` takes every connection, and so does a machine: where nothing does, nothing will.
        nobody = lack.nobody and waited > min(_PATIENCE_WITHOUT_TUNNEL, patience)
        if nobody or waited > patience:
            said = "" if lack.nobody else "".join(f"; {server.told()}" for server in servers)
            raise RuntimeError(
                f"Nomad region {api.region} is not ready at {api.address} after {waited:.0f} s: {lack.what}{said}. "
                f"Nothing was put into it; {lack.fix.format(stack=stack)}, and run the update again: it goes on from "
                "here"
            )
        time.sleep(_POLL)


class _Lack:
    """What a region is not ready for.

    Attributes:
        what: The problem.
        fix: What to do; {stack} stands for the stack's name.
        nobody: Whether nothing listens on the port of this machine at all.
    """

    def __init__(self, what: str, fix: str, *, nobody: bool = False) -> None:
        self.what, self.fix, self.nobody = what, fix, nobody


def _lack(api: Api) -> _Lack | None:
    machines = "repair what the servers say"
    try:
        try:
            leader = api("GET", "status/leader")
        except RefusedError:
            leader = None
        if not leader:
            return _Lack("it has no leader", machines)
        api("GET", "acl/token/self")
    except ConnectionRefusedError:
        tunnel = "update by `mlops tunnel --stack {stack} -- pulumi up --stack {stack}`"
        here = urlsplit(api.address).hostname == "127.0.0.1"
        return _Lack("nothing listens there", tunnel if here else machines, nobody=here)
    except OSError as error:
        return _Lack(f"it does not answer ({error})", machines)
    except (RefusedError, NotFound) as error:
        return _Lack(f"it does not take the program's token ({error})", machines)
    return None
