"""Which tests a change is tried with: those of the room that it edits, as far as they take seconds.

Owns the choice. `tests/plan` is deliberately not among them: its inventories are a record of what each stack is, which
every change differs from, and say nothing of whether it may be.
"""

from infra.settings import stacks
from tests.mutations.trial import PLATFORM

_SLOW = "tests/infra/nomad/test_boot.py::test_the_store_program_runs_in_what_exec_tasks_see_of_a_machine"
_TAKEN_AWAY = f"{PLATFORM}/test_needs.py::test_what_is_taken_away_is_missed_by_a_workload_that_is_named"
_LABELLED = tuple(f"{PLATFORM}/test_invariants.py::test_holds[{stack}-labelled]" for stack in stacks())
_NOMAD_JOB = ("tests/jobs", "tests/infra/nomad/test_job_fit.py", "tests/embedded/test_jobspec.py")
_REFIT = ("tests/jobs", "tests/argo/test_templates.py", "tests/argo/test_registered.py")
_GRANTS = ("tests/infra/test_nomad_platform.py",)

_BY_PLACE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("jobs/sales_close_prediction/", _NOMAD_JOB),
    ("jobs/model_refit/", _REFIT),
    ("stacks/", ("tests/infra/test_settings.py", "tests/infra/test_settings_of_google.py")),
    ("infra/foundation/", ("tests/infra/test_foundation.py",)),
    ("infra/kubernetes/", ("tests/infra/kubernetes",)),
    ("infra/nomad/identity.py", _GRANTS),
    ("infra/nomad/", ("tests/infra/nomad",)),
    ("infra/workloads/identities.py", _GRANTS),
    ("infra/workloads/", ("tests/infra/test_nomad_jobs.py",)),
    ("infra/versions.py", ("tests/infra/kubernetes",)),
    ("infra/", ()),
    ("__main__.py", ()),
)


def chosen(file: str) -> tuple[str, ...]:
    """The files and folders of tests for a change of a file."""
    for place, tests in _BY_PLACE:
        if file.startswith(place):
            return (PLATFORM, *tests)
    raise ValueError(f"{file}: no tests are known for it; add its folder to tests/mutations/chosen.py")


def left_out(file: str) -> tuple[str, ...]:
    """Tests of these that take long and say nothing of such a change."""
    slow = (_SLOW,) if file.startswith("infra/") else (_SLOW, _TAKEN_AWAY)
    # A job has no labels in Google Cloud.
    return (*slow, *_LABELLED) if file.startswith("jobs/") else slow
