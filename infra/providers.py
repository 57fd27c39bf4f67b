"""Providers: the only place that makes them. Every resource is given one of these, by its component."""

import os

import pulumi_nomad

from infra.settings import PROJECT, Settings, SettingsError


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
    return pulumi_nomad.Provider("nomad", address=address)
