"""Names: how a folder of the project is called in the systems that the program registers it with. Pure functions."""

from infra.settings import Settings


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
    return f"{settings.gcp.region}-docker.pkg.dev/{settings.gcp.project}/images"


NOMAD_CA_SECRET = "mlops-nomad-ca"  # noqa: S105  a name
"""The secret in Secret Manager that holds the certificate of Nomad's CA: no secret, but read beside those that are."""


def nomad_server_labels(region: str) -> dict[str, str]:
    """Labels by which the servers of a Nomad region are found, on their instances."""
    return {"nomad-region": region, "nomad-role": "server"}


def nomad_server_name(region: str) -> str:
    """The name that every certificate of a Nomad region's servers has, as Nomad itself checks it."""
    return f"server.{region}.nomad"


def nomad_issuer(settings: Settings, region: str) -> str:
    """The issuer of a Nomad region's workload identities (`server.oidc_issuer`), which can never be changed.

    Google is given the keys, so nothing is fetched from it, and the name need not resolve.
    """
    assert settings.gcp, "the settings were checked"  # noqa: S101
    return f"https://{region}.nomad.{settings.gcp.project}.internal"
