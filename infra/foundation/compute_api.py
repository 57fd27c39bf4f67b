"""Asking Compute Engine itself, from hooks that run in the middle of an update.

Owns one request, as whoever runs `pulumi`. Pulumi's provider is not asked: what is wanted here is no resource.
"""

from collections.abc import Mapping
from typing import Any

ADDRESS = "https://compute.googleapis.com/compute/v1"
_SECONDS = 30


def ask(project: str, path: str = "", *, method: str = "GET", params: Mapping[str, str] | None = None) -> Any:
    """The answer to a request.

    Args:
        project: The project.
        path: What follows the project, with a slash before it.
        method: GET, or POST without a body.
        params: The query.

    Raises:
        Exception: Whatever Google's libraries raise for credentials, connections and refusals.
    """
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(
        scopes=["https://www.googleapis.com/auth/compute.readonly"], quota_project_id=project
    )
    session = AuthorizedSession(credentials)
    answer = session.request(method, f"{ADDRESS}/projects/{project}{path}", params=params, timeout=_SECONDS)
    answer.raise_for_status()
    return answer.json()


def reason(error: Exception) -> str:
    """Why a request failed, in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
