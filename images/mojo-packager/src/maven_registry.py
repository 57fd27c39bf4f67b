"""A Maven registry: who this is to it, and what it has already.

Owns credentials and reading; Maven does the publishing. Artifact Registry (`...-maven.pkg.dev`) is given the identity
that Google Cloud gives the pod or machine, by a token that lives an hour: it reaches Maven by its environment and is
written nowhere. Others have their credentials in Maven's own settings.xml.
"""

import base64
import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from errors import PackagingError

ARTIFACT_REGISTRY = re.compile(r"https://[a-z0-9-]+-maven\.pkg\.dev/")
_USER = "oauth2accesstoken"
_VARIABLE = "MOJO_PACKAGER_REGISTRY_TOKEN"
_SECONDS = 60


@dataclass(frozen=True)
class Registry:
    """A registry by its URL, https or file; `server` is its id in Maven's settings."""

    url: str
    server: str
    token: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, url: str, server: str) -> "Registry":
        """The registry, with a token where it is Google's.

        Raises:
          PackagingError: It is Google's, and there is no identity of Google Cloud here.
        """
        return cls(url, server, _token() if ARTIFACT_REGISTRY.match(url) else None)

    def read(self, path: str) -> bytes | None:
        """A file of it; None if it is not there, or not ours to read."""
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{path}")  # noqa: S310  https or file, as checked
        if self.token:
            basic = base64.b64encode(f"{_USER}:{self.token}".encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {basic}")
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 404):
                return None
            raise PackagingError(f"{self.url}: answers {error.code}; nothing was published") from None
        except OSError as error:
            if self.url.startswith("file:"):
                return None
            reason = getattr(error, "reason", error)
            raise PackagingError(f"{self.url}: cannot be reached ({reason}); nothing was published") from None

    def arguments(self, folder: Path) -> list[str]:
        """What makes Maven use the token: settings, written into a folder, that name the variable it is in."""
        if not self.token:
            return []
        settings = folder / "settings.xml"
        settings.write_text(
            f"<settings><servers><server><id>{self.server}</id><username>{_USER}</username>"
            f"<password>${{env.{_VARIABLE}}}</password></server></servers></settings>"
        )
        return ["--settings", str(settings)]

    @property
    def environment(self) -> dict[str, str]:
        """What Maven's environment has more for it."""
        return {_VARIABLE: self.token} if self.token else {}


def _token() -> str:
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    # The metadata server is this pod's own; no proxy leads there.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return json.load(answer)["access_token"]
    except (OSError, ValueError, KeyError):
        raise PackagingError(
            f"{host} gives no token, so Artifact Registry would take nothing; publish from a pod or machine with an "
            "identity of Google Cloud"
        ) from None
