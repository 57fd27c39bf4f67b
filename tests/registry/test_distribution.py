"""The registry as a distribution of its own: installed where nothing else is, its command works."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_registry import Registry
from tests.registry.conftest import MODEL, ORIGIN, VERSION

CHECKOUT = Path(__file__).resolve().parents[2]
UV = Path(sys.prefix, "bin", "uv")


@pytest.mark.whole
def test_installed_alone_it_lists_a_bucket_without_pulumi(
    tmp_path: Path, registry: Registry, run_dir: Path, environment: dict[str, str]
):
    registry.store(MODEL, VERSION, run_dir, ORIGIN)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=CHECKOUT / "registry", check=True)
    (wheel,) = tmp_path.glob("mlops_registry-*.whl")
    venv = tmp_path / "venv"
    setup = runpy.run_path(str(CHECKOUT / "tools" / "setup.py"))
    machine = {**os.environ, **setup["uv_environment"]([sys.executable, "-m", "pip"])}
    install = [UV, "pip", "install", "--quiet", "--python", venv]
    for command in (
        [UV, "venv", "--quiet", "--python", sys.executable, venv],
        [*install, "--require-hashes", "--requirement", CHECKOUT / "requirements" / "registry.txt"],
        [*install, "--no-deps", wheel],
    ):
        subprocess.run(command, env=machine, check=True)
    absent = "import importlib.util as i; print([n for n in ('pulumi', 'mlops', 'infra') if i.find_spec(n)])"
    environment = environment | {"PATH": "/usr/bin:/bin"}
    for arguments, said in (
        ([venv / "bin/python", "-c", absent], "[]\n"),
        ([venv / "bin/mlops-registry", "--help"], "promote"),
        ([venv / "bin/mlops-registry", "list"], VERSION),
    ):
        done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
