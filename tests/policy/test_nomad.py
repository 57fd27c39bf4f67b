"""Rules on Nomad jobs: each real job keeps them, and one changed line breaks them."""

from typing import Any

from policy.parts.nomad import JOB
from tests.policy.conftest import changed, stack, violated


def _jobspec(old: str, new: str) -> Any:
    def edit(inputs: dict[str, Any]) -> None:
        assert inputs["jobspec"].count(old) >= 1
        inputs["jobspec"] = inputs["jobspec"].replace(old, new, 1)

    return edit


def test_a_privileged_task_is_found_by_its_name():
    local = stack("local")
    assert violated(local, "nomad-task-privileged") == []
    job = local.of_type(JOB)[0].name
    bad = changed(local, JOB, job, _jobspec("      config {", "      config {\n        privileged = true"))
    assert [verdict.where for verdict in violated(bad, "nomad-task-privileged")] == ["group training, task train"]
