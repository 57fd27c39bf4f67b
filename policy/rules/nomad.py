"""Rules on Nomad jobs: what a task may not do to the machine that it is on."""

from collections.abc import Iterator

from policy.parts import nomad
from policy.rule import Level, Part, Rule, Stack


def _privileged(task: Part, _: Stack) -> Iterator[str]:
    for config in task.each("config"):
        if config.get("privileged") not in (None, False, "false"):
            yield f"config.privileged is {config['privileged']}"


RULES = (
    Rule(
        id="nomad-task-privileged",
        level=Level.MANDATORY,
        holds="No task of a Nomad job runs as a privileged container.",
        why="A privileged container is root on the machine; Nomad's docker driver documentation, `allow_privileged`.",
        fix="Remove `privileged` from the task's config, and add the one capability that it needs by `cap_add`.",
        types=(nomad.JOB,),
        parts=nomad.tasks,
        check=_privileged,
    ),
)
