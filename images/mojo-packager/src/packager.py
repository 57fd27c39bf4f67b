"""MOJO in, Java library out; and what is done with the library: evaluate, score, publish.

Owns: the command line, its messages and exit codes, and that an output folder holds a whole package or none.
Deliberately not: training, and keeping model versions (the registry does).
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree as ET

import mojo
import project
from errors import InputError, PackagingError
from maven import DEFAULT_REPOSITORY, IMAGE, JVM, Maven
from maven_registry import Registry

GENMODEL = "3.46.0.11"
PROGRAM = "packager.py"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    root = _Parser(
        prog=PROGRAM, description="Make a tested Java library of an H2O MOJO, and use it.", allow_abbrev=False
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, description: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=summary, description=description or summary.capitalize() + ".", allow_abbrev=False
        )
        added.add_argument(
            "--maven-repository",
            type=Path,
            default=Path(os.environ.get("MAVEN_REPOSITORY") or DEFAULT_REPOSITORY),
            metavar="FOLDER",
            help="Maven's local repository (default: MAVEN_REPOSITORY, or target/m2/repository in the image's folder)",
        )
        if name not in ("prime", "publish"):
            added.add_argument("--online", action="store_true", help="let Maven fetch what its local repository lacks")
        return added

    package = command("package", "make the library; its tests replay the examples, and a difference fails the build")
    package.add_argument("--mojo", required=True, type=Path, metavar="FILE", help="the model, as H2O exports it")
    package.add_argument(
        "--examples", required=True, type=Path, metavar="FILE", help="inputs and the predictions of training time"
    )
    package.add_argument(
        "--coordinates", required=True, metavar="G:A:V", help="{digest} in the version: the model's digest, shortened"
    )
    package.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="gets repository/ and package.json"
    )
    package.add_argument(
        "--genmodel-version", default=GENMODEL, metavar="V", help=f"of H2O's scoring library (default {GENMODEL})"
    )

    evaluate = command(
        "evaluate", "compute the model's test metrics through the library, taken from its repository as a dependency"
    )
    evaluate.add_argument("--package", required=True, type=Path, metavar="FOLDER", help="the output of `package`")
    evaluate.add_argument(
        "--test", required=True, type=Path, metavar="FILE", help="the test rows, as CSV with a header"
    )
    evaluate.add_argument("--output", required=True, type=Path, metavar="FILE", help='gets {"test": {...}}')

    score = command("score", "predict JSON Lines from standard input, by the library in a folder")
    score.add_argument(
        "folder", type=Path, metavar="FOLDER", help="holds the library's jar, and maybe the model.zip it was made of"
    )

    publish = command("publish", "put the library, its POM and sources into a Maven registry")
    publish.add_argument("--package", required=True, type=Path, metavar="FOLDER", help="the output of `package`")
    publish.add_argument("--url", required=True, help="the registry: https://... or file:///...")
    publish.add_argument(
        "--server-id",
        default="models",
        help="the <server> of Maven's settings.xml with the credentials (default models)",
    )

    command("prime", "fetch all that Maven needs, once; everything else then works without a network")
    return root


def main(argv: list[str] | None = None) -> int:
    """Run the command line; give its exit code."""
    try:
        options = parser().parse_args(argv)
        maven = Maven(options.maven_repository, online=getattr(options, "online", False))
        {"package": _package, "evaluate": _evaluate, "score": _score, "publish": _publish, "prime": _prime}[
            options.command
        ](options, maven)
    except InputError as error:
        return _say(error, 2)
    except PackagingError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted; nothing was kept", 130)
    except Exception as error:  # noqa: BLE001  the last line of stderr is the message for people, whatever happened
        return _say(f"{type(error).__name__}: {error}", 1)
    return 0


def _say(error: object, code: int) -> int:
    print(f"mojo-packager: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _package(options: argparse.Namespace, maven: Maven) -> None:
    model = mojo.read(options.mojo)
    examples = _examples(options.examples)
    coordinates = project.parse_coordinates(options.coordinates, model.digest)
    genmodel = options.genmodel_version
    if model.h2o_version != genmodel:
        raise InputError(
            f"{options.mojo}: written by H2O {model.h2o_version}, but this packages with h2o-genmodel {genmodel}, "
            f"which may read it otherwise; train with H2O {genmodel}, or give --genmodel-version {model.h2o_version}"
        )
    if not re.fullmatch(r"[0-9][0-9A-Za-z.-]{0,31}", genmodel):
        raise InputError(f"--genmodel-version={genmodel!r}: must be a version like {GENMODEL}")
    print(
        f"{coordinates}: model {model.digest[:12]} of H2O {genmodel}, {len(examples['examples'])} examples", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="mojo-packager-") as scratch, maven.borrowed() as borrowed:
        folder, repository = Path(scratch) / "library", Path(scratch) / "repository"
        try:
            with _modes(Path(scratch)):
                project.write("library", folder, coordinates, digest=model.digest, genmodel=genmodel)
                model.write_canonical(project.place(folder, "main", coordinates) / "model.zip")
                (project.place(folder, "test", coordinates) / "examples.json").write_text(json.dumps(examples))
                borrowed.run(folder, "package")
        except PackagingError:
            if reason := _failed_test(folder):
                raise InputError(f"{coordinates} is not released: {reason}") from None
            raise
        replay = json.loads((folder / "target" / "replay.json").read_text())
        jar = project.release(folder, coordinates, repository)
        result = {
            "coordinates": str(coordinates),
            "jar": jar.relative_to(repository.parent).as_posix(),
            "sha256": hashlib.sha256(jar.read_bytes()).hexdigest(),
            "size": jar.stat().st_size,
            "model_digest": model.digest,
            "genmodel": genmodel,
            "target": examples["target"],
            "replay": replay,
        }
        _put(repository, result, options.output)
    print(
        f"{replay['differing']} of {replay['examples']} examples differ "
        f"(largest difference {replay['largest_difference']})"
    )
    print(f"{options.output / result['jar']}: {result['size']} bytes, sha256 {result['sha256'][:12]}", flush=True)


@contextlib.contextmanager
def _modes(folder: Path) -> Iterator[None]:
    """Make what is made in a folder have the same modes everywhere: a jar holds those of what it was made of.

    Where the temporary folder is a volume of a pod, its setgid bit would pass to every folder below.
    """
    folder.chmod(0o700)
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _put(repository: Path, result: dict[str, Any], output: Path) -> None:
    """Put a finished repository in place; `package.json` stands there only beside a whole one."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "package.json").unlink(missing_ok=True)
        if (output / "repository").exists():
            shutil.rmtree(output / "repository")
        shutil.move(repository, output / "repository")
        _write(output / "package.json", result)
    except OSError as error:
        raise InputError(f"--output={output}: {error.strerror}; the library was not kept") from None


def _write(path: Path, value: Any) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.rename(path)


def _examples(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        if not found["examples"] or not isinstance(found["target"], str):
            raise ValueError
        for row in found["examples"]:
            if not (
                isinstance(row["input"], dict) and isinstance(row["label"], str) and math.isfinite(row["prediction"])
            ):
                raise ValueError
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the examples that the trainer wrote beside the MOJO") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the examples that the trainer wrote") from None
    except (ValueError, KeyError, TypeError):
        form = '{"target": ..., "examples": [{"input": {...}, "prediction": p, "label": "..."}, ...]}'
        raise InputError(f"{path}: must be {form}; give the examples that the trainer wrote") from None
    return found


def _failed_test(folder: Path) -> str | None:
    for report in sorted((folder / "target" / "surefire-reports").glob("TEST-*.xml")):
        for kind in ("failure", "error"):
            for found in ET.parse(report).iter(kind):  # noqa: S314  our own test run wrote it
                return found.get("message") or (found.text or "its tests fail").strip().splitlines()[0]
    return None


def _read_package(folder: Path) -> tuple[dict[str, Any], project.Coordinates]:
    try:
        package = json.loads((folder / "package.json").read_text())
        coordinates = project.parse_coordinates(package["coordinates"])
        content = (folder / package["jar"]).read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder}: no package.json with a library beside it; give the output folder of `{PROGRAM} package`"
        ) from None
    if hashlib.sha256(content).hexdigest() != package["sha256"]:
        raise InputError(f"{folder / package['jar']}: not the bytes that were packaged (sha256 differs); package again")
    return package, coordinates


def _evaluate(options: argparse.Namespace, maven: Maven) -> None:
    package, coordinates = _read_package(options.package)
    if not options.test.is_file():
        raise InputError(f"{options.test}: no such file; give the test rows that the trainer wrote")
    print(f"{coordinates}: predicting {options.test}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mojo-packager-") as scratch, maven.borrowed() as borrowed:
        folder = Path(scratch) / "consumer"
        project.write("consumer", folder, coordinates, repository=(options.package / "repository").absolute().as_uri())
        borrowed.run(
            folder, "compile", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=target/lib"
        )
        command = [
            "java",
            *JVM.split(),
            "-cp",
            "target/classes:target/lib/*",
            "Evaluate",
            str(options.test.absolute()),
            package["target"],
        ]
        done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode == 2:
        raise InputError(f"{options.test} {last}")
    if done.returncode:
        raise PackagingError(f"the evaluation failed: {last}")
    found = json.loads(done.stdout)
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        _write(options.output, {"test": found})
    except OSError as error:
        raise InputError(f"--output={options.output}: {error.strerror}") from None
    print(
        f"{found['rows']} rows: AUC {found['auc']:.4f}, PR AUC {found['pr_auc']:.4f}, Brier {found['brier']:.4f}",
        flush=True,
    )


def _score(options: argparse.Namespace, maven: Maven) -> NoReturn:
    jars = sorted(path for path in options.folder.glob("*.jar") if not path.name.endswith("-sources.jar"))
    if len(jars) != 1:
        raise InputError(
            f"{options.folder}: must hold the library's jar, holds {len(jars)} jars; give a version's model folder"
        )
    try:
        with zipfile.ZipFile(jars[0]) as archive:
            manifest = archive.read("META-INF/MANIFEST.MF").decode().replace("\r\n ", "")
        facts = dict(line.split(": ", 1) for line in manifest.splitlines() if ": " in line)
        main, genmodel, digest = facts["Main-Class"], facts["H2O-Genmodel-Version"], facts["Model-Digest"]
    except (zipfile.BadZipFile, OSError, KeyError, UnicodeDecodeError):
        raise InputError(f"{jars[0]}: not a library that {PROGRAM} made, or damaged; fetch the version again") from None
    model = options.folder / "model.zip"
    if model.exists() and mojo.read(model).digest != digest:
        raise InputError(f"{model}: not the model that {jars[0].name} carries; fetch the version again")
    libraries = _libraries(genmodel, maven)
    command = ["java", *JVM.split(), "-cp", os.pathsep.join([str(jars[0]), f"{libraries}/*"]), main]
    if shutil.which("java") is None:
        raise PackagingError("no `java` on PATH; install a Java 17 runtime (Debian: openjdk-17-jre-headless)")
    os.execvp("java", command)  # noqa: S606  signals and the exit code are the library's own


def _libraries(genmodel: str, maven: Maven) -> Path:
    """Give the folder of what a library needs beside itself, by the scoring library's version; made once by Maven."""
    if not re.fullmatch(r"[0-9][0-9A-Za-z.-]{0,31}", genmodel):
        raise InputError(f"h2o-genmodel {genmodel!r} is no version; the library is damaged: fetch the version again")
    folder = maven.repository.parent / "runtime" / genmodel
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(prefix="mojo-packager-") as scratch:
        library = Path(scratch) / "library"
        project.write("library", library, project.parse_coordinates("a:b:1"), digest="", genmodel=genmodel)
        with maven.borrowed() as borrowed:
            borrowed.run(
                library, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=target/lib"
            )
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
            shutil.copytree(library / "target" / "lib", partial / "lib")
            (partial / "lib").rename(folder)
            partial.rmdir()
        except OSError as error:
            if not folder.is_dir():
                raise PackagingError(
                    f"{folder}: {error.strerror}; run `{PROGRAM} prime` as who may write there"
                ) from None
    return folder


def _publish(options: argparse.Namespace, maven: Maven) -> None:
    package, coordinates = _read_package(options.package)
    jar = options.package / package["jar"]
    if not re.fullmatch(r"(https://|http://127\.0\.0\.1[:/]|file:///)[^\s]+", options.url):
        raise InputError(f"--url={options.url!r}: must be https://... or file:///...; nothing was published")
    registry = Registry.at(options.url, options.server_id)
    there = registry.read(f"{coordinates.folder.as_posix()}/{jar.name}")
    if there == jar.read_bytes():
        print(f"{coordinates}: is already there, the same bytes")
        return
    if there is not None:
        raise InputError(
            f"{coordinates}: is already in {options.url} with other bytes, and releases never change; "
            "give another version"
        )
    base = jar.with_name(jar.name.removesuffix(".jar"))
    files = {"file": jar, "pomFile": Path(f"{base}.pom"), "sources": Path(f"{base}-sources.jar")}
    arguments = {**files, "url": options.url, "repositoryId": options.server_id}
    values = (f"-D{name}={value.absolute() if isinstance(value, Path) else value}" for name, value in arguments.items())
    # Maven does not deploy offline, not even into a folder.
    with (
        tempfile.TemporaryDirectory(prefix="mojo-packager-") as scratch,
        replace(maven, online=True).borrowed() as borrowed,
    ):
        borrowed.run(
            Path(scratch),
            *registry.arguments(Path(scratch)),
            "org.apache.maven.plugins:maven-deploy-plugin:3.1.4:deploy-file",
            *values,
            environment=registry.environment,
        )
    print(f"{coordinates}: published to {options.url}")


def _prime(options: argparse.Namespace, maven: Maven) -> None:
    """Do with a small model everything that is done with others, with a network, into the repository itself."""
    fetching = replace(maven, online=True, keep=True)
    fixture, coordinates = IMAGE / "fixture", project.Coordinates("prime", "tiny", "1")
    print(f"fetching into {maven.repository}", flush=True)
    maven.repository.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mojo-packager-") as scratch:
        package, metrics, registry = (Path(scratch) / name for name in ("package", "metrics.json", "registry"))
        given = argparse.Namespace(
            **vars(options), mojo=fixture / "model.zip", examples=fixture / "examples.json", output=package
        )
        given.coordinates, given.genmodel_version = str(coordinates), GENMODEL
        try:
            _package(given, fetching)
            _evaluate(argparse.Namespace(package=package, test=fixture / "test.csv", output=metrics), fetching)
            _publish(argparse.Namespace(package=package, url=registry.as_uri(), server_id="models"), fetching)
            _libraries(GENMODEL, fetching)
        finally:
            shutil.rmtree(maven.repository / coordinates.group, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
