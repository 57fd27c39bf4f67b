"""Settings of Nomad: one that exists, or the regions that the stack provisions on n1 machines."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from infra.settings.fields import (
    MAP,
    NUMBER,
    NUMBER_OR_MAP,
    CpuPlatform,
    MachineType,
    Model,
    Port,
    Region,
    Sha256,
    ShortName,
    Url,
    Version,
    Zone,
    from_outside,
)


class NomadRelease(Model):
    """The release of Nomad that machines run."""

    version: Version = Field(
        description="Version of Nomad, such as 2.0.5; releases before 2.0.4 have known weaknesses."
    )
    sha256: Sha256 = from_outside(
        stand_in="0" * 64,
        description="SHA-256 of nomad_<version>_linux_amd64.zip, as nomad_<version>_SHA256SUMS beside it says.",
    )


class MachineSettings(Model):
    """One kind of machine."""

    machine_type: MachineType = Field(description="An n1 machine type, such as n1-standard-2.")
    min_cpu_platform: CpuPlatform = Field(
        default="Intel Skylake",
        description="Oldest CPU that machines may have: n1 spans several, and a plan needs one number.",
    )
    mhz_per_vcpu: int = Field(
        default=2000,
        ge=1000,
        le=5000,
        description="What Nomad counts a vCPU as, in MHz: the base frequency of `min_cpu_platform`, which is 2.0 GHz "
        "for Skylake (cloud.google.com/compute/docs/cpu-platforms).",
    )
    boot_disk_gb: int = Field(default=20, ge=10, le=2000, description="Size of the boot disk, in GB.")


class ServerSettings(MachineSettings):
    """The servers of a Nomad region."""

    count: Literal[1, 3, 5] = Field(description="Servers: 3 or 5; 1 has no quorum to lose, and for a while no Nomad.")
    data_disk_gb: int = Field(default=20, ge=10, le=2000, description="Size of the disk with Raft's data, in GB.")


class ScalingSettings(Model):
    """Between what and what a pool of clients scales with the runs that wait."""

    min: int = Field(default=0, ge=0, le=1000, description="Fewest machines.")
    max: int = Field(ge=1, le=1000, description="Most machines.")


class ClientPoolSettings(MachineSettings):
    """A pool of Nomad clients; its name is the node pool's."""

    size: Annotated[Annotated[int, Field(ge=1, le=1000), NUMBER] | Annotated[ScalingSettings, MAP], NUMBER_OR_MAP] = (
        Field(description="Machines: a number, or `min` and `max`, between which Nomad Autoscaler moves it.")
    )
    spot: bool = Field(
        default=False, description="Machines that Google may take back at any time: a training on one starts again."
    )
    system: bool = Field(
        default=False,
        description="Whether this pool runs the platform's own jobs (autoscaler, metrics) instead of trainings. A "
        "region with a pool that scales needs one; it never goes to zero.",
    )


class NomadRegionSettings(Model):
    """One Nomad region, in one region of Google Cloud."""

    region: Region = Field(description="Region of Google Cloud, one of `network.subnets`.")
    zones: tuple[Zone, ...] = Field(min_length=1, description="Zones of that region; servers are spread over them.")
    local_port: Port = Field(description="Port on 127.0.0.1 at which `mlops tunnel` offers this region's Nomad.")
    servers: ServerSettings = Field(description="The servers.")
    pools: Mapping[ShortName, ClientPoolSettings] = Field(min_length=1, description="Pools of clients, by name.")

    @property
    def scaled(self) -> dict[str, ClientPoolSettings]:
        """The pools that scale; a system pool does not: it is what scales the others."""
        return {
            name: pool
            for name, pool in self.pools.items()
            if isinstance(pool.size, ScalingSettings) and not pool.system
        }


class NomadSettings(Model):
    """The Nomad that jobs are registered with."""

    address: Url | None = Field(
        default=None,
        description="Address of an existing Nomad, such as https://nomad.example.com:4646. Without one, and without "
        "`regions`, it is NOMAD_ADDR's, and for the `mlops` command the embedded engine.",
    )
    ca_pem: Annotated[str, StringConstraints(pattern=r"^-----BEGIN CERTIFICATE-----")] | None = Field(
        default=None, description="Certificate of the CA of an existing Nomad, as PEM; without it the system's."
    )
    access: Literal["tunnel", "direct"] = Field(
        default="tunnel",
        description="How the program reaches the Nomad that it provisions: tunnel by `mlops tunnel`, direct from a "
        "machine in the VPC through the internal load balancer.",
    )
    release: NomadRelease | None = Field(default=None, description="What machines run; needed beside `regions`.")
    regions: Mapping[ShortName, NomadRegionSettings] = Field(
        default={}, description="Nomad regions that the stack provisions, by name; federated where there are several."
    )
    authoritative_region: ShortName | None = Field(
        default=None, description="The Nomad region that ACLs are kept in; needed where there are several."
    )


class SalesforceSettings(Model):
    """Credentials of the connected app that jobs read Salesforce with: both by `pulumi config set --secret --path`."""

    client_id: SecretStr = Field(description="The connected app's consumer key.")
    client_secret: SecretStr = Field(description="The connected app's consumer secret.")
