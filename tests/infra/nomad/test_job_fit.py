"""A Nomad job that would never start on the stack, or could not prove who it is, is refused before anything is made."""

import pytest

from definitions.nomad import jobspec
from infra import settings
from infra.nomad import job_fit
from infra.settings import SettingsError
from tests.infra.test_settings_of_google import EU, changed

JOB = """
variable "cpu" {{
  type    = number
  default = 1000
}}

job "{job}" {{
  node_pool = "{pool}"

  group "training" {{
    task "before" {{
      lifecycle {{
        hook = "prestart"
      }}
      resources {{
        cpu    = var.cpu
        memory = 2000
      }}
    }}
    task "main" {{
      identity {{
        name = "gcp"
        aud  = ["gcp"]
      }}
      resources {{
        cpu    = {main}
        memory = {memory}
      }}
    }}
  }}
}}
"""


def check(*, job: str = "hello", pool: str = "all", main: int = 2000, memory: int = 2000, **changes: object) -> None:
    spec = jobspec.parse(JOB.format(job=job, pool=pool, main=main, memory=memory), "jobs/hello/job.nomad.hcl")
    given = {key.replace("__", "."): value for key, value in changes.items()}
    job_fit.check(spec, settings.parse(changed(given), "stack.yaml"))


def test_tasks_that_run_one_after_the_other_share_a_machine() -> None:
    # The smallest pool is n1-highmem-2: 4000 MHz and 13312 MB, of which the agent keeps 200 and 512. Added up, these
    # would not fit on it.
    check(main=3800, memory=12800)


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"main": 3801}, "group training asks for 3801 MHz and 2000 MB, so it would wait for ever: no machine of "),
        ({"memory": 12801}, "asks for 2000 MHz and 12801 MB"),
        ({"pool": ""}, "names the node pool default, but hybrid-mlops:nomad.regions.eu.pools does not have it"),
        ({"pool": "gpu"}, "names the node pool gpu, but hybrid-mlops:nomad.regions.eu.pools does not have it"),
        ({"pool": "system", "main": 3801}, "no machine of hybrid-mlops:nomad.regions.eu.pools (system)"),
        ({"jobs": {"hello": {"variables": {"cpu": 9000}}}}, "asks for 9000 MHz"),
        ({"job": "h" * 103}, "bytes, so it would be refused there: 127 are allowed; shorten a name"),
    ],
    ids=["cpu", "memory", "no pool", "pool", "pool of the system", "the stack's variable", "subject"],
)
def test_a_job_without_a_place_is_told_in_one_line(job: dict, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        check(**job)
    line = str(raised.value)
    assert line.startswith("jobs/hello/job.nomad.hcl: ")
    assert says in line
    assert "\n" not in line
    assert ", so " in line
    assert "; " in line


def test_a_subject_may_have_127_bytes() -> None:
    check(job="h" * 96)
    with pytest.raises(SettingsError, match=r"is west:default:h{97}:training:main:gcp to Google, 128 bytes"):
        check(job="h" * 97)


def test_machines_of_a_nomad_that_exists_are_its_owners() -> None:
    spec = jobspec.parse(JOB.format(job="hello", pool="gpu", main=10**6, memory=10**6), "x")
    job_fit.check(spec, settings.load("local"))


def test_a_smaller_pool_is_told_for_the_job_that_needs_more() -> None:
    with pytest.raises(SettingsError, match=r"no machine of hybrid-mlops:nomad\.regions\.eu\.pools "):
        check(
            **{f"{EU}.pools.training.machine_type".replace(".", "__"): "n1-standard-1"},
            pool="training",
            main=4000,
            memory=4000,
        )
