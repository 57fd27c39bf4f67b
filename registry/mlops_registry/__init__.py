"""Model versions in a bucket: store, list, show, verify, promote, predict. Imports nothing of Pulumi.

A version lies under `<bucket path>/<model>/<version id>/` and exists if and only if its `manifest.json` does, which is
written last and never changes. Verifications are appended beside it; aliases, under `<model>/aliases/`, are the only
things that move. Does not train, and does not know how a format's models are loaded: that program comes from the image
that trained them (`scorers`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import (
        AccessError,
        BadInputError,
        ConflictError,
        IntegrityError,
        LostRaceError,
        NoBucketError,
        NotFoundError,
        NothingToStoreError,
        NotVerifiedError,
        RegistryError,
        ScorerError,
        UnavailableError,
    )
    from .manifest import Alias, Manifest, Verification, VersionDetails, VersionSummary
    from .registry import Registry
    from .storing import Origin

__all__ = [
    "AccessError",
    "Alias",
    "BadInputError",
    "ConflictError",
    "IntegrityError",
    "LostRaceError",
    "Manifest",
    "NoBucketError",
    "NotFoundError",
    "NotVerifiedError",
    "NothingToStoreError",
    "Origin",
    "Registry",
    "RegistryError",
    "ScorerError",
    "UnavailableError",
    "Verification",
    "VersionDetails",
    "VersionSummary",
]


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: `mlops-registry --help` needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = {"Registry": "registry", "Origin": "storing"}.get(name, "errors" if name.endswith("Error") else "manifest")
    return getattr(import_module(f".{home}", __name__), name)
