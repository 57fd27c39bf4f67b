"""TensorFlow.js layers models, loaded by the program of `images/tensornode` that trained them.

`MLOPS_TENSORNODE` names the program's folder. Without it: `/app`, where the image has it, or this checkout's.
"""

import subprocess
from pathlib import Path

from mlops_registry.errors import ScorerError
from mlops_registry.manifest import loads
from mlops_registry.scorers import folders

TOLERANCE = 1e-6
_PROGRAM = "src/main.js"


def command(version: Path) -> list[str]:
    """The program that scores the model of a version's local folder."""
    return ["node", str(_folder() / _PROGRAM), "score", str(version / "model")]


def visible() -> list[Path]:
    """The program's folder, and its packages, which may lie elsewhere."""
    return [_folder(), _folder() / "node_modules"]


def tools() -> dict[str, str]:
    """Versions of Node and of TensorFlow.js's packages."""
    versions = {}
    try:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        versions["node"] = version.strip().removeprefix("v")
    except (OSError, subprocess.CalledProcessError):
        raise ScorerError("node does not run, so the model cannot be loaded: install Node.js") from None
    for package in sorted(_folder().glob("node_modules/@tensorflow/*/package.json")):
        facts = loads(package.read_bytes(), str(package))
        versions[facts["name"]] = facts["version"]
    return versions


def _folder() -> Path:
    return folders.find("tensornode", _PROGRAM, "MLOPS_TENSORNODE")
