"""Rules on a stack's outputs."""

from typing import Any

import pytest

from inventory.resources import SECRET, UNKNOWN
from tests.policy.cases import Case, check, put

ENVIRONMENT: dict[str, Any] = {"PATH": "/usr/bin", "HOME": "/root", "CI_JOB": "1"}

CASES = (
    Case("output-secret", "stack", put("nomad_token", to="5f1c"), "nomad_token is called a credential"),
    Case("output-secret", "stack", put("nomad_token", to=UNKNOWN), "nomad_token is called a credential"),
    Case("output-secret", "stack", put("nomad", "regions", to=[{"adminPassword": "x"}]), "nomad.regions.adminPassword"),
    Case("output-secret", "stack", put("key", to="-----BEGIN EC PRIVATE KEY-----"), "key is called a credential, or"),
    Case("output-secret", "stack", put("anything", to=SECRET), "anything is a secret"),
    Case("output-environment", "stack", put("built", "by", to=ENVIRONMENT), "built.by has HOME and PATH"),
    Case("output-environment", "stack", put("built_by", to=f"environ({ENVIRONMENT})"), "built_by has HOME and PATH"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_output_breaks_the_rule(case: Case) -> None:
    check(case)
