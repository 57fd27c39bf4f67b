"""That a roll of servers never loses quorum: the next server is touched only while all others are healthy voters.

Owns the question to Nomad's autopilot and when it is asked: before a group of one server is updated. It deliberately
does not ask after the server itself: one that a bad template broke must be open to repair.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pulumi

from infra.nomad import agent
from infra.nomad.api import Api, Later, RefusedError

_PATIENCE = 900
_POLL = 5


def problem(health: Mapping[str, Any], region: str, index: int, count: int) -> str | None:
    """Why a server may not be touched now; None if it may.

    Args:
        health: What autopilot says of the servers (`/v1/operator/autopilot/health`).
        region: The Nomad region.
        index: The server that is to be touched.
        count: How many servers the region has.
    """
    # Nomad appends the region to the name that it is given.
    known = {server["Name"].removesuffix(f".{region}"): server for server in health.get("Servers") or []}
    for other in range(count):
        name = agent.server_name(region, other)
        if other == index:
            continue
        if name not in known:
            return f"server {name} has not joined"
        if not known[name].get("Healthy"):
            return f"server {name} is not healthy"
        if not known[name].get("Voter"):
            return f"server {name} has no vote yet"
    return None


def gate(name: str, later: Later, *, index: int, count: int) -> pulumi.ResourceHook:
    """A hook for the update of a group of one server: it waits until that may be touched, and fails if it never may.

    Args:
        name: The hook's name.
        later: The Nomad region.
        index: Which server.
        count: How many servers the region has.
    """

    async def before(args: pulumi.ResourceHookArgs) -> None:
        del args
        api = await later.api() if count > 1 else None
        if api:
            await asyncio.to_thread(wait, api, index, count)

    return pulumi.ResourceHook(name, before)


def wait(api: Api, index: int, count: int, patience: float = _PATIENCE) -> None:
    """Wait until a server may be touched.

    Raises:
        RuntimeError: The others did not become healthy; the message says which and what to do.
    """
    name = agent.server_name(api.region, index)
    deadline = time.monotonic() + patience
    while True:
        try:
            # 429 is how autopilot says that not all is well; what is not stands in the same answer.
            found = problem(api("GET", "operator/autopilot/health", (200, 429)), api.region, index, count)
        except (OSError, RefusedError, ValueError) as error:
            found = f"Nomad does not answer at {api.address} ({error})"
        if found is None:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"server {name} was not touched, since region {api.region} could lose its quorum: {found}; repair that "
                "first, a single server by `pulumi up --target` with the URN of its group, and run the update again"
            )
        pulumi.log.info(f"server {name} is next, and waits: {found}", ephemeral=True)
        time.sleep(_POLL)
