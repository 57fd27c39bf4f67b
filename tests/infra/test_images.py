"""Image names: the hash changes with everything that the image is built from, and with nothing else."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import images
from infra.images import ImageError

DOCKERFILE = """\
ARG BASE=node:22-bookworm-slim
FROM ${BASE} AS build
# COPY commented/out ./
COPY --chown=65534:65534 images/app ./
COPY pyproject.toml \\
     lib/ \\
     /opt/
COPY ["other/*.txt", "/data/"]
FROM ${BASE}
COPY --from=build /app /app
ADD --chmod=0644 tool.sh /usr/local/bin/
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {
        "images/app/Dockerfile": DOCKERFILE,
        "images/app/src/main.js": "1",
        "images/app/run.sh": "1",
        "lib/a/b.py": "1",
        "other/x.txt": "1",
        "other/x.md": "1",
        "pyproject.toml": "1",
        "tool.sh": "1",
        "README.md": "1",
        ".gitignore": "node_modules/\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    return tmp_path


def write(name: str, text: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    return change


def rename(root: Path) -> None:
    (root / "images/app/src/main.js").rename(root / "images/app/src/index.js")


def link(root: Path) -> None:
    (root / "images/app/src/main.js").unlink()
    (root / "images/app/src/main.js").symlink_to("../run.sh")


CHANGES = {
    "a byte": write("images/app/src/main.js", "2"),
    "a mode": lambda root: (root / "images/app/run.sh").chmod(0o755),
    "a name": rename,
    "a link instead of a file": link,
    "the base": write("images/app/Dockerfile", DOCKERFILE.replace("22", "24")),
    "a new file that is not added yet": write("images/app/src/new.js", "1"),
    "a deleted file": lambda root: (root / "images/app/run.sh").unlink(),
    "a copied file outside": write("pyproject.toml", "2"),
    "a file in a copied folder outside": write("lib/a/b.py", "2"),
    "a new file in a copied folder outside": write("lib/c.py", "1"),
    "a file that a pattern matches": write("other/x.txt", "2"),
    "a file that ADD names": write("tool.sh", "2"),
    "what the builder leaves out": write(".dockerignore", "*.md"),
}
NO_CHANGES = {
    "an ignored file": write("images/app/node_modules/x.js", "1"),
    "a file that nothing copies": write("README.md", "2"),
    "a file that the pattern does not match": write("other/x.md", "2"),
    "another image": write("images/other/Dockerfile", "FROM x\n"),
    "the group's permission": lambda root: (root / "images/app/run.sh").chmod(0o664),
    "a commit": lambda root: subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"], cwd=root, check=True
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_name_changes_with(checkout: Path, change: Callable[[Path], object]) -> None:
    before = images.content_hash(checkout, "app")
    change(checkout)
    assert images.content_hash(checkout, "app") != before


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES.keys())
def test_the_name_does_not_change_with(checkout: Path, change: Callable[[Path], object]) -> None:
    before = images.content_hash(checkout, "app")
    change(checkout)
    assert images.content_hash(checkout, "app") == before


def test_a_name_is_one_that_registries_take(checkout: Path) -> None:
    name = images.name(checkout, "app", "europe-docker.pkg.dev/p/images")
    repository, _, tag = name.rpartition(":")
    assert repository == "europe-docker.pkg.dev/p/images/app"
    assert len(tag) == 20
    assert tag == images.content_hash(checkout, "app")


def test_the_name_is_the_same_in_another_checkout(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "clone"
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"], cwd=checkout, check=True)
    subprocess.run(["git", "clone", "-q", str(checkout), str(other)], check=True)
    assert images.content_hash(other, "app") == images.content_hash(checkout, "app")


def test_an_image_without_a_dockerfile_is_told(checkout: Path) -> None:
    with pytest.raises(ImageError, match=r"^images/none has no Dockerfile, so the image has no name; write "):
        images.content_hash(checkout, "none")


def test_a_copied_path_that_is_not_there_is_told(checkout: Path) -> None:
    write("images/app/Dockerfile", "FROM x\nCOPY nothing ./\n")(checkout)
    with pytest.raises(
        ImageError, match=r"^images/app/Dockerfile copies nothing, which is not in the checkout, so it "
    ):
        images.content_hash(checkout, "app")


def test_outside_of_git_it_is_told(tmp_path: Path) -> None:
    write("images/app/Dockerfile", "FROM x\n")(tmp_path)
    with pytest.raises(ImageError, match=r"^git cannot list the checkout's files, so images cannot be named: fatal"):
        images.content_hash(tmp_path, "app")
