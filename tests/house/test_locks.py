"""The hash locks: complete, exact, in step with what they lock, and silent about where packages come from."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
REGISTRY = tomllib.loads((CHECKOUT / "registry" / "pyproject.toml").read_text())["project"]
PYTHON_LOCKS = [*sorted(CHECKOUT.glob("requirements/*.txt")), *sorted(CHECKOUT.glob("images/*/requirements.txt"))]
NODE_LOCKS = sorted(CHECKOUT.glob("images/*/package-lock.json"))


def named(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def entries(lock: Path) -> dict[str, str]:
    """Give each requirement of a lock with all that is said of it, by its normalised name."""
    found = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)[1:]
    return {normal(re.split(r"[=\[ ]", entry, maxsplit=1)[0]): entry for entry in found}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", PYTHON_LOCKS, ids=named)
def test_every_locked_package_has_one_version_and_hashes(lock: Path):
    for name, entry in entries(lock).items():
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^\s;]+( ; [^\\]+)? \\\n", entry), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name


@pytest.mark.parametrize("lock", [*PYTHON_LOCKS, *NODE_LOCKS], ids=named)
def test_no_lock_records_a_download_address(lock: Path):
    text = lock.read_text()
    if lock.suffix == ".json":
        packages = json.loads(text)["packages"]
        assert not [name for name, package in packages.items() if "resolved" in package]
        text = json.dumps([package.get("version") for package in packages.values()])
    # No address, no option that names one, and no absolute path: that would be some machine's.
    assert not re.search(r"://|--index|--find-links|--extra-index|(?<![\w.])/\w", text)


@pytest.mark.parametrize("lock", NODE_LOCKS, ids=named)
def test_every_locked_node_package_has_its_digest(lock: Path):
    packages = json.loads(lock.read_text())["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("platform.txt", REGISTRY["dependencies"] + PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]),
        ("registry.txt", REGISTRY["dependencies"]),
    ],
)
def test_lock_holds_what_the_project_asks_for(lock: str, wanted: list[str]):
    locked = entries(CHECKOUT / "requirements" / lock)
    asked = {}
    for requirement in wanted:
        name, version = re.sub(r"\[.*\]", "", requirement).split("==")
        asked[normal(name)] = version
    direct = {name: entry for name, entry in locked.items() if "pyproject.toml)" in entry}
    assert {name: re.split(r"==| ", entry)[1] for name, entry in direct.items()} == asked


def test_registry_alone_takes_nothing_of_pulumi():
    assert not [name for name in entries(CHECKOUT / "requirements" / "registry.txt") if "pulumi" in name]


def test_each_input_has_its_lock():
    for source in [*CHECKOUT.glob("requirements/*.in"), *CHECKOUT.glob("images/*/requirements.in")]:
        wanted = re.findall(r"^([A-Za-z0-9_.-]+)", source.read_text(), flags=re.MULTILINE)
        assert {normal(name) for name in wanted} <= set(entries(source.with_suffix(".txt"))), source


def test_nothing_that_a_machine_reads_names_a_registry():
    listed = subprocess.run(
        ["git", "grep", "-lIE", r"(pypi|npmjs|pythonhosted)\.(org|com)|registry\.npm|repo1?\.maven", "--", ":!*.md"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert [name for name in listed.stdout.split() if name != named(Path(__file__))] == []
