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
