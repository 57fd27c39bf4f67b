"""Providers: the only place that makes them. Every resource is given one of these, by its component."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pulumi
import pulumi_nomad

from infra import kubeconfig
from infra.settings import PROJECT, Settings, SettingsError

if TYPE_CHECKING:
    import pulumi_kubernetes


def provisioning(settings: Settings) -> Mapping[str, pulumi.ProviderResource]:
    """The providers of all that a stack provisions: Google Cloud, and what makes its names, keys and certificates.

    Credentials are Google's own affair: the application default ones.
    """
    # Imported only for stacks with a project.
    import pulumi_gcp
    import pulumi_random
    import pulumi_tls

    assert settings.gcp, "the settings were checked"  # noqa: S101
    google = pulumi_gcp.Provider(
        "google",
        project=settings.gcp.project,
        region=settings.gcp.region,
        # Requests count against this project, where their APIs are on, not against the one of the caller's credentials.
        billing_project=settings.gcp.project,
        user_project_override=True,
        # Every label is in the program, where a review sees it.
        add_pulumi_attribution_label=False,
    )
    return {"gcp": google, "random": pulumi_random.Provider("random"), "tls": pulumi_tls.Provider("tls")}


def nomad(settings: Settings) -> pulumi_nomad.Provider:
    """The provider of the stack's Nomad.

    Its token is Nomad's own affair: the provider reads NOMAD_TOKEN and the other NOMAD_ variables itself.
    """
    address = settings.nomad.address or os.environ.get("NOMAD_ADDR")
    if not address:
        raise SettingsError(
            f"{PROJECT}:nomad.address: this stack names no Nomad and NOMAD_ADDR is not set, so there is nothing to "
            "register jobs with; set either, or run `mlops up` for the embedded engine"
        )
    return pulumi_nomad.Provider("nomad", address=address, ca_pem=settings.nomad.ca_pem)


def nomad_region(
    name: str,
    region: str,
    address: str,
    *,
    ca_pem: pulumi.Input[str],
    token: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> pulumi_nomad.Provider:
    """The provider of a Nomad region that the stack provisions."""
    return pulumi_nomad.Provider(
        name,
        address=address,
        region=region,
        ca_pem=ca_pem,
        secret_id=token,
        # Whatever a person's shell is pointed at, jobs go here.
        ignore_env_vars={"NOMAD_NAMESPACE": True, "NOMAD_REGION": True},
        opts=opts,
    )


def kubernetes(settings: Settings) -> "pulumi_kubernetes.Provider | None":
    """The provider of the stack's cluster; None for a stack that has none.

    The cluster is named by the stack or by KUBECONFIG: `~/.kube/config` alone would register wherever `kubectl` was
    pointed last. Where neither is there, it is not left out but refused: an update would delete what an earlier one
    registered.
    """
    if settings.kubernetes is None:
        return None
    # Imported only for stacks with a cluster, like all of its kind.
    import pulumi_kubernetes

    context = settings.kubernetes.context
    if not context and not os.environ.get("KUBECONFIG"):
        raise SettingsError(
            f"{PROJECT}:kubernetes.context: this stack names no cluster and KUBECONFIG is not set, so there is nothing "
            f"to register workflow templates with; set either, remove {PROJECT}:kubernetes, or run `mlops up` for the "
            "embedded engine"
        )
    # By its name, so that another current context is a change of the provider, which a preview shows.
    name = kubeconfig.context(context)
    with kubeconfig.out_of_the_state():
        return pulumi_kubernetes.Provider("kubernetes", context=name, namespace=settings.kubernetes.namespace)


def gke(
    name: str, settings: Settings, config: pulumi.Input[str], identifier: str, opts: pulumi.ResourceOptions
) -> "pulumi_kubernetes.Provider":
    """The provider of a cluster that the stack provisions.

    Args:
        name: The provider's name.
        settings: The stack's settings.
        config: The cluster's kubeconfig; unknown until the cluster exists.
        identifier: The cluster's physical name. While that stays, a kubeconfig that changed, or is not known, is an
            update of the provider, and not the replacement of everything in the cluster.
        opts: The provider's options.
    """
    import pulumi_kubernetes

    assert settings.kubernetes, "the settings were checked"  # noqa: S101
    return pulumi_kubernetes.Provider(
        name,
        kubeconfig=config,
        cluster_identifier=identifier,
        namespace=settings.kubernetes.namespace,
        enable_server_side_apply=True,
        opts=opts,
    )
