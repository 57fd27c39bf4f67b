"""Rules on networks: what can be reached from where.

Numbers are those of the CIS Google Cloud Platform Foundation Benchmark 2.0.
"""

import ipaddress
from collections.abc import Iterator

from policy.parts import google
from policy.rule import Level, Part, Rule, Stack, UndecidedError

NETWORK = "gcp:compute/network:Network"
SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"


def _closed(way: Part, _: Stack) -> Iterator[str]:
    # A cluster's DNS endpoint lets in who IAM lets in, wherever they are.
    if way.get("source") == "anywhere, by IAM" or way.get("public") is False:
        return
    told = f"{way.get('target')} can be reached from {way.get('source')} by {way.get('way')}"
    # A bucket that does not prevent public access is a rule of its own, and no way in yet.
    if way.get("public") is None and not way.get("target").startswith("bucket "):
        raise UndecidedError(f"whether {told}")
    if way.get("public"):
        yield told


def _narrow(firewall: Part, _: Stack) -> Iterator[str]:
    if firewall.get("direction") == "EGRESS":
        return
    for source in firewall.each("sourceRanges"):
        network = ipaddress.ip_network(source, strict=False)
        # Whole private ranges are what other networks are joined with; Google's own are /16 at the largest.
        if network.is_private and network.prefixlen < 16 * network.version // 4:
            yield f"it lets in {source}, every private network that is ever joined"


def _aimed(firewall: Part, _: Stack) -> Iterator[str]:
    if firewall.get("direction") == "EGRESS" or not firewall.get("allows"):
        return
    if not (firewall.get("targetServiceAccounts") or firewall.get("targetTags")):
        yield "it opens every machine of the network"
    for allowed in firewall.each("allows"):
        part = firewall.inner(allowed, "")
        protocol = part.get("protocol")
        if protocol == "all" or (protocol in ("tcp", "udp") and not part.get("ports")):
            yield f"it opens every port of {protocol}"


def _own_subnetworks(network: Part, _: Stack) -> Iterator[str]:
    if network.get("autoCreateSubnetworks") is not False:
        yield "it makes a subnetwork in every region, with ranges that nobody chose"


def _logged(subnetwork: Part, _: Stack) -> Iterator[str]:
    # A subnetwork of a load balancer's proxies takes no flow logs.
    if subnetwork.get("purpose") in (None, "PRIVATE"):
        if not subnetwork.get("logConfig"):
            yield "it has no flow logs"
        if subnetwork.get("privateIpGoogleAccess") is not True:
            yield "its machines reach Google's APIs only over the internet"


RULES = (
    Rule(
        id="network-public",
        level=Level.MANDATORY,
        holds="Nothing can be reached from the internet.",
        why="CIS GCP 3.6, 3.7 and 4.9; Nomad's security model: its API is not for untrusted networks.",
        fix="Narrow the source to a private range or a service account; people come in by `mlops tunnel`.",
        check=_closed,
        types=("gcp:*", "kubernetes:*"),
        parts=google.ways_in,
    ),
    Rule(
        id="firewall-aimed",
        level=Level.MANDATORY,
        holds="A firewall rule opens named ports of named machines.",
        why="A rule for the whole network opens each machine that is added later; CIS GCP, chapter 3.",
        fix="Set target_service_accounts, and list the ports.",
        check=_aimed,
        types=(google.FIREWALL,),
    ),
    Rule(
        id="firewall-narrow",
        level=Level.MANDATORY,
        holds="A firewall rule lets in no whole private range.",
        why="A peering or a VPN of tomorrow comes from such a range too: NIST SP 800-41, chapter 4, deny by default.",
        fix="Name the subnetwork's range, or a service account, as the source.",
        check=_narrow,
        types=(google.FIREWALL,),
    ),
    Rule(
        id="network-default",
        level=Level.MANDATORY,
        holds="Networks have the subnetworks that the program declares, and no others.",
        why="CIS GCP 3.1: a network with automatic subnetworks overlaps with others, and comes with open rules.",
        fix="Set auto_create_subnetworks to false, and declare the subnetworks.",
        check=_own_subnetworks,
        types=(NETWORK,),
    ),
    Rule(
        id="subnetwork-logs",
        level=Level.ADVISORY,
        holds="Subnetworks keep flow logs, and reach Google's APIs without the internet.",
        why="CIS GCP 3.8: after an incident, flow logs are what says who spoke to whom.",
        fix="Set log_config and private_ip_google_access, as infra/foundation/network.py does.",
        check=_logged,
        types=(SUBNETWORK,),
    ),
)
