"""What a command works with: the stack's settings, its engine, its registry.

The one place that decides which engine serves a pipeline (`job.nomad.hcl` is Nomad's, `templates.py` Argo's) and where
that is: at an address, or on the embedded platform, which has both. Everything is imported when it is first used, so
that `--help` and a typing error answer at once.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mlops import paths
from mlops.cli.output import RefusalError
from mlops.engines.base import Engine

if TYPE_CHECKING:
    from infra.settings import Settings
    from mlops.engines.embedded.platform import Platform
    from mlops_registry import Registry


@dataclass(frozen=True)
class Session:
    """One command's view of a stack."""

    stack: str

    @cached_property
    def settings(self) -> "Settings":
        """The stack file, validated."""
        from infra.settings import load

        return load(self.stack)

    @cached_property
    def _nomad_address(self) -> str | None:
        return self.settings.nomad.address or os.environ.get("NOMAD_ADDR") or None

    @cached_property
    def _argo_address(self) -> str | None:
        # As Argo's own command reads it: a host and a port, or a URL.
        server = os.environ.get("ARGO_SERVER") or None
        if server is None or "://" in server:
            return server
        return f"{'http' if os.environ.get('ARGO_SECURE') == 'false' else 'https'}://{server}"

    @cached_property
    def _namespace(self) -> str:
        kubernetes = self.settings.kubernetes
        return kubernetes.namespace if kubernetes else os.environ.get("ARGO_NAMESPACE") or "default"

    @cached_property
    def platform(self) -> "Platform | None":
        """The embedded platform, where it is what serves this stack."""
        from mlops.engines.embedded.platform import find

        if self._nomad_address or self._argo_address:
            return None
        if self.stack != "local":
            raise RefusalError(
                f"stack {self.stack} names no Nomad, so there is no engine to ask; "
                "set hybrid-mlops:nomad.address in its file, or NOMAD_ADDR, or ARGO_SERVER"
            )
        platform = find(paths.state())
        if platform is None:
            raise RefusalError(
                f"the embedded platform of stack {self.stack} is not running, so there is no engine and no bucket; "
                "start it with `mlops up`"
            )
        # The registry's client reads the bucket's address where Google's libraries look for it.
        os.environ["STORAGE_EMULATOR_HOST"] = platform.storage_address
        # No proxy of the machine's reaches loopback; what is already excepted from it stays so.
        spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        os.environ["no_proxy"] = ",".join(filter(None, (spared, "127.0.0.1,localhost")))
        return platform

    def engine(self, pipeline: str) -> Engine:
        """The engine that runs a pipeline."""
        from mlops import parameters

        folder = parameters.files(paths.CHECKOUT / "jobs")[pipeline].parent
        name, variable, engine = (
            ("Nomad", "NOMAD_ADDR", self._nomad)
            if (folder / "job.nomad.hcl").is_file()
            else ("Argo Server", "ARGO_SERVER", self._argo)
        )
        if engine is None:
            raise RefusalError(
                f"{pipeline} runs on {name}, of which stack {self.stack} has no address, so nothing was started; set "
                f"{variable}, or unset the other engine's for the embedded platform"
            )
        return engine

    @cached_property
    def engines(self) -> tuple[Engine, ...]:
        """Every engine of this stack."""
        return tuple(engine for engine in (self._nomad, self._argo) if engine is not None)

    @cached_property
    def _nomad(self) -> Engine | None:
        from mlops.engines.nomad import NomadEngine

        address = self.platform.nomad_address if self.platform else self._nomad_address
        return NomadEngine(address) if address else None

    @cached_property
    def _argo(self) -> Engine | None:
        from mlops.engines.argo import ArgoEngine

        if self.platform:
            return ArgoEngine(self.platform.argo_address, self._namespace)
        token = os.environ.get("ARGO_TOKEN", "")
        return ArgoEngine(self._argo_address, self._namespace, token) if self._argo_address else None

    @property
    def models(self) -> str:
        """Where this stack's versions are, as a gs:// address."""
        return f"gs://{self.settings.buckets.models}/models"

    @cached_property
    def registry(self) -> "Registry":
        """The registry in this stack's bucket of models."""
        from mlops_registry import Registry

        _ = self.platform
        return Registry(self.models)

    def defaults(self, pipeline: str, declared: Collection[str]) -> dict[str, str]:
        """What the stack, and else the engine, gives for a run's parameters."""
        job = self.settings.jobs.get(pipeline)
        supplied = {"data_url": f"salesforce+{self.platform.feed_url}"} if self.platform else {}
        # The stack's are not filtered: one that the pipeline does not have is a mistake in the stack file, to be told.
        return {k: v for k, v in supplied.items() if k in declared} | (dict(job.parameters) if job else {})
