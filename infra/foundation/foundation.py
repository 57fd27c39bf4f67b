"""The foundation: what both engines stand on. Owns the order of its parts; each part is a file beside this one."""

import pulumi

from infra.foundation.apis import Apis
from infra.foundation.buckets import Buckets
from infra.foundation.budget import Notices
from infra.foundation.ci import Ci
from infra.foundation.keys import Keys
from infra.foundation.network import Network
from infra.foundation.registry import Registry
from infra.settings import PROJECT, Settings


class Foundation(pulumi.ComponentResource):
    """What a stack has of Google Cloud beneath both engines. Whatever depends on it comes after all of it.

    Attributes:
        apis: APIs.
        notices: Channels of notification, and the budget.
        network: The VPC.
        keys: Keys in Cloud KMS.
        buckets: Buckets.
        registry: Artifact Registry.
        ci: Identities of continuous integration, where the stack has some.
    """

    apis: Apis
    notices: Notices
    network: Network
    keys: Keys
    buckets: Buckets
    registry: Registry
    ci: Ci | None

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make it; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:foundation:Foundation", name, None, opts)
        self.apis = Apis(f"{name}-apis", settings=settings, opts=pulumi.ResourceOptions(parent=self))
        after = pulumi.ResourceOptions(parent=self, depends_on=[self.apis])
        self.notices = Notices(f"{name}-notices", settings=settings, opts=after)
        self.network = Network(f"{name}-network", settings=settings, opts=after)
        self.keys = Keys(f"{name}-keys", settings=settings, apis=self.apis, network=self.network, opts=after)
        self.buckets = Buckets(f"{name}-buckets", settings=settings, keys=self.keys, opts=after)
        self.registry = Registry(f"{name}-registry", settings=settings, keys=self.keys, opts=after)
        self.ci = None
        if settings.ci:
            self.ci = Ci(f"{name}-ci", settings=settings, buckets=self.buckets, registry=self.registry, opts=after)
        self.register_outputs({})
