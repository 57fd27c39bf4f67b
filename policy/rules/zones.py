"""Rules on places: how much is gone with one zone, and that nothing is kept in another part of the world."""

import re
from collections.abc import Iterator

from policy.parts.google import CLUSTER, NODE_POOL
from policy.rule import Level, Part, Rule, Stack

_REGIONAL = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
_ZONAL = "gcp:compute/instanceGroupManager:InstanceGroupManager"
_SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"
_KEPT = (
    "gcp:artifactregistry/repository:Repository",
    "gcp:kms/keyRing:KeyRing",
    "gcp:storage/bucket:Bucket",
)
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")


def _spread(part: Part, stack: Stack) -> Iterator[str]:
    wanted = stack.parameters.zones
    found = part.each("nodeLocations") or part.each("distributionPolicyZones")
    location = str(part.get("location") or "")
    if _ZONE.fullmatch(location):
        found = [location]
    # What names no zones is in those that Google chooses, three of a region.
    if found and len(set(found)) < wanted:
        yield f"it is in {', '.join(sorted(set(found)))} alone, and the stack asks for {wanted} zones"


def _servers(part: Part, stack: Stack) -> Iterator[str]:
    """Groups of one server each, told by their disks that stay; those of a Nomad region are told of once."""
    name = str(part.get("baseInstanceName")).rpartition("-")[0]
    zones = {
        other.name: str(Part(other, other.inputs).get("zone"))
        for other in stack.inventory.of_type(_ZONAL)
        if str(Part(other, other.inputs).get("baseInstanceName")).rpartition("-")[0] == name
    }
    first = part.resource is not None and part.resource.name == min(zones)
    if first and part.get("statefulDisks") and len(set(zones.values())) < stack.parameters.zones:
        told = ", ".join(sorted(set(zones.values())))
        yield f"{name} is in {told} alone, and the stack asks for {stack.parameters.zones} zones"


def _near(part: Part, stack: Stack) -> Iterator[str]:
    location = str(part.get("location")).lower()
    regions = {str(Part(one, one.inputs).get("region")) for one in stack.inventory.of_type(_SUBNETWORK)}
    if regions and location not in regions:
        yield f"it is kept in {location}, and what uses it runs in {', '.join(sorted(regions))}"


RULES = (
    Rule(
        id="zones-too-few",
        level=Level.MANDATORY,
        holds="Clusters, node pools and clients are spread over as many zones as the stack asks for.",
        why="Google's Regions and zones documentation: a zone is one failure domain, and what is in one goes with it.",
        fix="List more zones in stacks/, or lower the parameter zones in policy/stacks/.",
        check=_spread,
        types=(CLUSTER, NODE_POOL, _REGIONAL),
    ),
    Rule(
        id="zones-of-servers",
        level=Level.MANDATORY,
        holds="Nomad's servers are spread over as many zones as the stack asks for.",
        why="Nomad's documentation, Consensus: a quorum that is in one zone is lost with it.",
        fix="List more zones in stacks/, or lower the parameter zones in policy/stacks/.",
        check=_servers,
        types=(_ZONAL,),
        across=True,
    ),
    Rule(
        id="location-elsewhere",
        level=Level.MANDATORY,
        holds="Data, images and keys are kept in a region in which the stack runs.",
        why="Data may not leave a country by mistake, and each read from afar is paid for.",
        fix="Set the location to one of the regions of `network.subnets`.",
        check=_near,
        types=_KEPT,
        across=True,
    ),
)
