"""That a roll of servers never loses quorum: the next server is touched only while all others are healthy voters.

Owns the question to Nomad's autopilot and when it is asked: before a group of one server is updated. It deliberately
does not ask after the server itself: one that a bad template broke must be open to repair.
"""

import asyncio
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import pulumi

from infra.nomad import agent

_PATIENCE = 900
_POLL = 10
_SECONDS = 10


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


def gate(
    name: str,
    *,
    region: str,
    index: int,
    count: int,
    address: str,
    ca_pem: pulumi.Output[str],
    token: pulumi.Output[str],
) -> pulumi.ResourceHook:
    """A hook for the update of a group of one server, which waits until it may be touched, and fails if that never is.

    Args:
        name: The hook's name.
        region: The Nomad region.
        index: Which server.
        count: How many servers the region has.
        address: Where Nomad is reached.
        ca_pem: The certificate of its CA.
        token: A token that may ask autopilot.
    """

    async def before(args: pulumi.ResourceHookArgs) -> None:
        del args
        if count == 1:
            return
        ca, secret = await ca_pem.future(), await token.future()
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                found = problem(await asyncio.to_thread(_health, address, str(ca), str(secret)), region, index, count)
            except (OSError, ValueError) as error:
                found = f"Nomad does not answer at {address} ({error})"
            if found is None:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{agent.server_name(region, index)} was not touched, since the region could lose its quorum: "
                    f"{found}; repair that one first, by `pulumi up --target` with its group, and repeat"
                )
            pulumi.log.info(f"{agent.server_name(region, index)} waits: {found}", ephemeral=True)
            await asyncio.sleep(_POLL)

    return pulumi.ResourceHook(name, before)


def _health(address: str, ca_pem: str, token: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{address}/v1/operator/autopilot/health", headers={"X-Nomad-Token": token})  # noqa: S310  https, and its own CA
    context = ssl.create_default_context(cadata=ca_pem)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        # 429 is autopilot's way to say that not all is well; what is not well stands in the same body.
        if error.code == 429:
            return json.load(error)
        raise
