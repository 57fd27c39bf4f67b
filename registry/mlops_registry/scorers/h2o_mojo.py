"""H2O MOJOs, loaded as the tested Java library that was stored with them, by the program of `images/mojo-packager`.

`MLOPS_MOJO_PACKAGER` names the program's folder. Without it: `/app`, where the image has it, or this checkout's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mlops_registry.errors import ScorerError
from mlops_registry.scorers import folders

TOLERANCE = 1e-9
_PROGRAM = "src/packager.py"


def command(version: Path) -> list[str]:
    """The program that scores the library of a version's local folder."""
    elsewhere = ["--maven-repository", str(_repository())] if _repository() else []
    return [str(_python()), str(_folder() / _PROGRAM), "score", *elsewhere, str(version / "model")]


def visible() -> list[Path]:
    """The program's folder, its Python, Java, and what the libraries need beside themselves."""
    java, repository = shutil.which("java"), _repository()
    return [
        _folder(),
        _python().resolve().parents[1],
        *([Path(java), Path(java).resolve().parents[1]] if java else []),
        *([repository.parent / "runtime"] if repository else []),
    ]


def tools() -> dict[str, str]:
    """Version of Java; the library's own version is part of what is verified."""
    try:
        said = subprocess.run(["java", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise ScorerError("java does not run, so the model cannot be loaded: install Java 17 or newer") from None
    return {"java": next(iter(said.split()[1:2]), "unknown")}


def _python() -> Path:
    own = _folder() / ".venv" / "bin" / "python"
    return own if own.exists() else Path(sys.executable)


def _repository() -> Path | None:
    """Maven's repository, where the environment says that it is not the program's own."""
    named = os.environ.get("MAVEN_REPOSITORY")
    return Path(named).absolute() if named else None


def _folder() -> Path:
    return folders.find("mojo-packager", _PROGRAM, "MLOPS_MOJO_PACKAGER")
