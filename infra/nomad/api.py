"""Asking a Nomad that the stack provisions, from hooks that run in the middle of an update.

Owns one request, and the variable that says whether there is a Nomad to be asked. It deliberately goes through no
proxy: the address is this machine's, or one in the VPC.
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

VARIABLE = "MLOPS_NOMAD"
"""The variable by which `pulumi` is told of a Nomad that does not answer: `gone` for one that never will again, so that
what is left of it can be destroyed; `stand-in` where another program takes the place of Pulumi's provider."""
_SECONDS = 15


class NotFound(Exception):  # noqa: N818  it is an answer
    """Nomad does not know what was asked for."""


class RefusedError(Exception):
    """Nomad refuses to answer; the message says why."""


def gone() -> bool:
    """Whether Nomad will not answer again."""
    return os.environ.get(VARIABLE) == "gone"


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
            RefusedError: It answers with another status.
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
        """The API; None if there is none to be asked, or not yet."""
        ca_pem, token = await self.ca_pem.future(), await self.token.future()
        if os.environ.get(VARIABLE) in ("gone", "stand-in") or not ca_pem or not token:
            return None
        return Api(self.region, self.address, ca_pem, token)
