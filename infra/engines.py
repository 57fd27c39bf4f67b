"""The engines that a stack registers workloads with: those that it provisions, or the one of each kind that exists.

Owns the choice. It deliberately imports nothing that provisions: a stack without a project has no need of it.
"""

from typing import TYPE_CHECKING, NamedTuple

import pulumi

from infra import providers
from infra.settings import Settings

if TYPE_CHECKING:
    from infra.kubernetes.platform import KubernetesPlatform
    from infra.nomad.platform import NomadPlatform


class Engine(NamedTuple):
    """One Nomad region, or one cluster."""

    name: str | None
    """Its name in the settings; None for one that exists, which has none there."""
    provider: pulumi.ProviderResource
    ready: list[pulumi.Resource]
    """What workloads depend on."""

    def component(self, of: str) -> str:
        """What a component of workloads in this engine is called."""
        return f"{of}-{self.name}" if self.name else of


def nomads(settings: Settings, provisioned: "NomadPlatform | None") -> list[Engine]:
    """The Nomad regions that jobs are registered with."""
    if provisioned:
        return [Engine(name, provider, provisioned.ready[name]) for name, provider in provisioned.providers.items()]
    return [Engine(None, providers.nomad(settings), [])]


def clusters(settings: Settings, provisioned: "KubernetesPlatform | None") -> list[Engine]:
    """The clusters that workflow templates are registered with; none for a stack without."""
    if provisioned:
        return [Engine(name, provider, provisioned.ready[name]) for name, provider in provisioned.providers.items()]
    existing = providers.kubernetes(settings)
    return [Engine(None, existing, [])] if existing else []
