"""Names: how a folder of the project is called in the systems that the program registers it with. Pure functions."""

from ipaddress import IPv4Network

from infra.settings import Settings

IMAGES, SIGNATURES, MAVEN = "images", "signatures", "maven"
"""The stack's own repositories in Artifact Registry."""
MODEL_ALIASES = "aliases"
"""The registry's folder of aliases, below a model's name: people promote versions there, and tasks create nothing."""
STORE_PROGRAM = "platform/mlops-registry/"
"""What the names of the store task's programs begin with, in the data bucket."""
REGISTRIES = {
    "docker.io": "https://registry-1.docker.io",
    "ghcr.io": "https://ghcr.io",
    "quay.io": "https://quay.io",
}
"""The public registries that a stack pulls from, and their addresses."""
GOOGLE_AUDIENCE = "google"
"""The name and the audience of a Nomad task's `identity` block that is for Google Cloud."""


def job_id(folder: str) -> str:
    """The id of the job in `jobs/<folder>/`: `sales_close_prediction` -> `sales-close-prediction`."""
    return folder.replace("_", "-")


def image_variable(folder: str) -> str:
    """The HCL variable for the full name of the image in `images/<folder>/`: `h2o-trainer` -> `image_h2o_trainer`."""
    return "image_" + folder.replace("-", "_")


def image_repository(settings: Settings) -> str:
    """The repository that names of images begin with: the one that is set, or the stack's own in Artifact Registry."""
    if settings.images.repository:
        return settings.images.repository
    assert settings.gcp, "the settings were checked"  # noqa: S101
    return f"{settings.gcp.region}-docker.pkg.dev/{settings.gcp.project}/{IMAGES}"


def remotes(settings: Settings) -> dict[str, str]:
    """The remote repository in Artifact Registry of each public registry that the stack pulls from, by its host.

    Operators in a cluster are all that comes from others than Docker Hub.
    """
    clusters = settings.kubernetes and settings.kubernetes.clusters
    hosts = REGISTRIES if clusters else ["docker.io"]
    return {host: host.replace(".", "-") for host in hosts} if settings.gcp else {}


def public_image(settings: Settings, image: str) -> str:
    """A public image's name as the stack pulls it, through Artifact Registry where the stack has one.

    Args:
        settings: The stack's settings.
        image: Its full name: `quay.io/argoproj/argocli:v4.0.10`, `docker.io/library/python:3.11`.
    """
    if not settings.gcp:
        return image
    host, _, path = image.partition("/")
    return f"{settings.gcp.region}-docker.pkg.dev/{settings.gcp.project}/{remotes(settings)[host]}/{path}"


def maven_repository(settings: Settings) -> str:
    """The URL that Java libraries are published to: the one that is set, or the stack's own; empty for none."""
    if settings.kubernetes and settings.kubernetes.maven_repository:
        return settings.kubernetes.maven_repository
    return f"https://{settings.gcp.region}-maven.pkg.dev/{settings.gcp.project}/{MAVEN}" if settings.gcp else ""


NOMAD_CA_SECRET = "mlops-nomad-ca"  # noqa: S105  a name
"""The secret in Secret Manager that holds the certificate of Nomad's CA: no secret, but read beside those that are."""


def nomad_server_labels(region: str) -> dict[str, str]:
    """Labels by which the servers of a Nomad region are found, on their instances."""
    return {"nomad-region": region, "nomad-role": "server"}


def nomad_server_group(region: str, index: int) -> str:
    """The name of a server's group of one machine."""
    return f"mlops-{region}-server-{index}"


def nomad_server_name(region: str) -> str:
    """The name that every certificate of a Nomad region's servers has, as Nomad itself checks it."""
    return f"server.{region}.nomad"


def nomad_issuer(settings: Settings, region: str) -> str:
    """The issuer of a Nomad region's workload identities (`server.oidc_issuer`), which can never be changed.

    Google is given the keys, so nothing is fetched from it, and the name need not resolve.
    """
    assert settings.gcp, "the settings were checked"  # noqa: S101
    return f"https://{region}.nomad.{settings.gcp.project}.internal"


def nomad_balancer(settings: Settings, region: str) -> str:
    """The address of the load balancer before a Nomad region's servers: known before it exists.

    It is at the end of the subnet, where machines are not given theirs from; Google keeps the last two for itself.
    """
    assert settings.network, "the settings were checked"  # noqa: S101
    where = settings.nomad.regions[region].region
    beside = [name for name, other in settings.nomad.regions.items() if other.region == where]
    return str(IPv4Network(settings.network.subnets[where].nodes)[-3 - beside.index(region)])
