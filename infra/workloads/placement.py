"""Whether a Nomad job has a place on what a stack provisions: machines that it fits on, and an identity of its own.

Pure, over the jobspec and the settings. It deliberately says nothing of a Nomad that exists already: what its machines
are is its owner's.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from infra.nomad import agent
from infra.settings import PROJECT, JobSettings, Settings, SettingsError
from infra.settings.nomad import ClientPoolSettings, NomadRegionSettings
from infra.workloads.jobspec import Jobspec

# "Cannot exceed 127 characters", says pulumi_gcp of google.subject (WorkloadIdentityPoolProvider), and Google refuses
# with "exceeds the 127 bytes limit".
_SUBJECT_BYTES = 127
# What Nomad gives a task that asks for nothing: MHz, and MB of memory.
_DEFAULTS = {"cpu": 100, "memory": 300}
# The pool of every client, whatever its own; and the one that a job is in which names none.
_ANY_POOL, _DEFAULT_POOL = "all", "default"


def check(spec: Jobspec, origin: str, settings: Settings) -> None:
    """Hold a job to the regions that the stack provisions.

    Args:
        spec: The job.
        origin: What messages begin with: the file that it is from.
        settings: The stack's settings.

    Raises:
        SettingsError: In some region it would never start, or could not prove who it is.
    """
    for name, region in settings.nomad.regions.items():
        problems = [*_unplaced(spec, name, region, settings), *_nameless(spec, name)]
        if problems:
            raise SettingsError(f"{origin}: {problems[0]}")


def pools(spec: Jobspec, region: NomadRegionSettings, settings: Settings) -> dict[str, ClientPoolSettings]:
    """The pools of a region that a job may run in."""
    wanted = _wanted(spec, settings)
    return {pool: of for pool, of in region.pools.items() if wanted in (pool, _ANY_POOL)}


def groups(spec: Jobspec, settings: Settings) -> dict[str, tuple[int, int]]:
    """MHz and MB that each group of a job asks for."""
    return {group: _asked(body, spec, settings) for group, body in _named(spec.body, "group")}


def _unplaced(spec: Jobspec, name: str, region: NomadRegionSettings, settings: Settings) -> Iterator[str]:
    wanted, open_to = _wanted(spec, settings), pools(spec, region, settings)
    path = f"{PROJECT}:nomad.regions.{name}.pools"
    if not open_to:
        yield (
            f"goes to the node pool {wanted}, which {path} has not, so it would never start; add that pool, or "
            f"set node_pool in {PROJECT}:jobs.{spec.id}.variables to one of: {', '.join(region.pools)}"
        )
    for group, (cpu, memory) in groups(spec, settings).items():
        if open_to and not any(_fits(cpu, memory, pool) for pool in open_to.values()):
            yield (
                f"group {group} asks for {cpu} MHz and {memory} MB, so it would wait for ever: no machine of {path} "
                f"({', '.join(open_to)}) has as much; ask for less by {PROJECT}:jobs.{spec.id}.variables, or choose a "
                "larger machine_type"
            )


def _fits(cpu: int, memory: int, pool: ClientPoolSettings) -> bool:
    free_cpu, free_memory = agent.capacity(pool)
    return cpu <= free_cpu and memory <= free_memory


def _wanted(spec: Jobspec, settings: Settings) -> str:
    return str(_value(spec.body.get("node_pool", ""), spec, settings)) or _DEFAULT_POOL


def _asked(group: Mapping[str, Any], spec: Jobspec, settings: Settings) -> tuple[int, int]:
    """MHz and MB that a group is counted as: the most of what runs before, at and after its main tasks."""
    phases: Mapping[str, Counter[str]] = defaultdict(Counter)
    for _, task in _named(group, "task"):
        lifecycle = (task.get("lifecycle") or [{}])[0]
        hook = lifecycle.get("hook")
        phase = "sidecar" if lifecycle.get("sidecar") is True else hook if hook in ("prestart", "poststop") else "main"
        resources = (task.get("resources") or [{}])[0]
        for name, default in _DEFAULTS.items():
            phases[phase][name] += int(_value(resources.get(name, default), spec, settings))
    beside = phases.get("sidecar", Counter())
    cpu, memory = (
        beside[name] + max((asked[name] for phase, asked in phases.items() if phase != "sidecar"), default=0)
        for name in _DEFAULTS
    )
    return cpu, memory


def _nameless(spec: Jobspec, region: str) -> Iterator[str]:
    """Tasks whose identity Google would refuse."""
    for group, body in _named(spec.body, "group"):
        for task, definition in _named(body, "task"):
            for identity in definition.get("identity", []):
                parts = (region, spec.body.get("namespace", "default"), spec.id, group, task)
                subject = ":".join([*parts, identity.get("name", "default")])
                if identity.get("aud") and len(subject.encode()) > _SUBJECT_BYTES:
                    yield (
                        f"task {task} is {subject} to Google, {len(subject.encode())} bytes, so it would be refused "
                        f"there: {_SUBJECT_BYTES} are allowed; shorten a name"
                    )


def _named(body: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, inner) for block in body.get(kind, []) for name, inner in block.items())


def _value(value: Any, spec: Jobspec, settings: Settings) -> Any:
    """A literal, or what the stack or the jobspec says that a variable is."""
    found = re.fullmatch(r"\$\{var\.(\w+)\}", value) if isinstance(value, str) else None
    if not found:
        return value
    given = settings.jobs.get(spec.id, JobSettings()).variables
    return given.get(found[1], spec.variables[found[1]].default)
