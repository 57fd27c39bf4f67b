"""TensorFlow.js layers models, loaded by the program of `images/tensornode` that trained them.

`MLOPS_TENSORNODE` names the program's folder. Without it: `/app`, where the image has it, or this checkout's.
"""

import os
import subprocess
from pathlib import Path

from mlops.registry.errors import ScorerError
from mlops.registry.manifest import loads

_VARIABLE = "MLOPS_TENSORNODE"
_PROGRAM = "src/main.js"


def command(version: Path) -> list[str]:
    """The program that scores the model of a version's local folder."""
    return ["node", str(_folder() / _PROGRAM), "score", str(version / "model")]


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
    if named := os.environ.get(_VARIABLE):
        folders = [Path(named)]
    else:
        folders = [Path("/app"), Path(__file__).parents[3] / "images/tensornode"]
    for folder in folders:
        if (folder / _PROGRAM).is_file():
            return folder
    raise ScorerError(
        f"no {_PROGRAM} in {' or '.join(map(str, folders))}, so the model cannot be loaded: set {_VARIABLE} to the "
        "folder of the tensornode image"
    )
