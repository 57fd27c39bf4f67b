"""Set-up: for real in a scratch checkout, cut short too; and what it says where it cannot go on."""

import ast
import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "tools" / "setup.py"


class Scratch:
    """A checkout with all that set-up reads and nothing that it makes: the project, and one small image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("mlops", "registry"):
            shutil.copytree(CHECKOUT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(CHECKOUT / "requirements", root / "requirements")
        for name in ("pyproject.toml", "tools/setup.py"):
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copy(CHECKOUT / name, root / name)
        self.image = root / "images/small"
        self.image.mkdir(parents=True)
        self.lock = self.image / "requirements.txt"
        self.lock.write_text(self.locked("idna"))
        lock = json.loads((CHECKOUT / "images/tensornode/package-lock.json").read_text())
        dependency = {"node_modules/seedrandom": lock["packages"]["node_modules/seedrandom"]}
        package = {"name": "small", "version": "1.0.0", "dependencies": {"seedrandom": "3.0.5"}}
        (self.image / "package.json").write_text(json.dumps(package))
        (self.image / "package-lock.json").write_text(
            json.dumps({**package, "lockfileVersion": 3, "packages": {"": package, **dependency}})
        )
        self.stamps = root / ".cache/setup"

    def locked(self, name: str) -> str:
        """Give what the platform's lock says of one package."""
        lock = (CHECKOUT / "requirements/platform.txt").read_text()
        found = re.search(rf"^{name}==.*?(?=^\S)", lock, re.MULTILINE | re.DOTALL)
        assert found
        return found[0]

    def start(self) -> subprocess.Popen[str]:
        """Start it."""
        return subprocess.Popen(
            [sys.executable, "tools/setup.py"], cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self) -> tuple[int, str, str]:
        """Run it: exit code, stdout, stderr."""
        process = self.start()
        out, complaints = process.communicate(timeout=500)
        return process.returncode, out, complaints

    def steps(self) -> list[str]:
        """Run it; it must succeed. Give the titles of the steps that were not done yet."""
        code, out, complaints = self.run()
        assert (code, complaints) == (0, ""), out
        return re.findall(r"^\[\d+/\d+\] (.+)$", out, re.MULTILINE)

    def check(self) -> None:
        """Everything that was installed must work."""
        for python, modules in (
            (".venv", "aiohttp, pulumi, pytest, mlops.feed, mlops_registry.main"),
            ("images/small/.venv", "idna"),
        ):
            subprocess.run([self.root / python / "bin/python", "-c", f"import {modules}"], check=True, cwd="/")
        subprocess.run(["node", "-e", "require('seedrandom')"], check=True, cwd=self.image)
        assert (self.root / ".cache/data/Caravan.csv").read_bytes().startswith(b"MOSTYPE,MAANTHUI,")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """A scratch checkout whose first set-up was killed in the middle of the Python packages; the second was not."""
    made = Scratch(tmp_path_factory.mktemp("set-up"))
    first = made.start()
    while first.poll() is None and not (made.root / ".venv/bin/uv").exists():
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    assert (made.stamps / "python-packages.started").exists()
    assert made.steps()[0] == "Python packages"
    return made


@pytest.mark.whole
class TestForReal:
    """On real packages; each test leaves the checkout set up."""

    def test_what_was_killed_is_whole_after_the_next_run(self, scratch: Scratch):
        """A SIGKILL in the middle costs a repeat of that step, nothing more."""
        scratch.check()

    def test_repeat_does_nothing(self, scratch: Scratch):
        """No step, no stamp rewritten."""
        before = {path: path.stat().st_mtime_ns for path in scratch.stamps.iterdir() if path.name != "lock"}
        assert scratch.run() == (0, "set-up: nothing to do\n", "")
        assert before == {path: path.stat().st_mtime_ns for path in scratch.stamps.iterdir() if path.name != "lock"}

    def test_half_installed_package_is_mended(self, scratch: Scratch):
        """A package of which only a part is there looks installed to every installer; the mark of the cut tells."""
        (module,) = scratch.root.glob(".venv/lib/python3*/site-packages/aiohttp/__init__.py")
        module.unlink()
        shutil.copy(scratch.stamps / "python-packages", scratch.stamps / "python-packages.started")
        assert scratch.steps() == ["Python packages"]
        scratch.check()

    def test_only_what_changed_is_made_again(self, scratch: Scratch):
        """A lock that changed, then folders that someone removed."""
        scratch.lock.write_text(scratch.locked("idna") + scratch.locked("multidict"))
        assert scratch.steps() == ["Python packages of images/small"]
        shutil.rmtree(scratch.image / "node_modules")
        (scratch.root / ".cache/data/Caravan.csv").unlink()
        assert scratch.steps() == ["Data set", "Node packages of images/small"]
        scratch.check()

    def test_two_at_once_make_it_once(self, scratch: Scratch):
        """The second waits, and then finds nothing to do."""
        shutil.rmtree(scratch.image / "node_modules")
        first, second = scratch.start(), scratch.start()
        outs = sorted([first.communicate(timeout=500)[0], second.communicate(timeout=500)[0]])
        assert (first.returncode, second.returncode) == (0, 0)
        assert outs[0].startswith("[1/1] Node packages")
        assert outs[1] == "set-up: another one is at work on this checkout; waiting for it\nset-up: nothing to do\n"

    def test_data_that_is_not_the_data_set_is_not_kept(self, scratch: Scratch):
        """One line, exit code 1, no file."""
        script = scratch.root / "tools/setup.py"
        original = script.read_text()
        script.write_text(original.replace('DATA_SHA256 = "', 'DATA_SHA256 = "0'))
        (scratch.root / ".cache/data/Caravan.csv").unlink()
        code, _, complaints = scratch.run()
        assert code == 1
        assert re.fullmatch(
            r"set-up: Data set: Caravan\.csv has sha256 e89d\w+, not 0e89d\w+; it was not kept\n", complaints
        )
        assert list((scratch.root / ".cache/data").iterdir()) == []
        script.write_text(original)
        assert scratch.steps() == ["Data set"]

    def test_package_that_is_not_the_locked_one_is_refused(self, scratch: Scratch):
        """Another hash, and none: the one line says so and names the log."""
        good, other = scratch.lock.read_text(), scratch.locked("propcache")
        for bad in (re.sub(r"sha256:\w{64}", "sha256:" + "0" * 64, other), other.split(" ")[0]):
            scratch.lock.write_text(bad)
            code, _, complaints = scratch.run()
            assert code == 1
            assert re.fullmatch(
                r"set-up: Python packages of images/small: `uv` failed: .+; the rest is in .+\n", complaints
            )
        scratch.lock.write_text(good)
        assert scratch.steps() == ["Python packages of images/small"]

    def test_uv_takes_pips_index_unless_it_has_its_own(
        self, scratch: Scratch, setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        """A machine that configured pip only need not configure uv."""
        pip = [str(scratch.root / ".venv/bin/python"), "-m", "pip"]
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE", "UV_INDEX", "SSL_CERT_FILE", "PIP_CERT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
        assert setup.uv_environment(pip)["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
        monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
        assert setup.uv_environment(pip) == {}


@pytest.fixture
def setup() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("setup_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KILLED = """
import fcntl, pathlib, runpy, sys
script, stamps = sys.argv[1], pathlib.Path(sys.argv[2])
step = runpy.run_path(script)["Step"]
step.__init__.__globals__["STAMPS"] = stamps
with (stamps / "lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    command = ["sh", "-c", f"echo $$ > {stamps}/new; mv {stamps}/new {stamps}/pid; exec sleep 500"]
    step("slow", [], [], lambda run: run(*command)).make(lock)
"""


def test_command_that_outlives_a_killed_set_up_keeps_the_next_one_waiting(tmp_path: Path):
    first = subprocess.Popen([sys.executable, "-c", KILLED, SCRIPT, tmp_path])
    while not (tmp_path / "pid").exists():
        assert first.poll() is None
        time.sleep(0.02)
    command = int((tmp_path / "pid").read_text())
    first.kill()
    first.wait()
    with (tmp_path / "lock").open("w") as lock:
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(command, signal.SIGKILL)
        fcntl.flock(lock, fcntl.LOCK_EX)


def programs(folder: Path, **scripts: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name.replace("_", "-")).chmod(0o755)


@pytest.fixture
def bare(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with apt-get and nothing else, seen by someone who is not root. Gives its folder of programs."""
    programs(tmp_path / "bin", apt_get="exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(setup.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup, "jdks", set)
    monkeypatch.setattr(setup, "jdk_offered", lambda: 17)
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda _: None)
    return tmp_path / "bin"


VENV = "python{}.{}-venv".format(*sys.version_info)


def test_everything_that_a_bare_system_lacks_is_named(setup: ModuleType, bare: Path):
    assert setup.missing_packages() == ["nodejs", "npm", "openjdk-17-jdk-headless", "maven", VENV]


def test_what_is_there_is_not_asked_for(setup: ModuleType, bare: Path, monkeypatch: pytest.MonkeyPatch):
    programs(bare, node="echo v18.17.0", npm="", mvn="")
    monkeypatch.setattr(setup, "jdks", lambda: {11, 17})
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda _: object())
    assert setup.missing_packages() == []


@pytest.mark.parametrize("node", ["echo v12.22.9", "echo v18.16.1", "exit 127"])
def test_node_that_is_too_old_or_does_not_start_counts_as_missing(setup: ModuleType, bare: Path, node: str):
    programs(bare, node=node)
    assert "nodejs" in setup.missing_packages()


@pytest.mark.parametrize(
    ("found", "offered", "missing"),
    [
        ({21}, 17, ["openjdk-17-jdk-headless"]),
        ({21}, 21, []),
        ({17}, 21, []),
        ({11}, 21, ["openjdk-21-jdk-headless"]),
    ],
)
def test_jdk_is_17_or_the_one_that_the_release_has(setup, bare, monkeypatch, found, offered, missing):
    monkeypatch.setattr(setup, "jdks", lambda: found)
    monkeypatch.setattr(setup, "jdk_offered", lambda: offered)
    assert [name for name in setup.missing_packages() if "jdk" in name] == missing


def test_jre_is_not_a_jdk(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="99.0.1"\n')
    assert 99 not in setup.jdks()
    (tmp_path / "bin/javac").touch()
    assert 99 in setup.jdks()


@pytest.mark.parametrize("sudo", [None, "exit 1"])
def test_who_may_not_install_gets_the_exact_command(setup: ModuleType, bare: Path, sudo: str | None):
    if sudo:
        programs(bare, sudo=sudo)
    with pytest.raises(setup.SetupError) as caught:
        setup.system_step(["nodejs", "npm"])
    assert caught.value.code == 2
    who, word = ("", "sudo ") if sudo else (" as root", "")
    assert str(caught.value) == (
        f"missing: nodejs, npm; to install them, run{who}: {word}apt-get update && "
        f"{word}apt-get install -y --no-install-recommends nodejs npm"
    )


def test_without_apt_the_names_are_told(setup: ModuleType, bare: Path):
    (bare / "apt-get").unlink()
    with pytest.raises(setup.SetupError, match=r"missing: maven .*no apt-get here") as caught:
        setup.system_step(["maven"])
    assert caught.value.code == 2


def test_with_passwordless_sudo_it_installs_and_looks_again(
    setup: ModuleType, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said = tmp_path / "said"
    programs(bare, sudo=f'shift; echo "$@" >> {said}', true="")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "STAMPS", tmp_path)
    step = setup.system_step(["maven"])
    with (tmp_path / "lock").open("w") as lock, pytest.raises(setup.SetupError, match="too old or does not start"):
        step.make(lock)
    commands = said.read_text().splitlines()
    assert commands[0] == "true"
    assert commands[1] == "dpkg --configure -a"
    assert commands[2].endswith("update")
    assert commands[3].endswith("install -y --no-install-recommends maven")


def test_python_that_is_too_old_is_told_in_one_line(setup: ModuleType, bare: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(setup.sys, "version_info", (3, 10, 12))
    with pytest.raises(
        setup.SetupError, match=r"^python3 is 3\.10 here, and the project needs 3\.11 to 3\.13; "
    ) as caught:
        setup.choose_python()
    assert caught.value.code == 2


def test_newer_python_on_path_is_taken_but_not_one_that_does_not_start(
    setup: ModuleType, bare: Path, monkeypatch: pytest.MonkeyPatch
):
    programs(bare, **{"python3.13": "exit 127", "python3.12": "exit 0"})
    went: list[Any] = []

    def execv(path: str, arguments: list[str]) -> None:
        went.append(path)
        raise SystemExit

    monkeypatch.setattr(setup.os, "execv", execv)
    monkeypatch.setattr(setup.sys, "version_info", (3, 10, 12))
    with pytest.raises(SystemExit):
        setup.choose_python()
    assert went == [str(bare / "python3.12")]


def test_script_needs_the_standard_library_only_and_parses_on_an_old_python():
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 8))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names
