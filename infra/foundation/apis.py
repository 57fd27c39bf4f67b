"""The APIs of Google Cloud that a stack uses.

Owns which are turned on. None is ever turned off: another user of the project may need it, and turning an API off
deletes what was made with it.
"""

import pulumi
from pulumi_gcp import projects

from infra.settings import PROJECT, Settings

_ALWAYS = (
    "artifactregistry",
    "cloudkms",
    "cloudresourcemanager",
    "compute",
    "iam",
    "iamcredentials",
    "iap",
    "logging",
    "monitoring",
    "oslogin",
    "secretmanager",
    "serviceusage",
    "storage",
    "sts",
)


_SOMETIMES = ("billingbudgets", "container")
ALL = tuple(sorted((*_ALWAYS, *_SOMETIMES)))
"""Every API that a stack may need. docs/how-to/first-hour.md turns all of them on beforehand: for minutes after that,
Google may answer that an API is not on, and Pulumi's provider does not try again."""


def needed(settings: Settings) -> list[str]:
    """The APIs of a stack, without `.googleapis.com`."""
    names = {*_ALWAYS}
    if settings.kubernetes and settings.kubernetes.clusters:
        names.add("container")
    if settings.gcp and settings.gcp.budget:
        names.add("billingbudgets")
    return sorted(names)


class Apis(pulumi.ComponentResource):
    """The APIs, turned on.

    Attributes:
        enabled: All of them.
        by_name: Each, by its name without `.googleapis.com`.
    """

    enabled: list[pulumi.Resource]
    by_name: dict[str, projects.Service]

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Turn them on; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:foundation:Apis", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        self.by_name = {
            api: projects.Service(
                f"{name}-{api}",
                project=settings.gcp.project,
                service=f"{api}.googleapis.com",
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for api in needed(settings)
        }
        self.enabled = list(self.by_name.values())
        self.register_outputs({})
