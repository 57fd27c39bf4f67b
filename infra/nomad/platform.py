"""Nomad as a stack provisions it: its regions, and what is in them before the first job.

Owns the order: machines, the gate, what all regions share, identities. Pipelines are registered in each region by
`infra.workloads.nomad_jobs`, at the place that is given here.
"""

import pulumi
import pulumi_nomad

from infra import providers
from infra.foundation.foundation import Foundation
from infra.nomad import console
from infra.nomad.access import Access
from infra.nomad.administrators import Administrators
from infra.nomad.api import Later
from infra.nomad.autoscaling import Autoscaling
from infra.nomad.certificates import NomadSecrets
from infra.nomad.drain import drain
from infra.nomad.gate import gate
from infra.nomad.identity import WorkloadIdentity
from infra.nomad.place import Place
from infra.nomad.region import NomadRegion, address
from infra.nomad.store_program import StoreProgramUpload
from infra.settings import PROJECT, Settings


class NomadPlatform(pulumi.ComponentResource):
    """Every Nomad region of a stack, ready for jobs.

    Attributes:
        providers: The provider of each region.
        ready: What a job in a region depends on.
        engines: Each region, which what is inside is gone with.
        places: Where jobs are registered.
        ca_pem: The certificate of the CA of all regions.
    """

    providers: dict[str, pulumi_nomad.Provider]
    ready: dict[str, list[pulumi.Resource]]
    engines: dict[str, NomadRegion]
    places: list[Place]
    ca_pem: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        foundation: Foundation,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make it; `opts` has the providers of Google Cloud, random and tls."""
        super().__init__(f"{PROJECT}:nomad:NomadPlatform", name, None, opts)
        google = settings.gcp
        assert google, "the settings were checked"  # noqa: S101
        below = pulumi.ResourceOptions(parent=self)
        secrets = NomadSecrets(f"{name}-secrets", settings=settings, foundation=foundation, opts=below)
        identity = WorkloadIdentity(
            f"{name}-identity",
            settings=settings,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[foundation.apis]),
        )
        store_program = StoreProgramUpload(f"{name}-store-program", foundation=foundation, opts=below)
        self.ca_pem = secrets.ca_pem
        self.providers, self.ready, self.engines = {}, {}, {}
        # The authoritative region first: the others have their ACLs from it, the program's token among them.
        authoritative = settings.nomad.authoritative_region or next(iter(settings.nomad.regions), None)
        regions = sorted(settings.nomad.regions, key=lambda region: region != authoritative)
        later = {
            region: Later(region, address(settings, region), secrets.ca_pem, secrets.bootstrap_token)
            for region in regions
        }
        access: list[pulumi.Resource] = []
        for region in regions:
            of = settings.nomad.regions[region]
            servers = [console.server(google.project, region, of.zones, index) for index in range(of.servers.count)]
            engine = NomadRegion(
                f"{name}-{region}",
                settings=settings,
                region=region,
                foundation=foundation,
                secrets=secrets,
                store_program=store_program,
                opts=below,
            )
            provider = providers.nomad_region(
                f"{name}-{region}-provider",
                region,
                later[region].address,
                ca_pem=secrets.ca_pem,
                token=secrets.bootstrap_token,
                opts=below,
            )
            inside = pulumi.ResourceOptions(parent=self, provider=provider, deleted_with=engine)
            first = pulumi_nomad.SchedulerConfig(
                f"{name}-{region}-scheduler",
                # Machines are filled one after the other, so that others are free to go.
                scheduler_algorithm="binpack",
                memory_oversubscription_enabled=False,
                # A training is never ended for another one.
                preemption_config={
                    f"{kind}_scheduler_enabled": kind == "system" for kind in ("batch", "service", "sysbatch", "system")
                },
                opts=pulumi.ResourceOptions.merge(
                    inside,
                    pulumi.ResourceOptions(
                        depends_on=[*engine.ready, *access],
                        hooks=pulumi.ResourceHookBinding(
                            before_create=[gate(later[region], pulumi.get_stack(), servers)]
                        ),
                    ),
                ),
            )
            if region == authoritative:
                access = Access(
                    f"{name}-access",
                    settings=settings,
                    engine=engine,
                    opts=pulumi.ResourceOptions(parent=self, provider=provider, depends_on=[first]),
                ).ready
            identity.trust(region, provider, [first])
            self.providers[region], self.engines[region] = provider, engine
            self.ready[region] = [first, *access]
        Administrators(
            f"{name}-administrators",
            settings=settings,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[secrets, *self.engines.values()]),
        )
        hook = drain(later.values())
        self.places = [
            Place(region, self.providers[region], self.ready[region], self.engines[region], hook, identity, foundation)
            for region in regions
        ]
        for place in self.places:
            if settings.nomad.regions[place.region].scaled:
                Autoscaling(
                    f"{name}-{place.region}-autoscaling",
                    settings=settings,
                    place=place,
                    accounts=secrets.accounts,
                    ca_pem=secrets.ca_pem,
                    opts=pulumi.ResourceOptions.merge(place.options(), pulumi.ResourceOptions(parent=self)),
                )
        self.register_outputs({})
