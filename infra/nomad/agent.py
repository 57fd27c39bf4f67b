"""The configuration of Nomad's agents, as JSON. Pure functions of the settings.

Owns every value that an agent is given. It deliberately holds no secret: the gossip key, the replication token and the
name of the key ring's key, which has a random part, are put into files of their own by the boot script.
"""

from typing import Any

from infra import naming
from infra.machines import machine
from infra.settings import Settings
from infra.settings.nomad import ClientPoolSettings

DATA = "/var/lib/nomad/data"
TLS = "/etc/nomad.d/tls"
MODELS = "/var/lib/mlops/models"
"""The folder of the host volume `models` on a client."""
STORE_PROGRAM = "/opt/mlops-registry"

# Of a client, kept from tasks: MHz and MB for the agent, docker and what Debian runs.
_RESERVED = {"cpu": 200, "memory": 512, "disk": 4096}

# What an exec task sees of the machine, beside what Nomad mounts: the store program and what Python needs to run it.
# Nomad's own default is all of /usr, copied for every task: tens of seconds each.
_CHROOT = (
    STORE_PROGRAM,
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/lib/x86_64-linux-gnu",
    "/lib64",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/usr/bin/python3",
    "/usr/bin/python3.11",
    "/usr/lib/python3.11",
    "/usr/local/bin/mlops-registry",
)


def server(settings: Settings, region: str, index: int) -> dict[str, Any]:
    """The configuration of a server.

    Args:
        settings: The stack's settings.
        region: The Nomad region.
        index: Which server: the first is 0.
    """
    nomad = settings.nomad
    return _common(settings, region) | {
        "name": server_name(region, index),
        "server": {
            "enabled": True,
            "bootstrap_expect": nomad.regions[region].servers.count,
            "authoritative_region": nomad.authoritative_region or region,
            # Servers of all regions are one gossip pool: that is what federates them.
            "server_join": {"retry_join": [_discover(settings, other) for other in _own_first(settings, region)]},
            # A client proves itself by its certificate, which only machines with the clients' identity can read.
            "client_introduction": {"enforcement": "none"},
            "oidc_issuer": naming.nomad_issuer(settings, region),
            # Google is given the public keys by the program, which must then hear of a new one: it is rotated by hand,
            # docs/runbooks/rotate-identity-keys.md, and not every 720 hours by itself.
            "root_key_rotation_threshold": "87600h",
        },
        "autopilot": {"cleanup_dead_servers": True, "last_contact_threshold": "500ms"},
    }


def client(settings: Settings, region: str, pool: str) -> dict[str, Any]:
    """The configuration of every client in a pool."""
    of = settings.nomad.regions[region].pools[pool]
    return _common(settings, region) | {
        "client": {
            "enabled": True,
            "node_pool": pool,
            "server_join": {"retry_join": [_discover(settings, region)]},
            # Pinned, so that what the plan counts with and what the scheduler counts with is one number.
            "cpu_total_compute": capacity(of)[0] + _RESERVED["cpu"],
            "reserved": _RESERVED,
            "host_volume": [{"models": [{"path": MODELS, "read_only": False}]}],
            "chroot_env": {path: path for path in _CHROOT},
            # A task on the machine itself is never root, who reaches the metadata server.
            "options": {
                "driver.allowlist": "docker,exec",
                # Neither is there; asking for them would go on for as long as the agent runs.
                "fingerprint.denylist": "consul,vault,env_aws,env_azure,env_digitalocean",
                "user.checked_drivers": "exec",
                "user.denylist": "root,Administrator",
            },
        },
        "plugin": [
            {
                "docker": [
                    {
                        "config": [
                            {
                                "allow_privileged": False,
                                "volumes": [{"enabled": False}],
                                "auth": [{"helper": "artifact-registry"}],
                                "gc": [{"image": True, "image_delay": "24h"}],
                            }
                        ]
                    }
                ]
            },
            {"raw_exec": [{"config": [{"enabled": False}]}]},
        ],
    }


def server_name(region: str, index: int) -> str:
    """A server's name in Nomad; Nomad itself appends the region."""
    return f"{region}-{index}"


def server_tag(region: str) -> str:
    """The network tag by which agents find the servers of a region."""
    return f"mlops-nomad-{region}-server"


def capacity(pool: ClientPoolSettings) -> tuple[int, int]:
    """MHz and MB that tasks may have of one machine of a pool.

    Memory is what the machine type has, less what is reserved; the kernel keeps some too, so it is a little less.
    """
    of = machine(pool.machine_type)
    assert of, "the settings were checked"  # noqa: S101
    return of.vcpu * pool.mhz_per_vcpu - _RESERVED["cpu"], of.memory_mb - _RESERVED["memory"]


def _common(settings: Settings, region: str) -> dict[str, Any]:
    of = settings.nomad.regions[region]
    return {
        "region": region,
        "datacenter": of.region,
        "data_dir": DATA,
        "bind_addr": "0.0.0.0",  # noqa: S104  the firewall opens it to members and IAP only
        "disable_update_check": True,
        "acl": {"enabled": True},
        # There is none; by default every agent asks one on loopback again and again.
        "consul": {"auto_advertise": False, "client_auto_join": False, "server_auto_join": False},
        "tls": {
            "http": True,
            "rpc": True,
            "ca_file": f"{TLS}/ca.pem",
            "cert_file": f"{TLS}/certificate.pem",
            "key_file": f"{TLS}/key.pem",
            "verify_server_hostname": True,
            # People and the provider come with a token: a certificate of theirs would be one more thing to lose.
            "verify_https_client": False,
        },
        "telemetry": {
            "prometheus_metrics": True,
            "publish_allocation_metrics": True,
            "publish_node_metrics": True,
            "disable_hostname": True,
        },
    }


def _own_first(settings: Settings, region: str) -> list[str]:
    return [region, *(other for other in settings.nomad.regions if other != region)]


def _discover(settings: Settings, region: str) -> str:
    """Where a region's servers are, as go-discover looks for them in Compute Engine."""
    assert settings.gcp, "the settings were checked"  # noqa: S101
    zones = f"{settings.nomad.regions[region].region}-[a-z]"
    return f"provider=gce project_name={settings.gcp.project} zone_pattern={zones} tag_value={server_tag(region)}"
