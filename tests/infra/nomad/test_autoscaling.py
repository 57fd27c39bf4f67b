"""The policies by which pools scale: one for each pool that does, which counts the runs of the jobs that go there."""

import hcl2
import pytest

from definitions.nomad import jobspec
from infra import pipelines, settings
from infra.nomad import agent, autoscaling
from infra.settings import ROOT
from infra.settings.nomad import ScalingSettings

SPECS = [jobspec.parse(file.read_text(), str(file)) for file in pipelines.files(ROOT, pipelines.NOMAD)]
REGIONS = [
    (stack, region)
    for stack in settings.stacks()
    for region, of in settings.load(stack).nomad.regions.items()
    if of.scaled
]


@pytest.mark.parametrize(("stack", "region"), REGIONS)
def test_each_pool_that_scales_has_its_bounds_and_its_group(stack: str, region: str) -> None:
    read = settings.load(stack)
    blocks = hcl2.loads(autoscaling.policies(read, region, SPECS))["scaling"]
    policies = {name.strip('"'): body for block in blocks for name, body in block.items()}
    pools = read.nomad.regions[region].pools
    assert policies.keys() == {name for name, pool in pools.items() if isinstance(pool.size, ScalingSettings)}
    for name, policy in policies.items():
        size = pools[name].size
        assert isinstance(size, ScalingSettings)
        assert (policy["min"], policy["max"]) == (size.min, size.max)
        (target,) = policy["policy"][0]["target"]
        (given,) = target.values()
        assert given["mig_name"].strip('"') == f"mlops-{region}-{name}"
        # Never a machine with a run on it.
        assert given["node_selector_strategy"].strip('"') == "empty_ignore_system"


@pytest.mark.parametrize(
    ("asked", "fit"), [((3800, 100), 1), ((3801, 100), 0), ((1900, 100), 2), ((100, 6900), 1), ((1266, 2322), 3)]
)
def test_what_fits_on_a_machine_is_what_nomad_may_place_there(asked: tuple[int, int], fit: int) -> None:
    pool = settings.load("staging").nomad.regions["eu"].pools["train"]
    small = pool.model_copy(update={"machine_type": "n1-standard-2", "mhz_per_vcpu": 2000})
    assert agent.capacity(small) == (3800, 6 * 1024 + 1024)
    assert autoscaling.fits(asked, small) == fit


def test_jobs_are_counted_each_by_what_fits_of_it() -> None:
    query = autoscaling.query({("b", "g"): 2, ("a", "g"): 7})
    assert query.index('parent_id="a"') < query.index("/ 7)") < query.index('parent_id="b"') < query.index("/ 2)")


def test_a_size_that_only_nomad_can_work_out_is_told_in_one_line() -> None:
    (file,) = pipelines.files(ROOT, pipelines.NOMAD)
    text = file.read_text().replace("var.train_cpu", "var.train_cpu * 2")
    assert text != file.read_text()
    with pytest.raises(settings.SettingsError, match=r"^jobs/x: groups.*cpu is .*train_cpu \* 2"):
        autoscaling.policies(settings.load("staging"), "eu", [jobspec.parse(text, "jobs/x")])


def test_a_pool_that_no_job_goes_to_is_emptied_but_not_where_nobody_tells() -> None:
    assert autoscaling.query({}) == "(vector(0)) and on () (count(nomad_nomad_autopilot_healthy) > 0)"
