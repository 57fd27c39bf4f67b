"""What scales pools of clients with the runs that wait: one job in each region that has such a pool.

Owns the policies, the job's configuration, and what it may do in Nomad and in Google Cloud. It is Nomad Autoscaler with
Prometheus: Nomad's own metrics by themselves cannot start a pool from nothing (hashicorp/nomad-autoscaler#424, #530).
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_nomad
from pulumi_gcp import projects

from definitions.nomad import jobspec
from infra import naming, pipelines
from infra.nomad import agent, boot, job_fit
from infra.nomad.access import PLATFORM
from infra.nomad.accounts import NomadAccounts
from infra.nomad.clients import group_name
from infra.nomad.place import Place
from infra.settings import PROJECT, ROOT, Settings
from infra.settings.nomad import ClientPoolSettings, ScalingSettings

PROMETHEUS = "docker.io/prom/prometheus:v3.13.1"
"""Tag v3.13.1 (July 2026)."""
AUTOSCALER = "docker.io/hashicorp/nomad-autoscaler:0.4.6"
"""releases.hashicorp.com/nomad-autoscaler, 0.4.6."""
JOB = "scaling"
_JOBSPEC = "scaling.nomad.hcl"

# What the autoscaler needs to know of nodes: which are empty, whatever namespace their allocations are in.
_RULES = """node {
  policy = "write"
}

node_pool "*" {
  policy = "read"
}

namespace "*" {
  capabilities = ["list-jobs", "read-job"]
}
"""


def query(demands: Mapping[tuple[str, str], int]) -> str:
    """How many machines a pool needs, in PromQL.

    Counted is each allocation that waits for a machine, starts or runs, by its run's job: runs themselves come and go.
    Only a leader tells; while none does there is no answer, and the autoscaler leaves the pool as it is.

    Args:
        demands: How many allocations of a job's group fit on a machine, by job and group.
    """
    parts = []
    for (job, group), fit in sorted(demands.items()):
        # Several servers may tell for a minute, when the leader is another: the larger number is taken, not the sum.
        counted = (
            "sum(max by (__name__, exported_job) "
            f'({{__name__=~"nomad_nomad_job_summary_(queued|starting|running)", parent_id="{job}", '
            f'task_group="{group}"}}))'
        )
        parts.append(f"ceil(({counted} or vector(0)) / {fit})")
    # A pool that no job goes to any more is emptied too.
    return f"({' + '.join(parts) or 'vector(0)'}) and on () (count(nomad_nomad_autopilot_healthy) > 0)"


def policies(settings: Settings, region: str, specs: Sequence[jobspec.Jobspec]) -> str:
    """A `scaling` block for each pool that scales, in HCL.

    Args:
        settings: The stack's settings.
        region: The Nomad region.
        specs: The jobs.
    """
    of = settings.nomad.regions[region]
    jobs = [(job, job_fit.pools(job, of)) for job in (job_fit.job(spec, settings) for spec in specs)]
    blocks = []
    for name, pool in of.scaled.items():
        assert isinstance(pool.size, ScalingSettings) and settings.gcp  # noqa: S101, PT018  that is what scales
        demands = {
            (job.id, group.name): fit
            for job, pools in jobs
            if name in pools
            for group in job.groups
            if (fit := fits(group.total, pool))
        }
        target = {
            "project": settings.gcp.project,
            "region": of.region,
            "mig_name": group_name(region, name),
            "node_pool": name,
            # Only machines without a run are taken away, and these only once nothing more is placed there.
            "node_selector_strategy": "empty_ignore_system",
            "node_drain_deadline": "1h",
            "node_purge": "true",
        }
        lines = "\n".join(f"      {key} = {json.dumps(value)}" for key, value in target.items())
        blocks.append(
            f"""scaling "{name}" {{
  enabled = true
  min     = {pool.size.min}
  max     = {pool.size.max}

  policy {{
    cooldown            = "2m"
    evaluation_interval = "15s"

    check "runs" {{
      source = "prometheus"
      query  = {json.dumps(query(demands))}

      strategy "pass-through" {{}}
    }}

    target "gce-mig" {{
{lines}
    }}
  }}
}}
"""
        )
    return "\n".join(blocks)


def fits(asked: tuple[int, int], pool: ClientPoolSettings) -> int:
    """How many times MHz and MB fit on a machine of a pool; 0 if not once."""
    return min(math.floor(free / need) for free, need in zip(agent.capacity(pool), asked, strict=True))


def prometheus(settings: Settings, region: str) -> str:
    """Prometheus' configuration, as JSON, which is YAML: the servers of a region, found in Compute Engine."""
    of = settings.nomad.regions[region]
    assert settings.gcp, "the settings were checked"  # noqa: S101
    chosen = " AND ".join(f"labels.{key}={value}" for key, value in naming.nomad_server_labels(region).items())
    scrape: dict[str, Any] = {
        "job_name": "nomad",
        "scheme": "https",
        "metrics_path": "/v1/metrics",
        "params": {"format": ["prometheus"]},
        "tls_config": {"ca_file": "/local/ca.pem", "server_name": naming.nomad_server_name(region)},
        "gce_sd_configs": [
            {"project": settings.gcp.project, "zone": zone, "filter": chosen, "port": 4646} for zone in of.zones
        ],
    }
    return json.dumps({"global": {"scrape_interval": "15s"}, "scrape_configs": [scrape]}, indent=2)


class Autoscaling(pulumi.ComponentResource):
    """What scales the pools of one Nomad region.

    Attributes:
        ready: All of it.
    """

    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        place: Place,
        accounts: NomadAccounts,
        ca_pem: pulumi.Output[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Register it.

        Args:
            name: The component's name.
            settings: The stack's settings.
            place: The region.
            accounts: The roles by which machines are found and groups are resized.
            ca_pem: The certificate of Nomad's CA.
            opts: Its options, among them those of `place`.
        """
        super().__init__(f"{PROJECT}:nomad:Autoscaling", name, None, opts)
        of = settings.nomad.regions[place.region]
        assert settings.gcp and accounts.scale, "the settings were checked"  # noqa: S101, PT018
        specs = [
            jobspec.parse(file.read_text(encoding="utf-8"), str(file.relative_to(ROOT)))
            for file in pipelines.files(ROOT, pipelines.NOMAD)
        ]
        inside = pulumi.ResourceOptions(parent=self, deleted_with=place.engine)
        below = pulumi.ResourceOptions(parent=self)
        self.ready = [
            projects.IAMMember(
                f"{name}-{task}",
                project=settings.gcp.project,
                role=role,
                member=place.identity.member(place.region, PLATFORM, JOB, JOB, task),
                opts=below,
            )
            for task, role in {"prometheus": accounts.discover, "autoscaler": accounts.scale}.items()
        ]
        self.ready += [
            pulumi_nomad.AclPolicy(
                f"{name}-policy",
                name=f"{JOB}-{place.region}",
                description="What Nomad Autoscaler may do.",
                job_acl=pulumi_nomad.AclPolicyJobAclArgs(namespace=PLATFORM, job_id=JOB, group=JOB, task="autoscaler"),
                rules_hcl=_RULES,
                opts=inside,
            ),
            pulumi_nomad.Variable(
                f"{name}-variable",
                namespace=PLATFORM,
                path=f"nomad/jobs/{JOB}/{JOB}",
                items={"google_credentials": place.identity.credentials(place.region), "ca_pem": ca_pem},
                opts=inside,
            ),
        ]
        job = pulumi_nomad.Job(
            f"{name}-job",
            jobspec=(boot.FILES / _JOBSPEC).read_text(encoding="utf-8"),
            hcl2={
                "vars": {
                    "node_pool": next(name for name, pool in of.pools.items() if pool.system),
                    "image_prometheus": naming.public_image(settings, PROMETHEUS),
                    "image_autoscaler": naming.public_image(settings, AUTOSCALER),
                    "prometheus_config": prometheus(settings, place.region),
                    "policies": policies(settings, place.region, specs),
                }
            },
            purge_on_destroy=True,
            # The system pool's machines may take longer to come than a provider waits.
            detach=True,
            opts=pulumi.ResourceOptions.merge(inside, pulumi.ResourceOptions(depends_on=self.ready)),
        )
        self.ready.append(job)
        self.register_outputs({})
