"""Fixtures: the packager as a program, and the library of the small model that it primes itself with."""

import os
import shutil
import subprocess

import pytest
from mojo_files import FIXTURE, IMAGE, jar_of

COORDINATES = "com.example.models:tiny-model:1-{digest}"


class Packager:
    """Runs the image's program."""

    image = IMAGE

    def command(self, *arguments):
        """Give the command line."""
        return [IMAGE / ".venv" / "bin" / "python", IMAGE / "src" / "packager.py", *arguments]

    def run(self, *arguments, stdin=None):
        """Run to the end."""
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        command = self.command(*arguments)
        return subprocess.run(command, capture_output=True, text=True, env=environment, input=stdin, check=False)

    def package(self, output, mojo=FIXTURE / "model.zip", examples=FIXTURE / "examples.json", more=()):
        """Package the small model, or others."""
        given = ("--mojo", mojo, "--examples", examples, "--coordinates", COORDINATES, "--output", output)
        return self.run("package", *given, *more)


@pytest.fixture(scope="session")
def packager():
    primed = IMAGE / "target" / "m2" / "runtime"
    assert (IMAGE / ".venv" / "bin" / "python").exists(), "no .venv in the image's folder: run `make setup`"
    assert primed.exists(), f"{primed} is missing: run `.venv/bin/python src/packager.py prime` in {IMAGE}"
    return Packager()


@pytest.fixture(scope="session")
def library(packager, tmp_path_factory):
    """The package of the small model: the output folder."""
    output = tmp_path_factory.mktemp("library") / "package"
    done = packager.package(output)
    assert done.returncode == 0, done.stderr
    assert "0 of 60 examples differ (largest difference 0.0)" in done.stdout
    return output


@pytest.fixture(scope="session")
def version(library, tmp_path_factory):
    """A folder as the registry stores it: the jar, and the MOJO that it was made of."""
    folder = tmp_path_factory.mktemp("version")
    shutil.copy(jar_of(library), folder)
    shutil.copy(FIXTURE / "model.zip", folder)
    return folder
