"""What a machine runs when it starts: one bash script, put together from the files in `files/`. Pure functions.

The script holds no secret, since whoever may see a machine may read its metadata. It is the whole of a machine beside
its image: a changed byte is another instance template, and so other machines.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra import naming
from infra.nomad import agent
from infra.settings import ROOT, Settings

HOME = "/usr/local/lib/mlops"
FILES = Path(__file__).parent / "files"
_ALL = ("lib.sh", "machine.sh", "nomad.service", "refresh-certificates.sh", "mlops-certificates.service")
_ALL += ("mlops-certificates.timer",)
_SERVER = ("server.sh", "bootstrap.sh", "snapshot.sh", "report.sh", "server-user.conf", "mlops-snapshot.service")
_SERVER += ("mlops-snapshot.timer", "mlops-report.service", "mlops-report.timer")
_CLIENT = ("client.sh", "store-program.sh", "metadata-guard.sh", "docker-credential-artifact-registry.sh")
_CLIENT += ("daemon.json", "mlops-metadata.service")
_BEGIN = f"set -euo pipefail\ninstall --directory {HOME}\n"
_END = "END_OF_FILE"


class StoreProgram:
    """The store program at the version of a checkout.

    Attributes:
        files: Its files by their path in the checkout.
        checksums: A line a file, as sha256sum writes it.
        content: A hash of them all: another for every version.
        objects: What the names of its objects in a bucket begin with. Each of them holds this version.
    """

    files: dict[str, Path]
    checksums: str
    content: str
    objects: str

    def __init__(self, root: Path = ROOT) -> None:
        sources = [
            *(root / "registry/mlops_registry").rglob("*.py"),
            root / "requirements/registry.txt",
        ]
        self.files = {str(path.relative_to(root)): path for path in sorted(sources)}
        self.checksums = "".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in self.files.items()
        )
        self.content = hashlib.sha256(self.checksums.encode()).hexdigest()[:20]
        self.objects = f"{PROGRAM_PREFIX}{self.content}/"


PROGRAM_PREFIX = naming.STORE_PROGRAM
"""What the names of all versions of the store program begin with."""


def server(settings: Settings, region: str, index: int) -> str:
    """The boot script of a server."""
    replicates = settings.nomad.authoritative_region not in (None, region)
    environment = {
        "NOMAD_USER": "nomad",
        "CERTIFICATES_SECRET": secret_name("server", region),
        "GOSSIP_SECRET": secret_name("gossip"),
        "TOKEN_SECRET": secret_name("bootstrap-token"),
        "REPLICATES": "yes" if replicates else "no",
        "SNAPSHOT_BUCKET": str(settings.buckets.logs),
    }
    return _script("server.sh", _SERVER, settings, region, environment, agent.server(settings, region, index))


def client(settings: Settings, region: str, pool: str, program: StoreProgram) -> str:
    """The boot script of every client in a pool."""
    environment = {
        "NOMAD_USER": "root",
        "CERTIFICATES_SECRET": secret_name("client", region),
        "PROGRAM_BUCKET": settings.buckets.data,
        "PROGRAM_OBJECTS": program.objects,
    }
    config = agent.client(settings, region, pool)
    more = {"store-program.sha256": program.checksums}
    return _script("client.sh", _CLIENT, settings, region, environment, config, more)


def secret_name(what: str, region: str | None = None) -> str:
    """The name of a secret in Secret Manager: of one region, or of all."""
    return f"mlops-nomad-{region}-{what}" if region else f"mlops-nomad-{what}"


def _script(
    main: str,
    files: tuple[str, ...],
    settings: Settings,
    region: str,
    environment: Mapping[str, str],
    config: Mapping[str, Any],
    more: Mapping[str, str] | None = None,
) -> str:
    release = settings.nomad.release
    assert settings.gcp and release, "the settings were checked"  # noqa: S101, PT018
    variables = {
        "PROJECT": settings.gcp.project,
        "NOMAD_REGION": region,
        "NOMAD_VERSION": release.version,
        "NOMAD_SHA256": release.sha256,
        **environment,
    }
    contents = {name: (FILES / name).read_text(encoding="utf-8") for name in (*_ALL, *files)}
    contents["machine.env"] = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    contents["agent.json"] = json.dumps(config, indent=2, sort_keys=True) + "\n"
    contents |= more or {}
    parts = [
        f"#!/bin/bash\n# What this machine is made of: infra/nomad/files, and its stack's settings.\n{_BEGIN}",
    ]
    parts += [f"cat >{HOME}/{name} <<'{_END}'\n{text}{_END}\n" for name, text in sorted(contents.items())]
    return "".join(parts) + f"exec bash {HOME}/{main}\n"
