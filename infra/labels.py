"""Labels of everything in Google Cloud that takes some: by what costs, logs and searches are told apart. Pure."""

from infra.settings import PROJECT, Settings


def labels(settings: Settings, component: str, **more: str) -> dict[str, str]:
    """The labels of a resource: the stack's own, and over them the program's.

    Args:
        settings: The stack's settings.
        component: The room that the resource belongs to, such as network or nomad.
        more: Further labels; a dash in a key is written as an underscore.
    """
    own = {"part-of": PROJECT, "managed-by": "pulumi", "component": component}
    given = dict(settings.gcp.labels) if settings.gcp else {}
    return given | own | {key.replace("_", "-"): value for key, value in more.items()}
