"""What no single setting can know: whether the settings of a stack go together. Pure functions.

A problem is told as `<key>: <what is wrong>, so <what follows>; <what to do>`.
"""

from collections.abc import Iterator

from infra.settings.tree import Settings


def problems(settings: Settings) -> list[str]:
    """Everything in which the settings contradict each other, a line each."""
    return [*_needed(settings), *_existing_or_provisioned(settings)]


def _needed(settings: Settings) -> Iterator[str]:
    if settings.kubernetes and not settings.buckets.artifacts:
        yield (
            "buckets.artifacts: is missing, so steps of a workflow cannot hand anything on; add it, or remove "
            "hybrid-mlops:kubernetes"
        )
    if not settings.gcp and not settings.images.repository:
        yield "images.repository: is missing, so images have no names; add it, or let the stack provision one by `gcp`"
    if settings.gcp:
        if not settings.network:
            yield "network: is missing, so nothing of `gcp` has a place; add its subnets"
        for use in ("artifacts", "logs"):
            if not getattr(settings.buckets, use):
                yield f"buckets.{use}: is missing, so the platform has no place for them; add a name"
    if settings.nomad.regions and not settings.nomad.release:
        yield "nomad.release: is missing, so machines have no Nomad to run; add version and sha256"


def _existing_or_provisioned(settings: Settings) -> Iterator[str]:
    if settings.nomad.regions:
        if settings.nomad.address:
            yield "nomad.address: names an existing Nomad beside `regions`, so it is open which is meant; remove either"
        if not settings.gcp:
            yield "nomad.regions: there is no project to provision them in; add hybrid-mlops:gcp, or remove them"
    if settings.kubernetes and settings.kubernetes.clusters:
        if settings.kubernetes.context:
            yield (
                "kubernetes.context: names an existing cluster beside `clusters`, so it is open which is meant; "
                "remove either"
            )
        if not settings.gcp:
            yield "kubernetes.clusters: there is no project to provision them in; add hybrid-mlops:gcp, or remove them"
