"""The images that pods run: every user of theirs is somebody, with a home.

Java and Hadoop ask the system who they run as, and end where nobody is called so. One test reads the Dockerfiles; the
other asks the images where they can be built: with buildah (MLOPS_TEST_BUILDAH is the command), root, and bases, as
in MLOPS_TEST_BASES="python=localhost/python:3.11 node=localhost/node:22 spark=...".
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

DOCKERFILES = sorted(CHECKOUT.glob("images/*/Dockerfile"))
DEBIAN = {"65534": "/nonexistent"}
"""Homes of users that every base has."""
ASKED = """\
import os, pathlib, pwd
me = pwd.getpwuid(os.getuid())
print(os.getuid(), me.pw_name, me.pw_dir)
assert pathlib.Path(me.pw_dir).is_absolute()
if os.getuid() != 65534:
    (pathlib.Path(me.pw_dir) / ".ivy2").mkdir()
"""
BUILDAH = shlex.split(os.environ.get("MLOPS_TEST_BUILDAH", "buildah"))
BASES = dict(one.split("=", 1) for one in os.environ.get("MLOPS_TEST_BASES", "").split())


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_the_user_of_an_image_has_an_entry_with_an_absolute_home(file: Path) -> None:
    stage = re.split(r"^FROM ", file.read_text(), flags=re.MULTILINE)[-1].replace("\\\n", " ")
    (user,) = re.findall(r"^USER (\S+)$", stage, re.MULTILINE)
    uid = user.partition(":")[0]
    made = re.findall(r"useradd (.*?)(?:&&|$)", stage, re.MULTILINE)
    homes = [
        home for options in made for home in re.findall(r"--home-dir (\S+)", options) if f"--uid {uid} " in options
    ]
    assert homes or uid in DEBIAN, f"nobody has the uid {uid}: Java ends with `invalid null input: name`"
    assert all(home.startswith("/") for home in homes)
    assert all("--create-home" in options for options in made)


def _cannot_build() -> str:
    if shutil.which(BUILDAH[0]) is None:
        return f"{BUILDAH[0]} is not on PATH"
    if os.geteuid() != 0:
        return "not root: buildah would need user namespaces of its own"
    return "" if BASES else "MLOPS_TEST_BASES names no bases, and a pull of them is no test's business"


@pytest.mark.engine
@pytest.mark.whole
@pytest.mark.skipif(bool(_cannot_build()), reason=_cannot_build())
@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_the_image_as_built_knows_its_user(file: Path) -> None:
    text, image = file.read_text(), f"localhost/mlops-test/{file.parent.name}:{os.getpid()}"
    kind = "node" if re.search(r"^ARG BASE=\S*/node:", text, re.MULTILINE) else "python"
    needed = {"BASE": kind, **({"SPARK": "spark"} if "ARG SPARK=" in text else {})}
    if missing := sorted(set(needed.values()) - set(BASES)):
        pytest.skip(f"MLOPS_TEST_BASES names no {', '.join(missing)}")
    given = [word for name, base in needed.items() for word in ("--build-arg", f"{name}={BASES[base]}")]
    build = [*BUILDAH, "bud", "--network", "host", *given, "-f", str(file), "-t", image, str(CHECKOUT)]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    try:
        made = subprocess.run([*BUILDAH, "from", image], capture_output=True, text=True, check=True).stdout.strip()
        python = "python" if kind == "python" else "python3"
        asked = subprocess.run([*BUILDAH, "run", made, "--", python, "-c", ASKED], capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
        subprocess.run([*BUILDAH, "rm", made], capture_output=True, check=True)
    finally:
        subprocess.run([*BUILDAH, "rmi", "--force", image], capture_output=True)
