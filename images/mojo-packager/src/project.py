"""The Maven projects that the templates become: coordinates checked, names filled in, nothing else.

Owns: which coordinates are accepted and what they mean as a Java package. Deliberately not: running anything.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from errors import InputError
from maven import IMAGE

JAVA_KEYWORDS = frozenset(
    """abstract assert boolean break byte case catch char class const continue default do double else enum extends false
    final finally float for goto if implements import instanceof int interface long native new null package private
    protected public return short static strictfp super switch synchronized this throw throws transient true try void
    volatile while""".split()  # noqa: SIM905  a list would be fifty lines
)
GROUP = re.compile(r"[a-z][a-z0-9_-]{0,63}(\.[a-z][a-z0-9_-]{0,63}){0,9}")
ARTIFACT = re.compile(r"[a-z][a-z0-9_-]{0,99}")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,99}")


@dataclass(frozen=True)
class Coordinates:
    """Where a library stands in a Maven repository."""

    group: str
    artifact: str
    version: str

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def package(self) -> str:
        """The Java package of the library's classes, of its own so that libraries can stand side by side."""
        parts = [part.replace("-", "_") for part in (*self.group.split("."), self.artifact)]
        return ".".join(f"{part}_" if part in JAVA_KEYWORDS else part for part in parts)

    @property
    def folder(self) -> Path:
        """The folder of its files, relative to a repository."""
        return Path(*self.group.split("."), self.artifact, self.version)

    def file(self, ending: str) -> str:
        """The name of one of its files: `.jar`, `-sources.jar`, `.pom`."""
        return f"{self.artifact}-{self.version}{ending}"


def parse_coordinates(text: str, digest: str = "") -> Coordinates:
    """Read `group:artifact:version`; `{digest}` in the version becomes the model's first twelve digits.

    Raises:
      InputError: They are not coordinates of a release.
    """
    group, artifact, version = [*text.split(":"), "", ""][:3]
    version = version.replace("{digest}", digest[:12])
    if text.count(":") != 2 or not (
        GROUP.fullmatch(group) and ARTIFACT.fullmatch(artifact) and VERSION.fullmatch(version)
    ):
        raise InputError(
            f"coordinates {text!r}: must be group:artifact:version, like com.example.models:sales:1.0.0, in lower case"
        )
    if version.upper().endswith("-SNAPSHOT") or ".." in version:
        raise InputError(
            f"coordinates {text!r}: a library is a release, which never changes; give a version that is not a snapshot"
        )
    return Coordinates(group, artifact, version)


def write(template: str, folder: Path, coordinates: Coordinates, **names: str) -> None:
    """Write the project of a template (`library` or `consumer`) to a folder that does not exist yet."""
    source = IMAGE / template
    filled = {**names, "group": coordinates.group, "artifact": coordinates.artifact, "version": coordinates.version}
    filled["package"] = coordinates.package
    for path in sorted(source.rglob("*")):
        if not path.is_file():
            continue
        target = folder / path.relative_to(source)
        if template == "library" and path.suffix == ".java":
            target = target.parent.joinpath(*coordinates.package.split("."), path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(r"@(\w+)@", lambda match: filled[match[1]], path.read_text()))


def place(folder: Path, kind: str, coordinates: Coordinates) -> Path:
    """Give (and make) the folder for resources beside the classes of `kind`, `main` or `test`."""
    target = folder.joinpath("src", kind, "resources", *coordinates.package.split("."))
    target.mkdir(parents=True, exist_ok=True)
    return target


def release(folder: Path, coordinates: Coordinates, repository: Path) -> Path:
    """Lay a built project out as a Maven repository, and give its jar.

    `mvn deploy` would do it, but refuses without a network, and writes the time of day into the repository.
    """
    target = repository / coordinates.folder
    target.mkdir(parents=True)
    built = folder / "target"
    sources = {
        ".jar": built / coordinates.file(".jar"),
        "-sources.jar": built / coordinates.file("-sources.jar"),
        ".pom": folder / "pom.xml",
    }
    for ending, source in sources.items():
        content = source.read_bytes()
        name = coordinates.file(ending)
        (target / name).write_bytes(content)
        for algorithm in ("sha1", "sha256", "sha512"):
            (target / f"{name}.{algorithm}").write_text(hashlib.new(algorithm, content).hexdigest())
    return target / coordinates.file(".jar")
