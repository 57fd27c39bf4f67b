"""Stopping a job's runs before the job is taken away: Nomad itself lets them run on (hashicorp/nomad#24669).

Owns the hook that does it, one for all regions: what a stack's state names must be there also when the job no longer
is. `pulumi destroy` runs it only with `--run-program`, and refuses to do without.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from urllib.parse import quote

import pulumi

from infra.nomad.api import VARIABLE, Api, Later, NotFound, RefusedError

PATIENCE = 300
"""Seconds that runs have to end: a task's `kill_timeout` is seconds, what a verification does after it is minutes."""
_POLL = 2


def drain(regions: Iterable[Later]) -> pulumi.ResourceHook:
    """A hook for before the deletion of a job in any of some regions."""
    by_region: Mapping[str, Later] = {later.region: later for later in regions}

    async def before(args: pulumi.ResourceHookArgs) -> None:
        # A job in a region is called after both, in `infra.workloads.nomad_jobs`.
        later = by_region.get(args.name.removesuffix(f"-{args.id}"))
        # A region that is no longer in the settings is taken away with its machines, and whatever runs on them.
        api = await later.api() if later else None
        if api:
            namespace = str((args.old_outputs or {}).get("namespace") or "default")
            await asyncio.to_thread(stop, api, args.id, namespace)

    return pulumi.ResourceHook("nomad-drain", before)


def stop(api: Api, job: str, namespace: str, patience: float = PATIENCE) -> None:
    """Stop every run of a job, and wait until all have ended.

    Raises:
        RuntimeError: Nomad does not answer, or a run does not end.
    """
    deadline = time.monotonic() + patience
    inside = f"namespace={quote(namespace, safe='')}"
    try:
        while live := _live(api, job, inside):
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"runs of {job} in Nomad region {api.region} did not end within {patience:.0f} s: "
                    f"{', '.join(live)}; nothing was taken away: look at them with `nomad job status`, and repeat"
                )
            for run, stopped in live.items():
                if not stopped:
                    try:
                        api("DELETE", f"job/{quote(run, safe='')}?{inside}")
                    except NotFound:
                        continue  # Nomad has collected it
            time.sleep(_POLL)
    except (OSError, RefusedError) as error:
        raise RuntimeError(
            f"Nomad region {api.region} does not tell of the runs of {job} at {api.address} ({error}), so none was "
            f"stopped and nothing taken away; reach it by `mlops tunnel`, or set {VARIABLE}=gone if it never will"
        ) from None


def _live(api: Api, job: str, inside: str) -> dict[str, bool]:
    """The runs that have not ended, and whether they were told to."""
    prefix = quote(f"{job}/dispatch-", safe="")
    runs = api("GET", f"jobs?prefix={prefix}&{inside}")
    return {run["ID"]: bool(run.get("Stop")) for run in runs if run["Status"] != "dead"}
