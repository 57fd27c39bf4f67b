"""A change as `mlops plan` shows it, with secrets on one side and credentials in clear on both."""

import json
from typing import Any

import pytest

from infra.credentials import MASK
from inventory.resources import SECRET
from mlops.changes.properties import properties
from tests.review.test_review import CLEAR, MARKED, SIDES


def recorded(value: Any) -> Any:
    """A value as the recorder keeps it."""
    if value == MARKED:
        return SECRET
    if isinstance(value, dict):
        return {key: recorded(inner) for key, inner in value.items()}
    return [recorded(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", SIDES)
def test_the_other_side_of_a_secret_is_hidden_at_any_depth(case: str) -> None:
    old, new = map(recorded, SIDES[case])
    for before, after in ((old, new), (new, old)):
        found = [item.model_dump() for item in properties(before, after)]
        assert found
        assert "hunter2" not in json.dumps(found)


def test_credentials_in_clear_are_masked_and_still_told_as_a_change() -> None:
    other = json.loads(json.dumps(CLEAR).replace("hunter2", "hunter2hunter3"))
    found = list(properties(CLEAR, other))
    assert "hunter" not in json.dumps([item.model_dump() for item in found])
    assert {item.path.partition("[")[0].partition(".")[0] for item in found} == {*CLEAR}
    jobspec = next(item for item in found if item.path == "jobspec")
    assert f'-        DB_PASSWORD = "{MASK}"' in jobspec.text
    assert f'+        DB_PASSWORD = "{MASK}"' in jobspec.text


def test_a_workflows_definition_shows_no_secret_either() -> None:
    def spec(value: Any) -> dict[str, Any]:
        container = {"env": [{"name": "A", "value": value}], "args": ["--x", value]}
        return {"apiVersion": "argoproj.io/v1alpha1", "spec": {"templates": [{"name": "t", "container": container}]}}

    (found,) = properties(spec(SECRET), spec("hunter2"))
    assert "hunter2" not in found.model_dump_json()
    (found,) = properties(spec("ghp_hunter2" + "a" * 36), spec("ghp_hunter2" + "b" * 36))
    assert (found.path, found.old, found.new, found.text) == ("spec", SECRET, SECRET, [])
