"""Image names: `<repository>/<folder>:<hash>`, where the hash is of everything that the image is built from.

Owns the hash. It deliberately builds, pushes and asks nothing: a name follows from the checkout alone, so that a
preview knows it, and continuous integration pushes what is missing under it. A name is never written by hand.

Hashed are the path, mode and bytes of every file in `images/<folder>/` (its Dockerfile with the base's ARG default and
its lock files among them), of every file outside it that the Dockerfile copies from the build context, which is the
project's root, and of `.dockerignore`. A file counts if git tracks it or would: one that is new and not yet added
changes the image that a laptop builds, an ignored one (`node_modules/`) does not.

`python -m infra.images REPOSITORY` prints a line `<folder> <name>` for each, for whoever builds and pushes them.
"""

import hashlib
import json
import re
import stat
import subprocess
import sys
from pathlib import Path


class ImageError(Exception):
    """An image cannot be named; the message is one line."""


def name(root: Path, folder: str, repository: str) -> str:
    """The full name of the image in `images/<folder>/` of the checkout at `root`."""
    return f"{repository}/{folder}:{content_hash(root, folder)}"


def content_hash(root: Path, folder: str) -> str:
    """The hash of everything that the image in `images/<folder>/` is built from, as 20 hexadecimal digits."""
    home = f"images/{folder}"
    dockerfile = root / home / "Dockerfile"
    if not dockerfile.is_file():
        raise ImageError(f"{home} has no Dockerfile, so the image has no name; write {home}/Dockerfile")
    copied = _copied(dockerfile.read_text(encoding="utf-8"))
    files = _files(root, home, ".dockerignore", *copied)
    for source in copied:
        # Git is asked again only of what a comparison does not tell: a pattern.
        if not any(path == source or path.startswith(f"{source}/") for path in files) and not _files(root, source):
            raise ImageError(
                f"{home}/Dockerfile copies {source}, which is not in the checkout, so it cannot be built; correct it"
            )
    digest = hashlib.sha256()
    for path in files:
        mode, content = _read(root / path)
        # Lengths are part of what is hashed: no two lists of files run together to the same bytes.
        digest.update(f"{len(path.encode())} {path} {mode} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:20]


def _read(path: Path) -> tuple[str, bytes]:
    """A file's mode and bytes as git would record them: of permissions only whether it can be executed."""
    if path.is_symlink():
        return "120000", str(path.readlink()).encode()
    executable = path.stat().st_mode & stat.S_IXUSR
    return "100755" if executable else "100644", path.read_bytes()


def _files(root: Path, *sources: str) -> list[str]:
    """Every file at or below paths or patterns that git tracks, or would, once and in order."""
    specs = ((":(glob)" if re.search(r"[*?[]", source) else ":(literal)") + source for source in sources)
    # The checkout's owner is of no concern: git is asked for names and runs nothing that the repository configures.
    command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(root), "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard", "--", *specs]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise ImageError("git is not installed, so images cannot be named; install it") from None
    except subprocess.CalledProcessError as error:
        problem = " ".join(error.stderr.split())
        raise ImageError(f"git cannot list the checkout's files, so images cannot be named: {problem}") from None
    paths = {path for path in listed.split("\0") if path}
    return sorted(path for path in paths if (root / path).is_symlink() or (root / path).is_file())


def _copied(dockerfile: str) -> list[str]:
    """What a Dockerfile copies from the build context."""
    sources: list[str] = []
    joined = re.sub(r"\\[ \t]*\n", " ", re.sub(r"(?m)^[ \t]*#.*\n", "", dockerfile))
    for match in re.finditer(r"(?im)^[ \t]*(?:COPY|ADD)[ \t]+(.+)$", joined):
        words = match[1].split()
        options = [word for word in words if word.startswith("--")]
        if any(option.startswith("--from=") for option in options):
            continue
        rest = match[1].strip()
        for option in options:
            rest = rest.replace(option, "", 1).strip()
        paths = json.loads(rest) if rest.startswith("[") else rest.split()
        sources += [path.removeprefix("./").rstrip("/") or "." for path in paths[:-1]]
    return sources


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the repository that names begin with, and nothing else")
    checkout = Path(__file__).resolve().parents[1]
    for found in sorted(checkout.glob("images/*/Dockerfile")):
        print(found.parent.name, name(checkout, found.parent.name, sys.argv[1]))
