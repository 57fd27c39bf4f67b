"""Packages and MOJOs as files: what tests read of them, and how they damage them."""

import json
import zipfile
from pathlib import Path

IMAGE = Path(__file__).parent.parent
FIXTURE = IMAGE / "fixture"


def jar_of(package):
    """Give the jar of a package."""
    return package / json.loads((package / "package.json").read_text())["jar"]


def rewrite(target, edit, source=FIXTURE / "model.zip"):
    """Write a MOJO whose entries went through `edit(name, content)`, in another order."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in reversed(old.namelist()):
            content = edit(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def set_ini(**values):
    """Give an edit that sets lines of model.ini."""

    def edit(name, content):
        if name != "model.ini":
            return content
        lines = content.decode().splitlines()
        for key, value in values.items():
            (at,) = [i for i, line in enumerate(lines) if line.startswith(f"{key} = ")]
            lines[at] = f"{key} = {value}"
        return "\n".join([*lines, ""]).encode()

    return edit
