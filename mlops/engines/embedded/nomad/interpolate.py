"""A task's environment and configuration, as Nomad's client composes them.

Owns: the NOMAD_* variables, the order in which values are replaced, and what an unknown name means. Deliberately not:
where the values come from, and volumes' paths (a task sees host paths here; see `hosted`).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.nomad.jobspec import Group, Job, Task

_PLAIN = re.compile(r"\$\{([a-zA-Z0-9_\-.]+)\}")
_CONFIG = re.compile(r'\$\{(?:env\["([^"]+)"\]|([a-zA-Z0-9_\-.]+))\}')


def nomad_variables(
    job: Job, group: Group, task: Task, *, run_id: str, meta: Mapping[str, str], alloc_id: str, index: int, folder: Path
) -> dict[str, str]:
    """The variables that Nomad gives every task of a dispatched job."""
    combined = {**dict.fromkeys(job.parameterized.meta_optional, ""), **meta, **group.meta, **task.meta}
    known = {
        "NOMAD_ALLOC_DIR": str(folder / "alloc"),
        "NOMAD_TASK_DIR": str(folder / task.name / "local"),
        "NOMAD_SECRETS_DIR": str(folder / task.name / "secrets"),
        "NOMAD_MEMORY_LIMIT": str(task.resources.memory),
        "NOMAD_CPU_LIMIT": str(task.resources.cpu),
        "NOMAD_ALLOC_ID": alloc_id,
        "NOMAD_SHORT_ALLOC_ID": alloc_id[:8],
        "NOMAD_ALLOC_NAME": f"{run_id}.{group.name}[{index}]",
        "NOMAD_ALLOC_INDEX": str(index),
        "NOMAD_GROUP_NAME": group.name,
        "NOMAD_TASK_NAME": task.name,
        "NOMAD_JOB_ID": run_id,
        "NOMAD_JOB_NAME": run_id,
        "NOMAD_JOB_PARENT_ID": job.id,
        "NOMAD_DC": "dc1",
        "NOMAD_NAMESPACE": "default",
        "NOMAD_REGION": "global",
    }
    for key, value in combined.items():
        replaced = _PLAIN.sub(lambda match: known.get(match[1], match[0]), value)
        for name in (key, key.upper()):
            known["NOMAD_META_" + re.sub(r"[^A-Za-z0-9_]", "_", name)] = replaced
    return known


def environment(task: Task, known: Mapping[str, str]) -> dict[str, str]:
    """The task's own `env` with what is known put in; as in Nomad an unknown name stays as it is written."""
    return {key: _PLAIN.sub(lambda match: known.get(match[1], match[0]), value) for key, value in task.env.items()}


def configured(value: str, known: Mapping[str, str]) -> str:
    """A value of the task's `config`; as in Nomad an unknown name fails the task."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in known:
            raise EmbeddedError(f"failed to parse config: there is no variable named {name}")
        return known[name]

    return _CONFIG.sub(replaced, value)


def hosted(value: str, mounts: Iterable[tuple[str, Path]]) -> str:
    """Give a value that is, or begins with, a mount's destination the host's path instead: there are no mounts here."""
    for destination, source in mounts:
        place = destination.rstrip("/")
        if value == place or value.startswith(place + "/"):
            return str(source) + value[len(place) :]
    return value
