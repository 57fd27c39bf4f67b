"""What of a stack can be reached, and from where: firewalls, addresses, load balancers, buckets, clusters, services.

Owns reading it out of an inventory, one row for each way in. It deliberately judges none, and does not compute what
rules come to together: a way that a firewall still closes is a row too.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from inventory.permissions import permissions
from inventory.resources import UNKNOWN, Inventory, Model, Resource
from inventory.values import at, every

ANYWHERE = "anywhere"
_EVERYONE = ("allUsers", "allAuthenticatedUsers")
# https://cloud.google.com/iap/docs/using-tcp-forwarding and https://cloud.google.com/load-balancing/docs/health-checks.
_GOOGLE = {
    "35.235.240.0/20": "IAP",
    "35.191.0.0/16": "health checks",
    "130.211.0.0/22": "health checks",
}


class Exposure(Model):
    """One way in."""

    source: str = Field(description="From where: a range, a service account, a tag, or `anywhere`.")
    target: str = Field(description="To what.")
    way: str = Field(description="How: protocol and ports, an address, an endpoint.")
    public: bool | None = Field(description="Whether the internet can reach it; None where that is not known.")
    urn: str = Field(description="The resource that opens it.")

    @property
    def key(self) -> tuple[str, str, str]:
        """What a way in is, whichever resource opens it."""
        return self.source, self.target, self.way


def exposure(inventory: Inventory) -> list[Exposure]:
    """Every way in of a stack, by target."""
    rows = [row for resource in inventory.resources for row in _rows(resource)]
    rows += [
        Exposure(
            source=ANYWHERE,
            target=grant.resource,
            way=f"{grant.role} for {grant.principal}",
            public=True,
            urn=grant.urn,
        )
        for grant in permissions(inventory)
        if grant.principal in _EVERYONE
    ]
    return sorted(rows, key=lambda row: (row.target, row.way, row.source, row.urn))


def _rows(resource: Resource) -> Iterator[Exposure]:
    kind, inputs = resource.type, resource.inputs

    def row(source: str, target: str, way: str, public: bool | None) -> Exposure:
        return Exposure(source=source, target=target, way=way, public=public, urn=resource.urn)

    if kind == "gcp:compute/firewall:Firewall":
        for source, target, way, public in _firewall(inputs):
            yield row(source, target, way, public)
    elif kind in _MACHINES:
        for interface in every(inputs, "networkInterfaces"):
            configs = [at(interface, key) for key in ("accessConfigs", "ipv6AccessConfigs")]
            if given := [config for config in configs if config not in (None, [])]:
                public = None if UNKNOWN in given else True
                yield row(ANYWHERE, f"machines of {resource.name}", "public address", public)
    elif kind in ("gcp:compute/address:Address", "gcp:compute/globalAddress:GlobalAddress"):
        # Both are external unless they are told otherwise.
        if (scheme := at(inputs, "addressType") or "EXTERNAL") != "INTERNAL":
            yield row(ANYWHERE, f"address {resource.name}", "public address", _known(scheme))
    elif kind in ("gcp:compute/forwardingRule:ForwardingRule", "gcp:compute/globalForwardingRule:GlobalForwardingRule"):
        scheme = at(inputs, "loadBalancingScheme") or "EXTERNAL"
        ports = ",".join(map(str, every(inputs, "ports"))) or at(inputs, "portRange") or "all ports"
        internal = str(scheme).startswith("INTERNAL")
        source = "the network" if internal else ANYWHERE
        yield row(
            source, f"load balancer {resource.name}", f"{ports} ({scheme})", False if internal else _known(scheme)
        )
    elif kind == "gcp:storage/bucket:Bucket":
        if (prevention := at(inputs, "publicAccessPrevention")) != "enforced":
            # It is open once somebody is granted access, so this is no way in yet: whether it is, is not known.
            yield row(
                ANYWHERE,
                f"bucket {at(inputs, 'name') or resource.name}",
                f"publicAccessPrevention {prevention or 'inherited'}",
                None,
            )
    elif kind == "gcp:container/cluster:Cluster":
        for source, way, public in _cluster(inputs):
            yield row(source, f"control plane of {resource.name}", way, public)
        if at(inputs, "privateClusterConfig", "enablePrivateNodes") is not True:
            yield row(ANYWHERE, f"nodes of {resource.name}", "public address", True)
    elif kind.startswith("kubernetes:"):
        for source, way, public in _kubernetes(kind.rpartition(":")[2], inputs):
            yield row(
                source, f"{kind.rpartition(':')[2]} {at(inputs, 'metadata', 'name') or resource.name}", way, public
            )


_MACHINES = (
    "gcp:compute/instance:Instance",
    "gcp:compute/instanceTemplate:InstanceTemplate",
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate",
)


def _known(value: Any) -> bool | None:
    return None if value == UNKNOWN else True


def _public(source: str) -> bool | None:
    """Whether a range has addresses of the internet in it; Google's own are none of everyone's."""
    if source in _GOOGLE:
        return False
    try:
        network = ipaddress.ip_network(source, strict=False)
    except ValueError:
        return None
    return not network.is_private


def _range(source: str) -> str:
    return f"{source} ({_GOOGLE[source]})" if source in _GOOGLE else source


def _firewall(inputs: dict[str, Any]) -> Iterator[tuple[str, str, str, bool | None]]:
    if at(inputs, "direction") == "EGRESS" or at(inputs, "disabled") is True:
        return
    ways = [
        ":".join(filter(None, [str(at(rule, "protocol")), ",".join(map(str, every(rule, "ports")))]))
        for rule in every(inputs, "allows")
    ]
    targets = [f"service account {name}" for name in map(str, every(inputs, "targetServiceAccounts"))]
    targets += [f"tag {name}" for name in map(str, every(inputs, "targetTags"))]
    sources: list[tuple[str, bool | None]] = [
        (_range(source), _public(source)) for source in map(str, every(inputs, "sourceRanges"))
    ]
    sources += [(f"service account {name}", False) for name in map(str, every(inputs, "sourceServiceAccounts"))]
    sources += [(f"tag {name}", False) for name in map(str, every(inputs, "sourceTags"))]
    # A rule for incoming traffic that names no source is for all: https://cloud.google.com/firewall/docs/firewalls.
    for source, public in sources or [("0.0.0.0/0", True)]:
        for target in targets or [f"all machines in {at(inputs, 'network')}"]:
            for way in ways:
                yield source, target, way, public


def _cluster(inputs: dict[str, Any]) -> Iterator[tuple[str, str, bool | None]]:
    endpoints = at(inputs, "controlPlaneEndpointsConfig")
    external = at(endpoints, "dnsEndpointConfig", "allowExternalTraffic")
    if external is True or external == UNKNOWN:
        yield f"{ANYWHERE}, by IAM", "DNS endpoint", _known(external)
    if at(endpoints, "ipEndpointsConfig", "enabled") is False:
        return
    authorized = at(inputs, "masterAuthorizedNetworksConfig")
    ranges = [str(at(block, "cidrBlock")) for block in every(authorized, "cidrBlocks")]
    private = at(inputs, "privateClusterConfig", "enablePrivateEndpoint") is True
    endpoint = "private IP endpoint" if private else "public IP endpoint"
    if authorized is None:
        yield ("the network" if private else ANYWHERE), endpoint, not private
    for source in ranges:
        yield _range(source), endpoint, False if private else _public(source)


def _kubernetes(kind: str, inputs: dict[str, Any]) -> Iterator[tuple[str, str, bool | None]]:
    notes = at(inputs, "metadata", "annotations")
    if kind in ("Service", "ServicePatch"):
        form = at(inputs, "spec", "type")
        ports = ",".join(str(at(port, "port")) for port in every(inputs, "spec", "ports"))
        if form == "NodePort":
            yield "the network", f"NodePort {ports}", False
        elif form == "LoadBalancer":
            inner = "Internal" in (
                at(notes, "networking.gke.io/load-balancer-type"),
                at(notes, "cloud.google.com/load-balancer-type"),
            )
            if inner:
                yield "the network", f"LoadBalancer {ports}", False
                return
            for source in every(inputs, "spec", "loadBalancerSourceRanges") or [ANYWHERE]:
                yield str(source), f"LoadBalancer {ports}", True if source == ANYWHERE else _public(str(source))
    elif kind in ("Ingress", "Gateway"):
        name = at(inputs, "spec", "ingressClassName") or at(inputs, "spec", "gatewayClassName")
        name = name or at(notes, "kubernetes.io/ingress.class") or "gce"
        inner = re.search(r"internal|rilb", str(name)) is not None
        yield ("the network" if inner else ANYWHERE), f"{kind} of class {name}", False if inner else _known(name)
