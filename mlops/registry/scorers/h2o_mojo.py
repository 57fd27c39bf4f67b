"""H2O MOJOs, loaded as the tested Java library that was stored with them, by the program of `images/mojo-packager`.

`MLOPS_MOJO_PACKAGER` names the program's folder. Without it: `/app`, where the image has it, or this checkout's.
"""

import subprocess
import sys
from pathlib import Path

from mlops.registry.errors import ScorerError
from mlops.registry.scorers import folders

TOLERANCE = 1e-9
_PROGRAM = "src/packager.py"


def command(version: Path) -> list[str]:
    """The program that scores the library of a version's local folder."""
    folder = _folder()
    own = folder / ".venv" / "bin" / "python"
    return [str(own) if own.exists() else sys.executable, str(folder / _PROGRAM), "score", str(version / "model")]


def tools() -> dict[str, str]:
    """Version of Java; the library's own version is part of what is verified."""
    try:
        said = subprocess.run(["java", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise ScorerError("java does not run, so the model cannot be loaded: install Java 17 or newer") from None
    return {"java": next(iter(said.split()[1:2]), "unknown")}


def _folder() -> Path:
    return folders.find("mojo-packager", _PROGRAM, "MLOPS_MOJO_PACKAGER")
