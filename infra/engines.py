"""The engines that a stack registers workloads with: those that it provisions, or the one of each kind that exists.

Owns the choice. It deliberately imports nothing that provisions: a stack without a project has no need of it.
"""

from typing import TYPE_CHECKING, NamedTuple

import pulumi

from infra import providers
from infra.settings import Settings

if TYPE_CHECKING:
    from infra.kubernetes.platform import KubernetesPlatform
    from infra.nomad.place import Place
    from infra.nomad.platform import NomadPlatform


class Region(NamedTuple):
    """One Nomad region."""

    name: str
    """What the component of its jobs is called."""
    provider: pulumi.ProviderResource
    options: pulumi.ResourceOptions
    """The component's: its provider, and what must be there before."""
    place: "Place | None" = None
    """Where jobs are registered; None in a Nomad that exists."""


class Cluster(NamedTuple):
    """One cluster."""

    name: str
    """What the component of its templates is called."""
    options: pulumi.ResourceOptions
    """The component's: its provider, and what must be there before."""
    cluster: str | None = None
    """Its name in the settings; None for one that exists."""


def nomads(settings: Settings, provisioned: "NomadPlatform | None") -> list[Region]:
    """The Nomad regions that jobs are registered with."""
    if provisioned:
        return [
            Region(f"nomad-jobs-{place.region}", place.provider, place.options(), place) for place in provisioned.places
        ]
    existing = providers.nomad(settings)
    return [Region("nomad-jobs", existing, pulumi.ResourceOptions(provider=existing))]


def clusters(settings: Settings, provisioned: "KubernetesPlatform | None") -> list[Cluster]:
    """The clusters that workflow templates are registered with; none for a stack without."""
    if provisioned:
        return [
            Cluster(
                f"workflow-templates-{name}",
                pulumi.ResourceOptions(provider=provider, depends_on=provisioned.ready[name]),
                name,
            )
            for name, provider in provisioned.providers.items()
        ]
    existing = providers.kubernetes(settings)
    return [Cluster("workflow-templates", pulumi.ResourceOptions(provider=existing))] if existing else []
