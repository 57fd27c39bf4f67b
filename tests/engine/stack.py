"""A stack on the real `pulumi`: its state in a folder, the stand-in provider behind it. Knows no resource type.

A checkout is made first (fixture `scratch_checkout`), since the command edits the stack's file.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import read_config
from tests.engine.provider import PassThrough, debug_providers, serving

needs_pulumi = pytest.mark.skipif(
    not shutil.which("pulumi"),
    reason="the program `pulumi` is not on PATH, so the program was tried under Pulumi's mocks only; install it",
)
PACKAGES = ("gcp", "kubernetes", "nomad", "random", "tls")
ENGINES = {
    "NOMAD_ADDR": "http://127.0.0.1:4646",
    "KUBECONFIG": str(Path(__file__).with_name("kubeconfig.yaml")),
    "MLOPS_NOMAD": "stand-in",
}
"""Where the recorder lets a program believe engines to be that its stack does not name; nothing asks there. Hooks that
would ask a real Nomad are told of the stand-in: what they do is tried on a real one, in `test_inside.py`."""


@dataclass
class Stack:
    """A stack of a checkout of its own."""

    name: str
    checkout: Path
    environment: Mapping[str, str]
    provider: PassThrough

    def pulumi(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the real command on it."""
        return subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--color", "never", "--stack", self.name],
            cwd=self.checkout,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=550,
        )

    def must(self, *arguments: str) -> str:
        """Run it; it must succeed."""
        done = self.pulumi(*arguments, **ENGINES)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, verb: str, *options: str) -> list[tuple[str, str]]:
        """Update or destroy the stack, and give what was asked of the provider for it, sorted: (method, URN)."""
        self.provider.calls.clear()
        said = self.must(verb, "--yes", "--skip-preview", *options)
        # Without credentials the program cannot ask for quotas, and says so.
        warnings = [line for line in said.splitlines() if "warning:" in line and "warning: the quotas of " not in line]
        assert not warnings, said
        return self.changes()

    def changes(self) -> list[tuple[str, str]]:
        """What was asked of the provider since that was cleared, sorted, without what only asks: (method, URN)."""
        return sorted(call for call in self.provider.calls if call[0] != "Invoke")

    def configure(self, path: str, value: Any) -> None:
        """Set a setting, by its path without the namespace, as `pulumi config set --path` does."""
        text = json.dumps(value) if not isinstance(value, str) else value
        self.must("config", "set", "--path", f"hybrid-mlops:{path}", text)

    def state(self) -> dict[str, dict[str, Any]]:
        """What the state holds, by URN, without the stack itself."""
        exported = json.loads(self.must("stack", "export"))
        return {
            resource["urn"]: resource
            for resource in exported["deployment"].get("resources", [])
            if resource["type"] != "pulumi:pulumi:Stack"
        }


def environment(folder: Path) -> dict[str, str]:
    """A shell for the command that has nothing of the developer's: all it writes is below `folder`."""
    backend = folder / "backend"
    backend.mkdir()
    return {
        **{key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ},
        "HOME": str(folder / "home"),
        "PULUMI_HOME": str(folder / "home" / ".pulumi"),
        "PULUMI_BACKEND_URL": backend.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "of this test only",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


@contextmanager
def initialised(name: str, checkout: Path, folder: Path) -> Iterator[Stack]:
    """An empty stack of the checkout, whose owner has set what only an owner knows."""
    config, _ = read_config(name, checkout / "stacks")
    file = checkout / "stacks" / f"Pulumi.{name}.yaml"
    file.write_text(yaml.safe_dump({"config": config}), encoding="utf-8")
    provider = PassThrough()
    with serving(provider) as port:
        stack = Stack(name, checkout, {**environment(folder), **debug_providers(port, *PACKAGES)}, provider)
        stack.must("stack", "init")
        yield stack
