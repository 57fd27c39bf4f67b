"""Asking a Nomad that the stack provisions, from hooks that run in the middle of an update.

Owns one request, and the variable by which hooks are told to ask nothing. It deliberately goes through no proxy: the
address is this machine's, or one in the VPC.
"""

import http.client
import json
import os
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pulumi

SKIP = "MLOPS_NOMAD_HOOKS"
"""With the value `skip`, hooks ask Nomad nothing: for a Nomad that is gone for good, and where a stand-in takes the
place of the provider."""
_SECONDS = 15


class NotFound(Exception):  # noqa: N818  it is an answer
    """Nomad does not know what was asked for."""


class RefusedError(Exception):
    """Nomad refuses to answer; the message says why."""


@dataclass(frozen=True)
class Api:
    """The HTTP API of one Nomad region, with a token for all of it."""

    region: str
    address: str
    ca_pem: str
    token: str

    def __call__(self, method: str, path: str, accepted: Collection[int] = (200,)) -> Any:
        """Ask it.

        Args:
            method: GET, PUT or DELETE.
            path: What follows /v1/, with its query.
            accepted: Statuses of an answer, where others than success are some.

        Returns:
            The answer, parsed.

        Raises:
            OSError: It does not answer.
            NotFound: It answers 404.
            RefusedError: It answers anything else than success.
        """
        url = urlsplit(self.address)
        context = ssl.create_default_context(cadata=self.ca_pem)
        connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=_SECONDS, context=context)
        try:
            connection.request(method, f"/v1/{path}", headers={"X-Nomad-Token": self.token})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from None
        finally:
            connection.close()
        if answer.status == 404 and 404 not in accepted:
            raise NotFound(path)
        if answer.status not in accepted:
            raise RefusedError(f"{answer.status} {' '.join(text.split())[:200]}")
        return json.loads(text) if text else None


@dataclass(frozen=True)
class Later:
    """An `Api` whose certificate and token are known once they are made."""

    region: str
    address: str
    ca_pem: pulumi.Output[str]
    token: pulumi.Output[str]

    async def api(self) -> Api | None:
        """The API; None if nothing is to be asked, or while the region is not yet made."""
        ca_pem, token = await self.ca_pem.future(), await self.token.future()
        if os.environ.get(SKIP) == "skip" or not ca_pem or not token:
            return None
        return Api(self.region, self.address, ca_pem, token)
